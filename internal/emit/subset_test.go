// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/emit"
)

func TestSubset(t *testing.T) {
	type m = map[string]any
	type l = []any
	for name, tc := range map[string]struct {
		desired, live m
		want          string
	}{
		"equal":                 {m{"a": "b"}, m{"a": "b"}, ""},
		"live has more":         {m{"a": m{"b": "c"}}, m{"a": m{"b": "c", "d": "e"}, "f": int64(1)}, ""},
		"nothing desired":       {m{}, m{"a": "b"}, ""},
		"no live object":        {m{"a": "b"}, nil, ".a"},
		"another value":         {m{"a": m{"b": "c"}}, m{"a": m{"b": "d"}}, ".a.b"},
		"missing":               {m{"a": m{"b": "c"}}, m{"a": m{}}, ".a.b"},
		"another type":          {m{"a": "1"}, m{"a": int64(1)}, ".a"},
		"map became a text":     {m{"a": m{"b": "c"}}, m{"a": "b"}, ".a"},
		"empty map is absence":  {m{"a": m{}}, m{}, ""},
		"empty list is absence": {m{"a": l{}}, m{}, ""},
		"false is not absence":  {m{"a": false}, m{}, ".a"},
		"equal list":            {m{"a": l{"b", "c"}}, m{"a": l{"b", "c"}}, ""},
		"longer list":           {m{"a": l{"b"}}, m{"a": l{"b", "c"}}, ".a"},
		"list in another order": {m{"a": l{"b", "c"}}, m{"a": l{"c", "b"}}, ".a[0]"},
		"list became a text":    {m{"a": l{"b"}}, m{"a": "b"}, ".a"},
		"field added in a list": {m{"a": l{m{"b": "c"}}}, m{"a": l{m{"b": "c", "d": "e"}}}, ""},
		"field changed in one":  {m{"a": l{m{"b": "c"}}}, m{"a": l{m{"b": "x"}}}, ".a[0].b"},
		"first of differences":  {m{"b": "1", "a": "1", "c": "1"}, m{}, ".a"},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(emit.Subset(tc.desired, tc.live)).To(Equal(tc.want))
		})
	}
}

func TestAdded(t *testing.T) {
	type m = map[string]any
	desired := m{"spec": m{"path": "./dependency", "prune": true}}
	for name, tc := range map[string]struct {
		live m
		want []string
	}{
		"nothing":             {m{"spec": m{"path": "./dependency", "prune": true}}, nil},
		"changed, not added":  {m{"spec": m{"path": "./elsewhere"}}, nil},
		"added":               {m{"spec": m{"path": "./dependency", "targetNamespace": "default", "force": true}}, []string{"force", "targetNamespace"}},
		"defaults that are 0": {m{"spec": m{"force": false, "namePrefix": "", "timeout": nil}}, nil},
		"suspended":           {m{"spec": m{"suspend": true}}, nil},
		"outside of the spec": {m{"status": m{"a": "b"}, "metadata": m{"labels": m{"c": "d"}}}, nil},
		"no spec":             {m{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(emit.Added(desired, tc.live)).To(Equal(tc.want))
		})
	}
}
