// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
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

// addClasses judges the TenantClasses and makes them known. Of several of one name, the one counts whose file the
// tenants that exist have it from. Where that is not known, none does: a wrong guess changes tenants.
func (l *loader) addClasses(docs []*document) {
	byName := map[string][]*document{}
	for _, doc := range docs {
		byName[doc.name()] = append(byName[doc.name()], doc)
	}
	for _, doc := range docs {
		name := doc.name()
		same := byName[name]
		kept := same[0]
		if len(same) > 1 && name != "" {
			if kept = l.known(same); kept == nil {
				kept = same[0]
			}
		}
		if name == "" || doc == kept {
			l.addClass(doc)
		}
	}
	for _, doc := range docs {
		name := doc.name()
		same := byName[name]
		if len(same) == 1 || name == "" {
			continue
		}
		kept, counts := l.known(same), "only the former counts, which tenants have it from, remove or rename the other"
		if kept == nil {
			kept, counts = same[0], "neither counts, remove or rename one"
			l.classes[name].bad = true
		}
		if doc == kept {
			continue
		}
		line, _, _ := doc.root.find("metadata.name")
		l.report(doc.file, line, "", "metadata.name", v1alpha1.ConflictReason, fmt.Sprintf(
			"TenantClass %s is defined at %s and again at %s:%d: %s", name, kept.place(), doc.file, line, counts))
	}
}

// known returns the one of several documents of a class that this repository's tenants have it from, or nil.
func (l *loader) known(docs []*document) *document {
	var known *document
	for _, doc := range docs {
		if !slices.ContainsFunc(l.opts.Held, func(t v1alpha1.Tenant) bool {
			return t.Spec.ClassName == doc.name() && t.Annotations[v1alpha1.ClassPathAnnotation] == doc.file &&
				(l.opts.Repository == "" || t.Labels[v1alpha1.RepositoryLabel] == l.opts.Repository) && l.held[t.Name] != nil
		}) {
			continue
		}
		if known != nil {
			return nil
		}
		known = doc
	}
	return known
}

// addClass judges a TenantClass and makes it known.
func (l *loader) addClass(doc *document) {
	c := &class{doc: doc, spec: doc.root.get("spec")}
	errs := c.validate()
	c.bad = len(errs) > 0 || len(doc.findings) > 0
	l.reportFindings(doc, "")
	l.reportErrors(doc, nil, "", errs)
	if doc.name() != "" {
		l.classes[doc.name()] = c
	}
}

func (c *class) validate() field.ErrorList {
	if c.doc.oversize {
		return nil
	}
	var errs field.ErrorList
	root := c.doc.root
	errs = append(errs, unknownKeys(root, nil, []string{"apiVersion", "kind", "metadata", "allowedTenants", "tenantLabels", "allowNestedDomains", "spec"})...)
	errs = append(errs, c.validateTenants()...)
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

// pattern is the names of tenants, with * for any characters.
var pattern = regexp.MustCompile(`^[-a-z0-9*]{1,63}$`)

// validateTenants judges what a class says of the tenants that name it.
func (c *class) validateTenants() field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("allowedTenants")
	if names := c.doc.root.get("allowedTenants"); names != nil && !names.isList() {
		errs = append(errs, field.TypeInvalid(at, names.text, "must be a list of tenants' names, which may hold *"))
	} else if names != nil {
		for i, e := range names.entries {
			if name, ok := e.value.leaf().(string); !ok || !pattern.MatchString(name) {
				errs = append(errs, field.Invalid(at.Index(i), e.value.text, "must be a tenant's name: lower case letters, digits and dashes, with * for any characters"))
			}
		}
	}
	if nested := c.doc.root.get("allowNestedDomains"); nested != nil {
		if _, ok := nested.leaf().(bool); !ok {
			errs = append(errs, field.TypeInvalid(field.NewPath("allowNestedDomains"), nested.text, "must be true or false"))
		}
	}
	at = field.NewPath("tenantLabels")
	labels := c.doc.root.get("tenantLabels")
	if labels == nil {
		return errs
	}
	own := checkTexts(labels, at)
	if len(own) == 0 {
		own = metav1validation.ValidateLabels(c.tenantLabels(), at)
	}
	return append(errs, own...)
}

// admits tells whether a tenant may name the class.
func (c *class) admits(tenant string) bool {
	names := c.doc.root.get("allowedTenants")
	return names == nil || slices.ContainsFunc(names.entries, func(e entry) bool {
		ok, _ := path.Match(e.value.text, tenant)
		return ok
	})
}

func (c *class) tenantLabels() map[string]string {
	labels := map[string]string{}
	if n := c.doc.root.get("tenantLabels"); n != nil {
		for _, e := range n.entries {
			labels[e.key], _ = e.value.leaf().(string)
		}
	}
	return labels
}

func (c *class) allowsNestedDomains() bool {
	allows, _ := c.doc.root.get("allowNestedDomains").leaf().(bool)
	return allows
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
		message := fmt.Sprintf("there is no TenantClass of this name below %s: add one or correct the name", l.classPath)
		if near := nearest(name, l.classNames()); near != "" {
			message += fmt.Sprintf(" (did you mean %s?)", near)
		}
		return nil, field.Invalid(at, name, message)
	case c.bad:
		return nil, field.Invalid(at, name, fmt.Sprintf("TenantClass %s at %s has problems: correct it first", name, c.doc.place()))
	case !c.admits(doc.name()):
		line, _, _ := c.doc.root.find("allowedTenants")
		return nil, field.Invalid(at, name, fmt.Sprintf("TenantClass %s is not for tenant %s: choose another, or ask the platform to name it in allowedTenants at %s",
			name, doc.name(), place(c.doc.file, line)))
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
