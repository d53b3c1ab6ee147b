// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

const reserved = v1alpha1.ReservedFieldReason

// others are the fields of the API that everything cannot have.
const others = `orthanc:
  autoscaling: {minReplicas: 2, maxReplicas: 4, targetCPUUtilizationPercentage: 70}
  storage:
    s3: {bucket: images, region: eu-central-1, endpoint: https://s3.example.com, virtualAddressing: true, rootPath: x, secretRef: {name: s3}}
postgres:
  external: {host: db.example.com, port: 5432, database: orthanc, secretRef: {name: db}, tlsMode: verify-full, caSecretRef: {name: ca}, maxConnections: 100}
  chart: {url: "oci://registry.example.com/postgresql-ha", version: 16.3.2, insecure: true, secretRef: {name: registry}}
`

// apiField is a field of our own types.
type apiField struct {
	path   string
	tag    string
	listed []bool // of each part of the path, whether it is a list
}

// apiFields are the fields of a Tenant's spec with those below, as far as the types are ours.
func apiFields(t reflect.Type, path string, listed []bool) []apiField {
	var out []apiField
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			out = append(out, apiField{path: path + "(" + f.Name + ")", tag: f.Tag.Get("facility")})
			continue
		}
		of, list := f.Type, false
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			list = list || of.Kind() == reflect.Slice
			of = of.Elem()
		}
		at := append(slices.Clone(listed), list)
		out = append(out, apiField{path: path + name, tag: f.Tag.Get("facility"), listed: at})
		if of.Kind() == reflect.Struct && of.PkgPath() == reflect.TypeFor[v1alpha1.TenantSpec]().PkgPath() {
			out = append(out, apiFields(of, path+name+".", at)...)
		}
	}
	return out
}

func specFields() []apiField {
	return apiFields(reflect.TypeFor[v1alpha1.TenantSpec](), "spec.", []bool{false})
}

// TestEveryFieldIsMarked holds that somebody has said of each field of the API whether a facility may set it.
func TestEveryFieldIsMarked(t *testing.T) {
	fields := specFields()
	NewWithT(t).Expect(len(fields)).To(BeNumerically(">", 80))
	for _, f := range fields {
		if f.tag != "allowed" && f.tag != "reserved" {
			t.Errorf(`%s is marked %q: write facility:"allowed" or facility:"reserved" behind its JSON name`, f.path, f.tag)
		}
	}
}

// example returns the value of a field, and of the whole of the reserved field that it is part of.
func example(t *testing.T, path string) any {
	t.Helper()
	for _, text := range []string{everything, others} {
		spec := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &spec); err != nil {
			t.Fatal(err)
		}
		var value any = map[string]any{"spec": spec}
		for name := range strings.SplitSeq(path, ".") {
			if list, ok := value.([]any); ok {
				value = list[0]
			}
			object, _ := value.(map[string]any)
			value = object[name]
		}
		if value != nil {
			return value
		}
	}
	t.Fatalf("%s has no example: add one to everything or to others", path)
	return nil
}

// nested is a document's part that sets one field: a line for each level above it, and its value on the line of its name.
func nested(t *testing.T, f apiField, value any) string {
	t.Helper()
	var out strings.Builder
	parts := strings.Split(f.path, ".")
	indent := ""
	for i, name := range parts {
		fmt.Fprintf(&out, "%s%s:", indent, name)
		if i == len(parts)-1 {
			text, err := yaml.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			json, err := yaml.YAMLToJSON(text)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, " %s\n", json)
			break
		}
		out.WriteByte('\n')
		indent += "  "
		if f.listed[i] {
			indent += "- "
		}
	}
	return strings.ReplaceAll(out.String(), "- - ", "- ")
}

