// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/kyaml/resid"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// target chooses objects as kustomize would, by what its patterns can say without being a regular expression.
type target struct{ v1alpha1.PatchTarget }

// namedBy returns the target that a strategic merge patch names.
func namedBy(patch, metadata map[string]any) (target, error) {
	apiVersion, _ := patch["apiVersion"].(string)
	kind, _ := patch["kind"].(string)
	name, _ := metadata["name"].(string)
	if kind == "" || name == "" {
		return target{}, errors.New("a strategic merge patch needs a target, or a kind and metadata.name")
	}
	group, version := resid.ParseGroupVersion(apiVersion)
	return target{v1alpha1.PatchTarget{
		Group: v1alpha1.PatchPattern(group), Version: v1alpha1.PatchPattern(version),
		Kind: v1alpha1.PatchPattern(kind), Name: v1alpha1.PatchPattern(name),
	}}, nil
}

// String names what is set.
func (t target) String() string {
	var parts []string
	for _, f := range []struct{ name, value string }{
		{"group", string(t.Group)}, {"version", string(t.Version)}, {"kind", string(t.Kind)},
		{"namespace", string(t.Namespace)}, {"name", string(t.Name)},
		{"labelSelector", t.LabelSelector}, {"annotationSelector", t.AnnotationSelector},
	} {
		if f.value != "" {
			parts = append(parts, f.name+" "+f.value)
		}
	}
	return strings.Join(parts, ", ")
}

// choose returns the objects that the target matches.
func (t target) choose(objects []*Object) ([]*Object, error) {
	if len(t.LabelSelector) > v1alpha1.MaxPatchSelector || len(t.AnnotationSelector) > v1alpha1.MaxPatchSelector {
		return nil, fmt.Errorf("a selector may have %d bytes", v1alpha1.MaxPatchSelector)
	}
	byLabel, err := labels.Parse(t.LabelSelector)
	if err != nil {
		return nil, err
	}
	byAnnotation, err := labels.Parse(t.AnnotationSelector)
	if err != nil {
		return nil, err
	}
	var matched []*Object
	for _, o := range objects {
		group, version := resid.ParseGroupVersion(o.APIVersion)
		if matches(t.Kind, o.Kind) && matches(t.Name, o.Name) && matches(t.Namespace, o.Namespace) &&
			matches(t.Group, group) && matches(t.Version, version) &&
			selects(byLabel, o, "labels") && selects(byAnnotation, o, "annotations") {
			matched = append(matched, o)
		}
	}
	return matched, nil
}

// matches tells whether a name is one of a pattern's, which any is of an empty one.
func matches(pattern v1alpha1.PatchPattern, name string) bool {
	if pattern == "" {
		return true
	}
	for one := range strings.SplitSeq(string(pattern), "|") {
		if prefix, ok := strings.CutSuffix(one, ".*"); one == name || ok && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// selects tells whether a selector matches an object's labels or annotations.
func selects(s labels.Selector, o *Object, field string) bool {
	if s.Empty() {
		return true
	}
	set := labels.Set{}
	if n, _ := find(o.node, "metadata", field); n != nil {
		for i := 0; i+1 < len(n.Content); i += 2 {
			set[n.Content[i].Value] = n.Content[i+1].Value
		}
	}
	return s.Matches(set)
}
