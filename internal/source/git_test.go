// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/fluxcd/pkg/ssh"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/source"
)

var onMain = &sourcev1.GitRepositoryRef{Branch: "main"}

// expectError checks the reason and the text of a failed fetch.
func expectError(g *WithT, err error, reason string, texts ...string) {
	g.THelper()
	var failed *source.Error
	g.Expect(errors.As(err, &failed)).To(BeTrue(), "got %v", err)
	g.Expect(failed.Reason).To(Equal(reason), err.Error())
	for _, text := range texts {
		g.Expect(err.Error()).To(ContainSubstring(text))
	}
}

func isTerminal(err error) bool {
	var failed *source.Error
	return errors.As(err, &failed) && failed.Terminal
}

func read(g *WithT, s *source.Snapshot, name string) string {
	g.THelper()
	data, err := fs.ReadFile(s.FS, name)
	g.Expect(err).NotTo(HaveOccurred())
	return string(data)
}

func TestFetchReferences(t *testing.T) {
	temporaryDir(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	var clones atomic.Int32
	server.AddHTTPMiddlewares(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPost {
				clones.Add(1)
			}
			next.ServeHTTP(w, req)
		})
	})
	url := startHTTP(t, server) + "/tenants.git"

	first := r.commit("main", map[string]entry{"v": file("1")})
	second := r.commit("main", map[string]entry{"v": file("2")}, first)
	other := r.commit("feature/x", map[string]entry{"v": file("x")}, first)
	master := r.commit("master", map[string]entry{"v": file("master")})
	r.setRef(plumbing.NewTagReferenceName("v1.0.0"), first)
	r.annotatedTag("v1.10.0", second)
	r.setRef(plumbing.NewTagReferenceName("v1.9.0"), other)
	r.setRef(plumbing.NewTagReferenceName("v2.0.0-rc.1"), other)
	r.setRef(plumbing.NewTagReferenceName("nightly"), other)

	for name, c := range map[string]struct {
		ref      *sourcev1.GitRepositoryRef
		revision string
		content  string
	}{
		"no reference":        {nil, "master@sha1:" + master.String(), "master"},
		"branch":              {onMain, "main@sha1:" + second.String(), "2"},
		"branch with a slash": {&sourcev1.GitRepositoryRef{Branch: "feature/x"}, "feature/x@sha1:" + other.String(), "x"},
		"lightweight tag":     {&sourcev1.GitRepositoryRef{Tag: "v1.0.0"}, "v1.0.0@sha1:" + first.String(), "1"},
		"annotated tag":       {&sourcev1.GitRepositoryRef{Tag: "v1.10.0"}, "v1.10.0@sha1:" + second.String(), "2"},
		"semver":              {&sourcev1.GitRepositoryRef{SemVer: "1.x"}, "v1.10.0@sha1:" + second.String(), "2"},
		"semver, pre-release": {&sourcev1.GitRepositoryRef{SemVer: ">=2.0.0-0"}, "v2.0.0-rc.1@sha1:" + other.String(), "x"},
		"commit":              {&sourcev1.GitRepositoryRef{Commit: first.String()}, "sha1:" + first.String(), "1"},
		"commit of a branch":  {&sourcev1.GitRepositoryRef{Branch: "main", Commit: first.String()}, "main@sha1:" + first.String(), "1"},
		"name of a branch":    {&sourcev1.GitRepositoryRef{Name: "refs/heads/main"}, "refs/heads/main@sha1:" + second.String(), "2"},
		"name of a tag":       {&sourcev1.GitRepositoryRef{Name: "refs/tags/v1.10.0"}, "refs/tags/v1.10.0@sha1:" + second.String(), "2"},
		"name, dereferenced":  {&sourcev1.GitRepositoryRef{Name: "refs/tags/v1.10.0^{}"}, "refs/tags/v1.10.0^{}@sha1:" + second.String(), "2"},
		"name before branch":  {&sourcev1.GitRepositoryRef{Name: "refs/heads/main", Branch: "feature/x"}, "refs/heads/main@sha1:" + second.String(), "2"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			repository := &source.Git{URL: url, AllowHTTP: true, Ref: c.ref}
			s, err := repository.Fetch(t.Context(), "")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(s.Revision).To(Equal(c.revision))
			g.Expect(read(g, s, "v")).To(Equal(c.content))
			g.Expect(s.Close()).To(Succeed())

			before := clones.Load()
			_, err = repository.Fetch(t.Context(), s.Revision)
			g.Expect(err).To(MatchError(source.ErrUnchanged))
			g.Expect(clones.Load()).To(Equal(before), "nothing is cloned")

			if c.ref == nil || c.ref.Commit == "" {
				s, err = repository.Fetch(t.Context(), "main@sha1:0000000000000000000000000000000000000000")
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(s.Revision).To(Equal(c.revision))
				g.Expect(s.Close()).To(Succeed())
			}
		})
	}

	for name, c := range map[string]struct {
		ref  *sourcev1.GitRepositoryRef
		text string
	}{
		"branch": {&sourcev1.GitRepositoryRef{Branch: "gone"}, "branch gone not found in " + url},
		"tag":    {&sourcev1.GitRepositoryRef{Tag: "gone"}, "tag gone not found in " + url},
		"semver": {&sourcev1.GitRepositoryRef{SemVer: ">=3"}, "a tag that matches semver >=3 not found in " + url},
		"commit": {&sourcev1.GitRepositoryRef{Commit: "00000000000000000000000000000000000000ff"},
			"commit 00000000000000000000000000000000000000ff not found in " + url},
		"commit of a branch": {&sourcev1.GitRepositoryRef{Branch: "main", Commit: other.String()},
			"commit " + other.String() + " of branch main not found in " + url},
		"name": {&sourcev1.GitRepositoryRef{Name: "refs/heads/gone"}, "reference refs/heads/gone not found in " + url},
	} {
		t.Run("missing "+name, func(t *testing.T) {
			g := NewWithT(t)
			for _, last := range []string{"", "main@sha1:" + first.String()} {
				_, err := (&source.Git{URL: url, AllowHTTP: true, Ref: c.ref}).Fetch(t.Context(), last)
				expectError(g, err, sourcev1.GitOperationFailedReason, c.text)
				g.Expect(isTerminal(err)).To(BeFalse())
			}
		})
	}
}

