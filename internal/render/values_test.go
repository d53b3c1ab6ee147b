// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
)

// marked are tenants all of whose values are their own: each text holds the mark, each number begins with it. Together
// they set every field that is rendered.
var marked = map[string]string{
	"Istio, CloudNativePG, volume": `
metadata: {name: nameMARK}
spec:
  displayName: displayMARK
  domain: domainMARK.example.org
  namespace: namespaceMARK
  commonMetadata: {labels: {labelMARK: valueMARK}, annotations: {annotationMARK: noteMARK}}
  orthanc:
    image: imageMARK:1
    REPLICAS
    resources: {requests: {cpu: MARK100m}, limits: {memory: MARK200Mi}}
    aeTitle: AEMARK
    modalities: [{name: modality-MARK, aeTitle: PEERMARK, host: hostMARK, port: MARK3}]
    storage: {size: MARK4Gi, className: orthancMARK}
    usersSecretRef: {name: usersMARK}
    config: {optionMARK: settingMARK}
  postgres:
    instances: MARK5
    storage: {size: MARK6Gi, className: postgresMARK}
    resources: {requests: {cpu: MARK300m}, limits: {memory: MARK400Mi}}
    backup: {schedule: scheduleMARK, retentionPolicy: policyMARK, destinationPath: pathMARK, endpoint: https://backupMARK.org:MARK2, secretRef: {name: backupsMARK}}
  certificates:
    duration: MARK7h
    renewBefore: MARK8h
    clients: {duration: MARK9h, renewBefore: MARK0h}
    issuerRef: {group: groupMARK, kind: kindMARK, name: issuerMARK}
  ingress:
    web: {host: webMARK.example.org}
    dicom: {host: dicomMARK.example.org, port: MARK9}
    service: {type: typeMARK, annotations: {keyMARK: serviceMARK}, loadBalancerClass: classMARK, loadBalancerIP: ipMARK}
    egress: {hosts: [{host: egressMARK.org, port: MARK1}]}
    chart: {url: oci://urlMARK, version: versionMARK, insecure: true, secretRef: {name: secretMARK}}
  quota:
    hard: {pods: MARK1}
    containers: {default: {memory: MARK2Mi}, defaultRequest: {memory: MARK3Mi}, max: {memory: MARK4Mi}}
  monitoring: {provider: PrometheusOperator}
`,
	"Traefik, external database, S3": `
metadata: {name: nameMARK}
spec:
  displayName: displayMARK
  domain: domainMARK.example.org
  namespace: namespaceMARK
  orthanc:
    REPLICAS
    storage: {type: S3, s3: {bucket: bucketMARK, region: regionMARK, endpoint: https://minioMARK.org:MARK3, rootPath: rootMARK, secretRef: {name: s3MARK}}}
  postgres:
    provider: External
    external: {host: pgMARK, port: MARK4, database: databaseMARK, secretRef: {name: pgsecretMARK}, tlsMode: modeMARK, caSecretRef: {name: caMARK}}
  ingress:
    provider: Traefik
    web: {host: webMARK.example.org}
    dicom: {host: dicomMARK.example.org, port: MARK9}
    service: {type: typeMARK, annotations: {keyMARK: serviceMARK}, loadBalancerClass: classMARK, loadBalancerIP: ipMARK}
    chart: {url: oci://urlMARK, version: versionMARK, insecure: true, secretRef: {name: secretMARK}}
  monitoring: {provider: PrometheusOperator}
`,
	"Traefik, Bitnami, database": `
metadata: {name: nameMARK}
spec:
  domain: domainMARK.example.org
  namespace: namespaceMARK
  orthanc:
    REPLICAS
    storage: {type: Database}
  postgres:
    provider: Bitnami
    instances: MARK5
    storage: {size: MARK6Gi, className: postgresMARK}
    resources: {requests: {cpu: MARK300m}, limits: {memory: MARK400Mi}}
    chart: {url: oci://pgurlMARK, version: pgversionMARK, insecure: true, secretRef: {name: pgsecretMARK}}
  ingress: {provider: Traefik, web: {host: webMARK.example.org}, dicom: {host: dicomMARK.example.org}}
  monitoring: {provider: PrometheusOperator}
`,
}

func markedTenant(t testing.TB, text, mark, replicas string) *v1alpha1.Tenant {
	t.Helper()
	tenant := &v1alpha1.Tenant{}
	text = strings.ReplaceAll(strings.Replace(text, "REPLICAS", replicas, 1), "MARK", mark)
	NewWithT(t).Expect(yaml.UnmarshalStrict([]byte(text), tenant)).To(Succeed(), text)
	tenant.SetDefaults()
	return tenant
}

