// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// AppendDocument is the encoder.
var AppendDocument = appendDocument

// Build is what kustomize builds for a layer of a tenant: once a base with components, or components for each item.
type Build struct {
	Layer, Base string
	Components  []string
	Item        []byte
}

// Builds returns what is built for a tenant, and the YAML of what its values come from.
func (r *Renderer) Builds(t *v1alpha1.Tenant) (builds []Build, tenant, computed []byte, err error) {
	src, err := newSource(t)
	if err != nil {
		return nil, nil, nil, err
	}
	document := func(value map[string]any) []byte {
		node, nodeErr := valueNode(value)
		err = errors.Join(err, nodeErr)
		return appendDocument(nil, node)
	}
	for _, l := range r.catalogue.Layers {
		once, forEach := l.choose(src)
		builds = append(builds, Build{Layer: l.Name, Base: l.Base, Components: once})
		for _, c := range forEach {
			items, listErr := src.list(c.ForEach)
			err = errors.Join(err, listErr)
			for _, item := range items {
				builds = append(builds, Build{Layer: l.Name, Components: l.withCommon(c.Path), Item: document(src.withItem(item).item)})
			}
		}
	}
	return builds, document(src.tenant), document(src.computed), err
}

// Peers returns the outside endpoints of a tenant as text.
func Peers(t *v1alpha1.Tenant) (hosts, addresses []string) {
	byName, byAddress := peers(t)
	for _, p := range byName {
		item := p.(map[string]any)
		hosts = append(hosts, fmt.Sprintf("%s %s:%d/%s", item["objectName"], item["host"], item["port"], item["protocol"]))
	}
	for _, p := range byAddress {
		item := p.(map[string]any)
		addresses = append(addresses, fmt.Sprintf("%s %s:%d/%s", item["objectName"], item["cidr"], item["port"], item["protocol"]))
	}
	return hosts, addresses
}

// ConfigDigest is the digest of a ConfigMap's data.
func ConfigDigest(configMap *yaml.Node) string { return configDigest(configMap) }
