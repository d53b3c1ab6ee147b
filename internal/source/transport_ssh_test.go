// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fluxcd/pkg/ssh"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	. "github.com/onsi/gomega"
	gossh "golang.org/x/crypto/ssh"

	"github.com/digihunch/korthweb/internal/source"
)

// startRudeSSH is an ssh server that lets everybody in and answers a command with what talk writes. It
// returns its address and the Secret for it.
func startRudeSSH(t *testing.T, talk func(io.ReadWriter)) (address string, secret map[string][]byte) {
	t.Helper()
	g := NewWithT(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = listener.Close() })
	address = listener.Addr().String()
	// The server's own key serves as the client's too.
	identity, knownHosts := sshIdentity(t, address, ssh.NewEd25519Generator())
	key, err := gossh.ParsePrivateKey(identity)
	g.Expect(err).NotTo(HaveOccurred())
	config := &gossh.ServerConfig{PublicKeyCallback: func(gossh.ConnMetadata, gossh.PublicKey) (*gossh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)

	serve := func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		_, channels, requests, err := gossh.NewServerConn(conn, config)
		if err != nil {
			return
		}
		go gossh.DiscardRequests(requests)
		for request := range channels {
			channel, requests, err := request.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range requests {
					_ = r.Reply(true, nil)
					if r.Type == "exec" {
						talk(channel)
						_ = channel.Close()
					}
				}
			}()
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return address, map[string][]byte{"identity": identity, "known_hosts": knownHosts}
}

func TestFetchBoundsSSH(t *testing.T) {
	temporaryDir(t)
	hash := strings.Repeat("2", 40)
	greet := func(w io.Writer) *pktline.Encoder {
		e := pktline.NewEncoder(w)
		_ = e.Encode([]byte(hash + " refs/heads/main\x00shallow side-band-64k ofs-delta\n"))
		return e
	}
	for name, c := range map[string]struct {
		talk func(io.ReadWriter)
		text string
	}{
		"references": {func(w io.ReadWriter) {
			greet(w)
			flood(w, packets(hash+" refs/heads/main\n"))
		}, "sends more than 8388608 bytes of references"},
		"shallow commits": {func(w io.ReadWriter) {
			_ = greet(w).Flush()
			flood(w, packets("shallow "+hash+"\n"))
		}, "sends more than 4194304 bytes of an answer without a pack"},
		"progress": {func(w io.ReadWriter) {
			_ = greet(w).Flush()
			_, _ = io.WriteString(w, "0034shallow "+hash+"0000"+"0008NAK\n")
			flood(w, packets("\x02"+strings.Repeat("counting ", 100)))
		}, "sends more than 10485760 bytes of a pack"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var sent atomic.Int64
			address, secret := startRudeSSH(t, func(channel io.ReadWriter) {
				c.talk(countedChannel{channel, &sent})
			})
			url := "ssh://git@" + address + "/tenants.git"
			var err error
			memory := allocated(func() {
				_, err = (&source.Git{URL: url, Ref: onMain, Secret: secret, Limits: source.Limits{MaxBytes: 8 << 20}}).Fetch(t.Context(), "")
			})
			t.Logf("%d KiB allocated, %d KiB sent", memory>>10, sent.Load()>>10)
			expectError(g, err, sourcev1.GitOperationFailedReason, c.text, url)
			g.Expect(memory).To(BeNumerically("<", 200<<20), "go-git copies what it reads")
			g.Expect(sent.Load()).To(BeNumerically("<", 24<<20))
		})
	}
}

type countedChannel struct {
	io.ReadWriter
	sent *atomic.Int64
}

func (c countedChannel) Write(p []byte) (int, error) {
	n, err := c.ReadWriter.Write(p)
	c.sent.Add(int64(n))
	return n, err
}
