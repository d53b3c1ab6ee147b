// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
)

// fixture is a program whose source is content, in a repository of its own.
func fixture(t *testing.T, content string) (root, bin string, p program) {
	g := NewWithT(t)
	root, bin = t.TempDir(), t.TempDir()
	dir := filepath.Join(root, "pin")
	g.Expect(os.MkdirAll(dir, 0o755)).To(Succeed())
	for name, data := range map[string]string{
		"go.mod": "module example.com/hello\n\ngo 1.26.0\n", "go.sum": "", "main.go": content,
	} {
		g.Expect(os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644)).To(Succeed())
	}
	return root, bin, program{name: "hello", pkg: ".", pin: "pin", ldflags: "-X main.greeting=hi"}
}

const hello = "package main\n\nvar greeting string\n\nfunc main() { print(greeting) }\n"

func TestBuild(t *testing.T) {
	g := NewWithT(t)
	root, bin, p := fixture(t, hello)
	before, err := stamp(root, p)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(current(bin, p.name, before)).To(BeFalse(), "not built yet")
	g.Expect(build(t.Context(), root, bin, p, before)).To(Succeed())
	g.Expect(current(bin, p.name, before)).To(BeTrue())
	out, err := exec.Command(filepath.Join(bin, "hello")).CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(out)).To(Equal("hi"))

	t.Run("another version is stale", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(os.WriteFile(filepath.Join(root, "pin", "go.sum"), []byte("\n"), 0o644)).To(Succeed())
		after, err := stamp(root, p)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(current(bin, p.name, after)).To(BeFalse())
	})
	t.Run("another source is stale", func(t *testing.T) {
		g := NewWithT(t)
		before, err := stamp(root, p)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(os.WriteFile(filepath.Join(root, "pin", "main.go"), []byte(hello+"\n"), 0o644)).To(Succeed())
		g.Expect(stamp(root, p)).NotTo(Equal(before))
	})
	t.Run("other flags are stale", func(t *testing.T) {
		g := NewWithT(t)
		other := p
		other.ldflags = ""
		g.Expect(stamp(root, other)).NotTo(Equal(before))
	})
	t.Run("a deleted program is stale", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(os.Remove(filepath.Join(bin, "hello"))).To(Succeed())
		g.Expect(current(bin, p.name, before)).To(BeFalse())
	})
}

func TestBuildFails(t *testing.T) {
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		source string
		want   string
	}{
		{name: "compile error", ctx: context.Background(), source: "package main\n\nfunc main() { nothing() }\n", want: "undefined: nothing"},
		{name: "interrupt", ctx: interrupted, source: hello, want: "interrupted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			root, bin, p := fixture(t, tc.source)
			g.Expect(os.WriteFile(filepath.Join(bin, "hello"), []byte("previous"), 0o755)).To(Succeed())
			g.Expect(build(tc.ctx, root, bin, p, "stamp")).To(MatchError(ContainSubstring(tc.want)))
			g.Expect(os.ReadFile(filepath.Join(bin, "hello"))).To(BeEquivalentTo("previous"))
			entries, err := os.ReadDir(bin)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(entries).To(HaveLen(1), "nothing half-built")
		})
	}
}

// The flux command's source becomes writable and gets what its module lacks.
func TestFluxSource(t *testing.T) {
	g := NewWithT(t)
	module := t.TempDir()
	g.Expect(os.MkdirAll(filepath.Join(module, "cmd", "flux"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(module, "cmd", "flux", "main.go"), []byte("package main\n"), 0o444)).To(Succeed())
	dir, cleanup, err := fluxSource(module)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(filepath.Join(dir, "cmd", "flux", "main.go")).To(BeARegularFile())
	g.Expect(filepath.Glob(filepath.Join(dir, "cmd", "flux", "manifests", "*.yaml"))).To(HaveLen(1))
	g.Expect(cleanup()).To(Succeed())
	g.Expect(dir).NotTo(BeAnExistingFile())
}
