// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/fstest"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// startAPIServer runs a real etcd and apiserver with Korthweb's CustomResourceDefinitions.
func startAPIServer(t *testing.T) client.Client {
	t.Helper()
	g := NewWithT(t)
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "..", "bin", "stack")
	}
	if _, err := os.Stat(filepath.Join(assets, "kube-apiserver")); err != nil {
		t.Fatalf("no kube-apiserver: run make stack (%v)", err)
	}
	env := &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	config, err := env.Start()
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(config, client.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	return c
}

// verdict creates a document as kubectl does, and returns the fields that the apiserver objects to.
func verdict(t *testing.T, c client.Client, document string) (fields []string, message string) {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
		t.Fatal(err)
	}
	object.SetNamespace("default")
	err := c.Create(t.Context(), object, client.FieldValidation(metav1.FieldValidationStrict))
	if err == nil {
		if err := c.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		return nil, ""
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		t.Fatal(err)
	}
	set := map[string]bool{}
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			name := cause.Field
			if name == "<nil>" {
				// The OpenAPI validator says some things twice, the second time without a field.
				if !strings.Contains(cause.Message, "a tenant's name") {
					continue
				}
				name = "metadata.name"
			}
			set[name] = true
		}
	}
	const unknown = `unknown field "`
	for rest := err.Error(); strings.Contains(rest, unknown); {
		rest = rest[strings.Index(rest, unknown)+len(unknown):]
		set[rest[:strings.Index(rest, `"`)]] = true
	}
	for name := range set {
		fields = append(fields, name)
	}
	sort.Strings(fields)
	return fields, err.Error()
}

// tenantDocument is a Tenant whose spec is the given YAML, indented or not.
func tenantDocument(name, spec string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: Tenant\nmetadata:\n  name: %s\nspec:\n", name)
	for line := range strings.Lines(spec) {
		b.WriteString("  " + line)
	}
	return b.String()
}

func digits(n int) string { return strings.Repeat("1", n) }

// TestAgainstAPIServer holds what a real apiserver makes of the API.
func TestAgainstAPIServer(t *testing.T) {
	c := startAPIServer(t)
	t.Run("tenant", func(t *testing.T) { testParity(t, c) })
	t.Run("repository", func(t *testing.T) { testRepositoryRules(t, c) })
	t.Run("samples", func(t *testing.T) { testSamples(t, c) })
	t.Run("immutable", func(t *testing.T) { testImmutable(t, c) })
}

