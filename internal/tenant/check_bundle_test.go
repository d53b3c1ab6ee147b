// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

const (
	s3Storage = "orthanc: {storage: {type: S3, s3: {bucket: images, region: eu-central-1%s}}}"
	external  = "postgres: {provider: External, external: {host: pg.example.com, secretRef: {name: db}%s}}"
)

func with(text, more string) string { return strings.Replace(text, "%s", more, 1) }

func modality(name, title, host string) string {
	return "{name: " + name + ", aeTitle: '" + title + "', host: '" + host + "', port: 104}"
}

// TestLoadContradictions holds that options that do not go together are refused, by the field to mend.
func TestLoadContradictions(t *testing.T) {
	for name, tc := range map[string]struct{ spec, field, text string }{
		"replicas and autoscaler":      {"orthanc: {replicas: 2, autoscaling: {maxReplicas: 3}}", "spec.orthanc", "exclude each other"},
		"one AE title twice":           {"orthanc: {modalities: [" + modality("a", "CT", "a.example") + ", " + modality("b", " CT ", "b.example") + "]}", "spec.orthanc.modalities[1].aeTitle", "is the AE title of modality a too"},
		"one AE title in other case":   {"orthanc: {modalities: [" + modality("a", "CT", "a.example") + ", " + modality("b", "ct", "b.example") + "]}", "spec.orthanc.modalities[1].aeTitle", "is the AE title of modality a too"},
		"one modality twice":           {"orthanc: {modalities: [" + modality("a", "CT", "a.example") + ", " + modality("a", "MR", "b.example") + "]}", "spec.orthanc.modalities[1]", "Duplicate value"},
		"a modality at the pod":        {"orthanc: {modalities: [" + modality("a", "CT", "127.0.0.1") + "]}", "spec.orthanc.modalities[0].host", "name the other machine"},
		"a modality at the metadata":   {"orthanc: {modalities: [" + modality("a", "CT", "169.254.169.254") + "]}", "spec.orthanc.modalities[0].host", "link-local"},
		"a modality at no address":     {"orthanc: {modalities: [" + modality("a", "CT", "0.0.0.0") + "]}", "spec.orthanc.modalities[0].host", "unspecified"},
		"a modality with its port":     {"orthanc: {modalities: [" + modality("a", "CT", "ct.example.com:104") + "]}", "spec.orthanc.modalities[0].host", "without a port"},
		"a modality of four numbers":   {"orthanc: {modalities: [" + modality("a", "CT", "10.0.0.300") + "]}", "spec.orthanc.modalities[0].host", "IP address or a DNS name"},
		"a modality at two numbers":    {"orthanc: {modalities: [" + modality("a", "CT", "127.1") + "]}", "spec.orthanc.modalities[0].host", "IP address or a DNS name"},
		"metadata of AWS over IPv6":    {"ingress: {egress: {hosts: [{host: 'fd00:ec2:0::254', port: 80}]}}", "spec.ingress.egress.hosts[0].host", "serves the machine's credentials"},
		"a modality in hexadecimal":    {"orthanc: {modalities: [" + modality("a", "CT", "0xa9fea9fe") + "]}", "spec.orthanc.modalities[0].host", "IP address or a DNS name"},
		"metadata of Azure":            {"ingress: {egress: {hosts: [{host: 168.63.129.16, port: 80}]}}", "spec.ingress.egress.hosts[0].host", "serves the machine's credentials"},
		"metadata as S3":               {with(s3Storage, ", endpoint: 'https://169.254.169.254:80'"), "spec.orthanc.storage.s3.endpoint", "link-local"},
		"S3 at no port":                {with(s3Storage, ", endpoint: 'https://minio.example.com:99999'"), "spec.orthanc.storage.s3.endpoint", "1 to 65535"},
		"S3 of AWS by name":            {with(s3Storage, ", endpoint: 'https://s3.eu-central-1.amazonaws.com'"), "spec.orthanc.storage.s3.endpoint", "leave it out"},
		"S3 in China":                  {"orthanc: {storage: {type: S3, s3: {bucket: images, region: cn-north-1}}}", "spec.orthanc.storage.s3.region", "name the endpoint"},
		"out of the bucket's path":     {with(s3Storage, ", rootPath: x/../../other"), "spec.orthanc.storage.s3.rootPath", "each beginning with a letter"},
		"a modality at localhost":      {"orthanc: {modalities: [" + modality("a", "CT", "LOCALHOST") + "]}", "spec.orthanc.modalities[0].host", "the pod itself"},
		"an unknown permission":        {"orthanc: {modalities: [{name: a, aeTitle: A, host: a.example, port: 104, permissions: [Delete]}]}", "spec.orthanc.modalities[0].permissions[0]", "Echo"},
		"an unknown plugin":            {"orthanc: {plugins: [python]}", "spec.orthanc.plugins[0]", "dicom-web"},
		"a viewer without DICOMweb":    {"orthanc: {plugins: [ohif]}", "spec.orthanc.plugins", "add the plugin dicom-web"},
		"one node's volume, replicas":  {"orthanc: {replicas: 2, storage: {accessMode: ReadWriteOnce}}", "spec.orthanc.storage.accessMode", "serves one node"},
		"one node's volume, scaled":    {"orthanc: {autoscaling: {maxReplicas: 2}, storage: {accessMode: ReadWriteOnce}}", "spec.orthanc.storage.accessMode", "serves one node"},
		"S3 without bucket":            {"orthanc: {storage: {type: S3}}", "spec.orthanc.storage", "type S3 needs s3"},
		"a bucket for a volume":        {"orthanc: {storage: {s3: {bucket: images, region: x}}}", "spec.orthanc.storage", "s3 needs type S3"},
		"a size for a bucket":          {"orthanc: {storage: {type: S3, size: 1Gi, s3: {bucket: images, region: x}}}", "spec.orthanc.storage", "need type Volume"},
		"S3 without TLS":               {with(s3Storage, ", endpoint: 'http://minio.example.com'"), "spec.orthanc.storage.s3.endpoint", "https://"},
		"S3 with a path":               {with(s3Storage, ", endpoint: 'https://minio.example.com/x'"), "spec.orthanc.storage.s3.endpoint", "https://"},
		"a Secret that cannot be":      {with(s3Storage, ", secretRef: {name: A_B}"), "spec.orthanc.storage.s3.secretRef.name", "RFC 1123"},
		"external without server":      {"postgres: {provider: External}", "spec.postgres", "needs external"},
		"a server for the operator":    {"postgres: {external: {host: a.example, secretRef: {name: db}}}", "spec.postgres", "external needs provider External"},
		"instances of another's":       {"postgres: {provider: External, instances: 2, external: {host: a.example, secretRef: {name: db}}}", "spec.postgres", "provider External has none"},
		"backup of another's":          {"postgres: {provider: Bitnami, backup: {destinationPath: 's3://b1b/x'}}", "spec.postgres", "CloudNativePG's"},
		"a chart for the operator":     {"postgres: {chart: {version: 1.2.3}}", "spec.postgres", "needs provider Bitnami"},
		"a CA that nobody looks at":    {with(external, ", tlsMode: require, caSecretRef: {name: ca}"), "spec.postgres.external", "verify-ca or verify-full"},
		"a schedule of five fields":    {"postgres: {backup: {destinationPath: 's3://b1b/x', schedule: '0 2 * * *'}}", "spec.postgres.backup.schedule", "six fields"},
		"more replicas than allowed":   {"orthanc: {replicas: 3}\n  " + with(external, ", maxConnections: 20"), "spec.postgres.external.maxConnections", "3 replicas of Orthanc open 24 connections"},
		"more replicas than memory":    {"orthanc: {autoscaling: {maxReplicas: 50}}\n  postgres: {resources: {limits: {memory: 4Gi}}}", "spec.postgres.resources.limits[memory]", "50 replicas of Orthanc open 400 connections, which take 4000Mi"},
		"an egress gateway of Traefik": {"ingress: {provider: Traefik, egress: {gateway: true}}", "spec.ingress.egress.gateway", "needs provider Istio"},
		"egress to the metadata":       {"ingress: {egress: {hosts: [{host: 169.254.169.254, port: 80}]}}", "spec.ingress.egress.hosts[0].host", "link-local"},
		"a quota below zero":           {"quota: {hard: {pods: -1}}", "spec.quota.hard[pods]", "below zero"},
		"a default above the most":     {"quota: {containers: {default: {memory: 8Gi}, max: {memory: 4Gi}}}", "spec.quota.containers.default[memory]", "above max, 4Gi"},
		"a bound without default":      {"quota: {hard: {limits.memory: 64Gi}}", "spec.quota.containers.default[memory]", "each container needs a limit"},
		"a default below its request":  {"quota: {containers: {default: {memory: 64Mi}}}", "spec.quota.containers.default[memory]", "must not be below defaultRequest, 128Mi"},
		"what no quota counts":         {"quota: {hard: {podz: 1}}", "spec.quota.hard[podz]", "nothing that a ResourceQuota counts"},
		"what no container has":        {"orthanc: {resources: {limits: {memroy: 1Gi}}}", "spec.orthanc.resources.limits[memroy]", "supported values"},
		"longer than half the CA":      {"certificates: {clients: {duration: 50000h}}", "spec.certificates.clients.duration", "at most 43800h"},
		"less than Orthanc asks for":   {"quota: {containers: {max: {memory: 1Gi}}}", "spec.quota.containers.max[memory]", "spec.orthanc.resources asks for 2Gi"},
		"a Secret that is written":     {with(s3Storage, ", secretRef: {name: modality-ct}"), "spec.orthanc.storage.s3.secretRef.name", "written for the tenant"},
		"the generated users as keys":  {with(s3Storage, ", secretRef: {name: orthanc-users}"), "spec.orthanc.storage.s3.secretRef.name", "written for the tenant"},
		"renewal before the beginning": {"certificates: {clients: {duration: 48h, renewBefore: 50h}}", "spec.certificates.clients.renewBefore", "two thirds of duration"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := load(t, files{"tenants/bhs.yaml": simple("bhs", tc.spec)})
			g.Expect(r.Definitions).To(BeEmpty())
			g.Expect(r.Problems).To(HaveLen(1))
			g.Expect(r.Problems[0].Field).To(Equal(tc.field))
			g.Expect(r.Problems[0].Message).To(ContainSubstring(tc.text))
		})
	}
}

