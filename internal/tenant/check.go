// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// CheckSpec judges what the schema of Tenant cannot say: names and keys that Kubernetes refuses in the
// objects that are made from them, and keys that belong to Korthweb or Flux. Defaults must be set.
// [Load] applies it; a Tenant that somebody made by hand needs it too.
func CheckSpec(t *v1alpha1.Tenant) field.ErrorList {
	spec := field.NewPath("spec")
	errs := CheckCommonMetadata(t.Spec.CommonMetadata, spec.Child("commonMetadata"))
	if t.Namespace != "" && t.Spec.Namespace == t.Namespace {
		errs = append(errs, field.Invalid(spec.Child("namespace"), t.Spec.Namespace, "must not be the namespace that the Tenant itself lives in"))
	}
	for i, d := range t.Spec.DependsOn {
		errs = append(errs, checkDependency(d, spec.Child("dependsOn").Index(i))...)
	}
	if r := t.Spec.Orthanc.Resources; r != nil {
		errs = append(errs, checkResources(r, spec.Child("orthanc", "resources"))...)
	}
	service := t.Spec.Ingress.Service.Annotations
	errs = append(errs, apivalidation.ValidateAnnotations(service, spec.Child("ingress", "service", "annotations"))...)
	return errs
}

// CheckCommonMetadata judges labels and annotations that are put on every object: Kubernetes must
// accept them, and those by which Korthweb and Flux know their own objects are refused. m may be nil.
func CheckCommonMetadata(m *kustomizev1.CommonMetadata, at *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	labels, annotations := at.Child("labels"), at.Child("annotations")
	errs := metav1validation.ValidateLabels(m.Labels, labels)
	errs = append(errs, apivalidation.ValidateAnnotations(m.Annotations, annotations)...)
	errs = append(errs, checkReserved(m.Labels, labels)...)
	return append(errs, checkReserved(m.Annotations, annotations)...)
}

func checkReserved(keys map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch {
		case isOwnKey(key):
			errs = append(errs, field.Forbidden(at.Key(key), fmt.Sprintf("keys in %s are Korthweb's own: remove it", strings.TrimSuffix(v1alpha1.LabelPrefix, "/"))))
		case strings.HasPrefix(key, kustomizev1.GroupVersion.Group+"/"):
			errs = append(errs, field.Forbidden(at.Key(key), "keys in "+kustomizev1.GroupVersion.Group+" steer Flux object by object: remove it"))
		case key == v1alpha1.ManagedByLabel:
			errs = append(errs, field.Forbidden(at.Key(key), "Korthweb sets "+v1alpha1.ManagedByLabel+" itself: remove it"))
		}
	}
	return errs
}

func checkDependency(d v1alpha1.DependencyReference, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, reason := range validation.IsDNS1123Subdomain(d.Name) {
		errs = append(errs, field.Invalid(at.Child("name"), d.Name, reason))
	}
	if d.Namespace != "" {
		for _, reason := range validation.IsDNS1123Label(d.Namespace) {
			errs = append(errs, field.Invalid(at.Child("namespace"), d.Namespace, reason))
		}
	}
	return errs
}

func checkResources(r *v1alpha1.ResourceRequirements, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request := r.Requests[name]
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(at.Child("requests").Key(string(name)), request.String(), fmt.Sprintf("must not be above the limit, %s", limit.String())))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		if limit := r.Limits[name]; limit.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Child("limits").Key(string(name)), limit.String(), "must not be below zero"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		if request := r.Requests[name]; request.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Child("requests").Key(string(name)), request.String(), "must not be below zero"))
		}
	}
	return errs
}
