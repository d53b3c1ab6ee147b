// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Removals divides those of a repository's existing tenants that are not among the definitions into
// those whose definition is really gone, sorted by name, and those that are kept, with the reason.
// Whether the former may be removed (prune, deletion budget) is not asked here.
//
// A tenant is kept, since its definition may be there and only not be readable, when
//   - a document of its name is there, acceptable or not;
//   - the file that it came from (its path annotation) has any problem;
//   - some problem, in whatever file, belongs to no known tenant: it may hide any of them. A definition
//     can be moved and spoiled in one revision;
//   - no document of any tenant is there at all: an empty directory removes nothing.
func (r *Result) Removals(existing []v1alpha1.Tenant) (remove []string, held map[string]string) {
	held = map[string]string{}
	badFiles := map[string]string{}
	badTenants := map[string]string{}
	hiding := ""
	for _, p := range r.problems {
		note(badFiles, p.file, p.File)
		if p.Tenant != "" {
			note(badTenants, p.Tenant, p.File)
		}
		if p.Tenant == "" && hiding == "" {
			hiding = p.File
		}
	}
	for _, t := range existing {
		if _, defined := slices.BinarySearchFunc(r.Definitions, t.Name, func(d Definition, name string) int {
			return cmp.Compare(d.Tenant.Name, name)
		}); defined {
			continue
		}
		if why := r.keeps(&t, badFiles, badTenants, hiding); why != "" {
			held[t.Name] = why
		} else {
			remove = append(remove, t.Name)
		}
	}
	slices.Sort(remove)
	return remove, held
}

func note(m map[string]string, key, where string) {
	if _, known := m[key]; !known {
		m[key] = where
	}
}

// keeps says why a tenant that is not defined is kept, or "".
func (r *Result) keeps(t *v1alpha1.Tenant, badFiles, badTenants map[string]string, hiding string) string {
	origin := path.Clean(t.Annotations[v1alpha1.PathAnnotation])
	switch {
	case badTenants[t.Name] != "":
		return fmt.Sprintf("its definition has a problem at %s", badTenants[t.Name])
	case r.seen[t.Name] != "":
		return fmt.Sprintf("it is defined at %s", r.seen[t.Name])
	case badFiles[origin] != "":
		return fmt.Sprintf("the file that it came from has a problem at %s", badFiles[origin])
	case hiding != "":
		return fmt.Sprintf("the problem at %s may hide its definition", hiding)
	case len(r.seen) == 0:
		return "no tenant is defined at all"
	default:
		return ""
	}
}
