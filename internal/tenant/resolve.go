// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// candidate is a valid definition whose claims are not settled yet.
type candidate struct {
	doc    *document
	class  *class
	tenant *v1alpha1.Tenant
}

// resolve makes a tenant of a document, its class and the repository's own settings. It reports what
// is wrong and then returns nil.
func (l *loader) resolve(doc *document) *candidate {
	l.reportFindings(doc, doc.name())
	if doc.oversize || l.reportOwned(doc) {
		return nil
	}
	class, err := l.classOf(doc)
	reserved := l.reportReserved(doc, class)
	errs := l.checkEnvelope(doc)
	errs = append(errs, unknownFields(doc.root.get("spec"), schemas().tenant.structural.Properties["spec"], field.NewPath("spec"))...)
	if config := doc.root.get("spec").get("orthanc").get("config"); config != nil && !l.opts.Rules.opensConfig {
		errs = append(errs, FacilityConfig(config.value(), field.NewPath("spec", "orthanc", "config"))...)
	}
	if err != nil {
		errs = append(errs, err)
	}
	object := merged(doc, class)
	tenant := &v1alpha1.Tenant{}
	convertErr := runtime.DefaultUnstructuredConverter.FromUnstructured(object, tenant)
	sound := func() bool { return len(errs) == 0 && len(doc.findings) == 0 }
	if sound() && convertErr == nil {
		l.complete(tenant, class)
		if len(reserved) == 0 && l.unchanged(tenant) {
			errs = l.check(tenant)
			if len(errs) == 0 {
				return &candidate{doc: doc, class: class, tenant: tenant}
			}
		}
	}
	// Without its class, what a definition lacks cannot be told from what the class has.
	if err == nil {
		errs = append(errs, without(schemas().tenant.validate(nil, object, nil), errs)...)
	}
	if sound() && convertErr != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec"), "object", convertErr.Error()))
	}
	if sound() {
		errs = Validate(tenant)
		errs = append(errs, without(l.check(tenant), errs)...)
		errs = append(errs, l.checkHeld(tenant)...)
	}
	l.reportErrors(doc, class, doc.name(), beside(reserved, errs))
	if len(reserved) > 0 || !sound() {
		return nil
	}
	return &candidate{doc: doc, class: class, tenant: tenant}
}

// reportReserved reports the reserved fields that a facility's own file sets.
func (l *loader) reportReserved(doc *document, class *class) []breach {
	var found []breach
	rules := l.opts.Rules.fields
	if metadata := doc.root.get("metadata"); metadata != nil && metadata.index != nil {
		for _, e := range metadata.entries {
			found = append(found, rules.fields["metadata"].fields[e.key].breaches(e.value, nil, field.NewPath("metadata", e.key), e.line)...)
		}
	}
	if spec := doc.root.get("spec"); spec != nil && spec.index != nil {
		var inClass *node
		if class != nil {
			inClass = class.spec
		}
		line, _, _ := doc.root.find("spec")
		found = append(found, rules.fields["spec"].breaches(spec, inClass, field.NewPath("spec"), line)...)
	}
	for i, b := range found {
		if i == maxFindings {
			l.report(doc.file, doc.line, doc.name(), "", v1alpha1.ReservedFieldReason, fmt.Sprintf("and %d reserved fields more", len(found)-i))
			break
		}
		path, message := b.at.String(), "is for the platform to set, and a facility's own file may not"
		allow, move := path, fmt.Sprintf("move it to a class below %s, ", l.classPath)
		if len(b.fields) > 0 {
			message = fmt.Sprintf("takes fields with it that are for the platform to set (%s)", strings.Join(b.fields, ", "))
			allow = path + "." + b.fields[0]
		}
		switch path {
		case "metadata.labels":
			move = fmt.Sprintf("move it to tenantLabels of a class below %s, ", l.classPath)
		case "metadata.annotations", "spec.namespace":
			move = "" // no class has these
		}
		ask := fmt.Sprintf("allow %s in spec.facilityFields.allow", withoutIndices(allow))
		if reserved := l.opts.Rules.reservedAs(withoutIndices(allow)); reserved != "" {
			ask = fmt.Sprintf("take %s out of spec.facilityFields.reserve", reserved)
		}
		message += fmt.Sprintf(": remove it here, %sor ask the platform to %s of the TenantRepository", move, ask)
		l.report(doc.file, b.line, doc.name(), path, v1alpha1.ReservedFieldReason, message)
	}
	return found
}

