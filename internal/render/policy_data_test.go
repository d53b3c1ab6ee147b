// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// databaseMistakes are of the database, and of what Orthanc keeps in it.
var databaseMistakes = []mistake{
	{
		name: "pixels in PostgreSQL",
		check: func(b *bundle) []string {
			var l list
			asked := b.tenant.Spec.Orthanc.Storage.Type == v1alpha1.DatabaseStorage
			l.unless(get(b.config(), "PostgreSQL", "EnableStorage") == asked, "EnableStorage is %v", get(b.config(), "PostgreSQL", "EnableStorage"))
			l.unless(get(b.config(), "PostgreSQL", "EnableIndex") == true, "EnableIndex is %v", get(b.config(), "PostgreSQL", "EnableIndex"))
			claim := b.find("PersistentVolumeClaim", "orthanc-storage").GetName() != ""
			l.unless(claim == (b.tenant.Spec.Orthanc.Storage.Type == v1alpha1.VolumeStorage), "a volume for images: %t", claim)
			s3 := b.config()["AwsS3Storage"] != nil
			l.unless(s3 == (b.tenant.Spec.Orthanc.Storage.Type == v1alpha1.S3Storage), "a bucket for images: %t", s3)
			return l
		},
		again: []func(*bundle) bool{
			func(b *bundle) bool {
				return b.tenant.Spec.Orthanc.Storage.Type != v1alpha1.DatabaseStorage && inConfig(true, "PostgreSQL", "EnableStorage")(b)
			},
			without("PersistentVolumeClaim", "orthanc-storage"),
		},
	},
	{
		name: "connecting as the postgres superuser",
		check: func(b *bundle) []string {
			var l list
			user := b.env("PGUSER")
			l.unless(user.ValueFrom != nil && user.ValueFrom.SecretKeyRef != nil && user.ValueFrom.SecretKeyRef.Key == "username", "Orthanc connects as %q", user.Value)
			for _, o := range b.all("Cluster") {
				l.unless(get(o.Object, "spec", "enableSuperuserAccess") == false, "the superuser has a password")
				owner := get(o.Object, "spec", "bootstrap", "initdb", "owner")
				l.unless(owner != nil && owner != "postgres", "the owner is %v", owner)
			}
			if b.tenant.Spec.Postgres.Provider == v1alpha1.BitnamiPostgres {
				owner := get(b.find("HelmRelease", "postgres").Object, "spec", "values", "postgresql", "username")
				l.unless(owner != nil && owner != "postgres", "the owner is %v", owner)
			}
			return l
		},
		again: []func(*bundle) bool{
			func(b *bundle) bool { return replaceEnv(b, "PGUSER", map[string]any{"value": "postgres"}) },
			in("Cluster", "postgres", true, "spec", "enableSuperuserAccess"),
			in("Cluster", "postgres", "postgres", "spec", "bootstrap", "initdb", "owner"),
			func(b *bundle) bool {
				return b.tenant.Spec.Postgres.Provider == v1alpha1.BitnamiPostgres &&
					in("HelmRelease", "postgres", "postgres", "spec", "values", "postgresql", "username")(b)
			},
		},
	},
	{
		name: "a connection that nobody verified",
		check: func(b *bundle) []string {
			var l list
			want := "verify-full"
			if e := b.tenant.Spec.Postgres.External; e != nil {
				want = string(e.TLSMode)
			}
			l.unless(b.env("PGSSLMODE").Value == want, "PGSSLMODE is %q", b.env("PGSSLMODE").Value)
			e := b.tenant.Spec.Postgres.External
			if file := b.env("PGSSLROOTCERT").Value; e == nil || e.CASecretRef != nil {
				mounted := slices.ContainsFunc(b.orthanc().VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(file, m.MountPath+"/") })
				l.unless(mounted, "PGSSLROOTCERT %s is not mounted", file)
			}
			return l
		},
		again: []func(*bundle) bool{
			func(b *bundle) bool { return replaceEnv(b, "PGSSLMODE", map[string]any{"value": "disable"}) },
			func(b *bundle) bool {
				return replaceEnv(b, "PGSSLROOTCERT", map[string]any{"value": "/elsewhere/ca.crt"})
			},
		},
	},
	{
		name: "replicas that share a server's name",
		check: func(b *bundle) []string {
			var l list
			l.unless(b.config()["DatabaseServerIdentifier"] == "${DATABASE_SERVER_IDENTIFIER}", "it is %v", b.config()["DatabaseServerIdentifier"])
			id := b.env("DATABASE_SERVER_IDENTIFIER")
			one := b.tenant.Spec.Orthanc.Replicas != nil && *b.tenant.Spec.Orthanc.Replicas == 1
			byNode := id.ValueFrom != nil && id.ValueFrom.FieldRef != nil && id.ValueFrom.FieldRef.FieldPath == "spec.nodeName"
			l.unless(one && id.Value != "" || !one && byNode, "a replica is %q", id.Value)
			affinity := b.deployment().Spec.Template.Spec.Affinity
			apart := affinity != nil && affinity.PodAntiAffinity != nil &&
				slices.ContainsFunc(affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, func(term corev1.PodAffinityTerm) bool {
					return term.TopologyKey == corev1.LabelHostname
				})
			l.unless(one || apart, "two replicas may be on one node")
			l.unless(b.deployment().Spec.Strategy.Type == "Recreate", "two versions may use one schema")
			l.unless(one || get(b.config(), "PostgreSQL", "Lock") == false, "a replica locks the database")
			return l
		},
		again: []func(*bundle) bool{
			func(b *bundle) bool {
				return len(b.all("HorizontalPodAutoscaler")) > 0 && replaceEnv(b, "DATABASE_SERVER_IDENTIFIER", map[string]any{"value": "orthanc"})
			},
			func(b *bundle) bool { return len(b.all("HorizontalPodAutoscaler")) > 0 && pod(nil, "affinity")(b) },
			in("Deployment", "orthanc", map[string]any{"type": "RollingUpdate"}, "spec", "strategy"),
			inConfig("orthanc", "DatabaseServerIdentifier"),
		},
	},
	{
		name: "data pruned with its tenant",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.all("PersistentVolumeClaim", "Cluster", "ObjectStore") {
				l.unless(o.GetAnnotations()["kustomize.toolkit.fluxcd.io/prune"] == "disabled", "Flux prunes %s", title(o))
			}
			return l
		},
		again: []func(*bundle) bool{
			in("PersistentVolumeClaim", "", map[string]any{}, "metadata", "annotations"),
			in("Cluster", "", map[string]any{}, "metadata", "annotations"),
		},
	},
	{
		name: "Helm chart that makes a new CA at each upgrade",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.all("HelmRelease") {
				l.unless(!contains(o, "autogenerated"), "%s lets its chart make certificates", title(o))
			}
			if b.tenant.Spec.Postgres.Provider == v1alpha1.BitnamiPostgres {
				for _, part := range []string{"postgresql", "pgpool"} {
					values := get(b.find("HelmRelease", "postgres").Object, "spec", "values", part)
					l.unless(get(values, "tls", "certificatesSecret") == "postgres-tls", "%s has the certificates %v", part, get(values, "tls"))
					l.unless(get(values, "existingSecret") == "postgres-credentials", "%s makes passwords anew", part)
				}
			}
			rotation := get(b.find("Certificate", "tenant-ca").Object, "spec", "privateKey", "rotationPolicy")
			l.unless(rotation == "Never", "the CA's key is rotated: %v", rotation)
			return l
		},
		again: []func(*bundle) bool{
			in("HelmRelease", "postgres", map[string]any{"enabled": true, "autoGenerated": true}, "spec", "values", "postgresql", "tls"),
			in("HelmRelease", "postgres", nil, "spec", "values", "pgpool", "existingSecret"),
			in("Certificate", "tenant-ca", "Always", "spec", "privateKey", "rotationPolicy"),
		},
	},
}