// TestFacilityMayNotSet holds of every reserved field that a facility's own file may not set it, that the problem names
// file, line, field and what to do, and that a class may. New fields of the API are tried by themselves.
func TestFacilityMayNotSet(t *testing.T) {
	above := map[string]bool{}
	count := 0
	for _, f := range specFields() {
		if f.tag != "reserved" || strings.Contains(f.path, "(") {
			continue
		}
		count++
		t.Run(f.path, func(t *testing.T) {
			g := NewWithT(t)
			value := example(t, f.path)
			text := head + "metadata: {name: x}\n" + nested(t, f, value)
			lines := strings.Split(text, "\n")
			r := loadDefault(t, files{"tenants/x.yaml": text})
			g.Expect(names(r)).To(BeEmpty())
			found := slices.DeleteFunc(slices.Clone(r.Problems), func(p v1alpha1.Problem) bool { return p.Reason != reserved })
			g.Expect(found).NotTo(BeEmpty(), text)
			for _, p := range found {
				// The field itself, one below it that the value has, or the list that it is in.
				g.Expect(strings.HasPrefix(p.Field, f.path) || strings.HasPrefix(f.path, p.Field+".")).To(BeTrue(), p.Field)
				var line int
				_, err := fmt.Sscanf(p.File, "tenants/x.yaml:%d", &line)
				g.Expect(err).NotTo(HaveOccurred())
				parts := strings.Split(p.Field, ".")
				g.Expect(lines[line-1]).To(ContainSubstring(parts[len(parts)-1]), p.File)
				if f.path != "spec.namespace" { // which no class has
					g.Expect(p.Message).To(ContainSubstring("a class below tenants/classes"))
				}
				g.Expect(p.Message).To(ContainSubstring("spec.facilityFields.allow of the TenantRepository"))
			}

			// Null is setting it, too.
			r = loadDefault(t, files{"tenants/x.yaml": head + "metadata: {name: x}\n" + nested(t, f, nil)})
			g.Expect(reasons(r)).To(ContainElement(reserved))

			// The platform may allow it.
			rules, errs := tenant.NewRules(&v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Allow: []string{f.path}}})
			g.Expect(errs).To(BeEmpty())
			r, err := tenant.Load(files{"tenants/x.yaml": text}.fs(), tenant.Options{Path: "tenants", Rules: rules})
			g.Expect(err).NotTo(HaveOccurred())
			if len(r.Problems) > 0 && !slices.Contains(f.listed, true) {
				g.Expect(reasons(r)).NotTo(ContainElement(reserved), "%v", r.Problems)
			}
		})

		// In a class, with all of the reserved field that it is part of.
		top := f
		for _, other := range specFields() {
			if other.tag == "reserved" && strings.HasPrefix(f.path, other.path+".") && len(other.path) < len(top.path) {
				top = other
			}
		}
		if above[top.path] || top.path == "spec.namespace" {
			continue
		}
		above[top.path] = true
		t.Run(top.path+" in a class", func(t *testing.T) {
			g := NewWithT(t)
			spec := strings.Split(strings.ReplaceAll(strings.TrimPrefix(nested(t, top, example(t, top.path)), "spec:\n"), "\n  ", "\n"), "\n")
			spec[0] = strings.TrimPrefix(spec[0], "  ")
			if top.path == "spec.postgres.chart" {
				spec = append(spec, "  provider: Bitnami")
			}
			rules, _ := tenant.NewRules(&v1alpha1.TenantRepositorySpec{AllowedServiceAnnotations: []string{"example.com/scheme"}})
			f := files{"tenants/x.yaml": simple("x", "className: c"), "tenants/classes/c.yaml": class("c", spec...)}
			r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Rules: rules})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Problems).To(BeEmpty(), f["tenants/classes/c.yaml"])
			g.Expect(names(r)).To(Equal([]string{"x"}))
		})
	}
	NewWithT(t).Expect(count).To(BeNumerically(">", 25))
}