// beside leaves out the errors of fields that are reserved: what is wrong with the value no longer matters.
func beside(breaches []breach, errs field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(errs, func(err *field.Error) bool {
		return slices.ContainsFunc(breaches, func(b breach) bool {
			below, is := strings.CutPrefix(err.Field, b.at.String())
			return is && len(b.fields) == 0 && (below == "" || below[0] == '.' || below[0] == '[')
		})
	})
}

var index = regexp.MustCompile(`\[[0-9]+\]`)

// withoutIndices gives the path of a field as TenantRepositories name it.
func withoutIndices(path string) string { return index.ReplaceAllString(path, "") }

// merged returns the object that a document and its class define, as JSON values.
func merged(doc *document, class *class) map[string]any {
	object, _ := doc.root.value().(map[string]any)
	var base map[string]any
	if class != nil {
		base = class.values()
	}
	// Anything but an object is left for the schema to refuse.
	switch spec := object["spec"].(type) {
	case map[string]any:
		object["spec"] = mergePatch(base, spec)
	case nil:
		object["spec"] = mergePatch(base, nil)
	}
	return object
}

// complete adds what the class says beside its spec, and what the repository and the defaults bring.
func (l *loader) complete(t *v1alpha1.Tenant, class *class) {
	t.Namespace = l.opts.Namespace
	if class != nil {
		t.Labels = overlay(t.Labels, class.tenantLabels())
	}
	own := t.Spec.DependsOn
	t.Spec.DependsOn = slices.Clone(l.opts.DependsOn)
	for _, d := range own {
		if !slices.Contains(t.Spec.DependsOn, d) {
			t.Spec.DependsOn = append(t.Spec.DependsOn, d)
		}
	}
	if base := l.opts.CommonMetadata; base != nil {
		own := t.Spec.CommonMetadata
		if own == nil {
			own = &kustomizev1.CommonMetadata{}
		}
		t.Spec.CommonMetadata = &kustomizev1.CommonMetadata{
			Labels:      overlay(base.Labels, own.Labels),
			Annotations: overlay(base.Annotations, own.Annotations),
		}
	}
	t.SetDefaults()
}

func overlay(base, top map[string]string) map[string]string {
	if len(base)+len(top) == 0 {
		return nil
	}
	out := make(map[string]string, len(base)+len(top))
	maps.Copy(out, base)
	maps.Copy(out, top)
	return out
}

// checkEnvelope judges everything of a document but its spec.
func (l *loader) checkEnvelope(doc *document) field.ErrorList {
	errs := unknownKeys(doc.root, nil, []string{"apiVersion", "kind", "metadata", "spec", "status"})
	if doc.root.get("status") != nil {
		errs = append(errs, field.Forbidden(field.NewPath("status"), "status is Korthweb's to write: remove it"))
	}
	return append(errs, l.checkMetadata(doc.root.get("metadata"))...)
}

