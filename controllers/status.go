// SPDX-License-Identifier: Apache-2.0

// Package controllers holds the two reconcilers. TenantRepositoryReconciler turns revisions of a
// source into Tenants; TenantReconciler turns a Tenant into a published bundle, the Flux objects
// that apply it, and conditions that say how it fares. What they do is in the packages under
// internal; they decide when, and write down the result.
package controllers

import (
	"context"
	"fmt"
	"slices"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	eventv1 "github.com/fluxcd/pkg/apis/event/v1beta1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// reconciled is what the status code needs to know of an object of either kind.
type reconciled interface {
	conditions.Setter
	SetLastHandledReconcileAt(string)
	SetObservedGeneration(int64)
}

// patchStatus writes what changed in obj's status since before, in one request: whoever sees Ready=True
// sees the revisions that it speaks of. (Flux's patch helper writes conditions in a request of their own.)
// Where nothing changed it writes nothing.
//
// A Tenant's conditions are those of two controllers: of the list, each applies only its own.
func patchStatus(ctx context.Context, c client.Client, before, obj reconciled) error {
	if v, ok := meta.ReconcileAnnotationValue(obj.GetAnnotations()); ok {
		obj.SetLastHandledReconcileAt(v)
	}
	obj.SetObservedGeneration(obj.GetGeneration())
	if conditions.IsTrue(obj, meta.ReadyCondition) || conditions.IsTrue(obj, meta.StalledCondition) {
		conditions.Delete(obj, meta.ReconcilingCondition)
	}
	if !conditions.IsTrue(obj, meta.StalledCondition) {
		conditions.Delete(obj, meta.StalledCondition)
	}
	patch := client.MergeFrom(before)
	if data, err := patch.Data(obj); err != nil || string(data) == "{}" {
		return err
	}
	var err error
	if t, ok := obj.(*v1alpha1.Tenant); ok {
		status := t.Status.DeepCopy()
		status.Conditions = slices.DeleteFunc(status.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.DefinitionAcceptedCondition })
		err = applyStatus(ctx, c, t, status, v1alpha1.FieldManager)
	} else {
		err = c.Status().Patch(ctx, obj, patch, client.FieldOwner(v1alpha1.FieldManager))
	}
	if !obj.GetDeletionTimestamp().IsZero() {
		err = client.IgnoreNotFound(err)
	}
	return err
}

// applyStatus applies status to a Tenant as one of its field managers. What the manager applied before and does not any
// more is taken out; what is another's stays.
func applyStatus(ctx context.Context, c client.Client, t *v1alpha1.Tenant, status *v1alpha1.TenantStatus, manager string) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return fmt.Errorf("cannot convert the status of Tenant %s/%s: %w", t.Namespace, t.Name, err)
	}
	config := &unstructured.Unstructured{Object: map[string]any{"status": content}}
	config.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.TenantKind))
	config.SetNamespace(t.Namespace)
	config.SetName(t.Name)
	// The apiserver refuses to apply to another object of that name.
	config.SetUID(t.UID)
	return c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(config), client.FieldOwner(manager), client.ForceOwnership)
}

// markFailed says that obj is not ready and that it is retried.
func markFailed(obj conditions.Setter, reason string, err error) {
	conditions.Delete(obj, meta.StalledCondition)
	conditions.MarkReconciling(obj, meta.ProgressingWithRetryReason, "%s", err)
	conditions.MarkFalse(obj, meta.ReadyCondition, reason, "%s", err)
}

// markStalled says that obj is not ready and that only a new definition can help.
func markStalled(obj conditions.Setter, reason string, err error) {
	conditions.Delete(obj, meta.ReconcilingCondition)
	conditions.MarkStalled(obj, reason, "%s", err)
	conditions.MarkFalse(obj, meta.ReadyCondition, reason, "%s", err)
}

// eventOnChange records an event when the Ready condition has another status or reason than before, or
// there is other news: a warning when it is False, a normal event when it is True. What is in progress
// is no event.
func eventOnChange(ctx context.Context, recorder record.EventRecorder, before, obj conditions.Setter, revision string, news bool) {
	was, is := conditions.Get(before, meta.ReadyCondition), conditions.Get(obj, meta.ReadyCondition)
	if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason && !news {
		return
	}
	switch {
	case conditions.IsFalse(obj, meta.ReadyCondition):
		recordEvent(ctx, recorder, obj, revision, corev1.EventTypeWarning, is.Reason, is.Message)
	case conditions.IsTrue(obj, meta.ReadyCondition):
		recordEvent(ctx, recorder, obj, revision, corev1.EventTypeNormal, is.Reason, is.Message)
	}
}

// recordEvent logs and records an event with the revision it is about, in the metadata key that Flux's
// notification-controller reads for an object of Korthweb's group.
func recordEvent(ctx context.Context, recorder record.EventRecorder, obj conditions.Setter, revision, eventType, reason, message string) {
	metadata := map[string]string{}
	if revision != "" {
		metadata[v1alpha1.GroupVersion.Group+"/"+eventv1.MetaRevisionKey] = revision
	}
	ctrl.LoggerFrom(ctx).Info(message, "reason", reason, "revision", revision)
	recorder.AnnotatedEventf(obj, metadata, eventType, reason, "%s", message)
}