// derived is what follows from the marked numbers and texts without holding them: digests, and the connections and
// buffers of the database.
var derived = regexp.MustCompile(`sha256:[0-9a-f]{64}|egress-[0-9a-f]{16}|(?:max_connections|maxConnections|numInitChildren): "[0-9]+"|shared_buffers(?::| =) '?[0-9]+MB`)

// TestNoValueIsShared shows that a tenant's bundle holds every value of its own, none of another tenant's, and none
// of those that stand in the bundle bases until a tenant's are set.
func TestNoValueIsShared(t *testing.T) {
	for variant, text := range marked {
		for _, replicas := range []string{"replicas: MARK1", "autoscaling: {minReplicas: MARK1, maxReplicas: MARK2, targetCPUUtilizationPercentage: MARK0}"} {
			t.Run(variant+", "+replicas, func(t *testing.T) {
				g := NewWithT(t)
				r := newRenderer(t)
				stream := map[string]string{}
				marks := []string{"7531", "8642"}
				for range 2 { // the second time from what the first left behind
					for _, mark := range marks {
						b, err := r.Render(markedTenant(t, text, mark, replicas))
						g.Expect(err).NotTo(HaveOccurred())
						rendered := string(b.YAML())
						if before, ok := stream[mark]; ok {
							g.Expect(rendered).To(Equal(before))
						}
						stream[mark] = rendered
					}
				}
				for i, mark := range marks {
					rendered := stream[mark]
					g.Expect(rendered).NotTo(ContainSubstring("placeholder"))
					g.Expect(derived.ReplaceAllString(rendered, "")).NotTo(ContainSubstring(marks[1-i]))
					for _, value := range regexp.MustCompile(`[A-Za-z]*MARK[A-Za-z0-9]*`).FindAllString(strings.Replace(text, "REPLICAS", replicas, 1), -1) {
						value = strings.ReplaceAll(value, "MARK", mark)
						if strings.HasPrefix(value, "domain") {
							continue // the hosts, given here, are what would come from it
						}
						g.Expect(rendered).To(ContainSubstring(value))
					}
				}
				// But for those values, the two are the same.
				plain := func(mark string) string {
					return strings.ReplaceAll(derived.ReplaceAllString(stream[mark], ""), mark, "")
				}
				g.Expect(plain(marks[0])).To(Equal(plain(marks[1])))
			})
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	g := NewWithT(t)
	want := map[string][]render.File{}
	for _, name := range tenants {
		want[name] = renderFiles(t, newRenderer(t), readTenant(t, name))
	}
	r := newRenderer(t)
	var wg sync.WaitGroup
	for i := range 16 {
		name := tenants[i%len(tenants)]
		tenant := readTenant(t, name)
		wg.Go(func() {
			b, err := r.Render(tenant)
			g.Expect(err).NotTo(HaveOccurred())
			files, err := b.Files()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(files).To(Equal(want[name]))
		})
	}
	wg.Wait()
}

func TestVariablesInTextRefused(t *testing.T) {
	cases := []struct {
		name, field string
		change      func(*v1alpha1.TenantSpec)
	}{
		{"display name", "spec.displayName", func(s *v1alpha1.TenantSpec) { s.DisplayName = "a ${DB_PASSWORD}" }},
		{"AE title", "spec.orthanc.aeTitle", func(s *v1alpha1.TenantSpec) { s.Orthanc.AETitle = "${POD_NAME}" }},
		{"modality", "spec.orthanc.modalities[1].aeTitle", func(s *v1alpha1.TenantSpec) { s.Orthanc.Modalities[1].AETitle = "${A}" }},
	}
	r := newRenderer(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := readTenant(t, "full")
			tc.change(&tenant.Spec)
			_, err := r.Render(tenant)
			var mendable *render.Error
			g.Expect(errors.As(err, &mendable)).To(BeTrue())
			g.Expect(mendable.Field).To(Equal(tc.field))
		})
	}
}

func TestConfigChangeRollsPods(t *testing.T) {
	g := NewWithT(t)
	r := newRenderer(t)
	digest := func(change func(*v1alpha1.TenantSpec)) any {
		tenant := readTenant(t, "full")
		change(&tenant.Spec)
		b, err := r.Render(tenant)
		g.Expect(err).NotTo(HaveOccurred())
		for _, o := range b.Layers[1].Objects {
			if o.Kind == "Deployment" {
				return podAnnotations(decode(t, o.YAML()))["korthweb.digihunch.com/config-digest"]
			}
		}
		return nil
	}
	same := digest(func(*v1alpha1.TenantSpec) {})
	g.Expect(same).To(HavePrefix("sha256:"))
	g.Expect(digest(func(s *v1alpha1.TenantSpec) { s.Orthanc.Modalities[0].Port++ })).NotTo(Equal(same))
	g.Expect(digest(func(s *v1alpha1.TenantSpec) { s.Orthanc.Storage.ClassName = "other" })).To(Equal(same))
}

