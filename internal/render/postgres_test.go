// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// postgresTenant returns a tenant with a database.
func postgresTenant(p v1alpha1.PostgresSpec) *v1alpha1.Tenant {
	tenant := &v1alpha1.Tenant{Spec: v1alpha1.TenantSpec{Domain: "a.example.org", Postgres: p}}
	tenant.Name = "a"
	tenant.SetDefaults()
	return tenant
}

// rendered returns the objects of a tenant by their path in the bundle.
func rendered(t testing.TB, tenant *v1alpha1.Tenant) map[string][]byte {
	t.Helper()
	objects := map[string][]byte{}
	for _, f := range renderFiles(t, newRenderer(t), tenant) {
		objects[f.Path] = f.Data
	}
	return objects
}

func orthancPods(t testing.TB, objects map[string][]byte) corev1.PodSpec {
	t.Helper()
	d := &appsv1.Deployment{}
	NewWithT(t).Expect(yaml.UnmarshalStrict(objects["application/deployment-orthanc.yaml"], d)).To(Succeed())
	return d.Spec.Template.Spec
}

// TestDatabaseConnection shows what each kind of database makes of libpq's environment in Orthanc's container.
func TestDatabaseConnection(t *testing.T) {
	external := func(change func(*v1alpha1.ExternalPostgresSpec)) v1alpha1.PostgresSpec {
		e := &v1alpha1.ExternalPostgresSpec{Host: "db.example.org", SecretRef: meta.LocalObjectReference{Name: "user"}}
		change(e)
		return v1alpha1.PostgresSpec{Provider: v1alpha1.ExternalPostgres, External: e}
	}
	const mounted = "/run/postgres-ca/ca.crt"
	for _, tt := range []struct {
		name     string
		postgres v1alpha1.PostgresSpec
		env      map[string]string // a value, or Secret/key
		caSecret string
	}{
		{"CloudNativePG", v1alpha1.PostgresSpec{}, map[string]string{
			"PGHOST": "postgres-rw", "PGPORT": "5432", "PGDATABASE": "orthanc",
			"PGUSER": "postgres-app/username", "PGPASSWORD": "postgres-app/password",
			"PGSSLMODE": "verify-full", "PGSSLROOTCERT": mounted,
		}, "postgres-ca"},
		{"Bitnami", v1alpha1.PostgresSpec{Provider: v1alpha1.BitnamiPostgres}, map[string]string{
			"PGHOST": "postgres-pgpool", "PGPORT": "5432", "PGDATABASE": "orthanc",
			"PGUSER": "postgres-credentials/username", "PGPASSWORD": "postgres-credentials/password",
			"PGSSLMODE": "verify-full", "PGSSLROOTCERT": mounted,
		}, "postgres-tls"},
		{"external with the CAs of the image", external(func(*v1alpha1.ExternalPostgresSpec) {}), map[string]string{
			"PGHOST": "db.example.org", "PGPORT": "5432", "PGDATABASE": "orthanc", "PGUSER": "user/username", "PGPASSWORD": "user/password",
			"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/etc/ssl/certs/ca-certificates.crt",
		}, ""},
		{"external with a CA", external(func(e *v1alpha1.ExternalPostgresSpec) {
			e.Port, e.Database, e.TLSMode = 6432, "dicom", "verify-ca"
			e.CASecretRef = &meta.LocalObjectReference{Name: "ca"}
		}), map[string]string{
			"PGHOST": "db.example.org", "PGPORT": "6432", "PGDATABASE": "dicom", "PGUSER": "user/username", "PGPASSWORD": "user/password",
			"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": mounted,
		}, "ca"},
		{"external, whatever its certificate", external(func(e *v1alpha1.ExternalPostgresSpec) { e.TLSMode = "require" }), map[string]string{
			"PGHOST": "db.example.org", "PGPORT": "5432", "PGDATABASE": "orthanc", "PGUSER": "user/username", "PGPASSWORD": "user/password",
			"PGSSLMODE": "require",
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := NewWithT(t)
			pods := orthancPods(t, rendered(t, postgresTenant(tt.postgres)))
			c := pods.Containers[0]
			env := map[string]string{}
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					env[e.Name] = e.ValueFrom.SecretKeyRef.Name + "/" + e.ValueFrom.SecretKeyRef.Key
				} else if e.Name[:2] == "PG" && e.ValueFrom == nil {
					env[e.Name] = e.Value
				}
			}
			g.Expect(env).To(Equal(tt.env))

			// Of the Secret of a CA only the certificate may be seen: where Korthweb or the operator made it, it holds a key.
			isCA := func(name string) bool { return name == "postgres-ca" }
			volume := slices.IndexFunc(pods.Volumes, func(v corev1.Volume) bool { return isCA(v.Name) })
			mount := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return isCA(m.Name) })
			if tt.caSecret == "" {
				g.Expect([]int{volume, mount}).To(Equal([]int{-1, -1}))
				return
			}
			g.Expect(pods.Volumes[volume].Secret).To(Equal(&corev1.SecretVolumeSource{
				SecretName: tt.caSecret, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}))
			// Not by subPath, or a renewed CA would not be seen.
			g.Expect(c.VolumeMounts[mount]).To(Equal(corev1.VolumeMount{Name: "postgres-ca", MountPath: "/run/postgres-ca", ReadOnly: true}))
		})
	}
}

