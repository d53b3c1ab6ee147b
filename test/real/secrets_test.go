// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// TestPasswordsAreNotShown looks for the passwords of the database and of a user where others than Orthanc can read.
func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tenant := renderTenant(t, "clinic", scanner(t))
	database, storage := tenant.startDatabase(t), newDir(t)
	o := tenant.startOrthanc(t, "a", storage, database)
	g.Expect(o.caller("CT1").store(t, newStudy(t, 1))).To(Succeed())
	status, _, err := o.request(patience, http.MethodGet, "/system", nil, o.login, "wrong")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(status).To(Equal(http.StatusUnauthorized))
	// What goes wrong is logged at length.
	database.stop(t)
	g.Eventually(func() error { return o.probe(o.container.ReadinessProbe) }).WithTimeout(patience).WithPolling(poll).ShouldNot(Succeed())
	database.start(t)
	g.Eventually(func() error { return o.probe(o.container.ReadinessProbe) }).WithTimeout(patience).WithPolling(poll).Should(Succeed())

	places := map[string][]byte{
		"the bundle":               tenant.bundle.YAML(),
		"what Orthanc says":        append(o.fetch(t, http.MethodGet, "/system", ""), o.fetch(t, http.MethodGet, "/plugins", "")...),
		"the process's arguments":  read(t, fmt.Sprintf("/proc/%d/cmdline", o.running.pid)),
		"Orthanc's log":            read(t, o.running.log),
		"PostgreSQL's log":         read(t, database.running.log),
		"what the database stores": []byte(fmt.Sprint(database.query(t, database.database, "SELECT * FROM globalproperties"))),
	}
	for _, file := range stored(t, o.path("/etc/orthanc")) {
		places["the ConfigMap's "+file] = read(t, o.path("/etc/orthanc")+file)
	}
	g.Expect(places).To(HaveKey("the ConfigMap's /orthanc.json"))
	for place, text := range places {
		g.Expect(text).NotTo(BeEmpty(), place)
		g.Expect(string(text)).NotTo(ContainSubstring(o.password), place)
		g.Expect(string(text)).NotTo(ContainSubstring(database.password), place)
	}
	// The merged configuration is where only the container's memory is.
	info, err := os.Stat(o.configFile())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o400)))
}

func TestUsersOfPlatform(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	spec := scanner(t)
	spec.Orthanc.UsersSecretRef = &meta.LocalObjectReference{Name: "staff"}
	tenant := renderTenant(t, "clinic", spec)
	generated := tenant.secrets["orthanc-users"]
	tenant.secrets = map[string]map[string][]byte{"staff": {
		"users.json": []byte(`{"RegisteredUsers": {"reader": "one two", "technician": "d\"r\u0024ei"}}`),
		// Only users.json is the container's business.
		"extra.json": []byte(`{"AuthenticationEnabled": false}`),
	}}
	o := tenant.startOrthanc(t, "a", newDir(t), tenant.startDatabase(t))
	for _, c := range []struct {
		user, password string
		status         int
	}{
		{"reader", "one two", http.StatusOK},
		{"technician", `d"r$ei`, http.StatusOK}, // written so that the image does not take it for a variable
		{"reader", "", http.StatusUnauthorized},
		{"", "", http.StatusUnauthorized},
		{"admin", string(generated["password"]), http.StatusUnauthorized},
	} {
		status, _, err := o.request(patience, http.MethodGet, "/studies", nil, c.user, c.password)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(status).To(Equal(c.status), c.user)
	}
}

// TestConfigOfPlatform has an option that no field of the Tenant is for.
func TestConfigOfPlatform(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	spec := scanner(t)
	spec.Orthanc.Config = &apiextensionsv1.JSON{Raw: []byte(`{"OverwriteInstances": true, "UserMetadata": {"reader": 1024}, "DicomWeb": {"StudiesMetadata": "MainDicomTags"}}`)}
	tenant := renderTenant(t, "clinic", spec)
	o := tenant.startOrthanc(t, "a", newDir(t), tenant.startDatabase(t))
	g.Expect(o.config).To(HaveKeyWithValue("OverwriteInstances", true))
	sent := newStudy(t, 1)
	g.Expect(o.caller("CT1").store(t, sent)).To(Succeed())
	var found []any
	o.ask(t, http.MethodGet, "/dicom-web/studies", "", &found)
	g.Expect(found).To(HaveLen(1))
	study := o.ids(t, "/studies")[0]
	status, _, err := o.request(patience, http.MethodPut, "/studies/"+study+"/metadata/reader", []byte("Dr"), o.login, o.password)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(status).To(Equal(http.StatusOK))
	g.Expect(string(o.fetch(t, http.MethodGet, "/studies/"+study+"/metadata/reader", ""))).To(Equal("Dr"))
}

func read(t *testing.T, path string) []byte {
	data, err := os.ReadFile(path)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return data
}
