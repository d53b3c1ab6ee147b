// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

func repositoryNamed(name string) *v1alpha1.TenantRepository {
	return &v1alpha1.TenantRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: name}}
}

func tenantOwnedBy(name, repository string) v1alpha1.Tenant {
	t := v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: name}}
	if repository != "" {
		t.Labels = map[string]string{v1alpha1.RepositoryLabel: repository}
	}
	return t
}

func TestTenantSet(t *testing.T) {
	g := NewWithT(t)
	elsewhere := tenantOwnedBy("elsewhere", "a")
	elsewhere.Namespace = "other"
	approve := func(name, repository, by string) v1alpha1.Tenant {
		t := tenantOwnedBy(name, repository)
		t.UID = types.UID(name + "-0123456789")
		t.Annotations = map[string]string{v1alpha1.ApproveAdoptionAnnotation: by}
		return t
	}
	tenants := []v1alpha1.Tenant{
		tenantOwnedBy("own", "a"), approve("others", "b", "a/others-0"), approve("orphan", "gone", "c/orphan-0"), tenantOwnedBy("hand-made", ""), elsewhere,
		approve("approved", "gone", "a/approved"), approve("another", "gone", "a/approved"), approve("by-hand", "", "a/by-hand-"),
	}
	a := repositoryNamed("a")
	set := newTenantSet(a, tenants, []v1alpha1.TenantRepository{*a, *repositoryNamed("b")})

	g.Expect(set.own).To(HaveLen(1))
	g.Expect(set.own[0].Name).To(Equal("own"))
	g.Expect(set.byName).To(And(HaveLen(2), HaveKey("own"), HaveKey("approved")))
	g.Expect(set.taken(a)).To(Equal([]string{"approved"}))
	g.Expect(set.orphans).To(Equal(map[string]string{
		"orphan":  "kubectl -n flux-system annotate --overwrite tenants.korthweb.digihunch.com orphan korthweb.digihunch.com/approve-adoption=a/orphan-0",
		"another": "kubectl -n flux-system annotate --overwrite tenants.korthweb.digihunch.com another korthweb.digihunch.com/approve-adoption=a/another-",
	}))

	owners := map[string]string{}
	for _, held := range set.held(a) {
		owners[held.Name] = held.Labels[v1alpha1.RepositoryLabel]
	}
	g.Expect(owners).To(Equal(map[string]string{"own": "a", "others": "b", "orphan": "gone", "hand-made": "", "elsewhere": "a",
		"approved": "a", "another": "gone", "by-hand": ""}))
	g.Expect(tenants[5].Labels).To(HaveKeyWithValue(v1alpha1.RepositoryLabel, "gone"), "the cache's own object is left alone")
}

func TestDesiredTenant(t *testing.T) {
	const first, second = "main@sha1:1111", "main@sha1:2222"
	define := func(domain, file string) tenant.Definition {
		defined := v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "bhs", Labels: map[string]string{"region": "north"}}}
		defined.Spec.Domain = domain
		return tenant.Definition{Tenant: &defined, File: file, Line: 1}
	}
	repository := repositoryNamed("a")
	live := desiredTenant(repository, define("bhs.example.com", "tenants/bhs.yaml"), nil, first)

	tests := []struct {
		name       string
		reason     string
		definition tenant.Definition
		repository *v1alpha1.TenantRepository
		edit       func(*v1alpha1.Tenant)
		revision   string
		upToDate   bool
	}{
		{
			name: "nothing changed", reason: "a commit that does not change a tenant is not its revision",
			definition: define("bhs.example.com", "tenants/bhs.yaml"), revision: first, upToDate: true,
		},
		{
			name: "another domain", reason: "the revision leads to the commit that changed the tenant",
			definition: define("bhs.example.org", "tenants/bhs.yaml"), revision: second,
		},
		{
			name: "the file moved", reason: "where the file is does not change the tenant, but is noted",
			definition: define("bhs.example.com", "tenants/north/bhs.yaml"), revision: first,
		},
		{
			name: "edited by hand", reason: "what git says is restored, as of the same revision",
			definition: define("bhs.example.com", "tenants/bhs.yaml"),
			edit:       func(t *v1alpha1.Tenant) { t.Spec.Domain = "evil.example.com" }, revision: first,
		},
		{
			name: "label added by hand", reason: "labels are the definition's",
			definition: define("bhs.example.com", "tenants/bhs.yaml"),
			edit:       func(t *v1alpha1.Tenant) { t.Labels["extra"] = "x" }, revision: first,
		},
		{
			name: "reconciliation requested", reason: "annotations of others stay",
			definition: define("bhs.example.com", "tenants/bhs.yaml"),
			edit:       func(t *v1alpha1.Tenant) { t.Annotations["reconcile.fluxcd.io/requestedAt"] = "now" }, revision: first, upToDate: true,
		},
		{
			name: "sharded", reason: "tenants belong to the instance of their repository",
			definition: define("bhs.example.com", "tenants/bhs.yaml"),
			repository: func() *v1alpha1.TenantRepository {
				r := repositoryNamed("a")
				r.Labels = map[string]string{v1alpha1.ShardingLabel: "shard1"}
				return r
			}(),
			revision: first,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			before := live.DeepCopy()
			if test.edit != nil {
				test.edit(before)
			}
			if test.repository == nil {
				test.repository = repository
			}
			desired := desiredTenant(test.repository, test.definition, before, second)
			g.Expect(desired.Annotations).To(HaveKeyWithValue(v1alpha1.RevisionAnnotation, test.revision), test.reason)
			g.Expect(desired.Annotations).To(HaveKeyWithValue(v1alpha1.PathAnnotation, test.definition.File))
			g.Expect(desired.Spec).To(Equal(test.definition.Tenant.Spec))
			g.Expect(desired.Labels).NotTo(HaveKey("extra"))
			g.Expect(desired.Labels[v1alpha1.ShardingLabel]).To(Equal(test.repository.Labels[v1alpha1.ShardingLabel]))
			g.Expect(upToDate(before, desired)).To(Equal(test.upToDate), test.reason)
		})
	}
}

