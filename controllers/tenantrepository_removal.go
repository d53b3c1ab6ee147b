// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// removal is what came of the tenants that are gone from the definitions.
type removal struct {
	// removed tenants.
	removed []string
	// refusal says why none was removed, if so, and how to approve it.
	refusal string
	// kept has the tenants that stay since their definitions may only be unreadable, and why.
	kept map[string]string
	// stale says that some were not removed since the cache was behind.
	stale bool
}

// removeTenants marks and deletes the Tenants whose definitions are gone, if the repository prunes and the
// revision stays within the deletion budget or these very removals are approved.
//
// It marks all before it deletes one. While one is not marked, none has disappeared, so that what was approved is still
// what is to be removed when it goes on; and once all are, the marks say that it was allowed.
func (r *TenantRepositoryReconciler) removeTenants(ctx context.Context, obj *v1alpha1.TenantRepository, read *reading, own []v1alpha1.Tenant) (*removal, error) {
	out := &removal{}
	own = slices.DeleteFunc(slices.Clone(own), func(t v1alpha1.Tenant) bool {
		return !t.DeletionTimestamp.IsZero() && !markedBy(&t, read.revision)
	})
	var names []string
	if obj.Spec.Prune {
		names, out.kept = read.result.Removals(own)
	}
	var remove, stay []*v1alpha1.Tenant
	for i := range own {
		if slices.Contains(names, own[i].Name) {
			remove = append(remove, &own[i])
		} else {
			stay = append(stay, &own[i])
		}
	}
	if out.refusal = refuseRemoval(obj, read.revision, remove, own); out.refusal != "" {
		stay, remove = append(stay, remove...), nil
	}

	var errs []error
	settle := func(t *v1alpha1.Tenant, doing string, err error) (done bool) {
		switch {
		case apierrors.IsConflict(err):
			out.stale = true
		case client.IgnoreNotFound(err) != nil:
			errs = append(errs, fmt.Errorf("cannot %s Tenant %s/%s: %w", doing, t.Namespace, t.Name, err))
		default:
			return true
		}
		return false
	}
	for _, t := range stay {
		// It was to be removed, and stays now.
		if t.Annotations[v1alpha1.RemoveAnnotation] != "" && t.DeletionTimestamp.IsZero() && !read.defines(t.Name) {
			settle(t, "take the mark of removal off", r.patchMark(ctx, t, unmark))
		}
	}
	marked := true
	for _, t := range remove {
		if !markedBy(t, read.revision) {
			done := settle(t, "mark for removal", r.patchMark(ctx, t, func(t *v1alpha1.Tenant) {
				metav1.SetMetaDataAnnotation(&t.ObjectMeta, v1alpha1.RemoveAnnotation, read.revision)
				controllerutil.AddFinalizer(t, v1alpha1.Finalizer)
			}))
			marked = marked && done
		}
	}
	for _, t := range remove {
		if !marked || !t.DeletionTimestamp.IsZero() {
			continue
		}
		if settle(t, "delete", r.Delete(ctx, t, client.Preconditions{UID: &t.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))) {
			out.removed = append(out.removed, t.Name)
		}
	}
	if len(out.removed) > 0 {
		slices.Sort(out.removed)
		recordEvent(ctx, r.EventRecorder, obj, read.revision, corev1.EventTypeNormal, "TenantsRemoved",
			fmt.Sprintf("revision %s: %s", read.revision, describeRemoval(out.removed, own)))
	}
	return out, errors.Join(errs...)
}

// markedBy says whether a Tenant is marked for removal by a revision, which is to take it down in order.
func markedBy(t *v1alpha1.Tenant, revision string) bool {
	return t.Annotations[v1alpha1.RemoveAnnotation] == revision && controllerutil.ContainsFinalizer(t, v1alpha1.Finalizer)
}

// patchMark changes the metadata of a Tenant, unless somebody else has changed the Tenant meanwhile.
func (r *TenantRepositoryReconciler) patchMark(ctx context.Context, t *v1alpha1.Tenant, change func(*v1alpha1.Tenant)) error {
	before := t.DeepCopy()
	t.Annotations, t.Finalizers = maps.Clone(t.Annotations), slices.Clone(t.Finalizers)
	change(t)
	return r.Patch(ctx, t, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(v1alpha1.FieldManager))
}

