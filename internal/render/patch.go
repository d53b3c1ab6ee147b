// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/filters/patchjson6902"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/fluxcd/pkg/apis/kustomize"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// patch applies the tenant's own patches to all layers with kustomize's patch filters, and refuses those that
// do more than change objects within the tenant's namespace.
func (b *Bundle) patch(t *v1alpha1.Tenant) error {
	size := 0
	for _, p := range t.Spec.Patches {
		size += len(p.Patch)
	}
	if size > v1alpha1.MaxPatchBytes {
		return &Error{Field: "spec.patches", Err: fmt.Errorf("have %d bytes, at most %d are allowed", size, v1alpha1.MaxPatchBytes)}
	}
	p, err := newPatcher(b, newGuard(t))
	if err != nil {
		return fmt.Errorf("tenant %s: objects to patch: %w", t.Name, err)
	}
	for i, patch := range t.Spec.Patches {
		if err := p.apply(patch); err != nil {
			return &Error{Field: fmt.Sprintf("spec.patches[%d]", i), Err: shorten(err)}
		}
	}
	patched := p.patched
	for _, l := range b.Layers {
		for i := range l.Objects {
			if patched[0] != nil {
				l.Objects[i].node = patched[0]
			}
			patched = patched[1:]
		}
	}
	return nil
}

// maxPatchError is the most bytes of an error that a patch, which may be quoted in it, can cause.
const maxPatchError = 1024

func shorten(err error) error {
	text := err.Error()
	if len(text) <= maxPatchError {
		return err
	}
	return errors.New(strings.ToValidUTF8(text[:maxPatchError], "") + "…")
}

// patcher holds the objects of all layers while they are patched.
type patcher struct {
	guard   guard
	factory *resource.Factory
	state   resmap.ResMap
	// objects before they are patched, what they are to kustomize, and what became of those that are patched.
	objects   []Object
	resources []*resource.Resource
	patched   []*yaml.Node
}

func newPatcher(b *Bundle, g guard) (*patcher, error) {
	p := &patcher{guard: g, factory: provider.NewDefaultDepProvider().GetResourceFactory()}
	var nodes []*kyaml.RNode
	for _, l := range b.Layers {
		for _, o := range l.Objects {
			p.objects = append(p.objects, o)
			nodes = append(nodes, kyaml.NewRNode(o.node).Copy())
		}
	}
	p.patched = make([]*yaml.Node, len(p.objects))
	var err error
	if p.state, err = resmap.NewFactory(p.factory).NewResMapFromRNodeSlice(nodes); err != nil {
		return nil, err
	}
	if p.resources = p.state.Resources(); len(p.resources) != len(p.objects) {
		return nil, fmt.Errorf("kustomize takes %d objects for %d", len(p.objects), len(p.resources))
	}
	return p, nil
}

// apply applies one patch and checks what came of it.
func (p *patcher) apply(patch kustomize.Patch) (err error) {
	// A patch is anybody's text, and the libraries that take it were not written for that.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("kustomize cannot apply it: %v", r)
		}
	}()
	parts, err := p.split(patch)
	if err != nil {
		return err
	}
	touched := map[*resource.Resource]bool{}
	for _, part := range parts {
		matched, err := p.state.Select(*part.target)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if len(matched) == 0 {
			return fmt.Errorf("its target matches no object of the bundle: %s", describe(*part.target))
		}
		for _, r := range matched {
			touched[r] = true
		}
		if err := part.applyTo(p.state, matched); err != nil {
			return err
		}
	}
	return p.check(touched)
}

// part is one patch, a strategic merge patch unless it has operations, and its target.
type part struct {
	target     *types.Selector
	merge      *resource.Resource
	operations string
}

