// SPDX-License-Identifier: Apache-2.0

// Package variants makes the Tenants that tests of bundles go over. It is for tests only, and a package of its own
// because those of the renderer and those on a real apiserver must go over the same ones.
//
// Options that change which objects a bundle has are combined with each other in full. The other options only change
// what is in those objects; each two values of any two options are together in at least one more Tenant.
package variants

import (
	"strings"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Variant is one combination of options.
type Variant struct {
	// Name lists the values that differ from the defaults, such as traefik+s3, or says default.
	Name string

	set []func(*v1alpha1.TenantSpec)
}

// Tenant returns a Tenant of that name with the variant's options and all defaults. Its domain is <name>.example.com.
func (v Variant) Tenant(name string) *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{}
	t.Name, t.Namespace = name, "flux-system"
	t.Spec.Domain = name + ".example.com"
	for _, set := range v.set {
		set(&t.Spec)
	}
	t.SetDefaults()
	return t
}

// All returns the variants, each combination once.
func All() []Variant { return unique(append(product(), pairs()...)) }

// Pairwise returns the few variants in which each two values of any two options meet, for tests that take long.
func Pairwise() []Variant { return unique(pairs()) }

func unique(rows []row) []Variant {
	seen := map[string]bool{}
	var out []Variant
	for _, row := range rows {
		if v := row.variant(); !seen[v.Name] {
			seen[v.Name] = true
			out = append(out, v)
		}
	}
	return out
}

// row is for each axis the index of its value.
type row []int

func (r row) variant() Variant {
	var names []string
	var v Variant
	for i, value := range r {
		if value > 0 {
			names = append(names, axes[i][value].name)
			v.set = append(v.set, axes[i][value].set)
		}
	}
	v.Name = strings.Join(names, "+")
	if v.Name == "" {
		v.Name = "default"
	}
	return v
}

// valid says whether the values of a row go together.
func (r row) valid() bool {
	for i, value := range r {
		for j, other := range r {
			if axes[i][value].not[axes[j][other].name] {
				return false
			}
		}
	}
	return true
}

// product returns all rows of the values that change which objects there are.
func product() []row {
	rows := []row{make(row, len(axes))}
	for i, axis := range axes {
		var next []row
		for _, r := range rows {
			for value := range axis {
				if value > 0 && !axis[value].objects {
					continue
				}
				with := append(row{}, r...)
				with[i] = value
				if with.valid() {
					next = append(next, with)
				}
			}
		}
		rows = next
	}
	return rows
}

// pair is two values of two axes, the first axis before the second.
type pair struct{ axis1, value1, axis2, value2 int }

// pairs returns rows in which each two values of two axes are together at least once, if they can be. It takes the
// first pair that is missing and adds to it, axis by axis, the value that brings the most that are missing.
func pairs() []row {
	missing := map[pair]bool{}
	var order []pair
	for i := range axes {
		for j := i + 1; j < len(axes); j++ {
			for a := range axes[i] {
				for b := range axes[j] {
					p := pair{i, a, j, b}
					missing[p] = true
					order = append(order, p)
				}
			}
		}
	}
	var rows []row
	for _, p := range order {
		if !missing[p] {
			continue
		}
		r, set := make(row, len(axes)), make([]bool, len(axes))
		r[p.axis1], r[p.axis2] = p.value1, p.value2
		set[p.axis1], set[p.axis2] = true, true
		if !r.valid() {
			continue
		}
		for i := range axes {
			if !set[i] {
				r[i] = best(r, set, i, missing)
				set[i] = true
			}
		}
		for i := range axes {
			for j := i + 1; j < len(axes); j++ {
				delete(missing, pair{i, r[i], j, r[j]})
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// best returns the value of an axis that makes the most missing pairs with the axes that are set.
func best(r row, set []bool, axis int, missing map[pair]bool) int {
	value, most := 0, -1
	for candidate := range axes[axis] {
		with := append(row{}, r...)
		with[axis] = candidate
		if !with.valid() {
			continue
		}
		count := 0
		for other := range axes {
			switch {
			case !set[other]:
			case other < axis && missing[pair{other, r[other], axis, candidate}],
				other > axis && missing[pair{axis, candidate, other, r[other]}]:
				count++
			}
		}
		if count > most {
			value, most = candidate, count
		}
	}
	return value
}
