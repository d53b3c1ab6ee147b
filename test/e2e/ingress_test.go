// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What helm-controller makes of the real gateway chart is what the rendered objects select, name and open, and nothing
// of another tenant.
func TestGatewayChartMakesWhatIsSelected(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	spec := []string{
		"orthanc:",
		"  modalities:",
		"  - {name: ct-1, aeTitle: CT1, host: ct-1.example.org, port: 104}",
		"ingress:",
		"  service: {annotations: {example.org/note: of the tenant}}",
		"  egress: {gateway: true}",
	}
	f := newFacilities(t, shared, "ingress", map[string]string{
		"ingress-one.yaml": tenantFile("ingress-one", spec...),
		"ingress-two.yaml": tenantFile("ingress-two", spec...),
	}, allow("spec.ingress.service"), annotations("example.org/note"))
	g.Eventually(f.ready("ingress-one", "ingress-two")).Should(Succeed())

	for _, tc := range []struct {
		workload string
		gateways []string
		policies []string // AuthorizationPolicies that select the workload
	}{
		{
			workload: "istio-ingress",
			gateways: []string{"web-gw", "dcm-gw"},
			policies: []string{"istio-ingress"},
		},
		{
			workload: "istio-egress",
			gateways: []string{"egress-modality-ct-1"},
			policies: []string{"istio-egress"},
		},
	} {
		for _, tenant := range []string{"ingress-one", "ingress-two"} {
			ns := tenant + "-orthweb"
			at := client.ObjectKey{Namespace: ns, Name: tc.workload}
			t.Run(tenant+"/"+tc.workload, func(t *testing.T) {
				g := NewWithT(t)
				c := shared.client
				deployment, service := &appsv1.Deployment{}, &corev1.Service{}
				g.Expect(c.Get(t.Context(), at, deployment)).To(Succeed())
				g.Expect(c.Get(t.Context(), at, service)).To(Succeed())
				template := deployment.Spec.Template
				g.Expect(service.Annotations).To(HaveKeyWithValue("networking.istio.io/exportTo", "."))

				for _, name := range tc.gateways {
					gateway := istioObject(t, "networking.istio.io", "Gateway", ns, name)
					selector, _, _ := unstructured.NestedStringMap(gateway.Object, "spec", "selector")
					g.Expect(podsOf(t, selector)).To(And(Not(BeEmpty()), HaveEach(HavePrefix(ns+"/"+tc.workload+"-"))), name)
					for _, port := range gatewayPorts(gateway) {
						g.Expect(service.Spec.Ports).To(ContainElement(And(
							HaveField("Port", port), HaveField("TargetPort.IntVal", port), HaveField("Protocol", corev1.ProtocolTCP),
						)), name)
					}
				}
				g.Expect(labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(template.Labels))).To(BeTrue())
				for _, name := range tc.policies {
					policy := istioObject(t, "security.istio.io", "AuthorizationPolicy", ns, name)
					selector, _, _ := unstructured.NestedStringMap(policy.Object, "spec", "selector", "matchLabels")
					g.Expect(podsOf(t, selector)).To(And(Not(BeEmpty()), HaveEach(HavePrefix(ns+"/"+tc.workload+"-"))), name)
				}
				account := client.ObjectKey{Namespace: ns, Name: template.Spec.ServiceAccountName}
				g.Expect(c.Get(t.Context(), account, &corev1.ServiceAccount{})).To(Succeed())
			})
		}
	}

	// Orthanc knows its gateway by the ServiceAccount that the chart made, and the egress gateway knows Orthanc.
	for _, tenant := range []string{"ingress-one", "ingress-two"} {
		ns := tenant + "-orthweb"
		for policy, workload := range map[string]string{"orthanc": "istio-ingress", "istio-egress": "orthanc"} {
			deployment := &appsv1.Deployment{}
			g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: workload}, deployment)).To(Succeed())
			g.Expect(principals(istioObject(t, "security.istio.io", "AuthorizationPolicy", ns, policy))).To(Equal([]string{
				fmt.Sprintf("cluster.local/ns/%s/sa/%s", ns, deployment.Spec.Template.Spec.ServiceAccountName),
			}), "AuthorizationPolicy %s/%s", ns, policy)
		}
		service := &corev1.Service{}
		g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "istio-ingress"}, service)).To(Succeed())
		g.Expect(service.Annotations).To(HaveKeyWithValue("example.org/note", "of the tenant"))

		// The ingress gateway may read the Secrets of its namespace, as Istio needs. The egress gateway has no use for them.
		bindings := &rbacv1.RoleBindingList{}
		g.Expect(shared.client.List(t.Context(), bindings, client.InNamespace(ns))).To(Succeed())
		var accounts []string
		for _, b := range bindings.Items {
			if b.RoleRef.Kind == "Role" {
				accounts = append(accounts, b.Subjects[0].Name)
			}
		}
		g.Expect(accounts).To(ContainElement("istio-ingress"))
		g.Expect(accounts).NotTo(ContainElement("istio-egress"))
	}
}

// istioObject reads an object of Istio.
func istioObject(t *testing.T, group, kind, namespace, name string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind})
	if err := shared.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, u); err != nil {
		t.Fatal(err)
	}
	return u
}

// podsOf are the pods of all namespaces that a selector matches, as namespace/name: Istio's selectors know no namespace
// by default.
func podsOf(t *testing.T, selector map[string]string) []string {
	t.Helper()
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := shared.client.List(t.Context(), list, client.MatchingLabelsSelector{Selector: labels.SelectorFromSet(selector)}); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, pod := range list.Items {
		found = append(found, pod.Namespace+"/"+pod.Name)
	}
	return found
}

// gatewayPorts are the ports of a Gateway's servers.
func gatewayPorts(gateway *unstructured.Unstructured) []int32 {
	var ports []int32
	servers, _, _ := unstructured.NestedSlice(gateway.Object, "spec", "servers")
	for _, s := range servers {
		number, _, _ := unstructured.NestedInt64(s.(map[string]any), "port", "number")
		ports = append(ports, int32(number))
	}
	slices.Sort(ports)
	return ports
}

// principals are those that the first rule of an AuthorizationPolicy allows.
func principals(policy *unstructured.Unstructured) []string {
	rules, _, _ := unstructured.NestedSlice(policy.Object, "spec", "rules")
	from, _, _ := unstructured.NestedSlice(rules[0].(map[string]any), "from")
	all, _, _ := unstructured.NestedStringSlice(from[0].(map[string]any), "source", "principals")
	return all
}