// TestFacilityMaySet holds that no other field is refused for being reserved.
func TestFacilityMaySet(t *testing.T) {
	all := specFields()
	for _, f := range all {
		holds := slices.ContainsFunc(all, func(other apiField) bool { return strings.HasPrefix(other.path, f.path+".") })
		if f.tag != "allowed" || holds || strings.Contains(f.path, "(") {
			continue
		}
		t.Run(f.path, func(t *testing.T) {
			r := loadDefault(t, files{"tenants/x.yaml": head + "metadata: {name: x}\n" + nested(t, f, example(t, f.path))})
			NewWithT(t).Expect(reasons(r)).NotTo(ContainElement(reserved))
		})
	}
}

// rows are the fields of a table that says who may set them: those all of whose parts have one mark, and no part of
// another row.
func rows() []string {
	all := specFields()
	var out []string
	whole := ""
	for _, f := range all {
		if strings.Contains(f.path, "(") || whole != "" && strings.HasPrefix(f.path, whole) {
			continue
		}
		below := func(other apiField) bool {
			return strings.HasPrefix(other.path, f.path+".") && !strings.Contains(other.path, "(") && other.tag != f.tag
		}
		if slices.ContainsFunc(all, below) {
			continue
		}
		whole = f.path + "."
		may := "yes"
		if f.tag == "reserved" {
			may = "no"
		}
		out = append(out, fmt.Sprintf("| `%s` | %s |", strings.TrimPrefix(f.path, "spec."), may))
	}
	return append(out, "| `metadata.labels`, `metadata.annotations` | no |")
}

// TestDocumentedFields holds that the documentation says of every field whether a facility may set it.
func TestDocumentedFields(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "spec", "v1alpha1", "tenants.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(data), "| field | a facility's own file may set it |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	NewWithT(t).Expect(strings.Split(table, "\n")).To(Equal(rows()), "write:\n%s", strings.Join(rows(), "\n"))
}

