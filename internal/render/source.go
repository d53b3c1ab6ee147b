// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// The ConfigMaps of replacements.yaml: what is computed from the Tenant, and the item that a component with forEach is
// made for.
const (
	computedName = "computed"
	itemName     = "item"
)

// source is what replacements take their values from: the Tenant as it would be in a manifest, and ConfigMaps of
// values that no single field holds. None of them is part of the bundle.
type source struct {
	namespace string
	tenant    map[string]any
	computed  map[string]any
	item      map[string]any
}

// newSource returns the source of a tenant's values.
func newSource(t *v1alpha1.Tenant) (*source, error) {
	computed, err := compute(t)
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
	s.computed = configMap(computedName, computed)
	return s, nil
}

func configMap(name string, data map[string]any) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": data}
}

// withItem returns the source with an item of a list.
func (s *source) withItem(item map[string]any) *source {
	c := *s
	c.item = configMap(itemName, item)
	return &c
}

// list returns the items of a list: of the Tenant, such as spec.orthanc.modalities, or computed, such as
// computed.data.peerHosts. A list that is not set has none.
func (s *source) list(fieldPath string) ([]map[string]any, error) {
	object, path := s.tenant, strings.Split(fieldPath, ".")
	if path[0] == computedName {
		object, path = s.computed, path[1:]
	}
	value, ok := lookup(object, path)
	if !ok {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is not a list", fieldPath)
	}
	items := make([]map[string]any, len(list))
	for i := range list {
		if items[i], ok = list[i].(map[string]any); !ok {
			return nil, fmt.Errorf("%s[%d] is not an object", fieldPath, i)
		}
	}
	return items, nil
}

// get returns the value at a field path, which must be set.
func (s *source) get(f field) (*yaml.Node, error) {
	object := map[string]map[string]any{v1alpha1.TenantKind: s.tenant, computedName: s.computed, itemName: s.item}[f.of]
	value, ok := lookup(object, f.path)
	if !ok || value == nil || value == "" {
		return nil, fmt.Errorf("%s has no %s", f.of, strings.Join(f.path, "."))
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
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	case string:
		return stringNode(v), nil
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(v)}, nil
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