// applyTo applies the patch with kustomize's filters to the objects that its target matched.
func (p part) applyTo(state resmap.ResMap, matched []*resource.Resource) error {
	if p.merge != nil {
		return state.ApplySmPatch(resource.MakeIdSet(matched), p.merge)
	}
	for _, r := range matched {
		if err := r.ApplyFilter(patchjson6902.Filter{Patch: p.operations}); err != nil {
			return fmt.Errorf("%s/%s: %w", r.GetKind(), r.GetName(), err)
		}
	}
	return nil
}

// split reads a patch as a JSON 6902 patch or as one or more strategic merge patches, whose targets, if none is
// given, are the objects that they name.
func (p *patcher) split(patch kustomize.Patch) ([]part, error) {
	var target *types.Selector
	if s := patch.Target; s != nil {
		target = &types.Selector{
			ResId: resid.ResId{
				Gvk:  resid.Gvk{Group: s.Group, Version: s.Version, Kind: s.Kind},
				Name: s.Name, Namespace: s.Namespace,
			},
			AnnotationSelector: s.AnnotationSelector,
			LabelSelector:      s.LabelSelector,
		}
	}
	documents, err := decodeAll(patch.Patch)
	if err != nil {
		return nil, err
	}
	if len(documents) == 0 {
		return nil, errors.New("is empty")
	}
	if documents[0].Kind == yaml.SequenceNode {
		if target == nil {
			return nil, errors.New("a JSON 6902 patch needs a target")
		}
		if len(documents) > 1 {
			return nil, errors.New("a JSON 6902 patch must be one document")
		}
		operations, err := readOperations(patch.Patch)
		if err != nil {
			return nil, err
		}
		return []part{{target: target, operations: operations}}, nil
	}
	if target != nil && len(documents) > 1 {
		return nil, errors.New("a strategic merge patch with a target must be one document")
	}
	var parts []part
	for _, d := range documents {
		if d.Kind != yaml.MappingNode {
			return nil, errors.New("is neither a strategic merge patch nor a list of JSON 6902 operations")
		}
		if ns, _ := find(d, "metadata", "namespace"); ns != nil && ns.Value != p.guard.namespace {
			return nil, fmt.Errorf("metadata.namespace: names namespace %q, the tenant's is %q", ns.Value, p.guard.namespace)
		}
		to := target
		if to == nil {
			if to, err = namedBy(d); err != nil {
				return nil, err
			}
		}
		text, err := yaml.Marshal(d)
		if err != nil {
			return nil, err
		}
		merge, err := p.factory.FromBytes(text)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{target: to, merge: merge})
	}
	return parts, nil
}

// namedBy returns a selector of the object that a strategic merge patch names.
func namedBy(d *yaml.Node) (*types.Selector, error) {
	n := kyaml.NewRNode(d)
	if n.GetKind() == "" || n.GetName() == "" {
		return nil, errors.New("a strategic merge patch needs a target, or a kind and metadata.name")
	}
	group, version := resid.ParseGroupVersion(n.GetApiVersion())
	return &types.Selector{ResId: resid.ResId{
		Gvk:  resid.Gvk{Group: regexp.QuoteMeta(group), Version: regexp.QuoteMeta(version), Kind: regexp.QuoteMeta(n.GetKind())},
		Name: regexp.QuoteMeta(n.GetName()),
	}}, nil
}

// readOperations returns a JSON 6902 patch in the one form of JSON that leaves nothing to the reader: what is
// judged here is what kustomize executes, with no key twice.
func readOperations(text string) (string, error) {
	canonical, err := sigsyaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return "", err
	}
	var operations []map[string]any
	if err := json.Unmarshal(canonical, &operations); err != nil {
		return "", fmt.Errorf("is not a list of JSON 6902 operations: %w", err)
	}
	for i, operation := range operations {
		// A copy can double an object each time, so that a short patch would fill the memory.
		switch operation["op"] {
		case "add", "remove", "replace", "move", "test":
		default:
			return "", fmt.Errorf("operation %d must be add, remove, replace, move or test", i)
		}
	}
	// JSON's own decoder ignores the case of a struct's keys, so only the exact ones are passed on.
	for i, operation := range operations {
		for key := range operation {
			if !slices.Contains([]string{"op", "path", "from", "value"}, key) {
				return "", fmt.Errorf("operation %d has the key %q: only op, path, from and value are known", i, key)
			}
		}
	}
	canonical, err = json.Marshal(operations)
	return string(canonical), err
}

