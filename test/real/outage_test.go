// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"testing"

	. "github.com/onsi/gomega"
)

func TestDatabaseStopped(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tenant := renderTenant(t, "clinic", scanner(t))
	database := tenant.startDatabase(t)
	o := tenant.startOrthanc(t, "a", newDir(t), database)
	ct := o.caller("CT1")
	before, during, after := newStudy(t, 2), newStudy(t, 1), newStudy(t, 1)
	g.Expect(ct.store(t, before)).To(Succeed())
	g.Expect(o.probe(o.container.ReadinessProbe)).To(Succeed())
	g.Expect(o.probe(o.container.LivenessProbe)).To(Succeed())

	database.stop(t)
	g.Eventually(func() error { return o.probe(o.container.ReadinessProbe) }).
		WithTimeout(patience).WithPolling(poll).Should(MatchError(ContainSubstring("answers 503")))
	g.Expect(ct.store(t, during)).NotTo(Succeed(), "what cannot be kept must not be acknowledged")
	g.Consistently(func(g Gomega) {
		g.Expect(o.probe(o.container.LivenessProbe)).To(Succeed())
		g.Expect(o.probe(o.container.ReadinessProbe)).NotTo(Succeed())
		g.Expect(o.running.ended()).To(BeFalse(), "Orthanc ended")
	}).WithTimeout(3 * poll * 10).WithPolling(poll).Should(Succeed())

	database.start(t)
	g.Eventually(func() error { return o.probe(o.container.ReadinessProbe) }).
		WithTimeout(patience).WithPolling(poll).Should(Succeed(), o.running.tail)
	g.Expect(o.probe(o.container.LivenessProbe)).To(Succeed())
	g.Expect(o.instances(t, before)).To(Equal(before.instances))
	g.Expect(ct.store(t, after)).To(Succeed())
	g.Expect(ct.store(t, during)).To(Succeed(), "a modality sends again")
	g.Expect(o.instances(t, during)).To(Equal(during.instances))
	g.Expect(o.instances(t, after)).To(Equal(after.instances))
}

// TestDatabaseLater starts Orthanc before its database, as an upgrade of both may.
func TestDatabaseLater(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tenant := renderTenant(t, "clinic", scanner(t))
	database := tenant.startDatabase(t)
	database.stop(t)
	o := tenant.newOrthanc(t, "a", newDir(t), database)
	o.launch(t)
	g.Consistently(func() error { return o.probe(o.container.StartupProbe) }).
		WithTimeout(10 * poll).WithPolling(poll).ShouldNot(Succeed())

	database.start(t)
	g.Eventually(func() error { return o.probe(o.container.StartupProbe) }).
		WithTimeout(patience).WithPolling(poll).Should(Succeed(), o.running.tail)
	g.Expect(o.caller("CT1").echo(t)).To(Succeed())
}

// TestDatabaseOfAnother has servers that are not the tenant's: Orthanc must not tell them its password.
func TestDatabaseOfAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		forge  func(*rendered, *postgres)
		reason string
	}{
		"the certificate is of another CA": {
			func(r *rendered, p *postgres) {
				r.secrets["postgres-ca"]["ca.crt"], _, _ = serverCertificate(t, p.hosts)
			},
			"SSL error",
		},
		"the certificate is for another name": {
			func(r *rendered, p *postgres) {
				ca, cert, key := serverCertificate(t, []string{"postgres-rw.another-orthweb"})
				r.secrets["postgres-ca"]["ca.crt"] = ca
				p.useCertificate(t, cert, key)
			},
			"does not match host name",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := renderTenant(t, "clinic", scanner(t))
			database := tenant.startDatabase(t)
			c.forge(tenant, database)
			o := tenant.newOrthanc(t, "a", newDir(t), database)
			o.launch(t)
			g.Eventually(o.running.tail).WithTimeout(patience).WithPolling(poll).Should(ContainSubstring(c.reason))
			g.Expect(o.probe(o.container.StartupProbe)).NotTo(Succeed())
			g.Expect(database.connections(t)).To(BeZero())
		})
	}
}
