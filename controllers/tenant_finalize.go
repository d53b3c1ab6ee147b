// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
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
		message := describeWaiting(resolved, waitingFor)
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

// describeWaiting says what a removal waits for, since when it goes on, what becomes of the data, and where to look.
func describeWaiting(t *v1alpha1.Tenant, waitingFor string) string {
	data := "data stays"
	if t.Spec.DeletionPolicy == v1alpha1.DeleteData {
		data = "data is deleted"
	}
	message := fmt.Sprintf("removing: waiting for %s to be gone (%s); the removal began at %s", waitingFor, data, t.DeletionTimestamp.UTC().Format(time.RFC3339))
	if name, is := strings.CutPrefix(waitingFor, kustomizev1.KustomizationKind+"/"); is {
		namespace, name, _ := strings.Cut(name, "/")
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
