// SPDX-License-Identifier: Apache-2.0

// Package health turns the states of a tenant's Flux objects into the tenant's conditions. It is pure:
// whoever calls it has read the objects, and writes the result.
package health

import (
	"strings"
	"time"
	"unicode/utf8"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// MaxMessageLength is the longest message of a layer or condition in bytes. Flux's own may be 20,000
// long, with a line per object; a table of tenants shows one line. What an admission policy refuses ends with what to do,
// which has to fit.
const MaxMessageLength = 1024

// Input is all that an assessment depends on.
type Input struct {
	// Tenant that is assessed. It is not changed.
	Tenant *v1alpha1.Tenant

	// Revision of the published bundle, status.artifact.revision.
	Revision string

	// Dependency and Application are the layers' Kustomizations, nil where there is none.
	Dependency, Application *kustomizev1.Kustomization

	// Objects are the live objects that Wanted named for the layers that are not ready. An object that
	// does not exist is left out. None at all is allowed: messages are then those of the Kustomizations.
	Objects []*unstructured.Unstructured

	// Now is the time of the conditions' transitions.
	Now time.Time
}

// Result is the outcome of an assessment.
type Result struct {
	// Conditions are Ready and Healthy, and Reconciling while Ready is not True. A condition of
	// Ready, Healthy, Reconciling and Stalled that is not in it does not apply.
	Conditions []metav1.Condition

	// Layers in the order in which they are applied.
	Layers []v1alpha1.LayerStatus

	// LastAppliedRevision is the published revision when both layers have applied it and are healthy,
	// and otherwise what the tenant's status had.
	LastAppliedRevision string
}

// Assess says how a tenant is.
//
// Ready becomes True when both layers' Kustomizations are observed in their current generation, Ready,
// and have applied exactly the published revision. It is False when one of them has failed with that
// revision and Unknown otherwise; either way Reconciling is True, because Flux goes on trying. The
// message names the first layer that is not ready, and in it the object.
//
// Flux applies and checks each layer again at every interval, and is Unknown meanwhile. That takes
// nothing from a Tenant that is Ready: it stays so until a check fails, and so a steady state writes
// nothing.
//
// Healthy says the same of the objects that are there, of whichever revision.
func Assess(in Input) Result {
	dependency := assessLayer(in, v1alpha1.DependencyLayer, in.Dependency, false)
	application := assessLayer(in, v1alpha1.ApplicationLayer, in.Application, dependency.ready == metav1.ConditionTrue)
	layers := []layer{dependency, application}

	r := Result{LastAppliedRevision: in.Tenant.Status.LastAppliedRevision}
	for _, l := range layers {
		r.Layers = append(r.Layers, v1alpha1.LayerStatus{Name: l.name, Ready: l.ready, Revision: l.revision, Message: l.message})
	}

	ready := worst(layers, func(l layer) metav1.ConditionStatus { return l.ready })
	if ready == nil {
		r.LastAppliedRevision = in.Revision
		r.add(in, meta.ReadyCondition, metav1.ConditionTrue, meta.ReconciliationSucceededReason, "Applied revision: "+shortRevision(in.Revision))
	} else {
		message := shorten(ready.name + ": " + ready.message)
		reconciling := meta.ProgressingReason
		if ready.ready == metav1.ConditionFalse {
			reconciling = meta.ProgressingWithRetryReason
		}
		r.add(in, meta.ReadyCondition, ready.ready, ready.reason, message)
		r.add(in, meta.ReconcilingCondition, metav1.ConditionTrue, reconciling, message)
	}

	healthy := worst(layers, func(l layer) metav1.ConditionStatus { return l.healthy })
	if healthy == nil {
		r.add(in, meta.HealthyCondition, metav1.ConditionTrue, meta.SucceededReason, "All objects are healthy")
	} else {
		reason := meta.ProgressingReason
		if healthy.healthy == metav1.ConditionFalse {
			reason = meta.HealthCheckFailedReason
		}
		r.add(in, meta.HealthyCondition, healthy.healthy, reason, shorten(healthy.name+": "+healthy.message))
	}
	return r
}

func (r *Result) add(in Input, kind string, status metav1.ConditionStatus, reason, message string) {
	r.Conditions = append(r.Conditions, metav1.Condition{
		Type:               kind,
		Status:             status,
		Reason:             reason,
		Message:            message,
		ObservedGeneration: in.Tenant.Generation,
		LastTransitionTime: metav1.NewTime(in.Now.UTC().Truncate(time.Second)),
	})
}

// worst returns the first layer that has failed, or else the first that is unknown, or else nil.
func worst(layers []layer, of func(layer) metav1.ConditionStatus) *layer {
	for _, status := range []metav1.ConditionStatus{metav1.ConditionFalse, metav1.ConditionUnknown} {
		for i := range layers {
			if of(layers[i]) == status {
				return &layers[i]
			}
		}
	}
	return nil
}

// Ready says whether the Ready condition is True.
func (r Result) Ready() bool { return apimeta.IsStatusConditionTrue(r.Conditions, meta.ReadyCondition) }

// SetOn writes the result to a tenant's status. A condition keeps its transition time while its status,
// reason and message stay, as Flux has it.
func (r Result) SetOn(tenant *v1alpha1.Tenant) {
	owned := map[string]bool{meta.ReadyCondition: true, meta.HealthyCondition: true, meta.ReconcilingCondition: true, meta.StalledCondition: true}
	// Conditions keep their places: another order alone would count as a change of the status.
	var conditions []metav1.Condition
	for _, old := range tenant.Status.Conditions {
		c := apimeta.FindStatusCondition(r.Conditions, old.Type)
		switch {
		case c == nil && owned[old.Type]:
			continue
		case c == nil:
			conditions = append(conditions, old)
			continue
		}
		next := *c
		if old.Status == next.Status && old.Reason == next.Reason && old.Message == next.Message {
			next.LastTransitionTime = old.LastTransitionTime
		}
		conditions = append(conditions, next)
	}
	for _, c := range r.Conditions {
		if apimeta.FindStatusCondition(conditions, c.Type) == nil {
			conditions = append(conditions, c)
		}
	}
	tenant.Status.Conditions = conditions
	tenant.Status.Layers = r.Layers
	tenant.Status.LastAppliedRevision = r.LastAppliedRevision
}

// shorten makes one line of at most MaxMessageLength bytes.
func shorten(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	if len(message) <= MaxMessageLength {
		return message
	}
	const ellipsis = "…"
	end := MaxMessageLength - len(ellipsis)
	for end > 0 && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + ellipsis
}
