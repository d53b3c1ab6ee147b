// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// accessMistakes are about who reaches what.
var accessMistakes = []mistake{
	{
		name:  "no NetworkPolicy",
		check: networkPolicies,
		again: []func(*bundle) bool{
			without("NetworkPolicy", "default-deny"),
			in("NetworkPolicy", "default-deny", []any{"Ingress"}, "spec", "policyTypes"),
			in("NetworkPolicy", "default-deny", map[string]any{"matchLabels": map[string]any{"a": "b"}}, "spec", "podSelector"),
			in("NetworkPolicy", "orthanc", []any{map[string]any{}}, "spec", "ingress"),
			in("NetworkPolicy", "orthanc", []any{map[string]any{"from": []any{map[string]any{"namespaceSelector": map[string]any{}}}}}, "spec", "ingress"),
			in("NetworkPolicy", "postgres", []any{map[string]any{"from": []any{map[string]any{"podSelector": map[string]any{}}}}}, "spec", "ingress"),
		},
	},
	{
		name: "DICOM hosts * on a shared selector",
		check: func(b *bundle) []string {
			var l list
			own := map[string]bool{}
			for _, o := range b.all("HelmRelease") {
				for key, value := range labelsOf(get(o.Object, "spec", "values", "labels")) {
					own[key+"="+value] = true
				}
			}
			for _, o := range b.all("Gateway") {
				selector := labelsOf(get(o.Object, "spec", "selector"))
				unique := false
				for key, value := range selector {
					unique = unique || value == b.tenant.Spec.Namespace
					l.unless(own[key+"="+value], "%s selects pods with %s=%s, which no gateway of the tenant has", title(o), key, value)
				}
				l.unless(unique, "%s selects pods that other tenants have too, by %v", title(o), selector)
			}
			l.unless(b.istio() == (len(b.all("Gateway")) > 0), "Gateways: %d", len(b.all("Gateway")))
			if !b.istio() {
				// Traefik's HostSNI(`*`) needs a Traefik that reads no other namespace.
				namespaces := get(b.find("HelmRelease", "traefik").Object, "spec", "values", "providers", "kubernetesCRD", "namespaces")
				l.unless(reflect.DeepEqual(namespaces, []any{b.tenant.Spec.Namespace}), "Traefik reads the namespaces %v", namespaces)
				cross := get(b.find("HelmRelease", "traefik").Object, "spec", "values", "providers", "kubernetesCRD", "allowCrossNamespace")
				l.unless(cross == false, "Traefik's routes may name other namespaces: %v", cross)
			}
			return l
		},
		again: []func(*bundle) bool{
			in("Gateway", "dcm-gw", "ingressgateway", "spec", "selector", "istio"),
			func(b *bundle) bool {
				return in("Gateway", "", "ingressgateway", "spec", "selector", "istio")(b) &&
					in("HelmRelease", "istio-ingress", "ingressgateway", "spec", "values", "labels", "istio")(b)
			},
			in("HelmRelease", "traefik", nil, "spec", "values", "providers", "kubernetesCRD", "namespaces"),
			in("HelmRelease", "traefik", true, "spec", "values", "providers", "kubernetesCRD", "allowCrossNamespace"),
		},
	},
	{
		name: "TLS SIMPLE, so client certificates never checked",
		check: func(b *bundle) []string {
			var l list
			required := b.tenant.Spec.Ingress.DICOM.ClientCertificates == v1alpha1.ClientCertificatesRequired
			if b.istio() {
				want := map[bool]string{true: "MUTUAL", false: "SIMPLE"}[required]
				mode := get(b.find("Gateway", "dcm-gw").Object, "spec", "servers", 0, "tls", "mode")
				l.unless(mode == want, "the DICOM port has TLS %v", mode)
				return l
			}
			options := get(b.find("IngressRouteTCP", "dicom").Object, "spec", "tls", "options", "name")
			name, _ := options.(string)
			auth := get(b.find("TLSOption", name).Object, "spec", "clientAuth", "clientAuthType")
			l.unless(required == (auth == "RequireAndVerifyClientCert"), "the DICOM port takes clients by %v", auth)
			l.unless(get(b.find("IngressRouteTCP", "dicom").Object, "spec", "tls", "secretName") == "dicom-tls", "the DICOM port has no TLS")
			return l
		},
		again: []func(*bundle) bool{
			in("Gateway", "dcm-gw", "SIMPLE", "spec", "servers", 0, "tls", "mode"),
			in("Gateway", "dcm-gw", "OPTIONAL_MUTUAL", "spec", "servers", 0, "tls", "mode"),
			in("TLSOption", "dicom", nil, "spec", "clientAuth"),
			in("IngressRouteTCP", "dicom", nil, "spec", "tls", "options"),
		},
	},
	{
		name: "plain HTTP, old TLS",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.all("Gateway") {
				servers, _ := get(o.Object, "spec", "servers").([]any)
				for _, s := range servers {
					tls := get(s, "tls", "mode")
					ok := get(s, "tls", "httpsRedirect") == true || tls == "ISTIO_MUTUAL" ||
						(tls == "SIMPLE" || tls == "MUTUAL") && get(s, "tls", "minProtocolVersion") == "TLSV1_2"
					l.unless(ok, "%s has TLS %v", title(o), get(s, "tls"))
				}
			}
			for _, o := range b.all("TLSOption") {
				l.unless(get(o.Object, "spec", "minVersion") == "VersionTLS12", "%s takes %v", title(o), get(o.Object, "spec", "minVersion"))
			}
			for _, o := range b.all("IngressRoute") {
				redirect := slices.Contains(middlewares(o), "https-redirect")
				l.unless(redirect || get(o.Object, "spec", "tls", "secretName") == "web-tls", "%s has no TLS", title(o))
				l.unless(redirect || slices.Contains(middlewares(o), "hsts"), "%s does not ask browsers for HTTPS", title(o))
			}
			if b.istio() {
				hsts := get(b.find("VirtualService", "web-vs").Object, "spec", "http", 0, "headers", "response", "set", "Strict-Transport-Security")
				l.unless(hsts != nil, "web-vs does not ask browsers for HTTPS")
			}
			return l
		},
		again: []func(*bundle) bool{
			in("Gateway", "web-gw", nil, "spec", "servers", 1, "tls"),
			in("Gateway", "web-gw", "TLSV1_0", "spec", "servers", 0, "tls", "minProtocolVersion"),
			in("VirtualService", "web-vs", nil, "spec", "http", 0, "headers"),
			in("TLSOption", "web", nil, "spec", "minVersion"),
			in("IngressRoute", "web", nil, "spec", "tls"),
			in("IngressRoute", "web-redirect", nil, "spec", "routes", 0, "middlewares"),
		},
	},
	{
		name: "authorization by whole namespace",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.all("AuthorizationPolicy") {
				rules, _ := get(o.Object, "spec", "rules").([]any)
				for i, rule := range rules {
					l.unless(get(rule, "to", 0, "operation", "ports") != nil, "rule %d of %s is for every port", i, title(o))
					if from, _ := get(rule, "from").([]any); len(from) > 0 || o.GetName() != "istio-ingress" {
						principals, _ := get(rule, "from", 0, "source", "principals").([]any)
						l.unless(len(principals) > 0, "rule %d of %s names no principal", i, title(o))
						for _, p := range principals {
							l.unless(strings.HasPrefix(p.(string), "cluster.local/ns/"+b.tenant.Spec.Namespace+"/sa/"), "%s lets in %v", title(o), p)
						}
						l.unless(get(rule, "from", 0, "source", "namespaces") == nil, "%s lets in a namespace", title(o))
					}
				}
			}
			l.unless(b.istio() == (b.find("AuthorizationPolicy", "orthanc").GetName() != ""), "a policy for Orthanc: %t", !b.istio())
			return l
		},
		again: []func(*bundle) bool{
			in("AuthorizationPolicy", "orthanc", map[string]any{"namespaces": []any{"one-orthweb"}}, "spec", "rules", 0, "from", 0, "source"),
			in("AuthorizationPolicy", "orthanc", nil, "spec", "rules", 0, "to"),
			without("AuthorizationPolicy", "orthanc"),
		},
	},
	{
		name: "no default deny",
		check: func(b *bundle) []string {
			var l list
			if b.istio() {
				spec, ok := get(b.find("AuthorizationPolicy", "default-deny").Object, "spec").(map[string]any)
				l.unless(ok && len(spec) == 0, "default-deny is %v", spec)
				mode := get(b.find("PeerAuthentication", "default").Object, "spec", "mtls", "mode")
				l.unless(mode == "STRICT", "mTLS is %v", mode)
			}
			return l
		},
		again: []func(*bundle) bool{
			without("AuthorizationPolicy", "default-deny"),
			in("AuthorizationPolicy", "default-deny", []any{map[string]any{}}, "spec", "rules"),
			in("PeerAuthentication", "default", "PERMISSIVE", "spec", "mtls", "mode"),
		},
	},
	{
		name:  "REGISTRY_ONLY with no ServiceEntry",
		check: egress,
		again: []func(*bundle) bool{
			without("ServiceEntry", ""),
			without("ServiceEntry", "peer-modality-mr-1"),
			without("ServiceEntry", "peer-sts"),
			in("Sidecar", "default", nil, "spec", "outboundTrafficPolicy"),
			in("NetworkPolicy", "peer-modality-ct-1", map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/name": "traefik"}}, "spec", "podSelector"),
			in("NetworkPolicy", "egress-modality-ct-1", map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/name": "orthanc"}}, "spec", "podSelector"),
			in("NetworkPolicy", "peer-postgres", []any{"Ingress"}, "spec", "policyTypes"),
			func(b *bundle) bool {
				policies := b.all("NetworkPolicy")
				for _, o := range policies {
					if get(o.Object, "spec", "egress", 0, "ports", 0, "port") == int64(104) {
						b.remove("NetworkPolicy", o.GetName())
					}
				}
				return len(b.all("NetworkPolicy")) < len(policies)
			},
		},
	},
	{
		name: "a mesh where there is none",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.objects() {
				group := o.GroupVersionKind().Group
				l.unless(b.istio() || !strings.HasSuffix(group, "istio.io"), "%s needs Istio", title(o))
				l.unless(!b.istio() || group != "traefik.io", "%s needs Traefik", title(o))
			}
			return l
		},
		again: []func(*bundle) bool{func(b *bundle) bool {
			b.tenant.Spec.Ingress.Provider = map[bool]v1alpha1.IngressProvider{true: v1alpha1.TraefikIngress, false: v1alpha1.IstioIngress}[b.istio()]
			return true
		}},
	},
	{
		name: "someone's Azure annotations",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.objects() {
				l.unless(!contains(o, "azure"), "%s", title(o))
			}
			return l
		},
		again: []func(*bundle) bool{
			in("HelmRelease", "istio-ingress", map[string]any{"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}, "spec", "values", "service", "annotations"),
		},
	},
}

func labelsOf(v any) map[string]string {
	out := map[string]string{}
	m, _ := v.(map[string]any)
	for key, value := range m {
		out[key], _ = value.(string)
	}
	return out
}

func middlewares(o object) []string {
	var names []string
	all, _ := get(o.Object, "spec", "routes", 0, "middlewares").([]any)
	for _, m := range all {
		name, _ := get(m, "name").(string)
		names = append(names, name)
	}
	return names
}

// networkPolicies checks that everything is denied, both ways, and that what is opened names who may come in.
func networkPolicies(b *bundle) []string {
	var l list
	deny, orthanc := false, false
	for _, p := range b.networkPolicies() {
		selected := p.Spec.PodSelector.MatchLabels
		if len(selected) == 0 && len(p.Spec.Ingress)+len(p.Spec.Egress) == 0 {
			deny = slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) && slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
		orthanc = orthanc || selected["app.kubernetes.io/name"] == "orthanc" && len(p.Spec.Ingress) > 0
		// What the world reaches.
		gateway := selected["istio"] == b.tenant.Spec.Namespace || selected["app.kubernetes.io/name"] == "traefik"
		for _, rule := range p.Spec.Ingress {
			l.unless(len(rule.Ports) > 0, "NetworkPolicy/%s opens every port", p.Name)
			l.unless(len(rule.From) > 0 || gateway, "NetworkPolicy/%s opens ports of %v to everybody", p.Name, selected)
			for _, from := range rule.From {
				l.unless(from.PodSelector == nil || len(from.PodSelector.MatchLabels)+len(from.PodSelector.MatchExpressions) > 0,
					"NetworkPolicy/%s lets every pod in", p.Name)
				l.unless(from.NamespaceSelector == nil || len(from.NamespaceSelector.MatchLabels) > 0, "NetworkPolicy/%s lets every namespace in", p.Name)
				l.unless(from.IPBlock == nil, "NetworkPolicy/%s lets addresses in", p.Name)
			}
		}
		for _, rule := range p.Spec.Egress {
			l.unless(len(rule.Ports) > 0 && len(rule.To) > 0, "NetworkPolicy/%s opens every way out", p.Name)
		}
	}
	l.unless(deny, "no NetworkPolicy denies everything both ways")
	l.unless(orthanc, "no NetworkPolicy is for Orthanc")
	return l
}

// egress checks that what the tenant's definition names outside is open: in the mesh, if there is one, and in a
// NetworkPolicy for the pods that go there, and that in the mesh nothing else is.
func egress(b *bundle) []string {
	var l list
	if b.istio() {
		mode := get(b.find("Sidecar", "default").Object, "spec", "outboundTrafficPolicy", "mode")
		l.unless(mode == "REGISTRY_ONLY", "outside hosts are reached by %v", mode)
	}
	// An egress gateway goes there in Orthanc's place. Its chart labels pods with the name of the release.
	pods := labels.Set(b.deployment().Spec.Template.Labels)
	if b.tenant.Spec.Ingress.Egress.Gateway {
		pods = labels.Set{"app": "istio-egress"}
	}
	for _, e := range outside(b.tenant) {
		inMesh := !b.istio()
		for _, o := range b.all("ServiceEntry") {
			named := slices.Contains(listOf(o, "hosts"), e.host) || slices.Contains(listOf(o, "addresses"), e.host)
			inMesh = inMesh || named && get(o.Object, "spec", "ports", 0, "number") == int64(e.port)
		}
		l.unless(inMesh, "no ServiceEntry for %s, port %d", e.host, e.port)
		open := false
		for _, p := range b.networkPolicies() {
			if !slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) || !selects(p.Spec.PodSelector, pods) {
				continue
			}
			for _, rule := range p.Spec.Egress {
				for _, port := range rule.Ports {
					for _, to := range rule.To {
						open = open || port.Port != nil && port.Port.IntVal == e.port && to.IPBlock != nil && within(e.host, to.IPBlock.CIDR)
					}
				}
			}
		}
		l.unless(open, "no NetworkPolicy opens %s, port %d, to pods with %v", e.host, e.port, pods)
	}
	return l
}

