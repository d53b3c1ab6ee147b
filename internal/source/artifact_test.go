// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	fluxtar "github.com/fluxcd/pkg/tar"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/digihunch/korthweb/internal/source"
)

const artifactRevision = "main@sha1:0123456789012345678901234567890123456789"

// archive is a tar.gz of these headers; a regular file without a size is filled with its own name.
func archive(g *WithT, headers ...tar.Header) []byte {
	g.THelper()
	var buffer bytes.Buffer
	z := gzip.NewWriter(&buffer)
	w := tar.NewWriter(z)
	for _, h := range headers {
		content := make([]byte, h.Size)
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			content = []byte(h.Name)
			h.Size = int64(len(content))
		}
		h.Mode = 0o644
		g.Expect(w.WriteHeader(&h)).To(Succeed())
		_, err := w.Write(content)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(w.Close()).To(Succeed())
	g.Expect(z.Close()).To(Succeed())
	return buffer.Bytes()
}

func regular(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }

// serve publishes content and returns the artifact that stands for it.
func serve(t *testing.T, content []byte) *meta.Artifact {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/gitrepository/flux-system/tenants/1.tar.gz" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(server.Close)
	return &meta.Artifact{
		URL:      server.URL + "/gitrepository/flux-system/tenants/1.tar.gz",
		Digest:   digest.FromBytes(content).String(),
		Revision: artifactRevision,
	}
}

