// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// contender is a tenant with what it claims: by its new definition until that is refused, and from
// then on by the one that it was held with, if any.
type contender struct {
	held       *v1alpha1.Tenant
	definition *candidate
	heldClaims map[int]made
	newClaims  map[int]made
	order      int // held ones by age, then new ones by file and line
}

func (c *contender) claims() map[int]made {
	if c.definition != nil {
		return c.newClaims
	}
	return c.heldClaims
}

// had tells whether a contender held a thing before, with all below it where that is asked.
func (c *contender) had(thing int, covering bool) bool {
	was, held := c.heldClaims[thing]
	return held && (was.covers || !covering)
}

// nests tells whether a contender's class permits it hosts below another's domain.
func (c *contender) nests() bool {
	return c.definition != nil && c.definition.class != nil && c.definition.class.allowsNestedDomains()
}

// claimed is a thing that a contender claims. covering tells that all below it counts here.
type claimed struct {
	by       *contender
	thing    int
	covering bool
}

// precedes tells which of two contenders gets what both claim. What is held by a tenant
// whose definition stays is not to be had; then who held it before keeps it; then order decides.
func (c claimed) precedes(other claimed) bool {
	rank := func(c claimed) int {
		switch {
		case c.by.definition == nil:
			return 0
		case c.by.had(c.thing, c.covering):
			return 1
		default:
			return 2
		}
	}
	return cmp.Or(cmp.Compare(rank(c), rank(other)), cmp.Compare(c.by.order, other.by.order)) < 0
}

// contest is a round of settling claims.
type contest struct {
	contenders []*contender
	things     []claim
	numbers    map[claim]int
	above      [][]int        // thing → the things that it is below
	below      [][]int        // thing → the things below it
	holders    [][]*contender // thing → who claims it
	winners    []*contender   // thing → who of those precedes the others
}

// start takes stock of who claims what.
func (s *contest) start() {
	clear(s.winners)
	for i := range s.holders {
		s.holders[i] = s.holders[i][:0]
	}
	for _, c := range s.contenders {
		for thing := range c.claims() {
			s.holders[thing] = append(s.holders[thing], c)
			if w := s.winners[thing]; w == nil || (claimed{c, thing, false}).precedes(claimed{w, thing, false}) {
				s.winners[thing] = c
			}
		}
	}
}

// rival returns who a contender loses a thing to, and what that one has: the thing itself, one that it is below, or one
// below it. It is nil where the contender wins.
//
// Who had both before keeps both: a tenant that was below another's domain, which its class or an administrator
// permitted once, takes nothing from it.
func (s *contest) rival(c *contender, thing int) (*contender, int) {
	if w := s.winners[thing]; w != c {
		return w, thing
	}
	var best claimed
	consider := func(mine, theirs claimed, upper, lower claimed) {
		nested := s.things[lower.thing].kind == hostClaim && lower.by.nests()
		both := upper.by.had(upper.thing, true) && lower.by.had(lower.thing, false)
		if theirs.by != c && !nested && !both && theirs.precedes(mine) && (best.by == nil || theirs.precedes(best)) {
			best = theirs
		}
	}
	for _, upper := range s.above[thing] {
		for _, w := range s.holders[upper] {
			if w.claims()[upper].covers {
				mine, theirs := claimed{c, thing, false}, claimed{w, upper, true}
				consider(mine, theirs, theirs, mine)
			}
		}
	}
	if c.claims()[thing].covers {
		for _, lower := range s.below[thing] {
			for _, w := range s.holders[lower] {
				mine, theirs := claimed{c, thing, true}, claimed{w, lower, false}
				consider(mine, theirs, mine, theirs)
			}
		}
	}
	return best.by, best.thing
}

// settleClaims accepts the definitions whose claims can all be granted at once, and reports the
// others. Tenants count by their new definitions, so two may swap hosts in one revision. A definition
// that is refused puts its tenant back to what it held, which may refuse others; so this goes on until
// nothing changes. Each round refuses at least one definition, and never takes a refusal back.
func (l *loader) settleClaims(candidates []*candidate) []Definition {
	s := l.contest(candidates)
	for {
		s.start()
		refused := s.losers()
		if len(refused) == 0 {
			break
		}
		for _, c := range refused {
			l.reportConflicts(c, s)
		}
		for _, c := range refused {
			c.definition = nil
		}
	}
	var definitions []Definition
	for _, c := range s.contenders {
		if d := c.definition; d != nil {
			definition := Definition{Tenant: d.tenant, File: d.doc.file, Line: d.doc.line}
			if d.class != nil {
				definition.ClassFile = d.class.doc.file
			}
			definitions = append(definitions, definition)
		}
	}
	return definitions
}

