// SPDX-License-Identifier: Apache-2.0

// Package health turns the states of a tenant's Flux objects into the tenant's conditions. It is pure:
// whoever calls it has read the objects, and writes the result.
package health

import (
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

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
	// Conditions are Ready and Healthy, and Reconciling or Stalled where they apply. A condition of these
	// four that is not in it does not apply.
	Conditions []metav1.Condition

	// Layers in the order in which they are applied.
	Layers []v1alpha1.LayerStatus

	// LastAppliedRevision is the published revision when both layers applied it and are healthy, and
	// otherwise what the tenant's status had.
	LastAppliedRevision string
}

// ObjectRef names an object that is worth reading.
type ObjectRef struct {
	schema.GroupVersionKind
	Namespace, Name string
}

// MaxWanted is the most objects that Wanted names for one layer.
const MaxWanted = 20

// Wanted names the objects of a layer that say why it is not ready: those in its Kustomization's
// inventory whose kind reports a state, at most MaxWanted. It is empty for a layer that is ready at
// revision, so a healthy tenant costs no read.
func Wanted(k *kustomizev1.Kustomization, revision string) []ObjectRef { return nil }

// Assess says how a tenant is.
func Assess(in Input) Result { return Result{} }

// SetOn writes the result to a tenant's status. A condition keeps its transition time while its status,
// reason and message stay; the observed generation of each becomes the tenant's.
func (r Result) SetOn(tenant *v1alpha1.Tenant) {}

// Ready says whether the Ready condition is True.
func (r Result) Ready() bool { return false }

// Summarize counts tenants by their state and puts the counts into a sentence:
// 412 tenants: 410 ready, 1 progressing, 1 failed (mhr).
func Summarize(tenants []v1alpha1.Tenant) (v1alpha1.TenantCounts, string) {
	return v1alpha1.TenantCounts{}, ""
}
