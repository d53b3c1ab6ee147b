// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxValues bounds the values of one document after its aliases are expanded. A tenant with
	// 200 modalities has about 1,100.
	maxValues = 5_000

	// maxEntries bounds the keys of one mapping and the items of one list. The longest list of the API has
	// 200. More are refused before the schema is asked, whose validator compares each mistake with all others.
	maxEntries = 256

	// maxDepth bounds the nesting of one document. The API nests seven levels deep.
	maxDepth = 32

	// maxFindings bounds the mistakes that are told of one document.
	maxFindings = 10
)

// node is a YAML value with the lines of its parts. Nodes that come from one anchor are shared, so
// a tree takes no more memory than its text, however often an alias repeats.
type node struct {
	kind    yaml.Kind // MappingNode, SequenceNode or ScalarNode
	entries []entry
	index   map[string]int // of a mapping: key → entries
	scalar  any            // string, int64, float64, bool or nil
	text    string         // of a scalar, as written
	size    int            // number of values when aliases are expanded, up to maxValues+1
	height  int            // levels below, aliases expanded
}

// entry is a field of a mapping or an item of a sequence.
type entry struct {
	key   string
	line  int // of the key, or of the item
	value *node
}

// get returns a field of a mapping, and nil where there is none.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	if i, ok := n.index[key]; ok {
		return n.entries[i].value
	}
	return nil
}

// str returns the string that a field holds, and "" where it holds none.
func (n *node) str(key string) string {
	s, _ := n.get(key).leaf().(string)
	return s
}

func (n *node) leaf() any {
	if n == nil {
		return nil
	}
	return n.scalar
}

// isNull tells whether there is nothing: no field, or a null.
func (n *node) isNull() bool {
	return n == nil || n.kind == yaml.ScalarNode && n.scalar == nil
}

// isList tells whether the node is a list.
func (n *node) isList() bool { return n.kind == yaml.SequenceNode }

// value returns the node as JSON values, in copies that share nothing.
func (n *node) value() any {
	switch n.kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			m[e.key] = e.value.value()
		}
		return m
	case yaml.SequenceNode:
		s := make([]any, len(n.entries))
		for i, e := range n.entries {
			s[i] = e.value.value()
		}
		return s
	default:
		return n.scalar
	}
}

// find follows a field path such as spec.orthanc.modalities[2].aeTitle or metadata.labels[a/b] and
// returns the line of the deepest part that is there, its value, and whether that is all of the path.
func (n *node) find(path string) (line int, value *node, complete bool) {
	for path != "" {
		e, rest := n.step(path)
		if e == nil {
			return line, n, false
		}
		line, n, path = e.line, e.value, rest
	}
	return line, n, true
}

// step takes the first part off a field path. Keys may hold dots, so the longest that fits is taken.
func (n *node) step(path string) (found *entry, rest string) {
	for i := range n.entries {
		names := []string{n.entries[i].key, "[" + n.entries[i].key + "]"}
		if n.kind == yaml.SequenceNode {
			names = []string{fmt.Sprintf("[%d]", i)}
		}
		for _, name := range names {
			after, ok := strings.CutPrefix(path, name)
			if !ok || (after != "" && after[0] != '.' && after[0] != '[') {
				continue
			}
			if after = strings.TrimPrefix(after, "."); found == nil || len(after) < len(rest) {
				found, rest = &n.entries[i], after
			}
		}
	}
	return found, rest
}

// finding is a mistake at a line of a document.
type finding struct {
	line    int
	field   string
	message string
}

// converter makes nodes of yaml.v3's. It goes on after a mistake, so that all of them are found and
// the document's name is known.
type converter struct {
	seen     map[*yaml.Node]*node // nil while an anchor is being converted
	merges   int                  // entries that merge keys have copied, which are not shared
	oversize bool
	findings []finding
}

func (c *converter) fail(at *yaml.Node, field, format string, args ...any) {
	if len(c.findings) < maxFindings {
		c.findings = append(c.findings, finding{at.Line, field, fmt.Sprintf(format, args...)})
	}
}

func (c *converter) convert(in *yaml.Node, field string, depth int) *node {
	if depth > maxDepth {
		c.fail(in, field, "nested deeper than %d levels", maxDepth)
		return &node{kind: yaml.ScalarNode, size: 1}
	}
	if in.Kind == yaml.AliasNode {
		return c.alias(in, field, depth)
	}
	if in.Anchor != "" {
		c.seen[in] = nil
	}
	out := &node{kind: in.Kind, size: 1}
	switch in.Kind {
	case yaml.MappingNode:
		c.mapping(in, out, field, depth)
	case yaml.SequenceNode:
		for i, item := range in.Content {
			value := c.convert(item, fmt.Sprintf("%s[%d]", field, i), depth+1)
			out.add(entry{line: item.Line, value: value})
		}
	default:
		out.text = in.Value
		out.scalar = c.scalar(in, field)
	}
	if len(out.entries) > maxEntries {
		c.oversize = true
		c.fail(in, field, "holds %d entries, and %d is the limit", len(out.entries), maxEntries)
	}
	if in.Anchor != "" {
		c.seen[in] = out
	}
	return out
}

