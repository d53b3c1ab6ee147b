// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/resid"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

const (
	kustomizationFile = "kustomization.yaml"
	replacementsFile  = "replacements.yaml"
)

// variant is a base with one combination of components, built and ready to take a tenant's values. It is not
// changed after it is built.
type variant struct {
	objects []prototype
	// fields of the source whose values the prototypes take, by slot.
	fields []field
}

// prototype is an object without a tenant's values, and where they go in it.
type prototype struct {
	Object
	set *spot
}

// buildVariant builds the objects of a base, which may be none, with kustomize and resolves the replacements of the base
// and each component to places in those objects.
func buildVariant(bundles fs.FS, base string, components []string) (*variant, error) {
	m, err := build(bundles, base, components)
	if err != nil {
		return nil, err
	}
	v := &variant{}
	for _, r := range m.Resources() {
		data, err := r.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.CurId(), err)
		}
		node, err := kyaml.Parse(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.CurId(), err)
		}
		o := Object{APIVersion: node.GetApiVersion(), Kind: node.GetKind(), Namespace: node.GetNamespace(), Name: node.GetName(), node: node.YNode()}
		v.objects = append(v.objects, prototype{Object: o, set: &spot{}})
	}
	for _, dir := range append([]string{base}, components...) {
		if err := v.addReplacements(bundles, dir); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Join(dir, replacementsFile), err)
		}
	}
	for _, p := range v.objects {
		// The digest of a configuration is set in place, so the way to it must be the tenant's own copy.
		if n, at := find(p.node, configDigestPath...); n != nil {
			if err := p.set.add(at, nil); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// build runs kustomize on a base with components.
func build(bundles fs.FS, base string, components []string) (resmap.ResMap, error) {
	const root = "/bundles"
	memory := filesys.MakeFsInMemory()
	err := fs.WalkDir(bundles, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(bundles, name)
		if err != nil {
			return err
		}
		return memory.WriteFile(path.Join(root, name), data)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the bundle bases: %w", err)
	}
	k := types.Kustomization{}
	if base != "" {
		k.Resources = []string{path.Join("..", root, base)}
	}
	for _, c := range components {
		k.Components = append(k.Components, path.Join("..", root, c))
	}
	data, err := sigsyaml.Marshal(k)
	if err != nil {
		return nil, err
	}
	if err := memory.WriteFile("/variant/"+kustomizationFile, data); err != nil {
		return nil, err
	}
	opts := krusty.MakeDefaultOptions()
	opts.Reorder = krusty.ReorderOptionLegacy
	return krusty.MakeKustomizer(opts).Run(memory, "/variant")
}

// readReplacements returns the replacements that a directory of the bundle has beside its kustomization.yaml.
func readReplacements(bundles fs.FS, dir string) ([]types.Replacement, error) {
	data, err := fs.ReadFile(bundles, path.Join(dir, replacementsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var replacements []types.Replacement
	return replacements, sigsyaml.UnmarshalStrict(data, &replacements)
}

func (v *variant) addReplacements(bundles fs.FS, dir string) error {
	replacements, err := readReplacements(bundles, dir)
	if err != nil {
		return err
	}
	for _, r := range replacements {
		f, err := sourceField(r.Source)
		if err != nil {
			return err
		}
		slot := len(v.fields)
		v.fields = append(v.fields, f)
		for _, target := range r.Targets {
			if err := v.addTarget(slot, target); err != nil {
				return fmt.Errorf("replacement of %s: %w", strings.Join(f.path, "."), err)
			}
		}
	}
	return nil
}

// addTarget finds the fields that a replacement's target selects, as kustomize's replacement filter does, and
// remembers where they are.
func (v *variant) addTarget(slot int, target *types.TargetSelector) error {
	if target.Select == nil {
		return errors.New("a target needs a select")
	}
	selector, err := types.NewTargetSelectorRegex(target)
	if err != nil {
		return err
	}
	found := false
	for _, p := range v.objects {
		id := resid.NewResIdWithNamespace(resid.GvkFromNode(kyaml.NewRNode(p.node)), p.Name, p.Namespace)
		if !selector.Selects(id) || selector.RejectsAny([]resid.ResId{id}) {
			continue
		}
		found = true
		for _, fieldPath := range target.FieldPaths {
			if err := p.addField(slot, fieldPath, target.Options); err != nil {
				return fmt.Errorf("%s/%s: %w", p.Kind, p.Name, err)
			}
		}
	}
	if !found {
		return fmt.Errorf("no object is selected by kind %q name %q", target.Select.Kind, target.Select.Name)
	}
	return nil
}