func TestFetchArtifact(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)

	// As source-controller makes it: with fluxcd/pkg/tar.
	dir := t.TempDir()
	g.Expect(os.CopyFS(dir, fstest.MapFS{
		"tenants/bhs.yaml": {Data: []byte("bhs")}, "tenants/north/mhr.yaml": {Data: []byte("mhr")}, "README.md": {Data: []byte("x")},
	})).To(Succeed())
	var content bytes.Buffer
	_, err := fluxtar.Tar(dir, &content)
	g.Expect(err).NotTo(HaveOccurred())

	s, err := source.FetchArtifact(t.Context(), serve(t, content.Bytes()), source.Limits{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(s.Revision).To(Equal(artifactRevision))
	g.Expect(read(g, s, "tenants/north/mhr.yaml")).To(Equal("mhr"))
	g.Expect(fstest.TestFS(s.FS, "tenants/bhs.yaml", "tenants/north/mhr.yaml", "README.md")).To(Succeed())
	g.Expect(s.Close()).To(Succeed())
	g.Expect(s.Close()).To(Succeed(), "closing twice does no harm")
}

func TestFetchArtifactRefusesWhatIsNotAFile(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	content := archive(g,
		tar.Header{Typeflag: tar.TypeDir, Name: "./"},
		tar.Header{Typeflag: tar.TypeDir, Name: "./tenants/"},
		regular("./tenants/bhs.yaml"),
		regular(".git/config"),
		tar.Header{Typeflag: tar.TypeSymlink, Name: "tenants/symlink", Linkname: "/etc/passwd"},
		tar.Header{Typeflag: tar.TypeLink, Name: "tenants/hardlink", Linkname: "tenants/bhs.yaml"},
		tar.Header{Typeflag: tar.TypeFifo, Name: "tenants/fifo"},
		tar.Header{Typeflag: tar.TypeChar, Name: "tenants/null", Devmajor: 1, Devminor: 3},
	)
	s, err := source.FetchArtifact(t.Context(), serve(t, content), source.Limits{})
	g.Expect(err).NotTo(HaveOccurred())
	types := map[string]fs.FileMode{}
	g.Expect(fs.WalkDir(s.FS, ".", func(path string, d fs.DirEntry, err error) error {
		types[path] = d.Type()
		return err
	})).To(Succeed())
	g.Expect(types).To(Equal(map[string]fs.FileMode{
		".": fs.ModeDir, "tenants": fs.ModeDir, "tenants/bhs.yaml": 0,
		"tenants/symlink": fs.ModeSymlink, "tenants/hardlink": fs.ModeIrregular,
		"tenants/fifo": fs.ModeNamedPipe, "tenants/null": fs.ModeDevice | fs.ModeCharDevice,
	}))
	for _, name := range []string{"tenants/symlink", "tenants/hardlink", "tenants/fifo", "tenants/null"} {
		_, err := s.FS.Open(name)
		g.Expect(err).To(MatchError(fs.ErrPermission), name)
	}
	g.Expect(s.Close()).To(Succeed())
}

func TestFetchArtifactFailures(t *testing.T) {
	temporaryDir(t)
	good := archive(NewWithT(t), regular("tenants/bhs.yaml"), regular("tenants/mhr.yaml"), regular("tenants/third.yaml"))

	for name, c := range map[string]struct {
		content []byte
		change  func(*meta.Artifact)
		limits  source.Limits
		reason  string
		text    string
	}{
		"digest mismatch": {content: good, change: func(a *meta.Artifact) { a.Digest = digest.FromString("other").String() },
			text: "does not have the digest " + digest.FromString("other").String()},
		"no digest":     {content: good, change: func(a *meta.Artifact) { a.Digest = "" }, text: `has the digest "", expected`},
		"odd digest":    {content: good, change: func(a *meta.Artifact) { a.Digest = "md5:00" }, text: `has the digest "md5:00", expected`},
		"gone":          {content: good, change: func(a *meta.Artifact) { a.URL += ".old" }, text: "1.tar.gz.old is gone"},
		"no URL":        {content: good, change: func(a *meta.Artifact) { a.URL = "" }, reason: sourcev1.URLInvalidReason, text: "not that of an HTTP server"},
		"a file URL":    {content: good, change: func(a *meta.Artifact) { a.URL = "file:///etc/passwd" }, reason: sourcev1.URLInvalidReason, text: "not that of an HTTP server"},
		"credentials":   {content: good, change: func(a *meta.Artifact) { a.URL = "http://u:p@127.0.0.1/x.tar.gz" }, reason: sourcev1.URLInvalidReason, text: "without credentials"},
		"server down":   {content: good, change: func(a *meta.Artifact) { a.URL = "http://127.0.0.1:1/x.tar.gz" }, text: "connection refused"},
		"not gzip":      {content: []byte("<html>"), text: "gzip"},
		"empty":         {content: []byte{}, text: "cannot be unpacked"},
		"truncated":     {content: good[:len(good)/2], text: "unexpected EOF"},
		"archive size":  {content: good, limits: source.Limits{MaxBytes: 50}, text: "its server sends more than 50 bytes, the limit is 50 bytes"},
		"unpacked size": {content: archive(NewWithT(t), tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Size: 64 << 20}), limits: source.Limits{MaxBytes: 1 << 20}, text: "limit is 1048576 bytes"},
		"entries":       {content: archive(NewWithT(t), slices.Repeat([]tar.Header{{Typeflag: tar.TypeDir, Name: "a/"}}, 100_000)...), limits: source.Limits{MaxBytes: 1 << 20, MaxFiles: 10}, text: "unpacks to more than 1089536 bytes, with the headers of its entries"},
		"long name":     {content: archive(NewWithT(t), tar.Header{Typeflag: tar.TypeSymlink, Name: strings.Repeat("n", 1<<19), Linkname: "x"}), text: "a name of 524288 bytes, the limit is 255 bytes"},
		"files":         {content: good, limits: source.Limits{MaxFiles: 3}, text: "more than 3 files and directories, the limit is 3"},
		"traversal":     {content: archive(NewWithT(t), regular("tenants/bhs.yaml"), regular("../../escaped")), text: `"../../escaped"`},
		"parent":        {content: archive(NewWithT(t), regular("tenants/.."), regular("..")), text: `"tenants/.."`},
		"absolute":      {content: archive(NewWithT(t), regular("/etc/escaped")), text: `"/etc/escaped"`},
		"below a link": {content: archive(NewWithT(t), tar.Header{Typeflag: tar.TypeSymlink, Name: "out", Linkname: "/tmp"}, regular("out/escaped")),
			text: `"out/escaped" is below "out", which is not a directory`},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			artifact := serve(t, c.content)
			if c.change != nil {
				c.change(artifact)
			}
			_, err := source.FetchArtifact(t.Context(), artifact, c.limits)
			reason := c.reason
			if reason == "" {
				reason = meta.ArtifactFailedReason
			}
			expectError(g, err, reason, c.text)
			g.Expect(isTerminal(err)).To(BeFalse(), "the source may publish another")
		})
	}

	t.Run("none", func(t *testing.T) {
		g := NewWithT(t)
		_, err := source.FetchArtifact(t.Context(), nil, source.Limits{})
		expectError(g, err, meta.ArtifactFailedReason, "the source has no artifact yet")
	})

	t.Run("server error", func(t *testing.T) {
		g := NewWithT(t)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}))
		t.Cleanup(server.Close)
		_, err := source.FetchArtifact(t.Context(), &meta.Artifact{URL: server.URL, Digest: digest.FromString("x").String()}, source.Limits{})
		expectError(g, err, meta.ArtifactFailedReason, "the server of artifact "+server.URL+" answers 502 Bad Gateway")
	})

	t.Run("silence", func(t *testing.T) {
		g := NewWithT(t)
		artifact := &meta.Artifact{URL: fmt.Sprintf("http://%s/x.tar.gz", silentListener(t)), Digest: digest.FromString("x").String()}
		_, err := source.FetchArtifact(t.Context(), artifact, source.Limits{Timeout: 200 * time.Millisecond})
		expectError(g, err, meta.ArtifactFailedReason, "no complete answer from "+artifact.URL+" within 200ms")
		g.Expect(err).To(MatchError(context.DeadlineExceeded))
	})
}

// A server that does not end is hung up on, whatever it answers with.
func TestFetchArtifactBoundsEveryResponse(t *testing.T) {
	temporaryDir(t)
	noise := []byte(strings.Repeat("no ", 20_000))
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		text    string
	}{
		"an archive": {func(w http.ResponseWriter, _ *http.Request) { flood(w, noise) }, "sends more than 1048576 bytes, the limit is 1048576 bytes"},
		"a 500": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			flood(w, noise)
		}, "answers 500 Internal Server Error"},
		"a 404": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			flood(w, noise)
		}, "is gone"},
		"redirects": {func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, req.URL.Path, http.StatusFound)
		}, "more than 5 redirects"},
		"a header": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2_000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), string(noise[:1000]))
			}
		}, "server response headers exceeded 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var sent atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				c.handler(counted{w, &sent}, req)
			}))
			var err error
			memory := allocated(func() {
				_, err = source.FetchArtifact(t.Context(), &meta.Artifact{URL: server.URL + "/1.tar.gz", Digest: digest.FromString("x").String()}, source.Limits{MaxBytes: 1 << 20})
			})
			server.Close()
			expectError(g, err, meta.ArtifactFailedReason, c.text)
			g.Expect(memory).To(BeNumerically("<", 20<<20))
			g.Expect(sent.Load()).To(BeNumerically("<", 16<<20))
		})
	}
}
