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
//   - the file that it came from (its path annotation), or another that is named after it, has any problem;
//   - some problem that belongs to no known tenant is in a file that may hold its definition. That is any file that was
//     not read, one that speaks of the tenant, one with a document beside others that has no name, and one that is named
//     after no tenant that exists: a definition can be moved and spoiled in one revision;
//   - no document of any tenant is there at all: an empty directory removes nothing.
//
// So a mistake in bhs.yaml holds back bhs, and no other.
func (r *Result) Removals(existing []v1alpha1.Tenant) (remove []string, held map[string]string) {
	held = map[string]string{}
	for _, t := range existing {
		if r.defines(t.Name) {
			continue
		}
		if why := r.keeps(&t); why != "" {
			held[t.Name] = why
		} else {
			remove = append(remove, t.Name)
		}
	}
	slices.Sort(remove)
	return remove, held
}

// keeps says why a tenant that is not defined is kept, or "".
func (r *Result) keeps(t *v1alpha1.Tenant) string {
	origin := path.Clean(t.Annotations[v1alpha1.PathAnnotation])
	first := func(format string, is func(p *located) bool) string {
		if i := slices.IndexFunc(r.problems, func(p located) bool { return is(&p) }); i >= 0 {
			return fmt.Sprintf(format, r.problems[i].File)
		}
		return ""
	}
	why := first("its definition has a problem at %s", func(p *located) bool { return p.Tenant == t.Name })
	if why == "" && r.seen[t.Name] != "" {
		why = fmt.Sprintf("it is defined at %s", r.seen[t.Name])
	}
	why = cmp.Or(why,
		first("the file that it came from has a problem at %s", func(p *located) bool { return p.file == origin }),
		first("the file that is named after it has a problem at %s", func(p *located) bool { return stem(p.file) == t.Name }),
		first("the problem at %s may hide its definition", func(p *located) bool { return p.Tenant == "" && r.mayHide(p, t.Name) }))
	if why == "" && len(r.seen) == 0 {
		why = "no tenant is defined at all"
	}
	return why
}

// mayHide tells whether a file with a problem may hold the definition of a tenant.
func (r *Result) mayHide(p *located, name string) bool {
	if p.unread || r.nameless[p.file] || r.mentions[p.file][name] {
		return true
	}
	return !Within(r.classPath, p.file) && !r.existing[stem(p.file)] && !r.defines(stem(p.file))
}
