// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// TestNamesAreBoundToFiles holds that a file defines the tenant that it is named after, and nothing else.
func TestNamesAreBoundToFiles(t *testing.T) {
	const only = "a file defines only the tenant that it is named after"
	bhs := held("bhs", "tenants/bhs.yaml", 2)
	mhr := held("mhr", "tenants/mhr.yaml", 1)
	for _, tc := range []struct {
		name     string
		files    files
		held     []v1alpha1.Tenant
		tenants  []string
		problems []problem
	}{
		{
			name: "another tenant beside its own", files: files{"tenants/bhs.yaml": simple("bhs") + "---\n" + simple("mhr")},
			tenants: []string{"bhs"}, problems: []problem{{"tenants/bhs.yaml:11", "mhr", "metadata.name", invalid, only + `, and this is tenant "mhr" in bhs.yaml: move it to a file mhr.yaml`}},
		},
		{
			name: "another tenant before its own", files: files{"tenants/bhs.yaml": simple("mhr") + "---\n" + simple("bhs")},
			tenants: []string{"bhs"}, problems: []problem{{"tenants/bhs.yaml:4", "mhr", "metadata.name", invalid, only}},
		},
		{
			name: "its own twice", files: files{"tenants/bhs.yaml": simple("bhs") + "---\n" + simple("bhs", "displayName: Other")},
			tenants: []string{"bhs"}, problems: []problem{{"tenants/bhs.yaml:11", "bhs", "metadata.name", conflict, "defined at tenants/bhs.yaml:1 and again at tenants/bhs.yaml:11"}},
		},
		{
			name: "a tenant in upper case", files: files{"tenants/bhs.yaml": simple("BHS")},
			problems: []problem{{"tenants/bhs.yaml:4", "BHS", "metadata.name", invalid, only}},
		},
		{
			name: "a file in upper case", files: files{"tenants/BHS.yaml": simple("bhs")},
			problems: []problem{{"tenants/BHS.yaml:4", "bhs", "metadata.name", invalid, only}},
		},
		{
			name: "file and tenant in upper case", files: files{"tenants/BHS.yaml": simple("BHS")},
			problems: []problem{{"tenants/BHS.yaml:4", "BHS", "metadata.name", invalid, "lower case"}, {"tenants/BHS.yaml:6", "BHS", "spec.domain", invalid, "lower case"}},
		},
		{
			name: "a space in the name of the file", files: files{"tenants/bhs .yaml": simple("bhs")},
			problems: []problem{{"tenants/bhs .yaml:4", "bhs", "metadata.name", invalid, only}},
		},
		{
			name: "a name with a line break", files: files{"tenants/bhs.yaml": strings.Replace(simple("bhs"), "name: bhs", `name: "bhs\n"`, 1)},
			problems: []problem{{"tenants/bhs.yaml:4", "bhs\n", "metadata.name", invalid, only}},
		},
		{
			name: "two extensions", files: files{"tenants/bhs.yaml.yaml": simple("bhs")},
			problems: []problem{{"tenants/bhs.yaml.yaml:4", "bhs", "metadata.name", invalid, only}},
		},
		{
			name: "in any directory", files: files{"tenants/east/coast/bhs.yml": simple("bhs"), "tenants/mhr/bhs/mhr.yaml": simple("mhr")}, tenants: []string{"bhs", "mhr"},
		},
		{
			name: "in a directory of another's name", files: files{"tenants/bhs.yaml/mhr.yaml": simple("bhs")},
			problems: []problem{{"tenants/bhs.yaml/mhr.yaml:4", "bhs", "metadata.name", invalid, only}},
		},
		// A takeover: bhs.yaml wants mhr as soon as mhr.yaml is broken, moved or removed.
		{
			name: "takeover when its file is broken", held: []v1alpha1.Tenant{bhs, mhr},
			files:   files{"tenants/bhs.yaml": simple("bhs") + "---\n" + simple("mhr", "domain: evil.example.com"), "tenants/mhr.yaml": "{"},
			tenants: []string{"bhs"}, problems: []problem{{"tenants/bhs.yaml:11", "mhr", "metadata.name", invalid, only}, {"tenants/mhr.yaml:1", "", "", malformed, "is not YAML"}},
		},
		{
			name: "takeover when its file is gone", held: []v1alpha1.Tenant{bhs, mhr},
			files:   files{"tenants/bhs.yaml": simple("bhs") + "---\n" + simple("mhr")},
			tenants: []string{"bhs"}, problems: []problem{{"tenants/bhs.yaml:11", "mhr", "metadata.name", invalid, only}},
		},
		{
			name: "takeover when its file is moved", held: []v1alpha1.Tenant{bhs, mhr},
			files:   files{"tenants/bhs.yaml": simple("bhs") + "---\n" + simple("mhr"), "tenants/east/mhr.yaml": simple("mhr")},
			tenants: []string{"bhs", "mhr"}, problems: []problem{{"tenants/bhs.yaml:11", "mhr", "metadata.name", invalid, only}},
		},
		{
			name: "takeover by a file of its name in another directory, when its own is broken", held: []v1alpha1.Tenant{mhr},
			files: files{"tenants/a/mhr.yaml": simple("mhr"), "tenants/mhr.yaml": "{"},
			problems: []problem{
				{"tenants/a/mhr.yaml:4", "mhr", "metadata.name", conflict, "tenant mhr comes from tenants/mhr.yaml, which is still there"},
				{"tenants/mhr.yaml:1", "", "", malformed, "is not YAML"},
			},
		},
		{
			name: "takeover by a file of its name in another directory, when its own is empty", held: []v1alpha1.Tenant{mhr},
			files:    files{"tenants/a/mhr.yaml": simple("mhr"), "tenants/mhr.yaml": ""},
			problems: []problem{{"tenants/a/mhr.yaml:4", "mhr", "metadata.name", conflict, "tenant mhr comes from tenants/mhr.yaml, which is still there"}},
		},
		{
			name: "two files of its name: the one that it came from", held: []v1alpha1.Tenant{mhr},
			files:   files{"tenants/a/mhr.yaml": simple("mhr"), "tenants/mhr.yaml": simple("mhr", "displayName: Mine")},
			tenants: []string{"mhr"}, problems: []problem{{"tenants/a/mhr.yaml:4", "mhr", "metadata.name", conflict, "defined at tenants/mhr.yaml:1 and again at tenants/a/mhr.yaml:4"}},
		},
		{
			name: "from a file of several tenants, as before", held: []v1alpha1.Tenant{held("mhr", "tenants/all.yaml", 1)},
			files: files{"tenants/mhr.yaml": simple("mhr"), "tenants/all.yaml": "# They have files of their own now.\n"}, tenants: []string{"mhr"},
		},
		{
			name: "from another path of the repository", held: []v1alpha1.Tenant{held("mhr", "old/mhr.yaml", 1)},
			files: files{"tenants/mhr.yaml": simple("mhr"), "old/mhr.yaml": simple("mhr")}, tenants: []string{"mhr"},
		},
		// Classes have a place of their own.
		{
			name: "a Tenant below the class path", files: files{"tenants/classes/bhs.yaml": simple("bhs"), "tenants/classes/east/mhr.yaml": simple("mhr")},
			problems: []problem{
				{"tenants/classes/bhs.yaml:2", "bhs", "kind", invalid, "defines nothing: move it to a file of its name in tenants"},
				{"tenants/classes/east/mhr.yaml:2", "mhr", "kind", invalid, "defines nothing"},
			},
		},
		{
			name: "a class elsewhere", files: files{"tenants/bhs.yaml": simple("bhs", "className: own") + "---\n" + class("own", "quota: {hard: {pods: 1}}")},
			problems: []problem{
				{"tenants/bhs.yaml:7", "bhs", "spec.className", invalid, "no TenantClass of this name below tenants/classes"},
				{"tenants/bhs.yaml:10", "", "kind", invalid, "a TenantClass counts only below tenants/classes: move it to a file there"},
			},
		},
		{
			name: "a class in a directory of that name elsewhere", files: files{"tenants/east/classes/own.yaml": class("own", "suspend: true"), "tenants/bhs.yaml": simple("bhs")},
			tenants: []string{"bhs"}, problems: []problem{{"tenants/east/classes/own.yaml:2", "", "kind", invalid, "counts only below tenants/classes"}},
		},
		{
			name: "a class in a file that is named as the class path", files: files{"tenants/classes.yaml": class("own", "suspend: true"), "tenants/bhs.yaml": simple("bhs")},
			tenants: []string{"bhs"}, problems: []problem{{"tenants/classes.yaml:2", "", "kind", invalid, "counts only below tenants/classes"}},
		},
		{
			name: "a class of another version", files: files{"tenants/classes/c.yaml": strings.Replace(class("c", "suspend: true"), "v1alpha1", "v1", 1)},
			problems: []problem{{"tenants/classes/c.yaml:1", "", "apiVersion", invalid, "expected korthweb.digihunch.com/v1alpha1"}},
		},
		{
			name:    "several classes in a file",
			files:   files{"tenants/classes/all.yaml": class("a", "suspend: true") + "---\n" + class("b", "suspend: true"), "tenants/bhs.yaml": simple("bhs", "className: b")},
			tenants: []string{"bhs"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := loadDefault(t, tc.files, tc.held...)
			expectProblems(t, r, tc.problems)
			if tc.tenants == nil {
				tc.tenants = []string{}
			}
			NewWithT(t).Expect(names(r)).To(Equal(tc.tenants))
		})
	}
}

