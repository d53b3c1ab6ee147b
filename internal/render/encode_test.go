// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/internal/render"
)

// sample returns a document with a string in each place where one can be.
func sample(s, key string) *yaml.Node {
	str := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	node := func(kind yaml.Kind, content ...*yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: kind, Content: content}
	}
	list := node(yaml.SequenceNode, str(s), node(yaml.MappingNode, str("k"), str(s)), node(yaml.SequenceNode, str(s), str(s)),
		node(yaml.MappingNode), node(yaml.SequenceNode), str(""))
	return node(yaml.MappingNode,
		str("a"), str(s),
		str("b"), list,
		str("c"), node(yaml.MappingNode, str("d"), list, str("e"), str(s)),
		str("k"+key), str(s),
		str("l"+key), list,
		str("m"+key), node(yaml.MappingNode, str("d"+key), list, str("e"), str(s)),
		str("n"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: "-12"},
		str("z"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"},
	)
}

func sampleValue(s, key string) map[string]any {
	list := []any{s, map[string]any{"k": s}, []any{s, s}, map[string]any{}, []any{}, ""}
	return map[string]any{
		"a": s, "b": list, "c": map[string]any{"d": list, "e": s}, "k" + key: s, "l" + key: list, "m" + key: map[string]any{"d" + key: list, "e": s}, "n": -12, "z": nil,
	}
}

func TestEncode(t *testing.T) {
	cases := []struct{ name, value, want string }{
		{"word", "orthanc", "orthanc"},
		{"words", "St Mary", "St Mary"},
		{"path", "/var/lib/orthanc", "/var/lib/orthanc"},
		{"url", "oci://ghcr.io/x:1", "oci://ghcr.io/x:1"},
		{"quantity", "100Gi", "100Gi"},
		{"duration", "2160h0m0s", "2160h0m0s"},
		{"empty", "", `""`},
		{"number", "42", `"42"`},
		{"float", "1e3", `"1e3"`},
		{"hexadecimal", "0x1F", `"0x1F"`},
		{"octal", "0o17", `"0o17"`},
		{"base 60", "12:30:45", `"12:30:45"`},
		{"date", "2026-01-02", `"2026-01-02"`},
		{"boolean", "Yes", `"Yes"`},
		{"null", "null", `"null"`},
		{"tilde", "~", `"~"`},
		{"infinity", ".inf", `".inf"`},
		{"merge key", "<<", `"<<"`},
		{"mapping", "a: b", `"a: b"`},
		{"colon at the end", "a:", `"a:"`},
		{"comment", "a #b", `"a #b"`},
		{"space at the end", "a ", `"a "`},
		{"alias", "*a", `"*a"`},
		{"quotes", `say "hi"\`, `"say \"hi\"\\"`},
		{"accents", "Zürich", `"Zürich"`},
		{"tab", "a\tb", `"a\tb"`},
		{"line separator", "a\u2028b", `"a\U00002028b"`},
		{"lines", "a\n  b\n\nc\n", "|\n  a\n    b\n\n  c"},
		{"lines without end", "a\nb", "|-\n  a\n  b"},
		{"lines with two ends", "a\n\n", `"a\n\n"`},
		{"a space before a line's end", "a \nb\n", `"a \nb\n"`},
		{"a space at the beginning", " a\nb\n", `" a\nb\n"`},
		{"a line end at the beginning", "\na\n", `"\na\n"`},
		{"a document marker", "a\n---\nb\n", "|\n  a\n  ---\n  b"},
		{"only a line end", "\n", `"\n"`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			doc := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
				{Kind: yaml.ScalarNode, Value: "k"}, {Kind: yaml.ScalarNode, Tag: "!!str", Value: tc.value, Style: yaml.SingleQuotedStyle},
			}}
			g.Expect(string(render.AppendDocument(nil, doc))).To(Equal("k: " + tc.want + "\n"))
			roundTrip(t, tc.value, tc.value)
		})
	}
}

// A number that is none must not become YAML of another meaning.
func TestEncodeBadNumber(t *testing.T) {
	g := NewWithT(t)
	for _, value := range []string{"1}\nb: 2", "", "-", "1.2.3 #", ".", "0x1"} {
		doc := &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!int", Value: value}}}
		var got []any
		g.Expect(yaml.Unmarshal(render.AppendDocument(nil, doc), &got)).To(Succeed())
		g.Expect(got).To(Equal([]any{value}))
	}
}

func roundTrip(t *testing.T, s, key string) {
	t.Helper()
	data := render.AppendDocument(nil, sample(s, key))
	got := map[string]any{}
	if err := yaml.Unmarshal(data, &got); err != nil {
		t.Fatalf("%v of %q in\n%s", err, s, data)
	}
	NewWithT(t).Expect(got).To(Equal(sampleValue(s, key)), string(data))
}

func TestEncodeLongKey(t *testing.T) {
	for _, length := range []int{100, 990, 1000, 1030, 5000} {
		roundTrip(t, "v", strings.Repeat("x", length))
		roundTrip(t, "a\nb\n", strings.Repeat("\"", length))
	}
}

// FuzzEncode reads back with the YAML library what the encoder wrote of any text, as a value and as a key.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a", "a: b", "- a", "1", "1h", "1e3", "a\nb\n", " a\nb", "a\n b\n", "\ta\nb\n", "é", "\x00", "\u0085", "\ufeffa\nb", "y", "a:\n", "a #"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, s, key string) {
		// A manifest is made of JSON values, and those have no other text.
		s, key = valid(s), valid(key)
		roundTrip(t, s, key)
	})
}

func valid(s string) string { return string([]rune(s)) }
