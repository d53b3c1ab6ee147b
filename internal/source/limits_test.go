// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/source"
)

func TestFetchBigRevisions(t *testing.T) {
	temporaryDir(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	url := startHTTP(t, server) + "/tenants.git"
	noise := make([]byte, 300_000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}

	r.commit("big-file", map[string]entry{"tenants/a.yaml": file("a"), "tenants/big.yaml": file(strings.Repeat("x", 50<<20))})
	r.commit("bomb", map[string]entry{"zeros": file(string(make([]byte, 129<<20)))})
	r.commit("noise", map[string]entry{"noise": file(string(noise))})
	r.commit("same-blob", map[string]entry{"a/1": file(strings.Repeat("x", 90_000)), "a/2": file(strings.Repeat("x", 90_000))})
	r.commit("many", map[string]entry{"a/1": file("1"), "a/2": file("2"), "b/1": file("3")})

	// Ten directories, each ten times within the next: 10^10 files in a few hundred bytes.
	level := r.tree(map[string]entry{"f": file("f")})
	for range 10 {
		var entries []object.TreeEntry
		for i := range 10 {
			entries = append(entries, object.TreeEntry{Name: fmt.Sprint(i), Mode: filemode.Dir, Hash: level})
		}
		level = r.rawTree(entries)
	}
	r.commitTree("tree-bomb", level)

	deep := r.tree(map[string]entry{"f": file("f")})
	for range 2000 {
		deep = r.rawTree([]object.TreeEntry{{Name: "d", Mode: filemode.Dir, Hash: deep}})
	}
	r.commitTree("deep", deep)
	r.commitTree("traversal", r.rawTree([]object.TreeEntry{{Name: "..", Mode: filemode.Dir, Hash: r.tree(map[string]entry{"etc": file("x")})}}))
	r.commitTree("slash", r.rawTree([]object.TreeEntry{{Name: "../../x", Mode: filemode.Regular, Hash: r.blob("x")}}))

	for name, c := range map[string]struct {
		branch string
		limits source.Limits
		texts  []string
	}{
		"bytes sent":     {"noise", source.Limits{MaxBytes: 200_000}, []string{"sends more than 200000 bytes", "limit is 200000 bytes"}},
		"bomb":           {"bomb", source.Limits{}, []string{"a git object of 135266304 bytes, the limit is 134217728 bytes"}},
		"bytes unpacked": {"same-blob", source.Limits{MaxBytes: 100_000}, []string{"more than 100000 bytes in all, counted up to a/2"}},
		"files":          {"many", source.Limits{MaxFiles: 4}, []string{"more than 4 files and directories", "limit is 4"}},
		"tree bomb":      {"tree-bomb", source.Limits{}, []string{"more than 100000 files and directories"}},
		"deep":           {"deep", source.Limits{}, []string{"nested too deep"}},
		"traversal":      {"traversal", source.Limits{}, []string{`holds the path ".."`}},
		"slash":          {"slash", source.Limits{}, []string{`holds the path "../../x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := (&source.Git{URL: url, AllowHTTP: true, Ref: &sourcev1.GitRepositoryRef{Branch: c.branch}, Limits: c.limits}).Fetch(t.Context(), "")
			expectError(g, err, sourcev1.GitOperationFailedReason, append(c.texts, "branch "+c.branch+" of "+url)...)
			g.Expect(isTerminal(err)).To(BeFalse(), "the next revision may be smaller")
		})
	}

	t.Run("exactly the limits", func(t *testing.T) {
		g := NewWithT(t)
		s, err := (&source.Git{URL: url, AllowHTTP: true, Ref: &sourcev1.GitRepositoryRef{Branch: "many"}, Limits: source.Limits{MaxFiles: 5}}).Fetch(t.Context(), "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Close()).To(Succeed())
	})

	t.Run("one big file", func(t *testing.T) {
		g := NewWithT(t)
		s, err := (&source.Git{URL: url, AllowHTTP: true, Ref: &sourcev1.GitRepositoryRef{Branch: "big-file"}}).Fetch(t.Context(), "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(read(g, s, "tenants/a.yaml")).To(Equal("a"))
		info, err := fs.Stat(s.FS, "tenants/big.yaml")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(info.Size()).To(BeEquivalentTo(50 << 20))
		g.Expect(s.Close()).To(Succeed())
	})
}

func TestFetchTenThousandFiles(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	var entries []object.TreeEntry
	blob := r.blob("tenant")
	for i := range 10_000 {
		entries = append(entries, object.TreeEntry{Name: fmt.Sprintf("tenant-%05d.yaml", i), Mode: filemode.Regular, Hash: blob})
	}
	r.commitTree("main", r.rawTree([]object.TreeEntry{{Name: "tenants", Mode: filemode.Dir, Hash: r.rawTree(entries)}}))

	start := time.Now()
	s, err := (&source.Git{URL: startHTTP(t, server) + "/tenants.git", AllowHTTP: true, Ref: onMain}).Fetch(t.Context(), "")
	g.Expect(err).NotTo(HaveOccurred())
	listed, err := fs.ReadDir(s.FS, "tenants")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(listed).To(HaveLen(10_000))

	var wg sync.WaitGroup
	for _, half := range [][]fs.DirEntry{listed[:5_000], listed[5_000:]} {
		wg.Go(func() {
			for _, e := range half {
				data, err := fs.ReadFile(s.FS, "tenants/"+e.Name())
				if err != nil || !bytes.Equal(data, []byte("tenant")) {
					t.Errorf("%s: %q, %v", e.Name(), data, err)
				}
			}
		})
	}
	wg.Wait()
	g.Expect(time.Since(start)).To(BeNumerically("<", 30*time.Second))
	g.Expect(s.Close()).To(Succeed())
}

func TestFetchInterruptedPack(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	r.commit("main", map[string]entry{"v": file(strings.Repeat("tenant", 1000))})
	server.AddHTTPMiddlewares(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method != http.MethodPost {
				next.ServeHTTP(w, req)
				return
			}
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, req)
			body := whole.Body.Bytes()
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:len(body)-100])
		})
	})
	_, err := (&source.Git{URL: startHTTP(t, server) + "/tenants.git", AllowHTTP: true, Ref: onMain}).Fetch(t.Context(), "")
	expectError(g, err, sourcev1.GitOperationFailedReason, "cannot read branch main", "EOF")
}