// testParity holds that a definition in a file gets the verdict of the apiserver.
func testParity(t *testing.T, c client.Client) {
	host := func(h string) string { return "domain: " + h }
	long63 := strings.Repeat("a", 63)
	for _, tc := range []struct {
		name   string
		tenant string // metadata.name, bhs by default
		spec   string
		fields []string // that are objected to
	}{
		{name: "only a domain", spec: host("bhs.orthweb.com")},
		{name: "everything", spec: everything},
		{name: "no domain", spec: "displayName: BHS", fields: []string{"spec.domain"}},
		{name: "empty domain", spec: `domain: ""`, fields: []string{"spec.domain"}},
		{name: "domain of one label", spec: host("bhs"), fields: []string{"spec.domain"}},
		{name: "domain in upper case", spec: host("BHS.orthweb.com"), fields: []string{"spec.domain"}},
		{name: "domain with a wildcard", spec: host(`"*.orthweb.com"`), fields: []string{"spec.domain"}},
		{name: "domain with a trailing dot", spec: host("bhs.orthweb.com."), fields: []string{"spec.domain"}},
		{name: "domain where the dot is any character", spec: host("bhsxorthweb"), fields: []string{"spec.domain"}},
		{name: "domain with a newline", spec: `domain: "bhs.orthweb.com\n"`, fields: []string{"spec.domain"}},
		{name: "label of 63 characters", spec: host(long63 + ".com")},
		{name: "label of 64 characters", spec: host(long63 + "a.com"), fields: []string{"spec.domain"}},
		{name: "domain of 254 characters", spec: host(strings.Repeat("a.", 126) + "aa"), fields: []string{"spec.domain"}},
		{name: "domain is a number", spec: "domain: 17", fields: []string{"spec.domain"}},
		{name: "unknown field", spec: "domain: a.b\northanc: {replica: 2}", fields: []string{"spec.orthanc.replica"}},
		{name: "unknown field at the top of the spec", spec: "domain: a.b\ndomains: x", fields: []string{"spec.domains"}},
		{name: "unknown field in a list", spec: "domain: a.b\npatches: [{patch: x, traget: {}}]", fields: []string{"spec.patches[0].traget"}},
		{name: "name of 50 characters", tenant: long63[:50], spec: host("a.b")},
		{name: "name of 51 characters", tenant: long63[:51], spec: host("a.b"), fields: []string{"metadata.name"}},
		{name: "name begins with a digit", tenant: "3com", spec: host("a.b"), fields: []string{"metadata.name"}},
		{name: "name with a dot", tenant: "a.b", spec: host("a.b"), fields: []string{"metadata.name"}},
		{name: "name in upper case", tenant: "BHS", spec: host("a.b"), fields: []string{"metadata.name"}},
		{name: "namespace", spec: "domain: a.b\nnamespace: bhs-orthweb"},
		{name: "namespace with a dot", spec: "domain: a.b\nnamespace: bhs.orthweb", fields: []string{"spec.namespace"}},
		{name: "namespace of Kubernetes", spec: "domain: a.b\nnamespace: kube-system", fields: []string{"spec.namespace"}},
		{name: "namespace default", spec: "domain: a.b\nnamespace: default", fields: []string{"spec.namespace"}},
		{name: "namespace ends with a dash", spec: "domain: a.b\nnamespace: bhs-", fields: []string{"spec.namespace"}},
		{name: "display name with a control character", spec: "domain: a.b\ndisplayName: \"a\\tb\"", fields: []string{"spec.displayName"}},
		{name: "display name in another script", spec: "domain: a.b\ndisplayName: Ω Krankenhaus 病院"},
		{name: "deletion policy that is none", spec: "domain: a.b\ndeletionPolicy: Keep", fields: []string{"spec.deletionPolicy"}},
		{name: "image without a tag", spec: "domain: a.b\northanc: {image: orthancteam/orthanc}", fields: []string{"spec.orthanc.image"}},
		{name: "image with a tag and registry port", spec: "domain: a.b\northanc: {image: 'registry.example.com:5000/a/orthanc:26.8.1'}"},
		{name: "image with a digest", spec: "domain: a.b\northanc: {image: 'orthancteam/orthanc@sha256:" + strings.Repeat("a", 64) + "'}"},
		{name: "image with a digest without sha256", spec: "domain: a.b\northanc: {image: 'orthancteam/orthanc@" + strings.Repeat("a", 64) + "'}", fields: []string{"spec.orthanc.image"}},
		{name: "image whose port is no tag", spec: "domain: a.b\northanc: {image: 'registry:5000/orthanc'}", fields: []string{"spec.orthanc.image"}},
		{name: "image in upper case", spec: "domain: a.b\northanc: {image: 'Orthanc:1'}", fields: []string{"spec.orthanc.image"}},
		{name: "no replicas", spec: "domain: a.b\northanc: {replicas: 0}", fields: []string{"spec.orthanc.replicas"}},
		{name: "half a replica", spec: "domain: a.b\northanc: {replicas: 1.5}", fields: []string{"spec.orthanc.replicas"}},
		{name: "replicas in words", spec: "domain: a.b\northanc: {replicas: two}", fields: []string{"spec.orthanc.replicas"}},
		{name: "replicas as a quoted number", spec: "domain: a.b\northanc: {replicas: '2'}", fields: []string{"spec.orthanc.replicas"}},
		{name: "replicas beyond all bounds", spec: "domain: a.b\northanc: {replicas: 99999999999999999999}", fields: []string{"spec.orthanc.replicas"}},
		{name: "replicas and autoscaling", spec: "domain: a.b\northanc: {replicas: 2, autoscaling: {maxReplicas: 3}}", fields: []string{"spec.orthanc"}},
		{name: "autoscaling", spec: "domain: a.b\northanc: {autoscaling: {minReplicas: 3, maxReplicas: 3}}"},
		{name: "autoscaling upside down", spec: "domain: a.b\northanc: {autoscaling: {minReplicas: 4, maxReplicas: 3}}", fields: []string{"spec.orthanc.autoscaling"}},
		{name: "autoscaling without a maximum", spec: "domain: a.b\northanc: {autoscaling: {minReplicas: 4}}", fields: []string{"spec.orthanc.autoscaling.maxReplicas"}},
		{name: "AE title of 16 characters", spec: "domain: a.b\northanc: {aeTitle: '0123456789ABCDEF'}"},
		{name: "AE title with spaces and marks", spec: "domain: a.b\northanc: {aeTitle: ' a [x] ~ '}"},
		{name: "AE title of 17 characters", spec: "domain: a.b\northanc: {aeTitle: '0123456789ABCDEFG'}", fields: []string{"spec.orthanc.aeTitle"}},
		{name: "AE title with a backslash", spec: "domain: a.b\northanc: {aeTitle: 'a\\b'}", fields: []string{"spec.orthanc.aeTitle"}},
		{name: "AE title of blanks", spec: "domain: a.b\northanc: {aeTitle: '   '}", fields: []string{"spec.orthanc.aeTitle"}},
		{name: "AE title with a control character", spec: "domain: a.b\northanc: {aeTitle: \"a\\x1bb\"}", fields: []string{"spec.orthanc.aeTitle"}},
		{name: "AE title with an umlaut", spec: "domain: a.b\northanc: {aeTitle: 'Ä'}", fields: []string{"spec.orthanc.aeTitle"}},
		{name: "empty AE title", spec: "domain: a.b\northanc: {aeTitle: ''}", fields: []string{"spec.orthanc.aeTitle"}},
		{name: "modality", spec: "domain: a.b\northanc: {modalities: [{name: ct-1a, aeTitle: CT, host: 'fd00::1', port: 104}]}"},
		{name: "modality without a port", spec: "domain: a.b\northanc: {modalities: [{name: ct, aeTitle: CT, host: ct}]}", fields: []string{"spec.orthanc.modalities[0].port"}},
		{name: "modality on port 65536", spec: "domain: a.b\northanc: {modalities: [{name: ct, aeTitle: CT, host: ct, port: 65536}]}", fields: []string{"spec.orthanc.modalities[0].port"}},
		{name: "modality with a URL", spec: "domain: a.b\northanc: {modalities: [{name: ct, aeTitle: CT, host: 'http://ct', port: 104}]}", fields: []string{"spec.orthanc.modalities[0].host"}},
		{name: "second modality with a bad AE title", spec: "domain: a.b\northanc: {modalities: [{name: ct, aeTitle: CT, host: ct, port: 104}, {name: mr, aeTitle: 'M\\R', host: mr, port: 104}]}", fields: []string{"spec.orthanc.modalities[1].aeTitle"}},
		{name: "two modalities of one name", spec: "domain: a.b\northanc: {modalities: [{name: ct, aeTitle: CT, host: ct, port: 104}, {name: ct, aeTitle: CT2, host: ct, port: 104}]}", fields: []string{"spec.orthanc.modalities[1]"}},
		{name: "size", spec: "domain: a.b\northanc: {storage: {size: 1.5Ti}}"},
		{name: "size as a number", spec: "domain: a.b\northanc: {storage: {size: 1073741824}}"},
		{name: "size of zero", spec: "domain: a.b\northanc: {storage: {size: 0}}", fields: []string{"spec.orthanc.storage.size"}},
		{name: "size below zero", spec: "domain: a.b\northanc: {storage: {size: -1Gi}}", fields: []string{"spec.orthanc.storage.size"}},
		{name: "size in another unit", spec: "domain: a.b\northanc: {storage: {size: 100GB}}", fields: []string{"spec.orthanc.storage.size"}},
		{name: "empty size", spec: "domain: a.b\npostgres: {storage: {size: ''}}", fields: []string{"spec.postgres.storage.size"}},
		{name: "size as a fraction", spec: "domain: a.b\npostgres: {storage: {size: 0.5}}", fields: []string{"spec.postgres.storage.size"}},
		{name: "ten database servers", spec: "domain: a.b\npostgres: {instances: 10}", fields: []string{"spec.postgres.instances"}},
		{name: "certificate times", spec: "domain: a.b\ncertificates: {duration: 48h, renewBefore: 1h30m}"},
		{name: "certificate that is renewed before it begins", spec: "domain: a.b\ncertificates: {duration: 48h, renewBefore: 48h}", fields: []string{"spec.certificates.renewBefore"}},
		{name: "certificate of a minute", spec: "domain: a.b\ncertificates: {duration: 1m}", fields: []string{"spec.certificates.duration"}},
		{name: "certificate of days", spec: "domain: a.b\ncertificates: {duration: 90d}", fields: []string{"spec.certificates.duration"}},
		{name: "certificate of a number", spec: "domain: a.b\ncertificates: {duration: 90}", fields: []string{"spec.certificates.duration"}},
		{name: "certificate beyond all bounds", spec: "domain: a.b\ncertificates: {duration: " + digits(30) + "h}", fields: []string{"spec.certificates.duration"}},
		{name: "renewal too late", spec: "domain: a.b\ncertificates: {renewBefore: 1m}", fields: []string{"spec.certificates.renewBefore"}},
		{name: "DICOM on 443", spec: "domain: a.b\ningress: {dicom: {port: 443}}", fields: []string{"spec.ingress.dicom.port"}},
		{name: "DICOM on port 0", spec: "domain: a.b\ningress: {dicom: {port: 0}}", fields: []string{"spec.ingress.dicom.port"}},
		{name: "web host with a wildcard", spec: "domain: a.b\ningress: {web: {host: '*.b'}}", fields: []string{"spec.ingress.web.host"}},
		{name: "empty web host", spec: "domain: a.b\ningress: {web: {host: ''}}", fields: []string{"spec.ingress.web.host"}},
		{name: "IPv6 address", spec: "domain: a.b\ningress: {service: {loadBalancerIP: 'fd00::1'}}"},
		{name: "address that is none", spec: "domain: a.b\ningress: {service: {loadBalancerIP: 10.0.0.256}}", fields: []string{"spec.ingress.service.loadBalancerIP"}},
		{name: "empty address", spec: "domain: a.b\ningress: {service: {loadBalancerIP: ''}}", fields: []string{"spec.ingress.service.loadBalancerIP"}},
		{name: "address without a load balancer", spec: "domain: a.b\ningress: {service: {type: NodePort, loadBalancerIP: 10.0.0.25}}", fields: []string{"spec.ingress.service"}},
		{name: "load balancer class without a load balancer", spec: "domain: a.b\ningress: {service: {type: ClusterIP, loadBalancerClass: a/b}}", fields: []string{"spec.ingress.service"}},
		{name: "Service type ExternalName", spec: "domain: a.b\ningress: {service: {type: ExternalName}}", fields: []string{"spec.ingress.service.type"}},
		{name: "chart over https", spec: "domain: a.b\ningress: {chart: {url: 'https://example.com'}}", fields: []string{"spec.ingress.chart.url"}},
		{name: "chart version with a space", spec: "domain: a.b\ningress: {chart: {version: '1 2'}}", fields: []string{"spec.ingress.chart.version"}},
		{name: "patch without a patch", spec: "domain: a.b\npatches: [{target: {kind: Service}}]", fields: []string{"spec.patches[0].patch"}},
		{name: "dependency without a name", spec: "domain: a.b\ndependsOn: [{namespace: x}]", fields: []string{"spec.dependsOn[0].name"}},
		{name: "suspend in words", spec: "domain: a.b\nsuspend: 'true'", fields: []string{"spec.suspend"}},
		{name: "resources that are none", spec: "domain: a.b\northanc: {resources: {limits: {memory: lots}}}", fields: []string{"spec.orthanc.resources.limits.memory"}},
		{name: "resources of 17 kinds", spec: "domain: a.b\northanc: {resources: {limits: {" + entries(17, "example.com/k%d: 1, ") + "}}}", fields: []string{"spec.orthanc.resources.limits"}},
		{name: "orthanc is a list", spec: "domain: a.b\northanc: []", fields: []string{"spec.orthanc"}},
		{name: "two mistakes", spec: "domain: a.b\northanc: {aeTitle: 'a\\b'}\ningress: {dicom: {port: 80}}", fields: []string{"spec.ingress.dicom.port", "spec.orthanc.aeTitle"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			if tc.tenant == "" {
				tc.tenant = "bhs"
			}
			document := tenantDocument(tc.tenant, tc.spec)
			fields, message := verdict(t, c, document)
			g.Expect(fields).To(Equal(tc.fields), "apiserver: %s", message)

			result, err := tenant.Load(fstest.MapFS{"tenants/" + tc.tenant + ".yaml": {Data: []byte(document)}}, tenant.Options{Path: "tenants", Rules: everyField(t)})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(problemFields(result)).To(Equal(tc.fields), "offline: %v", result.Problems)

			// The same by Validate alone, where the document can be held by the Go type at all.
			typed := &v1alpha1.Tenant{}
			object := map[string]any{}
			g.Expect(yaml.Unmarshal([]byte(document), &object)).To(Succeed())
			if runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, typed, true) == nil && representable(t, typed, object) {
				g.Expect(errorFields(tenant.Validate(typed))).To(Equal(tc.fields))
			}
		})
	}
}

