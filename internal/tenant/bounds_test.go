// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

func TestLoadPath(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	g.Expect(os.MkdirAll(dir+"/real", 0o755)).To(Succeed())
	g.Expect(os.WriteFile(dir+"/real/a.yaml", []byte(simple("a")), 0o644)).To(Succeed())
	g.Expect(os.Symlink("real", dir+"/link")).To(Succeed())
	for _, tc := range []struct{ path, want string }{
		{"none", "not in the source"},
		{"real/none/x", `path "real/none" is not in the source`},
		{"real/a.yaml", "is a file"},
		{"link", "is a symbolic link"},
		{"../x", "leaves the source"},
		{"/etc", "leaves the source"},
	} {
		_, err := tenant.Load(os.DirFS(dir), tenant.Options{Path: tc.path})
		g.Expect(err).To(MatchError(ContainSubstring(tc.want)), tc.path)
	}
	_, err := tenant.Load(os.DirFS(dir), tenant.Options{Path: "none"})
	g.Expect(err).To(MatchError(fs.ErrNotExist))

	// The root itself, with the link in it.
	r, err := tenant.Load(os.DirFS(dir), tenant.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(names(r)).To(Equal([]string{"a"}))
	expectProblems(t, r, []problem{{"link", "", "", malformed, "is a symbolic link"}})
}

func TestLoadBounds(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	g.Expect(os.WriteFile(dir+"/big.yaml", nil, 0o644)).To(Succeed())
	g.Expect(os.Truncate(dir+"/big.yaml", 50<<20)).To(Succeed())
	g.Expect(os.WriteFile(dir+"/good.yaml", []byte(simple("good")), 0o644)).To(Succeed())
	r, err := tenant.Load(os.DirFS(dir), tenant.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	expectProblems(t, r, []problem{{"big.yaml:1", "", "", malformed, "is 52428800 bytes large, and 1048576 (1 MiB) is the limit"}})
	g.Expect(names(r)).To(Equal([]string{"good"}))

	many := files{}
	for i := range 5003 {
		many[fmt.Sprintf("tenants/%05d.yaml", i)] = "# nothing\n"
	}
	delete(many, "tenants/00001.yaml")
	many["tenants/00000/good.yaml"] = simple("good")
	many["tenants/05001.yaml"] = simple("late")
	r = load(t, many)
	expectProblems(t, r, []problem{{"tenants", "", "", malformed, "holds 5003 YAML files, and only the first 5000"}})
	g.Expect(names(r)).To(Equal([]string{"good"}))
}

// TestLoadManyDocuments holds that documents are bounded in all, too.
func TestLoadManyDocuments(t *testing.T) {
	g := NewWithT(t)
	f := files{}
	for i := range 25 {
		f[fmt.Sprintf("tenants/%02d/kustomization.yaml", i)] = strings.Repeat("---\napiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\n", 1000)
	}
	delete(f, "tenants/00/kustomization.yaml")
	f["tenants/00/good.yaml"] = simple("good")
	f["tenants/late.yaml"] = simple("late")
	r := load(t, f)
	expectProblems(t, r, []problem{{"tenants", "", "", malformed, "tenants/21/kustomization.yaml and the 4 files after it are not read"}})
	g.Expect(names(r)).To(Equal([]string{"good"}))
}

// TestLoadSamples holds that the definitions that come with Korthweb are good ones.
func TestLoadSamples(t *testing.T) {
	g := NewWithT(t)
	r, err := tenant.Load(os.DirFS("../.."), tenant.Options{Path: v1alpha1.DefaultPath})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.Problems).To(BeEmpty())
	g.Expect(names(r)).To(Equal([]string{"bhs", "harborview", "lumen-trial", "mhr"}))
}

// TestLoadHostile holds that what is made to be slow or large is refused in little time and space.
func TestLoadHostile(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("l0: &l0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&bomb, "l%d: &l%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d, ", i-1), 9), ", "))
	}
	var merges strings.Builder
	merges.WriteString("m0: &m0 {a: 1}\n")
	for i := 1; i < 25000; i++ {
		fmt.Fprintf(&merges, "m%d: &m%d {<<: *m%d, k%d: 1}\n", i, i, i-1, i)
	}
	var chain strings.Builder
	chain.WriteString("c0: &c0 x\n")
	for i := 1; i < 5000; i++ {
		fmt.Fprintf(&chain, "c%d: &c%d [*c%d]\n", i, i, i-1)
	}
	const mebi = 1<<20 - 500
	for name, text := range map[string]string{
		"alias bomb":       simple("x") + bomb.String(),
		"merge keys":       simple("x") + merges.String(),
		"chain of aliases": simple("x") + chain.String(),
		"many keys":        simple("x") + strings.Repeat("a: b\n", mebi/5),
		"open brackets":    strings.Repeat("[", mebi),
		"open braces":      strings.Repeat("{a: ", mebi/4),
		"dashes":           strings.Repeat("- ", mebi/2),
		"question marks":   strings.Repeat("? ", mebi/2),
		"lines of keys":    strings.Repeat("?\n", mebi/2),
		"anchors":          strings.Repeat("- &a\n", mebi/5),
		"comments":         strings.Repeat("#\n", mebi/2),
		"documents":        strings.Repeat("---\n", mebi/4),
		"long key":         simple("x", strings.Repeat("k", mebi)+": 1"),
		"long value":       simple("x", "displayName: "+strings.Repeat("k", mebi)),
		"quotes":           strings.Repeat("'", mebi),
		"many items":       simple("x", "patches: ["+strings.Repeat("1,", mebi/2)+"]"),
		"steps":            steps(1400),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			start := time.Now()
			r := load(t, files{"tenants/x.yaml": text, "tenants/good.yaml": simple("good")})
			g.Expect(time.Since(start)).To(BeNumerically("<", 10*time.Second))
			g.Expect(names(r)).To(Equal([]string{"good"}))
			g.Expect(len(r.Problems)).To(BeNumerically("<=", 25))
		})
	}
}

