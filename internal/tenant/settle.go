// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"slices"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// contender is a tenant with what it claims: by its new definition until that is refused, and from
// then on by the one that it was held with, if any.
type contender struct {
	held       *v1alpha1.Tenant
	definition *candidate
	heldClaims map[int]string
	newClaims  map[int]string
	order      int // held ones by age, then new ones by file and line
}

func (c *contender) claims() map[int]string {
	if c.definition != nil {
		return c.newClaims
	}
	return c.heldClaims
}

// precedes tells which of two contenders gets something that both claim. What is held by a tenant
// whose definition stays is not to be had; then who held it before keeps it; then order decides.
func (c *contender) precedes(other *contender, thing int) bool {
	rank := func(c *contender) int {
		if c.definition == nil {
			return 0
		}
		if _, held := c.heldClaims[thing]; held {
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(c), rank(other)), cmp.Compare(c.order, other.order)) < 0
}

// settleClaims accepts the definitions whose claims can all be granted at once, and reports the
// others. Tenants count by their new definitions, so two may swap hosts in one revision. A definition
// that is refused puts its tenant back to what it held, which may refuse others; so this goes on until
// nothing changes. Each round refuses at least one definition, and never takes a refusal back.
func (l *loader) settleClaims(candidates []*candidate) []Definition {
	contenders, things := l.contenders(candidates)
	winners := make([]*contender, len(things))
	for {
		clear(winners)
		for _, c := range contenders {
			for thing := range c.claims() {
				if w := winners[thing]; w == nil || c.precedes(w, thing) {
					winners[thing] = c
				}
			}
		}
		refused := losers(contenders, winners)
		if len(refused) == 0 {
			break
		}
		for _, c := range refused {
			l.reportConflicts(c, winners, things)
		}
		for _, c := range refused {
			c.definition = nil
		}
	}
	var definitions []Definition
	for _, c := range contenders {
		if d := c.definition; d != nil {
			definitions = append(definitions, Definition{Tenant: d.tenant, File: d.doc.file, Line: d.doc.line})
		}
	}
	return definitions
}

// losers returns the contenders whose definitions are to be refused: those that lose something to one
// that loses nothing. The others wait, since who they lose to may be refused too; where all lose to
// each other, all are refused.
func losers(contenders, winners []*contender) []*contender {
	lost := map[*contender]bool{}
	for _, c := range contenders {
		for thing := range c.claims() {
			if c.definition != nil && winners[thing] != c {
				lost[c] = true
			}
		}
	}
	var first, all []*contender
	for _, c := range contenders {
		if !lost[c] {
			continue
		}
		all = append(all, c)
		for thing := range c.claims() {
			if w := winners[thing]; w != c && !lost[w] {
				first = append(first, c)
				break
			}
		}
	}
	if len(first) > 0 {
		return first
	}
	return all
}

// contenders pairs the tenants that are held with their new definitions, and numbers what is claimed.
func (l *loader) contenders(candidates []*candidate) ([]*contender, []claim) {
	numbers := map[claim]int{}
	var things []claim
	number := func(t *v1alpha1.Tenant) map[int]string {
		out := map[int]string{}
		for c, field := range claims(t) {
			n, known := numbers[c]
			if !known {
				n = len(things)
				numbers[c] = n
				things = append(things, c)
			}
			out[n] = field
		}
		return out
	}
	var contenders []*contender
	byName := map[string]*contender{}
	for i, t := range byAge(l.opts.Held) {
		c := &contender{held: t, heldClaims: number(t), order: i}
		contenders = append(contenders, c)
		if l.held[t.Name] == t {
			byName[t.Name] = c
		}
	}
	sorted := slices.SortedFunc(slices.Values(candidates), func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.doc.file, b.doc.file), cmp.Compare(a.doc.line, b.doc.line))
	})
	for _, d := range sorted {
		c := byName[d.tenant.Name]
		if c == nil {
			c = &contender{order: len(contenders)}
			contenders = append(contenders, c)
		}
		c.definition, c.newClaims = d, number(d.tenant)
	}
	return contenders, things
}

// reportConflicts reports what a contender does not get.
func (l *loader) reportConflicts(c *contender, winners []*contender, things []claim) {
	doc := c.definition.doc
	for thing, field := range c.newClaims {
		w := winners[thing]
		if w == c {
			continue
		}
		holder, where := w.held, ""
		if w.definition != nil {
			holder, where = w.definition.tenant, " (at "+w.definition.doc.place()+")"
		}
		conflict := newConflict(c.definition.tenant, holder, things[thing], field)
		line, value, complete := doc.root.find(field)
		if c.definition.class != nil {
			where += c.definition.class.contribution(field, value, complete)
		}
		l.report(doc.file, max(line, doc.line), conflict.Tenant.Name, field, v1alpha1.ConflictReason, conflict.Message+where)
	}
}
