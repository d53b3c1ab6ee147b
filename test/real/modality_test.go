// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// modality returns one with a port on which nothing listens.
func modality(t *testing.T, name, aeTitle string, permissions ...v1alpha1.Permission) v1alpha1.Modality {
	return v1alpha1.Modality{
		Name: name, AETitle: v1alpha1.AETitle(aeTitle), Host: "10.20.0.11", Port: int32(freePort(t)), Permissions: permissions,
	}
}

// scanner is a tenant's specification with one modality, CT1, that may do what a modality may by default.
func scanner(t *testing.T) v1alpha1.TenantSpec {
	spec := v1alpha1.TenantSpec{}
	spec.Orthanc.AETitle = "FACILITY"
	spec.Orthanc.Modalities = []v1alpha1.Modality{modality(t, "ct-1", "CT1")}
	return spec
}

func TestStudyOfDeclaredModality(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tenant := renderTenant(t, "clinic", scanner(t))
	database := tenant.startDatabase(t)
	storage := newDir(t)
	o := tenant.startOrthanc(t, "a", storage, database)
	ct := o.caller("CT1")
	sent := newStudy(t, 3)
	g.Expect(ct.echo(t)).To(Succeed())
	g.Expect(ct.store(t, sent)).To(Succeed())

	t.Run("is found by REST", func(t *testing.T) {
		NewWithT(t).Expect(o.instances(t, sent)).To(Equal(sent.instances))
	})
	t.Run("is found and read by DICOMweb", func(t *testing.T) {
		g := NewWithT(t)
		var found []map[string]struct{ Value []any }
		o.ask(t, http.MethodGet, "/dicom-web/studies?StudyInstanceUID="+sent.uid, "", &found)
		g.Expect(found).To(HaveLen(1))
		g.Expect(found[0]["0020000D"].Value).To(ConsistOf(sent.uid))
		g.Expect(found[0]["00201208"].Value).To(ConsistOf(BeNumerically("==", 3)), "Number of Study Related Instances")
		o.ask(t, http.MethodGet, "/dicom-web/studies/"+sent.uid+"/metadata", "", &found)
		g.Expect(found).To(HaveLen(3), "instances")
		o.ask(t, http.MethodGet, "/dicom-web/studies?StudyInstanceUID="+newUID(t), "", &found)
		g.Expect(found).To(BeEmpty())
	})
	t.Run("is on the volume", func(t *testing.T) {
		NewWithT(t).Expect(stored(t, storage)).To(HaveLen(3))
	})
	t.Run("is in the index, over verified TLS", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(database.query(t, database.database, "SELECT count(*) FROM resources WHERE resourcetype = 3")).To(Equal([]string{"3"}))
		g.Expect(database.query(t, "postgres", "SELECT DISTINCT usename, ssl, client_addr FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL")).
			To(Equal([]string{database.owner + "|t|127.0.0.1"}))
		g.Expect(o.env).To(HaveKeyWithValue("PGSSLMODE", "verify-full"))
	})
	t.Run("a second time is the same study", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(ct.store(t, sent)).To(Succeed())
		g.Expect(o.instances(t, sent)).To(Equal(sent.instances))
	})

	refused := newStudy(t, 1)
	for name, c := range map[string]caller{
		"an undeclared AE title":        o.caller("CT2"),
		"no AE title of the caller":     o.caller("ANY-SCU"),
		"Orthanc's own AE title":        o.caller("FACILITY"),
		"another AE title being called": {aeTitle: "CT1", to: o, called: "ORTHANC"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(c.echo(t)).To(MatchError(ContainSubstring("Association Rejected")))
			g.Expect(c.store(t, refused)).To(MatchError(ContainSubstring("Association Rejected")))
			g.Expect(o.instances(t, refused)).To(BeEmpty())
		})
	}

	for name, login := range map[string][2]string{
		"no password":               {"", ""},
		"a wrong password":          {o.login, "orthanc"},
		"an unknown user":           {"orthanc", o.password},
		"Orthanc's default account": {"orthanc", "orthanc"},
	} {
		t.Run("REST with "+name+" is refused", func(t *testing.T) {
			g := NewWithT(t)
			for _, path := range []string{"/", "/system", "/studies", "/dicom-web/studies", "/tools/metrics-prometheus", "/app/explorer.html"} {
				status, body, err := o.request(patience, http.MethodGet, path, nil, login[0], login[1])
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(status).To(Equal(http.StatusUnauthorized), "%s: %s", path, body)
			}
		})
	}

	t.Run("what is not a DICOM file is refused", func(t *testing.T) {
		g := NewWithT(t)
		whole, err := os.ReadFile(sent.file(sent.instances[0]))
		g.Expect(err).NotTo(HaveOccurred())
		before := o.fetch(t, http.MethodGet, "/statistics", "")
		for name, data := range map[string][]byte{"empty": {}, "text": []byte("no image"), "cut off in its header": whole[:200]} {
			status, _, err := o.request(patience, http.MethodPost, "/instances", data, o.login, o.password)
			g.Expect(err).NotTo(HaveOccurred(), name)
			g.Expect(status).To(Equal(http.StatusBadRequest), name)
		}
		g.Expect(o.fetch(t, http.MethodGet, "/statistics", "")).To(Equal(before))
	})

	t.Run("Lua and the file system are closed to users", func(t *testing.T) {
		g := NewWithT(t)
		for path, body := range map[string]string{
			"/tools/execute-script":                               "print(1)",
			"/instances/" + o.ids(t, "/instances")[0] + "/export": o.path("/tmp/out"),
		} {
			status, _, err := o.request(patience, http.MethodPost, path, []byte(body), o.login, o.password)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(status).To(Equal(http.StatusForbidden), path)
		}
	})
}

// ids are those of the resources that a path lists.
func (o *orthanc) ids(t *testing.T, path string) []string {
	var ids []string
	g := NewWithT(t)
	g.Expect(json.Unmarshal(o.fetch(t, http.MethodGet, path, ""), &ids)).To(Succeed())
	return ids
}
