// SPDX-License-Identifier: Apache-2.0

// Package network asks what the NetworkPolicies of all variants leave open, within a tenant and between two.
package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/test/variants"
)

// end is one of a connection: a pod with its labels, or with an address alone, something outside of the cluster.
type end struct {
	name      string
	namespace string
	labels    map[string]string
	address   string
}

// network answers which connections the NetworkPolicies of tenants leave, by the rules of the Kubernetes API
// (https://kubernetes.io/docs/concepts/services-networking/network-policies/). No network plugin runs here; this takes
// its place. An ipBlock is for what is outside of the cluster, as plugins may have it.
type network map[string][]networkingv1.NetworkPolicy

func (n network) open(g *WithT, from, to end, port int32) bool {
	return n.side(g, networkingv1.PolicyTypeEgress, from, to, port) && n.side(g, networkingv1.PolicyTypeIngress, to, from, port)
}

// side asks the policies of one end about the other.
func (n network) side(g *WithT, direction networkingv1.PolicyType, this, other end, port int32) bool {
	selected := false
	for _, p := range n[this.namespace] {
		if !slices.Contains(p.Spec.PolicyTypes, direction) || !matches(g, &p.Spec.PodSelector, this.labels) {
			continue
		}
		selected = true
		for _, rule := range p.Spec.Egress {
			if direction == networkingv1.PolicyTypeEgress && allows(g, p.Namespace, rule.To, rule.Ports, other, port) {
				return true
			}
		}
		for _, rule := range p.Spec.Ingress {
			if direction == networkingv1.PolicyTypeIngress && allows(g, p.Namespace, rule.From, rule.Ports, other, port) {
				return true
			}
		}
	}
	return !selected
}

func allows(g *WithT, namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, other end, port int32) bool {
	if len(ports) > 0 && !slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		g.Expect(p.Port).NotTo(BeNil())
		g.Expect(p.Port.StrVal).To(BeEmpty(), "a name would need the pod's ports")
		return p.Port.IntVal == port
	}) {
		return false
	}
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		if peer.IPBlock != nil {
			return other.address != "" && inBlock(g, peer.IPBlock, netip.MustParseAddr(other.address))
		}
		switch {
		case other.address != "":
			return false
		case peer.NamespaceSelector == nil && other.namespace != namespace:
			return false
		case peer.NamespaceSelector != nil && !matches(g, peer.NamespaceSelector, map[string]string{"kubernetes.io/metadata.name": other.namespace}):
			return false
		}
		return peer.PodSelector == nil || matches(g, peer.PodSelector, other.labels)
	})
}

func inBlock(g *WithT, block *networkingv1.IPBlock, address netip.Addr) bool {
	within := func(cidr string) bool {
		prefix, err := netip.ParsePrefix(cidr)
		g.Expect(err).NotTo(HaveOccurred())
		return prefix.Contains(address)
	}
	return within(block.CIDR) && !slices.ContainsFunc(block.Except, within)
}

func matches(g *WithT, selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	g.Expect(err).NotTo(HaveOccurred())
	return s.Matches(labels.Set(set))
}

// Ports that something listens on, or is likely to.
var ports = []int32{
	22, 53, 80, 104, 443, 2575, 4242, 5432, 6443, 8000, 8042, 8080, 8443, 9000, 9100, 9187, 11112, 15012, 15017, 15021, 15090, 20000,
}

// Where operators, istiod, Prometheus and the DNS run, and what labels they have, is what docs/install.md and their own
// manifests say. The Kubernetes API is no pod: plugins see the address of its Service, or that of a control plane's node.
var (
	stranger   = end{name: "stranger", namespace: "default", labels: map[string]string{"app": "istio-ingress", "app.kubernetes.io/name": "orthanc"}}
	elsewhere  = end{name: "another service of the cluster", namespace: "storage", labels: map[string]string{"app": "minio"}}
	dns        = end{name: "dns", namespace: "kube-system", labels: map[string]string{"k8s-app": "kube-dns"}}
	istiod     = end{name: "istiod", namespace: "istio-system", labels: map[string]string{"app": "istiod"}}
	operator   = end{name: "CloudNativePG", namespace: "cnpg-system", labels: map[string]string{"app.kubernetes.io/name": "cloudnative-pg"}}
	prometheus = end{name: "Prometheus", namespace: "monitoring", labels: map[string]string{"app.kubernetes.io/name": "prometheus"}}
	apiService = end{name: "the Service of the Kubernetes API", address: "10.96.0.1"}
	apiServer  = end{name: "the Kubernetes API", address: "172.18.0.2"}
	outside    = end{name: "outside", address: "203.0.113.9"}
	metadata   = end{name: "metadata of the cloud", address: "169.254.169.254"}
	metadata6  = end{name: "metadata of the cloud", address: "fd00:ec2::254"}
	podAgent   = end{name: "EKS Pod Identity's agent", address: "169.254.170.23"}
)

