// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"testing"

	. "github.com/onsi/gomega"
)

func TestHarmless(t *testing.T) {
	for _, tc := range []struct{ name, in, out string }{
		{"plain", "tenants/bhs.yaml:12: tenant bhs: spec.x: Krankenhaus Köln, 日本", "tenants/bhs.yaml:12: tenant bhs: spec.x: Krankenhaus Köln, 日本"},
		{"IPv6", "address fd00::1 and ::ffff:10.0.0.1 and fd20:ce::254", "address fd00::1 and ::ffff:10.0.0.1 and fd20:ce::254"},
		{"line break", "a\nb\r\nc", `a\nb\x0d\nc`},
		{"colours", "\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"title of the window", "\x1b]0;x\x07", `\x1b]0;x\x07`},
		{"C1", "a\u009b31mb\u0085", `a\u009b31mb\u0085`},
		{"C1 as a byte", "a\x9b31m", `a\x9b31m`},
		{"delete and backspace", "a\x7f\x08", `a\x7f\x08`},
		{"direction", "a\u202eb\u2066c\u200f", `a\u202eb\u2066c\u200f`},
		{"nothing to see", "a\u200bb\ufeffc\u00a0d\U000e0041", `a\u200bb\ufeffc\u00a0d\ue0041`},
		{"line separators", "a\u2028b\u2029", `a\u2028b\u2029`},
		{"command", "::error file=x::y", ": :error file=x: :y"},
		{"command behind spaces", "  ::set-output name=x::y", "  : :set-output name=x: :y"},
		{"command within", `key "::set-output name=x" and ::add-mask`, `key ": :set-output name=x" and : :add-mask`},
		{"token that ends a pause", "::abcdef::", ": :abcdef::"},
		{"legacy command", "x ##[error]y ##vso[task.setvariable]", "x # #[error]y # #vso[task.setvariable]"},
		{"command of TeamCity", "x ##teamcity[setParameter name='env.X' value='y']", "x # #teamcity[setParameter name='env.X' value='y']"},
		{"command behind a line break", "x\n::error::y", `x\n: :error: :y`},
	} {
		t.Run(tc.name, func(t *testing.T) { NewWithT(t).Expect(harmless(tc.in)).To(Equal(tc.out)) })
	}
	NewWithT(t).Expect(harmlessLines("unknown\n\n\tx\n::error::y")).To(Equal("unknown\n\n" + `\x09x` + "\n: :error: :y"))
}

func TestHarmlessJSON(t *testing.T) {
	g := NewWithT(t)
	in := []string{"a\u009bb\u202ec\x7f\u200b\U000e0041", "::error::x", "x ##[error]y", "\x1b[31m\n", "Köln fd00::1"}
	data, err := json.MarshalIndent(in, "", "  ")
	g.Expect(err).NotTo(HaveOccurred())
	data = harmlessJSON(data)
	for _, bad := range []string{"\u009b", "\u202e", "\x7f", "\u200b", "\U000e0041", "\x1b", "::error", "##["} {
		g.Expect(bytes.Contains(data, []byte(bad))).To(BeFalse(), "%q in %s", bad, data)
	}
	var out []string
	g.Expect(json.Unmarshal(data, &out)).To(Succeed())
	g.Expect(out).To(Equal(in))
}