// loadDefault loads with the rules of a TenantRepository that says nothing.
func loadDefault(t *testing.T, f files, held ...v1alpha1.Tenant) *tenant.Result {
	t.Helper()
	r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Namespace: "flux-system", Repository: "tenants", Held: held})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reasons(r *tenant.Result) []string {
	set := map[string]bool{}
	for _, p := range r.Problems {
		set[p.Reason] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// TestFacilityTricks tries to get past what is reserved.
func TestFacilityTricks(t *testing.T) {
	standard := class("std", "ingress: {service: {type: ClusterIP}}", "quota: {hard: {pods: 10}}", "orthanc: {image: 'orthancteam/orthanc:26.8.1'}")
	for _, tc := range []struct {
		name     string
		text     string // of tenants/x.yaml
		problems []problem
	}{
		{"the parent null", simple("x", "className: std", "ingress: null"), []problem{{"tenants/x.yaml:8", "x", "spec.ingress", reserved, "(chart, service)"}}},
		{"the parent without a value", simple("x", "className: std", "ingress:"), []problem{{"tenants/x.yaml:8", "x", "spec.ingress", reserved, "allow spec.ingress.chart"}}},
		{"the parent ~", simple("x", "className: std", "ingress: ~"), []problem{{"tenants/x.yaml:8", "x", "spec.ingress", reserved, "takes fields with it"}}},
		{"the field null", simple("x", "className: std", "ingress:", "  service: null"), []problem{{"tenants/x.yaml:9", "x", "spec.ingress.service", reserved, "is for the platform to set"}}},
		{"a field below it null", simple("x", "className: std", "ingress: {service: {type: Null}}"), []problem{{"tenants/x.yaml:8", "x", "spec.ingress.service.type", reserved, ""}}},
		{"an empty object", simple("x", "quota: {}"), []problem{{"tenants/x.yaml:7", "x", "spec.quota", reserved, ""}}},
		{"an empty list", simple("x", "patches: []"), []problem{{"tenants/x.yaml:7", "x", "spec.patches", reserved, ""}}},
		{"the parent a list", simple("x", "ingress: [{service: {type: NodePort}}]"), []problem{
			{"tenants/x.yaml:7", "x", "spec.ingress", invalid, "must be of type object"}, {"tenants/x.yaml:7", "x", "spec.ingress", reserved, "takes fields with it"}}},
		{"the parent text", simple("x", "orthanc: 'image: evil'"), []problem{
			{"tenants/x.yaml:7", "x", "spec.orthanc", invalid, "must be of type object"}, {"tenants/x.yaml:7", "x", "spec.orthanc", reserved, "(image)"}}},
		{"an empty list for the parent", simple("x", "certificates: []"), []problem{
			{"tenants/x.yaml:7", "x", "spec.certificates", invalid, "must be of type object"}, {"tenants/x.yaml:7", "x", "spec.certificates", reserved, "(issuerRef)"}}},
		{"a merge key", "x-quota: &q {quota: {hard: {pods: 1}}}\n" + simple("x", "<<: *q"), []problem{
			{"tenants/x.yaml:1", "x", "spec.quota.hard", reserved, ""}, {"tenants/x.yaml:1", "x", "x-quota", invalid, "unknown field"}}},
		{"a merge key within the spec", simple("x", "orthanc: &o {aeTitle: X, image: evil/orthanc:1}", "<<: {orthanc: *o}"), []problem{{"tenants/x.yaml:7", "x", "spec.orthanc.image", reserved, ""}}},
		{"a list of merge keys", simple("x", "<<: [{displayName: X}, {deletionPolicy: Delete}]"), []problem{{"tenants/x.yaml:7", "x", "spec.deletionPolicy", reserved, ""}}},
		{"a merge key that is quoted", simple("x", "'<<': {deletionPolicy: Delete}"), []problem{{"tenants/x.yaml:7", "x", "spec.<<", invalid, "unknown field"}}},
		{"an alias", simple("x", "displayName: &d Delete", "deletionPolicy: *d"), []problem{{"tenants/x.yaml:8", "x", "spec.deletionPolicy", reserved, ""}}},
		{"an alias for the key", simple("x", "displayName: &d deletionPolicy", "*d : Delete"), []problem{{"tenants/x.yaml:8", "x", "spec.deletionPolicy", reserved, ""}}},
		{"an escaped key", simple("x", `"deletion\u0050olicy": Delete`), []problem{{"tenants/x.yaml:7", "x", "spec.deletionPolicy", reserved, ""}}},
		{"an explicit key", simple("x", "? deletionPolicy", ": Delete"), []problem{{"tenants/x.yaml:7", "x", "spec.deletionPolicy", reserved, ""}}},
		{"a tagged key", simple("x", "!!str deletionPolicy: Delete"), []problem{{"tenants/x.yaml:7", "x", "spec.deletionPolicy", reserved, ""}}},
		{"a key twice", simple("x", "displayName: X", "orthanc: {aeTitle: X}", "orthanc: {image: evil/orthanc:1}"), []problem{{"tenants/x.yaml:9", "x", "spec.orthanc", malformed, "stands here and in line 8"}}},
		{"a key in other case", simple("x", "deletionpolicy: Delete"), []problem{{"tenants/x.yaml:7", "x", "spec.deletionpolicy", invalid, "did you mean deletionPolicy?"}}},
		{"a key with a space", simple("x", "'deletionPolicy ': Delete"), []problem{{"tenants/x.yaml:7", "x", "spec.deletionPolicy ", invalid, "unknown field"}}},
		{"a path as a key", simple("x", "'orthanc.image': evil/orthanc:1"), []problem{{"tenants/x.yaml:7", "x", "spec.orthanc.image", invalid, "unknown field"}}},
		{"beside the spec", simple("x") + "quota: {hard: {pods: 1}}\n", []problem{{"tenants/x.yaml:7", "x", "quota", invalid, "unknown field"}}},
		{"the spec twice", simple("x") + "spec: {domain: x.y, deletionPolicy: Delete}\n", []problem{{"tenants/x.yaml:7", "x", "spec", malformed, "stands here and in line 5"}}},
		{"labels", strings.Replace(simple("x"), "name: x", "name: x\n  labels: {stage: first}", 1), []problem{{"tenants/x.yaml:5", "x", "metadata.labels", reserved, "tenantLabels of a class below tenants/classes"}}},
		{"no labels", strings.Replace(simple("x"), "name: x", "name: x\n  labels:", 1), []problem{{"tenants/x.yaml:5", "x", "metadata.labels", reserved, ""}}},
		{"annotations", strings.Replace(simple("x"), "name: x", "name: x\n  annotations: {a: b}", 1), []problem{{"tenants/x.yaml:5", "x", "metadata.annotations", reserved, ""}}},
		{"finalizers", strings.Replace(simple("x"), "name: x", "name: x\n  finalizers: [a/b]", 1), []problem{{"tenants/x.yaml:5", "x", "metadata.finalizers", invalid, "unknown field"}}},
		{"another namespace", strings.Replace(simple("x"), "name: x", "name: x\n  namespace: kube-system", 1), []problem{{"tenants/x.yaml:5", "x", "metadata.namespace", invalid, "must be flux-system"}}},
		{"several", simple("x", "suspend: true", "deletionPolicy: Delete", "orthanc:", "  image: evil/orthanc:1"), []problem{
			{"tenants/x.yaml:8", "x", "spec.deletionPolicy", reserved, ""}, {"tenants/x.yaml:10", "x", "spec.orthanc.image", reserved, ""}}},
		{"with CRLF", strings.ReplaceAll(simple("x", "deletionPolicy: Delete"), "\n", "\r\n"), []problem{{"tenants/x.yaml:7", "x", "spec.deletionPolicy", reserved, ""}}},
		{"behind a byte order mark", "\xef\xbb\xbf" + simple("x", "deletionPolicy: Delete"), []problem{{"tenants/x.yaml:7", "x", "spec.deletionPolicy", reserved, ""}}},
		{"as JSON", `{"apiVersion":"korthweb.digihunch.com/v1alpha1","kind":"Tenant","metadata":{"name":"x"},"spec":{"domain":"x.y","quota":{"hard":null}}}`,
			[]problem{{"tenants/x.yaml:1", "x", "spec.quota.hard", reserved, ""}}},
		{"in a List", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: korthweb.digihunch.com/v1alpha1, kind: Tenant, metadata: {name: x}, spec: {domain: x.y, deletionPolicy: Delete}}\n",
			[]problem{{"tenants/x.yaml:2", "", "kind", invalid, "another kind in the path"}}},
		{"in a TenantList", "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: TenantList\nitems: []\n", []problem{{"tenants/x.yaml:2", "", "kind", invalid, "another kind in the path"}}},
		{"a TenantRepository", "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: TenantRepository\nmetadata: {name: x}\nspec: {facilityFields: {allow: [spec]}}\n",
			[]problem{{"tenants/x.yaml:2", "", "kind", invalid, "another kind in the path"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := loadDefault(t, files{"tenants/x.yaml": tc.text, "tenants/classes/std.yaml": standard})
			expectProblems(t, r, tc.problems)
			NewWithT(t).Expect(names(r)).To(BeEmpty())
		})
	}
}

// TestRules holds how a platform amends what a facility may set.
func TestRules(t *testing.T) {
	modality := "orthanc: {modalities: [{name: a, aeTitle: A, host: a.example.com, port: 104}]}"
	for _, tc := range []struct {
		name           string
		allow, reserve []string
		spec           string
		class          []string
		fields         []string // that are refused as reserved
	}{
		{name: "allowed", allow: []string{"spec.quota"}, spec: "quota: {hard: {pods: 10}}"},
		{name: "allowed in part", allow: []string{"spec.quota.hard"}, spec: "quota: {hard: {pods: 10}, containers: {max: {memory: 1Gi}}}", fields: []string{"spec.quota.containers.max"}},
		{name: "allowed in part, set to null as a whole", allow: []string{"spec.quota.hard"}, spec: "quota: null", fields: []string{"spec.quota"}},
		{name: "allowed with a part reserved", allow: []string{"spec.quota"}, reserve: []string{"spec.quota.containers"}, spec: "quota: {hard: {pods: 10}, containers: {max: {memory: 1Gi}}}", fields: []string{"spec.quota.containers.max"}},
		{name: "reserved with a part allowed", reserve: []string{"spec.orthanc"}, allow: []string{"spec.orthanc.aeTitle"}, spec: "orthanc: {aeTitle: A, replicas: 2}", fields: []string{"spec.orthanc.replicas"}},
		{name: "all reserved but what is named", reserve: []string{"spec"}, allow: []string{"spec.domain"}, spec: "displayName: X", fields: []string{"spec.displayName"}},
		{name: "a field of a list's items", reserve: []string{"spec.orthanc.modalities.port"}, spec: modality, fields: []string{"spec.orthanc.modalities[0].port"}},
		{name: "a list that takes the place of the class's", reserve: []string{"spec.orthanc.modalities.permissions"}, spec: "className: c\n  " + modality,
			class:  []string{"orthanc: {modalities: [{name: a, aeTitle: A, host: a.example.com, port: 104, permissions: [Echo]}]}"},
			fields: []string{"spec.orthanc.modalities"}},
		{name: "a list without the reserved field", reserve: []string{"spec.orthanc.modalities.permissions"}, spec: modality},
		{name: "the list null", reserve: []string{"spec.orthanc.modalities.port"}, spec: "orthanc: {modalities: null}", fields: []string{"spec.orthanc.modalities"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			rules, errs := tenant.NewRules(&v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Allow: tc.allow, Reserve: tc.reserve}})
			g.Expect(errs).To(BeEmpty())
			f := files{"tenants/x.yaml": simple("x", tc.spec)}
			if tc.class != nil {
				f["tenants/classes/c.yaml"] = class("c", tc.class...)
			}
			r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Rules: rules})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(problemFields(r)).To(Equal(tc.fields), "%v", r.Problems)
			for _, p := range r.Problems {
				g.Expect(p.Reason).To(Equal(reserved))
			}
		})
	}
}