func TestDeletionBudget(t *testing.T) {
	tests := []struct {
		name    string
		budget  *intstr.IntOrString
		tenants int
		want    int
	}{
		{name: "one by default", tenants: 100, want: 1},
		{name: "a number", budget: ptr.To(intstr.FromInt32(3)), tenants: 100, want: 3},
		{name: "none", budget: ptr.To(intstr.FromInt32(0)), tenants: 100, want: 0},
		{name: "a percentage is rounded down", budget: ptr.To(intstr.FromString("10%")), tenants: 29, want: 2},
		{name: "a percentage of few is none", budget: ptr.To(intstr.FromString("10%")), tenants: 9, want: 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(deletionBudget(test.budget, test.tenants)).To(Equal(test.want))
		})
	}
}

func TestRefuseRemoval(t *testing.T) {
	const revision = "main@sha1:1111"
	tenants := func(names ...string) []*v1alpha1.Tenant {
		var out []*v1alpha1.Tenant
		for _, name := range names {
			t := tenantOwnedBy(name, "a")
			t.UID = types.UID("uid of " + name)
			out = append(out, &t)
		}
		return out
	}
	edited := func(tenants []*v1alpha1.Tenant, edit func(*v1alpha1.Tenant)) []*v1alpha1.Tenant {
		for _, t := range tenants {
			edit(t)
		}
		return tenants
	}
	mark := func(by string) func(*v1alpha1.Tenant) {
		return func(t *v1alpha1.Tenant) {
			t.Annotations = map[string]string{v1alpha1.RemoveAnnotation: by}
			t.Finalizers = []string{v1alpha1.Finalizer}
		}
	}
	both := removalApproval(revision, tenants("bhs", "mhr"))
	tests := []struct {
		name     string
		remove   []*v1alpha1.Tenant
		applied  string
		approved string
		want     string
	}{
		{name: "none", applied: revision},
		{name: "within the budget", remove: tenants("bhs"), applied: revision},
		{name: "above the budget", remove: tenants("mhr", "bhs"), applied: revision, want: "removes 2 tenants (bhs, mhr), and spec.deletionBudget allows 1 at once: none was removed"},
		{name: "with data", remove: edited(tenants("lumen-trial", "mhr"), func(t *v1alpha1.Tenant) {
			if t.Name == "lumen-trial" {
				t.Spec.DeletionPolicy = v1alpha1.DeleteData
			}
		}), applied: revision, want: "removes 2 tenants (mhr; with all data: lumen-trial), and spec"},
		{name: "approved", remove: tenants("mhr", "bhs"), applied: revision, approved: both},
		{name: "another revision approved", remove: tenants("bhs", "mhr"), applied: revision, approved: removalApproval("main@sha1:2222", tenants("bhs", "mhr")), want: "none was removed"},
		{name: "other tenants approved at this revision", remove: tenants("bhs", "mhr"), applied: revision, approved: removalApproval(revision, tenants("bhs", "other")), want: "none was removed"},
		{name: "earlier Tenants of these names approved", remove: edited(tenants("bhs", "mhr"), func(t *v1alpha1.Tenant) { t.UID += " made again" }),
			applied: revision, approved: both, want: "none was removed"},
		{name: "the revision alone approved", remove: tenants("bhs", "mhr"), applied: revision, approved: revision, want: "none was removed"},
		{name: "the first revision", remove: tenants("bhs"), want: "which this TenantRepository found and has never defined: none was removed"},
		{name: "the first revision, approved", remove: tenants("bhs"), approved: removalApproval(revision, tenants("bhs"))},
		{name: "one marked, approved", remove: append(edited(tenants("bhs"), mark(revision)), tenants("mhr")...), applied: revision, approved: both},
		{name: "one marked, not approved any more", remove: append(edited(tenants("bhs"), mark(revision)), tenants("mhr")...), applied: revision, want: "removes 2 tenants"},
		{name: "all marked", remove: edited(tenants("bhs", "mhr"), mark(revision)), applied: revision},
		{name: "all marked by another revision", remove: edited(tenants("bhs", "mhr"), mark("main@sha1:2222")), applied: revision, want: "none was removed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			obj := repositoryNamed("a")
			obj.Status.LastAppliedRevision = test.applied
			obj.Annotations = map[string]string{v1alpha1.ApproveDeletionsAnnotation: test.approved}
			own := make([]v1alpha1.Tenant, 10-len(test.remove))
			for _, t := range test.remove {
				own = append(own, *t)
			}
			refusal := refuseRemoval(obj, revision, test.remove, own)
			if test.want == "" {
				g.Expect(refusal).To(BeEmpty())
				return
			}
			g.Expect(refusal).To(ContainSubstring(test.want))
			g.Expect(refusal).To(HaveSuffix(v1alpha1.ApproveDeletionsAnnotation + "=" + removalApproval(revision, test.remove)))
		})
	}
}