// TestLoadChanges holds that a definition that would leave a living tenant's data behind is refused, and that what
// leaves nothing behind is not.
func TestLoadChanges(t *testing.T) {
	volume := "orthanc: {storage: {size: 100Gi}}"
	for name, tc := range map[string]struct{ was, now, field, text string }{
		"volume to S3":                    {volume, with(s3Storage, ""), "spec.orthanc.storage.type", "left behind"},
		"default to database":             {"", "orthanc: {storage: {type: Database}}", "spec.orthanc.storage.type", "left behind"},
		"S3 to default":                   {with(s3Storage, ""), "", "spec.orthanc.storage.type", "left behind"},
		"another bucket":                  {with(s3Storage, ""), strings.Replace(with(s3Storage, ""), "images", "others", 1), "spec.orthanc.storage.s3.bucket", "left behind"},
		"a path in the bucket":            {with(s3Storage, ""), with(s3Storage, ", rootPath: x"), "spec.orthanc.storage.s3.rootPath", "left behind"},
		"another path":                    {with(s3Storage, ", rootPath: z"), with(s3Storage, ", rootPath: x"), "spec.orthanc.storage.s3.rootPath", "left behind"},
		"a smaller volume":                {volume, "orthanc: {storage: {size: 99Gi}}", "spec.orthanc.storage.size", "cannot shrink"},
		"back to a smaller one":           {"orthanc: {storage: {size: 200Gi}}", "", "spec.orthanc.storage.size", "cannot shrink"},
		"another storage class":           {"orthanc: {storage: {className: fast}}", "orthanc: {storage: {className: slow}}", "spec.orthanc.storage.className", "immutable"},
		"a storage class":                 {"", "orthanc: {storage: {className: slow}}", "spec.orthanc.storage.className", "immutable"},
		"another access mode":             {"", "orthanc: {storage: {accessMode: ReadWriteOnce}}", "spec.orthanc.storage.accessMode", "immutable"},
		"another provider":                {"", with(external, ""), "spec.postgres.provider", "left behind"},
		"back to the operator":            {"postgres: {provider: Bitnami}", "", "spec.postgres.provider", "left behind"},
		"a smaller database":              {"postgres: {storage: {size: 20Gi}}", "postgres: {storage: {size: 10Gi}}", "spec.postgres.storage.size", "cannot shrink"},
		"a larger Bitnami database":       {"postgres: {provider: Bitnami}", "postgres: {provider: Bitnami, storage: {size: 20Gi}}", "spec.postgres.storage.size", "immutable with provider Bitnami"},
		"another database":                {with(external, ", database: one"), with(external, ", database: two"), "spec.postgres.external.database", "left behind"},
		"a storage class of the database": {"", "postgres: {storage: {className: fast}}", "spec.postgres.storage.className", "immutable"},
		"another namespace":               {"", "namespace: elsewhere", "spec.namespace", "immutable"},
		"a larger volume":                 {volume, "orthanc: {storage: {size: 0.5Ti}}", "", ""},
		"the same in other words":         {volume, "orthanc: {storage: {type: Volume, size: 102400Mi, accessMode: ReadWriteMany}}", "", ""},
		"another region's host":           {with(s3Storage, ""), "orthanc: {storage: {type: S3, s3: {bucket: images, region: cn-north-1, endpoint: 'https://s3.cn-north-1.amazonaws.com.cn'}}}", "", ""},
		"another key for S3":              {with(s3Storage, ""), with(s3Storage, ", secretRef: {name: s3}"), "", ""},
		"another server":                  {with(external, ""), strings.Replace(with(external, ""), "pg.", "pg2.", 1), "", ""},
		"more of everything":              {"", "orthanc: {replicas: 3, plugins: [dicom-web]}", "", ""},
		"another ingress provider":        {"", "ingress: {provider: Traefik}", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			before := load(t, files{"tenants/bhs.yaml": simple("bhs", tc.was)})
			g.Expect(before.Problems).To(BeEmpty())
			was := before.Definitions[0].Tenant
			was.Labels = map[string]string{v1alpha1.RepositoryLabel: "tenants"}

			r := load(t, files{"tenants/bhs.yaml": simple("bhs", tc.now)}, *was)
			if tc.field == "" {
				g.Expect(r.Problems).To(BeEmpty())
				return
			}
			g.Expect(r.Problems).NotTo(BeEmpty())
			g.Expect(r.Problems[0].Field).To(Equal(tc.field))
			g.Expect(r.Problems[0].Message).To(ContainSubstring(tc.text))
			g.Expect(r.Definitions).To(BeEmpty())
		})
	}
}

