// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

var tenantResource = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "tenants"}

// named says whether a request is about a Tenant of that name.
func named(obj runtime.Object, name string) bool {
	t, ok := obj.(*v1alpha1.Tenant)
	return ok && t.Name == name
}

// follow annotates an object as the command says that a message ends with.
func (f *repository) follow(message, annotation string, obj client.Object) {
	_, value, found := strings.Cut(message, annotation+"=")
	f.Expect(found).To(BeTrue(), message)
	value, _, _ = strings.Cut(value, "; ")
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, annotation, value)
	f.Expect(admin.Patch(ctx, obj, client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed())
}

// settles reconciles without an error.
func (f *repository) settles() {
	_, err := f.reconcile()
	f.ExpectWithOffset(1, err).NotTo(HaveOccurred())
}

// letGo is what the Tenant controller does when all of a tenant is taken down.
func (f *repository) letGo(name string) {
	t := f.tenant(name)
	t.Finalizers = nil
	f.Expect(admin.Update(ctx, t)).To(Succeed())
}

// New Tenants that the apiserver refuses have had their turn: the others are created, and the revision is applied. They are
// tried again when the source is looked at again.
func TestRefusedTenantsHoldNobodyUp(t *testing.T) {
	f := newRepository(t)
	var creates atomic.Int64
	f.fail = func(verb string, obj runtime.Object) error {
		if t, ok := obj.(*v1alpha1.Tenant); ok && verb == "create" {
			creates.Add(1)
			if strings.HasPrefix(t.Name, "a-refused") {
				return apierrors.NewForbidden(tenantResource, t.Name, errors.New("by a policy"))
			}
		}
		return nil
	}
	all := files("b-one", "b-two")
	for i := range newAtOnce + 1 {
		maps.Copy(all, files(fmt.Sprintf("a-refused-%d", i)))
	}
	f.push("main@sha1:1111", all)
	result, err := f.reconcile()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(result.RequeueAfter).To(Equal(nextBatchDelay))
	for range 3 {
		result, err = f.reconcile()
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(result.RequeueAfter).To(BeNumerically(">", nextBatchDelay))
	}
	f.Expect(creates.Load()).To(BeEquivalentTo(len(all)), "each once")
	f.Expect(f.tenant("b-one").Spec.Domain).To(Equal("b-one.example.com"))
	status := f.object().Status
	f.Expect(status.LastAppliedRevision).To(Equal("main@sha1:1111"))
	f.Expect(status.Problems).To(HaveLen(v1alpha1.MaxProblems))
	f.Expect(status.Problems[0]).To(And(HaveField("Tenant", HavePrefix("a-refused-")), HaveField("Message", ContainSubstring("by a policy"))))

	f.push("main@sha1:1111", all)
	f.settles()
	f.settles()
	f.Expect(creates.Load()).To(BeEquivalentTo(2*len(all) - 2))
}

// The Tenants of a TenantRepository that was deleted go to another only by approval: a file of that name may be another
// facility's.
func TestTakingOverIsApproved(t *testing.T) {
	f := newRepository(t)
	running := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: f.key.Namespace, Name: "taken", Labels: map[string]string{v1alpha1.RepositoryLabel: "gone"}},
		Spec: v1alpha1.TenantSpec{Domain: "running.example.com"}}
	running.SetDefaults()
	f.Expect(admin.Create(ctx, running)).To(Succeed())
	obj := f.object()
	obj.Spec.Git.URL = "http://git.example.com/tenants" // which is refused without asking it
	f.Expect(admin.Update(ctx, obj)).To(Succeed())

	f.push("main@sha1:1111", files("taken", "beside-taken"))
	f.settles()
	f.Expect(f.tenant("taken").Spec.Domain).To(Equal("running.example.com"))
	problems := f.object().Status.Problems
	f.Expect(problems).To(HaveLen(1))
	f.Expect(problems[0]).To(And(HaveField("Reason", v1alpha1.ConflictReason), HaveField("Message", And(
		HavePrefix("tenant taken exists already and comes from TenantRepository gone, which is gone: "),
		ContainSubstring("kubectl -n "+f.key.Namespace+" annotate --overwrite tenants.korthweb.digihunch.com taken "+v1alpha1.ApproveAdoptionAnnotation+"=central/")))))

	f.follow(problems[0].Message, v1alpha1.ApproveAdoptionAnnotation, running)
	f.settles()
	f.Expect(conditions.GetReason(f.object(), meta.StalledCondition)).To(Equal(sourcev1.URLInvalidReason), "the source is looked at again")

	f.push("main@sha1:1111", files("taken", "beside-taken"))
	f.settles()
	taken := f.tenant("taken")
	f.Expect(taken.UID).To(Equal(running.UID))
	f.Expect(taken.Spec.Domain).To(Equal("taken.example.com"))
	f.Expect(taken.Labels).To(HaveKeyWithValue(v1alpha1.RepositoryLabel, "central"))
	f.Expect(taken.Annotations).NotTo(HaveKey(v1alpha1.ApproveAdoptionAnnotation), "it is used up")
	f.Expect(f.object().Status.Problems).To(BeEmpty())
}

