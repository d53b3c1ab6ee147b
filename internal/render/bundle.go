// SPDX-License-Identifier: Apache-2.0

package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// configDigestAnnotation, on the pod template of a workload, is the digest of a ConfigMap, so that a change of it
// rolls the pods. In the bundle bases its value is the ConfigMap's name.
const configDigestAnnotation = v1alpha1.LabelPrefix + "config-digest"

var configDigestPath = []string{"spec", "template", "metadata", "annotations", configDigestAnnotation}

// Bundle is what is rendered for one tenant. It must not be changed: bundles share memory.
type Bundle struct {
	// Layers in the order in which they are applied.
	Layers []Layer
}

// Layer is a directory of the bundle, applied by one Flux Kustomization.
type Layer struct {
	// Name of the layer: dependency or application.
	Name string
	// Objects in the order in which kustomize would apply them.
	Objects []Object

	kustomization []byte
}

// Object is one Kubernetes object.
type Object struct {
	// APIVersion, Kind, Namespace and Name are those of the object.
	APIVersion, Kind, Namespace, Name string

	file string
	node *yaml.Node
}

// YAML returns the object as a YAML document, without a document marker.
func (o Object) YAML() []byte { return appendDocument(nil, o.node) }

// File is a file of the bundle.
type File struct {
	// Path relative to the bundle's root, with slashes.
	Path string
	// Data must not be changed.
	Data []byte
}

// Files returns the files of the bundle, sorted by path: for each layer a kustomization.yaml and one file for each
// object, named <kind>-<name>.yaml.
func (b *Bundle) Files() ([]File, error) {
	count := 0
	for _, l := range b.Layers {
		count += len(l.Objects) + 1
	}
	files := make([]File, 0, count)
	// All files share one buffer. Where it has to grow, the earlier ones keep the memory that they have.
	buffer := make([]byte, 0, count*1536)
	for _, l := range b.Layers {
		files = append(files, File{Path: l.Name + "/" + kustomizationFile, Data: l.kustomization})
		for _, o := range l.Objects {
			start := len(buffer)
			buffer = appendDocument(buffer, o.node)
			files = append(files, File{Path: l.Name + "/" + o.file, Data: buffer[start:len(buffer):len(buffer)]})
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// YAML returns all objects as one stream of YAML documents, in the order in which they are applied.
func (b *Bundle) YAML() []byte {
	var out []byte
	for _, l := range b.Layers {
		for _, o := range l.Objects {
			if len(out) > 0 {
				out = append(out, "---\n"...)
			}
			out = appendDocument(out, o.node)
		}
	}
	return out
}

// newLayer returns a layer with its kustomization.yaml. Each object is a file of its own, so no two may have one kind
// and name.
func newLayer(name string, objects []Object) (Layer, error) {
	files := make([]string, len(objects))
	for i, o := range objects {
		files[i] = o.file
	}
	slices.Sort(files)
	resources := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: make([]*yaml.Node, len(files))}
	for i, file := range files {
		if i > 0 && file == files[i-1] {
			return Layer{}, fmt.Errorf("two objects would be file %s", file)
		}
		resources.Content[i] = stringNode(file)
	}
	kustomization := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		stringNode("apiVersion"), stringNode(types.KustomizationVersion),
		stringNode("kind"), stringNode(types.KustomizationKind),
		stringNode("resources"), resources,
	}}
	return Layer{Name: name, Objects: objects, kustomization: appendDocument(nil, kustomization)}, nil
}

// instantiate appends a tenant's objects.
func (v *variant) instantiate(objects []Object, src *source) ([]Object, error) {
	values := make([]*yaml.Node, len(v.fields))
	for i, f := range v.fields {
		var err error
		if values[i], err = src.get(f); err != nil {
			return nil, err
		}
	}
	objects = slices.Grow(objects, len(v.objects))
	for _, p := range v.objects {
		node, err := p.set.apply(p.node, values)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", p.Kind, p.Name, err)
		}
		o := p.Object
		o.Namespace, o.node = src.namespace, node
		if name, _ := find(node, "metadata", "name"); name != nil {
			o.Name = name.Value
		}
		o.file = strings.ToLower(o.Kind) + "-" + o.Name + ".yaml"
		objects = append(objects, o)
	}
	return objects, nil
}

// addMetadata adds a TenantRepository's common metadata to every object. What the bundle itself sets stays.
func (l *Layer) addMetadata(labels, annotations []*yaml.Node) {
	for _, o := range l.Objects {
		metadata := own(o.node, "metadata")
		if len(labels) > 0 {
			addEntries(own(metadata, "labels"), labels)
		}
		if len(annotations) > 0 {
			addEntries(own(metadata, "annotations"), annotations)
		}
	}
}

// entries returns the keys and values of a map, sorted by key, as a mapping's content.
func entries(m map[string]string) []*yaml.Node {
	content := make([]*yaml.Node, 0, 2*len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		content = append(content, stringNode(key), stringNode(m[key]))
	}
	return content
}

// own makes a field of a mapping that may be shared between tenants this mapping's own, and returns it. A missing
// field becomes an empty mapping.
func own(n *yaml.Node, name string) *yaml.Node {
	field := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if old, at := find(n, name); old != nil {
		*field = *old
		field.Content = slices.Clone(old.Content)
		n.Content[at[0]] = field
	} else {
		insert(n, stringNode(name), field)
	}
	return field
}

// addEntries adds the entries that a mapping lacks.
func addEntries(n *yaml.Node, content []*yaml.Node) {
	n.Content = slices.Grow(n.Content, len(content))
	for i := 0; i < len(content); i += 2 {
		if old, _ := find(n, content[i].Value); old == nil {
			insert(n, content[i], content[i+1])
		}
	}
}

// insert adds an entry to a mapping with sorted keys.
func insert(n, key, value *yaml.Node) {
	at := 0
	for at < len(n.Content) && n.Content[at].Value < key.Value {
		at += 2
	}
	n.Content = slices.Insert(n.Content, at, key, value)
}

// setConfigDigests puts the digest of each configuration on the pod templates that name it.
func (l *Layer) setConfigDigests() {
	for _, o := range l.Objects {
		annotation, _ := find(o.node, configDigestPath...)
		if annotation == nil {
			continue
		}
		for _, c := range l.Objects {
			if c.Kind == "ConfigMap" && c.Name == annotation.Value {
				annotation.Value = configDigest(c.node)
				break
			}
		}
	}
}

// configDigest is the digest of a ConfigMap's data.
func configDigest(configMap *yaml.Node) string {
	hash := sha256.New()
	if data, _ := find(configMap, "data"); data != nil {
		for _, n := range data.Content {
			fmt.Fprintf(hash, "%d:%s", len(n.Value), n.Value)
		}
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}