// What to ask of the platform is what opens the field: allowing what it has reserved itself would stop the repository.
func TestAdviceOnReservedField(t *testing.T) {
	const allow, take = "or ask the platform to allow %s in spec.facilityFields.allow of the TenantRepository", "or ask the platform to take %s out of spec.facilityFields.reserve of the TenantRepository"
	for name, tc := range map[string]struct {
		reserve []string
		spec    string
		want    string
	}{
		"by the API":                         {nil, "quota: {hard: {pods: 1}}", fmt.Sprintf(allow, "spec.quota.hard")},
		"by the platform":                    {[]string{"spec.monitoring"}, "monitoring: {serviceMonitor: true}", fmt.Sprintf(take, "spec.monitoring")},
		"by the platform, the field itself":  {[]string{"spec.displayName"}, "displayName: X", fmt.Sprintf(take, "spec.displayName")},
		"by the platform, below it":          {[]string{"spec.ingress.web.host"}, "ingress: {web: null}", fmt.Sprintf(take, "spec.ingress.web.host")},
		"by the API, and its parent by both": {[]string{"spec.ingress"}, "ingress: {service: {type: NodePort}}", fmt.Sprintf(allow, "spec.ingress.service.type")},
		"by both":                            {[]string{"spec.deletionPolicy"}, "deletionPolicy: Delete", fmt.Sprintf(take, "spec.deletionPolicy")},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			rules, errs := tenant.NewRules(&v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Reserve: tc.reserve}})
			g.Expect(errs).To(BeEmpty())
			r, err := tenant.Load(files{"tenants/x.yaml": simple("x", tc.spec)}.fs(), tenant.Options{Path: "tenants", Rules: rules})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Problems).NotTo(BeEmpty())
			g.Expect(r.Problems[0].Message).To(HaveSuffix(tc.want))
		})
	}
}

func TestNewRulesRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		spec v1alpha1.TenantRepositorySpec
		want string
	}{
		"a path that no Tenant has": {v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Allow: []string{"spec.quota", "spec.quotas"}}},
			`spec.facilityFields.allow[1]: "spec.quotas": no Tenant has this field, did you mean spec.quota?`},
		"an index":         {v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Reserve: []string{"spec.patches[0]"}}}, "spec.facilityFields.reserve[0]"},
		"an empty path":    {v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Allow: []string{""}}}, "without indices"},
		"the name":         {v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Reserve: []string{"metadata.name"}}}, "no Tenant has this field"},
		"both":             {v1alpha1.TenantRepositorySpec{FacilityFields: v1alpha1.FacilityFields{Allow: []string{"spec.quota"}, Reserve: []string{"spec.quota"}}}, "is both allowed and reserved"},
		"classes in all":   {v1alpha1.TenantRepositorySpec{Path: "./tenants", ClassPath: "tenants/"}, "spec.classPath: \"tenants/\": must not be"},
		"classes above":    {v1alpha1.TenantRepositorySpec{Path: "a/b", ClassPath: "a"}, "spec.classPath: \"a\": must not be"},
		"classes anywhere": {v1alpha1.TenantRepositorySpec{Path: "", ClassPath: "."}, "spec.classPath: \".\": must not be"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, errs := tenant.NewRules(&tc.spec)
			g.Expect(errs).To(HaveLen(1))
			g.Expect(tenant.Describe(errs)).To(ContainSubstring(tc.want))
		})
	}
}

