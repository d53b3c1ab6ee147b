// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/source"
)

// gigabyte is what the servers of these tests would send.
const gigabyte = 1 << 30

// counted counts what a server has sent, the operating system's buffers included.
type counted struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// flood writes chunk again and again, up to a gigabyte or until the client hangs up.
func flood(w io.Writer, chunk []byte) {
	for sent := 0; sent < gigabyte; sent += len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// packets is some 64 KiB of pkt-lines.
func packets(format string) []byte {
	var b strings.Builder
	for i := 0; b.Len() < 64<<10; i++ {
		line := format
		if strings.Contains(format, "%") {
			line = fmt.Sprintf(format, i)
		}
		fmt.Fprintf(&b, "%04x%s", len(line)+4, line)
	}
	return []byte(b.String())
}

// greet begins the list of references that a git server with the branch main greets its clients with.
func greet(w io.Writer) *pktline.Encoder {
	e := pktline.NewEncoder(w)
	_ = e.Encode([]byte("# service=git-upload-pack\n"))
	_ = e.Flush()
	_ = e.Encode([]byte(strings.Repeat("1", 40) + " refs/heads/main\x00shallow side-band-64k ofs-delta\n"))
	return e
}

// allocated is how many bytes do allocates, in all goroutines: what it needs at once is less.
func allocated(do func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// A server that does not end costs little, is hung up on, and is told from a slow one.
func TestFetchBoundsEveryResponse(t *testing.T) {
	temporaryDir(t)
	hash := strings.Repeat("2", 40)
	noise := []byte(strings.Repeat("no ", 20_000))
	const mib = 1 << 20

	list := func(status int, chunk []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			flood(w, chunk)
		}
	}
	// what answers the request for a pack.
	pack := func(write func(http.ResponseWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet {
				_ = greet(w).Flush()
				return
			}
			write(w)
		}
	}

	for name, c := range map[string]struct {
		handler http.HandlerFunc
		memory  int64 // allocated at most, by client and server
		sent    int64 // by the server at most; the operating system's buffers hold some MiB
		text    string
	}{
		"500 with a long body": {list(http.StatusInternalServerError, noise), 2 * mib, 8 * mib, "status code: 500"},
		"401 with a long body": {list(http.StatusUnauthorized, noise), 2 * mib, 8 * mib, "requires credentials"},
		"404 with a long body": {list(http.StatusNotFound, noise), 2 * mib, 8 * mib, "there is no repository at"},
		"302 with a long body": {func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, req.URL.Path+"?"+req.URL.RawQuery+"&again", http.StatusFound)
			flood(w, noise)
		}, 4 * mib, 40 * mib, "more than 5 redirects"},
		"no references but text": {list(http.StatusOK, noise), 2 * mib, 8 * mib, "cannot read branch main"},
		"references": {func(w http.ResponseWriter, _ *http.Request) {
			greet(w)
			var lines []byte
			for ref := 0; ref < gigabyte/64; {
				lines = lines[:0]
				for range 1000 {
					lines = fmt.Appendf(lines, "0041%s refs/heads/%08d\n", hash, ref)
					ref++
				}
				if _, err := w.Write(lines); err != nil {
					return
				}
			}
		}, 100 * mib, 20 * mib, "sends more than 8388608 bytes of references, the limit is 8388608 bytes; delete branches and tags that nobody needs"},
		"one reference again and again": {func(w http.ResponseWriter, _ *http.Request) {
			greet(w)
			flood(w, packets(hash+" refs/heads/main\n"))
		}, 50 * mib, 20 * mib, "bytes of references"},
		"shallow commits": {pack(func(w http.ResponseWriter) { flood(w, packets("shallow "+hash+"\n")) }), 32 * mib, 16 * mib,
			"sends more than 4194304 bytes of an answer without a pack"},
		"common commits": {pack(func(w http.ResponseWriter) { flood(w, packets("ACK "+hash+" continue\n")) }), 32 * mib, 16 * mib,
			"sends more than 4194304 bytes of an answer without a pack"},
		"progress": {pack(func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "0034shallow "+hash+"0000"+"0008NAK\n")
			flood(w, packets("\x02"+strings.Repeat("counting ", 100)))
		}), 32 * mib, 24 * mib, "sends more than 10485760 bytes of a pack"},
		"500 for the pack": {pack(func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			flood(w, noise)
		}), 2 * mib, 8 * mib, "status code: 500"},
		"a long header": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2_000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), string(noise[:1000]))
			}
		}, 20 * mib, 8 * mib, "server response headers exceeded 65536 bytes"},
		"packed though nobody asked": {func(w http.ResponseWriter, req *http.Request) {
			if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
				panic("asks for gzip")
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			flood(z, make([]byte, 1<<20))
			_ = z.Close()
		}, 8 * mib, 8 * mib, "cannot read branch main"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var sent atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				c.handler(counted{w, &sent}, req)
			}))
			var err error
			memory := allocated(func() {
				_, err = (&source.Git{URL: server.URL + "/tenants.git", AllowHTTP: true, Ref: onMain, Limits: source.Limits{MaxBytes: 8 << 20}}).Fetch(t.Context(), "")
			})
			server.Close() // waits for the handlers, which only end because the client has hung up
			t.Logf("%d KiB allocated, %d KiB sent", memory>>10, sent.Load()>>10)
			g.Expect(err).To(MatchError(ContainSubstring(c.text)))
			g.Expect(len(err.Error())).To(BeNumerically("<", 1000))
			g.Expect(memory).To(BeNumerically("<", c.memory))
			g.Expect(sent.Load()).To(BeNumerically("<", c.sent))
		})
	}
}