// TestDatabaseMemory shows that shared_buffers is a quarter of the memory of an instance, and never more than its
// request, which CloudNativePG would refuse.
func TestDatabaseMemory(t *testing.T) {
	memory := func(m string) map[corev1.ResourceName]resource.Quantity {
		return map[corev1.ResourceName]resource.Quantity{corev1.ResourceMemory: resource.MustParse(m)}
	}
	for _, tt := range []struct {
		name      string
		resources *v1alpha1.ResourceRequirements
		want      string
	}{
		{"defaults", nil, "256MB"},
		{"request below the limit", &v1alpha1.ResourceRequirements{Requests: memory("2Gi"), Limits: memory("8Gi")}, "512MB"},
		{"limit alone", &v1alpha1.ResourceRequirements{Limits: memory("6Gi")}, "1536MB"},
		{"no memory", &v1alpha1.ResourceRequirements{}, "128MB"},
		{"decimal", &v1alpha1.ResourceRequirements{Requests: memory("1G")}, "238MB"},
		{"hardly any", &v1alpha1.ResourceRequirements{Requests: memory("1Mi")}, "1MB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := NewWithT(t)
			parameters := struct {
				Spec struct {
					PostgreSQL struct{ Parameters map[string]string }
				}
			}{}
			objects := rendered(t, postgresTenant(v1alpha1.PostgresSpec{Resources: tt.resources}))
			g.Expect(yaml.Unmarshal(objects["dependency/cluster-postgres.yaml"], &parameters)).To(Succeed())
			g.Expect(parameters.Spec.PostgreSQL.Parameters).To(HaveKeyWithValue("shared_buffers", tt.want))
		})
	}
}