// TestLoadSharedData holds that no two tenants keep their data in one place.
func TestLoadSharedData(t *testing.T) {
	for name, tc := range map[string]struct{ spec, field, text string }{
		"bucket":   {with(s3Storage, ""), "spec.orthanc.storage.s3.bucket", "bucket AWS/images is held by tenant a"},
		"database": {with(external, ""), "spec.postgres.external.database", "database pg.example.com port 5432 orthanc is held by tenant a"},
		"backup":   {"postgres: {backup: {destinationPath: 's3://backups/x'}}", "spec.postgres.backup.destinationPath", "bucket AWS/backups/x is held by tenant a"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := load(t, files{"tenants/a.yaml": simple("a", tc.spec), "tenants/b.yaml": simple("b", tc.spec)})
			g.Expect(names(r)).To(Equal([]string{"a"}))
			g.Expect(r.Problems).To(HaveLen(1))
			g.Expect(r.Problems[0].Field).To(Equal(tc.field))
			g.Expect(r.Problems[0].Reason).To(Equal(v1alpha1.ConflictReason))
			g.Expect(r.Problems[0].Message).To(ContainSubstring(tc.text))
		})
	}
	for name, tc := range map[string]struct{ a, b string }{
		"endpoint with its port":    {with(s3Storage, ", endpoint: 'https://minio.example.com'"), with(s3Storage, ", endpoint: 'https://minio.example.com:0443'")},
		"AWS by its name":           {"postgres: {backup: {destinationPath: 's3://backups/x'}}", "postgres: {backup: {destinationPath: 's3://backups/x', endpoint: 'https://s3.eu-central-1.amazonaws.com'}}"},
		"one IPv6 address":          {strings.Replace(with(external, ""), "pg.example.com", "'2001:db8::1'", 1), strings.Replace(with(external, ""), "pg.example.com", "'2001:db8:0::1'", 1)},
		"one IPv4 address by NAT64": {strings.Replace(with(external, ""), "pg.example.com", "10.1.1.1", 1), strings.Replace(with(external, ""), "pg.example.com", "'64:ff9b::10.1.1.1'", 1)},
		"one server in other case":  {with(external, ""), strings.Replace(with(external, ", port: 5432"), "pg.example.com", "PG.example.com", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := load(t, files{"tenants/a.yaml": simple("a", tc.a), "tenants/b.yaml": simple("b", tc.b)})
			g.Expect(names(r)).To(Equal([]string{"a"}))
		})
	}
	// A path of its own in the same bucket is a place of its own.
	g := NewWithT(t)
	r := load(t, files{"tenants/a.yaml": simple("a", with(s3Storage, ", rootPath: a")), "tenants/b.yaml": simple("b", with(s3Storage, ", rootPath: b"))})
	g.Expect(names(r)).To(Equal([]string{"a", "b"}))
}