func TestFetchFollowsTheBranch(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	repository := &source.Git{URL: startHTTP(t, server) + "/tenants.git", AllowHTTP: true, Ref: onMain}

	_, err := repository.Fetch(t.Context(), "")
	expectError(g, err, sourcev1.GitOperationFailedReason, "branch main not found", "empty")

	first := r.commit("main", map[string]entry{"v": file("1")})
	r.commit("stays", map[string]entry{"v": file("stays")})
	s, err := repository.Fetch(t.Context(), "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(read(g, s, "v")).To(Equal("1"))
	g.Expect(s.Close()).To(Succeed())

	// The history is rewritten: the new head does not descend from the one last seen.
	rewritten := r.commit("main", map[string]entry{"v": file("rewritten")})
	s, err = repository.Fetch(t.Context(), "main@sha1:"+first.String())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(s.Revision).To(Equal("main@sha1:" + rewritten.String()))
	g.Expect(read(g, s, "v")).To(Equal("rewritten"))
	g.Expect(s.Close()).To(Succeed())

	g.Expect(r.Storer.RemoveReference("refs/heads/main")).To(Succeed())
	_, err = repository.Fetch(t.Context(), s.Revision)
	expectError(g, err, sourcev1.GitOperationFailedReason, "branch main not found in "+repository.URL)

	server.StopHTTP()
	_, err = repository.Fetch(t.Context(), s.Revision)
	expectError(g, err, sourcev1.GitOperationFailedReason, "cannot read branch main of "+repository.URL, "connection refused")
}

func TestFetchMissingRepository(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	server := newServer(t)
	_, err := (&source.Git{URL: startHTTP(t, server) + "/none.git", AllowHTTP: true}).Fetch(t.Context(), "")
	expectError(g, err, sourcev1.GitOperationFailedReason, "there is no repository at")
}

func TestFetchRefusesWhatIsNotAFile(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	r.commit("main", map[string]entry{
		"tenants/bhs.yaml":    file("bhs"),
		"tenants/run.sh":      {filemode.Executable, "run"},
		"tenants/out":         {filemode.Symlink, "../../../../etc/passwd"},
		"tenants/in":          {filemode.Symlink, "bhs.yaml"},
		"tenants/module":      {mode: filemode.Submodule},
		"tenants/bad\xffbyte": file("not UTF-8"),
		".git/config":         file("hostile"),
		"aux":                 file("a name that Windows reserves"),
	})
	s, err := (&source.Git{URL: startHTTP(t, server) + "/tenants.git", AllowHTTP: true, Ref: onMain}).Fetch(t.Context(), "")
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { g.Expect(s.Close()).To(Succeed()) }()

	types := map[string]fs.FileMode{}
	g.Expect(fs.WalkDir(s.FS, ".", func(path string, d fs.DirEntry, err error) error {
		types[path] = d.Type()
		return err
	})).To(Succeed())
	g.Expect(types).To(Equal(map[string]fs.FileMode{
		".": fs.ModeDir, "tenants": fs.ModeDir, "aux": 0,
		"tenants/bhs.yaml": 0, "tenants/run.sh": 0,
		"tenants/out": fs.ModeSymlink, "tenants/in": fs.ModeSymlink,
		"tenants/module": fs.ModeIrregular, "tenants/bad\uFFFDbyte": fs.ModeIrregular,
	}))
	for _, name := range []string{"tenants/out", "tenants/in", "tenants/module", "tenants/bad\uFFFDbyte"} {
		_, err := s.FS.Open(name)
		g.Expect(err).To(MatchError(fs.ErrPermission), name)
		_, err = fs.ReadFile(s.FS, name)
		g.Expect(err).To(MatchError(fs.ErrPermission), name)
	}
	_, err = s.FS.Open("../../etc/passwd")
	g.Expect(err).To(MatchError(fs.ErrInvalid))
	_, err = s.FS.Open("tenants/bhs.yaml/x")
	g.Expect(err).To(MatchError(fs.ErrNotExist))
	g.Expect(read(g, s, "tenants/bhs.yaml")).To(Equal("bhs"))

	tenants, err := fs.Sub(s.FS, "tenants")
	g.Expect(err).NotTo(HaveOccurred())
	info, err := fs.Stat(tenants, "out")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Mode().Type()).To(Equal(fs.ModeSymlink))
	_, err = fs.ReadFile(tenants, "../aux")
	g.Expect(err).To(MatchError(fs.ErrInvalid))
	_, err = fs.Sub(s.FS, "aux")
	g.Expect(err).To(MatchError(ContainSubstring("not a directory")))
	_, err = fs.Sub(s.FS, "none")
	g.Expect(err).To(MatchError(fs.ErrNotExist))
}

