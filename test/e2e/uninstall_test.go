// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/hack/stack"
)

// uninstall takes Korthweb out in the order of the guide: the controller, its rights and policies, the CRDs last.
func (a *accidents) uninstall(t *testing.T) {
	g := gomega(t)
	g.Expect(a.env.stack.StopProcess(stack.Korthweb)).To(Succeed())
	g.Expect(a.env.stack.UninstallKorthwebRBAC(t.Context())).To(Succeed())
	g.Expect(wipe(a.env.stack.StorageDir())).To(Succeed())
	for _, name := range []string{"tenantrepositories.korthweb.digihunch.com", "tenants.korthweb.digihunch.com"} {
		// The policy is gone, and the apiserver heeds that a moment later.
		g.Eventually(func() error { return a.env.client.Delete(t.Context(), crd(name)) }).Should(Succeed())
		g.Eventually(a.f.gone(crd(name))).Should(Succeed())
	}
}

// install installs Korthweb again, with the same TenantRepository.
func (a *accidents) install(t *testing.T) {
	g := gomega(t)
	a.installCRDs(t)
	g.Expect(a.env.stack.InstallKorthwebRBAC(t.Context(), a.env.charts.Host())).To(Succeed())
	_, _, err := a.env.stack.ServiceAccountConfig(t.Context(), stack.FluxNamespace, stack.Korthweb)
	g.Expect(err).NotTo(HaveOccurred()) // the account is another, so its token is
	g.Expect(a.env.stack.StartProcess(t.Context(), stack.Korthweb)).To(Succeed())
	a.createRepository(t)
	a.stall(t)
}
