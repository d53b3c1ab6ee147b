// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"reflect"
	"slices"
)

// Subset says whether live holds every field that desired sets, with the same value. Both are JSON as
// unstructured objects hold it. Fields that only live has are of no interest, except in lists: a list
// must have the same length and its elements are compared in order, because no list that Korthweb sets
// is shared with others.
//
// It returns the path of the first difference, such as .spec.path, or an empty string.
func Subset(desired, live map[string]any) string {
	return subset("", desired, live)
}

func subset(path string, desired, live any) string {
	switch d := desired.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		if !ok && (live != nil || len(d) > 0) {
			return path
		}
		return subsetOfMap(path, d, l)
	case []any:
		l, ok := live.([]any)
		if len(d) != len(l) || !ok && len(d) > 0 {
			return path
		}
		for i := range d {
			if at := subset(fmt.Sprintf("%s[%d]", path, i), d[i], l[i]); at != "" {
				return at
			}
		}
		return ""
	default:
		if !reflect.DeepEqual(desired, live) {
			return path
		}
		return ""
	}
}

func subsetOfMap(path string, desired, live map[string]any) string {
	first := ""
	for key, value := range desired {
		// Map order is random; the smallest path makes the answer the same each time.
		if at := subset(path+"."+key, value, live[key]); at != "" && (first == "" || at < first) {
			first = at
		}
	}
	return first
}

// Added returns the fields of live's spec that desired does not set and that say something, sorted.
// Whoever adds one, such as targetNamespace to a Kustomization, changes what it does. One is left:
// suspend, by which a person stops Flux for a while.
func Added(desired, live map[string]any) []string {
	d, _ := desired["spec"].(map[string]any)
	l, _ := live["spec"].(map[string]any)
	var fields []string
	for field, value := range l {
		if _, set := d[field]; set || field == "suspend" || value == nil || reflect.ValueOf(value).IsZero() {
			continue
		}
		fields = append(fields, field)
	}
	slices.Sort(fields)
	return fields
}