// TestClassPath holds that classes may be outside of the path, and that both are read then.
func TestClassPath(t *testing.T) {
	f := files{
		"tenants/bhs.yaml":         simple("bhs", "className: std"),
		"platform/std.yaml":        class("std", "suspend: true"),
		"platform/mhr.yaml":        simple("mhr"),
		"tenants/classes/own.yaml": class("own", "suspend: true"),
	}
	g := NewWithT(t)
	r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", ClassPath: "./platform/"})
	g.Expect(err).NotTo(HaveOccurred())
	expectProblems(t, r, []problem{
		{"platform/mhr.yaml:2", "mhr", "kind", invalid, "a Tenant below platform"},
		{"tenants/classes/own.yaml:2", "", "kind", invalid, "counts only below platform"},
	})
	g.Expect(names(r)).To(Equal([]string{"bhs"}))
	g.Expect(r.Definitions[0].ClassFile).To(Equal("platform/std.yaml"))

	// Without the directory there are no classes.
	r, err = tenant.Load(f.fs(), tenant.Options{Path: "tenants", ClassPath: "none"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(names(r)).To(BeEmpty())
	g.Expect(problemFields(r)).To(Equal([]string{"kind", "spec.className"}))

	// Where it cannot be a directory of classes, that is told.
	r, err = tenant.Load(f.fs(), tenant.Options{Path: "tenants", ClassPath: "platform/std.yaml"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(fmt.Sprint(r.Problems)).To(ContainSubstring("is no class path"))
	for _, p := range []string{".", "tenants", "tenants/."} {
		_, err = tenant.Load(f.fs(), tenant.Options{Path: "tenants", ClassPath: p})
		g.Expect(err).To(MatchError(ContainSubstring("must not be path")), p)
	}
}

// TestRefused holds that a tenant without a definition is told why, and only such a one.
func TestRefused(t *testing.T) {
	g := NewWithT(t)
	r := loadDefault(t, files{
		"tenants/bhs.yaml":       simple("bhs") + "---\n" + simple("mhr"),
		"tenants/east/mhr.yaml":  simple("mhr", "bad: 1", "worse: 2"),
		"tenants/lakeside.yaml":  "{",
		"tenants/west/bhs.yaml":  simple("bhs"),
		"tenants/classes/x.yaml": "{",
	})
	refused := r.Refused()
	g.Expect(refused).To(HaveLen(2), "%v", refused)
	g.Expect(refused["mhr"].File).To(Equal("tenants/bhs.yaml:11"))
	g.Expect(refused["lakeside"].Message).To(ContainSubstring("is not YAML"))
}

func TestClassesForTenants(t *testing.T) {
	text := func(extra string) string {
		return strings.Replace(class("trial", "suspend: true"), "spec:", extra+"\nspec:", 1)
	}
	for _, tc := range []struct {
		name     string
		class    string
		problems []problem
	}{
		{name: "allowed by name", class: text("allowedTenants: [x]")},
		{name: "allowed by a pattern", class: text("allowedTenants: [z-*, '*']")},
		{name: "not allowed", class: text("allowedTenants: [z, xx, x-*]"), problems: []problem{{"tenants/x.yaml:7", "x", "spec.className", invalid,
			"TenantClass trial is not for tenant x: choose another, or ask the platform to name it in allowedTenants at tenants/classes/c.yaml:5"}}},
		{name: "for nobody", class: text("allowedTenants: []"), problems: []problem{{"tenants/x.yaml:7", "x", "spec.className", invalid, "is not for tenant x"}}},
		{name: "null", class: text("allowedTenants:"), problems: []problem{{"tenants/classes/c.yaml:5", "", "allowedTenants", invalid, "must be a list"}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
		{name: "a class of characters", class: text("allowedTenants: ['[a-z]']"), problems: []problem{{"tenants/classes/c.yaml:5", "", "allowedTenants[0]", invalid, "lower case letters"}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
		{name: "one that is no text", class: text("allowedTenants: [17]"), problems: []problem{{"tenants/classes/c.yaml:5", "", "allowedTenants[0]", invalid, ""}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
		{name: "labels", class: text("tenantLabels: {stage: first, sharding.fluxcd.io/key: shard1}")},
		{name: "label that is none", class: text("tenantLabels: {a b: c}"), problems: []problem{{"tenants/classes/c.yaml:5", "", "tenantLabels", invalid, "a b"}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
		{name: "Korthweb's own label", class: text("tenantLabels: {korthweb.digihunch.com/repository: other}"), problems: []problem{
			{"tenants/classes/c.yaml:5", "", "tenantLabels[korthweb.digihunch.com/repository]", invalid, "Korthweb's own"}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
		{name: "labels null", class: text("tenantLabels:"), problems: []problem{{"tenants/classes/c.yaml:5", "", "tenantLabels", invalid, "a mapping of text to text"}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
		{name: "nesting in words", class: text("allowNestedDomains: 'true'"), problems: []problem{{"tenants/classes/c.yaml:5", "", "allowNestedDomains", invalid, "must be true or false"}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
		{name: "unknown", class: text("allowedTenant: [x]"), problems: []problem{{"tenants/classes/c.yaml:5", "", "allowedTenant", invalid, "did you mean allowedTenants?"}, {"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			r := loadDefault(t, files{"tenants/x.yaml": simple("x", "className: trial"), "tenants/classes/c.yaml": tc.class})
			expectProblems(t, r, tc.problems)
			if tc.name == "labels" {
				g.Expect(r.Definitions[0].Tenant.Labels).To(Equal(map[string]string{"stage": "first", "sharding.fluxcd.io/key": "shard1"}))
			}
			if tc.problems == nil {
				g.Expect(r.Definitions[0].ClassFile).To(Equal("tenants/classes/c.yaml"))
			}
		})
	}
}

// TestTenantLabelsWin holds that a class's labels stand over those that a facility is allowed to set.
func TestTenantLabelsWin(t *testing.T) {
	r := load(t, files{
		"tenants/x.yaml":         strings.Replace(simple("x", "className: c"), "name: x", "name: x\n  labels: {stage: mine, team: a}", 1),
		"tenants/classes/c.yaml": strings.Replace(class("c", "suspend: true"), "spec:", "tenantLabels: {stage: last}\nspec:", 1),
	})
	g := NewWithT(t)
	g.Expect(r.Problems).To(BeEmpty())
	g.Expect(r.Definitions[0].Tenant.Labels).To(Equal(map[string]string{"stage": "last", "team": "a"}))
}

// TestClassTwice holds that a class that is defined again changes no tenant.
func TestClassTwice(t *testing.T) {
	from := func(file string) v1alpha1.Tenant {
		return held("x", "tenants/x.yaml", 1, func(t *v1alpha1.Tenant) {
			t.Spec.ClassName = "c"
			t.Annotations[v1alpha1.ClassPathAnnotation] = file
		})
	}
	two := files{
		"tenants/x.yaml":         simple("x", "className: c"),
		"tenants/classes/a.yaml": class("c", "displayName: A"),
		"tenants/classes/b.yaml": class("c", "displayName: B"),
	}
	neither := []problem{
		{"tenants/classes/b.yaml:4", "", "metadata.name", conflict, "TenantClass c is defined at tenants/classes/a.yaml:1 and again at tenants/classes/b.yaml:4: neither counts"},
		{"tenants/x.yaml:7", "x", "spec.className", invalid, "has problems"},
	}
	for _, tc := range []struct {
		name        string
		files       files
		held        []v1alpha1.Tenant
		displayName string
		problems    []problem
	}{
		{name: "of nobody", files: two, problems: neither},
		{name: "the first had it", files: two, held: []v1alpha1.Tenant{from("tenants/classes/a.yaml")}, displayName: "A",
			problems: []problem{{"tenants/classes/b.yaml:4", "", "metadata.name", conflict, "only the former counts"}}},
		{name: "the second had it", files: two, held: []v1alpha1.Tenant{from("tenants/classes/b.yaml")}, displayName: "B",
			problems: []problem{{"tenants/classes/a.yaml:4", "", "metadata.name", conflict, "is defined at tenants/classes/b.yaml:1 and again at tenants/classes/a.yaml:4: only the former counts"}}},
		{name: "another had it", files: two, held: []v1alpha1.Tenant{from("tenants/classes/gone.yaml")}, problems: neither},
		{name: "tenants disagree", files: two, held: []v1alpha1.Tenant{from("tenants/classes/a.yaml"), held("y", "tenants/y.yaml", 1, func(t *v1alpha1.Tenant) {
			t.Spec.ClassName = "c"
			t.Annotations[v1alpha1.ClassPathAnnotation] = "tenants/classes/b.yaml"
		})}, problems: neither},
		{name: "a tenant of another repository says so", files: two, held: []v1alpha1.Tenant{held("y", "tenants/y.yaml", 1, func(t *v1alpha1.Tenant) {
			t.Spec.ClassName = "c"
			t.Annotations[v1alpha1.ClassPathAnnotation] = "tenants/classes/b.yaml"
			t.Labels[v1alpha1.RepositoryLabel] = "second"
		})}, problems: neither},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			r := loadDefault(t, tc.files, tc.held...)
			expectProblems(t, r, tc.problems)
			if tc.displayName == "" {
				g.Expect(r.Definitions).To(BeEmpty())
				return
			}
			g.Expect(r.Definitions[0].Tenant.Spec.DisplayName).To(Equal(tc.displayName))
		})
	}
}
