// SPDX-License-Identifier: Apache-2.0

// Package network asks what the NetworkPolicies of all variants leave open, within a tenant and between two.
package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

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

// site is a tenant with its pods. Orthanc's are as rendered; those of charts and of CloudNativePG have the labels that
// those give them.
type site struct {
	tenant                     *v1alpha1.Tenant
	orthanc, gateway, database end
	others                     []end // an egress gateway, Pgpool, and a pod that nobody knows
	public                     []int32
}

func newSite(t *testing.T, n network, r *render.Renderer, tenant *v1alpha1.Tenant) site {
	t.Helper()
	g := NewWithT(t)
	ns := tenant.Spec.Namespace
	bundle, err := r.Render(tenant)
	g.Expect(err).NotTo(HaveOccurred())
	s := site{tenant: tenant, others: []end{{name: "unknown", namespace: ns}}}
	for _, l := range bundle.Layers {
		for _, o := range l.Objects {
			switch o.Kind {
			case "NetworkPolicy":
				p := networkingv1.NetworkPolicy{}
				g.Expect(yaml.UnmarshalStrict(o.YAML(), &p)).To(Succeed())
				n[ns] = append(n[ns], p)
			case "Deployment":
				d := appsv1.Deployment{}
				g.Expect(yaml.Unmarshal(o.YAML(), &d)).To(Succeed())
				s.orthanc = end{name: o.Name, namespace: ns, labels: d.Spec.Template.Labels}
			}
		}
	}
	s.gateway = end{name: "gateway", namespace: ns, labels: map[string]string{"app": "istio-ingress", "istio": ns}}
	s.public = []int32{80, 443, 15021, tenant.Spec.Ingress.DICOM.Port}
	if tenant.Spec.Ingress.Provider == v1alpha1.TraefikIngress {
		s.gateway.labels = map[string]string{"app.kubernetes.io/name": "traefik"}
		s.public = []int32{8000, 8443, 11112} // the ports of the pods
	}
	if tenant.Spec.Ingress.Egress.Gateway {
		s.others = append(s.others, end{name: "egress", namespace: ns, labels: map[string]string{"app": "istio-egress"}})
	}
	switch tenant.Spec.Postgres.Provider {
	case v1alpha1.CloudNativePG:
		s.database = end{name: "database", namespace: ns, labels: map[string]string{"cnpg.io/cluster": "postgres"}}
	case v1alpha1.BitnamiPostgres:
		const name, component = "app.kubernetes.io/name", "app.kubernetes.io/component"
		s.database = end{name: "pgpool", namespace: ns, labels: map[string]string{name: "postgresql-ha", component: "pgpool"}}
		s.others = append(s.others, end{name: "postgresql", namespace: ns, labels: map[string]string{name: "postgresql-ha", component: "postgresql"}})
	}
	return s
}

func (s site) pods() []end {
	all := append([]end{s.orthanc, s.gateway}, s.others...)
	if s.database.name != "" {
		all = append(all, s.database)
	}
	return all
}

// Ports that something listens on, or is likely to.
var ports = []int32{22, 53, 80, 104, 443, 2575, 4242, 5432, 6443, 8000, 8042, 8080, 8443, 9000, 11112, 15012, 15017, 15021, 15090, 20000}

var (
	stranger  = end{name: "stranger", namespace: "default", labels: map[string]string{"app": "istio-ingress", "app.kubernetes.io/name": "orthanc"}}
	dns       = end{name: "dns", namespace: "kube-system", labels: map[string]string{"k8s-app": "kube-dns"}}
	istiod    = end{name: "istiod", namespace: "istio-system", labels: map[string]string{"app": "istiod"}}
	outside   = end{name: "outside", address: "203.0.113.9"}
	metadata  = end{name: "metadata of the cloud", address: "169.254.169.254"}
	metadata6 = end{name: "metadata of the cloud", address: "fd00:ec2::254"}
)

// TestNetworkPolicies shows of all variants that what has to talk to each other can, and nothing reaches another tenant
// but through the gateway that everybody may reach.
func TestNetworkPolicies(t *testing.T) {
	r, err := render.New(bundles.FS)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, v := range variants.All() {
		// How many Orthancs there are and how they are watched opens and closes nothing between these.
		if strings.Contains(v.Name, "several") || strings.Contains(v.Name, "autoscaling") || strings.Contains(v.Name, "monitoring") {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			g := NewWithT(t)
			n := network{}
			a, b := newSite(t, n, r, v.Tenant("a")), newSite(t, n, r, v.Tenant("b"))
			expectWorking(g, n, a)
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
	}
	if s.database.name != "" {
		g.Expect(n.open(g, s.orthanc, s.database, 5432)).To(BeTrue(), "from Orthanc to its database")
	}
	if s.tenant.Spec.Ingress.Provider == v1alpha1.IstioIngress {
		for _, p := range []end{s.orthanc, s.gateway} {
			g.Expect(n.open(g, p, istiod, 15012)).To(BeTrue(), "from %s to istiod", p.name)
		}
	}
	// An egress gateway goes to the peers in Orthanc's place.
	direct, by := true, s.orthanc
	for _, p := range s.others {
		switch p.name {
		case "egress":
			direct, by = false, p
			g.Expect(n.open(g, s.orthanc, p, 8443)).To(BeTrue(), "from Orthanc to the egress gateway")
		case "postgresql":
			g.Expect(n.open(g, s.database, p, 5432)).To(BeTrue(), "from Pgpool to PostgreSQL")
			g.Expect(n.open(g, p, p, 5432)).To(BeTrue(), "between PostgreSQL servers")
			g.Expect(n.open(g, s.orthanc, p, 5432)).To(BeFalse(), "from Orthanc past Pgpool")
		}
	}
	for _, m := range s.tenant.Spec.Orthanc.Modalities {
		peer := outside
		if ip, err := netip.ParseAddr(m.Host); err == nil {
			peer.address = ip.String()
		}
		g.Expect(n.open(g, by, peer, m.Port)).To(BeTrue(), "from %s to modality %s", by.name, m.Name)
		g.Expect(n.open(g, s.orthanc, peer, m.Port)).To(Equal(direct), "from Orthanc itself to modality %s", m.Name)
	}
}

// expectClosed looks at what no pod of a tenant may reach, and what may reach none of them.
func expectClosed(g *WithT, n network, s site) {
	for _, port := range ports {
		for _, p := range s.pods() {
			g.Expect(n.open(g, p, metadata, port)).To(BeFalse(), "from %s to the metadata service at %d", p.name, port)
			g.Expect(n.open(g, p, metadata6, port)).To(BeFalse(), "from %s to the metadata service at %d", p.name, port)
			g.Expect(n.open(g, p, outside, 22)).To(BeFalse(), "from %s to a port that nobody named", p.name)
			if p.name == "gateway" && slices.Contains(s.public, port) {
				continue
			}
			for _, other := range []end{stranger, outside} {
				g.Expect(n.open(g, other, p, port)).To(BeFalse(), "from %s to %s at %d", other.name, p.name, port)
			}
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