// entries repeats a text, with the number of each for %d.
func entries(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestLoadEntries holds that a mapping or list that is too large is one problem, and that the schema, whose
// validator takes the square of the number of mistakes, is not asked about what is in it.
func TestLoadEntries(t *testing.T) {
	const merged = "x-a: &a\n%sx-b: &b\n%sspec:\n  commonMetadata: {labels: {<<: [*a, *b]}}\n"
	for name, tc := range map[string]struct {
		text     string
		problems []problem
	}{
		"quantities": {simple("x", "orthanc: {resources: {requests: {"+entries(4000, "k%d: x, ")+"}}}"),
			[]problem{{"tenants/x.yaml:7", "x", "spec.orthanc.resources.requests", malformed, "holds 4000 entries, and 256 is the limit"}}},
		"quantities beyond all bounds": {simple("x", "orthanc: {resources: {requests: {"+entries(19_000, "k%d: x, ")+"}}}"), []problem{
			{"tenants/x.yaml:1", "x", "", malformed, "more than 5000 values"},
			{"tenants/x.yaml:7", "x", "spec.orthanc.resources.requests", malformed, "holds 19000 entries, and 256 is the limit"},
		}},
		"modalities": {simple("x", "orthanc: {modalities: ["+entries(257, "%d, ")+"]}"),
			[]problem{{"tenants/x.yaml:7", "x", "spec.orthanc.modalities", malformed, "holds 257 entries, and 256 is the limit"}}},
		"unknown fields": {simple("x", entries(300, "k%d: 1\n  ")),
			[]problem{{"tenants/x.yaml:6", "x", "spec", malformed, "holds 301 entries, and 256 is the limit"}}},
		"by merge keys": {head + "metadata: {name: x}\n" + fmt.Sprintf(merged, entries(200, "  a%d: x\n"), entries(200, "  b%d: x\n")),
			[]problem{{"tenants/x.yaml:407", "x", "spec.commonMetadata.labels", malformed, "holds 400 entries, and 256 is the limit"}}},
		"class": {class("x", "orthanc: {resources: {limits: {"+entries(257, "k%d: x, ")+"}}}"),
			[]problem{{"tenants/classes/x.yaml:6", "", "spec.orthanc.resources.limits", malformed, "holds 257 entries, and 256 is the limit"}}},
	} {
		t.Run(name, func(t *testing.T) {
			file := "tenants/x.yaml"
			if name == "class" {
				file = "tenants/classes/x.yaml"
			}
			expectProblems(t, load(t, files{file: tc.text}), tc.problems)
		})
	}

	g := NewWithT(t)
	r := load(t, files{"tenants/x.yaml": simple("x", "commonMetadata: {labels: {"+entries(256, "k%d: v, ")+"}}"),
		"tenants/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + entries(1000, "x%d.yaml, ") + "]\n"})
	g.Expect(r.Problems).To(BeEmpty())
	g.Expect(names(r)).To(Equal([]string{"x"}))
}

// TestProblemsAreBounded holds that fifty problems fit into a status, whatever the files hold.
func TestProblemsAreBounded(t *testing.T) {
	const size = 400_000
	long := strings.Repeat("ä", size/2)
	deep := "tenants/" + strings.Repeat("d/", 300) + "x.yaml"
	for name, tc := range map[string]struct {
		file, text  string
		field, name string // beginning of
	}{
		"field":            {file: "tenants/x.yaml", text: simple("x", "? "+long, ": 1"), field: "spec.äää", name: "x"},
		"label":            {file: "tenants/x.yaml", text: strings.Replace(simple("x"), "name: x", "name: x\n  labels:\n    ? "+long+"\n    : 1", 1), field: "metadata.labels[ääää", name: "x"},
		"key that is text": {file: "tenants/x.yaml", text: simple("x", "? "+long, ": {no: 1}"), field: "spec.ääää", name: "x"},
		"tenant":           {file: "tenants/x.yaml", text: strings.Replace(simple("x"), "name: x", "name: "+long, 1), field: "metadata.name", name: "äääää"},
		"file":             {file: deep, text: simple("x", "bad: 1"), field: "spec.bad", name: "x"},
		"class":            {file: "tenants/classes/x.yaml", text: class(long, "suspend: true") + "---\n" + class(long, "suspend: true"), field: "metadata.name"},
		"kind":             {file: "tenants/x.yaml", text: "apiVersion: " + long + "\nkind: " + long + "\n", field: "kind"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := load(t, files{tc.file: tc.text})
			g.Expect(r.Problems).NotTo(BeEmpty())
			for _, p := range r.Problems {
				g.Expect(p.Field).To(HavePrefix(tc.field))
				g.Expect(p.Tenant).To(HavePrefix(tc.name))
				g.Expect(p.File).To(MatchRegexp(`^tenants/.*:[0-9]+$`))
				for _, text := range []string{p.File, p.Tenant, p.Field} {
					g.Expect(len(text)).To(BeNumerically("<=", v1alpha1.MaxProblemText))
				}
				g.Expect(len(p.Message)).To(BeNumerically("<=", v1alpha1.MaxProblemMessage))
				g.Expect(utf8.ValidString(p.File + p.Tenant + p.Field + p.Message)).To(BeTrue())
			}
		})
	}
}

// steps is a mapping that nests one level deeper in each line.
func steps(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
