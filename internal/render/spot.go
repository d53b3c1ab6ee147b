// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/utils"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// field is a field of what values come from: the Tenant, or one of the ConfigMaps of source.
type field struct {
	of   string // Tenant, computed or item
	path []string
}

// sourceField reads the source of a replacement. Only the Tenant, the computed values and an item may be one: anything
// else would be the same for every tenant, and belongs in the manifest itself.
func sourceField(s *types.SourceSelector) (field, error) {
	switch {
	case s == nil || s.FieldPath == "":
		return field{}, errors.New("a replacement needs a source with a fieldPath")
	case s.Options != nil:
		return field{}, errors.New("options of a source are not supported")
	}
	f := field{path: utils.SmarterPathSplitter(s.FieldPath, ".")}
	switch {
	case s.Kind == v1alpha1.TenantKind && s.Name == "":
		f.of = v1alpha1.TenantKind
	case s.Kind == "ConfigMap" && (s.Name == computedName || s.Name == itemName):
		f.of = s.Name
	default:
		return field{}, fmt.Errorf("the source of a replacement must be kind Tenant, or ConfigMap %s or %s; it is %s %s", computedName, itemName, s.Kind, s.Name)
	}
	return f, nil
}

// spot is a node of an object that differs between tenants, in itself or below.
type spot struct {
	// values to set here, in order. A spot with values has nothing below it.
	values []setter
	// index in the node's Content of each spot below it, ascending.
	index []int
	below []*spot
}

// setter sets a value the way kustomize's replacement filter does.
type setter struct {
	slot    int
	options *types.FieldOptions
}

// addField adds the nodes of an object that a field path of a replacement's target matches.
func (p prototype) addField(slot int, fieldPath string, options *types.FieldOptions) error {
	if options != nil && options.Create {
		return fmt.Errorf("%s: option create is not supported: the field must be in the manifest", fieldPath)
	}
	matches, err := kyaml.NewRNode(p.node).Pipe(&kyaml.PathMatcher{Path: utils.SmarterPathSplitter(fieldPath, ".")})
	if err != nil {
		return fmt.Errorf("%s: %w", fieldPath, err)
	}
	if matches == nil || len(matches.Content()) == 0 {
		return fmt.Errorf("%s: no such field", fieldPath)
	}
	for _, node := range matches.Content() {
		at := pathTo(p.node, node)
		if at == nil {
			return fmt.Errorf("%s: is inside a value that is text", fieldPath)
		}
		if err := p.set.add(at, &setter{slot: slot, options: options}); err != nil {
			return fmt.Errorf("%s: %w", fieldPath, err)
		}
	}
	return nil
}

// add notes that the node at a path of Content indexes is set, or with a nil setter, that it is changed later.
func (s *spot) add(at []int, set *setter) error {
	if len(at) == 0 {
		if set != nil {
			s.values = append(s.values, *set)
		}
		if len(s.values) > 0 && len(s.below) > 0 {
			return errors.New("is replaced as a whole and in part")
		}
		return nil
	}
	if len(s.values) > 0 {
		return errors.New("is replaced as a whole and in part")
	}
	i, ok := slices.BinarySearch(s.index, at[0])
	if !ok {
		s.index = slices.Insert(s.index, i, at[0])
		s.below = slices.Insert(s.below, i, &spot{})
	}
	return s.below[i].add(at[1:], set)
}

// apply returns a copy of a node with the values set. What does not differ between tenants is shared between them.
func (s *spot) apply(n *yaml.Node, values []*yaml.Node) (*yaml.Node, error) {
	c := *n
	if len(s.values) > 0 {
		for _, set := range s.values {
			if err := set.apply(&c, values[set.slot]); err != nil {
				return nil, err
			}
		}
		return &c, nil
	}
	c.Content = slices.Clone(n.Content)
	for i, at := range s.index {
		child, err := s.below[i].apply(n.Content[at], values)
		if err != nil {
			return nil, err
		}
		c.Content[at] = child
	}
	return &c, nil
}

func (s setter) apply(target, value *yaml.Node) error {
	if target.Kind != yaml.ScalarNode {
		*target = *value
		return nil
	}
	if value.Kind != yaml.ScalarNode {
		return fmt.Errorf("the scalar %q cannot take a list or a map", target.Value)
	}
	text := value.Value
	if s.options != nil && s.options.Delimiter != "" {
		parts := strings.Split(target.Value, s.options.Delimiter)
		switch i := s.options.Index; {
		case i < 0:
			parts = slices.Insert(parts, 0, text)
		case i >= len(parts):
			parts = append(parts, text)
		default:
			parts[i] = text
		}
		text = strings.Join(parts, s.options.Delimiter)
	}
	target.Value = text
	return nil
}

// pathTo returns the Content indexes that lead from a node to one below it, nil if it is not below it.
func pathTo(from, to *yaml.Node) []int {
	if from == to {
		return []int{}
	}
	for i, child := range from.Content {
		if at := pathTo(child, to); at != nil {
			return append([]int{i}, at...)
		}
	}
	return nil
}

// find returns the node at a path of field names, and the Content indexes that lead there.
func find(n *yaml.Node, names ...string) (*yaml.Node, []int) {
	at := make([]int, 0, len(names))
next:
	for _, name := range names {
		if n.Kind != yaml.MappingNode {
			return nil, nil
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				n, at = n.Content[i+1], append(at, i+1)
				continue next
			}
		}
		return nil, nil
	}
	return n, at
}
