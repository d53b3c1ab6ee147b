// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/apis/kustomize"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/render"
)

func TestPatchesRefused(t *testing.T) {
	target := func(kind, name string) *kustomize.Selector { return &kustomize.Selector{Kind: kind, Name: name} }
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nkind: Deployment\nmetadata: {name: orthanc, annotations: {x: *b}}\n"

	cases := []struct {
		name    string
		patch   kustomize.Patch
		message string
	}{
		// Text that is no patch.
		{"empty", kustomize.Patch{}, "is empty"},
		{"only a comment", kustomize.Patch{Patch: "# later\n---\n"}, "is empty"},
		{"broken YAML", kustomize.Patch{Patch: "a: [", Target: target("Deployment", "")}, "yaml"},
		{"a scalar", kustomize.Patch{Patch: "delete it", Target: target("Deployment", "")}, "neither a strategic merge patch nor"},
		{"an alias bomb", kustomize.Patch{Patch: bomb}, "anchors"},
		{"too large", kustomize.Patch{Patch: strings.Repeat("#", 300<<10)}, "bytes"},
		{"deep nesting", kustomize.Patch{Patch: "a: " + strings.Repeat("[", 20000), Target: target("Deployment", "")}, "depth"},
		{"names no object", kustomize.Patch{Patch: "spec: {}"}, "needs a target"},
		{"two documents, one target", kustomize.Patch{Patch: "a: 1\n---\nb: 1", Target: target("Deployment", "")}, "must be one document"},
		{"operations without target", kustomize.Patch{Patch: `[{"op":"remove","path":"/spec"}]`}, "needs a target"},
		{"unknown operation", kustomize.Patch{Patch: `[{"op":"explode","path":"/spec"}]`, Target: target("Deployment", "orthanc")}, "must be add, remove, replace, move or test"},
		{"operation of no kind", kustomize.Patch{Patch: `[{"path":"/spec"}]`, Target: target("Deployment", "orthanc")}, "operation 0"},
		{"copying behind another operation", kustomize.Patch{Patch: `[{"op":"add","op":"copy","from":"/spec","path":"/spec/x"}]`, Target: target("Deployment", "orthanc")}, "already set"},
		{"copying in another case", kustomize.Patch{Patch: `[{"op":"add","Op":"copy","from":"/spec","path":"/spec/x"}]`, Target: target("Deployment", "orthanc")}, `the key "Op"`},
		{"copying in base64", kustomize.Patch{Patch: "- op: !!binary Y29weQ==\n  from: /spec\n  path: /spec/x\n", Target: target("Deployment", "orthanc")}, "operation 0"},
		{"copying", kustomize.Patch{Patch: `[{"op":"copy","from":"/spec","path":"/spec/x"}]`, Target: target("Deployment", "orthanc")}, "operation 0"},
		{"a list of scalars", kustomize.Patch{Patch: `[1, 2]`, Target: target("Deployment", "orthanc")}, "is not a list of JSON 6902 operations"},
		{"a path that is not there", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/x/y","value":1}]`, Target: target("Deployment", "orthanc")}, "/spec/x/y"},
		// Targets.
		{"matches nothing", kustomize.Patch{Patch: `[{"op":"remove","path":"/spec"}]`, Target: target("DaemonSet", "orthanc")}, "matches no object of the bundle: kind DaemonSet, name orthanc"},
		{"names nothing", kustomize.Patch{Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: other}\n"}, "matches no object"},
		{"a broken expression", kustomize.Patch{Patch: `[]`, Target: target("(", "")}, "target"},
		{"no resource", kustomize.Patch{Patch: "a: 1", Target: target("Deployment", "")}, "missing Resource metadata"},
		{"a broken label selector", kustomize.Patch{Patch: "[]", Target: &kustomize.Selector{LabelSelector: "a in ("}}, "target"},
		{"the Tenant", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/namespace","value":"x"}]`, Target: target("Tenant", "")}, "matches no object"},
		{"another namespace's object", kustomize.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc, namespace: bhs-orthweb}\n"}, `names namespace "bhs-orthweb"`},
		// Identity.
		{"delete", kustomize.Patch{Patch: "kind: PersistentVolumeClaim\nmetadata: {name: orthanc-storage}\n$patch: delete\n"}, "PersistentVolumeClaim/orthanc-storage: a patch may not add or remove"},
		{"rename", kustomize.Patch{Patch: `[{"op":"replace","path":"/metadata/name","value":"other"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: a patch may not change an object's"},
		{"another kind", kustomize.Patch{Patch: `[{"op":"replace","path":"/kind","value":"ClusterRole"}]`, Target: target("ServiceAccount", "orthanc")}, "ServiceAccount/orthanc: a patch may not change an object's"},
		{"another version", kustomize.Patch{Patch: `[{"op":"replace","path":"/apiVersion","value":"v2"}]`, Target: target("Service", "orthweb")}, "may not change an object's"},
		{"move", kustomize.Patch{Patch: `[{"op":"replace","path":"/metadata/namespace","value":"bhs-orthweb"}]`, Target: target("Service", "orthweb")}, "may not change an object's"},
		{"remove metadata", kustomize.Patch{Patch: `[{"op":"remove","path":"/metadata"}]`, Target: target("Service", "orthweb")}, ""},
		{"remove all", kustomize.Patch{Patch: `[{"op":"replace","path":"","value":null}]`, Target: target("Service", "orthweb")}, ""},
		{"make it local", kustomize.Patch{Patch: `[{"op":"add","path":"/metadata/annotations","value":{"config.kubernetes.io/local-config":"true"}}]`, Target: target("Deployment", "orthanc")}, "Deployment/orthanc: metadata.annotations.config.kubernetes.io/local-config"},
		// What marks an object as Korthweb's, and keeps its data.
		{"tenant label", kustomize.Patch{Patch: `[{"op":"replace","path":"/metadata/labels/korthweb.digihunch.com~1tenant","value":"bhs"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: metadata.labels.korthweb.digihunch.com/tenant: a patch may not set"},
		{"no labels", kustomize.Patch{Patch: `[{"op":"remove","path":"/metadata/labels"}]`, Target: target("Service", "orthweb")}, "may not remove"},
		{"prune", kustomize.Patch{Patch: `[{"op":"remove","path":"/metadata/annotations"}]`, Target: target("Cluster", "postgres")}, "Cluster/postgres: metadata.annotations.kustomize.toolkit.fluxcd.io/prune: a patch may not remove"},
		// Acting as somebody else.
		{"no service account", kustomize.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {serviceAccountName: null}\n"}, "HelmRelease/istio-ingress: spec.serviceAccountName: a patch may not remove"},
		{"other service account", kustomize.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc}\nspec: {template: {spec: {serviceAccountName: istio-ingress}}}\n"}, "Deployment/orthanc: spec.template.spec.serviceAccountName"},
		{"other cluster", kustomize.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {kubeConfig: {secretRef: {name: x}}}\n"}, "spec.kubeConfig"},
		// Reaching into other namespaces.
		{"target namespace", kustomize.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {targetNamespace: bhs-orthweb}\n"}, "HelmRelease/istio-ingress: spec.targetNamespace: a patch may not reach outside"},
		{"storage namespace", kustomize.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {storageNamespace: bhs-orthweb}\n"}, "spec.storageNamespace"},
		{"chart of another namespace", kustomize.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {chartRef: {namespace: bhs-orthweb}}\n"}, "HelmRelease/istio-ingress: spec.chartRef: a patch may not set"},
		{"network policy", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/ingress/0/from/-","value":{"namespaceSelector":{}}}]`, Target: target("NetworkPolicy", "orthanc")}, "NetworkPolicy/orthanc: a patch may not touch any NetworkPolicy"},
		{"any principal", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/rules/0/from/0/source/principals/0","value":"*"}]`, Target: target("AuthorizationPolicy", "orthanc")}, "AuthorizationPolicy/orthanc: a patch may not touch any AuthorizationPolicy"},
		{"sidecar hosts", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/egress/0/hosts/-","value":"bhs-orthweb/*"}]`, Target: target("Sidecar", "")}, "Sidecar/default: spec.egress.hosts"},
		{"all sidecar hosts", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/egress/0/hosts/-","value":"*/*"}]`, Target: target("Sidecar", "")}, "Sidecar/default: spec.egress.hosts"},
		{"host of nobody", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/hosts/-","value":"elsewhere.example.org"}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.hosts"},
		{"every host", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/servers/0/hosts/0","value":"*"}]`, Target: target("Gateway", "web-gw")}, "Gateway/web-gw: spec.servers: a patch may not set"},
		{"gateway of another tenant", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/gateways","value":["bhs-orthweb/web-gw"]}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.gateways"},
		{"pods of another gateway", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/selector/istio","value":"bhs-ingress"}]`, Target: target("Gateway", "dcm-gw")}, "Gateway/dcm-gw: spec.selector.istio"},
		{"pods for another gateway", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/values/labels/istio","value":"bhs-ingress"}]`, Target: target("HelmRelease", "")}, "spec.values.labels.istio"},
		{"routes for everybody", kustomize.Patch{Patch: `[{"op":"remove","path":"/spec/exportTo"}]`, Target: target("VirtualService", "web-vs")}, "spec.exportTo"},
		{"service for everybody", kustomize.Patch{Patch: `[{"op":"replace","path":"/metadata/annotations/networking.istio.io~1exportTo","value":"*"}]`, Target: target("Service", "orthweb")}, "networking.istio.io/exportTo"},
		{"service of another tenant", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/http/0/route/0/destination/host","value":"orthweb.bhs-orthweb.svc.cluster.local"}]`, Target: target("VirtualService", "web-vs")}, "spec.http.route.destination.host"},
		{"database of another tenant", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"DB_ADDR","value":"postgres-rw.bhs-orthweb.svc"}}]`, Target: target("Deployment", "")}, "spec.template.spec.containers.env.value"},
		{"a cluster-scoped issuer", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/issuerRef/kind","value":"ClusterIssuer"}]`, Target: target("Certificate", "web-tls")}, "Certificate/web-tls: spec.issuerRef.kind"},
		{"somebody's volume", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/volumeName","value":"pv-1"}]`, Target: target("PersistentVolumeClaim", "")}, "PersistentVolumeClaim/orthanc-storage: spec.volumeName"},
		{"much text", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/targetNamespace","value":"` + strings.Repeat("ü", 10<<10) + `"}]`, Target: target("HelmRelease", "")}, "spec.targetNamespace"},
		{"credential of another tenant", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/servers/0/tls/credentialName","value":"kubernetes-gateway://bhs-orthweb/web-tls"}]`, Target: target("Gateway", "web-gw")}, "Gateway/web-gw: spec.servers: a patch may not set"},
		// What keeps others out.
		{"network policy that matches nothing", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/podSelector","value":{"matchLabels":{"a":"b"}}}]`, Target: target("NetworkPolicy", "default-deny")}, "NetworkPolicy/default-deny: a patch may not touch any NetworkPolicy"},
		{"network policy that is open", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/ingress/-","value":{"from":[{"ipBlock":{"cidr":"0.0.0.0/0"}}]}}]`, Target: target("NetworkPolicy", "postgres")}, "NetworkPolicy/postgres: a patch may not touch"},
		{"every object", kustomize.Patch{Patch: `[{"op":"add","path":"/metadata/labels/note","value":"x"}]`, Target: target("", ".*")}, "a patch may not touch any"},
		{"no mutual TLS", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/mtls/mode","value":"PERMISSIVE"}]`, Target: target("PeerAuthentication", "")}, "PeerAuthentication/default: a patch may not touch any PeerAuthentication"},
		// Addresses and names.
		{"external addresses", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/externalIPs","value":["192.0.2.1"]}]`, Target: target("Service", "orthweb")}, "Service/orthweb: spec.externalIPs: a patch may not set"},
		{"external addresses of the gateway", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/values/service/externalIPs","value":["192.0.2.1"]}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.values.service.externalIPs"},
		{"external addresses in other letters", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/values/service/externalips","value":["192.0.2.1"]}]`, Target: target("HelmRelease", "")}, "spec.values.service.externalips"},
		{"external addresses in the chart's own defaults", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/values/_internal_defaults_do_not_set","value":{"service":{"externalIPs":["192.0.2.1"]}}}]`, Target: target("HelmRelease", "")}, "spec.values._internal_defaults_do_not_set.service.externalIPs"},
		{"external addresses of the database", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/managed","value":{"services":{"additional":[{"serviceTemplate":{"spec":{"externalIPs":["192.0.2.1"]}}}]}}}]`, Target: target("Cluster", "")}, "spec.managed.services.additional: a patch may not set"},
		{"address of the gateway", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/values/service/loadBalancerIP","value":"192.0.2.1"}]`, Target: target("HelmRelease", "")}, "spec.values.service.loadBalancerIP: a patch may not set"},
		{"address of a service", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/loadBalancerIP","value":"192.0.2.1"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: spec.loadBalancerIP"},
		{"another name", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/externalName","value":"example.org"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: spec.externalName"},
		{"name of nobody", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/values/service/annotations/external-dns.alpha.kubernetes.io~1hostname","value":"elsewhere.example.org"}]`, Target: target("HelmRelease", "")}, "spec.values.service.annotations.external-dns.alpha.kubernetes.io/hostname: a patch may not reach outside"},
		{"address by annotation", kustomize.Patch{Patch: `[{"op":"add","path":"/metadata/annotations/metallb.io~1loadBalancerIPs","value":"192.0.2.1"}]`, Target: target("Service", "orthweb")}, "metadata.annotations.metallb.io/loadBalancerIPs"},
		{"target of a gateway's name", kustomize.Patch{Patch: `[{"op":"add","path":"/metadata/annotations","value":{"external-dns.alpha.kubernetes.io/target":"192.0.2.1"}}]`, Target: target("Gateway", "web-gw")}, "Gateway/web-gw: metadata.annotations.external-dns.alpha.kubernetes.io/target"},
		// The gateway's chart.
		{"another chart", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/chart","value":{"spec":{"chart":"x"}}}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.chart: a patch may not set"},
		{"another chart's source", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/chartRef/name","value":"other"}]`, Target: target("HelmRelease", "")}, "spec.chartRef: a patch may not set"},
		{"values from elsewhere", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/valuesFrom","value":[{"kind":"ConfigMap","name":"x"}]}]`, Target: target("HelmRelease", "")}, "spec.valuesFrom"},
		{"post renderers", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/postRenderers","value":[{"kustomize":{"patches":[]}}]}]`, Target: target("HelmRelease", "")}, "spec.postRenderers"},
		{"definitions of kinds", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/install/crds","value":"CreateReplace"}]`, Target: target("HelmRelease", "")}, "spec.install.crds"},
		{"newer definitions of kinds", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/upgrade/crds","value":"CreateReplace"}]`, Target: target("HelmRelease", "")}, "spec.upgrade.crds"},
		{"registry", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/url","value":"oci://elsewhere.example.org/x"}]`, Target: target("OCIRepository", "")}, "OCIRepository/istio-ingress: spec.url"},
		{"registry's provider", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/provider","value":"aws"}]`, Target: target("OCIRepository", "")}, "spec.provider"},
		{"registry's secret", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/secretRef","value":{"name":"x"}}]`, Target: target("OCIRepository", "")}, "spec.secretRef"},
		{"registry's certificate", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/certSecretRef","value":{"name":"x"}}]`, Target: target("OCIRepository", "")}, "spec.certSecretRef"},
		{"proxy", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/proxySecretRef","value":{"name":"x"}}]`, Target: target("OCIRepository", "")}, "spec.proxySecretRef"},
		{"without a name", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/<<","value":{"valuesFrom":[{"kind":"ConfigMap","name":"x"}]}}]`, Target: target("HelmRelease", "")}, "spec."},
		// The node.
		{"a file of the node", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/volumes/-","value":{"name":"x","hostPath":{"path":"/"}}}]`, Target: target("Deployment", "orthanc")}, "spec.template.spec.volumes.hostPath"},
		{"the node's network", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/hostNetwork","value":true}]`, Target: target("Deployment", "orthanc")}, "spec.template.spec.hostNetwork"},
		{"the node's processes", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/values/hostPID","value":true}]`, Target: target("HelmRelease", "")}, "spec.values.hostPID"},
		// Routes.
		{"delegate", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/http/0/delegate","value":{"name":"x"}}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.http.delegate"},
		{"every sidecar", kustomize.Patch{Patch: `[{"op":"replace","path":"/spec/gateways","value":["mesh"]}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.gateways"},
		{"every sidecar by default", kustomize.Patch{Patch: `[{"op":"remove","path":"/spec/gateways"}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.gateways: a patch may not remove"},
		{"every sidecar in a rule", kustomize.Patch{Patch: `[{"op":"add","path":"/spec/http/0/match","value":[{"gateways":["mesh"]}]}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.http.match.gateways"},
	}
	r := newRenderer(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := readTenant(t, "patched")
			// A good patch comes first: it is the second that must be named.
			tenant.Spec.Patches = []kustomize.Patch{tenant.Spec.Patches[0], tc.patch}
			_, err := r.Render(tenant)
			g.Expect(err).To(MatchError(ContainSubstring(tc.message)))
			var mendable *render.Error
			g.Expect(errors.As(err, &mendable)).To(BeTrue(), "%T: %v", err, err)
			g.Expect(mendable.Field).To(HavePrefix("spec.patches"))
			if tc.name != "too large" {
				g.Expect(mendable.Field).To(Equal("spec.patches[1]"))
			}
			g.Expect(len(err.Error())).To(BeNumerically("<", 1200))
		})
	}
}

func TestPatchesAllowed(t *testing.T) {
	cases := []struct {
		name  string
		patch kustomize.Patch
		path  string
		want  string
	}{
		{
			"a resource", kustomize.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc, namespace: mhr-orthweb}\nspec: {minReadySeconds: 7}\n"},
			"application/deployment-orthanc.yaml", "minReadySeconds: 7",
		},
		{
			"the tenant's own namespace", kustomize.Patch{
				Patch:  `[{"op":"add","path":"/spec/targetNamespace","value":"mhr-orthweb"}]`,
				Target: &kustomize.Selector{Kind: "HelmRelease", Namespace: "mhr-orthweb"},
			},
			"dependency/helmrelease-istio-ingress.yaml", "targetNamespace: mhr-orthweb",
		},
		{
			"who may come in", kustomize.Patch{
				Patch:  `[{"op":"add","path":"/spec/values/service/loadBalancerSourceRanges","value":["198.51.100.0/24"]}]`,
				Target: &kustomize.Selector{Kind: "HelmRelease"},
			},
			"dependency/helmrelease-istio-ingress.yaml", "198.51.100.0/24",
		},
		{
			"the tenant's own name", kustomize.Patch{
				Patch:  `[{"op":"add","path":"/spec/values/service/annotations/external-dns.alpha.kubernetes.io~1hostname","value":"mhr.orthweb.com"}]`,
				Target: &kustomize.Selector{Kind: "HelmRelease"},
			},
			"dependency/helmrelease-istio-ingress.yaml", "external-dns.alpha.kubernetes.io/hostname: mhr.orthweb.com",
		},
		{
			"one more host", kustomize.Patch{
				Patch:  `[{"op":"add","path":"/spec/egress/0/hosts/-","value":"./extra.example.org"}]`,
				Target: &kustomize.Selector{Group: "networking.istio.io", Version: "v1", Kind: "Sidecar"},
			},
			"dependency/sidecar-default.yaml", "./extra.example.org",
		},
		{
			"a field less", kustomize.Patch{
				Patch:  "- op: remove\n  path: /spec/template/spec/topologySpreadConstraints\n",
				Target: &kustomize.Selector{LabelSelector: "app.kubernetes.io/name=orthanc", Kind: "Deployment"},
			},
			"application/deployment-orthanc.yaml", "kind: Deployment",
		},
		{
			"text that YAML could misread", kustomize.Patch{
				Patch: "kind: Service\nmetadata: {name: orthweb, annotations: {on: 'no', e: '1e3', t: \"a\\tb\\n \\u2028\"}}\n",
			},
			"application/service-orthweb.yaml", `t: "a\tb\n \U00002028"`,
		},
	}
	r := newRenderer(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := readTenant(t, "patched")
			tenant.Spec.Patches = []kustomize.Patch{tc.patch}
			before := tenant.DeepCopy()
			found := false
			for _, f := range renderFiles(t, r, tenant) {
				decode(t, f.Data)
				if f.Path == tc.path {
					found = true
					g.Expect(string(f.Data)).To(ContainSubstring(tc.want))
					g.Expect(string(f.Data)).NotTo(ContainSubstring("config.kubernetes.io"))
				}
			}
			g.Expect(found).To(BeTrue())
			g.Expect(tenant).To(Equal(before))
		})
	}
}

// TestPatchLeavesOthersAlone shows that what one tenant patches is not in the objects that tenants share.
func TestPatchLeavesOthersAlone(t *testing.T) {
	g := NewWithT(t)
	r := newRenderer(t)
	plain := readTenant(t, "patched")
	plain.Spec.Patches = nil
	before := renderFiles(t, r, plain)
	g.Expect(renderFiles(t, r, readTenant(t, "patched"))).NotTo(Equal(before))
	g.Expect(renderFiles(t, r, plain)).To(Equal(before))
}

// FuzzPatch looks for a patch that makes Render panic, or lets an object out of the tenant's namespace.
func FuzzPatch(f *testing.F) {
	f.Add("kind: Deployment\nmetadata: {name: orthanc}\nspec: {replicas: 2}\n", "", "")
	f.Add(`[{"op":"add","path":"/spec/x","value":{}}]`, "Deployment", "orthanc")
	f.Add("$patch: delete", "Service", "")
	f.Add("- op: move\n  from: /metadata\n  path: /spec\n", ".*", "")
	r := newRenderer(f)
	tenant := readTenant(f, "minimal")
	f.Fuzz(func(t *testing.T, text, kind, name string) {
		tenant := tenant.DeepCopy()
		tenant.Spec.Patches = []kustomize.Patch{{Patch: text}}
		if kind != "" || name != "" {
			tenant.Spec.Patches[0].Target = &kustomize.Selector{Kind: kind, Name: name}
		}
		b, err := r.Render(tenant)
		if err != nil {
			return
		}
		for _, l := range b.Layers {
			for _, o := range l.Objects {
				metadata := decode(t, o.YAML())["metadata"].(map[string]any)
				if metadata["namespace"] != "bhs-orthweb" || metadata["name"] != o.Name {
					t.Fatalf("%s/%s is now %v", o.Kind, o.Name, metadata)
				}
			}
		}
	})
}
