// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"context"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Validate gives the verdict that an apiserver gives on creating t: the OpenAPI schema and the CEL
// rules of the embedded CustomResourceDefinition, and Kubernetes' own rules for metadata. The status
// is not looked at, and a missing namespace is no error, since a request brings it.
//
// What no schema can say is in [CheckSpec].
func Validate(t *v1alpha1.Tenant) field.ErrorList {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(t)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	delete(content, "status")
	errs := schemas().tenant.validate(nil, content, nil)
	return append(without(validateMetadata(&t.ObjectMeta), errs), errs...)
}

// validateChange gives the verdict of the rules that compare a valid tenant with what it was. Both have their defaults.
func validateChange(was, t *v1alpha1.Tenant) field.ErrorList {
	var contents [2]map[string]any
	for i, tenant := range []*v1alpha1.Tenant{was, t} {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(tenant)
		if err != nil {
			return field.ErrorList{field.InternalError(nil, err)}
		}
		delete(content, "status")
		contents[i] = content
	}
	return schemas().tenant.validate(nil, contents[1], contents[0])
}

func validateMetadata(meta *metav1.ObjectMeta) field.ErrorList {
	meta = meta.DeepCopy()
	if meta.Namespace == "" {
		meta.Namespace = metav1.NamespaceDefault
	}
	return apivalidation.ValidateObjectMeta(meta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
}

// validate judges a value in the order of the apiserver: CEL rules are only run on a value whose
// shape is right. The errors are sorted by field.
//
// Where there is an old value, the rules that compare with it are run too.
func (s schema) validate(at *field.Path, value, old map[string]any) field.ErrorList {
	errs := validation.ValidateCustomResource(at, value, s.openapi)
	errs = withoutPlace(errs)
	errs = append(errs, listtype.ValidateListSetsAndMaps(at, s.structural, value)...)
	if !slices.ContainsFunc(errs, blocksRules) {
		var before any
		if old != nil {
			before = old
		}
		broken, _ := s.cel.Validate(context.Background(), at, s.structural, value, before, celconfig.RuntimeCELCostBudget)
		// Their messages were written for people.
		errs = append(without(errs, broken), broken...)
	}
	for _, err := range errs {
		// The only rule of the whole object is that of the name.
		if err.Field == "<nil>" {
			err.Field = "metadata.name"
		}
	}
	slices.SortStableFunc(errs, func(a, b *field.Error) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Detail, b.Detail))
	})
	return errs
}

// withoutPlace leaves out what the OpenAPI validator says a second time without naming the field.
func withoutPlace(errs field.ErrorList) field.ErrorList {
	placed := func(err *field.Error) bool { return err.Field != "<nil>" && err.Field != "" }
	if !slices.ContainsFunc(errs, placed) {
		return errs
	}
	return slices.DeleteFunc(errs, func(err *field.Error) bool { return !placed(err) })
}

// blocksRules tells whether the apiserver runs no CEL rules after an error.
func blocksRules(err *field.Error) bool {
	switch err.Type {
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	default:
		return false
	}
}

// without leaves out the errors of fields that better ones speak of too.
func without(errs, better field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(errs, func(err *field.Error) bool {
		return slices.ContainsFunc(better, func(b *field.Error) bool { return b.Field == err.Field })
	})
}