// TestNetworkPolicies shows of all variants that what has to talk to each other can, which expectWorking lists, and
// nothing reaches another tenant but through the gateway that everybody may reach.
func TestNetworkPolicies(t *testing.T) {
	r, err := render.New(bundles.FS)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, v := range variants.All() {
		// How many Orthancs there are and what certificates clients have opens and closes nothing between these.
		if strings.Contains(v.Name, "several") || strings.Contains(v.Name, "autoscaling") || strings.Contains(v.Name, "no-client-certificates") {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			g := NewWithT(t)
			n := network{}
			a, b := newSite(t, n, r, v.Tenant("a")), newSite(t, n, r, v.Tenant("b"))
			expectWorking(g, n, a)
			expectDatabase(g, n, a)
			expectPeers(g, n, a)
			expectClosed(g, n, a)
			expectApart(g, n, a, b)
			expectApart(g, n, b, a)
		})
	}
}

func expectWorking(g *WithT, n network, s site) {
	for _, port := range s.public {
		g.Expect(n.open(g, outside, s.gateway, port)).To(BeTrue(), "from outside to the gateway at %d", port)
	}
	for _, port := range []int32{8042, 4242} {
		g.Expect(n.open(g, s.gateway, s.orthanc, port)).To(BeTrue(), "from the gateway to Orthanc at %d", port)
	}
	for _, p := range s.pods() {
		g.Expect(n.open(g, p, dns, 53)).To(BeTrue(), "from %s to DNS", p.name)
		if s.usesAPI(p) {
			g.Expect(n.open(g, p, apiService, 443)).To(BeTrue(), "from %s to %s", p.name, apiService.name)
			g.Expect(n.open(g, p, apiServer, 6443)).To(BeTrue(), "from %s to %s", p.name, apiServer.name)
		}
		inMesh := slices.Contains([]string{"gateway", "egress", s.orthanc.name}, p.name) && s.tenant.Spec.Ingress.Provider == v1alpha1.IstioIngress
		g.Expect(n.open(g, p, istiod, 15012)).To(Equal(inMesh), "from %s to istiod", p.name)
	}
	scraped := s.scraped(g)
	g.Expect(len(scraped) > 0).To(Equal(s.tenant.Spec.Monitoring.Provider == v1alpha1.PrometheusOperator))
	for _, p := range s.pods() {
		for _, port := range scraped[p.name] {
			g.Expect(n.open(g, prometheus, p, port)).To(BeTrue(), "from Prometheus to %s at %d", p.name, port)
		}
	}
}

func expectDatabase(g *WithT, n network, s site) {
	if s.database.name != "" {
		g.Expect(n.open(g, s.orthanc, s.database, 5432)).To(BeTrue(), "from Orthanc to its database")
	}
	for _, p := range s.others {
		if p.name == "postgresql" {
			g.Expect(n.open(g, s.database, p, 5432)).To(BeTrue(), "from Pgpool to PostgreSQL")
			g.Expect(n.open(g, p, p, 5432)).To(BeTrue(), "between PostgreSQL servers")
			g.Expect(n.open(g, s.orthanc, p, 5432)).To(BeFalse(), "from Orthanc past Pgpool")
		}
	}
	if !s.cloudNativePG() {
		return
	}
	for _, port := range []int32{8000, 5432} {
		g.Expect(n.open(g, operator, s.database, port)).To(BeTrue(), "from CloudNativePG to an instance at %d", port)
		g.Expect(n.open(g, s.database, s.database, port)).To(BeTrue(), "between instances at %d", port)
	}
	// Jobs make the data directories of instances, the first by itself and the others from the primary.
	job := end{name: "job", namespace: s.database.namespace, labels: map[string]string{"cnpg.io/cluster": "postgres", "cnpg.io/jobRole": "join"}}
	g.Expect(n.open(g, job, s.database, 5432)).To(BeTrue(), "from a job to the primary")
	g.Expect(n.open(g, job, apiService, 443)).To(BeTrue(), "from a job to %s", apiService.name)
	g.Expect(n.open(g, job, apiServer, 6443)).To(BeTrue(), "from a job to %s", apiServer.name)

	backup := s.tenant.Spec.Postgres.Backup
	identity := backup != nil && backup.SecretRef == nil
	g.Expect(n.open(g, s.database, podAgent, 80)).To(Equal(identity), "from an instance to %s", podAgent.name)
	if backup != nil {
		for _, store := range []end{outside, elsewhere} {
			port := httpsPort(g, string(backup.Endpoint))
			g.Expect(n.open(g, s.database, store, port)).To(BeTrue(), "from an instance to the object store of backups, %s, at %d", store.name, port)
		}
	}
}

