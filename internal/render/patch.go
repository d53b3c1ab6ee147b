// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/kustomize/kyaml/yaml/merge2"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// The bounds of what patches cost. What does not fit is refused before anything is applied.
const (
	// maxPatchDepth is how deep a patch may be nested.
	maxPatchDepth = 32
	// maxPatchValues is how many keys and values the patch may have.
	maxPatchValues = 4096
	// maxPatchedObjects is how often an object may be patched, by all patches together. A strategic merge, which looks at
	// the whole object and at Kubernetes' schema, counts as mergeWeight.
	maxPatchedObjects = 480
	mergeWeight       = 40
	// maxPatchWork bounds the bytes of a patch times the objects that it is applied to, of all patches together.
	maxPatchWork = 64 << 10
	// maxPatchError is the most bytes of an error that a patch, which may be quoted in it, can cause.
	maxPatchError = 1024
)

// patch applies the tenant's own patches to all layers as kustomize would, and refuses those that the guard does not
// know as harmless.
func (b *Bundle) patch(t *v1alpha1.Tenant) error {
	size := 0
	for _, p := range t.Spec.Patches {
		size += len(p.Patch)
	}
	if n := len(t.Spec.Patches); n > v1alpha1.MaxPatches || size > v1alpha1.MaxPatchBytes {
		return &Error{Field: "spec.patches", Err: fmt.Errorf("are %d with %d bytes: at most %d with %d bytes are allowed",
			n, size, v1alpha1.MaxPatches, v1alpha1.MaxPatchBytes)}
	}
	p := patcher{namespace: t.Spec.Namespace, objects: map[*Object]*patched{}}
	for _, l := range b.Layers {
		for i := range l.Objects {
			p.all = append(p.all, &l.Objects[i])
		}
	}
	for i, patch := range t.Spec.Patches {
		if err := p.apply(patch); err != nil {
			return &Error{Field: fmt.Sprintf("spec.patches[%d]", i), Err: shorten(err)}
		}
	}
	for o, after := range p.objects {
		node, err := valueNode(after.now)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", o.Kind, o.Name, err)
		}
		o.node = node
	}
	return nil
}

func shorten(err error) error {
	text := err.Error()
	if len(text) <= maxPatchError {
		return err
	}
	return errors.New(strings.ToValidUTF8(text[:maxPatchError], "") + "…")
}

// patcher patches the objects of all layers.
type patcher struct {
	namespace string
	all       []*Object
	// objects that have been patched.
	objects map[*Object]*patched
	// count of the times that an object was patched, and the bytes of patches for each.
	count, work int
}

// patched is an object before all patches and now, as decoded JSON.
type patched struct{ before, now map[string]any }

// apply applies one patch and checks what came of it.
func (p *patcher) apply(patch v1alpha1.Patch) (err error) {
	// The libraries that take a patch were not written for anybody's text.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be applied: %v", r)
		}
	}()
	parts, err := p.split(patch)
	if err != nil {
		return err
	}
	for _, part := range parts {
		matched, err := part.target.choose(p.all)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if len(matched) == 0 {
			return fmt.Errorf("its target matches no object of the bundle: %s", part.target)
		}
		for _, o := range matched {
			if err := checkKind(o); err != nil {
				return err
			}
		}
		if part.merge != nil {
			p.count += len(matched) * mergeWeight
		} else {
			p.count += len(matched)
		}
		p.work += len(matched) * part.size
		if p.count > maxPatchedObjects || p.work > maxPatchWork {
			return fmt.Errorf("is too much work: all patches together may be applied to %d objects, of which strategic merge patches to %d, and have %d bytes "+
				"times the objects: choose a target that matches fewer, or use JSON 6902 operations", maxPatchedObjects, maxPatchedObjects/mergeWeight, maxPatchWork)
		}
		for _, o := range matched {
			if err := p.applyTo(o, part); err != nil {
				return fmt.Errorf("%s/%s: %w", o.Kind, o.Name, err)
			}
		}
	}
	return nil
}

func (p *patcher) applyTo(o *Object, part part) error {
	object := p.objects[o]
	if object == nil {
		before := nodeValue(o.node).(map[string]any)
		object = &patched{before: before, now: before}
	}
	now, err := part.patch(object.now)
	if err != nil {
		return err
	}
	if err := checkChange(o, object.before, now); err != nil {
		return err
	}
	object.now = now
	p.objects[o] = object
	return nil
}

// part is one patch of one target: either a strategic merge patch or JSON 6902 operations.
type part struct {
	target     target
	merge      map[string]any
	operations jsonpatch.Patch
	// size is that of the text in bytes.
	size int
}