// decodeAll reads the YAML documents of a text. Anchors are refused: an alias can stand for any amount of text.
func decodeAll(text string) ([]*yaml.Node, error) {
	var documents []*yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var d yaml.Node
		switch err := decoder.Decode(&d); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		}
		if hasAnchor(&d) {
			return nil, errors.New("YAML anchors and aliases are not allowed in a patch")
		}
		if root := d.Content[0]; root.Tag != "!!null" {
			documents = append(documents, root)
		}
	}
}

func hasAnchor(n *yaml.Node) bool {
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		return true
	}
	for _, child := range n.Content {
		if hasAnchor(child) {
			return true
		}
	}
	return false
}

// describe names the parts of a selector that are set.
func describe(s types.Selector) string {
	var parts []string
	for _, field := range []struct{ name, value string }{
		{"group", s.Group}, {"version", s.Version}, {"kind", s.Kind}, {"namespace", s.Namespace}, {"name", s.Name},
		{"labelSelector", s.LabelSelector}, {"annotationSelector", s.AnnotationSelector},
	} {
		if field.value != "" {
			parts = append(parts, field.name+" "+field.value)
		}
	}
	return strings.Join(parts, ", ")
}

// check compares the objects that a patch touched with what they were before any patch, and keeps them.
func (p *patcher) check(touched map[*resource.Resource]bool) error {
	patched := p.state.Resources()
	if len(patched) != len(p.objects) {
		for i, o := range p.objects {
			if i >= len(patched) || patched[i].GetKind() != o.Kind || patched[i].GetName() != o.Name {
				return fmt.Errorf("%s/%s: a patch may not add or remove an object", o.Kind, o.Name)
			}
		}
	}
	for i, r := range patched {
		if !touched[r] && r == p.resources[i] {
			continue
		}
		if kind := p.objects[i].Kind; !slices.Contains(openKinds, kind) {
			err := fmt.Errorf("%s/%s: a patch may not touch any %s: choose a target that does not match it", kind, p.objects[i].Name, kind)
			if instead := insteadOf[kind]; instead != "" {
				err = fmt.Errorf("%w; %s", err, instead)
			}
			return err
		}
		var err error
		if p.patched[i], err = p.checkObject(p.objects[i], r); err != nil {
			return fmt.Errorf("%s/%s: %w", p.objects[i].Kind, p.objects[i].Name, err)
		}
	}
	return nil
}

func (p *patcher) checkObject(before Object, r *resource.Resource) (*yaml.Node, error) {
	r.RemoveBuildAnnotations()
	data, err := r.AsYAML()
	if err != nil {
		return nil, err
	}
	node, err := kyaml.Parse(string(data))
	if err != nil {
		return nil, err
	}
	now := Object{APIVersion: node.GetApiVersion(), Kind: node.GetKind(), Namespace: node.GetNamespace(), Name: node.GetName()}
	if was := (Object{APIVersion: before.APIVersion, Kind: before.Kind, Namespace: before.Namespace, Name: before.Name}); now != was {
		return nil, fmt.Errorf("a patch may not change an object's apiVersion, kind, name or namespace (to %s %s %s/%s)",
			now.APIVersion, now.Kind, now.Namespace, now.Name)
	}
	if err := p.guard.compare(p.guard.facts(before.Kind, before.node), p.guard.facts(before.Kind, node.YNode())); err != nil {
		return nil, err
	}
	if before.Kind == "Deployment" {
		if err := comparePods(before.node, node.YNode()); err != nil {
			return nil, err
		}
	}
	return node.YNode(), nil
}
