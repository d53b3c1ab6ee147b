// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	. "github.com/onsi/gomega"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/test/xdstest"
	"istio.io/istio/pkg/test"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// facility is what a tenant's definition asks of its gateway.
type facility struct {
	name      string
	namespace string
	host      string // of the web
	dicomPort uint32
	mutual    bool // DICOM clients show certificates
}

var facilities = []facility{
	{name: "alderbrook", namespace: "alderbrook-orthweb", host: "alderbrook.example.org", dicomPort: 11112, mutual: true},
	{name: "birchwood", namespace: "birchwood-orthweb", host: "birchwood.example.org", dicomPort: 11112, mutual: true},
	{name: "cedarhill", namespace: "cedarhill-orthweb", host: "cedarhill.example.org", dicomPort: 2762},
	{name: "dogwood", namespace: "dogwood-orthweb", host: "dogwood.example.org", dicomPort: 11112, mutual: true},
}

func names(of []facility) []string {
	var all []string
	for _, f := range of {
		all = append(all, f.name)
	}
	return all
}

func TestGatewayIsTheTenantsOwn(t *testing.T) {
	backwards := slices.Clone(facilities)
	slices.Reverse(backwards)
	for _, order := range []struct {
		name       string
		facilities []facility
	}{{"first to last", facilities}, {"last to first", backwards}} {
		for _, scoped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, PILOT_SCOPE_GATEWAY_TO_NAMESPACE=%t", order.name, scoped), func(t *testing.T) {
				test.SetForTest(t, &features.ScopeGatewayToNamespace, scoped)
				i := newIstiod(t, newCluster(t, nil, names(order.facilities)...))
				for _, f := range facilities {
					NewWithT(t).Expect(gatewayProblems(t, f, i.configure(t, f.namespace, "istio-ingress-0"))).To(BeEmpty(), f.name)
				}
			})
		}
	}
}

// The manifests that tenants had before Korthweb selected the one gateway label that all installations have by default.
// Were that still so, the checks above must say it.
func TestSharedSelectorIsFound(t *testing.T) {
	g := NewWithT(t)
	test.SetForTest(t, &features.ScopeGatewayToNamespace, false)
	shared := func(obj *unstructured.Unstructured) {
		switch obj.GetKind() {
		case "Gateway":
			g.Expect(unstructured.SetNestedStringMap(obj.Object, map[string]string{"istio": "ingressgateway"}, "spec", "selector")).To(Succeed())
		case "HelmRelease":
			g.Expect(unstructured.SetNestedField(obj.Object, "ingressgateway", "spec", "values", "labels", "istio")).To(Succeed())
		}
	}
	i := newIstiod(t, newCluster(t, shared, "alderbrook", "birchwood"))
	first := gatewayProblems(t, facilities[0], i.configure(t, "alderbrook-orthweb", "istio-ingress-0"))
	g.Expect(first).To(ContainElement(ContainSubstring("names birchwood")))
	second := gatewayProblems(t, facilities[1], i.configure(t, "birchwood-orthweb", "istio-ingress-0"))
	g.Expect(second).To(ContainElement(ContainSubstring("names alderbrook")))
	// Two Gateways with any host on one port: the older one wins, and the second tenant gets no DICOM at its own gateway.
	g.Expect(second).To(ContainElement("nothing listens on port 11112"))
}

// gatewayProblems are the ways in which a gateway's configuration is not what its tenant asks for.
func gatewayProblems(t *testing.T, f facility, c *configuration) []string {
	t.Helper()
	p := &problems{}
	for _, other := range facilities {
		if other.name != f.name && strings.Contains(c.dump, other.name) {
			p.add("the configuration names %s", other.name)
		}
	}
	ports := map[uint32]*listenerv3.Listener{}
	for _, l := range c.listeners {
		ports[l.GetAddress().GetSocketAddress().GetPortValue()] = l
	}
	for _, port := range []uint32{80, 443, f.dicomPort} {
		if ports[port] == nil {
			p.add("nothing listens on port %d", port)
			return *p
		}
		if own := ports[port].GetAddress().GetSocketAddress().GetAddress(); own != "0.0.0.0" {
			p.add("port %d listens on %s", port, own)
		}
	}
	p.equal("how many listeners there are", len(c.listeners), 3)
	open := []string{"80", "443", fmt.Sprint(f.dicomPort)}
	slices.Sort(open)
	for port, l := range ports {
		for _, chain := range l.FilterChains {
			p.equal(fmt.Sprintf("what the rules on port %d let through", port), allowed(t, chain), []string{" to " + strings.Join(open, " ")})
		}
	}

	p.web(t, f, c, ports[80], ports[443])
	p.dicom(t, f, ports[f.dicomPort])

	var got []string
	for _, secret := range c.secrets {
		got = append(got, secret.Name)
		data := secret.GetTlsCertificate().GetCertificateChain().GetInlineBytes()
		if data == nil {
			data = secret.GetValidationContext().GetTrustedCa().GetInlineBytes()
		}
		block, _ := pem.Decode(data)
		if block == nil {
			p.add("Secret %s holds no certificate", secret.Name)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			p.add("Secret %s: %v", secret.Name, err)
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(secret.Name, "kubernetes://"), "-cacert")
		p.equal("the owner of Secret "+secret.Name, cert.Subject.CommonName, f.namespace+"/"+name)
	}
	want := []string{"kubernetes://dicom-tls", "kubernetes://web-tls"}
	if f.mutual {
		want = slices.Insert(want, 1, "kubernetes://dicom-tls-cacert")
	}
	p.equal("the Secrets served", got, want)
	return *p
}

