// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// TestExternalDatabase has a server that somebody else runs, with names and a password of their choice.
func TestExternalDatabase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode    v1alpha1.TLSMode
		host    string // that the Tenant names; the server's certificate is for db.example.com
		ca      bool   // whether the Secret with the CA has that of the server
		problem string // what Orthanc complains of; empty where it starts
	}{
		"verify-full":                       {mode: "verify-full", host: "db.example.com", ca: true},
		"verify-full refuses another name":  {mode: "verify-full", host: "db2.example.com", ca: true, problem: "does not match host name"},
		"verify-full refuses another CA":    {mode: "verify-full", host: "db.example.com", problem: "SSL error"},
		"verify-ca takes any name":          {mode: "verify-ca", host: "db2.example.com", ca: true},
		"require encrypts":                  {mode: "require", host: "db2.example.com"},
		"disable asks a server without TLS": {mode: "disable", host: "db.example.com", problem: "no encryption"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			spec := scanner(t)
			spec.Postgres.Provider = v1alpha1.ExternalPostgres
			spec.Postgres.External = &v1alpha1.ExternalPostgresSpec{
				Host: c.host, Port: 5433, Database: "clinic_index", TLSMode: c.mode,
				SecretRef: meta.LocalObjectReference{Name: "database-login"},
			}
			if c.mode == "verify-full" || c.mode == "verify-ca" {
				spec.Postgres.External.CASecretRef = &meta.LocalObjectReference{Name: "database-ca"}
			}
			tenant := renderTenant(t, "clinic", spec)
			database := startPostgres(t, databaseSpec{
				hosts: []string{"db.example.com"}, database: "clinic_index", owner: "clinic",
				// In a configuration or a URI, these would need quoting.
				password: `p/w@:x y%'"\#?{$PGUSER${PGHOST}`, sql: []string{"CREATE EXTENSION pg_trgm"},
			})
			tenant.secrets["database-login"] = map[string][]byte{"username": []byte("clinic"), "password": []byte(database.password)}
			tenant.secrets["database-ca"] = map[string][]byte{"ca.crt": database.ca}
			if !c.ca {
				tenant.secrets["database-ca"]["ca.crt"], _, _ = serverCertificate(t, []string{c.host})
			}
			o := tenant.newOrthanc(t, "a", newDir(t), database)
			if c.problem == "" {
				o.start(t)
				sent := newStudy(t, 1)
				g.Expect(o.caller("CT1").store(t, sent)).To(Succeed())
				g.Expect(o.instances(t, sent)).To(Equal(sent.instances))
				return
			}
			o.launch(t)
			g.Eventually(o.running.tail).WithTimeout(patience).WithPolling(poll).Should(ContainSubstring(c.problem))
			g.Expect(o.probe(o.container.StartupProbe)).NotTo(Succeed())
		})
	}
}
