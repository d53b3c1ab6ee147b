// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

// A plain Flux install refuses Korthweb's artifacts. The Tenant says what to switch on, and is ready once
// that is done.
func TestExternalArtifactFeatureGate(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	env := ownEnvironment(t, stack.Options{Workloads: true, Flux: true, WithoutExternalArtifact: true})
	g.Expect(env.stack.StartKorthweb(t.Context(), stack.KorthwebOptions{Binary: korthweb, Registries: []string{env.charts.Host()}})).To(Succeed())
	f := newFacilities(t, env, "gate", map[string]string{"gate.yaml": tenantFile("gate")})

	g.Eventually(func(g Gomega) {
		obj, err := f.get("gate")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.IsFalse(obj, meta.ReadyCondition)).To(BeTrue())
		g.Expect(conditions.GetReason(obj, meta.ReadyCondition)).To(Equal(v1alpha1.FeatureGateDisabledReason))
		g.Expect(conditions.GetMessage(obj, meta.ReadyCondition)).To(Equal(
			"dependency: kustomize-controller refuses Korthweb's bundles: add --feature-gates=ExternalArtifact=true to its arguments"))
		g.Expect(conditions.IsTrue(obj, meta.ReconcilingCondition)).To(BeTrue(), "it is not up to the definition")
	}).Should(Succeed())
	g.Eventually(func() (string, error) {
		obj, err := f.repository()
		if err != nil {
			return "", err
		}
		return conditions.GetMessage(obj, meta.ReadyCondition), nil
	}).Should(Equal("1 tenant: 1 failed (gate)"))

	g.Expect(env.stack.StopProcess(stack.KustomizeController)).To(Succeed())
	g.Expect(env.stack.StartProcess(t.Context(), stack.KustomizeController, "--feature-gates=ExternalArtifact=true")).To(Succeed())
	g.Eventually(f.ready("gate")).Should(Succeed())
}

// Korthweb runs in a cluster without Flux, says what to install, and goes on by itself once it is there.
func TestFluxNotInstalled(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const missing = "install Flux 2.9 or later with source-controller, kustomize-controller and helm-controller"
	env := ownEnvironment(t, stack.Options{WithoutFluxCRDs: true})
	g.Expect(env.stack.StartKorthweb(t.Context(), stack.KorthwebOptions{Binary: korthweb, Registries: []string{env.charts.Host()}})).To(Succeed())
	f := newFacilities(t, env, "early", map[string]string{"early.yaml": tenantFile("early")})
	fromFlux := f.tenantRepository(func(obj *v1alpha1.TenantRepository) {
		obj.Name = "from-flux"
		obj.Spec.Git = nil
		obj.Spec.SourceRef = &v1alpha1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: "tenants"}
	})
	g.Expect(env.client.Create(t.Context(), fromFlux)).To(Succeed())

	g.Eventually(func(g Gomega) {
		obj, err := f.get("early")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.IsFalse(obj, meta.ReadyCondition)).To(BeTrue())
		g.Expect(conditions.GetReason(obj, meta.ReadyCondition)).To(Equal(v1alpha1.FluxNotInstalledReason))
		g.Expect(conditions.GetMessage(obj, meta.ReadyCondition)).To(And(
			ContainSubstring("source.toolkit.fluxcd.io/v1 ExternalArtifact"), ContainSubstring(missing)))

		g.Expect(env.client.Get(t.Context(), client.ObjectKeyFromObject(fromFlux), fromFlux)).To(Succeed())
		g.Expect(conditions.IsFalse(fromFlux, meta.ReadyCondition)).To(BeTrue())
		g.Expect(conditions.GetReason(fromFlux, meta.ReadyCondition)).To(Equal(v1alpha1.FluxNotInstalledReason))
		g.Expect(conditions.GetMessage(fromFlux, meta.ReadyCondition)).To(And(
			ContainSubstring("source.toolkit.fluxcd.io/v1 GitRepository"), ContainSubstring(missing)))
	}).Should(Succeed())
	g.Expect(env.stack.PIDs()).To(HaveKey(stack.Korthweb))

	g.Expect(env.stack.InstallFluxCRDs(t.Context())).To(Succeed())
	g.Eventually(func(g Gomega) {
		ea := &sourcev1.ExternalArtifact{}
		g.Expect(env.client.Get(t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: "early"}, ea)).To(Succeed())
		g.Expect(ea.Status.Artifact).NotTo(BeNil())
		g.Expect(env.client.Get(t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: "early-application"}, &kustomizev1.Kustomization{})).To(Succeed())

		obj, err := f.get("early")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.GetMessage(obj, meta.ReadyCondition)).To(Equal(
			"dependency: Kustomization/flux-system/early-dependency has no status yet: it waits for kustomize-controller"))
		g.Expect(env.client.Get(t.Context(), client.ObjectKeyFromObject(fromFlux), fromFlux)).To(Succeed())
		g.Expect(conditions.GetMessage(fromFlux, meta.ReadyCondition)).To(ContainSubstring("GitRepository flux-system/tenants of spec.sourceRef does not exist"))
	}).Should(Succeed())
}
