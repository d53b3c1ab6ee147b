// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// ReadRepository reads the first TenantRepository of a file, with its defaults, and the rules in it. What the apiserver
// or [NewRules] would refuse are problems, and nothing else is returned then.
func ReadRepository(file string, data []byte) (*v1alpha1.TenantRepository, *Rules, []v1alpha1.Problem) {
	l := &loader{}
	repository, rules := l.repository(file, data)
	if len(l.problems) > 0 {
		return nil, nil, l.result(nil, nil).Problems
	}
	return repository, rules, nil
}

func (l *loader) repository(file string, data []byte) (*v1alpha1.TenantRepository, *Rules) {
	docs := l.parse(file, data)
	i := slices.IndexFunc(docs, func(d document) bool {
		return d.root.str("apiVersion") == v1alpha1.GroupVersion.String() && d.root.str("kind") == v1alpha1.TenantRepositoryKind
	})
	if i < 0 {
		if len(l.problems) == 0 {
			l.report(file, 0, "", "", v1alpha1.InvalidDefinitionReason, fmt.Sprintf("holds no %s of %s", v1alpha1.TenantRepositoryKind, v1alpha1.GroupVersion))
		}
		return nil, nil
	}
	doc := &docs[i]
	l.reportFindings(doc, "")
	if len(doc.findings) > 0 {
		return nil, nil
	}
	object, _ := doc.root.value().(map[string]any)
	s := repositorySchema()
	errs := unknownFields(doc.root.get("spec"), s.structural.Properties["spec"], field.NewPath("spec"))
	errs = append(errs, without(s.validate(nil, object, nil), errs)...)
	repository := &v1alpha1.TenantRepository{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, repository); err != nil && len(errs) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec"), "object", err.Error()))
	}
	if repository.Spec.Path == "" {
		repository.Spec.Path = v1alpha1.DefaultPath
	}
	rules, broken := NewRules(&repository.Spec)
	l.reportErrors(doc, nil, "", append(errs, broken...))
	return repository, rules
}
