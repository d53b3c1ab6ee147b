// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
)

// overlay writes what a person would write to have kustomize render a tenant: for each build an overlay of the base and
// the components, in a directory that is named by its number, with the Tenant beside them as the source of the
// replacements.
func overlay(t testing.TB, r *render.Renderer, tenant *v1alpha1.Tenant) (filesys.FileSystem, []render.Build) {
	t.Helper()
	g := NewWithT(t)
	builds, tenantYAML, computedYAML, err := r.Builds(tenant)
	g.Expect(err).NotTo(HaveOccurred())

	memory := filesys.MakeFsInMemory()
	copyBundles(t, memory, "/bundles")
	for i, b := range builds {
		dir := overlayDir(i)
		k := map[string]any{}
		resources := []string{"tenant.yaml", "computed.yaml"}
		sources := map[string][]byte{"tenant.yaml": tenantYAML, "computed.yaml": computedYAML}
		if b.Item != nil {
			resources = append(resources, "item.yaml")
			sources["item.yaml"] = b.Item
		}
		for name, data := range sources {
			g.Expect(memory.WriteFile(path.Join(dir, name), asSource(t, data))).To(Succeed())
		}
		dirs := b.Components
		if b.Base != "" {
			resources = append(resources, path.Join("../../bundles", b.Base))
			dirs = append([]string{b.Base}, dirs...)
		}
		var components []string
		var replacements []map[string]string
		for _, c := range b.Components {
			components = append(components, path.Join("../../bundles", c))
		}
		for _, d := range dirs {
			if memory.Exists(path.Join("/bundles", d, "replacements.yaml")) {
				replacements = append(replacements, map[string]string{"path": path.Join("../../bundles", d, "replacements.yaml")})
			}
		}
		k["resources"], k["components"], k["replacements"] = resources, components, replacements
		if m := tenant.Spec.CommonMetadata; m != nil {
			k["transformers"] = []string{transformer(t, "LabelTransformer", "labels", m.Labels), transformer(t, "AnnotationsTransformer", "annotations", m.Annotations)}
		}
		data, err := yaml.Marshal(k)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(memory.WriteFile(path.Join(dir, "kustomization.yaml"), data)).To(Succeed())
	}
	return memory, builds
}

func overlayDir(build int) string { return fmt.Sprintf("/overlay/%d", build) }

// asSource makes an object one that replacements take values from and that is not built itself. Replacements that go to
// every object go to it too.
func asSource(t testing.TB, data []byte) []byte {
	t.Helper()
	g := NewWithT(t)
	doc := map[string]any{}
	g.Expect(yaml.Unmarshal(data, &doc)).To(Succeed())
	maps.Copy(doc["metadata"].(map[string]any), map[string]any{
		"namespace":   "x",
		"annotations": map[string]any{"config.kubernetes.io/local-config": "true"},
		"labels":      map[string]any{"app.kubernetes.io/instance": "x", "korthweb.digihunch.com/tenant": "x"},
	})
	data, err := yaml.Marshal(doc)
	g.Expect(err).NotTo(HaveOccurred())
	return data
}

func copyBundles(t testing.TB, memory filesys.FileSystem, root string) {
	t.Helper()
	NewWithT(t).Expect(fs.WalkDir(bundles.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(bundles.FS, name)
		if err != nil {
			return err
		}
		return memory.WriteFile(path.Join(root, name), data)
	})).To(Succeed())
}

// transformer returns a kustomize transformer that adds common metadata to objects, and to nothing inside them.
func transformer(t testing.TB, kind, field string, add map[string]string) string {
	t.Helper()
	add = maps.Clone(add)
	maps.DeleteFunc(add, func(key, _ string) bool { return key == "app.kubernetes.io/managed-by" })
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": "builtin", "kind": kind, "metadata": map[string]any{"name": "common"},
		field: add, "fieldSpecs": []map[string]any{{"path": "metadata/" + field, "create": true}},
	})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return string(data)
}

func runKrusty(t testing.TB, memory filesys.FileSystem, dir string) resmap.ResMap {
	t.Helper()
	opts := krusty.MakeDefaultOptions()
	opts.LoadRestrictions = types.LoadRestrictionsNone // replacements are files beside the components
	m, err := krusty.MakeKustomizer(opts).Run(memory, dir)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return m
}

