// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	. "github.com/onsi/gomega"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xdstest"
	dnsserver "istio.io/istio/pkg/dns/server"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Orthanc's proxy lets in the tenant's gateway, by its certificate of the mesh, to the two ports of Orthanc.
func TestOrthancIsReachedFromItsGatewayOnly(t *testing.T) {
	i := newIstiod(t, newCluster(t, nil, names(facilities)...))
	for _, f := range facilities {
		t.Run(f.name, func(t *testing.T) {
			g := NewWithT(t)
			inbound := xdstest.ExtractListener(model.VirtualInboundListenerName, i.configure(t, f.namespace, "orthanc-0").listeners)
			found := map[uint32]bool{}
			for _, chain := range inbound.FilterChains {
				if clusterOf(t, chain) == "BlackHoleCluster" {
					continue
				}
				port := chain.GetFilterChainMatch().GetDestinationPort().GetValue()
				found[port] = true
				g.Expect(chain.GetFilterChainMatch().GetTransportProtocol()).To(Equal("tls"), "port %d takes no plaintext", port)
				down := xdstest.UnmarshalAny[tlsv3.DownstreamTlsContext](t, chain.GetTransportSocket().GetTypedConfig())
				g.Expect(down.GetRequireClientCertificate().GetValue()).To(BeTrue(), "port %d asks for a certificate", port)
				g.Expect(secretNames(down)).To(Equal([]string{"default"}), "port %d", port)

				g.Expect(allowed(t, chain)).To(Equal([]string{"spiffe://cluster.local/ns/" + f.namespace + "/sa/istio-ingress to 4242 8042"}), "port %d", port)
			}
			// 0 is any other port.
			g.Expect(found).To(Equal(map[uint32]bool{0: true, 4242: true, 8042: true}))
		})
	}
}

// What leaves Orthanc reaches the tenant's own Services, Istio's, and what the definition names.
func TestOrthancReachesWhatItsDefinitionNames(t *testing.T) {
	direct := map[string]string{
		"ct-1.hospital.example.com:104": "outbound|104||ct-1.hospital.example.com",
		"fhir.hospital.example.com:104": "outbound|104||fhir.hospital.example.com",
		"fhir.hospital.example.com:443": "outbound|443||fhir.hospital.example.com",
		"192.0.2.17:104":                "outbound|104||modality-mr-1.peer.internal",
	}
	wanted := map[string]map[string]string{
		"alderbrook": direct,
		"birchwood":  direct,
		"cedarhill": {
			"cedarhill-images.s3.ca-central-1.amazonaws.com:443": "outbound|443||cedarhill-images.s3.ca-central-1.amazonaws.com",
			"sts.ca-central-1.amazonaws.com:443":                 "outbound|443||sts.ca-central-1.amazonaws.com",
			"postgres.hospital.example.com:5432":                 "outbound|5432||postgres.hospital.example.com",
		},
		"dogwood": {
			"ct-1.hospital.example.com:104":  egress("modality-ct-1"),
			"fhir.hospital.example.com:104":  egress("egress-f21bbeac90dbc48a"),
			"fhir.hospital.example.com:443":  egress("egress-2c994c79ea6e3d77"),
			"fhir.hospital.example.com:8443": egress("egress-1880c34e93b39636"),
			"192.0.2.17:104":                 egress("modality-mr-1"),
		},
	}
	i := newIstiod(t, newCluster(t, nil, names(facilities)...))
	for _, f := range facilities {
		t.Run(f.name, func(t *testing.T) {
			g := NewWithT(t)
			c := i.configure(t, f.namespace, "orthanc-0")
			for _, other := range facilities {
				if other.name != f.name {
					g.Expect(c.dump).NotTo(ContainSubstring(other.name))
				}
			}
			proxy := i.proxy(t, as[corev1.Pod](t, i.cluster.get("Pod", f.namespace, "orthanc-0")))
			g.Expect(bool(proxy.Metadata.DNSCapture)).To(BeTrue(), "DNS queries are caught")
			table := dnsserver.BuildNameTable(dnsserver.Config{Node: proxy, Push: i.PushContext()}).GetTable()

			got := map[string]string{}
			for peer := range wanted[f.name] {
				host, port, _ := strings.Cut(peer, ":")
				address := host
				if entry := table[host]; entry != nil {
					g.Expect(entry.Ips).NotTo(BeEmpty())
					address = entry.Ips[0]
				}
				if l := xdstest.ExtractListener(address+"_"+port, c.listeners); l != nil {
					g.Expect(l.FilterChains).To(HaveLen(1))
					got[peer] = clusterOf(t, l.FilterChains[0])
				}
			}
			g.Expect(got).To(Equal(wanted[f.name]))
			g.Expect(xdstest.MapKeys(xdstest.ExtractClusters(c.clusters))).To(ContainElements(slices.Collect(maps.Values(got))))

			// All else is dropped.
			for _, l := range c.listeners {
				for _, chain := range append(slices.Clone(l.FilterChains), l.DefaultFilterChain) {
					if chain != nil {
						g.Expect(clusterOf(t, chain)).NotTo(Equal("PassthroughCluster"), l.Name)
					}
				}
			}
			out := xdstest.ExtractListener(model.VirtualOutboundListenerName, c.listeners)
			g.Expect(clusterOf(t, out.FilterChains[len(out.FilterChains)-1])).To(Equal("BlackHoleCluster"))

			// Nor is the proxy told of anything else.
			hosts := map[string]bool{}
			for peer := range wanted[f.name] {
				host, _, _ := strings.Cut(peer, ":")
				hosts[strings.Replace(host, "192.0.2.17", "modality-mr-1.peer.internal", 1)] = true
			}
			for _, cluster := range c.clusters {
				parts := strings.Split(cluster.Name, "|")
				if parts[0] == "outbound" && !hosts[parts[3]] {
					g.Expect(parts[3]).To(Or(HaveSuffix("."+f.namespace+".svc.cluster.local"), HaveSuffix("."+istioNamespace+".svc.cluster.local")))
				}
			}
		})
	}
}

