// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/digihunch/korthweb/api/v1alpha1"
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

	done, waitingFor, err := r.Applier.Remove(ctx, resolved)
	if err != nil {
		markFailed(obj, meta.PruneFailedReason, err)
		return ctrl.Result{}, err
	}
	if !done {
		message := fmt.Sprintf("removing: waiting for %s to be gone", waitingFor)
		conditions.MarkReconciling(obj, v1alpha1.RemovingReason, "%s", message)
		conditions.MarkUnknown(obj, meta.ReadyCondition, v1alpha1.RemovingReason, "%s", message)
		return ctrl.Result{RequeueAfter: r.DependencyRequeueInterval}, nil
	}
	if err := r.Publisher.Remove(resolved); err != nil {
		markFailed(obj, meta.PruneFailedReason, err)
		return ctrl.Result{}, err
	}
	if err := r.History.Remove(ctx, client.ObjectKeyFromObject(obj)); err != nil {
		markFailed(obj, meta.PruneFailedReason, err)
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.dropFinalizer(ctx, obj)
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