func selects(selector metav1.LabelSelector, pods labels.Set) bool {
	s, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		panic(err)
	}
	return s.Matches(pods)
}

func listOf(o object, field string) []string {
	var out []string
	items, _ := get(o.Object, "spec", field).([]any)
	for _, item := range items {
		out = append(out, item.(string))
	}
	return out
}

// within tells whether a range covers an address, or every address where the host is a name.
func within(host, cidr string) bool {
	block, err := netip.ParsePrefix(cidr)
	if err != nil {
		return false
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return block.Bits() == 0
	}
	return block.Contains(address)
}

type outsideHost struct {
	host string
	port int32
}

// outside lists what Orthanc of a tenant of package variants reaches. It does not ask the renderer, which may forget some.
func outside(t *v1alpha1.Tenant) []outsideHost {
	var out []outsideHost
	for _, m := range t.Spec.Orthanc.Modalities {
		out = append(out, outsideHost{m.Host, m.Port})
	}
	for _, h := range t.Spec.Ingress.Egress.Hosts {
		out = append(out, outsideHost{h.Host, h.Port})
	}
	if e := t.Spec.Postgres.External; e != nil {
		out = append(out, outsideHost{e.Host, e.Port})
	}
	if s3 := t.Spec.Orthanc.Storage.S3; s3 != nil {
		if s3.Endpoint != "" {
			out = append(out, outsideHost{"minio.example.org", 9000})
		} else {
			out = append(out, outsideHost{"dicom.s3.eu-central-1.amazonaws.com", 443})
			if s3.SecretRef == nil { // The identity of the ServiceAccount is turned into keys there.
				out = append(out, outsideHost{"sts.eu-central-1.amazonaws.com", 443})
			}
		}
	}
	return out
}