// A redirect leads neither from https to http, nor credentials to another server.
func TestFetchFollowsRedirects(t *testing.T) {
	temporaryDir(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	r.commit("main", map[string]entry{"v": file("1")})
	plain := startHTTP(t, server)
	secure := newServer(t)
	newRepo(t, secure, "tenants.git").commit("main", map[string]entry{"v": file("1")})
	target, ca := startHTTPS(t, secure)

	// The server that redirects has one certificate with the other, so that both are trusted.
	_, cert, key := newCertificate(NewWithT(t))
	pair, err := tls.X509KeyPair(cert, key)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})

	for name, c := range map[string]struct {
		from, to string
		secret   map[string]string
		text     string // empty: it is followed
	}{
		"http to http":                   {from: "http", to: plain},
		"http to https":                  {from: "http", to: target},
		"https to https":                 {from: "https", to: target},
		"https to http":                  {from: "https", to: plain, text: "redirects to " + plain + ", which is not followed: a redirect from https must lead to https"},
		"password to another server":     {from: "https", to: target, secret: map[string]string{"username": "u", "password": password}, text: "the credentials are for the first of them; if the second is right, give its URL"},
		"bearer token to another server": {from: "https", to: target, secret: map[string]string{"bearerToken": password}, text: "the credentials are for the first of them"},
		"client certificate":             {from: "https", to: target, secret: map[string]string{"tls.crt": string(cert), "tls.key": string(key)}, text: "the credentials are for the first of them"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var asked atomic.Int64
			front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				asked.Add(1)
				http.Redirect(w, req, c.to+req.URL.Path+"?"+req.URL.RawQuery, http.StatusMovedPermanently)
			}))
			front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			if c.from == "https" {
				front.StartTLS()
			} else {
				front.Start()
			}
			t.Cleanup(front.Close)
			secret := map[string][]byte{"ca.crt": append(bytes.Clone(ca), authority...)}
			for k, v := range c.secret {
				secret[k] = []byte(v)
			}
			s, err := (&source.Git{URL: front.URL + "/tenants.git", AllowHTTP: c.from == "http", Ref: onMain, Secret: secret}).Fetch(t.Context(), "")
			g.Expect(asked.Load()).To(BeEquivalentTo(1))
			if c.text == "" {
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(read(g, s, "v")).To(Equal("1"))
				g.Expect(s.Close()).To(Succeed())
				return
			}
			expectError(g, err, sourcev1.GitOperationFailedReason, c.text, front.URL)
			g.Expect(err.Error()).NotTo(ContainSubstring(password))
		})
	}
}
