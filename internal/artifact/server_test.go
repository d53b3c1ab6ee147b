// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

var archiveName = strings.Repeat("ab", 32) + ".tar.gz"

// startServer serves a storage with the archive of one tenant, and files that are nobody's business.
func startServer(t *testing.T) (address, dir string, stop func() error) {
	t.Helper()
	g := NewWithT(t)
	base := t.TempDir()
	dir = filepath.Join(base, "storage")
	tenant := filepath.Join(dir, "externalartifact", "flux-system", "bhs")
	g.Expect(os.MkdirAll(tenant, 0o700)).To(Succeed())
	for _, file := range []string{
		filepath.Join(tenant, archiveName), filepath.Join(tenant, "notes.txt"), filepath.Join(tenant, "other.tar.gz"),
		filepath.Join(dir, archiveName), filepath.Join(base, "secret"), filepath.Join(base, archiveName),
	} {
		g.Expect(os.WriteFile(file, []byte("content"), 0o600)).To(Succeed())
	}
	g.Expect(os.Symlink(filepath.Join(base, "secret"), filepath.Join(tenant, strings.Repeat("1", 64)+".tar.gz"))).To(Succeed())
	g.Expect(os.Symlink(archiveName, filepath.Join(tenant, strings.Repeat("2", 64)+".tar.gz"))).To(Succeed())
	g.Expect(os.Mkdir(filepath.Join(tenant, strings.Repeat("3", 64)+".tar.gz"), 0o700)).To(Succeed())
	g.Expect(syscall.Mkfifo(filepath.Join(tenant, strings.Repeat("4", 64)+".tar.gz"), 0o600)).To(Succeed())
	g.Expect(os.Symlink(base, filepath.Join(dir, "externalartifact", "flux-system", "out"))).To(Succeed())

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	g.Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&Server{Path: dir}).serve(ctx, listener) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	return listener.Addr().String(), dir, stop
}

type answer struct {
	status int
	header http.Header
	length int64
	body   string
}

// ask sends a request as it is written: an http.Client would clean the path.
func ask(g *WithT, address, method, path string) answer {
	g.THelper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = conn.Close() }()
	g.Expect(conn.SetDeadline(time.Now().Add(5 * time.Second))).To(Succeed())
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: korthweb\r\nConnection: close\r\n\r\n", method, path)
	g.Expect(err).NotTo(HaveOccurred())
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	g.Expect(err).NotTo(HaveOccurred())
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	g.Expect(err).NotTo(HaveOccurred())
	return answer{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength, body: string(data)}
}

