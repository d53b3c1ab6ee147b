// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"slices"
	"strings"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// unknownFields returns an error for each field that the schema does not have.
func unknownFields(n *node, s structuralschema.Structural, at *field.Path) field.ErrorList {
	if n == nil {
		return nil
	}
	var errs field.ErrorList
	switch {
	case n.index != nil && s.Properties != nil:
		var known []string
		for name := range s.Properties {
			known = append(known, name)
		}
		errs = unknownKeys(n, at, known)
		for _, e := range n.entries {
			if property, ok := s.Properties[e.key]; ok {
				errs = append(errs, unknownFields(e.value, property, at.Child(e.key))...)
			}
		}
	case n.index != nil && s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil:
		for _, e := range n.entries {
			errs = append(errs, unknownFields(e.value, *s.AdditionalProperties.Structural, at.Key(e.key))...)
		}
	case n.index == nil && s.Items != nil:
		for i, e := range n.entries {
			errs = append(errs, unknownFields(e.value, *s.Items, at.Index(i))...)
		}
	}
	return errs
}

// unknownKeys returns an error for each key of a mapping that is not among the known ones.
func unknownKeys(n *node, at *field.Path, known []string) field.ErrorList {
	if n == nil {
		return nil
	}
	var errs field.ErrorList
	for _, e := range n.entries {
		if n.index == nil || slices.Contains(known, e.key) {
			continue
		}
		path := field.NewPath(e.key)
		if at != nil {
			path = at.Child(e.key)
		}
		message := fmt.Sprintf("unknown field %s", path)
		if near := nearest(e.key, known); near != "" {
			message += fmt.Sprintf(", did you mean %s?", near)
		} else {
			message += ": remove it"
		}
		errs = append(errs, field.Forbidden(path, message))
	}
	return errs
}

// nearest returns the name that is most like another, the first of several in order of the alphabet,
// or "" where none is like it: more than a third of it would have to change.
func nearest(name string, known []string) string {
	if len(name) > 100 {
		return ""
	}
	best, least := "", max(2, len(name)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of insertions, deletions and substitutions that make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, substitution)
		}
	}
	return row[len(b)]
}