// TestServiceAnnotations holds that a gateway's Service has only annotations that the platform lists, whoever sets them.
func TestServiceAnnotations(t *testing.T) {
	const scheme, sslCert = "service.beta.kubernetes.io/aws-load-balancer-scheme", "service.beta.kubernetes.io/aws-load-balancer-ssl-cert"
	for _, tc := range []struct {
		name    string
		listed  []string
		key     string
		refused bool
	}{
		{name: "of the default list", key: scheme},
		{name: "a certificate", key: sslCert, refused: true},
		{name: "an address", key: "metallb.io/loadBalancerIPs", refused: true},
		{name: "a name", key: "external-dns.alpha.kubernetes.io/hostname", refused: true},
		{name: "in other case", key: strings.ToUpper(scheme), refused: true},
		{name: "listed", listed: []string{sslCert}, key: sslCert},
		{name: "of the default list, with a list", listed: []string{sslCert}, key: scheme, refused: true},
		{name: "with an empty list", listed: []string{}, key: scheme, refused: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			rules, errs := tenant.NewRules(&v1alpha1.TenantRepositorySpec{AllowedServiceAnnotations: tc.listed})
			g.Expect(errs).To(BeEmpty())
			f := files{"tenants/x.yaml": simple("x", "className: c"), "tenants/classes/c.yaml": class("c", "ingress: {service: {annotations: {"+tc.key+": internal}}}")}
			r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Rules: rules})
			g.Expect(err).NotTo(HaveOccurred())
			if !tc.refused {
				g.Expect(r.Problems).To(BeEmpty())
				return
			}
			expectProblems(t, r, []problem{{"tenants/x.yaml:5", "x", "spec.ingress.service.annotations[" + tc.key + "]", invalid, "(the value comes from TenantClass c at tenants/classes/c.yaml:6)"}})
		})
	}
}
