// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// catalogueFile lists the layers and their components.
const catalogueFile = "bundle.yaml"

// catalogue is bundle.yaml.
type catalogue struct {
	Layers []layerEntry `json:"layers"`
}

// layerEntry is a layer: a kustomize base, the components that may be put on it, in order, and the one that is put on
// everything, last.
type layerEntry struct {
	Name       string           `json:"name"`
	Base       string           `json:"base"`
	Components []componentEntry `json:"components"`
	Common     string           `json:"common,omitempty"`
}

// componentEntry is a kustomize component and when it is on. With ForEach it is built by itself, and its objects are
// made once for each item of that list.
type componentEntry struct {
	Path    string        `json:"path"`
	When    []requirement `json:"when,omitempty"`
	ForEach string        `json:"forEach,omitempty"`
}

// requirement is on a field of the Tenant, in the words of a label selector's. Of a list it is enough that one of the
// items is among the values.
type requirement struct {
	FieldPath string   `json:"fieldPath"`
	Operator  operator `json:"operator"`
	Values    []string `json:"values,omitempty"`
}

type operator string

const (
	in           operator = "In"
	notIn        operator = "NotIn"
	exists       operator = "Exists"
	doesNotExist operator = "DoesNotExist"
)

func readCatalogue(bundles fs.FS) (*catalogue, error) {
	data, err := fs.ReadFile(bundles, catalogueFile)
	if err != nil {
		return nil, fmt.Errorf("reading the bundle bases: %w", err)
	}
	c := &catalogue{}
	if err := yaml.UnmarshalStrict(data, c); err != nil {
		return nil, fmt.Errorf("%s of the bundle bases: %w", catalogueFile, err)
	}
	if len(c.Layers) == 0 {
		return nil, fmt.Errorf("%s of the bundle bases names no layer", catalogueFile)
	}
	for _, l := range c.Layers {
		if l.Name == "" || l.Base == "" {
			return nil, fmt.Errorf("%s of the bundle bases: a layer needs a name and a base", catalogueFile)
		}
		for _, comp := range l.Components {
			if err := comp.check(); err != nil {
				return nil, fmt.Errorf("%s of the bundle bases: layer %s: component %q: %w", catalogueFile, l.Name, comp.Path, err)
			}
		}
	}
	return c, nil
}

func (c componentEntry) check() error {
	if c.Path == "" {
		return errors.New("needs a path")
	}
	for _, r := range c.When {
		if r.FieldPath == "" {
			return errors.New("each requirement needs a fieldPath")
		}
		switch r.Operator {
		case in, notIn:
			if len(r.Values) == 0 {
				return fmt.Errorf("%s: operator %s needs values", r.FieldPath, r.Operator)
			}
		case exists, doesNotExist:
			if len(r.Values) > 0 {
				return fmt.Errorf("%s: operator %s has no values", r.FieldPath, r.Operator)
			}
		default:
			return fmt.Errorf("%s: the operator must be In, NotIn, Exists or DoesNotExist, not %q", r.FieldPath, r.Operator)
		}
	}
	return nil
}

// choose returns the components that a tenant switches on: those that are put on the base, by their paths, and those
// that are made for each item of a list.
func (l layerEntry) choose(src *source) (once []string, forEach []componentEntry) {
	once = make([]string, 0, len(l.Components)+1)
	for _, c := range l.Components {
		switch on := !slices.ContainsFunc(c.When, func(r requirement) bool { return !r.holds(src) }); {
		case on && c.ForEach != "":
			forEach = append(forEach, c)
		case on:
			once = append(once, c.Path)
		}
	}
	return l.withCommon(once...), forEach
}

// withCommon returns components with the common one after them.
func (l layerEntry) withCommon(components ...string) []string {
	if l.Common == "" {
		return components
	}
	return append(components, l.Common)
}

func (r requirement) holds(src *source) bool {
	value, set := lookup(src.tenant, strings.Split(r.FieldPath, "."))
	switch v := value.(type) {
	case nil:
		set = false
	case string:
		set = v != ""
	case map[string]any:
		set = len(v) > 0
	case []any:
		set = len(v) > 0
	}
	switch r.Operator {
	case exists:
		return set
	case doesNotExist:
		return !set
	}
	items, isList := value.([]any)
	if !isList && set {
		items = []any{value}
	}
	among := slices.ContainsFunc(items, func(item any) bool { return slices.Contains(r.Values, fmt.Sprint(item)) })
	return among == (r.Operator == in)
}