// refuseRemoval says why so many of the tenants may not be removed at once, and how to approve it; it is
// empty where they may, or all are marked, which they were when they might. The first revision that a TenantRepository
// takes over removes none unasked: the tenants that it finds were another's of its name.
func refuseRemoval(obj *v1alpha1.TenantRepository, revision string, remove []*v1alpha1.Tenant, own []v1alpha1.Tenant) string {
	if !slices.ContainsFunc(remove, func(t *v1alpha1.Tenant) bool { return !markedBy(t, revision) }) {
		return ""
	}
	approval := removalApproval(revision, remove)
	if obj.Annotations[v1alpha1.ApproveDeletionsAnnotation] == approval {
		return ""
	}
	var why string
	switch budget := deletionBudget(obj.Spec.DeletionBudget, len(own)); {
	case obj.Status.LastAppliedRevision == "":
		why = "which this TenantRepository found and has never defined"
	case len(remove) > budget:
		why = fmt.Sprintf("and spec.deletionBudget allows %d at once", budget)
	default:
		return ""
	}
	var names []string
	for _, t := range remove {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return fmt.Sprintf("revision %s removes %s, %s: none was removed. To approve: kubectl -n %s annotate --overwrite tenantrepository %s %s=%s",
		revision, nameRemoved(names, own), why, obj.Namespace, obj.Name, v1alpha1.ApproveDeletionsAnnotation, approval)
}

// removalApproval is the annotation value that approves the removal of these very Tenants by this revision, and
// no other removal by it: not that of Tenants of the same names that are made later.
func removalApproval(revision string, remove []*v1alpha1.Tenant) string {
	var objects []string
	for _, t := range remove {
		objects = append(objects, t.Name+"/"+string(t.UID))
	}
	slices.Sort(objects)
	return revision + "/" + digest.FromString(strings.Join(objects, ",")).Encoded()[:8]
}

// describeKept says which tenants stay and why, but for those of which a problem says so already.
func describeKept(kept map[string]string, problems []v1alpha1.Problem) string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(kept)), func(name string) bool {
		return slices.ContainsFunc(problems, func(p v1alpha1.Problem) bool { return p.Tenant == name })
	})
	switch len(names) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%s kept: %s", names[0], kept[names[0]])
	}
	return fmt.Sprintf("%s kept, the first: %s", nameSome(names), kept[names[0]])
}

// deletionBudget returns how many of so many tenants may be removed at once: none where it cannot be
// read, which the API's validation rules out.
func deletionBudget(budget *intstr.IntOrString, tenants int) int {
	budget = ptr.To(ptr.Deref(budget, intstr.FromInt32(1)))
	n, err := intstr.GetScaledValueFromIntOrPercent(budget, tenants, false)
	if err != nil {
		return 0
	}
	return n
}

// nameRemoved is the same for tenants that are to be removed, and says whose data goes with them.
func nameRemoved(names []string, own []v1alpha1.Tenant) string {
	kept, deleted := byData(names, own)
	var parts []string
	if len(kept) > 0 {
		parts = append(parts, firstOf(kept))
	}
	if len(deleted) > 0 {
		parts = append(parts, "with all data: "+firstOf(deleted))
	}
	return count(names) + " (" + strings.Join(parts, "; ") + ")"
}

// describeRemoval says that a removal has begun, and of whom the data goes.
func describeRemoval(names []string, own []v1alpha1.Tenant) string {
	kept, deleted := byData(names, own)
	var parts []string
	if len(kept) > 0 {
		parts = append(parts, "removal of "+firstOf(kept)+" has begun (data kept)")
	}
	if len(deleted) > 0 {
		parts = append(parts, "removal of "+firstOf(deleted)+" has begun (with all data)")
	}
	return strings.Join(parts, ", ")
}

// byData divides tenants by whether their data is kept when they are removed.
func byData(names []string, own []v1alpha1.Tenant) (kept, deleted []string) {
	for _, name := range names {
		if slices.ContainsFunc(own, func(t v1alpha1.Tenant) bool { return t.Name == name && t.Spec.DeletionPolicy == v1alpha1.DeleteData }) {
			deleted = append(deleted, name)
		} else {
			kept = append(kept, name)
		}
	}
	return kept, deleted
}