// What was just written is reported as it is, not as the cache still has it.
func TestAfter(t *testing.T) {
	g := NewWithT(t)
	set := &tenantSet{own: []v1alpha1.Tenant{tenantOwnedBy("same", "a"), tenantOwnedBy("changed", "a"), tenantOwnedBy("gone", "a")}}
	changed, created := tenantOwnedBy("changed", "a"), tenantOwnedBy("created", "a")
	changed.Generation = 2
	after := set.after([]*v1alpha1.Tenant{&changed, &created}, []string{"gone"})
	generations := map[string]int64{}
	for _, t := range after {
		generations[t.Name] = t.Generation
	}
	g.Expect(generations).To(Equal(map[string]int64{"same": 0, "changed": 2, "created": 0}))
}

// Whose data goes is said before and after.
func TestDescribeRemoval(t *testing.T) {
	mhr, lumen := tenantOwnedBy("mhr", "a"), tenantOwnedBy("lumen-trial", "a")
	lumen.Spec.DeletionPolicy = v1alpha1.DeleteData
	own := []v1alpha1.Tenant{mhr, lumen}
	for _, test := range []struct {
		names        []string
		named, event string
	}{
		{[]string{"mhr"}, "1 tenant (mhr)", "removal of mhr has begun (data kept)"},
		{[]string{"lumen-trial"}, "1 tenant (with all data: lumen-trial)", "removal of lumen-trial has begun (with all data)"},
		{[]string{"lumen-trial", "mhr"}, "2 tenants (mhr; with all data: lumen-trial)",
			"removal of mhr has begun (data kept), removal of lumen-trial has begun (with all data)"},
	} {
		g := NewWithT(t)
		g.Expect(nameRemoved(test.names, own)).To(Equal(test.named))
		g.Expect(describeRemoval(test.names, own)).To(Equal(test.event))
	}
}

func TestNameSome(t *testing.T) {
	g := NewWithT(t)
	g.Expect(nameSome([]string{"bhs"})).To(Equal("1 tenant (bhs)"))
	g.Expect(nameSome([]string{"bhs", "mhr"})).To(Equal("2 tenants (bhs, mhr)"))
	many := make([]string, maxNamesInMessage+1)
	for i := range many {
		many[i] = "t"
	}
	g.Expect(nameSome(many)).To(And(HavePrefix("21 tenants (t, "), HaveSuffix(", t, …)")))
}