// testRepositoryRules holds what the apiserver says of a TenantRepository.
func testRepositoryRules(t *testing.T, c client.Client) {
	const git = "git: {url: 'https://git.example.com/tenants'}\n"
	for _, tc := range []struct {
		name   string
		spec   string
		fields []string
	}{
		{name: "git", spec: git},
		{name: "ssh with a user", spec: "git: {url: 'ssh://git@git.example.com/tenants', ref: {branch: main}, secretRef: {name: git}}"},
		{name: "source", spec: "sourceRef: {kind: OCIRepository, name: tenants}"},
		{name: "neither git nor source", spec: "path: x", fields: []string{"spec"}},
		{name: "git and source", spec: git + "sourceRef: {kind: Bucket, name: tenants}", fields: []string{"spec"}},
		{name: "credentials in the URL", spec: "git: {url: 'https://user:secret@git.example.com/tenants'}", fields: []string{"spec.git.url"}},
		{name: "local path as URL", spec: "git: {url: 'file:///srv/tenants'}", fields: []string{"spec.git.url"}},
		{name: "source of another kind", spec: "sourceRef: {kind: HelmRepository, name: tenants}", fields: []string{"spec.sourceRef.kind"}},
		{name: "path", spec: git + "path: ./a/b..c"},
		{name: "absolute path", spec: git + "path: /tenants", fields: []string{"spec.path"}},
		{name: "path that leaves the tree", spec: git + "path: a/../../b", fields: []string{"spec.path"}},
		{name: "budget of none", spec: git + "deletionBudget: 0"},
		{name: "budget in percent", spec: git + "deletionBudget: 100%"},
		{name: "budget below none", spec: git + "deletionBudget: -1", fields: []string{"spec.deletionBudget"}},
		{name: "budget beyond all", spec: git + "deletionBudget: 101%", fields: []string{"spec.deletionBudget"}},
		{name: "budget as a quoted number", spec: git + "deletionBudget: '5'", fields: []string{"spec.deletionBudget"}},
		{name: "timeout in hours", spec: git + "timeout: 1h", fields: []string{"spec.timeout"}},
		{name: "unknown field", spec: git + "pruned: true", fields: []string{"spec.pruned"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			document := strings.ReplaceAll(tenantDocument("tenants", "interval: 1m\nprune: true\n"+tc.spec), "kind: Tenant\n", "kind: TenantRepository\n")
			fields, message := verdict(t, c, document)
			NewWithT(t).Expect(fields).To(Equal(tc.fields), message)
		})
	}
}

