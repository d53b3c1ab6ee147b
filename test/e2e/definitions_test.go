// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

// Whatever is wrong with one file, the status says where and why, everybody else's change goes through,
// the tenant of that file keeps what it has, and the next commit can put it right.
func TestBadDefinitions(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	good := func(displayName string) string { return tenantFile("defs-good", "displayName: "+displayName) }
	bad := tenantFile("defs-bad")
	f := newFacilities(t, shared, "defs", map[string]string{"defs-good.yaml": good("Seed"), "defs-bad.yaml": bad})
	g.Eventually(f.ready("defs-good", "defs-bad")).Should(Succeed())
	before, err := f.get("defs-bad")
	g.Expect(err).NotTo(HaveOccurred())

	// A definition of defs-bad that differs, so that it shows when it is taken from where it may not be.
	outside := filepath.Join(t.TempDir(), "outside.yaml")
	g.Expect(os.WriteFile(outside, []byte(tenantFile("defs-bad", "displayName: Outside")), 0o600)).To(Succeed())
	many := map[string]string{}
	for i := range 10_000 {
		many[fmt.Sprintf("many/%05d.yaml", i)] = "# nothing yet\n"
	}

	for _, tc := range []struct {
		name  string
		files map[string]string
		// prepare makes in the working tree what is no plain file, at paths below tenants/.
		prepare func(tenants string) error
		// extra are paths below tenants/ to remove again.
		extra    []string
		problem  v1alpha1.Problem // without its message
		messages []string
	}{
		{
			name:     "broken YAML",
			files:    map[string]string{"defs-bad.yaml": bad + "  orthanc: {replicas: [\n"},
			problem:  v1alpha1.Problem{File: "tenants/defs-bad.yaml:8", Tenant: "defs-bad", Reason: v1alpha1.MalformedFileReason},
			messages: []string{"is not YAML"},
		},
		{
			name:     "unknown field",
			files:    map[string]string{"defs-bad.yaml": tenantFile("defs-bad", "orthanc:", "  replica: 2")},
			problem:  v1alpha1.Problem{File: "tenants/defs-bad.yaml:9", Tenant: "defs-bad", Field: "spec.orthanc.replica", Reason: v1alpha1.InvalidDefinitionReason},
			messages: []string{"unknown field spec.orthanc.replica, did you mean replicas?"},
		},
		{
			name:     "bad value",
			files:    map[string]string{"defs-bad.yaml": tenantFile("defs-bad", "orthanc:", `  aeTitle: "SEVENTEEN LETTERS"`)},
			problem:  v1alpha1.Problem{File: "tenants/defs-bad.yaml:9", Tenant: "defs-bad", Field: "spec.orthanc.aeTitle", Reason: v1alpha1.InvalidDefinitionReason},
			messages: []string{"16"},
		},
		{
			name:     "two tenants of one name",
			files:    map[string]string{"again/defs-bad.yaml": tenantFile("defs-bad", "displayName: Again")},
			extra:    []string{"again"},
			problem:  v1alpha1.Problem{File: "tenants/again/defs-bad.yaml:4", Tenant: "defs-bad", Field: "metadata.name", Reason: v1alpha1.ConflictReason},
			messages: []string{"defined at tenants/defs-bad.yaml:1 and again at tenants/again/defs-bad.yaml:4"},
		},
		{
			name:     "host of another tenant",
			files:    map[string]string{"defs-bad.yaml": tenantFile("defs-bad", "ingress: {web: {host: defs-good.example.com}}")},
			problem:  v1alpha1.Problem{File: "tenants/defs-bad.yaml:8", Tenant: "defs-bad", Field: "spec.ingress.web.host", Reason: v1alpha1.ConflictReason},
			messages: []string{"host defs-good.example.com is held by tenant defs-good", "tenants/defs-good.yaml:1"},
		},
		{
			name:     "host of another tenant, in a file that comes first",
			files:    map[string]string{"a/defs-new.yaml": tenantFile("defs-new", "ingress: {web: {host: defs-good.example.com}}")},
			extra:    []string{"a"},
			problem:  v1alpha1.Problem{File: "tenants/a/defs-new.yaml:8", Tenant: "defs-new", Field: "spec.ingress.web.host", Reason: v1alpha1.ConflictReason},
			messages: []string{"is held by tenant defs-good"},
		},
		{
			name:     "another kind in the path",
			files:    map[string]string{"other.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: stray}\n"},
			extra:    []string{"other.yaml"},
			problem:  v1alpha1.Problem{File: "tenants/other.yaml:2", Field: "kind", Reason: v1alpha1.InvalidDefinitionReason},
			messages: []string{"another kind in the path: found \"Secret\" of \"v1\"", "move it out of tenants"},
		},
		{
			name:     "50 MB file",
			files:    map[string]string{"defs-bad.yaml": tenantFile("defs-bad", "displayName: Large") + strings.Repeat("# padding\n", 5<<20)},
			problem:  v1alpha1.Problem{File: "tenants/defs-bad.yaml:1", Tenant: "defs-bad", Reason: v1alpha1.MalformedFileReason},
			messages: []string{"1 MiB", "is the limit: split it"},
		},
		{
			name:     "10,000 files",
			files:    many,
			extra:    []string{"many"},
			problem:  v1alpha1.Problem{File: "tenants", Reason: v1alpha1.MalformedFileReason},
			messages: []string{"holds 10003 YAML files", "only the first 5000"},
		},
		{
			name:     "YAML alias bomb",
			files:    map[string]string{"defs-bad.yaml": tenantFile("defs-bad", "displayName: Bomb", "orthanc:") + aliasBomb("    ")},
			problem:  v1alpha1.Problem{File: "tenants/defs-bad.yaml:1", Tenant: "defs-bad", Reason: v1alpha1.MalformedFileReason},
			messages: []string{"more than 5000 values when its aliases are expanded"},
		},
		{
			name: "symbolic link out of the tree",
			prepare: func(tenants string) error {
				bad := filepath.Join(tenants, "defs-bad.yaml")
				if err := os.Remove(bad); err != nil {
					return err
				}
				return os.Symlink(outside, bad)
			},
			extra:    []string{"defs-bad.yaml"},
			problem:  v1alpha1.Problem{File: "tenants/defs-bad.yaml", Tenant: "defs-bad", Reason: v1alpha1.MalformedFileReason},
			messages: []string{"is a symbolic link, which is not followed"},
		},
		{
			name: "submodule",
			prepare: func(tenants string) error {
				// An empty directory is what git has of a submodule that is not checked out. The tenant's
				// file may have moved into it.
				if err := os.Mkdir(filepath.Join(tenants, "module"), 0o755); err != nil {
					return err
				}
				if err := os.Remove(filepath.Join(tenants, "defs-bad.yaml")); err != nil {
					return err
				}
				commit, err := f.repo.Git("rev-parse", "HEAD")
				if err != nil {
					return err
				}
				_, err = f.repo.Git("update-index", "--add", "--cacheinfo", "160000,"+commit+",tenants/module")
				return err
			},
			extra:    []string{"module"},
			problem:  v1alpha1.Problem{File: "tenants/module", Reason: v1alpha1.MalformedFileReason},
			messages: []string{"submodule"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := gomega(t)
			t.Cleanup(func() {
				revision := f.restore(map[string]string{"defs-bad.yaml": bad}, tc.extra)
				g.Eventually(f.takenOver(revision)).Should(Succeed())
				r, err := f.repository()
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(r.Status.Problems).To(BeEmpty())
			})
			if tc.prepare != nil {
				g.Expect(tc.prepare(filepath.Join(f.repo.Dir(), "tenants"))).To(Succeed())
			}
			files := map[string]string{"defs-good.yaml": good(tc.name)}
			for path, content := range tc.files {
				files[path] = content
			}
			revision := f.push(files)
			g.Eventually(f.takenOver(revision)).Should(Succeed())

			r, err := f.repository()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Status.Problems).To(HaveLen(1))
			problem := r.Status.Problems[0]
			for _, text := range tc.messages {
				g.Expect(problem.Message).To(ContainSubstring(text))
			}
			problem.Message = ""
			g.Expect(problem).To(Equal(tc.problem))
			g.Expect(conditions.IsFalse(r, meta.ReadyCondition)).To(BeTrue())
			g.Expect(conditions.GetReason(r, meta.ReadyCondition)).To(Equal(v1alpha1.ProblemsFoundReason))
			g.Expect(conditions.GetMessage(r, meta.ReadyCondition)).To(ContainSubstring("1 problem: " + tc.problem.File))
			g.Expect(r.Status.Tenants.Total).To(BeEquivalentTo(2))

			// Tenants are written before the status is, so this is the outcome.
			after, err := f.get("defs-bad")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(after.UID).To(Equal(before.UID))
			g.Expect(after.DeletionTimestamp).To(BeNil())
			g.Expect(after.Generation).To(Equal(before.Generation))
			g.Expect(after.Status.Artifact).To(Equal(before.Status.Artifact))
			g.Expect(f.ready("defs-bad")()).To(Succeed())
			_, err = f.get("defs-new")
			g.Expect(apierrors.IsNotFound(err)).To(BeTrue())
			g.Eventually(f.published(revision, "defs-good")).Should(Succeed())

		})
	}
	g.Eventually(f.ready("defs-good", "defs-bad")).Should(Succeed())
}

