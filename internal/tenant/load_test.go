// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// files are the files of a revision by path.
type files map[string]string

func (f files) fs() fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range f {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

const head = "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: Tenant\n"

// simple is a tenant in seven lines; spec is appended, indented by two.
func simple(name string, spec ...string) string {
	out := head + "metadata:\n  name: " + name + "\nspec:\n  domain: " + name + ".orthweb.com\n"
	for _, line := range spec {
		out += "  " + line + "\n"
	}
	return out
}

func class(name string, spec ...string) string {
	out := "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: TenantClass\nmetadata:\n  name: " + name + "\nspec:\n"
	for _, line := range spec {
		out += "  " + line + "\n"
	}
	return out
}

// held is a tenant that exists, of an age in days, from a file.
func held(name, file string, age int, edit ...func(*v1alpha1.Tenant)) v1alpha1.Tenant {
	t := v1alpha1.Tenant{}
	t.Name, t.Namespace = name, "flux-system"
	t.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 100-age, 0, 0, 0, 0, time.UTC))
	t.Labels = map[string]string{v1alpha1.RepositoryLabel: "tenants"}
	t.Annotations = map[string]string{v1alpha1.PathAnnotation: file}
	t.Spec.Domain = name + ".orthweb.com"
	for _, e := range edit {
		e(&t)
	}
	t.SetDefaults()
	return t
}

