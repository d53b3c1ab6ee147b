// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"crypto/rand"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
	validation "github.com/digihunch/korthweb/internal/tenant"
)

// rendered is a tenant with its bundle and the Secrets in its namespace, which are not in the bundle.
type rendered struct {
	tenant  *v1alpha1.Tenant
	bundle  *render.Bundle
	secrets map[string]map[string][]byte
}

// renderTenant renders a tenant and generates the credentials of its users.
func renderTenant(t *testing.T, name string, spec v1alpha1.TenantSpec) *rendered {
	g := NewWithT(t)
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "flux-system"}, Spec: spec}
	tenant.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Tenant"))
	if tenant.Spec.Domain == "" {
		tenant.Spec.Domain = name + ".example.com"
	}
	g.Expect(validation.Validate(tenant)).To(BeEmpty())
	tenant.SetDefaults()
	g.Expect(validation.CheckSpec(tenant)).To(BeEmpty())
	renderer, err := render.New(bundles.FS)
	g.Expect(err).NotTo(HaveOccurred())
	bundle, err := renderer.Render(tenant)
	g.Expect(err).NotTo(HaveOccurred())
	password, err := emit.NewPassword(rand.Reader)
	g.Expect(err).NotTo(HaveOccurred())
	users := emit.Credentials(tenant, password)
	return &rendered{tenant: tenant, bundle: bundle, secrets: map[string]map[string][]byte{users.Name: users.Data}}
}

// get decodes an object of the bundle.
func (r *rendered) get(t *testing.T, kind, name string, into any) {
	for _, layer := range r.bundle.Layers {
		for _, o := range layer.Objects {
			if o.Kind == kind && o.Name == name {
				NewWithT(t).Expect(yaml.Unmarshal(o.YAML(), into)).To(Succeed())
				return
			}
		}
	}
	t.Fatalf("the bundle of %s has no %s %s", r.tenant.Name, kind, name)
}

// secret returns a value of a Secret in the tenant's namespace.
func (r *rendered) secret(t *testing.T, name, key string) []byte {
	value, ok := r.secrets[name][key]
	if !ok {
		t.Fatalf("nobody makes the key %q of Secret %q in this test", key, name)
	}
	return value
}

// cloudNativePG is what its operator reads of a Cluster to make the database of a tenant.
type cloudNativePG struct {
	Spec struct {
		Bootstrap struct {
			InitDB struct {
				Database               string   `json:"database"`
				Owner                  string   `json:"owner"`
				PostInitApplicationSQL []string `json:"postInitApplicationSQL"`
			} `json:"initdb"`
		} `json:"bootstrap"`
		PostgreSQL struct {
			Parameters map[string]string `json:"parameters"`
		} `json:"postgresql"`
	} `json:"spec"`
}

// startDatabase plays CloudNativePG's operator for the tenant's Cluster: it runs the server, and makes the Secrets
// postgres-app and postgres-ca with the keys that a pod of the tenant may use
// (https://cloudnative-pg.io/documentation/current/applications/#secrets).
func (r *rendered) startDatabase(t *testing.T) *postgres {
	var cluster cloudNativePG
	r.get(t, "Cluster", "postgres", &cluster)
	initdb := cluster.Spec.Bootstrap.InitDB
	host, ns := "postgres-rw", r.tenant.Spec.Namespace
	p := startPostgres(t, databaseSpec{
		hosts:      []string{host, host + "." + ns, host + "." + ns + ".svc", host + "." + ns + ".svc.cluster.local"},
		parameters: cluster.Spec.PostgreSQL.Parameters,
		database:   initdb.Database, owner: initdb.Owner,
		sql: initdb.PostInitApplicationSQL,
	})
	r.secrets["postgres-app"] = map[string][]byte{
		corev1.BasicAuthUsernameKey: []byte(p.owner), corev1.BasicAuthPasswordKey: []byte(p.password),
		"host": []byte(host), "port": []byte("5432"), "dbname": []byte(p.database), "user": []byte(p.owner),
	}
	r.secrets["postgres-ca"] = map[string][]byte{"ca.crt": p.ca}
	return p
}
