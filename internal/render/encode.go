// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// appendDocument appends a node as a block-style YAML document. It is a small encoder for what manifests are made
// of: its bytes depend on nothing but the values (not on styles, anchors or comments), and it takes a tenth of the
// time of the library's. A string is plain only where no YAML reader could take it for anything else.
func appendDocument(out []byte, n *yaml.Node) []byte {
	switch {
	case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
		return appendDocument(out, n.Content[0])
	case isBlock(n):
		return appendBlock(out, n, 0)
	}
	return append(appendInline(out, n, 0), '\n')
}

// isBlock reports whether a node takes lines of its own.
func isBlock(n *yaml.Node) bool {
	return (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) && len(n.Content) > 0
}

// appendBlock appends a mapping or sequence with content. The cursor is where its first line begins, after indent
// columns.
func appendBlock(out []byte, n *yaml.Node, indent int) []byte {
	if n.Kind == yaml.SequenceNode {
		for i, item := range n.Content {
			if i > 0 {
				out = appendSpaces(out, indent)
			}
			out = append(out, '-', ' ')
			if isBlock(item) {
				out = appendBlock(out, item, indent+2)
			} else {
				out = append(appendInline(out, item, indent+2), '\n')
			}
		}
		return out
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if i > 0 {
			out = appendSpaces(out, indent)
		}
		out = append(appendKey(out, n.Content[i].Value, indent), ':')
		switch value := n.Content[i+1]; {
		case !isBlock(value):
			out = append(appendInline(append(out, ' '), value, indent+2), '\n')
		case value.Kind == yaml.SequenceNode:
			out = appendSpaces(append(out, '\n'), indent)
			out = appendBlock(out, value, indent)
		default:
			out = appendSpaces(append(out, '\n'), indent+2)
			out = appendBlock(out, value, indent+2)
		}
	}
	return out
}

// maxKey is the longest key that a YAML reader finds without a mark before it, with some bytes to spare.
const maxKey = 1000

// appendKey appends a key of a mapping.
func appendKey(out []byte, key string, indent int) []byte {
	start := len(out)
	if out = appendString(out, key); len(out)-start > maxKey {
		out = append(slices.Insert(out, start, '?', ' '), '\n')
		out = appendSpaces(out, indent)
	}
	return out
}

// appendInline appends a scalar, or an empty mapping or sequence. Lines of text are indented by indent columns.
func appendInline(out []byte, n *yaml.Node, indent int) []byte {
	switch {
	case n.Kind == yaml.MappingNode:
		return append(out, "{}"...)
	case n.Kind == yaml.SequenceNode:
		return append(out, "[]"...)
	case n.Tag == "!!str" || n.Tag == "" || !isPlainValue(n.Value):
		if isText(n.Value) {
			return appendText(out, n.Value, indent)
		}
		return appendString(out, n.Value)
	}
	return append(out, n.Value...)
}

// appendText appends a literal block.
func appendText(out []byte, s string, indent int) []byte {
	out = append(out, '|')
	body, ended := strings.CutSuffix(s, "\n")
	if !ended {
		out = append(out, '-')
	}
	for line := range strings.SplitSeq(body, "\n") {
		out = append(out, '\n')
		if line != "" {
			out = append(appendSpaces(out, indent), line...)
		}
	}
	return out
}

// isText reports whether a string reads back the same from a literal block.
func isText(s string) bool {
	body := strings.TrimSuffix(s, "\n")
	if !strings.Contains(s, "\n") || body == "" || body[0] == ' ' || body[0] == '\n' || strings.HasSuffix(body, "\n") {
		return false
	}
	if !utf8.ValidString(s) {
		return false
	}
	last := '\n'
	for _, r := range s {
		if r == '\n' {
			if last == ' ' {
				return false
			}
		} else if !unicode.IsPrint(r) {
			return false
		}
		last = r
	}
	return last != ' '
}

// appendString appends a string that is not a literal block.
func appendString(out []byte, s string) []byte {
	if isPlain(s) {
		return append(out, s...)
	}
	const hex = "0123456789abcdef"
	out = append(out, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, '\\', 'n')
		case r == '\t':
			out = append(out, '\\', 't')
		case unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, '\\', 'U')
			for shift := 28; shift >= 0; shift -= 4 {
				out = append(out, hex[r>>shift&0xf])
			}
		}
	}
	return append(out, '"')
}

// isPlain reports whether a string is safe without quotes: a word of a letter, or a number with a unit, followed by
// characters that mean nothing to YAML.
func isPlain(s string) bool {
	if s == "" || len(s) > 120 {
		return false
	}
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	switch {
	case i == len(s):
		return false
	case i > 0 && !strings.ContainsRune("KMGTPmhs", rune(s[i])):
		return false
	case i == 0 && !isLetter(s[0]) && s[0] != '/':
		return false
	}
	for j := i; j < len(s); j++ {
		switch c := s[j]; {
		case isLetter(c), '0' <= c && c <= '9', c == '.', c == '_', c == '-', c == '/', c == '+':
		case c == ':' || c == ' ':
			if j+1 == len(s) || s[j+1] == ' ' {
				return false
			}
		default:
			return false
		}
	}
	return len(s) > len("false") || !isWord(strings.ToLower(s))
}

// isWord reports whether a string in lower case is a word of YAML 1.1 or 1.2.
func isWord(s string) bool {
	switch s {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
		return true
	}
	return false
}

// isPlainValue reports whether the text of a number, boolean or null is one, and nothing else.
func isPlainValue(s string) bool {
	switch s {
	case "true", "false", "null":
		return true
	}
	digits := strings.TrimPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	return whole != "" && strings.Trim(whole+fraction, "0123456789") == ""
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func appendSpaces(out []byte, n int) []byte {
	for range n {
		out = append(out, ' ')
	}
	return out
}