// testSamples holds that the apiserver takes the samples.
func testSamples(t *testing.T, c client.Client) {
	g := NewWithT(t)
	samples, err := filepath.Glob(filepath.Join("..", "..", "config", "samples", "tenant*.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(samples).NotTo(BeEmpty())
	for _, sample := range samples {
		data, err := os.ReadFile(sample)
		g.Expect(err).NotTo(HaveOccurred())
		_, message := verdict(t, c, string(data))
		g.Expect(message).To(BeEmpty(), sample)
	}
}

// testImmutable holds the one rule that compares with what was before.
func testImmutable(t *testing.T, c client.Client) {
	g := NewWithT(t)
	object := &unstructured.Unstructured{}
	g.Expect(yaml.Unmarshal([]byte(tenantDocument("bhs", "domain: a.b\nnamespace: bhs-orthweb")), &object.Object)).To(Succeed())
	object.SetNamespace("default")
	g.Expect(c.Create(t.Context(), object)).To(Succeed())

	g.Expect(unstructured.SetNestedField(object.Object, "elsewhere", "spec", "namespace")).To(Succeed())
	err := c.Update(t.Context(), object)
	g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
	g.Expect(err).To(MatchError(ContainSubstring("namespace is immutable")))

	g.Expect(unstructured.SetNestedField(object.Object, "bhs-orthweb", "spec", "namespace")).To(Succeed())
	g.Expect(unstructured.SetNestedField(object.Object, "b.a", "spec", "domain")).To(Succeed())
	g.Expect(c.Update(t.Context(), object)).To(Succeed())
}
