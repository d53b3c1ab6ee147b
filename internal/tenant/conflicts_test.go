// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

func webHost(host string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) { t.Spec.Ingress.Web.Host = v1alpha1.Hostname(host) }
}

func web(host string) string { return "ingress: {web: {host: " + host + "}}" }

func TestConflicts(t *testing.T) {
	address := func(ip string) func(*v1alpha1.Tenant) {
		return func(t *v1alpha1.Tenant) { t.Spec.Ingress.Service.LoadBalancerIP = ip }
	}
	in := func(namespace string) func(*v1alpha1.Tenant) {
		return func(t *v1alpha1.Tenant) { t.Namespace = namespace }
	}
	workload := func(namespace string) func(*v1alpha1.Tenant) {
		return func(t *v1alpha1.Tenant) { t.Spec.Namespace = namespace }
	}
	for _, tc := range []struct {
		name    string
		tenants []v1alpha1.Tenant
		want    []string
	}{
		{name: "none"},
		{name: "nothing shared", tenants: []v1alpha1.Tenant{held("a", "", 1), held("b", "", 1)}},
		{name: "one tenant with one host for both entries", tenants: []v1alpha1.Tenant{held("a", "", 1, func(t *v1alpha1.Tenant) {
			t.Spec.Ingress.Web.Host, t.Spec.Ingress.DICOM.Host = "x.y", "x.y"
		})}},
		{
			name:    "the older keeps a host",
			tenants: []v1alpha1.Tenant{held("a", "", 1, webHost("x.y")), held("b", "", 2, webHost("x.y"))},
			want:    []string{"a spec.ingress.web.host: host x.y is held by tenant b: choose another"},
		},
		{
			name:    "of the same age, the first name keeps it",
			tenants: []v1alpha1.Tenant{held("b", "", 1, webHost("x.y")), held("a", "", 1, webHost("x.y"))},
			want:    []string{"b spec.ingress.web.host: host x.y is held by tenant a: choose another"},
		},
		{
			name: "domain makes both hosts, and a DICOM host takes a web host",
			tenants: []v1alpha1.Tenant{held("a", "", 2), held("b", "", 1, func(t *v1alpha1.Tenant) {
				t.Spec.Domain = "a.orthweb.com"
			}), held("c", "", 1, webHost("dicom.a.orthweb.com"))},
			want: []string{
				"b spec.domain: host a.orthweb.com is held by tenant a: choose another",
				"c spec.ingress.web.host: host dicom.a.orthweb.com is held by tenant a: choose another",
			},
		},
		{
			name:    "one address in two spellings",
			tenants: []v1alpha1.Tenant{held("a", "", 2, address("fd00::1")), held("b", "", 1, address("FD00:0::1"))},
			want:    []string{"b spec.ingress.service.loadBalancerIP: address fd00::1 is held by tenant a: choose another"},
		},
		{
			name:    "namespace, by name and by default",
			tenants: []v1alpha1.Tenant{held("a", "", 1), held("b", "", 2, workload("a-orthweb"))},
			want:    []string{"a metadata.name: namespace a-orthweb is held by tenant b: choose another"},
		},
		{
			name:    "same name in two platform namespaces",
			tenants: []v1alpha1.Tenant{held("a", "", 2), held("a", "", 1, in("other"), workload("x"), webHost("x.y"))},
			want:    []string{"a spec.domain: host a.orthweb.com is held by tenant flux-system/a: choose another"},
		},
		{
			name:    "three claim one",
			tenants: []v1alpha1.Tenant{held("c", "", 1, webHost("x.y")), held("b", "", 2, webHost("x.y")), held("a", "", 3, webHost("x.y"))},
			want: []string{
				"b spec.ingress.web.host: host x.y is held by tenant a: choose another",
				"c spec.ingress.web.host: host x.y is held by tenant a: choose another",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			for range 2 { // in any order of the input
				var got []string
				for _, c := range tenant.Conflicts(tc.tenants) {
					got = append(got, fmt.Sprintf("%s %s: %s", c.Tenant.Name, c.Field, c.Message))
				}
				g.Expect(got).To(Equal(tc.want))
				slices.Reverse(tc.tenants)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	bhs := held("bhs", "", 1, func(t *v1alpha1.Tenant) { t.Spec.Ingress.Service.LoadBalancerIP = "10.0.0.5" })
	NewWithT(t).Expect(tenant.Claims(&bhs)).To(Equal([]string{
		"address 10.0.0.5", "host bhs.orthweb.com", "host dicom.bhs.orthweb.com", "namespace bhs-orthweb",
	}))
}

func TestLoadClaims(t *testing.T) {
	for _, tc := range []struct {
		name     string
		files    files
		held     []v1alpha1.Tenant
		tenants  []string // accepted
		problems []problem
	}{
		{
			name:    "two new ones: the first file",
			files:   files{"tenants/2/a.yaml": simple("a", web("x.y")), "tenants/1/b.yaml": simple("b", web("x.y"))},
			tenants: []string{"b"}, problems: []problem{{"tenants/2/a.yaml:7", "a", "spec.ingress.web.host", conflict, "host x.y is held by tenant b: choose another (at tenants/1/b.yaml:1)"}},
		},
		{
			name:    "a new one and one that exists",
			files:   files{"tenants/a.yaml": simple("a", web("x.y")), "tenants/b.yaml": simple("b", web("x.y"))},
			held:    []v1alpha1.Tenant{held("b", "tenants/b.yaml", 1, webHost("x.y"))},
			tenants: []string{"b"}, problems: []problem{{"tenants/a.yaml:7", "a", "spec.ingress.web.host", conflict, "held by tenant b"}},
		},
		{
			name:  "one of another repository",
			files: files{"tenants/a.yaml": simple("a", web("x.y"))},
			held: []v1alpha1.Tenant{held("z", "t/z.yaml", 1, webHost("x.y"), func(t *v1alpha1.Tenant) {
				t.Labels[v1alpha1.RepositoryLabel] = "second"
			})},
			tenants: []string{}, problems: []problem{{"tenants/a.yaml:7", "a", "spec.ingress.web.host", conflict, "held by tenant z"}},
		},
		{
			name:    "one whose file is gone holds until it is removed",
			files:   files{"tenants/a.yaml": simple("a", web("x.y"))},
			held:    []v1alpha1.Tenant{held("b", "tenants/b.yaml", 1, webHost("x.y"))},
			tenants: []string{}, problems: []problem{{"tenants/a.yaml:7", "a", "spec.ingress.web.host", conflict, "held by tenant b"}},
		},
		{
			name:    "one whose file is bad holds what it has, not what the file says",
			files:   files{"tenants/a.yaml": simple("a", web("x.y")), "tenants/b.yaml": simple("b", web("z.y"), "bad: 1"), "tenants/c.yaml": simple("c", web("z.y"))},
			held:    []v1alpha1.Tenant{held("b", "tenants/b.yaml", 1, webHost("x.y"))},
			tenants: []string{"c"}, problems: []problem{
				{"tenants/a.yaml:7", "a", "spec.ingress.web.host", conflict, "held by tenant b"},
				{"tenants/b.yaml:8", "b", "spec.bad", invalid, "unknown field"},
			},
		},
		{
			name:    "what is let go can be had in the same revision",
			files:   files{"tenants/a.yaml": simple("a", web("x.y")), "tenants/b.yaml": simple("b")},
			held:    []v1alpha1.Tenant{held("b", "tenants/b.yaml", 1, webHost("x.y"))},
			tenants: []string{"a", "b"},
		},
		{
			name:    "two swap hosts",
			files:   files{"tenants/a.yaml": simple("a", web("b.y")), "tenants/b.yaml": simple("b", web("a.y"))},
			held:    []v1alpha1.Tenant{held("a", "", 1, webHost("a.y")), held("b", "", 2, webHost("b.y"))},
			tenants: []string{"a", "b"},
		},
		{
			name:  "three swap in a ring, one of them badly",
			files: files{"tenants/a.yaml": simple("a", web("b.y")), "tenants/b.yaml": simple("b", web("c.y")), "tenants/c.yaml": simple("c", web("a.y"), "bad: 1"), "tenants/d.yaml": simple("d")},
			held:  []v1alpha1.Tenant{held("a", "", 1, webHost("a.y")), held("b", "", 2, webHost("b.y")), held("c", "", 3, webHost("c.y"))},
			// c stays at c.y, so b stays at b.y, so a stays at a.y.
			tenants: []string{"d"}, problems: []problem{
				{"tenants/a.yaml:7", "a", "spec.ingress.web.host", conflict, "host b.y is held by tenant b"},
				{"tenants/b.yaml:7", "b", "spec.ingress.web.host", conflict, "host c.y is held by tenant c"},
				{"tenants/c.yaml:8", "c", "spec.bad", invalid, "unknown field"},
			},
		},
		{
			name:    "each also wants what the other has",
			files:   files{"tenants/a.yaml": simple("a", "ingress: {web: {host: a.y}, dicom: {host: b.y}}"), "tenants/b.yaml": simple("b", "ingress: {web: {host: b.y}, dicom: {host: a.y}}")},
			held:    []v1alpha1.Tenant{held("a", "", 1, webHost("a.y")), held("b", "", 2, webHost("b.y"))},
			tenants: []string{}, problems: []problem{
				{"tenants/a.yaml:7", "a", "spec.ingress.dicom.host", conflict, "host b.y is held by tenant b"},
				{"tenants/b.yaml:7", "b", "spec.ingress.dicom.host", conflict, "host a.y is held by tenant a"},
			},
		},
		{
			name:    "who loses to a loser gets it",
			files:   files{"tenants/a.yaml": simple("a", "ingress: {web: {host: x.y}, dicom: {host: z.y}}"), "tenants/b.yaml": simple("b", web("z.y"))},
			held:    []v1alpha1.Tenant{held("h", "", 1, webHost("x.y"))},
			tenants: []string{"b"}, problems: []problem{{"tenants/a.yaml:7", "a", "spec.ingress.web.host", conflict, "held by tenant h"}},
		},
		{
			name:    "an older one that exists before a new one",
			files:   files{"tenants/new.yaml": simple("new", web("x.y")), "tenants/old.yaml": simple("old", web("x.y"))},
			held:    []v1alpha1.Tenant{held("old", "", 1)},
			tenants: []string{"old"}, problems: []problem{{"tenants/new.yaml:7", "new", "spec.ingress.web.host", conflict, "held by tenant old"}},
		},
		{
			name:    "who had it before an older one that wants it now",
			files:   files{"tenants/old.yaml": simple("old", web("x.y")), "tenants/young.yaml": simple("young", web("x.y"))},
			held:    []v1alpha1.Tenant{held("old", "", 9), held("young", "", 1, webHost("x.y"))},
			tenants: []string{"young"}, problems: []problem{{"tenants/old.yaml:7", "old", "spec.ingress.web.host", conflict, "held by tenant young"}},
		},
		{
			name:    "a host that comes from a class",
			files:   files{"tenants/a.yaml": simple("a", "className: c"), "tenants/b.yaml": simple("b", "className: c"), "tenants/classes/c.yaml": class("c", web("x.y"))},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:5", "b", "spec.ingress.web.host", conflict, "the value comes from TenantClass c at tenants/classes/c.yaml:6"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := load(t, tc.files, tc.held...)
			expectProblems(t, r, tc.problems)
			NewWithT(t).Expect(names(r)).To(Equal(tc.tenants))
		})
	}
}

func TestRemovals(t *testing.T) {
	a, b := held("a", "tenants/a.yaml", 1), held("b", "tenants/b.yaml", 1)
	okA := simple("a")
	broken := "{"
	for _, tc := range []struct {
		name   string
		files  files
		remove []string
		held   map[string]string // part of the reason
	}{
		{name: "all there", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": simple("b")}},
		{name: "one gone", files: files{"tenants/a.yaml": okA}, remove: []string{"b"}},
		{name: "one moved to another directory", files: files{"tenants/a.yaml": okA, "tenants/east/b.yaml": simple("b")}},
		{name: "one moved to the file of another", files: files{"tenants/a.yaml": okA + "---\n" + simple("b")}, held: map[string]string{"b": "its definition has a problem at tenants/a.yaml:11"}},
		{name: "one moved to the classes", files: files{"tenants/a.yaml": okA, "tenants/classes/b.yaml": simple("b")}, held: map[string]string{"b": "its definition has a problem at tenants/classes/b.yaml:2"}},
		{name: "its file renamed", files: files{"tenants/a.yaml": okA, "tenants/new.yaml": simple("b")}, held: map[string]string{"b": "its definition has a problem at tenants/new.yaml:4"}},
		{name: "its name changed", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": simple("c")}, held: map[string]string{"b": "the file that it came from has a problem at tenants/b.yaml:4"}},
		{name: "file and name changed", files: files{"tenants/a.yaml": okA, "tenants/c.yaml": simple("c")}, remove: []string{"b"}},
		{name: "nothing there", files: files{"tenants/README.md": ""}, held: map[string]string{"a": "no tenant is defined at all", "b": "no tenant is defined at all"}},
		{name: "only a class there", files: files{"tenants/classes/c.yaml": class("c", "suspend: true")}, held: map[string]string{"a": "no tenant", "b": "no tenant"}},
		{name: "all others are new", files: files{"tenants/c.yaml": simple("c")}, remove: []string{"a", "b"}},
		{name: "its file is broken", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": broken}, held: map[string]string{"b": "the file that it came from has a problem at tenants/b.yaml:1"}},
		{name: "its file is empty", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": "# later\n"}, remove: []string{"b"}},
		{name: "its file is renamed and broken", files: files{"tenants/a.yaml": okA, "tenants/new.yaml": broken}, held: map[string]string{"b": "the problem at tenants/new.yaml:1 may hide its definition"}},
		{name: "its file is moved and broken", files: files{"tenants/a.yaml": okA, "tenants/east/b.yaml": broken}, held: map[string]string{"b": "the file that is named after it has a problem at tenants/east/b.yaml:1"}},
		{name: "its file is moved to the classes and broken", files: files{"tenants/a.yaml": okA, "tenants/classes/b.yaml": broken}, held: map[string]string{"b": "the file that is named after it"}},
		{name: "its file defines another, badly", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": simple("c", "bad: 1")}, held: map[string]string{"b": "the file that it came from has a problem at tenants/b.yaml:4"}},
		{name: "the file of another is broken", files: files{"tenants/a.yaml": broken, "tenants/c.yaml": simple("c")}, remove: []string{"b"}, held: map[string]string{"a": "the file that it came from"}},
		{name: "the broken file of another speaks of it", files: files{"tenants/a.yaml": okA + "---\n" + head + "metadata: {name: 'b"}, held: map[string]string{"a": "the file that it came from", "b": "the problem at tenants/a.yaml:10 may hide its definition"}},
		{name: "the file of another in UTF-16 speaks of it", files: files{"tenants/a.yaml": "\xff\xfen\x00:\x00 \x00b\x00", "tenants/c.yaml": simple("c")}, held: map[string]string{"a": "the file that it came from", "b": "the problem at tenants/a.yaml:1 may hide its definition"}},
		{name: "moved to the file of another, its name misspelled", files: files{"tenants/a.yaml": okA + "---\n" + strings.Replace(simple("b"), "name: b", "nam: b", 1)}, held: map[string]string{"b": "the problem at tenants/a.yaml:10 may hide its definition"}},
		{name: "moved to the file of another, its kind misspelled", files: files{"tenants/a.yaml": okA + "---\n" + strings.Replace(simple("b"), "kind: Tenant", "kind: Tennant", 1)}, held: map[string]string{"b": "the problem at tenants/a.yaml:9 may hide its definition"}},
		{name: "moved to the file of another, without a kind", files: files{"tenants/a.yaml": okA + "---\n" + strings.Replace(simple("b"), "kind: Tenant\n", "", 1)}, held: map[string]string{"b": "the problem at tenants/a.yaml:8 may hide its definition"}},
		{name: "moved to the file of another, cut off before its name", files: files{"tenants/a.yaml": okA + "---\n" + head + "metadata:\n"}, held: map[string]string{"b": "may hide its definition"}},
		{name: "its new definition is invalid", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": simple("b", "bad: 1")}, held: map[string]string{"b": "its definition has a problem at tenants/b.yaml:7"}},
		{name: "its new definition conflicts", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": simple("b", web("a.orthweb.com"))}, held: map[string]string{"b": "its definition has a problem at tenants/b.yaml:7"}},
		{name: "a new tenant is invalid", files: files{"tenants/a.yaml": okA, "tenants/c.yaml": simple("c", "bad: 1")}, remove: []string{"b"}},
		{name: "a new file is broken", files: files{"tenants/a.yaml": okA, "tenants/c.yaml": broken}, held: map[string]string{"b": "the problem at tenants/c.yaml:1 may hide its definition"}},
		{name: "a definition without a name", files: files{"tenants/a.yaml": okA, "tenants/c.yaml": head + "spec: {domain: a.b}"}, held: map[string]string{"b": "may hide"}},
		{name: "another kind", files: files{"tenants/a.yaml": okA, "tenants/c.yaml": "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: Tennant\n"}, held: map[string]string{"b": "may hide"}},
		{name: "a class outside of its path", files: files{"tenants/a.yaml": okA, "tenants/c.yaml": class("c", "suspend: true")}, held: map[string]string{"b": "may hide"}},
		{name: "a bad class", files: files{"tenants/a.yaml": okA, "tenants/classes/c.yaml": class("c", "bad: 1")}, remove: []string{"b"}},
		{name: "kustomize's own kind in its place", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"}, held: map[string]string{"b": "the file that it came from has a problem"}},
		{name: "its class is gone", files: files{"tenants/a.yaml": okA, "tenants/b.yaml": simple("b", "className: c")}, held: map[string]string{"b": "its definition has a problem"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			existing := []v1alpha1.Tenant{b, a}
			remove, held := load(t, tc.files, existing...).Removals(existing)
			g.Expect(remove).To(Equal(tc.remove))
			g.Expect(held).To(HaveLen(len(tc.held)), "%v", held)
			for name, reason := range tc.held {
				g.Expect(held[name]).To(ContainSubstring(reason))
			}
		})
	}
}

// TestRemovalsWithAFileThatIsNotRead holds that a file of unknown content holds back all removals,
// also where it is the one that a tenant came from.
func TestRemovalsWithAFileThatIsNotRead(t *testing.T) {
	g := NewWithT(t)
	f := files{"tenants/c.yaml": simple("c"), "tenants/b.yaml": string(make([]byte, 2<<20))}
	existing := []v1alpha1.Tenant{held("a", "tenants/c.yaml", 1), held("b", "tenants/b.yaml", 1)}
	remove, held := load(t, f, existing...).Removals(existing)
	g.Expect(remove).To(BeEmpty())
	g.Expect(held).To(HaveKeyWithValue("a", "the problem at tenants/b.yaml:1 may hide its definition"))
}
