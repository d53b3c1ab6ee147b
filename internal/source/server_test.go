// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/gittestserver"
	extgogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	. "github.com/onsi/gomega"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the git server logs each request
	os.Exit(m.Run())
}

// entry is a file of a commit.
type entry struct {
	mode filemode.FileMode
	data string
}

func file(data string) entry { return entry{filemode.Regular, data} }

// repo is a bare repository that a server serves. Commits are built from objects, so that they can
// hold what git itself would refuse to add.
type repo struct {
	*extgogit.Repository
	g    *WithT
	tick int64
}

func newRepo(t *testing.T, server *gittestserver.GitServer, name string) *repo {
	t.Helper()
	g := NewWithT(t)
	r, err := extgogit.PlainInit(filepath.Join(server.Root(), name), true)
	g.Expect(err).NotTo(HaveOccurred())
	return &repo{Repository: r, g: g}
}

func (r *repo) store(typ plumbing.ObjectType, encode func(plumbing.EncodedObject) error) plumbing.Hash {
	o := r.Storer.NewEncodedObject()
	o.SetType(typ)
	r.g.Expect(encode(o)).To(Succeed())
	hash, err := r.Storer.SetEncodedObject(o)
	r.g.Expect(err).NotTo(HaveOccurred())
	return hash
}

func (r *repo) blob(data string) plumbing.Hash {
	return r.store(plumbing.BlobObject, func(o plumbing.EncodedObject) error {
		w, err := o.Writer()
		if err != nil {
			return err
		}
		_, err = w.Write([]byte(data))
		return err
	})
}

// rawTree stores a tree without the checks that go-git has for its own.
func (r *repo) rawTree(entries []object.TreeEntry) plumbing.Hash {
	slices.SortFunc(entries, func(a, b object.TreeEntry) int {
		key := func(e object.TreeEntry) string {
			if e.Mode == filemode.Dir {
				return e.Name + "/"
			}
			return e.Name
		}
		return strings.Compare(key(a), key(b))
	})
	return r.store(plumbing.TreeObject, func(o plumbing.EncodedObject) error {
		w, err := o.Writer()
		if err != nil {
			return err
		}
		for _, e := range entries {
			mode := strings.TrimLeft(e.Mode.String(), "0")
			if _, err := w.Write(append([]byte(mode+" "+e.Name+"\x00"), e.Hash[:]...)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *repo) tree(files map[string]entry) plumbing.Hash {
	dirs := map[string]map[string]entry{}
	var entries []object.TreeEntry
	for name, e := range files {
		dir, rest, below := strings.Cut(name, "/")
		switch {
		case below:
			if dirs[dir] == nil {
				dirs[dir] = map[string]entry{}
			}
			dirs[dir][rest] = e
		case e.mode == filemode.Submodule:
			entries = append(entries, object.TreeEntry{Name: name, Mode: e.mode, Hash: plumbing.NewHash(strings.Repeat("ab", 20))})
		default:
			entries = append(entries, object.TreeEntry{Name: name, Mode: e.mode, Hash: r.blob(e.data)})
		}
	}
	for name, below := range dirs {
		entries = append(entries, object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: r.tree(below)})
	}
	return r.rawTree(entries)
}

// commitTree makes tree the head of branch.
func (r *repo) commitTree(branch string, tree plumbing.Hash, parents ...plumbing.Hash) plumbing.Hash {
	r.tick++
	who := object.Signature{Name: "test", Email: "test@example.com", When: time.Unix(1_700_000_000+r.tick, 0)}
	hash := r.store(plumbing.CommitObject, (&object.Commit{
		Author: who, Committer: who, Message: "test", TreeHash: tree, ParentHashes: parents,
	}).Encode)
	r.setRef(plumbing.NewBranchReferenceName(branch), hash)
	return hash
}

func (r *repo) commit(branch string, files map[string]entry, parents ...plumbing.Hash) plumbing.Hash {
	return r.commitTree(branch, r.tree(files), parents...)
}

func (r *repo) setRef(name plumbing.ReferenceName, hash plumbing.Hash) {
	r.g.Expect(r.Storer.SetReference(plumbing.NewHashReference(name, hash))).To(Succeed())
}

func (r *repo) annotatedTag(name string, commit plumbing.Hash) {
	_, err := r.CreateTag(name, commit, &extgogit.CreateTagOptions{
		Message: name, Tagger: &object.Signature{Name: "test", Email: "test@example.com", When: time.Unix(1_700_000_000, 0)},
	})
	r.g.Expect(err).NotTo(HaveOccurred())
}

// newServer returns a git server that is not started.
func newServer(t *testing.T) *gittestserver.GitServer {
	t.Helper()
	return gittestserver.NewGitServer(t.TempDir())
}

func startHTTP(t *testing.T, server *gittestserver.GitServer) string {
	t.Helper()
	NewWithT(t).Expect(server.StartHTTP()).To(Succeed())
	t.Cleanup(server.StopHTTP)
	return server.HTTPAddress()
}

// startHTTPS serves with a certificate of an own CA, and returns that.
func startHTTPS(t *testing.T, server *gittestserver.GitServer) (url string, ca []byte) {
	t.Helper()
	g := NewWithT(t)
	ca, cert, key := newCertificate(g)
	g.Expect(server.StartHTTPS(cert, key, ca, "127.0.0.1")).To(Succeed())
	t.Cleanup(server.StopHTTP)
	return server.HTTPAddress(), ca
}

func newCertificate(g *WithT) (ca, cert, key []byte) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.Expect(err).NotTo(HaveOccurred())
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, &template, &template, &caKey.PublicKey, caKey)
	g.Expect(err).NotTo(HaveOccurred())

	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.Expect(err).NotTo(HaveOccurred())
	leaf := x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, &leaf, &template, &leafKey.PublicKey, caKey)
	g.Expect(err).NotTo(HaveOccurred())
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	g.Expect(err).NotTo(HaveOccurred())

	block := func(typ string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	}
	return block("CERTIFICATE", caDER), block("CERTIFICATE", leafDER), block("PRIVATE KEY", keyDER)
}

// temporaryDir makes the package use a directory of its own for what it stores, and checks at the end
// that nothing is left there.
func temporaryDir(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		entries, err := os.ReadDir(dir)
		g := NewWithT(t)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(entries).To(BeEmpty(), "a snapshot or a failed fetch left files behind")
	})
}

// silentListener accepts connections and says nothing.
func silentListener(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return l.Addr().String()
}