// replaceEnv replaces a variable of Orthanc's container.
func replaceEnv(b *bundle, name string, with map[string]any) bool {
	env, _ := get(b.find("Deployment", "orthanc").Object, "spec", "template", "spec", "containers", 0, "env").([]any)
	for i, e := range env {
		if get(e, "name") == name {
			with["name"] = name
			env[i] = with
			return true
		}
	}
	return false
}

// certificateMistakes are of the tenant's CA and what it signs.
var certificateMistakes = []mistake{
	{
		name: `an "intermediate" CA that is a self-signed root with the lifetime of its leaves`,
		check: func(b *bundle) []string {
			var l list
			ca := b.find("Certificate", "tenant-ca")
			l.unless(get(ca.Object, "spec", "isCA") == true, "tenant-ca is no CA")
			l.unless(get(b.find("Issuer", "tenant-ca").Object, "spec", "ca", "secretName") == get(ca.Object, "spec", "secretName"), "the issuer signs with something else")
			for _, o := range b.all("Certificate") {
				if o.GetName() == "tenant-ca" {
					continue
				}
				// cert-manager does not issue a leaf anew when the CA changes.
				l.unless(duration(o, "duration") < duration(ca, "duration"), "%s lives as long as its CA", title(o))
				l.unless(duration(o, "duration")-duration(o, "renewBefore") <= duration(ca, "renewBefore"), "the CA may end before %s is renewed", title(o))
				l.unless(get(o.Object, "spec", "isCA") != true, "%s is a CA", title(o))
				own := get(o.Object, "spec", "issuerRef", "name") == "tenant-ca" && get(o.Object, "spec", "issuerRef", "kind") == "Issuer"
				l.unless(own || o.GetName() == "web-tls" && b.tenant.Spec.Certificates.IssuerRef != nil, "%s is signed by %v", title(o), get(o.Object, "spec", "issuerRef"))
			}
			return l
		},
		again: []func(*bundle) bool{
			in("Certificate", "tenant-ca", "24h", "spec", "renewBefore"),
			in("Certificate", "tenant-ca", "2160h", "spec", "duration"),
			in("Certificate", "dicom-tls", "self-signed", "spec", "issuerRef", "name"),
			in("Certificate", "dicom-tls", true, "spec", "isCA"),
			in("Issuer", "tenant-ca", map[string]any{"selfSigned": map[string]any{}}, "spec"),
		},
	},
	{
		name: "one Secret for web and DICOM",
		check: func(b *bundle) []string {
			var l list
			seen := map[any]string{}
			for _, o := range b.all("Certificate") {
				secret := get(o.Object, "spec", "secretName")
				l.unless(secret != nil && seen[secret] == "", "%s and %s share %v", title(o), seen[secret], secret)
				seen[secret] = title(o)
			}
			if b.istio() {
				l.unless(get(b.find("Gateway", "web-gw").Object, "spec", "servers", 0, "tls", "credentialName") == "web-tls", "the web port shows another certificate")
				l.unless(get(b.find("Gateway", "dcm-gw").Object, "spec", "servers", 0, "tls", "credentialName") == "dicom-tls", "the DICOM port shows another certificate")
				return l
			}
			l.unless(get(b.find("IngressRoute", "web").Object, "spec", "tls", "secretName") == "web-tls", "the web port shows another certificate")
			l.unless(get(b.find("IngressRouteTCP", "dicom").Object, "spec", "tls", "secretName") == "dicom-tls", "the DICOM port shows another certificate")
			return l
		},
		again: []func(*bundle) bool{
			in("Certificate", "dicom-tls", "web-tls", "spec", "secretName"),
			in("Gateway", "dcm-gw", "web-tls", "spec", "servers", 0, "tls", "credentialName"),
			in("IngressRouteTCP", "dicom", "web-tls", "spec", "tls", "secretName"),
		},
	},
	{
		name: "the CA key exported to sign clients",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.objects() {
				certManager := o.GroupVersionKind().Group == "cert-manager.io"
				texts(get(o.Object, "spec"), title(o), func(path, text string) {
					l.unless(certManager || text != "tenant-ca", "%s names the CA's Secret", path)
				})
			}
			required := b.tenant.Spec.Ingress.DICOM.ClientCertificates == v1alpha1.ClientCertificatesRequired
			for _, m := range b.tenant.Spec.Orthanc.Modalities {
				usages, _ := get(b.find("Certificate", "modality-"+m.Name).Object, "spec", "usages").([]any)
				l.unless(required == slices.Contains(usages, any("client auth")), "the certificate of modality %s is for %v", m.Name, usages)
				l.unless(!slices.Contains(usages, any("server auth")), "modality %s can pose as a server", m.Name)
			}
			return l
		},
		again: []func(*bundle) bool{
			pod(map[string]any{"name": "ca", "secret": map[string]any{"secretName": "tenant-ca"}}, "volumes", 0),
			without("Certificate", "modality-ct-1"),
			in("Certificate", "modality-ct-1", []any{"server auth"}, "spec", "usages"),
		},
	},
}

func duration(o object, field string) time.Duration {
	text, _ := get(o.Object, "spec", field).(string)
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(title(o) + ": " + err.Error())
	}
	return d
}
