// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/gitkit"
	"github.com/fluxcd/pkg/ssh"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/digihunch/korthweb/internal/source"
)

const password = "correct-horse"

// sshIdentity returns a private key, and known_hosts with its public half for address.
func sshIdentity(t *testing.T, address string, keys ssh.KeyPairGenerator) (identity, knownHosts []byte) {
	t.Helper()
	g := NewWithT(t)
	pair, err := keys.Generate()
	g.Expect(err).NotTo(HaveOccurred())
	public, _, _, _, err := gossh.ParseAuthorizedKey(pair.PublicKey)
	g.Expect(err).NotTo(HaveOccurred())
	return pair.PrivateKey, []byte(knownhosts.Line([]string{address}, public) + "\n")
}

func TestFetchOverHTTPS(t *testing.T) {
	temporaryDir(t)
	server := newServer(t).Auth("korthweb", password)
	r := newRepo(t, server, "tenants.git")
	r.setRef("refs/tags/v1.2.3", r.commit("main", map[string]entry{"v": file("1")}))
	url, ca := startHTTPS(t, server)
	otherCA, _, _ := newCertificate(NewWithT(t))
	url += "/tenants.git"

	for name, c := range map[string]struct {
		secret map[string]string
		reason string // empty: it works
		text   string
	}{
		"ca.crt":          {secret: map[string]string{"username": "korthweb", "password": password, "ca.crt": string(ca)}},
		"caFile":          {secret: map[string]string{"username": "korthweb", "password": password, "caFile": string(ca)}},
		"wrong password":  {map[string]string{"username": "korthweb", "password": "secret-but-wrong", "ca.crt": string(ca)}, sourcev1.AuthenticationFailedReason, "refused the credentials"},
		"none":            {map[string]string{"ca.crt": string(ca)}, sourcev1.AuthenticationFailedReason, "requires credentials, none are given"},
		"no CA":           {map[string]string{"username": "korthweb", "password": password}, sourcev1.GitOperationFailedReason, "certificate signed by unknown authority"},
		"another CA":      {map[string]string{"username": "korthweb", "password": password, "ca.crt": string(otherCA)}, sourcev1.GitOperationFailedReason, "certificate signed by unknown authority"},
		"not a CA":        {map[string]string{"username": "korthweb", "password": password, "ca.crt": "x"}, sourcev1.AuthenticationFailedReason, "ca.crt holds no PEM certificate"},
		"no username":     {map[string]string{"password": password}, sourcev1.AuthenticationFailedReason, "'password' requires 'username'"},
		"no password":     {map[string]string{"username": "korthweb"}, sourcev1.AuthenticationFailedReason, "has username but no password"},
		"both kinds":      {map[string]string{"username": "korthweb", "password": password, "bearerToken": "t"}, sourcev1.AuthenticationFailedReason, "has both bearerToken and username or password"},
		"half a key pair": {map[string]string{"tls.crt": "x"}, sourcev1.AuthenticationFailedReason, "has one of tls.crt and tls.key"},
		"keys for ssh":    {map[string]string{"identity": "x", "known_hosts": "y"}, sourcev1.AuthenticationFailedReason, "has none of the keys"},
	} {
		for _, ref := range []*sourcev1.GitRepositoryRef{onMain, {SemVer: "1.x"}} {
			t.Run(name+" "+ref.Branch+ref.SemVer, func(t *testing.T) {
				g := NewWithT(t)
				secret := map[string][]byte{}
				for key, value := range c.secret {
					secret[key] = []byte(value)
				}
				s, err := (&source.Git{URL: url, Ref: ref, Secret: secret}).Fetch(t.Context(), "")
				if c.reason == "" {
					g.Expect(err).NotTo(HaveOccurred())
					g.Expect(read(g, s, "v")).To(Equal("1"))
					g.Expect(s.Close()).To(Succeed())
					return
				}
				expectError(g, err, c.reason, c.text, url)
				g.Expect(isTerminal(err)).To(BeFalse(), "the Secret may be mended")
				g.Expect(err.Error()).NotTo(Or(ContainSubstring(password), ContainSubstring("secret-but-wrong")))
			})
		}
	}
}