// patch returns a patched object. It does not change the object that it is given.
func (p part) patch(object map[string]any) (map[string]any, error) {
	if p.merge != nil {
		return mergeInto(object, p.merge)
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	if data, err = p.operations.Apply(data); err != nil {
		return nil, err
	}
	return decodeObject(data)
}

// mergeInto applies a strategic merge patch with kustomize's own merge. Names and kinds in the patch say which object
// it is for, not what it should become.
func mergeInto(object, patch map[string]any) (map[string]any, error) {
	patchNode, err := valueNode(patch)
	if err != nil {
		return nil, err
	}
	node, err := valueNode(object)
	if err != nil {
		return nil, err
	}
	was, to := kyaml.NewRNode(node), kyaml.NewRNode(patchNode)
	to.SetApiVersion(was.GetApiVersion())
	to.SetKind(was.GetKind())
	if err := errors.Join(to.SetName(was.GetName()), to.SetNamespace(was.GetNamespace())); err != nil {
		return nil, err
	}
	merged, err := merge2.Merge(to, was, kyaml.MergeOptions{ListIncreaseDirection: kyaml.MergeOptionsListPrepend})
	if err != nil {
		return nil, err
	}
	if merged.IsNilOrEmpty() {
		return nil, errors.New("a patch may not remove an object")
	}
	now, ok := nodeValue(merged.YNode()).(map[string]any)
	if !ok {
		return nil, errors.New("is no object any more")
	}
	return now, nil
}

// split reads a patch as a JSON 6902 patch or as one or more strategic merge patches, whose targets, if none is
// given, are the objects that they name.
func (p *patcher) split(patch v1alpha1.Patch) ([]part, error) {
	documents, err := decodeAll(patch.Patch)
	if err != nil {
		return nil, err
	}
	if len(documents) == 0 {
		return nil, errors.New("is empty")
	}
	if documents[0][0] == '[' {
		return splitOperations(patch, documents)
	}
	if patch.Target != nil && len(documents) > 1 {
		return nil, errors.New("a strategic merge patch with a target must be one document")
	}
	var parts []part
	for _, d := range documents {
		merge, err := decodeObject(d)
		if err != nil {
			return nil, errors.New("is neither a strategic merge patch nor a list of JSON 6902 operations")
		}
		if err := checkDirectives(merge); err != nil {
			return nil, err
		}
		metadata, _ := merge["metadata"].(map[string]any)
		if ns, ok := metadata["namespace"]; ok && ns != p.namespace {
			return nil, fmt.Errorf("metadata.namespace: names namespace %q, the tenant's is %q", ns, p.namespace)
		}
		var to target
		if patch.Target != nil {
			to = target{*patch.Target}
		} else if to, err = namedBy(merge, metadata); err != nil {
			return nil, err
		}
		parts = append(parts, part{target: to, merge: merge, size: len(d)})
	}
	return parts, nil
}

// checkDirectives refuses what a strategic merge patch can say beside values, but for the usual: replacing and
// deleting a field or an item of a list.
func checkDirectives(value any) error {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			item := v[key]
			if strings.HasPrefix(key, "$") && (key != "$patch" || item != "delete" && item != "replace" && item != "merge") {
				return fmt.Errorf("%s: the directives of a strategic merge patch are $patch: delete, replace or merge", key)
			}
			if err := checkDirectives(item); err != nil {
				return err
			}
		}
	case []any:
		for _, item := range v {
			if err := checkDirectives(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// operationKeys of JSON 6902. The library ignores the case of others, so only these are passed on.
var operationKeys = map[string]bool{"op": true, "path": true, "value": true}

func splitOperations(patch v1alpha1.Patch, documents [][]byte) ([]part, error) {
	if patch.Target == nil {
		return nil, errors.New("a JSON 6902 patch needs a target")
	}
	if len(documents) > 1 {
		return nil, errors.New("a JSON 6902 patch must be one document")
	}
	var operations []map[string]any
	if err := json.Unmarshal(documents[0], &operations); err != nil {
		return nil, fmt.Errorf("is not a list of JSON 6902 operations: %w", err)
	}
	for i, operation := range operations {
		switch operation["op"] {
		case "add", "remove", "replace", "test":
		default: // copy and move can nest and double what is there
			return nil, fmt.Errorf("operation %d must be add, remove, replace or test", i)
		}
		for _, key := range slices.Sorted(maps.Keys(operation)) {
			if !operationKeys[key] {
				return nil, fmt.Errorf("operation %d has the key %q: only op, path and value are known", i, key)
			}
		}
	}
	decoded, err := jsonpatch.DecodePatch(documents[0])
	if err != nil {
		return nil, err
	}
	return []part{{target: target{*patch.Target}, operations: decoded, size: len(documents[0])}}, nil
}

// decodeAll reads the YAML documents of a text as JSON, which leaves nothing to a reader: what is judged is what is
// applied, and no key is there twice. Anchors are refused: an alias can stand for any amount of text.
func decodeAll(text string) ([][]byte, error) {
	var documents [][]byte
	values := 0
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var d yaml.Node
		switch err := decoder.Decode(&d); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		}
		if err := checkForm(&d, 0, &values); err != nil {
			return nil, err
		}
		if d.Content[0].Tag == "!!null" {
			continue
		}
		data, err := yaml.Marshal(&d)
		if err != nil {
			return nil, err
		}
		if data, err = sigsyaml.YAMLToJSONStrict(data); err != nil {
			return nil, err
		}
		documents = append(documents, data)
	}
}

func checkForm(n *yaml.Node, depth int, values *int) error {
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		return errors.New("YAML anchors and aliases are not allowed in a patch")
	}
	if depth > maxPatchDepth {
		return fmt.Errorf("is nested deeper than %d levels", maxPatchDepth)
	}
	if *values++; *values > maxPatchValues {
		return fmt.Errorf("has more than %d keys and values", maxPatchValues)
	}
	for _, child := range n.Content {
		if err := checkForm(child, depth+1, values); err != nil {
			return err
		}
	}
	return nil
}

// decodeObject decodes JSON, with numbers as they are written.
func decodeObject(data []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, errors.New("is no object")
	}
	return object, nil
}

// nodeValue returns YAML that was built by valueNode or kustomize as decoded JSON. It is valueNode's reverse.
func nodeValue(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = nodeValue(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = nodeValue(item)
		}
		return list
	}
	switch n.Tag {
	case "!!int", "!!float":
		return json.Number(n.Value)
	case "!!bool":
		return n.Value == "true"
	case "!!null":
		return nil
	}
	return n.Value
}
