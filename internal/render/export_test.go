// SPDX-License-Identifier: Apache-2.0

package render

import (
	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// AppendDocument is the encoder.
var AppendDocument = appendDocument

// Build is a layer's base, components and replacements files for a tenant.
type Build struct {
	Layer, Base string
	Components  []string
}

// Builds returns what is built for a tenant, and the YAML of what its values come from.
func (r *Renderer) Builds(t *v1alpha1.Tenant) (builds []Build, tenant, computed []byte, err error) {
	src, err := newSource(t)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, l := range r.catalogue.Layers {
		builds = append(builds, Build{Layer: l.Name, Base: l.Base, Components: l.choose(src)})
	}
	tenantNode, err := valueNode(src.tenant)
	if err != nil {
		return nil, nil, nil, err
	}
	computedNode, err := valueNode(src.computed)
	if err != nil {
		return nil, nil, nil, err
	}
	return builds, appendDocument(nil, tenantNode), appendDocument(nil, computedNode), nil
}

// ConfigDigest is the digest of a ConfigMap's data.
func ConfigDigest(configMap *yaml.Node) string { return configDigest(configMap) }