// expectPeers looks at what the definition names outside. An egress gateway goes there in Orthanc's place.
func expectPeers(g *WithT, n network, s site) {
	direct, by := true, s.orthanc
	for _, p := range s.others {
		if p.name == "egress" {
			direct, by = false, p
			g.Expect(n.open(g, s.orthanc, p, 8443)).To(BeTrue(), "from Orthanc to the egress gateway")
		}
	}
	for _, d := range s.destinations(g) {
		peers := []end{outside, elsewhere}
		if ip, err := netip.ParseAddr(d.host); err == nil {
			peers = []end{{name: d.host, address: ip.String()}}
		}
		for _, peer := range peers {
			g.Expect(n.open(g, by, peer, d.port)).To(BeTrue(), "from %s to %s, %s, at %d", by.name, d.what, peer.name, d.port)
			g.Expect(n.open(g, s.orthanc, peer, d.port)).To(Equal(direct), "from Orthanc itself to %s, %s, at %d", d.what, peer.name, d.port)
		}
	}
}

// expectClosed looks at what no pod of a tenant may reach, and what may reach none of them.
func expectClosed(g *WithT, n network, s site) {
	scraped := s.scraped(g)
	for _, port := range ports {
		for _, p := range s.pods() {
			g.Expect(n.open(g, p, metadata, port)).To(BeFalse(), "from %s to the metadata service at %d", p.name, port)
			g.Expect(n.open(g, p, metadata6, port)).To(BeFalse(), "from %s to the metadata service at %d", p.name, port)
			g.Expect(n.open(g, p, outside, 22)).To(BeFalse(), "from %s to a port that nobody named", p.name)
			g.Expect(n.open(g, p, apiServer, 6443)).To(Equal(s.usesAPI(p)), "from %s to the Kubernetes API", p.name)
			if p.name == "gateway" && slices.Contains(s.public, port) {
				continue
			}
			for _, other := range []end{stranger, outside, istiod} {
				g.Expect(n.open(g, other, p, port)).To(BeFalse(), "from %s to %s at %d", other.name, p.name, port)
			}
			g.Expect(n.open(g, prometheus, p, port)).To(Equal(slices.Contains(scraped[p.name], port)), "from Prometheus to %s at %d", p.name, port)
			operated := s.cloudNativePG() && p.name == "database" && (port == 8000 || port == 5432)
			g.Expect(n.open(g, operator, p, port)).To(Equal(operated), "from CloudNativePG to %s at %d", p.name, port)
		}
		if s.database.name != "" {
			g.Expect(n.open(g, s.gateway, s.database, port)).To(BeFalse(), "from the gateway to the database at %d", port)
			g.Expect(n.open(g, s.orthanc, s.database, port)).To(Equal(port == 5432), "from Orthanc to the database at %d", port)
		}
		for _, p := range s.pods() {
			unknown := s.others[0]
			g.Expect(n.open(g, unknown, p, port)).To(BeFalse(), "from a pod that nobody knows to %s at %d", p.name, port)
			g.Expect(n.open(g, p, unknown, port)).To(BeFalse(), "from %s to a pod that nobody knows at %d", p.name, port)
		}
	}
}

func expectApart(g *WithT, n network, from, to site) {
	for _, p := range from.pods() {
		for _, q := range to.pods() {
			for _, port := range ports {
				if q.name == "gateway" && slices.Contains(to.public, port) {
					continue
				}
				g.Expect(n.open(g, p, q, port)).To(BeFalse(), "from %s of one tenant to %s of another at %d", p.name, q.name, port)
			}
		}
	}
}