// restore is push, but removes first, so that nothing is written through a symbolic link.
func (f *facilities) restore(files map[string]string, remove []string) string {
	f.t.Helper()
	for _, path := range remove {
		if err := os.RemoveAll(filepath.Join(f.repo.Dir(), "tenants", path)); err != nil {
			f.t.Fatal(err)
		}
	}
	return f.push(files)
}

// aliasBomb is a few lines of YAML, indented, that stand for a billion values.
func aliasBomb(indent string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%sbomb0: &b0 [x, x, x, x, x, x, x, x, x, x]\n", indent)
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "%sbomb%d: &b%d [%s*b%d]\n", indent, i, i, strings.Repeat(fmt.Sprintf("*b%d, ", i-1), 9), i-1)
	}
	return b.String()
}

// A revision that removes more tenants than allowed removes none, until a person approves these very removals
// with the value that the message gives.
func TestDeletionBudget(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	// What is suspended from the start is never installed, so these tenants cost nothing.
	files := map[string]string{}
	var names []string
	for _, name := range []string{"budget-a", "budget-b", "budget-c", "budget-d"} {
		names = append(names, name)
		files[name+".yaml"] = tenantFile(name, "suspend: true")
	}
	f := newFacilities(t, shared, "budget", files, func(r *v1alpha1.TenantRepository) {
		budget := intstr.FromInt32(1)
		r.Spec.DeletionBudget = &budget
	})
	there := func() []string {
		var found []string
		for _, obj := range f.tenants(t.Context()) {
			if obj.DeletionTimestamp.IsZero() {
				found = append(found, obj.Name)
			}
		}
		return found
	}
	approvals := map[string]string{} // by revision
	approval := regexp.MustCompile(regexp.QuoteMeta("annotate --overwrite tenantrepository budget "+v1alpha1.ApproveDeletionsAnnotation) + `=(\S+)`)
	approve := func(revision string) {
		t.Helper()
		g.Expect(approvals).To(HaveKey(revision))
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ApproveDeletionsAnnotation, approvals[revision])
		r := &v1alpha1.TenantRepository{ObjectMeta: objectMeta(stack.FluxNamespace, f.name)}
		g.Expect(shared.client.Patch(t.Context(), r, client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed())
	}
	refused := func(revision string) func(Gomega) {
		return func(g Gomega) {
			r, err := f.repository()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(conditions.IsFalse(r, meta.ReadyCondition)).To(BeTrue())
			g.Expect(conditions.GetReason(r, meta.ReadyCondition)).To(Equal(v1alpha1.DeletionBudgetExceededReason))
			message := conditions.GetMessage(r, meta.ReadyCondition)
			g.Expect(message).To(And(
				ContainSubstring("revision "+revision+" removes 2 tenants (budget-b, budget-c)"),
				ContainSubstring("spec.deletionBudget allows 1 at once: none was removed"),
			))
			command := approval.FindStringSubmatch(message)
			g.Expect(command).To(HaveLen(2))
			approvals[revision] = command[1]
		}
	}
	g.Eventually(there).Should(ConsistOf(names))

	first := f.push(nil, "budget-b.yaml", "budget-c.yaml")
	g.Eventually(refused(first)).Should(Succeed())
	g.Expect(there()).To(ConsistOf(names))

	// An approval is for one revision: not for the one before, nor for what comes after it.
	second := f.push(map[string]string{"budget-a.yaml": tenantFile("budget-a", "suspend: true", "displayName: Changed")})
	g.Eventually(refused(second)).Should(Succeed())
	approve(first)
	f.request(t)
	g.Consistently(there).Should(ConsistOf(names))
	g.Eventually(refused(second)).Should(Succeed())
	a, err := f.get("budget-a")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.Spec.DisplayName).To(Equal("Changed"))

	approve(second)
	g.Eventually(there).Should(ConsistOf("budget-a", "budget-d"))

	// Within the budget nobody is asked.
	f.push(nil, "budget-d.yaml")
	g.Eventually(there).Should(ConsistOf("budget-a"))
}
