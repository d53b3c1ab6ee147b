// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io/fs"
	"strings"

	"sigs.k8s.io/yaml"
)

// catalogueFile lists the layers and their components.
const catalogueFile = "bundle.yaml"

// catalogue is bundle.yaml.
type catalogue struct {
	Layers []layerEntry `json:"layers"`
}

// layerEntry is a layer: a kustomize base and the components that may be put on it, in order.
type layerEntry struct {
	Name       string           `json:"name"`
	Base       string           `json:"base"`
	Components []componentEntry `json:"components"`
}

// componentEntry is a kustomize component and when it is on.
type componentEntry struct {
	Path string     `json:"path"`
	When *condition `json:"when,omitempty"`
}

// condition holds where a field of the Tenant is set, to Value unless that is empty.
type condition struct {
	FieldPath string `json:"fieldPath"`
	Value     string `json:"value,omitempty"`
}

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
			if comp.Path == "" || (comp.When != nil && comp.When.FieldPath == "") {
				return nil, fmt.Errorf("%s of the bundle bases: layer %s: a component needs a path, and its condition a fieldPath",
					catalogueFile, l.Name)
			}
		}
	}
	return c, nil
}

// choose returns the paths of the components that a tenant switches on.
func (l layerEntry) choose(src *source) []string {
	on := make([]string, 0, len(l.Components))
	for _, c := range l.Components {
		if c.When == nil || c.When.holds(src) {
			on = append(on, c.Path)
		}
	}
	return on
}

func (c *condition) holds(src *source) bool {
	value, ok := lookup(src.tenant, strings.Split(c.FieldPath, "."))
	if !ok {
		return false
	}
	if c.Value != "" {
		return fmt.Sprint(value) == c.Value
	}
	switch v := value.(type) {
	case string:
		return v != ""
	case map[string]any:
		return len(v) > 0
	}
	return value != nil
}