// everyField are rules by which a facility may set every field, for tests of what it sets.
func everyField(t testing.TB) *tenant.Rules {
	t.Helper()
	rules, errs := tenant.NewRules(&v1alpha1.TenantRepositorySpec{
		FacilityFields:            v1alpha1.FacilityFields{Allow: []string{"spec", "metadata"}},
		AllowedServiceAnnotations: []string{"example.com/scheme"},
		CommonMetadataDomains:     []v1alpha1.Hostname{"example.com"},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return rules
}

func load(t *testing.T, f files, held ...v1alpha1.Tenant) *tenant.Result {
	t.Helper()
	result, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Namespace: "flux-system", Repository: "tenants", Rules: everyField(t), Held: held})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func names(r *tenant.Result) []string {
	out := []string{}
	for _, d := range r.Definitions {
		out = append(out, d.Tenant.Name)
	}
	return out
}

// problem is what is expected of a v1alpha1.Problem; text is a part of its message.
type problem struct{ file, tenant, field, reason, text string }

func expectProblems(t *testing.T, r *tenant.Result, want []problem) {
	t.Helper()
	g := NewWithT(t)
	g.Expect(r.Problems).To(HaveLen(len(want)), "%+v", r.Problems)
	for i, w := range want {
		p := r.Problems[i]
		g.Expect([]string{p.File, p.Tenant, p.Field, p.Reason}).To(Equal([]string{w.file, w.tenant, w.field, w.reason}), "%+v", p)
		g.Expect(p.Message).To(ContainSubstring(w.text))
		g.Expect(len(p.Message)).To(BeNumerically("<", 900), p.Message)
	}
}

const (
	invalid   = v1alpha1.InvalidDefinitionReason
	malformed = v1alpha1.MalformedFileReason
	conflict  = v1alpha1.ConflictReason
)

func TestLoadFiles(t *testing.T) {
	good := simple("good")
	for _, tc := range []struct {
		name     string
		files    files
		tenants  []string
		problems []problem
	}{
		{name: "empty directory", files: files{"tenants/README.md": "x"}},
		{name: "one tenant", files: files{"tenants/good.yaml": good}, tenants: []string{"good"}},
		{name: "yml, directories below, names sorted", files: files{"tenants/z/b.yml": simple("b"), "tenants/c.yaml": simple("c")}, tenants: []string{"b", "c"}},
		{name: "hidden files and directories", files: files{"tenants/.a.yaml": "{", "tenants/.git/b.yaml": "{", "tenants/good.yaml": good}, tenants: []string{"good"}},
		{name: "other files", files: files{"tenants/notes.txt": "{", "tenants/good.yaml": good, "elsewhere/b.yaml": "{"}, tenants: []string{"good"}},
		{name: "empty documents", files: files{"tenants/good.yaml": "---\n# nothing\n---\n" + good + "---\n---\n"}, tenants: []string{"good"}},
		{name: "empty file", files: files{"tenants/a.yaml": "", "tenants/b.yaml": "# nothing\n", "tenants/good.yaml": good}, tenants: []string{"good"}},
		{name: "CRLF", files: files{"tenants/good.yaml": strings.ReplaceAll(good, "\n", "\r\n")}, tenants: []string{"good"}},
		{name: "byte order mark", files: files{"tenants/good.yaml": "\xef\xbb\xbf" + good}, tenants: []string{"good"}},
		{name: "JSON", files: files{"tenants/good.yaml": `{"apiVersion":"korthweb.digihunch.com/v1alpha1","kind":"Tenant","metadata":{"name":"good"},"spec":{"domain":"a.b"}}`}, tenants: []string{"good"}},
		{name: "kustomize's own kind", files: files{"tenants/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n", "tenants/good.yaml": good}, tenants: []string{"good"}},
		{
			name: "kustomize's own kind beside a tenant", files: files{"tenants/good.yaml": good + "---\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"},
			tenants: []string{"good"}, problems: []problem{{"tenants/good.yaml:9", "", "kind", invalid, "passed over only in files named kustomization.yaml"}},
		},
		{
			name: "broken YAML takes all of its file", files: files{"tenants/x.yaml": simple("x") + "---\n" + head + "metadata: {name: y\n", "tenants/good.yaml": good},
			tenants: []string{"good"}, problems: []problem{{"tenants/x.yaml:10", "", "", malformed, "is not YAML: "}},
		},
		{
			name: "tab", files: files{"tenants/a.yaml": head + "metadata:\n\tname: x\n"},
			problems: []problem{{"tenants/a.yaml:4", "", "", malformed, "indented with a tab"}},
		},
		{
			name: "UTF-16", files: files{"tenants/a.yaml": "\xff\xfea\x00"},
			problems: []problem{{"tenants/a.yaml:1", "", "", malformed, "is UTF-16: save it as UTF-8"}},
		},
		{
			name: "Latin-1", files: files{"tenants/x.yaml": simple("x", "displayName: K\xf6ln")},
			problems: []problem{{"tenants/x.yaml:7", "", "", malformed, "byte 0xf6, which is not UTF-8"}},
		},
		{
			name: "NUL", files: files{"tenants/x.yaml": simple("x", "displayName: \x00")},
			problems: []problem{{"tenants/x.yaml:7", "", "", malformed, "NUL byte"}},
		},
		{
			name: "another kind", files: files{"tenants/good.yaml": good + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"},
			tenants: []string{"good"}, problems: []problem{{"tenants/good.yaml:9", "", "kind", invalid, `another kind in the path: found "Secret" of "v1"`}},
		},
		{
			name: "another version", files: files{"tenants/good.yaml": strings.Replace(good, "v1alpha1", "v2", 1)},
			problems: []problem{{"tenants/good.yaml:1", "good", "apiVersion", invalid, "expected korthweb.digihunch.com/v1alpha1"}},
		},
		{
			name: "no kind", files: files{"tenants/a.yaml": "apiVersion: korthweb.digihunch.com/v1alpha1\nmetadata: {name: x}\n"},
			problems: []problem{{"tenants/a.yaml:1", "", "kind", invalid, "has no kind"}},
		},
		{
			name: "no mapping", files: files{"tenants/a.yaml": "- a\n", "tenants/b.yaml": "\n\nhello\n"},
			problems: []problem{{"tenants/a.yaml:1", "", "", malformed, "not a mapping"}, {"tenants/b.yaml:3", "", "", malformed, "not a mapping"}},
		},
		{
			name: "no name", files: files{"tenants/a.yaml": head + "spec: {domain: a.b}\n", "tenants/b.yaml": head + "metadata: {name: 17}\nspec: {domain: a.b}\n"},
			problems: []problem{{"tenants/a.yaml:1", "", "metadata.name", invalid, "a Tenant needs a name"}, {"tenants/b.yaml:3", "", "metadata.name", invalid, "must be text"}},
		},
		{
			name: "same key twice", files: files{"tenants/x.yaml": simple("x", "displayName: a", "orthanc: {}", "displayName: b")},
			problems: []problem{{"tenants/x.yaml:9", "x", "spec.displayName", malformed, "stands here and in line 7"}},
		},
		{
			name: "key that is no text", files: files{"tenants/x.yaml": simple("x", "no: a", "17: b")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec", malformed, `key "no" is not text: quote it`}, {"tenants/x.yaml:8", "x", "spec", malformed, `key "17"`}},
		},
		{
			name: "tag", files: files{"tenants/x.yaml": simple("x", "displayName: !!binary aGk=")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec.displayName", malformed, "has no meaning here"}},
		},
		{
			name: "infinity", files: files{"tenants/x.yaml": simple("x", "orthanc: {replicas: .inf}")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec.orthanc.replicas", malformed, "cannot be a value"}},
		},
		{
			name: "text that YAML takes for a boolean", files: files{"tenants/x.yaml": simple("x", "displayName: no")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec.displayName", invalid, "YAML reads no as a boolean: quote it"}},
		},
		{
			name: "text that people cannot see", files: files{
				"tenants/a.yaml": simple("a", `displayName: "Klinik\u202e"`), "tenants/b.yaml": simple("b", `displayName: "Kli\u200bnik"`), "tenants/c.yaml": simple("c", `displayName: "Klinik\u009b1m"`),
				"tenants/d.yaml": simple("d", `displayName: "\ufeffKlinik"`), "tenants/e.yaml": simple("e", `displayName: "Klinik\u2028x"`), "tenants/f.yaml": simple("f", `displayName: "Klinik\ue000"`),
				"tenants/good.yaml": simple("good", `displayName: "Klinikum Süd – 放射線科 \"Ost\" (10 €) हृदय"`),
			},
			tenants: []string{"good"}, problems: []problem{
				{"tenants/a.yaml:7", "a", "spec.displayName", invalid, "that people can see"}, {"tenants/b.yaml:7", "b", "spec.displayName", invalid, "that people can see"},
				{"tenants/c.yaml:7", "c", "spec.displayName", invalid, "that people can see"}, {"tenants/d.yaml:7", "d", "spec.displayName", invalid, "that people can see"},
				{"tenants/e.yaml:7", "e", "spec.displayName", invalid, "that people can see"}, {"tenants/f.yaml:7", "f", "spec.displayName", invalid, "that people can see"},
			},
		},
		{
			name: "anchor, alias and merge key", files: files{"tenants/x.yaml": simple("x", "orthanc: {storage: &s {size: 5Gi}}", "postgres: {storage: {<<: *s, className: fast}}")},
			tenants: []string{"x"},
		},
		{
			name: "alias within its anchor", files: files{"tenants/x.yaml": simple("x", "orthanc: &o {storage: *o}"), "tenants/good.yaml": good},
			tenants: []string{"good"}, problems: []problem{{"tenants/x.yaml:7", "x", "spec.orthanc.storage", malformed, "within its own anchor"}},
		},
		{
			name: "unknown fields", files: files{"tenants/x.yaml": simple("x", "orthanc:", "  replica: 2", "ingres: {}") + "sepc: {}\n"},
			problems: []problem{
				{"tenants/x.yaml:8", "x", "spec.orthanc.replica", invalid, "unknown field spec.orthanc.replica, did you mean replicas?"},
				{"tenants/x.yaml:9", "x", "spec.ingres", invalid, "unknown field spec.ingres, did you mean ingress?"},
				{"tenants/x.yaml:10", "x", "sepc", invalid, "unknown field sepc, did you mean spec?"},
			},
		},
		{
			name: "unknown field that is like nothing", files: files{"tenants/x.yaml": simple("x", "colour: red")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec.colour", invalid, "unknown field spec.colour: remove it"}},
		},
		{
			name: "bad values", files: files{"tenants/x.yaml": simple("x", "orthanc:", "  modalities:", "  - {name: a, aeTitle: A, host: a, port: 1}", "  - name: b", "    aeTitle: 'B\\'", "    host: b", "    port: 1", "ingress:", "  dicom:", "    port: 443")},
			problems: []problem{
				{"tenants/x.yaml:11", "x", "spec.orthanc.modalities[1].aeTitle", invalid, "an AE title is 1 to 16 printable ASCII characters"},
				{"tenants/x.yaml:16", "x", "spec.ingress.dicom.port", invalid, "the gateway's own"},
			},
		},
		{
			name: "missing value", files: files{"tenants/x.yaml": head + "metadata: {name: x}\nspec:\n  displayName: x\n"},
			problems: []problem{{"tenants/x.yaml:4", "x", "spec.domain", invalid, "missing: set it"}},
		},
		{
			name: "default that does not fit", files: files{"tenants/x.yaml": head + "metadata: {name: x}\nspec:\n  domain: " + strings.Repeat("a.", 124) + "aaa\n"},
			problems: []problem{{"tenants/x.yaml:4", "x", "spec.ingress.dicom.host", invalid, "253"}},
		},
		{
			name: "metadata", files: files{"tenants/x.yaml": head + strings.Join([]string{
				"metadata:", "  name: x", "  namespace: other", "  uid: abc", "  labels:", "    a b: c", "    k: 1", "  annotations:", "    korthweb.digihunch.com/revision: x", "    ok: yes it is",
				"spec: {domain: a.b}", "status: {}", "",
			}, "\n")},
			problems: []problem{
				{"tenants/x.yaml:5", "x", "metadata.namespace", invalid, "must be flux-system"},
				{"tenants/x.yaml:6", "x", "metadata.uid", invalid, "unknown field metadata.uid"},
				{"tenants/x.yaml:9", "x", "metadata.labels[k]", invalid, "must be text"},
				{"tenants/x.yaml:11", "x", "metadata.annotations[korthweb.digihunch.com/revision]", invalid, "Korthweb's own"},
				{"tenants/x.yaml:14", "x", "status", invalid, "Korthweb's to write"},
			},
		},
		{
			name: "label that is none", files: files{"tenants/x.yaml": head + "metadata:\n  name: x\n  labels:\n    a b: c\nspec: {domain: a.b}\n"},
			problems: []problem{{"tenants/x.yaml:5", "x", "metadata.labels", invalid, `"a b"`}},
		},
		{
			name: "the platform's namespace", files: files{"tenants/x.yaml": simple("x", "namespace: flux-system")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec.namespace", invalid, "must not be the namespace that the Tenant itself lives in"}},
		},
		{
			name: "a namespace of the platform", files: files{"tenants/x.yaml": simple("x", "namespace: istio-system"), "tenants/w.yaml": simple("w", "namespace: cert-manager"), "tenants/z.yaml": simple("z", "namespace: cnpg-system")},
			problems: []problem{
				{"tenants/w.yaml:7", "w", "spec.namespace", invalid, "must not be a namespace of the platform"},
				{"tenants/x.yaml:7", "x", "spec.namespace", invalid, "must not be a namespace of the platform"},
				{"tenants/z.yaml:7", "z", "spec.namespace", invalid, "must not be a namespace of the platform"},
			},
		},
		{
			name: "common metadata", files: files{"tenants/x.yaml": simple("x", "commonMetadata:", "  labels:", "    korthweb.digihunch.com/tenant: z", "    app.kubernetes.io/managed-by: me", "    ok: 'a b'", "  annotations:", "    kustomize.toolkit.fluxcd.io/prune: disabled")},
			problems: []problem{
				{"tenants/x.yaml:8", "x", "spec.commonMetadata.labels", invalid, "a valid label must be"},
				{"tenants/x.yaml:9", "x", "spec.commonMetadata.labels[korthweb.digihunch.com/tenant]", invalid, "one of your own"},
				{"tenants/x.yaml:10", "x", "spec.commonMetadata.labels[app.kubernetes.io/managed-by]", invalid, "one of your own"},
				{"tenants/x.yaml:13", "x", "spec.commonMetadata.annotations[kustomize.toolkit.fluxcd.io/prune]", invalid, "one of your own"},
			},
		},
		{
			name: "request above limit", files: files{"tenants/x.yaml": simple("x", "orthanc:", "  resources:", "    requests: {memory: 2Gi}", "    limits: {memory: 1Gi}")},
			problems: []problem{{"tenants/x.yaml:9", "x", "spec.orthanc.resources.requests[memory]", invalid, "must not be above the limit, 1Gi"}},
		},
		{
			name: "dependency that is no name", files: files{"tenants/x.yaml": simple("x", "dependsOn: [{name: a_b}]")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec.dependsOn[0].name", invalid, "RFC 1123"}},
		},
		{
			name: "one name twice", files: files{"tenants/east/good.yaml": good, "tenants/good.yml": good},
			tenants: []string{"good"}, problems: []problem{{"tenants/good.yml:4", "good", "metadata.name", conflict, "defined at tenants/east/good.yaml:1 and again at tenants/good.yml:4"}},
		},
		{
			name: "too many documents", files: files{"tenants/a.yaml": strings.Repeat("---\na: b\n", 1001), "tenants/good.yaml": good},
			tenants: []string{"good"}, problems: []problem{{"tenants/a.yaml:2001", "", "", malformed, "more than 1000 documents"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := load(t, tc.files)
			expectProblems(t, r, tc.problems)
			if tc.tenants == nil {
				tc.tenants = []string{}
			}
			NewWithT(t).Expect(names(r)).To(Equal(tc.tenants))
		})
	}
}

func TestLoadResolves(t *testing.T) {
	g := NewWithT(t)
	f := files{
		"tenants/classes/class.yaml": class("std", "orthanc: {aeTitle: STD, autoscaling: {maxReplicas: 3}, storage: {size: 5Gi}}", "commonMetadata: {labels: {a: class, c: class}}", "displayName: null"),
		"tenants/x.yaml":             "# about x\n" + simple("x", "className: std", "orthanc: {autoscaling: null, replicas: 2, storage: {className: fast}}", "dependsOn: [{name: mine}, {name: shared}]"),
	}
	r, err := tenant.Load(f.fs(), tenant.Options{
		Path: "./tenants/", Namespace: "flux-system", Rules: everyField(t),
		DependsOn:      []v1alpha1.DependencyReference{{Name: "shared"}},
		CommonMetadata: &kustomizev1.CommonMetadata{Labels: map[string]string{"a": "repository", "b": "repository"}},
	})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.Problems).To(BeEmpty())
	g.Expect(r.Definitions).To(HaveLen(1))
	d := r.Definitions[0]
	g.Expect([]any{d.File, d.Line}).To(Equal([]any{"tenants/x.yaml", 2}))
	g.Expect(d.Tenant.Namespace).To(Equal("flux-system"))
	g.Expect(d.Tenant.GroupVersionKind().String()).To(Equal("korthweb.digihunch.com/v1alpha1, Kind=Tenant"))
	s := d.Tenant.Spec
	g.Expect(s.Orthanc.AETitle).To(BeEquivalentTo("STD"))
	g.Expect(s.Orthanc.Replicas).To(Equal(ptr.To[int32](2)))
	g.Expect(s.Orthanc.Autoscaling).To(BeNil())
	g.Expect(s.Orthanc.Storage.Size.String()).To(Equal("5Gi"))
	g.Expect(s.Orthanc.Storage.ClassName).To(Equal("fast"))
	g.Expect(s.DependsOn).To(Equal([]v1alpha1.DependencyReference{{Name: "shared"}, {Name: "mine"}}))
	g.Expect(s.CommonMetadata.Labels).To(Equal(map[string]string{"a": "class", "b": "repository", "c": "class"}))
	g.Expect(s.Namespace).To(Equal("x-orthweb"))
	g.Expect(s.Ingress.DICOM.Host).To(BeEquivalentTo("dicom.x.orthweb.com"))
}

func TestLoadClasses(t *testing.T) {
	uses := func(spec ...string) string { return simple("x", append([]string{"className: std"}, spec...)...) }
	missing := problem{"tenants/x.yaml:7", "x", "spec.className", invalid, "there is no TenantClass of this name below tenants/classes"}
	bad := problem{"tenants/x.yaml:7", "x", "spec.className", invalid, "TenantClass std at tenants/classes/class.yaml:1 has problems"}
	for _, tc := range []struct {
		name     string
		files    files
		problems []problem
	}{
		{name: "no such class", files: files{"tenants/x.yaml": uses()}, problems: []problem{missing}},
		{
			name: "class of a similar name", files: files{"tenants/x.yaml": uses(), "tenants/classes/class.yaml": class("sdt", "suspend: true")},
			problems: []problem{{"tenants/x.yaml:7", "x", "spec.className", invalid, "did you mean sdt?"}},
		},
		{
			name: "what a tenant must have", files: files{"tenants/x.yaml": uses(), "tenants/classes/class.yaml": class("std", "domain: a.b", "namespace: a", "className: b")},
			problems: []problem{
				{"tenants/classes/class.yaml:6", "", "spec.domain", invalid, "each is a tenant's own"},
				{"tenants/classes/class.yaml:7", "", "spec.namespace", invalid, "each is a tenant's own"},
				{"tenants/classes/class.yaml:8", "", "spec.className", invalid, "each is a tenant's own"},
				bad,
			},
		},
		{
			name: "unknown field and bad value in a class", files: files{"tenants/x.yaml": uses(), "tenants/classes/class.yaml": class("std", "orthanc:", "  aetitle: X", "  replicas: 0", "  aeTitle: 'a\\b'")},
			problems: []problem{
				{"tenants/classes/class.yaml:7", "", "spec.orthanc.aetitle", invalid, "did you mean aeTitle?"},
				{"tenants/classes/class.yaml:8", "", "spec.orthanc.replicas", invalid, "greater than or equal to 1"},
				{"tenants/classes/class.yaml:9", "", "spec.orthanc.aeTitle", invalid, "AE title"},
				bad,
			},
		},
		{
			name: "class without name and spec", files: files{"tenants/classes/class.yaml": "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: TenantClass\nmetadata: {labels: {}}\n"},
			problems: []problem{
				{"tenants/classes/class.yaml:1", "", "spec", invalid, "needs a spec"},
				{"tenants/classes/class.yaml:3", "", "metadata.labels", invalid, "unknown field"},
				{"tenants/classes/class.yaml:3", "", "metadata.name", invalid, "needs a name"},
			},
		},
		{
			name: "two classes of one name", files: files{"tenants/x.yaml": uses(), "tenants/classes/class.yaml": class("std", "suspend: true") + "---\n" + class("std", "suspend: false")},
			problems: []problem{{"tenants/classes/class.yaml:11", "", "metadata.name", conflict, "TenantClass std is defined at tenants/classes/class.yaml:1 and again at tenants/classes/class.yaml:11"}, bad},
		},
		{
			name: "part of an object in the class, the rest in the tenant", files: files{"tenants/x.yaml": uses("orthanc: {autoscaling: {maxReplicas: 3}}"), "tenants/classes/class.yaml": class("std", "orthanc: {autoscaling: {minReplicas: 2}}")},
		},
		{
			name: "class and tenant exclude each other", files: files{"tenants/x.yaml": uses("orthanc: {autoscaling: {maxReplicas: 3}}"), "tenants/classes/class.yaml": class("std", "orthanc:", "  replicas: 2")},
			problems: []problem{{"tenants/x.yaml:8", "x", "spec.orthanc", invalid, "replicas and autoscaling exclude each other: set one (merged with TenantClass std at tenants/classes/class.yaml:6; null removes"}},
		},
		{
			name: "object of the class that is wrong with what the defaults add", files: files{"tenants/x.yaml": uses(), "tenants/classes/class.yaml": class("std", "certificates:", "  duration: 48h", "  renewBefore: 50h")},
			problems: []problem{{"tenants/x.yaml:5", "x", "spec.certificates.renewBefore", invalid, "two thirds of duration: the certificate would be renewed without rest (the value comes from TenantClass std at tenants/classes/class.yaml:8)"}},
		},
		{
			name: "null in a tenant and in a class", files: files{"tenants/x.yaml": uses("displayName: null", "orthanc: {replicas: null}"), "tenants/classes/class.yaml": class("std", "displayName: X", "orthanc: {replicas: 2, aeTitle: null}")},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := load(t, tc.files)
			expectProblems(t, r, tc.problems)
			if len(tc.problems) == 0 {
				NewWithT(t).Expect(names(r)).To(Equal([]string{"x"}))
			}
		})
	}
}

func TestLoadExisting(t *testing.T) {
	moved := held("bhs", "tenants/bhs.yaml", 1)
	r := load(t, files{"tenants/bhs.yaml": simple("bhs", "namespace: elsewhere")}, moved)
	expectProblems(t, r, []problem{{"tenants/bhs.yaml:7", "bhs", "spec.namespace", invalid, "namespace is immutable"}})

	others := held("bhs", "t/bhs.yaml", 1, func(t *v1alpha1.Tenant) { t.Labels = nil })
	r = load(t, files{"tenants/bhs.yaml": simple("bhs")}, others)
	expectProblems(t, r, []problem{{"tenants/bhs.yaml:4", "bhs", "metadata.name", conflict, "exists already and was made by hand"}})

	others.Labels = map[string]string{v1alpha1.RepositoryLabel: "second"}
	r = load(t, files{"tenants/bhs.yaml": simple("bhs")}, others)
	expectProblems(t, r, []problem{{"tenants/bhs.yaml:4", "bhs", "metadata.name", conflict, "comes from TenantRepository second"}})
}

func TestLoadNamespaceOffline(t *testing.T) {
	g := NewWithT(t)
	in := func(name, namespace string) string {
		return head + "metadata: {name: " + name + ", namespace: " + namespace + "}\nspec: {domain: " + name + ".b}\n"
	}
	f := files{"tenants/a.yaml": simple("a"), "tenants/b.yaml": in("b", "platform"), "tenants/c.yaml": in("c", "other")}
	r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants"})
	g.Expect(err).NotTo(HaveOccurred())
	expectProblems(t, r, []problem{{"tenants/c.yaml:3", "c", "metadata.namespace", invalid, "must be platform"}})
	g.Expect(names(r)).To(Equal([]string{"a", "b"}))
	g.Expect(r.Definitions[0].Tenant.Namespace).To(Equal("platform"))
}