func TestFetchWithBearerToken(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)
	server := newServer(t)
	server.AddHTTPMiddlewares(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != "Bearer the-token" {
				// A server that repeats what it was sent, at length.
				http.Error(w, req.Header.Get("Authorization")+strings.Repeat(" no", 10_000), http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, req)
		})
	})
	r := newRepo(t, server, "tenants.git")
	r.setRef("refs/tags/v1.2.3", r.commit("main", map[string]entry{"v": file("1")}))
	url, ca := startHTTPS(t, server)
	repository := source.Git{URL: url + "/tenants.git", Ref: onMain,
		Secret: map[string][]byte{"bearerToken": []byte("the-token"), "ca.crt": ca}}

	for _, ref := range []*sourcev1.GitRepositoryRef{onMain, {SemVer: "*"}} {
		repository.Ref = ref
		s, err := repository.Fetch(t.Context(), "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Close()).To(Succeed())
	}

	repository.Secret["bearerToken"] = []byte("another-token")
	_, err := repository.Fetch(t.Context(), "")
	expectError(g, err, sourcev1.AuthenticationFailedReason, "denies access")
	g.Expect(err.Error()).NotTo(ContainSubstring("another-token"))
	g.Expect(len(err.Error())).To(BeNumerically("<", 1000))
}

func TestFetchRefusesURLs(t *testing.T) {
	temporaryDir(t)
	for name, c := range map[string]struct {
		url  string
		text string
	}{
		"scheme":      {"ftp://example.com/x", `scheme "ftp", expected http, https or ssh`},
		"scp":         {"git@example.com:x", "cannot be parsed"},
		"no host":     {"https:///x", "names no host"},
		"malformed":   {"https://user:" + password + "@exa mple.com", "cannot be parsed"},
		"credentials": {"https://user:" + password + "@example.com/x", "at example.com holds credentials"},
		"user":        {"http://user@example.com/x", "at example.com holds credentials"},
		"http":        {"http://example.com/x", "at example.com is plain http, which anybody on the way can change: use https or ssh, or start the controller with --insecure-allow-http"},
		"HTTP":        {"HTTP://example.com/x", "use https or ssh"},
		"ssh":         {"ssh://git:" + password + "@example.com/x", "at example.com holds credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := (&source.Git{URL: c.url}).Fetch(t.Context(), "")
			expectError(g, err, sourcev1.URLInvalidReason, c.text)
			g.Expect(isTerminal(err)).To(BeTrue())
			g.Expect(err.Error()).NotTo(ContainSubstring(password))
		})
	}

	t.Run("credentials over http", func(t *testing.T) {
		g := NewWithT(t)
		for _, secret := range []map[string][]byte{
			{"username": []byte("u"), "password": []byte(password)}, {"bearerToken": []byte(password)},
		} {
			_, err := (&source.Git{URL: "http://example.com/x", AllowHTTP: true, Secret: secret}).Fetch(t.Context(), "")
			expectError(g, err, sourcev1.AuthenticationFailedReason, "credentials are not sent over plain http, use an https URL")
			g.Expect(err.Error()).NotTo(ContainSubstring(password))
		}
	})
}

func TestFetchRefusesReferences(t *testing.T) {
	for name, c := range map[string]struct {
		ref  *sourcev1.GitRepositoryRef
		text string
	}{
		"short commit": {&sourcev1.GitRepositoryRef{Commit: "abc123"}, `commit "abc123" is invalid, expected all 40 hex digits`},
		"semver":       {&sourcev1.GitRepositoryRef{SemVer: "one"}, `semver "one" is invalid`},
		"branch":       {&sourcev1.GitRepositoryRef{Branch: "a..b"}, `reference "refs/heads/a..b" is invalid`},
		"name":         {&sourcev1.GitRepositoryRef{Name: "/refs/heads/x"}, `reference "/refs/heads/x" is invalid`},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := (&source.Git{URL: "https://example.com/x", Ref: c.ref}).Fetch(t.Context(), "")
			expectError(g, err, sourcev1.GitOperationFailedReason, c.text)
			g.Expect(isTerminal(err)).To(BeTrue())
		})
	}
}