// An approved removal that is interrupted goes on, and is approved once.
func TestApprovedRemoval(t *testing.T) {
	f := newRepository(t)
	everything := files("approved-a", "approved-b", "approved-c", "approved-stays")
	f.push("main@sha1:1111", everything)
	f.settles()
	f.push("main@sha1:2222", files("approved-stays"))
	f.settles()
	refusal := func() string {
		obj := f.object()
		if conditions.GetReason(obj, meta.ReadyCondition) != v1alpha1.DeletionBudgetExceededReason {
			return ""
		}
		return conditions.GetMessage(obj, meta.ReadyCondition)
	}
	f.follow(refusal(), v1alpha1.ApproveDeletionsAnnotation, f.object())

	// One has just been written by somebody else.
	conflicts := 2
	f.fail = func(verb string, obj runtime.Object) error {
		if verb == "patch" && named(obj, "approved-b") && conflicts > 0 {
			conflicts--
			return apierrors.NewConflict(tenantResource, "approved-b", errors.New("it was changed"))
		}
		return nil
	}
	for range 2 {
		result, err := f.reconcile()
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(result.RequeueAfter).To(Equal(summaryDelay))
		f.Expect(refusal()).To(BeEmpty())
		f.Expect(f.tenant("approved-a").Annotations).To(HaveKeyWithValue(v1alpha1.RemoveAnnotation, "main@sha1:2222"))
		f.Expect(f.tenant("approved-a").DeletionTimestamp).To(BeNil(), "none goes before all are marked")
	}

	// Two cannot be deleted, and the third is gone at once.
	f.fail = func(verb string, obj runtime.Object) error {
		if verb == "delete" && !named(obj, "approved-a") {
			return errors.New("killed")
		}
		return nil
	}
	_, err := f.reconcile()
	f.Expect(err).To(MatchError(And(ContainSubstring("/approved-b: killed"), ContainSubstring("/approved-c: killed"))))
	f.letGo("approved-a")
	f.fail = func(string, runtime.Object) error { return nil }
	f.settles()
	for _, name := range []string{"approved-b", "approved-c"} {
		f.Expect(f.tenant(name).DeletionTimestamp).NotTo(BeNil())
		f.letGo(name)
	}
	f.Expect(f.tenant("approved-stays").DeletionTimestamp).To(BeNil())

	// The branch is moved on, and back.
	f.push("main@sha1:3333", everything)
	f.settles()
	f.push("main@sha1:2222", files("approved-stays"))
	f.settles()
	f.Expect(refusal()).To(ContainSubstring("none was removed"))
	f.Expect(f.tenant("approved-a").DeletionTimestamp).To(BeNil())
}

// What the apiserver says of the last good states is nothing that a file is to blame for.
func TestHistoryFailureIsNoProblem(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
	}{
		{name: "forbidden", err: apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}, "", errors.New("no role"))},
		{name: "not found", err: apierrors.NewNotFound(schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}, "")},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newRepository(t)
			f.push("main@sha1:1111", files("innocent"))
			f.fail = func(verb string, obj runtime.Object) error {
				if _, ok := obj.(*metav1.PartialObjectMetadataList); ok && verb == "list" {
					return test.err
				}
				return nil
			}
			_, err := f.reconcile()
			f.Expect(err).To(MatchError(ContainSubstring("last good states")))
			f.Expect(f.object().Status.Problems).To(BeEmpty())
			f.Expect(conditions.GetReason(f.object(), meta.ReadyCondition)).To(Equal(meta.ReconciliationFailedReason))
		})
	}
}

// Nothing is said of the newest definition where there is none.
func TestNothingIsAcceptedWithoutDefinition(t *testing.T) {
	f := newRepository(t)
	obj := f.object()
	obj.Spec.Prune = false
	f.Expect(admin.Update(ctx, obj)).To(Succeed())
	f.push("main@sha1:1111", files("undefined", "defined"))
	f.settles()
	f.settles()
	accepted := func(name string) *metav1.Condition {
		return apimeta.FindStatusCondition(f.tenant(name).Status.Conditions, v1alpha1.DefinitionAcceptedCondition)
	}
	f.Expect(accepted("undefined")).NotTo(BeNil())
	f.push("main@sha1:2222", files("defined"))
	f.settles()
	f.Expect(accepted("undefined")).To(BeNil())
	f.Expect(accepted("defined")).To(HaveField("Status", metav1.ConditionTrue))
	version := f.tenant("undefined").ResourceVersion
	f.settles()
	f.Expect(f.tenant("undefined").ResourceVersion).To(Equal(version))
}

// The condition says so when the Tenants cannot be listed.
func TestTenantsCannotBeListed(t *testing.T) {
	f := newRepository(t)
	f.push("main@sha1:1111", files("unlisted"))
	f.fail = func(verb string, obj runtime.Object) error {
		if _, ok := obj.(*v1alpha1.TenantList); ok && verb == "list" {
			return errors.New("the cache is not there")
		}
		return nil
	}
	_, err := f.reconcile()
	f.Expect(err).To(HaveOccurred())
	f.Expect(conditions.GetMessage(f.object(), meta.ReadyCondition)).To(ContainSubstring("cannot list Tenants: the cache is not there"))
}
