// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	"github.com/fluxcd/pkg/apis/meta"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// definitionsManager is the field manager of what the TenantRepository controller writes to a Tenant's status.
const definitionsManager = v1alpha1.FieldManager + "-definitions"

// markAccepted says on each Tenant whether its newest definition was accepted, with an event when it becomes refused, and
// nothing on one that has no definition any more. What is said already is not written.
func (r *TenantRepositoryReconciler) markAccepted(ctx context.Context, read *reading, own []v1alpha1.Tenant, met []v1alpha1.Problem) error {
	refused := read.result.Refused()
	for _, p := range met {
		refused[p.Tenant] = p
	}
	var group errgroup.Group
	group.SetLimit(concurrentWrites)
	for i := range own {
		t := &own[i]
		was := apimeta.FindStatusCondition(t.Status.Conditions, v1alpha1.DefinitionAcceptedCondition)
		if _, told := refused[t.Name]; !told && !read.defines(t.Name) {
			if was != nil && t.DeletionTimestamp.IsZero() {
				group.Go(func() error { return r.sayAccepted(ctx, t, &v1alpha1.TenantStatus{}) })
			}
			continue
		}
		is := acceptance(t.Name, refused)
		if !t.DeletionTimestamp.IsZero() || was != nil && was.Status == is.Status && was.Reason == is.Reason && was.Message == is.Message {
			continue
		}
		is.LastTransitionTime = metav1.Now().Rfc3339Copy()
		if was != nil && was.Status == is.Status {
			is.LastTransitionTime = was.LastTransitionTime
		}
		group.Go(func() error {
			if err := r.sayAccepted(ctx, t, &v1alpha1.TenantStatus{Conditions: []metav1.Condition{is}}); err != nil {
				return err
			}
			if is.Status == metav1.ConditionFalse && (was == nil || was.Status != is.Status || was.Message != is.Message) {
				recordEvent(ctx, r.EventRecorder, t, read.revision, corev1.EventTypeWarning, is.Reason, is.Message)
			}
			return nil
		})
	}
	return group.Wait()
}

// sayAccepted writes what this controller says in the status of a Tenant. One that is gone by now, or another of its name, is
// looked at again when the cache knows.
func (r *TenantRepositoryReconciler) sayAccepted(ctx context.Context, t *v1alpha1.Tenant, status *v1alpha1.TenantStatus) error {
	err := applyStatus(ctx, r.Client, t, status, definitionsManager)
	if err == nil || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("cannot write the status of Tenant %s: %w", client.ObjectKeyFromObject(t), err)
}

// acceptance is the condition of a Tenant of that name. It names no revision: it would be written again with each.
func acceptance(name string, refused map[string]v1alpha1.Problem) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.DefinitionAcceptedCondition, Status: metav1.ConditionTrue, Reason: meta.SucceededReason, Message: "the newest definition is accepted",
	}
	if p, ok := refused[name]; ok {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, p.Reason, "the newest definition is refused, the one before runs on: "+tenant.DescribeProblem(p)
	}
	return c
}
