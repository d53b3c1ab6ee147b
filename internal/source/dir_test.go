// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"archive/tar"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/source"
)

// What a killed process left behind goes away with the next fetch; nothing else does.
func TestFetchRemovesWhatWasAbandoned(t *testing.T) {
	g := NewWithT(t)
	tmp, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	artifact := serve(t, archive(g, regular("tenants/a.yaml")))

	inUse, err := source.FetchArtifact(t.Context(), artifact, source.Limits{})
	g.Expect(err).NotTo(HaveOccurred())
	own, err := os.ReadDir(tmp)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(own).To(HaveLen(1))

	for _, dir := range []string{"korthweb-source-1234/git/objects", "korthweb-source-empty", "korthweb-sourceless", "other"} {
		g.Expect(os.MkdirAll(filepath.Join(tmp, dir), 0o700)).To(Succeed())
	}
	g.Expect(os.WriteFile(filepath.Join(tmp, "korthweb-source-1234/git/objects/pack"), make([]byte, 1000), 0o400)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(tmp, "korthweb-source-file"), nil, 0o600)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(elsewhere, "kept"), nil, 0o600)).To(Succeed())
	g.Expect(os.Symlink(elsewhere, filepath.Join(tmp, "korthweb-source-link"))).To(Succeed())

	next, err := source.FetchArtifact(t.Context(), artifact, source.Limits{})
	g.Expect(err).NotTo(HaveOccurred())
	for _, snapshot := range []*source.Snapshot{inUse, next} {
		g.Expect(fs.ReadFile(snapshot.FS, "tenants/a.yaml")).NotTo(BeEmpty())
		g.Expect(snapshot.Close()).To(Succeed())
		g.Expect(snapshot.Close()).To(Succeed())
	}
	g.Expect(filepath.Join(elsewhere, "kept")).To(BeARegularFile())
	left, err := os.ReadDir(tmp)
	g.Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, entry := range left {
		names = append(names, entry.Name())
	}
	g.Expect(names).To(ConsistOf("korthweb-source-file", "korthweb-source-link", "korthweb-sourceless", "other"))
}

// Fetches that run at once do not take each other's directories for abandoned ones.
func TestFetchesAtOnce(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	artifact := serve(t, archive(g, regular("tenants/a.yaml"), tar.Header{Typeflag: tar.TypeReg, Name: "b", Size: 10_000}))
	var group sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		group.Go(func() {
			for range 20 {
				snapshot, err := source.FetchArtifact(t.Context(), artifact, source.Limits{})
				if err == nil {
					_, err = fs.ReadFile(snapshot.FS, "tenants/a.yaml")
					_ = snapshot.Close()
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		g.Expect(err).NotTo(HaveOccurred())
	}
}
