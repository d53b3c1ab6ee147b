// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// A push becomes tenants, artifacts, Kustomizations and a HelmRelease, and their health comes back.
func TestPushBecomesReadyTenants(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	f := newFacilities(t, shared, "pipeline", map[string]string{
		"pipeline-one.yaml": tenantFile("pipeline-one"),
		"pipeline-two.yaml": tenantFile("pipeline-two"),
	})
	g.Eventually(f.ready("pipeline-one", "pipeline-two")).Should(Succeed())

	one, err := f.get("pipeline-one")
	g.Expect(err).NotTo(HaveOccurred())
	for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
		k, err := f.layer("pipeline-one", layer)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(k.Status.LastAppliedRevision).To(Equal(one.Status.Artifact.Revision))
		g.Expect(k.Spec.ServiceAccountName).To(Equal("pipeline-one-applier"))
	}
	g.Expect(one.Status.LastAppliedRevision).To(Equal(one.Status.Artifact.Revision))

	g.Eventually(func(g Gomega) {
		repository, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.GetMessage(repository, meta.ReadyCondition)).To(Equal("2 tenants: 2 ready"))
		g.Expect(conditions.IsReady(repository)).To(BeTrue())
		g.Expect(repository.Status.Tenants).To(Equal(v1alpha1.TenantCounts{Total: 2, Ready: 2}))
	}).Should(Succeed())
}