func TestServer(t *testing.T) {
	address, _, _ := startServer(t)
	const tenant = "/externalartifact/flux-system/bhs/"
	archive := tenant + archiveName

	for name, c := range map[string]struct {
		method, path string
		status       int
		body         string // of what is found
	}{
		"an archive":                    {http.MethodGet, archive, http.StatusOK, "content"},
		"its header":                    {http.MethodHead, archive, http.StatusOK, ""},
		"readiness":                     {http.MethodGet, ReadyPath, http.StatusOK, ""},
		"POST":                          {http.MethodPost, archive, http.StatusMethodNotAllowed, ""},
		"DELETE":                        {http.MethodDelete, archive, http.StatusMethodNotAllowed, ""},
		"the root":                      {http.MethodGet, "/", http.StatusNotFound, ""},
		"the kind":                      {http.MethodGet, "/externalartifact/", http.StatusNotFound, ""},
		"a namespace":                   {http.MethodGet, "/externalartifact/flux-system/", http.StatusNotFound, ""},
		"a tenant":                      {http.MethodGet, tenant, http.StatusNotFound, ""},
		"a tenant, no slash":            {http.MethodGet, strings.TrimSuffix(tenant, "/"), http.StatusNotFound, ""},
		"no archive":                    {http.MethodGet, tenant + strings.Repeat("0", 64) + ".tar.gz", http.StatusNotFound, ""},
		"another file":                  {http.MethodGet, tenant + "notes.txt", http.StatusNotFound, ""},
		"no digest":                     {http.MethodGet, tenant + "other.tar.gz", http.StatusNotFound, ""},
		"an archive elsewhere":          {http.MethodGet, "/" + archiveName, http.StatusNotFound, ""},
		"a link out":                    {http.MethodGet, tenant + strings.Repeat("1", 64) + ".tar.gz", http.StatusNotFound, ""},
		"a link to an archive":          {http.MethodGet, tenant + strings.Repeat("2", 64) + ".tar.gz", http.StatusNotFound, ""},
		"a directory like an archive":   {http.MethodGet, tenant + strings.Repeat("3", 64) + ".tar.gz", http.StatusNotFound, ""},
		"a pipe":                        {http.MethodGet, tenant + strings.Repeat("4", 64) + ".tar.gz", http.StatusNotFound, ""},
		"a directory that is a link":    {http.MethodGet, "/externalartifact/flux-system/out/" + archiveName, http.StatusNotFound, ""},
		"up":                            {http.MethodGet, tenant + "../bhs/" + archiveName, http.StatusNotFound, ""},
		"up as a tenant":                {http.MethodGet, "/externalartifact/flux-system/../" + archiveName, http.StatusNotFound, ""},
		"up, escaped":                   {http.MethodGet, "/externalartifact/flux-system/%2e%2e/" + archiveName, http.StatusNotFound, ""},
		"slashes, escaped":              {http.MethodGet, "/externalartifact/flux-system/bhs%2f..%2f..%2f" + archiveName, http.StatusNotFound, ""},
		"two slashes":                   {http.MethodGet, "/" + archive, http.StatusNotFound, ""},
		"a URL with a host":             {http.MethodGet, "http://elsewhere" + archive, http.StatusOK, "content"},
		"a null byte":                   {http.MethodGet, "/externalartifact/flux-system/bhs%00/" + archiveName, http.StatusNotFound, ""},
		"a slash after the archive":     {http.MethodGet, archive + "/", http.StatusNotFound, ""},
		"profiles, which are elsewhere": {http.MethodGet, "/debug/pprof/", http.StatusNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			resp := ask(g, address, c.method, c.path)
			g.Expect(resp.status).To(Equal(c.status))
			if c.status == http.StatusOK {
				g.Expect(resp.body).To(Equal(c.body))
			}
			g.Expect(resp.body).NotTo(ContainSubstring("<"), "a listing")
			g.Expect(resp.header.Get("Location")).To(BeEmpty())
		})
	}

	t.Run("type and size", func(t *testing.T) {
		g := NewWithT(t)
		resp := ask(g, address, http.MethodGet, archive)
		g.Expect(resp.header.Get("Content-Type")).To(Equal("application/gzip"))
		g.Expect(resp.length).To(BeEquivalentTo(len("content")))
	})

	t.Run("a long header", func(t *testing.T) {
		g := NewWithT(t)
		resp := ask(g, address, http.MethodGet, archive+" HTTP/1.1\r\nX: "+strings.Repeat("x", 64<<10)+"\r\nY: ")
		g.Expect(resp.status).To(Equal(http.StatusRequestHeaderFieldsTooLarge))
	})
}

func TestServerHangsUpOnWhoSaysNothing(t *testing.T) {
	g := NewWithT(t)
	address, _, _ := startServer(t)
	conn, err := net.Dial("tcp", address)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\n")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(conn.SetReadDeadline(time.Now().Add(20 * time.Second))).To(Succeed())
	_, err = io.Copy(io.Discard, conn)
	g.Expect(err).NotTo(HaveOccurred(), "the server has closed the connection")
}

func TestServerStops(t *testing.T) {
	g := NewWithT(t)
	address, _, stop := startServer(t)
	g.Expect(ask(g, address, http.MethodGet, ReadyPath).status).To(Equal(http.StatusOK))
	g.Expect(stop()).To(Succeed())
	_, err := net.Dial("tcp", address)
	g.Expect(err).To(HaveOccurred())
}

func TestServerFailures(t *testing.T) {
	g := NewWithT(t)
	address, dir, _ := startServer(t)
	g.Expect((&Server{Path: dir, Address: address}).Start(t.Context())).To(MatchError(ContainSubstring("address already in use")))
	g.Expect((&Server{Path: filepath.Join(dir, "none"), Address: "127.0.0.1:0"}).Start(t.Context())).To(MatchError(os.ErrNotExist))
}

func TestServerIsTheLeaders(t *testing.T) {
	NewWithT(t).Expect((&Server{}).NeedLeaderElection()).To(BeTrue())
}
