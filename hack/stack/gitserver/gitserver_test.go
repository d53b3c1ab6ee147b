// SPDX-License-Identifier: Apache-2.0

package gitserver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/git/gogit"
	"github.com/fluxcd/pkg/git/repository"
	"github.com/fluxcd/pkg/ssh"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

var seed = fstest.MapFS{
	"tenants/bhs.yaml": {Data: []byte("bhs")},
	"tenants/mhr.yaml": {Data: []byte("mhr")},
}

// clone fetches the branch with the client that Korthweb uses.
func clone(t *testing.T, url string, auth git.AuthOptions) (dir string, hash string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dir = t.TempDir()
	options := []gogit.ClientOption{gogit.WithDiskStorage()}
	if auth.Transport == git.HTTP {
		options = append(options, gogit.WithInsecureCredentialsOverHTTP())
	}
	client, err := gogit.NewClient(dir, &auth, options...)
	if err != nil {
		return "", "", err
	}
	defer client.Close()
	commit, err := client.Clone(ctx, url, repository.CloneConfig{
		CheckoutStrategy: repository.CheckoutStrategy{Branch: gitserver.Branch},
	})
	if err != nil {
		return "", "", err
	}
	if commit == nil {
		return "", "", errors.New("the repository is empty") // no error of the client
	}
	return dir, commit.Hash.String(), nil
}

func start(t *testing.T, opts gitserver.Options) (*gitserver.Server, *gitserver.Repo) {
	t.Helper()
	g := NewWithT(t)
	s, err := gitserver.New(t.TempDir(), opts)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = s.Close() })
	repo, err := s.CreateRepo("facilities", seed)
	g.Expect(err).NotTo(HaveOccurred())
	return s, repo
}

func TestCommits(t *testing.T) {
	g := NewWithT(t)
	s, repo := start(t, gitserver.Options{})
	auth := git.AuthOptions{Transport: git.HTTP}

	sha, err := repo.Commit(map[string]string{"tenants/new/ghi.yaml": "ghi"}, []string{"tenants/mhr.yaml"}, "Onboard ghi")
	g.Expect(err).NotTo(HaveOccurred())
	dir, hash, err := clone(t, repo.URL(), auth)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(hash).To(Equal(sha))
	g.Expect(os.ReadFile(filepath.Join(dir, "tenants/new/ghi.yaml"))).To(BeEquivalentTo("ghi"))
	g.Expect(filepath.Join(dir, "tenants/bhs.yaml")).To(BeARegularFile())
	g.Expect(filepath.Join(dir, "tenants/mhr.yaml")).NotTo(BeAnExistingFile())

	again, err := repo.Commit(nil, nil, "Change nothing")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(again).NotTo(Equal(sha))
	_, err = repo.Commit(nil, []string{"tenants/absent.yaml"}, "Remove what is not there")
	g.Expect(err).To(MatchError(ContainSubstring("tenants/absent.yaml")))

	rewritten, err := repo.Rewrite(map[string]string{"tenants/bhs.yaml": "other"}, "Start over")
	g.Expect(err).NotTo(HaveOccurred())
	_, hash, err = clone(t, repo.URL(), auth)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(hash).To(Equal(rewritten))
	g.Expect(repo.Git("rev-list", "--count", "HEAD")).To(Equal("1"))

	g.Expect(repo.DeleteBranch(gitserver.Branch)).To(Succeed())
	_, _, err = clone(t, repo.URL(), auth)
	g.Expect(err).To(HaveOccurred())
	back, err := repo.Commit(nil, nil, "Come back")
	g.Expect(err).NotTo(HaveOccurred())
	_, hash, err = clone(t, repo.URL(), auth)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(hash).To(Equal(back))

	empty, err := s.CreateRepo("empty", nil)
	g.Expect(err).NotTo(HaveOccurred())
	_, _, err = clone(t, empty.URL(), auth)
	g.Expect(err).To(HaveOccurred(), "nothing was ever pushed")
}