func TestSnapshotIsAFileSystem(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	r.commit("main", map[string]entry{"a/b/c": file("c"), "a/d": file(""), "e": file("e")})
	s, err := (&source.Git{URL: startHTTP(t, server) + "/tenants.git", AllowHTTP: true, Ref: onMain}).Fetch(t.Context(), "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(fstest.TestFS(s.FS, "a/b/c", "a/d", "e")).To(Succeed())
	g.Expect(s.Close()).To(Succeed())
	g.Expect(s.Close()).To(Succeed(), "closing twice does no harm")
	_, err = fs.ReadFile(s.FS, "a/b/c")
	g.Expect(err).To(HaveOccurred(), "a closed snapshot cannot be read")
}

func TestFetchEndsInTime(t *testing.T) {
	temporaryDir(t)
	address := silentListener(t)
	identity, knownHosts := sshIdentity(t, address, ssh.NewEd25519Generator())
	for name, repository := range map[string]source.Git{
		"http":  {URL: "http://" + address + "/tenants.git", AllowHTTP: true},
		"https": {URL: "https://" + address + "/tenants.git"},
		"ssh":   {URL: "ssh://git@" + address + "/tenants.git", Secret: map[string][]byte{"identity": identity, "known_hosts": knownHosts}},
		"semver over ssh": {URL: "ssh://git@" + address + "/tenants.git", Ref: &sourcev1.GitRepositoryRef{SemVer: "*"},
			Secret: map[string][]byte{"identity": identity, "known_hosts": knownHosts}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			repository.Limits.Timeout = 200 * time.Millisecond
			start := time.Now()
			_, err := repository.Fetch(t.Context(), "")
			expectError(g, err, sourcev1.GitOperationFailedReason, "no complete answer from "+repository.URL+" within 200ms")
			g.Expect(err).To(MatchError(context.DeadlineExceeded))
			g.Expect(time.Since(start)).To(BeNumerically("<", 5*time.Second))

			repository.Limits.Timeout = time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			time.AfterFunc(100*time.Millisecond, cancel)
			_, err = repository.Fetch(ctx, "")
			g.Expect(err).To(MatchError(context.Canceled))
		})
	}
}