// egress is where a peer's traffic goes to in a tenant with an egress gateway.
func egress(peer string) string {
	return "outbound|8443|peer-" + peer + "|istio-egress.dogwood-orthweb.svc.cluster.local"
}

// The egress gateway serves Orthanc alone, and knows by the server name that Orthanc's proxy sets which peer is meant.
func TestEgressGateway(t *testing.T) {
	g := NewWithT(t)
	i := newIstiod(t, newCluster(t, nil, names(facilities)...))
	orthanc := xdstest.ExtractClusters(i.configure(t, "dogwood-orthweb", "orthanc-0").clusters)
	c := i.configure(t, "dogwood-orthweb", "istio-egress-0")
	for _, other := range facilities[:3] {
		g.Expect(c.dump).NotTo(ContainSubstring(other.name))
	}
	g.Expect(c.listeners).To(HaveLen(1))
	g.Expect(c.listeners[0].Name).To(Equal("0.0.0.0_8443"))
	got := map[string]string{}
	for _, chain := range c.listeners[0].FilterChains {
		down := xdstest.UnmarshalAny[tlsv3.DownstreamTlsContext](t, chain.GetTransportSocket().GetTypedConfig())
		g.Expect(down.GetRequireClientCertificate().GetValue()).To(BeTrue())
		g.Expect(allowed(t, chain)).To(Equal([]string{"spiffe://cluster.local/ns/dogwood-orthweb/sa/orthanc to 8443"}))
		names := chain.GetFilterChainMatch().GetServerNames()
		g.Expect(names).To(HaveLen(1))
		got[names[0]] = clusterOf(t, chain)

		peer, _, _ := strings.Cut(names[0], ".")
		g.Expect(orthanc).To(HaveKey(egress(peer)))
		up := xdstest.UnmarshalAny[tlsv3.UpstreamTlsContext](t, orthanc[egress(peer)].GetTransportSocket().GetTypedConfig())
		g.Expect(up.GetSni()).To(Equal(names[0]))
		g.Expect(up.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs()).NotTo(BeEmpty(), "Orthanc's proxy shows its certificate")
	}
	g.Expect(got).To(Equal(map[string]string{
		"modality-ct-1.egress.internal":           "outbound|104||ct-1.hospital.example.com",
		"modality-mr-1.egress.internal":           "outbound|104||modality-mr-1.peer.internal",
		"egress-f21bbeac90dbc48a.egress.internal": "outbound|104||fhir.hospital.example.com",
		"egress-2c994c79ea6e3d77.egress.internal": "outbound|443||fhir.hospital.example.com",
		"egress-1880c34e93b39636.egress.internal": "outbound|8443||fhir.hospital.example.com",
	}))
}

