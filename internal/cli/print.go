// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// legacyCommand is where GitHub's and Azure's older runners and TeamCity see a command, wherever it stands in a line.
var legacyCommand = regexp.MustCompile(`##[A-Za-z]*\[`)

// command is a workflow command of GitHub's runner. It counts at the beginning of a line; elsewhere it is told from an
// IPv6 address by its name, which has a letter that no such address has, or a dash.
var command = regexp.MustCompile(`::[A-Za-z-]*[g-zG-Z-]|^\s*::`)

// harmless gives a text for one line of a terminal or a log of CI. What is in it was written by others: characters that
// nobody sees, or that move the cursor, turn the direction of the text or begin a line, are escaped as in Go, and
// workflow commands are broken up.
func harmless(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r < 0x80:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		i += size
	}
	breakUp := func(marks string) func(string) string {
		return func(found string) string { return strings.Replace(found, marks, marks[:1]+" "+marks[1:], 1) }
	}
	return command.ReplaceAllStringFunc(legacyCommand.ReplaceAllStringFunc(out.String(), breakUp("##")), breakUp("::"))
}

// harmlessLines is harmless for each line of a text whose lines are our own.
func harmlessLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = harmless(lines[i])
	}
	return strings.Join(lines, "\n")
}

// harmlessJSON escapes in JSON what encoding/json leaves: all that it escapes stands within a string, so the value stays
// the same.
func harmlessJSON(data []byte) []byte {
	var out strings.Builder
	for _, r := range string(data) {
		switch {
		case unicode.IsPrint(r) || r == '\n':
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	escape := func(mark, escaped string) func(string) string {
		return func(found string) string { return strings.Replace(found, mark, escaped, 1) }
	}
	text := legacyCommand.ReplaceAllStringFunc(out.String(), escape("#", `\u0023`))
	return []byte(command.ReplaceAllStringFunc(text, escape(":", `\u003a`)))
}