// losers returns the contenders whose definitions are to be refused: those that lose something to one
// that loses nothing. The others wait, since who they lose to may be refused too; where all lose to
// each other, all are refused.
func (s *contest) losers() []*contender {
	rivals := map[*contender][]*contender{}
	var all []*contender
	for _, c := range s.contenders {
		if c.definition == nil {
			continue
		}
		for thing := range c.claims() {
			if w, _ := s.rival(c, thing); w != nil {
				rivals[c] = append(rivals[c], w)
			}
		}
		if len(rivals[c]) > 0 {
			all = append(all, c)
		}
	}
	var first []*contender
	for _, c := range all {
		if slices.ContainsFunc(rivals[c], func(w *contender) bool { return len(rivals[w]) == 0 }) {
			first = append(first, c)
		}
	}
	if len(first) > 0 {
		return first
	}
	return all
}

// contest pairs the tenants that are held with their new definitions, and numbers what is claimed.
func (l *loader) contest(candidates []*candidate) *contest {
	s := &contest{numbers: map[claim]int{}}
	number := func(t *v1alpha1.Tenant) map[int]made {
		out := map[int]made{}
		all := claims(t)
		for _, c := range byLength(all) {
			n, known := s.numbers[c]
			if !known {
				n = len(s.things)
				s.numbers[c] = n
				s.things = append(s.things, c)
			}
			out[n] = all[c]
		}
		return out
	}
	byName := map[string]*contender{}
	for i, t := range byAge(l.opts.Held) {
		c := &contender{held: t, heldClaims: number(t), order: i}
		s.contenders = append(s.contenders, c)
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
			c = &contender{order: len(s.contenders)}
			s.contenders = append(s.contenders, c)
		}
		c.definition, c.newClaims = d, number(d.tenant)
	}
	s.above, s.below = make([][]int, len(s.things)), make([][]int, len(s.things))
	s.holders, s.winners = make([][]*contender, len(s.things)), make([]*contender, len(s.things))
	for i, thing := range s.things {
		for _, parent := range thing.parents() {
			if p, known := s.numbers[parent]; known {
				s.above[i] = append(s.above[i], p)
				s.below[p] = append(s.below[p], i)
			}
		}
	}
	return s
}

// reportConflicts reports what a contender does not get.
func (l *loader) reportConflicts(c *contender, s *contest) {
	doc, t := c.definition.doc, c.definition.tenant
	told := map[string]bool{}
	all := claims(t)
	for _, what := range byLength(all) {
		how := all[what]
		thing := s.numbers[what]
		w, theirs := s.rival(c, thing)
		// What follows from a field, such as the DICOM host from the domain, is told with it.
		if w == nil || told[fmt.Sprint(how.field, w.order)] {
			continue
		}
		told[fmt.Sprint(how.field, w.order)] = true
		holder, where := w.held, ""
		if w.definition != nil {
			holder, where = w.definition.tenant, " (at "+w.definition.doc.place()+")"
		}
		line, value, complete := doc.root.find(how.field)
		if c.definition.class != nil {
			where += c.definition.class.contribution(how.field, value, complete)
		}
		l.report(doc.file, max(line, doc.line), t.Name, how.field, v1alpha1.ConflictReason, s.describe(t, holder, thing, theirs, how.field)+where)
	}
}

// describe says what keeps a tenant from what it claims.
func (s *contest) describe(t, holder *v1alpha1.Tenant, mine, theirs int, field string) string {
	thing, other, name := s.things[mine], s.things[theirs], nameFor(t, holder)
	switch {
	case mine == theirs:
		return newConflict(t, holder, thing, field).Message
	case slices.Contains(s.below[mine], theirs):
		return fmt.Sprintf("%s %s has %s of tenant %s below it: choose another", thing.kind, thing.value, other.value, name)
	case thing.kind == hostClaim:
		what := "a host"
		if other.value == canonicalName(holder.Spec.Domain) {
			what = "the domain"
		}
		return fmt.Sprintf("host %s is below %s, which is %s of tenant %s: choose another, or ask the platform for a class with allowNestedDomains", thing.value, other.value, what, name)
	default:
		return fmt.Sprintf("%s %s is below %s, which is held by tenant %s: choose another", thing.kind, thing.value, other.value, name)
	}
}