// A tenant that takes plaintext, or anybody in the mesh, is found by the checks above: they are not blind.
func TestOpenTenantIsFound(t *testing.T) {
	g := NewWithT(t)
	c := newCluster(t, func(obj *unstructured.Unstructured) {
		switch obj.GetKind() + "/" + obj.GetName() {
		case "PeerAuthentication/default":
			g.Expect(unstructured.SetNestedField(obj.Object, "PERMISSIVE", "spec", "mtls", "mode")).To(Succeed())
		case "Sidecar/default":
			unstructured.RemoveNestedField(obj.Object, "spec", "outboundTrafficPolicy")
		}
	}, "alderbrook")
	listeners := newIstiod(t, c).configure(t, "alderbrook-orthweb", "orthanc-0").listeners
	var plain []string
	for _, chain := range xdstest.ExtractListener(model.VirtualInboundListenerName, listeners).FilterChains {
		if chain.TransportSocket == nil && chain.GetFilterChainMatch().GetDestinationPort().GetValue() == 4242 {
			plain = append(plain, chain.Name)
		}
	}
	g.Expect(plain).NotTo(BeEmpty())
	out := xdstest.ExtractListener(model.VirtualOutboundListenerName, listeners)
	g.Expect(clusterOf(t, out.FilterChains[len(out.FilterChains)-1])).To(Equal("PassthroughCluster"))
}

// clusterOf is where a filter chain's TCP connections go, or HTTP requests that no name is needed for.
func clusterOf(t *testing.T, chain *listenerv3.FilterChain) string {
	t.Helper()
	for _, filter := range chain.Filters {
		if filter.GetTypedConfig().MessageIs(&tcpv3.TcpProxy{}) {
			return xdstest.UnmarshalAny[tcpv3.TcpProxy](t, filter.GetTypedConfig()).GetCluster()
		}
	}
	return ""
}

var (
	principals = regexp.MustCompile(`"exact": *"([^"]*)"`)
	ports      = regexp.MustCompile(`"destinationPort": *([0-9]+)`)
)

// allowed says who may use which ports by the rules of a filter chain.
func allowed(t *testing.T, chain *listenerv3.FilterChain) []string {
	t.Helper()
	rules := rbac(t, chain)
	if rules.GetAction() != rbacconfigv3.RBAC_ALLOW {
		t.Errorf("filter chain %s: the rules say who may not", chain.Name)
	}
	var all []string
	for _, policy := range rules.GetPolicies() {
		if len(policy.Permissions) == 1 && policy.Permissions[0].GetNotRule().GetAny() {
			continue // nobody: an empty policy, such as default-deny
		}
		find := func(what *regexp.Regexp) (found []string) {
			for _, match := range what.FindAllStringSubmatch(xdstest.Dump(t, policy), -1) {
				found = append(found, match[1])
			}
			slices.Sort(found)
			return found
		}
		all = append(all, strings.Join(find(principals), " ")+" to "+strings.Join(find(ports), " "))
	}
	return all
}

// rbac are the rules of a filter chain, of its connections or its requests.
func rbac(t *testing.T, chain *listenerv3.FilterChain) *rbacconfigv3.RBAC {
	t.Helper()
	for _, filter := range chain.Filters {
		switch config := filter.GetTypedConfig(); {
		case config.MessageIs(&rbacv3.RBAC{}):
			return xdstest.UnmarshalAny[rbacv3.RBAC](t, config).GetRules()
		case config.MessageIs(&hcmv3.HttpConnectionManager{}):
			for _, filter := range xdstest.UnmarshalAny[hcmv3.HttpConnectionManager](t, config).GetHttpFilters() {
				if filter.GetTypedConfig().MessageIs(&httprbacv3.RBAC{}) {
					return xdstest.UnmarshalAny[httprbacv3.RBAC](t, filter.GetTypedConfig()).GetRules()
				}
			}
		}
	}
	t.Errorf("filter chain %s has no rules", chain.Name)
	return nil
}
