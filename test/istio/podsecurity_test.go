// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// What the injector adds meets the Pod Security level of tenants' namespaces, where Istio's CNI plugin sets up the pods'
// network. Without it the injector adds a container that asks for NET_ADMIN.
func TestInjectedPodsMeetPodSecurity(t *testing.T) {
	g := NewWithT(t)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	g.Expect(err).NotTo(HaveOccurred())
	c := newCluster(t, nil, names(facilities)...)
	looked := 0
	for _, f := range facilities {
		namespace := as[corev1.Namespace](t, c.get("Namespace", "", f.namespace))
		g.Expect(namespace.Labels).To(HaveKeyWithValue(api.EnforceLevelLabel, string(api.LevelRestricted)))
		for _, obj := range c.of("Deployment") {
			if obj.GetNamespace() != f.namespace {
				continue
			}
			looked++
			pod := as[corev1.Pod](t, c.get("Pod", f.namespace, obj.GetName()+"-0"))
			for i, volume := range pod.Spec.Volumes {
				if volume.VolumeSource == (corev1.VolumeSource{}) { // as the apiserver sets it
					pod.Spec.Volumes[i].EmptyDir = &corev1.EmptyDirVolumeSource{}
				}
			}
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(
				api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec))
			g.Expect(result.ForbiddenDetail()).To(BeEmpty(), "Pod %s/%s", pod.Namespace, pod.Name)
		}
	}
	g.Expect(looked).To(Equal(2*len(facilities) + 1)) // Orthanc, a gateway, and one egress gateway
}

// The agent in a pod takes its settings from the environment that the injector makes of the annotation.
func TestInjectedPodsHaveTheirSettings(t *testing.T) {
	g := NewWithT(t)
	c := newCluster(t, nil, "dogwood")
	drains := corev1.EnvVar{Name: "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", Value: "true"}
	for pod, settings := range map[string][]corev1.EnvVar{
		"istio-ingress-0": {drains},
		"istio-egress-0":  {drains},
		"orthanc-0":       {drains, {Name: "ISTIO_META_DNS_CAPTURE", Value: "true"}},
	} {
		spec := as[corev1.Pod](t, c.get("Pod", "dogwood-orthweb", pod)).Spec
		for _, setting := range settings {
			g.Expect(slices.Concat(spec.Containers, spec.InitContainers)).To(ContainElement(And(
				HaveField("Name", "istio-proxy"), HaveField("Env", ContainElement(setting)))), pod)
		}
	}
}
