// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fluxcd/pkg/tar"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/digihunch/korthweb/internal/artifact"
)

func bundle() []artifact.File {
	var files []artifact.File
	for i := range 30 {
		files = append(files, artifact.File{
			Path: fmt.Sprintf("%s/object-%02d.yaml", []string{"application", "dependency"}[i%2], i),
			Data: []byte(strings.Repeat(fmt.Sprintf("name: object-%d\n", i), 80)),
		})
	}
	return files
}

func TestArchiveIsDeterministic(t *testing.T) {
	g := NewWithT(t)
	first, d, err := artifact.Archive(bundle())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(d).To(Equal(digest.SHA256.FromBytes(first)))

	// The digest is written down so that a change of the format shows: it makes Flux apply every tenant again.
	g.Expect(d.String()).To(Equal("sha256:661b045609bf0272db73927b033bc0f76f4cc7eaeecc1bc6b715b1eb45c4de70"))

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			files := bundle()
			rand.New(rand.NewSource(int64(i))).Shuffle(len(files), func(a, b int) { files[a], files[b] = files[b], files[a] })
			before := fmt.Sprint(files)
			again, _, err := artifact.Archive(files)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(bytes.Equal(first, again)).To(BeTrue(), "another order gave other bytes")
			g.Expect(fmt.Sprint(files)).To(Equal(before), "the argument was changed")
		})
	}
	wg.Wait()
}

func TestArchiveIsExtractedByFlux(t *testing.T) {
	g := NewWithT(t)
	files := append(bundle(),
		artifact.File{Path: "kustomization.yaml"},
		artifact.File{Path: strings.Repeat("long/", 40) + "größe.yaml", Data: []byte("a: b")})
	data, _, err := artifact.Archive(files)
	g.Expect(err).NotTo(HaveOccurred())

	dir := t.TempDir()
	g.Expect(tar.Untar(bytes.NewReader(data), dir)).To(Succeed())
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(got)).To(Equal(string(f.Data)), f.Path)
	}
}

func TestArchiveRefusesPaths(t *testing.T) {
	for name, files := range map[string][]artifact.File{
		"empty":         {{Path: ""}},
		"the directory": {{Path: "."}},
		"absolute":      {{Path: "/etc/passwd"}},
		"leaves":        {{Path: "../x"}},
		"leaves inside": {{Path: "a/../../x"}},
		"not clean":     {{Path: "a//b"}},
		"twice":         {{Path: "a/b"}, {Path: "c"}, {Path: "a/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, _, err := artifact.Archive(files)
			g.Expect(err).To(MatchError(ContainSubstring(fmt.Sprintf("bundle file %q", files[0].Path))))
		})
	}
}

func BenchmarkArchive(b *testing.B) {
	files := bundle()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := artifact.Archive(files); err != nil {
			b.Fatal(err)
		}
	}
}