// alias gives what an alias stands for, converted once.
func (c *converter) alias(in *yaml.Node, field string, depth int) *node {
	done, known := c.seen[in.Alias]
	switch {
	case known && done == nil:
		c.fail(in, field, "alias *%s stands within its own anchor", in.Value)
		return &node{kind: yaml.ScalarNode, size: 1}
	case !known:
		return c.convert(in.Alias, field, depth)
	case depth+done.height > maxDepth:
		c.fail(in, field, "nested deeper than %d levels by alias *%s", maxDepth, in.Value)
		return &node{kind: yaml.ScalarNode, size: 1}
	default:
		return done
	}
}

func (n *node) add(e entry) {
	n.entries = append(n.entries, e)
	n.size = min(n.size+e.value.size, maxValues+1)
	n.height = max(n.height, e.value.height+1)
}

func (c *converter) mapping(in *yaml.Node, out *node, field string, depth int) {
	out.index = make(map[string]int, len(in.Content)/2)
	var merged []*node
	for i := 0; i+1 < len(in.Content); i += 2 {
		key, value := in.Content[i], in.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, c.convert(value, field, depth))
			continue
		}
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || yaml11Bool(key) != nil {
			c.fail(in.Content[i], field, "key %s is not text: quote it", abbreviate(key.Value))
			continue
		}
		name := key.Value
		at := name
		if field != "" {
			at = field + "." + name
		}
		converted := c.convert(value, at, depth+1)
		if first, twice := out.index[name]; twice {
			c.fail(in.Content[i], at, "key %s stands here and in line %d: remove one", abbreviate(name), out.entries[first].line)
			continue
		}
		out.index[name] = len(out.entries)
		out.add(entry{key: name, line: in.Content[i].Line, value: converted})
	}
	for _, m := range merged {
		c.merge(in, out, m, field)
	}
}

// merge adds what the merge key (<<) brings: the fields of a mapping, or of several, the first of
// them first. Fields that are there already stay.
func (c *converter) merge(in *yaml.Node, out, from *node, field string) {
	sources := []*node{from}
	if from.kind == yaml.SequenceNode {
		sources = nil
		for _, e := range from.entries {
			sources = append(sources, e.value)
		}
	}
	for _, source := range sources {
		if source.kind != yaml.MappingNode {
			c.fail(in, field, "<< takes a mapping or a list of mappings")
			return
		}
		for _, e := range source.entries {
			if c.merges++; c.merges > maxValues {
				c.fail(in, field, "merge keys (<<) bring more than %d fields", maxValues)
				return
			}
			if _, has := out.index[e.key]; !has {
				out.index[e.key] = len(out.entries)
				out.add(e)
			}
		}
	}
}

// scalar gives the JSON value that kubectl makes of a scalar.
func (c *converter) scalar(in *yaml.Node, field string) any {
	switch in.ShortTag() {
	case "!!null":
		return nil
	case "!!str":
		if b := yaml11Bool(in); b != nil {
			return *b
		}
		return in.Value
	case "!!timestamp":
		return in.Value
	case "!!bool", "!!int", "!!float":
		var v any
		if err := in.Decode(&v); err != nil {
			c.fail(in, field, "%s is no %s", abbreviate(in.Value), strings.TrimPrefix(in.ShortTag(), "!!"))
			return nil
		}
		if n, ok := jsonScalar(v); ok {
			return n
		}
		c.fail(in, field, "%s cannot be a value", abbreviate(in.Value))
	default:
		c.fail(in, field, "tag %s has no meaning here: remove it", abbreviate(in.Tag))
	}
	return nil
}

// jsonScalar gives the value that v has after a trip through JSON: a whole number is an int64.
func jsonScalar(v any) (any, bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case int:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return float64(v), true
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, false
		}
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), true
		}
		return v, true
	default:
		return nil, false
	}
}

// yaml11Bool returns the boolean that kubectl, which reads YAML 1.1, takes a plain word for.
func yaml11Bool(in *yaml.Node) *bool {
	if in.Style != 0 {
		return nil
	}
	yes := []string{"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"}
	no := []string{"n", "N", "no", "No", "NO", "off", "Off", "OFF"}
	is := slices.Contains(yes, in.Value)
	if !is && !slices.Contains(no, in.Value) {
		return nil
	}
	return &is
}

// abbreviate quotes a text of a file for a message.
func abbreviate(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
