// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

// finalize takes a marked tenant down in the order in which nothing is needed any more. What acts for the
// tenant stays until Flux has pruned; what could put it back goes when nothing is left; the Tenant stays until all of it
// is done.
func (r *TenantReconciler) finalize(ctx context.Context, obj *v1alpha1.Tenant) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(obj, v1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	resolved := obj.DeepCopy()
	resolved.SetDefaults()

	done, waitingFor, err := r.remove(ctx, resolved)
	if e := new(emit.FluxNotInstalledError); errors.As(err, &e) {
		return r.retry(obj, v1alpha1.FluxNotInstalledReason, fmt.Errorf("cannot remove the tenant: %w", err))
	}
	if err != nil {
		return ctrl.Result{}, failed(meta.PruneFailedReason, err)
	}
	if !done {
		message := describeWaiting(resolved, waitingFor)
		conditions.MarkReconciling(obj, v1alpha1.RemovingReason, "%s", message)
		conditions.MarkUnknown(obj, meta.ReadyCondition, v1alpha1.RemovingReason, "%s", message)
		return ctrl.Result{RequeueAfter: r.DependencyRequeueInterval}, nil
	}
	return ctrl.Result{}, failed(meta.PruneFailedReason, r.dropFinalizer(ctx, obj))
}

// remove takes down what is emitted for a tenant as it was published, under the deletionPolicy that it has by now, and then
// what was published. A layer may have to apply it once more, so it is served until nothing is left.
func (r *TenantReconciler) remove(ctx context.Context, resolved *v1alpha1.Tenant) (done bool, waitingFor string, err error) {
	good, published, _, err := r.restoreArchive(ctx, resolved)
	if err != nil {
		return false, "", fmt.Errorf("cannot serve what was last published: %w", err)
	}
	emitted := resolved
	if good != nil {
		good.Spec.DeletionPolicy = resolved.Spec.DeletionPolicy
		emitted = good
	}
	if done, waitingFor, err = r.Applier.Remove(ctx, emitted, published); err != nil || !done {
		return false, waitingFor, err
	}
	if err := r.Publisher.Remove(resolved); err != nil {
		return false, "", err
	}
	return true, "", r.History.Remove(ctx, client.ObjectKeyFromObject(resolved))
}

// describeWaiting says what a removal waits for, since when it goes on, what becomes of the data, and where to look.
func describeWaiting(t *v1alpha1.Tenant, waitingFor string) string {
	data := "data stays"
	if t.Spec.DeletionPolicy == v1alpha1.DeleteData {
		data = "data is deleted"
	}
	message := fmt.Sprintf("removing: waiting for %s (%s); the removal began at %s", waitingFor, data, t.DeletionTimestamp.UTC().Format(time.RFC3339))
	if name, is := strings.CutPrefix(waitingFor, kustomizev1.KustomizationKind+"/"); is {
		namespace, name, _ := strings.Cut(name, "/")
		name, _, _ = strings.Cut(name, " ")
		message += fmt.Sprintf("; look at: kubectl -n %s describe kustomization %s", namespace, name)
	}
	return message
}

// dropFinalizer takes the finalizer off obj, unless somebody else has changed the object meanwhile.
func (r *TenantReconciler) dropFinalizer(ctx context.Context, obj *v1alpha1.Tenant) error {
	before := obj.DeepCopy()
	controllerutil.RemoveFinalizer(obj, v1alpha1.Finalizer)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	// The answer brings the status that the apiserver has; what is not written yet is kept.
	status := obj.Status.DeepCopy()
	err := r.Patch(ctx, obj, patch, client.FieldOwner(v1alpha1.FieldManager))
	obj.Status = *status
	if err != nil {
		return fmt.Errorf("cannot take the finalizer off: %w", err)
	}
	return nil
}