// A user of the demo pushes over the same address.
func TestPushOverHTTP(t *testing.T) {
	g := NewWithT(t)
	_, repo := start(t, gitserver.Options{})
	g.Expect(repo.Git("remote", "add", "web", repo.URL())).Error().NotTo(HaveOccurred())
	g.Expect(repo.Git("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--allow-empty", "-m", "By hand")).Error().NotTo(HaveOccurred())
	g.Expect(repo.Git("push", "web", gitserver.Branch)).Error().NotTo(HaveOccurred())
	head, err := repo.Git("rev-parse", "HEAD")
	g.Expect(err).NotTo(HaveOccurred())
	_, hash, err := clone(t, repo.URL(), git.AuthOptions{Transport: git.HTTP})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(hash).To(Equal(head))
}

func TestHTTPSCredentials(t *testing.T) {
	s, repo := start(t, gitserver.Options{TLS: true, Username: "git", Password: "secret", Token: "token"})
	for _, tc := range []struct {
		name string
		auth git.AuthOptions
		ok   bool
	}{
		{name: "user and password", auth: git.AuthOptions{Username: "git", Password: "secret", CAFile: s.CA}, ok: true},
		{name: "bearer token", auth: git.AuthOptions{BearerToken: "token", CAFile: s.CA}, ok: true},
		{name: "wrong password", auth: git.AuthOptions{Username: "git", Password: "no", CAFile: s.CA}},
		{name: "wrong token", auth: git.AuthOptions{BearerToken: "no", CAFile: s.CA}},
		{name: "no credentials", auth: git.AuthOptions{CAFile: s.CA}},
		{name: "authority not trusted", auth: git.AuthOptions{Username: "git", Password: "secret"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			tc.auth.Transport = git.HTTPS
			_, _, err := clone(t, repo.URL(), tc.auth)
			if tc.ok {
				g.Expect(err).NotTo(HaveOccurred())
			} else {
				g.Expect(err).To(HaveOccurred())
			}
		})
	}
}

func TestSSHHostKey(t *testing.T) {
	g := NewWithT(t)
	s, repo := start(t, gitserver.Options{SSH: true})
	identity, err := ssh.GenerateKeyPair(ssh.ED25519)
	g.Expect(err).NotTo(HaveOccurred())
	auth := func() git.AuthOptions {
		hosts, err := s.KnownHosts()
		g.Expect(err).NotTo(HaveOccurred())
		return git.AuthOptions{
			Transport: git.SSH, Username: "git",
			Identity: identity.PrivateKey, KnownHosts: []byte(hosts),
		}
	}
	old := auth()
	_, _, err = clone(t, repo.SSHURL(), old)
	g.Expect(err).NotTo(HaveOccurred())

	url := repo.SSHURL()
	g.Expect(s.ChangeHostKey()).To(Succeed())
	g.Expect(repo.SSHURL()).To(Equal(url))
	_, _, err = clone(t, url, old)
	g.Expect(err).To(MatchError(ContainSubstring("knownhosts: key mismatch")))
	_, _, err = clone(t, url, auth())
	g.Expect(err).NotTo(HaveOccurred())
}

func TestFaults(t *testing.T) {
	g := NewWithT(t)
	s, repo := start(t, gitserver.Options{})
	auth := git.AuthOptions{Transport: git.HTTP}
	url := repo.URL()

	s.Stop()
	_, _, err := clone(t, url, auth)
	g.Expect(err).To(MatchError(ContainSubstring("connection refused")))
	sha, err := repo.Commit(map[string]string{"a": "b"}, nil, "While it is down")
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(s.Start()).To(Succeed())
	g.Expect(repo.URL()).To(Equal(url))
	_, hash, err := clone(t, url, auth)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(hash).To(Equal(sha))

	s.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	client, err := gogit.NewClient(t.TempDir(), &auth, gogit.WithDiskStorage())
	g.Expect(err).NotTo(HaveOccurred())
	defer client.Close()
	_, err = client.Clone(ctx, url, repository.CloneConfig{CheckoutStrategy: repository.CheckoutStrategy{Branch: gitserver.Branch}})
	g.Expect(err).To(MatchError(context.DeadlineExceeded))

	g.Expect(s.Start()).To(Succeed())
	_, _, err = clone(t, url, auth)
	g.Expect(err).NotTo(HaveOccurred())
}
