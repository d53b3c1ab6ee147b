// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// computedName names the ConfigMap of replacements.yaml that holds what is computed from the Tenant.
const computedName = "computed"

// source is what replacements take their values from: the Tenant as it would be in a manifest, and a ConfigMap
// "computed" of values that no single field holds. Neither is part of the bundle.
type source struct {
	namespace string
	tenant    map[string]any
	computed  map[string]any
}

// newSource returns the source of a tenant's values.
func newSource(t *v1alpha1.Tenant) (*source, error) {
	orthanc, err := orthancJSON(t)
	if err != nil {
		return nil, err
	}
	manifest := struct {
		APIVersion string               `json:"apiVersion"`
		Kind       string               `json:"kind"`
		Metadata   map[string]string    `json:"metadata"`
		Spec       *v1alpha1.TenantSpec `json:"spec"`
	}{v1alpha1.GroupVersion.String(), v1alpha1.TenantKind, map[string]string{"name": t.Name}, &t.Spec}
	data, err := json.Marshal(manifest)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: %w", t.Name, err)
	}
	s := &source{namespace: t.Spec.Namespace}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&s.tenant); err != nil {
		return nil, fmt.Errorf("tenant %s: %w", t.Name, err)
	}
	s.computed = map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]any{"name": computedName},
		"data":       map[string]any{"tenant.json": orthanc},
	}
	return s, nil
}

// get returns the value at a field path, which must be set.
func (s *source) get(f field) (*yaml.Node, error) {
	object, name := s.tenant, v1alpha1.TenantKind
	if f.computed {
		object, name = s.computed, computedName
	}
	value, ok := lookup(object, f.path)
	if !ok || value == nil || value == "" {
		return nil, fmt.Errorf("%s has no %s", name, strings.Join(f.path, "."))
	}
	return valueNode(value)
}

// lookup returns the value at a path of field names.
func lookup(value any, path []string) (any, bool) {
	for _, name := range path {
		m, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = m[name]; !ok {
			return nil, false
		}
	}
	return value, true
}

// valueNode returns a decoded JSON value as YAML, with sorted keys.
func valueNode(value any) (*yaml.Node, error) {
	switch v := value.(type) {
	case string:
		return stringNode(v), nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}, nil
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(v.String(), ".eE") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v.String()}, nil
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			item, err := valueNode(v[key])
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, stringNode(key), item)
		}
		return n, nil
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, element := range v {
			item, err := valueNode(element)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		return n, nil
	}
	return nil, fmt.Errorf("a value of type %T cannot be put into a manifest", value)
}

func stringNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}