// problems are sentences.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p *problems) equal(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		p.add("%s: %v, want %v", what, got, want)
	}
}

// web: what comes to port 80 is sent to 443, which serves the tenant's host with its own certificate.
func (p *problems) web(t *testing.T, f facility, c *configuration, plain, tls *listenerv3.Listener) {
	t.Helper()
	hosts := func(l *listenerv3.Listener, chain int) []*routev3.VirtualHost {
		hcm := xdstest.ExtractHTTPConnectionManager(t, l.FilterChains[chain])
		return xdstest.ExtractRouteConfigurations(c.routes)[hcm.GetRds().GetRouteConfigName()].GetVirtualHosts()
	}
	p.equal("filter chains of port 80", len(plain.FilterChains), 1)
	for _, vh := range hosts(plain, 0) {
		p.equal("hosts of port 80", vh.Domains, []string{f.host})
		p.equal("redirect of port 80", vh.RequireTls, routev3.VirtualHost_ALL)
	}

	p.equal("filter chains of port 443", len(tls.FilterChains), 1)
	chain := tls.FilterChains[0]
	p.equal("server names of port 443", chain.GetFilterChainMatch().GetServerNames(), []string{f.host})
	down := xdstest.UnmarshalAny[tlsv3.DownstreamTlsContext](t, chain.GetTransportSocket().GetTypedConfig())
	p.equal("certificate of port 443", secretNames(down), []string{"kubernetes://web-tls"})
	p.equal("oldest TLS of port 443", down.CommonTlsContext.GetTlsParams().GetTlsMinimumProtocolVersion(), tlsv3.TlsParameters_TLSv1_2)
	web := hosts(tls, 0)
	if len(web) != 1 {
		p.add("port 443 has %d virtual hosts", len(web))
		return
	}
	p.equal("hosts of port 443", web[0].Domains, []string{f.host})
	if len(web[0].Routes) != 1 {
		p.add("port 443 has %d routes", len(web[0].Routes))
		return
	}
	route := web[0].Routes[0]
	p.equal("where the web goes to", route.GetRoute().GetCluster(), "outbound|8042||orthweb."+f.namespace+".svc.cluster.local")
	var hsts []string
	for _, h := range route.GetResponseHeadersToAdd() {
		hsts = append(hsts, h.GetHeader().GetKey()+": "+h.GetHeader().GetValue())
	}
	p.equal("headers of responses", hsts, []string{"Strict-Transport-Security: max-age=31536000"})
}

// dicom: TLS to whoever connects, also without a server name, and a certificate asked of him.
func (p *problems) dicom(t *testing.T, f facility, l *listenerv3.Listener) {
	t.Helper()
	p.equal("filter chains of the DICOM port", len(l.FilterChains), 1)
	if l.DefaultFilterChain != nil {
		p.add("the DICOM port has a default filter chain")
	}
	chain := l.FilterChains[0]
	if match := chain.GetFilterChainMatch(); proto.Size(match) > 0 {
		p.add("the DICOM port serves %s only", match)
	}
	if chain.GetTransportSocket() == nil {
		p.add("the DICOM port speaks no TLS")
		return
	}
	down := xdstest.UnmarshalAny[tlsv3.DownstreamTlsContext](t, chain.GetTransportSocket().GetTypedConfig())
	p.equal("certificate of the DICOM port", secretNames(down), []string{"kubernetes://dicom-tls"})
	p.equal("oldest TLS of the DICOM port", down.CommonTlsContext.GetTlsParams().GetTlsMinimumProtocolVersion(), tlsv3.TlsParameters_TLSv1_2)
	p.equal("client certificates required", down.GetRequireClientCertificate().GetValue(), f.mutual)
	ca := down.CommonTlsContext.GetCombinedValidationContext().GetValidationContextSdsSecretConfig().GetName()
	if f.mutual {
		p.equal("CA of client certificates", ca, "kubernetes://dicom-tls-cacert")
	} else {
		p.equal("CA of client certificates", ca, "")
	}
	for _, filter := range chain.Filters {
		if filter.GetTypedConfig().MessageIs(&hcmv3.HttpConnectionManager{}) {
			p.add("the DICOM port speaks HTTP")
		}
		if filter.GetTypedConfig().MessageIs(&tcpv3.TcpProxy{}) {
			to := xdstest.UnmarshalAny[tcpv3.TcpProxy](t, filter.GetTypedConfig()).GetCluster()
			if to != "outbound|4242||orthweb."+f.namespace+".svc.cluster.local" {
				p.add("DICOM goes to %s", to)
			}
		}
	}
}

// secretNames are the Secrets of a TLS server's certificates.
func secretNames(c *tlsv3.DownstreamTlsContext) []string {
	var all []string
	for _, s := range c.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		all = append(all, s.GetName())
	}
	return all
}