func TestFetchOverSSH(t *testing.T) {
	temporaryDir(t)
	g := NewWithT(t)

	pair, err := ssh.NewEd25519Generator().Generate()
	g.Expect(err).NotTo(HaveOccurred())
	raw, err := gossh.ParseRawPrivateKey(pair.PrivateKey)
	g.Expect(err).NotTo(HaveOccurred())
	block, err := gossh.MarshalPrivateKeyWithPassphrase(raw, "", []byte(password))
	g.Expect(err).NotTo(HaveOccurred())
	encrypted := pem.EncodeToMemory(block)

	server := newServer(t).Auth("unused", "unused").KeyDir(t.TempDir())
	server.PublicKeyLookupFunc(func(content string) (*gitkit.PublicKey, error) {
		if strings.TrimSpace(content) != strings.TrimSpace(string(pair.PublicKey)) {
			return nil, errors.New("not a key of this server")
		}
		return &gitkit.PublicKey{Id: "korthweb"}, nil
	})
	r := newRepo(t, server, "tenants.git")
	r.setRef("refs/tags/v1.2.3", r.commit("main", map[string]entry{"v": file("1")}))
	g.Expect(server.ListenSSH()).To(Succeed())
	go func() { _ = server.StartSSH() }()
	t.Cleanup(func() { _ = server.StopSSH() })

	url := server.SSHAddress() + "/tenants.git"
	address := strings.TrimPrefix(server.SSHAddress(), "ssh://git@")
	hostKeys, err := ssh.ScanHostKey(address, 5*time.Second, nil, false)
	g.Expect(err).NotTo(HaveOccurred())
	// The server's own key is an RSA one.
	rsa := ssh.NewRSAGenerator(2048)
	other, wrongHostKey := sshIdentity(t, address, rsa)
	_, wrongKindOfKey := sshIdentity(t, address, ssh.NewEd25519Generator())
	_, unknownHost := sshIdentity(t, net.JoinHostPort("example.com", "22"), rsa)

	for name, c := range map[string]struct {
		secret map[string][]byte
		reason string // empty: it works
		text   string
	}{
		"identity":           {secret: map[string][]byte{"identity": pair.PrivateKey, "identity.pub": pair.PublicKey, "known_hosts": hostKeys}},
		"encrypted identity": {secret: map[string][]byte{"identity": encrypted, "known_hosts": hostKeys, "password": []byte(password)}},
		"not the password":   {map[string][]byte{"identity": encrypted, "known_hosts": hostKeys, "password": []byte("wrong")}, sourcev1.AuthenticationFailedReason, "cannot be decrypted with password"},
		"no password":        {map[string][]byte{"identity": encrypted, "known_hosts": hostKeys}, sourcev1.AuthenticationFailedReason, "identity is encrypted and password is not set"},
		"another identity":   {map[string][]byte{"identity": other, "known_hosts": hostKeys}, sourcev1.AuthenticationFailedReason, "refused the identity of the Secret"},
		"no identity":        {map[string][]byte{"known_hosts": hostKeys}, sourcev1.AuthenticationFailedReason, "'identity' is required"},
		"no known_hosts":     {map[string][]byte{"identity": pair.PrivateKey}, sourcev1.AuthenticationFailedReason, "'known_hosts' is required"},
		"no Secret":          {nil, sourcev1.AuthenticationFailedReason, "'identity' is required"},
		"not a key":          {map[string][]byte{"identity": []byte("x"), "known_hosts": hostKeys}, sourcev1.AuthenticationFailedReason, "identity is not a private key"},
		"bad known_hosts":    {map[string][]byte{"identity": pair.PrivateKey, "known_hosts": []byte("x y z\n")}, sourcev1.AuthenticationFailedReason, "known_hosts cannot be parsed"},
		"host key changed":   {map[string][]byte{"identity": pair.PrivateKey, "known_hosts": wrongHostKey}, sourcev1.AuthenticationFailedReason, "the host key of " + address + " has changed"},
		"kind of host key":   {map[string][]byte{"identity": pair.PrivateKey, "known_hosts": wrongKindOfKey}, sourcev1.AuthenticationFailedReason, address + " offers no host key of a kind that known_hosts of the Secret has"},
		"host key unknown":   {map[string][]byte{"identity": pair.PrivateKey, "known_hosts": unknownHost}, sourcev1.AuthenticationFailedReason, "the host key of " + address + " is unknown"},
	} {
		for _, ref := range []*sourcev1.GitRepositoryRef{onMain, {SemVer: "1.x"}} {
			t.Run(name+" "+ref.Branch+ref.SemVer, func(t *testing.T) {
				g := NewWithT(t)
				s, err := (&source.Git{URL: url, Ref: ref, Secret: c.secret}).Fetch(t.Context(), "")
				if c.reason == "" {
					g.Expect(err).NotTo(HaveOccurred())
					g.Expect(read(g, s, "v")).To(Equal("1"))
					g.Expect(s.Close()).To(Succeed())
					return
				}
				expectError(g, err, c.reason, c.text)
				g.Expect(err.Error()).NotTo(Or(ContainSubstring(password), ContainSubstring("PRIVATE KEY")))
			})
		}
	}
}
