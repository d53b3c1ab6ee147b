// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// definitionsManager is the field manager of what the TenantRepository controller writes to a Tenant's status.
const definitionsManager = v1alpha1.FieldManager + "-definitions"

// markAccepted says on each Tenant whether its newest definition was accepted, with an event when it becomes refused. What
// is said already is not written.
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
		is := acceptance(t.Name, refused)
		if !t.DeletionTimestamp.IsZero() || was != nil && was.Status == is.Status && was.Reason == is.Reason && was.Message == is.Message {
			continue
		}
		is.LastTransitionTime = metav1.Now().Rfc3339Copy()
		if was != nil && was.Status == is.Status {
			is.LastTransitionTime = was.LastTransitionTime
		}
		group.Go(func() error {
			status := &v1alpha1.TenantStatus{Conditions: []metav1.Condition{is}}
			err := applyStatus(ctx, r.Client, t, status, definitionsManager)
			// A Tenant that is gone by now, or another of its name, is looked at again when the cache knows.
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("cannot write the status of Tenant %s: %w", client.ObjectKeyFromObject(t), err)
			}
			if is.Status == metav1.ConditionFalse && (was == nil || was.Status != is.Status || was.Message != is.Message) {
				recordEvent(ctx, r.EventRecorder, t, read.revision, corev1.EventTypeWarning, is.Reason, is.Message)
			}
			return nil
		})
	}
	return group.Wait()
}

// acceptance is the condition of a Tenant of that name. It names no revision: it would be written again with each.
func acceptance(name string, refused map[string]v1alpha1.Problem) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.DefinitionAcceptedCondition, Status: metav1.ConditionTrue, Reason: meta.SucceededReason, Message: "the newest definition is accepted",
	}
	if p, ok := refused[name]; ok {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, p.Reason, "the newest definition is refused, the one before runs on: "+describeProblem(p)
	}
	return c
}

// describeProblem is "file:line: field: message", as far as these are known.
func describeProblem(p v1alpha1.Problem) string {
	var parts []string
	for _, part := range []string{p.File, p.Field, p.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}
