// SPDX-License-Identifier: Apache-2.0

// Package render turns a Tenant into its bundle: the layers of Kubernetes objects that Flux applies for it. It is
// pure: the same Tenant and the same bundle bases give the same bytes, with no cluster, network, clock or file
// outside the fs.FS that it is given.
//
// The bases and components are plain kustomize (gitops/bundles). Each combination of them is built with kustomize
// once; what is left to do for a tenant is to set its values in a copy of the objects so built.
package render

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Error is a failure that the author of a Tenant can mend. Any other error of this package means that the bundle
// bases themselves are broken.
type Error struct {
	// Field of the Tenant, such as spec.patches[2].
	Field string
	// Err says what is wrong with it.
	Err error
}

// Error returns the field and what is wrong with it.
func (e *Error) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the field.
func (e *Error) Unwrap() error { return e.Err }

// Renderer renders Tenants. It is safe for concurrent use.
type Renderer struct {
	bundles   fs.FS
	catalogue *catalogue

	mu       sync.Mutex
	variants map[string]func() (*variant, error)
}

// New returns a Renderer of the bundles in an fs.FS that holds a bundle.yaml and the kustomize bases and components
// that it names, such as bundles.FS. It fails where bundle.yaml is missing or malformed; the combinations of
// components are built when the first tenant needs them.
func New(bundles fs.FS) (*Renderer, error) {
	c, err := readCatalogue(bundles)
	if err != nil {
		return nil, err
	}
	return &Renderer{bundles: bundles, catalogue: c, variants: map[string]func() (*variant, error){}}, nil
}

// Render returns the bundle of a Tenant on which SetDefaults was called. It does not change the Tenant. An *Error
// names the field of the Tenant to mend.
func (r *Renderer) Render(t *v1alpha1.Tenant) (*Bundle, error) {
	src, err := newSource(t)
	if err != nil {
		return nil, err
	}
	var labels, annotations []*yaml.Node
	if m := t.Spec.CommonMetadata; m != nil {
		labels, annotations = entries(m.Labels), entries(m.Annotations)
	}
	b := &Bundle{}
	for _, layer := range r.catalogue.Layers {
		l, err := r.layer(layer, src)
		if err != nil {
			return nil, fmt.Errorf("layer %s of tenant %s: %w", layer.Name, t.Name, err)
		}
		if len(labels)+len(annotations) > 0 {
			l.addMetadata(labels, annotations)
		}
		b.Layers = append(b.Layers, l)
	}
	if len(t.Spec.Patches) > 0 {
		if err := b.patch(t); err != nil {
			return nil, err
		}
	}
	for i := range b.Layers {
		b.Layers[i].setConfigDigests()
	}
	return b, nil
}

// layer returns a tenant's objects of a layer: those of the base and the components, and then those that are made for
// each item of a list.
func (r *Renderer) layer(entry layerEntry, src *source) (Layer, error) {
	once, forEach := entry.choose(src)
	v, err := r.variant(entry.Base, once)
	if err != nil {
		return Layer{}, err
	}
	objects, err := v.instantiate(nil, src)
	if err != nil {
		return Layer{}, err
	}
	for _, c := range forEach {
		items, err := src.list(c.ForEach)
		if err != nil {
			return Layer{}, fmt.Errorf("component %s: %w", c.Path, err)
		}
		if len(items) == 0 {
			continue
		}
		if v, err = r.variant("", entry.withCommon(c.Path)); err != nil {
			return Layer{}, err
		}
		for i, item := range items {
			if objects, err = v.instantiate(objects, src.withItem(item)); err != nil {
				return Layer{}, fmt.Errorf("component %s: item %d of %s: %w", c.Path, i, c.ForEach, err)
			}
		}
	}
	return newLayer(entry.Name, objects)
}

// variant returns the objects of a base with the given components, which it builds at the first call for them.
func (r *Renderer) variant(base string, components []string) (*variant, error) {
	key := fmt.Sprint(base, components)
	r.mu.Lock()
	build, ok := r.variants[key]
	if !ok {
		build = sync.OnceValues(func() (*variant, error) { return buildVariant(r.bundles, base, components) })
		r.variants[key] = build
	}
	r.mu.Unlock()
	v, err := build()
	if err != nil {
		return nil, fmt.Errorf("bundle base %s with %s: %w", base, strings.Join(components, ", "), err)
	}
	return v, nil
}