// TestDatabasePolicies shows which ports of the database anybody but Orthanc and the other instances may reach, from
// where, and which ports instances may reach outside of their own.
func TestDatabasePolicies(t *testing.T) {
	backup := &v1alpha1.BackupSpec{DestinationPath: "s3://b/a"}
	toMinIO := &v1alpha1.BackupSpec{
		DestinationPath: "s3://b/a", Endpoint: "https://minio.example.org:9000", SecretRef: &meta.LocalObjectReference{Name: "s"},
	}
	operator := map[string][]int{"cnpg-system": {8000, 5432}}
	for _, tt := range []struct {
		name    string
		spec    v1alpha1.TenantSpec
		ingress map[string][]int // by namespace
		egress  map[string][]int // by the first address
	}{
		{"alone", v1alpha1.TenantSpec{}, operator, map[string][]int{"0.0.0.0/0": {443, 6443}}},
		{"with backups by identity", v1alpha1.TenantSpec{Postgres: v1alpha1.PostgresSpec{Backup: backup}}, operator,
			map[string][]int{"0.0.0.0/0": {443, 6443, 443}, "169.254.170.23/32": {80}}},
		{"with backups by key", v1alpha1.TenantSpec{Postgres: v1alpha1.PostgresSpec{Backup: toMinIO}}, operator,
			map[string][]int{"0.0.0.0/0": {443, 6443, 9000}}},
		{"with a monitor", v1alpha1.TenantSpec{Monitoring: v1alpha1.MonitoringSpec{Provider: v1alpha1.PrometheusOperator}},
			map[string][]int{"cnpg-system": {8000, 5432}, "monitoring": {9187}}, map[string][]int{"0.0.0.0/0": {443, 6443}}},
		{"Bitnami", v1alpha1.TenantSpec{Postgres: v1alpha1.PostgresSpec{Provider: v1alpha1.BitnamiPostgres}}, map[string][]int{}, map[string][]int{}},
		{"Bitnami with a monitor", v1alpha1.TenantSpec{
			Postgres:   v1alpha1.PostgresSpec{Provider: v1alpha1.BitnamiPostgres},
			Monitoring: v1alpha1.MonitoringSpec{Provider: v1alpha1.PrometheusOperator},
		}, map[string][]int{"monitoring": {9187}}, map[string][]int{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := postgresTenant(tt.spec.Postgres)
			tenant.Spec.Monitoring = tt.spec.Monitoring
			tenant.SetDefaults()
			objects := rendered(t, tenant)
			policy := &networkingv1.NetworkPolicy{}
			g.Expect(yaml.UnmarshalStrict(objects["dependency/networkpolicy-postgres.yaml"], policy)).To(Succeed())
			g.Expect(policy.Spec.PolicyTypes).To(ConsistOf(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress))
			ports := func(list []networkingv1.NetworkPolicyPort) (out []int) {
				for _, p := range list {
					out = append(out, p.Port.IntValue())
				}
				return out
			}
			ingress, egress := map[string][]int{}, map[string][]int{}
			for _, rule := range policy.Spec.Ingress {
				g.Expect(rule.From).NotTo(BeEmpty(), "who")
				g.Expect(rule.Ports).NotTo(BeEmpty(), "which port")
				if ns := rule.From[0].NamespaceSelector; ns != nil {
					name := ns.MatchLabels["kubernetes.io/metadata.name"]
					ingress[name] = append(ingress[name], ports(rule.Ports)...)
				}
			}
			for _, rule := range policy.Spec.Egress {
				g.Expect(rule.To).NotTo(BeEmpty(), "to whom")
				g.Expect(rule.Ports).NotTo(BeEmpty(), "which port")
				if ip := rule.To[0].IPBlock; ip != nil {
					egress[ip.CIDR] = append(egress[ip.CIDR], ports(rule.Ports)...)
				}
			}
			g.Expect(ingress).To(Equal(tt.ingress))
			g.Expect(egress).To(Equal(tt.egress))
		})
	}
}

// TestSingleInstanceMayMove shows that the one instance of a database does not keep its node from being drained, and
// that of several the primary is kept.
func TestSingleInstanceMayMove(t *testing.T) {
	for instances, want := range map[int32]*bool{1: ptr.To(false), 2: nil} {
		g := NewWithT(t)
		cluster := struct {
			Spec struct{ EnablePDB *bool }
		}{}
		objects := rendered(t, postgresTenant(v1alpha1.PostgresSpec{Instances: &instances}))
		g.Expect(yaml.Unmarshal(objects["dependency/cluster-postgres.yaml"], &cluster)).To(Succeed())
		g.Expect(cluster.Spec.EnablePDB).To(Equal(want), "%d instances", instances)
	}
}

// TestDatabaseObjects shows that a tenant has the objects of its own kind of database and of no other.
func TestDatabaseObjects(t *testing.T) {
	of := map[string][]string{
		"CloudNativePG": {"dependency/cluster-postgres.yaml"},
		"Bitnami":       {"dependency/helmrelease-postgres.yaml", "dependency/ocirepository-postgres.yaml", "dependency/certificate-postgres-tls.yaml"},
		"External":      nil,
	}
	all := slices.Concat(slices.Collect(maps.Values(of))...)
	for provider, want := range of {
		t.Run(provider, func(t *testing.T) {
			p := v1alpha1.PostgresSpec{Provider: v1alpha1.PostgresProvider(provider)}
			if provider == "External" {
				p.External = &v1alpha1.ExternalPostgresSpec{Host: "db.example.org", SecretRef: meta.LocalObjectReference{Name: "user"}}
			}
			objects := rendered(t, postgresTenant(p))
			var got []string
			for _, path := range all {
				if _, ok := objects[path]; ok {
					got = append(got, path)
				}
			}
			NewWithT(t).Expect(got).To(ConsistOf(want))
		})
	}
}
