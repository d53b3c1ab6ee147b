// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/render"
)

func TestPatchesRefused(t *testing.T) {
	target := func(kind, name v1alpha1.PatchPattern) *v1alpha1.PatchTarget {
		return &v1alpha1.PatchTarget{Kind: kind, Name: name}
	}
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nkind: Deployment\nmetadata: {name: orthanc, annotations: {x: *b}}\n"

	cases := []struct {
		name    string
		patch   v1alpha1.Patch
		message string
	}{
		// Text that is no patch.
		{"empty", v1alpha1.Patch{}, "is empty"},
		{"only a comment", v1alpha1.Patch{Patch: "# later\n---\n"}, "is empty"},
		{"broken YAML", v1alpha1.Patch{Patch: "a: [", Target: target("Deployment", "")}, "yaml"},
		{"a scalar", v1alpha1.Patch{Patch: "delete it", Target: target("Deployment", "")}, "neither a strategic merge patch nor"},
		{"an alias bomb", v1alpha1.Patch{Patch: bomb}, "anchors"},
		{"too large", v1alpha1.Patch{Patch: strings.Repeat("#", 300<<10)}, "bytes"},
		{"deep nesting", v1alpha1.Patch{Patch: "a: " + strings.Repeat("[", 20000), Target: target("Deployment", "")}, "depth"},
		{"nesting that YAML allows", v1alpha1.Patch{Patch: "a: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), Target: target("Deployment", "")}, "nested deeper than 32 levels"},
		{"a directive of strategic merge", v1alpha1.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc}\nspec: {$retainKeys: [replicas]}\n"}, "$retainKeys: the directives"},
		{"an order of elements", v1alpha1.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc}\nspec: {template: {spec: {$setElementOrder/containers: [{name: x}]}}}\n"}, "$setElementOrder/containers: the directives"},
		{"everything deleted but a name", v1alpha1.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc}\nspec: {$patch: replace}\n"}, "Deployment/orthanc: spec."},
		{"a large index", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/containers/99999999","value":{}}]`, Target: target("Deployment", "")}, "Deployment/orthanc: "},
		{"a large index that is replaced", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/template/spec/containers/99999999","value":{}}]`, Target: target("Deployment", "")}, "Deployment/orthanc: "},
		{"an index below zero", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/spec/template/spec/containers/-99999999"}]`, Target: target("Deployment", "")}, ""},
		{"a large number", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/minReadySeconds","value":1e999999}]`, Target: target("Deployment", "orthanc")}, ""},
		{"moving", v1alpha1.Patch{Patch: `[{"op":"move","from":"/spec/template","path":"/spec/x"}]`, Target: target("Deployment", "orthanc")}, "operation 0 must be add, remove, replace or test"},
		{"a variable twice", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"TZ"}},{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"TZ"}}]`, Target: target("Deployment", "orthanc")}, "spec.template.spec.containers[orthanc].env"},
		{"too much work", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/annotations/x","value":"` + strings.Repeat("x", 20<<10) + `"}]`, Target: target("Certificate|Issuer|Deployment|PodDisruptionBudget", "")}, "is too much work"},
		{"names no object", v1alpha1.Patch{Patch: "spec: {}"}, "needs a target"},
		{"two documents, one target", v1alpha1.Patch{Patch: "a: 1\n---\nb: 1", Target: target("Deployment", "")}, "must be one document"},
		{"operations without target", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/spec"}]`}, "needs a target"},
		{"unknown operation", v1alpha1.Patch{Patch: `[{"op":"explode","path":"/spec"}]`, Target: target("Deployment", "orthanc")}, "operation 0 must be add, remove, replace or test"},
		{"operation of no kind", v1alpha1.Patch{Patch: `[{"path":"/spec"}]`, Target: target("Deployment", "orthanc")}, "operation 0"},
		{"copying behind another operation", v1alpha1.Patch{Patch: `[{"op":"add","op":"copy","from":"/spec","path":"/spec/x"}]`, Target: target("Deployment", "orthanc")}, "already set"},
		{"copying in another case", v1alpha1.Patch{Patch: `[{"op":"add","Op":"copy","path":"/spec/x"}]`, Target: target("Deployment", "orthanc")}, `the key "Op"`},
		{"copying in base64", v1alpha1.Patch{Patch: "- op: !!binary Y29weQ==\n  from: /spec\n  path: /spec/x\n", Target: target("Deployment", "orthanc")}, "operation 0"},
		{"copying", v1alpha1.Patch{Patch: `[{"op":"copy","from":"/spec","path":"/spec/x"}]`, Target: target("Deployment", "orthanc")}, "operation 0"},
		{"a list of scalars", v1alpha1.Patch{Patch: `[1, 2]`, Target: target("Deployment", "orthanc")}, "is not a list of JSON 6902 operations"},
		{"a path that is not there", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/x/y","value":1}]`, Target: target("Deployment", "orthanc")}, "/spec/x/y"},
		// Targets.
		{"matches nothing", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/spec"}]`, Target: target("DaemonSet", "orthanc")}, "matches no object of the bundle: kind DaemonSet, name orthanc"},
		{"names nothing", v1alpha1.Patch{Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: other}\n"}, "matches no object"},
		{"an expression", v1alpha1.Patch{Patch: `[]`, Target: target("(Deployment){1000}", "")}, "matches no object"},
		{"no resource", v1alpha1.Patch{Patch: "a: 1", Target: target("Deployment", "")}, "Deployment/orthanc: a: a patch may not change this"},
		{"a broken label selector", v1alpha1.Patch{Patch: "[]", Target: &v1alpha1.PatchTarget{LabelSelector: "a in ("}}, "target"},
		{"the Tenant", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/namespace","value":"x"}]`, Target: target("Tenant", "")}, "matches no object"},
		{"another namespace's object", v1alpha1.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc, namespace: bhs-orthweb}\n"}, `names namespace "bhs-orthweb"`},
		// Identity.
		{"delete", v1alpha1.Patch{Patch: "kind: PersistentVolumeClaim\nmetadata: {name: orthanc-storage}\n$patch: delete\n"}, "PersistentVolumeClaim/orthanc-storage: a patch may not remove an object"},
		{"rename", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/metadata/name","value":"other"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: metadata.name: a patch may not change this"},
		{"another kind", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/kind","value":"ClusterRole"}]`, Target: target("ServiceAccount", "orthanc")}, "ServiceAccount/orthanc: kind: a patch may not change this"},
		{"another version", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/apiVersion","value":"v2"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: apiVersion: a patch may not change this"},
		{"move", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/metadata/namespace","value":"bhs-orthweb"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: metadata.namespace: a patch may not change this: \"namespace\" names or reaches something else"},
		{"remove metadata", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/metadata"}]`, Target: target("Service", "orthweb")}, ""},
		{"remove all", v1alpha1.Patch{Patch: `[{"op":"replace","path":"","value":null}]`, Target: target("Service", "orthweb")}, ""},
		{"make it local", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/annotations","value":{"config.kubernetes.io/local-config":"true"}}]`, Target: target("Deployment", "orthanc")}, "Deployment/orthanc: metadata.annotations.config.kubernetes.io/local-config"},
		{"an owner that does not exist", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/ownerReferences","value":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}]`, Target: target("PersistentVolumeClaim", "")}, "PersistentVolumeClaim/orthanc-storage: metadata.ownerReferences[x].apiVersion: a patch may not change this"},
		{"an owner by merging", v1alpha1.Patch{Patch: "kind: Cluster\nmetadata: {name: postgres, ownerReferences: [{uid: x}]}\n"}, "Cluster/postgres: metadata.ownerReferences[0].uid: a patch may not change this"},
		{"a finalizer", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/finalizers","value":["example.org/x"]}]`, Target: target("Deployment", "")}, "Deployment/orthanc: metadata.finalizers[0]: a patch may not change this"},
		{"no pruning", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/annotations","value":{"kustomize.toolkit.fluxcd.io/prune":"disabled"}}]`, Target: target("Deployment", "")}, "metadata.annotations.kustomize.toolkit.fluxcd.io/prune: a patch may not change this"},
		{"Flux leaves it alone", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/annotations","value":{"kustomize.toolkit.fluxcd.io/reconcile":"disabled"}}]`, Target: target("Deployment", "")}, "metadata.annotations.kustomize.toolkit.fluxcd.io/reconcile: a patch may not change this"},
		{"a network by annotation", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/template/metadata/annotations/k8s.v1.cni.cncf.io~1networks","value":"x"}]`, Target: target("Deployment", "")}, "spec.template.metadata.annotations.k8s.v1.cni.cncf.io/networks: a patch may not change this"},
		{"selector", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/selector/matchLabels/a","value":"b"}]`, Target: target("Deployment", "")}, "Deployment/orthanc: spec.selector.matchLabels.a: a patch may not change this"},
		{"a data volume", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/resources/requests/storage","value":"1Gi"}]`, Target: target("PersistentVolumeClaim", "")}, "PersistentVolumeClaim/orthanc-storage: spec.resources.requests.storage: a patch may not change this: use spec.orthanc.storage"},
		{"namespaces of a reference", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/affinity","value":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"namespaces":["x"]}]}}}]`, Target: target("Deployment", "")}, "namespaces"},
		// Values of charts that would be structure.
		{"a line in a value", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/priorityClassName","value":"x\n---\nkind: Role"}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.values.priorityClassName: a value of a chart is"},
		{"a mapping in a value", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/service/externalTrafficPolicy","value":"x: y"}]`, Target: target("HelmRelease", "")}, "spec.values.service.externalTrafficPolicy: a value of a chart is"},
		{"a comment in a value", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/priorityClassName","value":"x #"}]`, Target: target("HelmRelease", "")}, "a value of a chart is"},
		{"a key that ends a value", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/nodeSelector","value":{"a: b\nc":"d"}}]`, Target: target("HelmRelease", "")}, "names or reaches something else"},
		// What marks an object as Korthweb's, and keeps its data.
		{"tenant label", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/metadata/labels/korthweb.digihunch.com~1tenant","value":"bhs"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: metadata.labels.korthweb.digihunch.com/tenant: a patch may not change this"},
		{"no labels", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/metadata/labels"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: metadata.labels.app.kubernetes.io/component: a patch may not change this"},
		{"prune", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/metadata/annotations"}]`, Target: target("Cluster", "postgres")}, "Cluster/postgres: metadata.annotations.kustomize.toolkit.fluxcd.io/prune: a patch may not change this"},
		// Acting as somebody else.
		{"no service account", v1alpha1.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {serviceAccountName: null}\n"}, "HelmRelease/istio-ingress: spec.serviceAccountName: a patch may not change this"},
		{"other service account", v1alpha1.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc}\nspec: {template: {spec: {serviceAccountName: istio-ingress}}}\n"}, "Deployment/orthanc: spec.template.spec.serviceAccountName"},
		{"other cluster", v1alpha1.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {kubeConfig: {secretRef: {name: x}}}\n"}, "spec.kubeConfig"},
		// Reaching into other namespaces.
		{"target namespace", v1alpha1.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {targetNamespace: bhs-orthweb}\n"}, "HelmRelease/istio-ingress: spec.targetNamespace: a patch may not change this: \"targetNamespace\" names or reaches something else"},
		{"storage namespace", v1alpha1.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {storageNamespace: bhs-orthweb}\n"}, "spec.storageNamespace"},
		{"chart of another namespace", v1alpha1.Patch{Patch: "kind: HelmRelease\nmetadata: {name: istio-ingress}\nspec: {chartRef: {namespace: bhs-orthweb}}\n"}, "HelmRelease/istio-ingress: spec.chartRef.namespace: a patch may not change this: use the Tenant's chart"},
		{"network policy", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/ingress/0/from/-","value":{"namespaceSelector":{}}}]`, Target: target("NetworkPolicy", "orthanc")}, "NetworkPolicy/orthanc: a patch may not touch any NetworkPolicy"},
		{"any principal", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/rules/0/from/0/source/principals/0","value":"*"}]`, Target: target("AuthorizationPolicy", "orthanc")}, "AuthorizationPolicy/orthanc: a patch may not touch any AuthorizationPolicy"},
		{"sidecar hosts", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/egress/0/hosts/-","value":"bhs-orthweb/*"}]`, Target: target("Sidecar", "")}, "Sidecar/default: a patch may not touch any Sidecar: choose a target that does not match it; use spec.ingress.egress.hosts for hosts to reach"},
		{"all sidecar hosts", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/egress/0/hosts/-","value":"*/*"}]`, Target: target("Sidecar", "")}, "Sidecar/default: a patch may not touch any Sidecar: choose a target that does not match it; use spec.ingress.egress.hosts for hosts to reach"},
		{"host of nobody", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/hosts/-","value":"elsewhere.example.org"}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.hosts"},
		{"every host", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/servers/0/hosts/0","value":"*"}]`, Target: target("Gateway", "web-gw")}, "Gateway/web-gw: spec.servers[0].hosts[0]: a patch may not change this: use spec.ingress"},
		{"gateway of another tenant", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/gateways","value":["bhs-orthweb/web-gw"]}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.gateways"},
		{"pods of another gateway", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/selector/istio","value":"bhs-ingress"}]`, Target: target("Gateway", "dcm-gw")}, "Gateway/dcm-gw: spec.selector.istio"},
		{"pods for another gateway", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/values/labels/istio","value":"bhs-ingress"}]`, Target: target("HelmRelease", "")}, "spec.values.labels.istio"},
		{"routes for everybody", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/spec/exportTo"}]`, Target: target("VirtualService", "web-vs")}, "spec.exportTo"},
		{"service for everybody", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/metadata/annotations/networking.istio.io~1exportTo","value":"*"}]`, Target: target("Service", "orthweb")}, "networking.istio.io/exportTo"},
		{"service of another tenant", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/http/0/route/0/destination/host","value":"orthweb.bhs-orthweb.svc.cluster.local"}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.http[0].route[0].destination.host: a patch may not change this"},
		{"database of another tenant", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"DB_ADDR","value":"postgres-rw.bhs-orthweb.svc"}}]`, Target: target("Deployment", "")}, "Deployment/orthanc: spec.template.spec.containers[orthanc].env[DB_ADDR].name: a patch may add the variables"},
		{"a cluster-scoped issuer", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/issuerRef/kind","value":"ClusterIssuer"}]`, Target: target("Certificate", "web-tls")}, "Certificate/web-tls: spec.issuerRef.kind"},
		{"somebody's volume", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/volumeName","value":"pv-1"}]`, Target: target("PersistentVolumeClaim", "")}, "PersistentVolumeClaim/orthanc-storage: spec.volumeName"},
		{"much text", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/targetNamespace","value":"` + strings.Repeat("ü", 10<<10) + `"}]`, Target: target("HelmRelease", "")}, "spec.targetNamespace"},
		{"credential of another tenant", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/servers/0/tls/credentialName","value":"kubernetes-gateway://bhs-orthweb/web-tls"}]`, Target: target("Gateway", "web-gw")}, "Gateway/web-gw: spec.servers[0].tls.credentialName: a patch may not change this: use spec.ingress"},
		// What keeps others out.
		{"network policy that matches nothing", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/podSelector","value":{"matchLabels":{"a":"b"}}}]`, Target: target("NetworkPolicy", "default-deny")}, "NetworkPolicy/default-deny: a patch may not touch any NetworkPolicy"},
		{"network policy that is open", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/ingress/-","value":{"from":[{"ipBlock":{"cidr":"0.0.0.0/0"}}]}}]`, Target: target("NetworkPolicy", "postgres")}, "NetworkPolicy/postgres: a patch may not touch"},
		{"every object", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/labels/note","value":"x"}]`, Target: target("", ".*")}, "a patch may not touch any"},
		{"no mutual TLS", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/mtls/mode","value":"PERMISSIVE"}]`, Target: target("PeerAuthentication", "")}, "PeerAuthentication/default: a patch may not touch any PeerAuthentication"},
		// Addresses and names.
		{"external addresses", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/externalIPs","value":["192.0.2.1"]}]`, Target: target("Service", "orthweb")}, "Service/orthweb: spec.externalIPs[0]: a patch may not change this"},
		{"external addresses of the gateway", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/service/externalIPs","value":["192.0.2.1"]}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.values.service.externalIPs"},
		{"external addresses in other letters", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/service/externalips","value":["192.0.2.1"]}]`, Target: target("HelmRelease", "")}, "spec.values.service.externalips"},
		{"external addresses in the chart's own defaults", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/_internal_defaults_do_not_set","value":{"service":{"externalIPs":["192.0.2.1"]}}}]`, Target: target("HelmRelease", "")}, "spec.values._internal_defaults_do_not_set.service.externalIPs"},
		{"external addresses of the database", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/managed","value":{"services":{"additional":[{"serviceTemplate":{"spec":{"externalIPs":["192.0.2.1"]}}}]}}}]`, Target: target("Cluster", "")}, "Cluster/postgres: spec.managed.services.additional[0].serviceTemplate.spec.externalIPs[0]: a patch may not change this"},
		{"address of the gateway", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/service/loadBalancerIP","value":"192.0.2.1"}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.values.service.loadBalancerIP: a patch may not change this: use spec.ingress.service.loadBalancerIP"},
		{"address of a service", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/loadBalancerIP","value":"192.0.2.1"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: spec.loadBalancerIP"},
		{"another name", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/externalName","value":"example.org"}]`, Target: target("Service", "orthweb")}, "Service/orthweb: spec.externalName"},
		{"name of nobody", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/service/annotations/external-dns.alpha.kubernetes.io~1hostname","value":"elsewhere.example.org"}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.values.service.annotations.external-dns.alpha.kubernetes.io/hostname: a patch may not change this: use spec.ingress.service.annotations"},
		{"address by annotation", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/annotations/metallb.io~1loadBalancerIPs","value":"192.0.2.1"}]`, Target: target("Service", "orthweb")}, "metadata.annotations.metallb.io/loadBalancerIPs"},
		{"target of a gateway's name", v1alpha1.Patch{Patch: `[{"op":"add","path":"/metadata/annotations","value":{"external-dns.alpha.kubernetes.io/target":"192.0.2.1"}}]`, Target: target("Gateway", "web-gw")}, "Gateway/web-gw: metadata.annotations.external-dns.alpha.kubernetes.io/target"},
		// The gateway's chart.
		{"another chart", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/chart","value":{"spec":{"chart":"x"}}}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.chart.spec.chart: a patch may not change this: use the Tenant's chart"},
		{"another chart's source", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/chartRef/name","value":"other"}]`, Target: target("HelmRelease", "")}, "HelmRelease/istio-ingress: spec.chartRef.name: a patch may not change this: use the Tenant's chart"},
		{"values from elsewhere", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/valuesFrom","value":[{"kind":"ConfigMap","name":"x"}]}]`, Target: target("HelmRelease", "")}, "spec.valuesFrom"},
		{"post renderers", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/postRenderers","value":[{"kustomize":{"patches":[]}}]}]`, Target: target("HelmRelease", "")}, "spec.postRenderers"},
		{"definitions of kinds", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/install/crds","value":"CreateReplace"}]`, Target: target("HelmRelease", "")}, "spec.install.crds"},
		{"newer definitions of kinds", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/upgrade/crds","value":"CreateReplace"}]`, Target: target("HelmRelease", "")}, "spec.upgrade.crds"},
		{"registry", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/url","value":"oci://elsewhere.example.org/x"}]`, Target: target("OCIRepository", "")}, "OCIRepository/istio-ingress: spec.url"},
		{"registry's provider", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/provider","value":"aws"}]`, Target: target("OCIRepository", "")}, "spec.provider"},
		{"registry's secret", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/secretRef","value":{"name":"x"}}]`, Target: target("OCIRepository", "")}, "spec.secretRef"},
		{"registry's certificate", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/certSecretRef","value":{"name":"x"}}]`, Target: target("OCIRepository", "")}, "spec.certSecretRef"},
		{"proxy", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/proxySecretRef","value":{"name":"x"}}]`, Target: target("OCIRepository", "")}, "spec.proxySecretRef"},
		{"without a name", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/<<","value":{"valuesFrom":[{"kind":"ConfigMap","name":"x"}]}}]`, Target: target("HelmRelease", "")}, "spec."},
		// The node.
		{"a file of the node", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/volumes/-","value":{"name":"x","hostPath":{"path":"/"}}}]`, Target: target("Deployment", "orthanc")}, "Deployment/orthanc: spec.template.spec.volumes[x].hostPath.path: a patch may not change this"},
		{"the node's network", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/template/spec/hostNetwork","value":true}]`, Target: target("Deployment", "orthanc")}, "spec.template.spec.hostNetwork"},
		{"the node's processes", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/values/hostPID","value":true}]`, Target: target("HelmRelease", "")}, "spec.values.hostPID"},
		// Routes.
		{"delegate", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/http/0/delegate","value":{"name":"x"}}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.http[0].delegate.name: a patch may not change this"},
		{"every sidecar", v1alpha1.Patch{Patch: `[{"op":"replace","path":"/spec/gateways","value":["mesh"]}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.gateways"},
		{"every sidecar by default", v1alpha1.Patch{Patch: `[{"op":"remove","path":"/spec/gateways"}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.gateways[0]: a patch may not change this"},
		{"every sidecar in a rule", v1alpha1.Patch{Patch: `[{"op":"add","path":"/spec/http/0/match","value":[{"gateways":["mesh"]}]}]`, Target: target("VirtualService", "web-vs")}, "VirtualService/web-vs: spec.http[0].match[0].gateways[0]: a patch may not change this"},
	}
	r := newRenderer(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := readTenant(t, "patched")
			// A good patch comes first: it is the second that must be named.
			tenant.Spec.Patches = []v1alpha1.Patch{tenant.Spec.Patches[0], tc.patch}
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
		patch v1alpha1.Patch
		path  string
		want  string
	}{
		{
			"a resource", v1alpha1.Patch{Patch: "kind: Deployment\nmetadata: {name: orthanc, namespace: mhr-orthweb}\nspec: {minReadySeconds: 7}\n"},
			"application/deployment-orthanc.yaml", "minReadySeconds: 7",
		},
		{
			"who may come in", v1alpha1.Patch{
				Patch:  `[{"op":"add","path":"/spec/values/service/loadBalancerSourceRanges","value":["198.51.100.0/24"]}]`,
				Target: &v1alpha1.PatchTarget{Kind: "HelmRelease"},
			},
			"dependency/helmrelease-istio-ingress.yaml", "198.51.100.0/24",
		},
		{
			"a field less", v1alpha1.Patch{
				Patch:  "- op: remove\n  path: /spec/template/spec/topologySpreadConstraints\n",
				Target: &v1alpha1.PatchTarget{LabelSelector: "app.kubernetes.io/name=orthanc", Kind: "Deployment"},
			},
			"application/deployment-orthanc.yaml", "kind: Deployment",
		},
		{
			"text that YAML could misread", v1alpha1.Patch{
				Patch: "kind: Deployment\nmetadata: {name: orthanc, annotations: {on: 'no', e: '1e3', t: \"a\\tb\\n \\u2028\"}}\n",
			},
			"application/deployment-orthanc.yaml", `t: "a\tb\n \U00002028"`,
		},
	}
	r := newRenderer(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := readTenant(t, "patched")
			tenant.Spec.Patches = []v1alpha1.Patch{tc.patch}
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

// FuzzPatch looks for a patch that makes Render panic, or changes whose an object is, what owns it or when it goes.
func FuzzPatch(f *testing.F) {
	f.Add("kind: Deployment\nmetadata: {name: orthanc}\nspec: {minReadySeconds: 2}\n", "", "")
	f.Add(`[{"op":"add","path":"/spec/x","value":{}}]`, "Deployment", "orthanc")
	f.Add(`[{"op":"add","path":"/metadata/annotations","value":{"team":"imaging"}}]`, "Deployment|PersistentVolumeClaim", "")
	f.Add("metadata: {ownerReferences: [{uid: x}], finalizers: [x], labels: {team: x}}", "Deployment", "")
	f.Add("$patch: delete", "Service", "")
	f.Add("- op: test\n  path: /metadata\n  value: null\n- op: replace\n  path: ''\n  value: {}\n", "Issuer.*", "")
	f.Add("spec: {template: {spec: {containers: [{name: orthanc, $patch: replace}]}}}", "Deployment", "")
	f.Add(`[{"op":"add","path":"/spec/values/priorityClassName","value":"x"}]`, "HelmRelease", "")
	r := newRenderer(f)
	tenant := readTenant(f, "minimal")
	identities := func(t testing.TB, tenant *v1alpha1.Tenant) (all []any) {
		b, err := r.Render(tenant)
		if err != nil {
			return nil
		}
		for _, l := range b.Layers {
			for _, o := range l.Objects {
				object := decode(t, o.YAML())
				metadata := object["metadata"].(map[string]any)
				spec, _ := object["spec"].(map[string]any)
				all = append(all, []any{
					object["apiVersion"], object["kind"], metadata["name"], metadata["namespace"],
					metadata["ownerReferences"], metadata["finalizers"], spec["selector"], spec["serviceAccountName"], spec["chartRef"],
				})
			}
		}
		return all
	}
	before := identities(f, tenant)
	f.Fuzz(func(t *testing.T, text, kind, name string) {
		tenant := tenant.DeepCopy()
		tenant.Spec.Patches = []v1alpha1.Patch{{Patch: text}}
		if kind != "" || name != "" {
			tenant.Spec.Patches[0].Target = &v1alpha1.PatchTarget{Kind: v1alpha1.PatchPattern(kind), Name: v1alpha1.PatchPattern(name)}
		}
		if after := identities(t, tenant); after != nil && !reflect.DeepEqual(before, after) {
			t.Fatalf("%v became %v", before, after)
		}
	})
}
