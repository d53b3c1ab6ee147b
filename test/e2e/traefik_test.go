// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A facility that leaves Istio for Traefik becomes Ready, with the real chart installed by helm-controller with the rights
// of the facility's own account; what the chart makes is what the Service and the policies of the bundle select; and
// nothing of Istio's is left.
func TestFacilityMovesToTraefik(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name, ns = "to-traefik", "to-traefik-orthweb"
	orthanc := []string{"orthanc:", "  modalities:", "  - {name: us-1, aeTitle: US1, host: us-1.example.org, port: 104}"}
	f := newFacilities(t, shared, name, map[string]string{name + ".yaml": tenantFile(name, orthanc...)},
		allow("spec.ingress.chart", "spec.ingress.service"), annotations("example.org/note"))
	g.Eventually(f.ready(name)).Should(Succeed())

	chart := shared.charts.Traefik
	revision := f.push(map[string]string{name + ".yaml": tenantFile(name, append(orthanc,
		"ingress:",
		"  provider: Traefik",
		"  dicom: {port: 2762}",
		"  service: {annotations: {example.org/note: '{{ .Release.Name }}'}}",
		fmt.Sprintf("  chart: {url: %q, version: %q, insecure: true}", chart.URL, chart.Version),
	)...)})
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())

	at := client.ObjectKey{Namespace: ns, Name: "traefik"}
	deployment, service, policy := &appsv1.Deployment{}, &corev1.Service{}, &networkingv1.NetworkPolicy{}
	for _, o := range []client.Object{deployment, service, policy} {
		g.Expect(shared.client.Get(t.Context(), at, o)).To(Succeed())
	}
	pods := HavePrefix(ns + "/traefik-")
	for what, selector := range map[string]map[string]string{
		"Service": service.Spec.Selector, "NetworkPolicy": policy.Spec.PodSelector.MatchLabels,
	} {
		selected := podsOf(t, selector)
		g.Expect(selected).NotTo(BeEmpty(), what)
		g.Expect(inNamespace(selected, ns)).To(HaveEach(pods), what)
		g.Expect(inNamespace(selected, ns)).To(HaveLen(int(deployment.Status.Replicas)), what)
	}
	g.Expect(service.Annotations).To(HaveKeyWithValue("example.org/note", "{{ .Release.Name }}"), "no template is run")

	// From each public port to one of the pods that the policy opens, and no other is open.
	var public, leadTo, open []int32
	for _, p := range service.Spec.Ports {
		public = append(public, p.Port)
		for _, c := range deployment.Spec.Template.Spec.Containers[0].Ports {
			if c.Name == p.TargetPort.StrVal {
				leadTo = append(leadTo, c.ContainerPort)
			}
		}
	}
	for _, p := range policy.Spec.Ingress[0].Ports {
		open = append(open, p.Port.IntVal)
	}
	g.Expect(public).To(ConsistOf(int32(80), int32(443), int32(2762)))
	g.Expect(leadTo).To(HaveLen(len(public)))
	g.Expect(open).To(ConsistOf(leadTo))

	g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "orthanc-from-traefik"}, policy)).To(Succeed())
	for _, rule := range policy.Spec.Ingress {
		for _, peer := range rule.From {
			g.Expect(peer.NamespaceSelector).To(BeNil())
			g.Expect(inNamespace(podsOf(t, peer.PodSelector.MatchLabels), ns)).To(HaveEach(pods))
		}
	}

	namespace := &corev1.Namespace{}
	g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Name: ns}, namespace)).To(Succeed())
	g.Expect(namespace.Labels).NotTo(HaveKey("istio-injection"))
	kinds := istioKinds(t)
	g.Expect(kinds).NotTo(BeEmpty())
	g.Eventually(func(g Gomega) { // Flux prunes what is no longer rendered, and Helm what it had installed
		for _, kind := range kinds {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(kind)
			g.Expect(shared.client.List(t.Context(), list, client.InNamespace(ns))).To(Succeed())
			g.Expect(list.Items).To(BeEmpty(), kind.Kind)
		}
		for _, o := range []client.Object{&helmv2.HelmRelease{}, &appsv1.Deployment{}, &corev1.Service{}} {
			err := shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "istio-ingress"}, o)
			g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%T: %v", o, err)
		}
	}).Should(Succeed())
}

// inNamespace are those of pods, named namespace/name, that are in a namespace: a Service's and a policy's selector
// know no other.
func inNamespace(pods []string, namespace string) []string {
	var in []string
	for _, pod := range pods {
		if strings.HasPrefix(pod, namespace+"/") {
			in = append(in, pod)
		}
	}
	return in
}

// istioKinds are the kinds of Istio that the apiserver knows, as lists.
func istioKinds(t *testing.T) []schema.GroupVersionKind {
	t.Helper()
	known, err := discovery.NewDiscoveryClientForConfig(shared.stack.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []schema.GroupVersionKind
	for _, group := range []string{"networking.istio.io", "security.istio.io", "telemetry.istio.io"} {
		resources, err := known.ServerResourcesForGroupVersion(group + "/v1")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resources.APIResources {
			if !strings.Contains(r.Name, "/") { // else a subresource
				kinds = append(kinds, schema.GroupVersionKind{Group: group, Version: "v1", Kind: r.Kind + "List"})
			}
		}
	}
	return kinds
}