// checkMetadata allows a name, the right namespace, labels and annotations.
func (l *loader) checkMetadata(metadata *node) field.ErrorList {
	at := field.NewPath("metadata")
	errs := unknownKeys(metadata, at, []string{"name", "namespace", "labels", "annotations"})
	switch name := metadata.get("name"); {
	case name.isNull() || name.leaf() == "":
		errs = append(errs, field.Required(at.Child("name"), "a Tenant needs a name"))
	case metadata.str("name") == "":
		errs = append(errs, field.TypeInvalid(at.Child("name"), "", "must be text: quote it"))
	}
	if namespace := metadata.get("namespace"); !namespace.isNull() && namespace.leaf() != l.opts.Namespace {
		message := fmt.Sprintf("must be %s, the namespace of the TenantRepository (spec.namespace is the workload's): remove it", l.opts.Namespace)
		errs = append(errs, field.Invalid(at.Child("namespace"), namespace.text, message))
	}
	for _, key := range []string{"labels", "annotations"} {
		if m := metadata.get(key); !m.isNull() {
			errs = append(errs, checkTexts(m, at.Child(key))...)
		}
	}
	return errs
}

// checkTexts allows a mapping of text to text, none of whose keys is Korthweb's own.
func checkTexts(m *node, at *field.Path) field.ErrorList {
	if m.index == nil {
		return field.ErrorList{field.TypeInvalid(at, m.text, "must be a mapping of text to text")}
	}
	var errs field.ErrorList
	for _, e := range m.entries {
		path := at.Key(e.key)
		if _, ok := e.value.leaf().(string); !ok {
			errs = append(errs, field.TypeInvalid(path, e.value.text, "must be text: quote it"))
		}
		if isOwnKey(e.key) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("keys in %s are Korthweb's own: remove it", strings.TrimSuffix(v1alpha1.LabelPrefix, "/"))))
		}
	}
	return errs
}

// isOwnKey tells whether a label or annotation is one that only Korthweb may set.
func isOwnKey(key string) bool {
	prefix, _, found := strings.Cut(key, "/")
	own := strings.TrimSuffix(v1alpha1.LabelPrefix, "/")
	return found && (prefix == own || strings.HasSuffix(prefix, "."+own))
}

// unchanged tells whether a complete definition says what the tenant of its name has, which the apiserver found valid.
func (l *loader) unchanged(t *v1alpha1.Tenant) bool {
	held := l.held[t.Name]
	if held == nil || !equality.Semantic.DeepEqual(held.Spec, t.Spec) {
		return false
	}
	has := func(all, some map[string]string) bool {
		for key, value := range some {
			if was, ok := all[key]; !ok || was != value {
				return false
			}
		}
		return true
	}
	return has(held.Labels, t.Labels) && has(held.Annotations, t.Annotations)
}

// check gives the verdict that no schema can give, and that of the platform's rules.
func (l *loader) check(t *v1alpha1.Tenant) field.ErrorList {
	errs := CheckSpec(t, l.opts.PlatformNamespaces...)
	return append(errs, without(l.opts.Rules.checkRules(t), errs)...)
}

// checkHeld judges a definition as a change of the tenant of its name that exists, as the apiserver would: it may not
// leave data behind.
func (l *loader) checkHeld(t *v1alpha1.Tenant) field.ErrorList {
	held := l.held[t.Name]
	if held == nil {
		return nil
	}
	was := held.DeepCopy()
	was.SetDefaults()
	return validateChange(was, t)
}

// reportOwned reports a definition of a tenant that exists and is not this repository's.
func (l *loader) reportOwned(doc *document) bool {
	held := l.held[doc.name()]
	if held == nil || l.opts.Repository == "" {
		return false
	}
	owner := held.Labels[v1alpha1.RepositoryLabel]
	if owner == l.opts.Repository {
		return false
	}
	by := "was made by hand"
	if owner != "" {
		by = "comes from TenantRepository " + owner
	}
	instead := "choose another name, or remove that one first"
	if approve := l.opts.Orphans[held.Name]; approve != "" {
		by += ", which is gone"
		instead = "choose another name, or, if it is the same facility, approve that it comes from here: " + approve
	}
	line, _, _ := doc.root.find("metadata.name")
	l.report(doc.file, line, held.Name, "metadata.name", v1alpha1.ConflictReason, fmt.Sprintf(
		"tenant %s exists already and %s: %s", held.Name, by, instead))
	return true
}