func TestTenantWithoutDefaults(t *testing.T) {
	g := NewWithT(t)
	_, err := newRenderer(t).Render(&v1alpha1.Tenant{Spec: v1alpha1.TenantSpec{Domain: "x.example.org"}})
	g.Expect(err).To(MatchError(ContainSubstring("Tenant has no ")))
}

// TestBrokenBundle shows that mistakes in the bundle bases are found, and named.
func TestBrokenBundle(t *testing.T) {
	const (
		catalogue = "layers: [{name: l, base: base}]"
		base      = "resources: [o.yaml]"
		object    = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: placeholder, m: 'k: v'}\n"
	)
	replacement := func(source, target string) string {
		return "- source: {" + source + "}\n  targets: [{" + target + "}]\n"
	}
	cases := []struct {
		name    string
		files   map[string]string
		message string
	}{
		{"no catalogue", map[string]string{"bundle.yaml": ""}, "names no layer"},
		{"a catalogue of another kind", map[string]string{"bundle.yaml": "layer: []"}, "unknown field"},
		{"a layer without base", map[string]string{"bundle.yaml": "layers: [{name: l}]"}, "needs a name and a base"},
		{"a component without path", map[string]string{"bundle.yaml": "layers: [{name: l, base: b, components: [{}]}]"}, "needs a path"},
		{"a requirement without operator", map[string]string{"bundle.yaml": "layers: [{name: l, base: b, components: [{path: c, when: [{fieldPath: spec}]}]}]"}, "must be In, NotIn, Exists or DoesNotExist"},
		{"a requirement without field", map[string]string{"bundle.yaml": "layers: [{name: l, base: b, components: [{path: c, when: [{operator: Exists}]}]}]"}, "needs a fieldPath"},
		{"a requirement without values", map[string]string{"bundle.yaml": "layers: [{name: l, base: b, components: [{path: c, when: [{fieldPath: spec, operator: In}]}]}]"}, "needs values"},
		{"a requirement with values", map[string]string{"bundle.yaml": "layers: [{name: l, base: b, components: [{path: c, when: [{fieldPath: spec, operator: Exists, values: [a]}]}]}]"}, "has no values"},
		{"items of what is no list", map[string]string{"bundle.yaml": "layers: [{name: l, base: base, components: [{path: c, forEach: spec.domain}]}]"}, "spec.domain is not a list"},
		{"a base that is not there", map[string]string{"bundle.yaml": "layers: [{name: l, base: other}]"}, "other"},
		{"broken replacements", map[string]string{"base/replacements.yaml": "- sauce: {}"}, "base/replacements.yaml"},
		{"no source", map[string]string{"base/replacements.yaml": "- targets: []"}, "needs a source"},
		{"a source of another kind", map[string]string{"base/replacements.yaml": replacement("kind: ConfigMap, name: c, fieldPath: data.a", "")}, "must be kind Tenant"},
		{"options of a source", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: metadata.name, options: {delimiter: x}", "")}, "options of a source"},
		{"no select", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: metadata.name", "fieldPaths: [data.a]")}, "needs a select"},
		{"a field to create", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: metadata.name", "select: {kind: ConfigMap}, fieldPaths: [data.b], options: {create: true}")}, "create is not supported"},
		{"a target that is not there", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: metadata.name", "select: {kind: Secret}, fieldPaths: [data.a]")}, "no object is selected"},
		{"a field that is not there", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: metadata.name", "select: {kind: ConfigMap}, fieldPaths: [data.b]")}, "ConfigMap/c: data.b: no such field"},
		{"a field in text", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: metadata.name", "select: {kind: ConfigMap}, fieldPaths: [data.m.k]")}, "data.m.k"},
		{"a whole and its part", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: spec.orthanc", "select: {kind: ConfigMap}, fieldPaths: [data, data.a]")}, "as a whole and in part"},
		{"a map for a scalar", map[string]string{"base/replacements.yaml": replacement("kind: Tenant, fieldPath: spec.orthanc", "select: {kind: ConfigMap}, fieldPaths: [data.a]")}, "cannot take a list or a map"},
		{"two files of one name", map[string]string{"base/o.yaml": "apiVersion: a.example.org/v1\nkind: X\nmetadata: {name: c}\n---\napiVersion: b.example.org/v1\nkind: X\nmetadata: {name: c}\n"}, "two objects would be file x-c.yaml"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			bundle := fstest.MapFS{}
			for name, text := range map[string]string{"bundle.yaml": catalogue, "base/kustomization.yaml": base, "base/o.yaml": object} {
				bundle[name] = &fstest.MapFile{Data: []byte(text)}
			}
			for name, text := range tc.files {
				bundle[name] = &fstest.MapFile{Data: []byte(text)}
			}
			r, err := render.New(bundle)
			if err == nil {
				_, err = r.Render(readTenant(t, "minimal"))
			}
			g.Expect(err).To(MatchError(ContainSubstring(tc.message)))
			var mendable *render.Error
			g.Expect(errors.As(err, &mendable)).To(BeFalse(), "a tenant cannot mend the bundle bases")
		})
	}
}

// TestReplacementOptions shows each option of a replacement that the bundle bases may use.
func TestReplacementOptions(t *testing.T) {
	g := NewWithT(t)
	source := "- source: {kind: Tenant, fieldPath: metadata.name}\n  targets:\n"
	target := func(path, options string) string {
		return "  - select: {version: v1, kind: Config.*, name: c}\n    reject: [{name: other}]\n    fieldPaths: ['" + path + "']\n    options: {" + options + "}\n"
	}
	bundle := fstest.MapFS{
		"bundle.yaml":             {Data: []byte("layers: [{name: l, base: base}]")},
		"base/kustomization.yaml": {Data: []byte("resources: [c.yaml, other.yaml]")},
		"base/c.yaml":             {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {first: x/b/c, middle: a/x/c, last: a/b}\n")},
		"base/other.yaml":         {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n")},
		"base/replacements.yaml": {Data: []byte(source +
			target("data.first", "delimiter: /, index: -1") + target("data.middle", "delimiter: /, index: 1") +
			target("data.last", "delimiter: /, index: 9"))},
	}
	r, err := render.New(bundle)
	g.Expect(err).NotTo(HaveOccurred())
	tenant := readTenant(t, "minimal")
	tenant.Spec.CommonMetadata = &kustomizev1.CommonMetadata{Labels: map[string]string{"z": "1"}}
	for range 2 {
		b, err := r.Render(tenant)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(b.YAML())).To(Equal(`apiVersion: v1
data:
  first: bhs/x/b/c
  last: a/b/bhs
  middle: a/bhs/c
kind: ConfigMap
metadata:
  labels:
    z: "1"
  name: c
---
apiVersion: v1
kind: ConfigMap
metadata:
  labels:
    z: "1"
  name: other
`))
	}
}

func TestNewWithoutCatalogue(t *testing.T) {
	_, err := render.New(fstest.MapFS{})
	NewWithT(t).Expect(err).To(MatchError(ContainSubstring("bundle.yaml")))
}

// TestYAMLStream shows that the stream has the objects of the files, those that others need first.
func TestYAMLStream(t *testing.T) {
	g := NewWithT(t)
	r, err := render.New(bundles.FS)
	g.Expect(err).NotTo(HaveOccurred())
	b, err := r.Render(readTenant(t, "full"))
	g.Expect(err).NotTo(HaveOccurred())
	files, err := b.Files()
	g.Expect(err).NotTo(HaveOccurred())
	var kinds []string
	for doc := range strings.SplitSeq(string(b.YAML()), "\n---\n") {
		kinds = append(kinds, fmt.Sprint(decode(t, []byte(doc))["kind"]))
	}
	g.Expect(kinds).To(HaveLen(len(files) - len(b.Layers)))
	at := func(kind string) int {
		for i, k := range kinds {
			if k == kind {
				return i
			}
		}
		return -1
	}
	g.Expect(at("Cluster")).To(BeNumerically("<", at("Deployment")))
	g.Expect(at("ServiceAccount")).To(BeNumerically("<", at("Deployment")))
	g.Expect(at("ConfigMap")).To(BeNumerically("<", at("Deployment")))
}

// TestDataIsNotPruned shows that Flux is told to keep what holds data, and what keeps it closed, whatever the deletion
// policy is now: an object in the cluster is pruned by what was rendered last, and the policy may have changed since.
func TestDataIsNotPruned(t *testing.T) {
	r := newRenderer(t)
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.RetainData, v1alpha1.DeleteData} {
		t.Run(string(policy), func(t *testing.T) {
			g := NewWithT(t)
			tenant := readTenant(t, "minimal")
			tenant.Spec.DeletionPolicy = policy
			b, err := r.Render(tenant)
			g.Expect(err).NotTo(HaveOccurred())
			var kept []string
			for _, l := range b.Layers {
				for _, o := range l.Objects {
					metadata := decode(t, o.YAML())["metadata"].(map[string]any)
					annotations, _ := metadata["annotations"].(map[string]any)
					if annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled" {
						kept = append(kept, o.Kind+"/"+o.Name)
					}
				}
			}
			g.Expect(kept).To(ConsistOf("Cluster/postgres", "PersistentVolumeClaim/orthanc-storage",
				"NetworkPolicy/default-deny", "NetworkPolicy/allow-dns", "NetworkPolicy/postgres", "Certificate/tenant-ca"))
		})
	}
}
