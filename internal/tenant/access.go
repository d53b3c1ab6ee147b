// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// facilityTag is the struct tag that says whether a facility's own file may set a field.
const facilityTag = "facility"

// access says whether a facility's own file may set a field, and those below it.
type access struct {
	reserved bool
	list     bool
	fields   map[string]*access // of an object, or of the items of a list

	// Of the field itself where it has none below it, else of those below it.
	someReserved, someAllowed bool
}

// marks are the marks of the API: those of the fields of a Tenant's spec, and labels and annotations, which are the
// platform's to set.
var marks = sync.OnceValue(func() *access {
	spec := schemas().tenant.structural.Properties["spec"]
	root := &access{fields: map[string]*access{
		"metadata": {fields: map[string]*access{"labels": {reserved: true}, "annotations": {reserved: true}}},
		"spec":     newAccess(&spec, reflect.TypeFor[v1alpha1.TenantSpec](), false),
	}}
	root.sum()
	return root
})

// newAccess reads the marks of a type's fields. A field of ours without a mark is reserved; the fields of other
// projects' types have none of their own and are what they are part of.
func newAccess(s *structuralschema.Structural, t reflect.Type, reserved bool) *access {
	a := &access{reserved: reserved}
	for s.Items != nil {
		s, a.list = s.Items, true
	}
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	if t != nil && (t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[v1alpha1.TenantSpec]().PkgPath()) {
		t = nil
	}
	for name, property := range s.Properties {
		var of reflect.Type
		reserved := a.reserved
		if t != nil {
			reserved = true
			if f, ok := jsonField(t, name); ok {
				of, reserved = f.Type, f.Tag.Get(facilityTag) != "allowed"
			}
		}
		if a.fields == nil {
			a.fields = map[string]*access{}
		}
		a.fields[name] = newAccess(&property, of, reserved)
	}
	return a
}

// jsonField returns the field of a struct, or of one that is inlined in it, that has a name in JSON.
func jsonField(t reflect.Type, name string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if tagged, _, _ := strings.Cut(f.Tag.Get("json"), ","); tagged == name && !f.Anonymous {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// sum notes of each field what is below it.
func (a *access) sum() {
	a.someReserved, a.someAllowed = a.reserved, !a.reserved
	if len(a.fields) > 0 {
		a.someReserved, a.someAllowed = false, false
	}
	for _, f := range a.fields {
		f.sum()
		a.someReserved = a.someReserved || f.someReserved
		a.someAllowed = a.someAllowed || f.someAllowed
	}
}

// clone returns a copy that shares nothing.
func (a *access) clone() *access {
	c := &access{reserved: a.reserved, list: a.list}
	for name, f := range a.fields {
		if c.fields == nil {
			c.fields = make(map[string]*access, len(a.fields))
		}
		c.fields[name] = f.clone()
	}
	return c
}

// set marks a field and all below it.
func (a *access) set(reserved bool) {
	a.reserved = reserved
	for _, f := range a.fields {
		f.set(reserved)
	}
}

// at returns the field of a path, or nil.
func (a *access) at(path string) *access {
	for name := range strings.SplitSeq(path, ".") {
		if a == nil {
			return nil
		}
		a = a.fields[name]
	}
	return a
}

// walk calls f with the path of each field, in order.
func (a *access) walk(path string, f func(path string, a *access)) {
	for _, name := range sortedKeys(a.fields) {
		below := strings.TrimPrefix(path+"."+name, ".")
		f(below, a.fields[name])
		a.fields[name].walk(below, f)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// breach is a reserved field that a file sets.
type breach struct {
	at   *field.Path
	line int

	// fields are those below it that are reserved and that the value takes with it, such as null does. None where the
	// field itself is reserved.
	fields []string
}

// breaches returns the reserved fields that a value sets. line is that of its key. class is what a class has in its
// place, or nil: a list takes the place of the class's.
func (a *access) breaches(n, class *node, at *field.Path, line int) []breach {
	if a == nil || n == nil || !a.someReserved {
		return nil
	}
	object := n.index != nil && !a.list
	var out []breach
	switch {
	case object:
		for _, e := range n.entries {
			if f := a.fields[e.key]; f != nil {
				out = append(out, f.breaches(e.value, class.get(e.key), at.Child(e.key), e.line)...)
			}
		}
	case a.list && n.isList() && a.someAllowed:
		item := &access{reserved: a.reserved, fields: a.fields, someReserved: a.someReserved, someAllowed: a.someAllowed}
		for i, e := range n.entries {
			out = append(out, item.breaches(e.value, nil, at.Index(i), e.line)...)
		}
		if class != nil && class.isList() && len(a.breaches(class, nil, at, line)) > 0 {
			out = append(out, breach{at: at, line: line, fields: a.reservedBelow()})
		}
	case a.someAllowed:
		out = append(out, breach{at: at, line: line, fields: a.reservedBelow()})
	}
	if len(out) == 0 && !a.someAllowed {
		out = append(out, breach{at: at, line: line})
	}
	return out
}

// reservedBelow names the fields directly below a field that hold something reserved.
func (a *access) reservedBelow() []string {
	var names []string
	for _, name := range sortedKeys(a.fields) {
		if a.fields[name].someReserved {
			names = append(names, name)
		}
	}
	return names
}
