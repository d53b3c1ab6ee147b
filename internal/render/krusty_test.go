// SPDX-License-Identifier: Apache-2.0

package render_test

import (
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

// overlay writes what a person would write to have kustomize render a tenant: for each layer an overlay of the
// base and the components, with the Tenant beside them as the source of the replacements.
func overlay(t testing.TB, r *render.Renderer, tenant *v1alpha1.Tenant) (filesys.FileSystem, []render.Build) {
	t.Helper()
	g := NewWithT(t)
	builds, tenantYAML, computedYAML, err := r.Builds(tenant)
	g.Expect(err).NotTo(HaveOccurred())

	memory := filesys.MakeFsInMemory()
	copyBundles(t, memory, "/bundles")

	// Replacements that go to every object go to these too.
	sourceMetadata := "\n  namespace: x\n  annotations: {config.kubernetes.io/local-config: \"true\"}" +
		"\n  labels: {app.kubernetes.io/instance: x, korthweb.digihunch.com/tenant: x}\n"
	for name, data := range map[string][]byte{"tenant.yaml": tenantYAML, "computed.yaml": computedYAML} {
		doc := map[string]any{}
		g.Expect(yaml.Unmarshal(data, &doc)).To(Succeed())
		extra := map[string]any{}
		g.Expect(yaml.Unmarshal([]byte("metadata:"+sourceMetadata), &extra)).To(Succeed())
		maps.Copy(doc["metadata"].(map[string]any), extra["metadata"].(map[string]any))
		data, err := yaml.Marshal(doc)
		g.Expect(err).NotTo(HaveOccurred())
		for _, b := range builds {
			g.Expect(memory.WriteFile(path.Join("/overlay", b.Layer, name), data)).To(Succeed())
		}
	}

	for _, b := range builds {
		k := map[string]any{
			"resources": []string{path.Join("../../bundles", b.Base), "tenant.yaml", "computed.yaml"},
		}
		var components []string
		var replacements []map[string]string
		for i, dir := range append([]string{b.Base}, b.Components...) {
			if i > 0 {
				components = append(components, path.Join("../../bundles", dir))
			}
			if memory.Exists(path.Join("/bundles", dir, "replacements.yaml")) {
				replacements = append(replacements, map[string]string{"path": path.Join("../../bundles", dir, "replacements.yaml")})
			}
		}
		k["components"], k["replacements"] = components, replacements
		if m := tenant.Spec.CommonMetadata; m != nil {
			k["transformers"] = []string{transformer(t, "LabelTransformer", "labels", m.Labels), transformer(t, "AnnotationsTransformer", "annotations", m.Annotations)}
		}
		data, err := yaml.Marshal(k)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(memory.WriteFile(path.Join("/overlay", b.Layer, "kustomization.yaml"), data)).To(Succeed())
	}
	return memory, builds
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

func runKrusty(t testing.TB, memory filesys.FileSystem, layer string) resmap.ResMap {
	t.Helper()
	opts := krusty.MakeDefaultOptions()
	opts.LoadRestrictions = types.LoadRestrictionsNone // replacements are files beside the components
	m, err := krusty.MakeKustomizer(opts).Run(memory, path.Join("/overlay", layer))
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
			for i, b := range builds {
				want := map[string]any{}
				for _, res := range runKrusty(t, memory, b.Layer).Resources() {
					data, err := res.AsYAML()
					g.Expect(err).NotTo(HaveOccurred())
					want[res.GetKind()+"/"+res.GetName()] = decode(t, data)
				}
				got := map[string]any{}
				for _, o := range bundle.Layers[i].Objects {
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
				for _, res := range runKrusty(t, memory, l.Name).Resources() {
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
		g.Expect(runKrusty(t, memory, layer).Size()).To(BeNumerically(">", 10))
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