// TestSameAsKustomize compares what is rendered with what kustomize builds of the same overlay, object by object.
func TestSameAsKustomize(t *testing.T) {
	r := newRenderer(t)
	for _, name := range tenants {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := readTenant(t, name)
			tenant.Spec.Patches = nil // kustomize has patched them itself
			bundle, err := r.Render(tenant)
			g.Expect(err).NotTo(HaveOccurred())
			memory, builds := overlay(t, r, tenant)
			wanted := map[string]map[string]any{}
			for i, b := range builds {
				for _, res := range runKrusty(t, memory, overlayDir(i)).Resources() {
					data, err := res.AsYAML()
					g.Expect(err).NotTo(HaveOccurred())
					if wanted[b.Layer] == nil {
						wanted[b.Layer] = map[string]any{}
					}
					wanted[b.Layer][res.GetKind()+"/"+res.GetName()] = decode(t, data)
				}
			}
			for _, layer := range bundle.Layers {
				want := wanted[layer.Name]
				got := map[string]any{}
				for _, o := range layer.Objects {
					got[o.Kind+"/"+o.Name] = decode(t, o.YAML())
				}
				if d, ok := want["Deployment/orthanc"]; ok {
					var config yamlv3.Node
					data, err := yaml.Marshal(want["ConfigMap/orthanc-config"])
					g.Expect(err).NotTo(HaveOccurred())
					g.Expect(yamlv3.Unmarshal(data, &config)).To(Succeed())
					podAnnotations(d)["korthweb.digihunch.com/config-digest"] = render.ConfigDigest(config.Content[0])
				}
				g.Expect(slices.Sorted(maps.Keys(got))).To(Equal(slices.Sorted(maps.Keys(want))))
				for id := range want {
					g.Expect(got[id]).To(Equal(want[id]), id)
				}
			}
		})
	}
}

// TestFilesBuild has kustomize build the files of each layer, as Flux does.
func TestFilesBuild(t *testing.T) {
	r := newRenderer(t)
	for _, name := range tenants {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			bundle, err := r.Render(readTenant(t, name))
			g.Expect(err).NotTo(HaveOccurred())
			files, err := bundle.Files()
			g.Expect(err).NotTo(HaveOccurred())
			memory := filesys.MakeFsInMemory()
			for _, f := range files {
				g.Expect(memory.WriteFile("/overlay/"+f.Path, f.Data)).To(Succeed())
			}
			ids := map[string]bool{}
			for _, l := range bundle.Layers {
				built := map[string]any{}
				for _, res := range runKrusty(t, memory, path.Join("/overlay", l.Name)).Resources() {
					data, err := res.AsYAML()
					g.Expect(err).NotTo(HaveOccurred())
					built[res.GetKind()+"/"+res.GetName()] = decode(t, data)
				}
				g.Expect(built).To(HaveLen(len(l.Objects)))
				for _, o := range l.Objects {
					id := o.Kind + "/" + o.Name
					g.Expect(ids).NotTo(HaveKey(id), "an object must be in one layer only")
					ids[id] = true
					g.Expect(built[id]).To(Equal(decode(t, o.YAML())), id)
				}
			}
		})
	}
}

// TestBasesBuild has kustomize build the combinations that are in the bundle bases to be looked at.
func TestBasesBuild(t *testing.T) {
	g := NewWithT(t)
	memory := filesys.MakeFsInMemory()
	copyBundles(t, memory, "/overlay")
	for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
		g.Expect(runKrusty(t, memory, path.Join("/overlay", layer)).Size()).To(BeNumerically(">", 10))
	}
}

func decode(t testing.TB, data []byte) map[string]any {
	t.Helper()
	doc := map[string]any{}
	NewWithT(t).Expect(yaml.UnmarshalStrict(data, &doc)).To(Succeed(), string(data))
	return doc
}

func podAnnotations(deployment any) map[string]any {
	value := deployment
	for _, name := range []string{"spec", "template", "metadata", "annotations"} {
		value = value.(map[string]any)[name]
	}
	return value.(map[string]any)
}
