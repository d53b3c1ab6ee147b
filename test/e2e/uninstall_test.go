// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/hack/stack"
)

// uninstall takes Korthweb out as the guide says: the controller, its rights, the CRDs last. The policies stay: they keep
// what is left of it, and an apiserver that has once heeded a policy with a parameter of a built-in kind, and has none any
// more, does not find the parameter again when the policy is back (seen with 1.36).
func (a *accidents) uninstall(t *testing.T) {
	g := gomega(t)
	g.Expect(a.env.stack.StopProcess(stack.Korthweb)).To(Succeed())
	g.Expect(a.env.stack.UninstallKorthwebRBAC(t.Context())).To(Succeed())
	g.Expect(wipe(a.env.stack.StorageDir())).To(Succeed())
	for _, name := range []string{"tenantrepositories.korthweb.digihunch.com", "tenants.korthweb.digihunch.com"} {
		a.deleteOwnCRD(name)(t)
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
