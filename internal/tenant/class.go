// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// tenantOnlyFields are fields of a Tenant's spec that a TenantClass may not set.
var tenantOnlyFields = []string{"domain", "namespace", "className"}

// class is a TenantClass. One that has problems is kept, for the tenants that name it to be told.
type class struct {
	doc  *document
	bad  bool
	spec *node
}

// addClass judges a TenantClass and makes it known.
func (l *loader) addClass(doc *document) {
	name := doc.name()
	if first, twice := l.classes[name]; twice && name != "" {
		// Which of the two is meant cannot be told, and a wrong guess changes tenants.
		first.bad = true
		line, _, _ := doc.root.find("metadata.name")
		l.report(doc.file, line, "", "metadata.name", v1alpha1.ConflictReason, fmt.Sprintf(
			"TenantClass %s is defined at %s and again at %s:%d: neither counts, remove or rename one", name, first.doc.place(), doc.file, line))
		return
	}
	c := &class{doc: doc, spec: doc.root.get("spec")}
	errs := c.validate()
	c.bad = len(errs) > 0 || len(doc.findings) > 0
	l.reportFindings(doc, "")
	l.reportErrors(doc, nil, "", errs)
	if name != "" {
		l.classes[name] = c
	}
}

func (c *class) validate() field.ErrorList {
	if c.doc.oversize {
		return nil
	}
	var errs field.ErrorList
	root := c.doc.root
	errs = append(errs, unknownKeys(root, nil, []string{"apiVersion", "kind", "metadata", "spec"})...)
	metadata := root.get("metadata")
	errs = append(errs, unknownKeys(metadata, field.NewPath("metadata"), []string{"name"})...)
	at := field.NewPath("metadata", "name")
	switch name := metadata.get("name"); {
	case name.leaf() == nil:
		errs = append(errs, field.Required(at, "a TenantClass needs a name"))
	case c.doc.name() == "":
		errs = append(errs, field.TypeInvalid(at, name.value(), "must be text"))
	default:
		for _, reason := range validation.IsDNS1123Label(c.doc.name()) {
			errs = append(errs, field.Invalid(at, c.doc.name(), reason))
		}
	}
	at = field.NewPath("spec")
	if c.spec == nil || (c.spec.index == nil && c.spec.leaf() != nil) {
		return append(errs, field.Required(at, "a TenantClass needs a spec"))
	}
	spec := c.values()
	for _, name := range tenantOnlyFields {
		if _, has := spec[name]; has {
			errs = append(errs, field.Forbidden(at.Child(name), "a TenantClass may not set "+strings.Join(tenantOnlyFields, ", ")+
				": each is a tenant's own"))
			delete(spec, name)
		}
	}
	s := schemas()
	unknown := unknownFields(c.spec, s.tenant.structural.Properties["spec"], at)
	errs = append(errs, unknown...)
	return append(errs, s.class.validate(at, spec, nil)...)
}

// values returns the spec without its nulls, in a copy.
func (c *class) values() map[string]any {
	spec, _ := c.spec.value().(map[string]any)
	return mergePatch(nil, spec)
}

// classOf returns the class that a tenant names; err says why there is none that could be used.
func (l *loader) classOf(doc *document) (c *class, err *field.Error) {
	at := field.NewPath("spec", "className")
	name, ok := doc.root.get("spec").get("className").leaf().(string)
	if !ok || name == "" {
		return nil, nil // that it is no text is the schema's to say
	}
	c = l.classes[name]
	switch {
	case c == nil:
		message := "there is no TenantClass of this name in the path: add one or correct the name"
		if near := nearest(name, l.classNames()); near != "" {
			message += fmt.Sprintf(" (did you mean %s?)", near)
		}
		return nil, field.Invalid(at, name, message)
	case c.bad:
		return nil, field.Invalid(at, name, fmt.Sprintf("TenantClass %s at %s has problems: correct it first", name, c.doc.place()))
	}
	return c, nil
}

func (l *loader) classNames() []string {
	var names []string
	for name := range l.classes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// mergePatch applies a JSON merge patch (RFC 7386) to an object: a null removes, an object is merged
// field by field, anything else replaces. The target is changed and may be nil.
func mergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = make(map[string]any, len(patch))
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, key)
		case map[string]any:
			old, _ := target[key].(map[string]any)
			target[key] = mergePatch(old, value)
		default:
			target[key] = value
		}
	}
	return target
}
