// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The apiserver bounds a tenant's namespace by what its definition says, and no other's.
func TestQuota(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const ns, other = "quota-small-orthweb", "quota-usual-orthweb"
	f := newFacilities(t, shared, "quota", map[string]string{
		// Orthanc's configuration is one, and kube-controller-manager puts kube-root-ca.crt into every namespace.
		"quota-small.yaml": tenantFile("quota-small", "quota: {hard: {configmaps: 3}, containers: {max: {memory: 4Gi}}}"),
		"quota-usual.yaml": tenantFile("quota-usual"),
	}, allow("spec.quota"))
	g.Eventually(f.ready("quota-small", "quota-usual")).Should(Succeed())

	configMap := func(namespace, name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: objectMeta(namespace, name)}
	}
	g.Expect(f.env.client.Create(t.Context(), configMap(ns, "third"))).To(Succeed())
	err := f.env.client.Create(t.Context(), configMap(ns, "fourth"))
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
	g.Expect(err).To(MatchError(ContainSubstring("exceeded quota: tenant")))
	for _, name := range []string{"third", "fourth"} {
		g.Expect(f.env.client.Create(t.Context(), configMap(other, name))).To(Succeed())
	}

	silent := restrictedPod(ns, corev1.ResourceList{})
	g.Expect(f.env.client.Create(t.Context(), silent, client.DryRunAll)).To(Succeed())
	requests := silent.Spec.Containers[0].Resources.Requests
	g.Expect(requests.Cpu().String()).To(Equal("100m"))
	g.Expect(requests.Memory().String()).To(Equal("128Mi"))
	large := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}
	err = f.env.client.Create(t.Context(), restrictedPod(ns, large), client.DryRunAll)
	g.Expect(err).To(MatchError(ContainSubstring("maximum memory usage per Container is 4Gi")))
	g.Expect(f.env.client.Create(t.Context(), restrictedPod(other, large), client.DryRunAll)).To(Succeed())

	// Pod Security, with what is asked of pods otherwise.
	root := restrictedPod(other, nil)
	root.Spec.SecurityContext = nil
	err = f.env.client.Create(t.Context(), root, client.DryRunAll)
	g.Expect(err).To(MatchError(ContainSubstring(`violates PodSecurity "restricted:latest"`)))
}

// restrictedPod is a pod that Pod Security's level restricted takes.
func restrictedPod(namespace string, limits corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: objectMeta(namespace, "attempt"),
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](999),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "attempt", Image: "registry.example.org/attempt:1",
				Resources: corev1.ResourceRequirements{Limits: limits},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}
