// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"

	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/ssh/knownhosts"
	extgogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"
	gossh "golang.org/x/crypto/ssh"
)

// What gogit does not do, done with go-git: to list references, and to fetch one that is neither
// branch nor tag.

// localRef is where fetchName keeps what it fetched.
const localRef plumbing.ReferenceName = "refs/korthweb/fetched"

func (r *remote) remoteConfig() *config.RemoteConfig {
	return &config.RemoteConfig{Name: git.DefaultRemote, URLs: []string{r.url.String()}}
}

// proxy leads ssh connections through the context of the fetch.
func (r *remote) proxy(ctx context.Context) (_ transport.ProxyOptions, done func()) {
	if r.auth.Transport != git.SSH {
		return transport.ProxyOptions{}, func() {}
	}
	url, done := dialWithContext(ctx)
	return transport.ProxyOptions{URL: url}, done
}

func (r *remote) list(ctx context.Context) ([]*plumbing.Reference, error) {
	auth, err := r.authMethod()
	if err != nil {
		return nil, err
	}
	proxy, done := r.proxy(ctx)
	defer done()
	return extgogit.NewRemote(memory.NewStorage(), r.remoteConfig()).ListContext(ctx, &extgogit.ListOptions{
		Auth: auth, ClientCert: r.auth.ClientCert, ClientKey: r.auth.ClientKey, CABundle: r.auth.CAFile, ProxyOptions: proxy,
	})
}

// fetchName fetches the commit of a reference such as refs/pull/420/head. gogit looks for that commit
// in the history of the branches, where the one of a pull request often is not.
func (r *remote) fetchName(ctx context.Context, store *cloneStore, lastRevision string) (*git.Commit, error) {
	refs, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	commit := &git.Commit{Reference: r.ref.Name}
	for _, ref := range refs {
		if ref.Name().String() == r.ref.Name {
			commit.Hash = git.Hash(ref.Hash().String())
		}
	}
	switch {
	case commit.Hash == nil:
		return nil, plumbing.ErrReferenceNotFound
	case r.revision(commit) == lastRevision:
		return nil, ErrUnchanged
	}

	auth, err := r.authMethod()
	if err != nil {
		return nil, err
	}
	proxy, done := r.proxy(ctx)
	defer done()
	if err := store.Init(); err != nil {
		return nil, err
	}
	err = extgogit.NewRemote(store, r.remoteConfig()).FetchContext(ctx, &extgogit.FetchOptions{
		RefSpecs: []config.RefSpec{config.RefSpec("+" + r.ref.Name + ":" + localRef.String())},
		Depth:    1, Tags: extgogit.NoTags,
		Auth: auth, ClientCert: r.auth.ClientCert, ClientKey: r.auth.ClientKey, CABundle: r.auth.CAFile, ProxyOptions: proxy,
	})
	if err != nil {
		return nil, err
	}
	fetched, err := store.Reference(localRef)
	if err != nil {
		return nil, err
	}
	commit.Hash = git.Hash(fetched.Hash().String())
	return commit, nil
}

// authMethod is what gogit, which does not export its own, makes of the same options.
func (r *remote) authMethod() (transport.AuthMethod, error) {
	switch {
	case r.auth.Transport == git.SSH:
		keys, err := ssh.NewPublicKeys(r.auth.Username, r.auth.Identity, r.auth.Password)
		if err != nil {
			return nil, err
		}
		callback, algorithms, err := knownhosts.New(r.auth.KnownHosts)
		if err != nil {
			return nil, err
		}
		keys.HostKeyCallback = callback
		return &sshAuth{PublicKeys: keys, algorithms: algorithms}, nil
	case r.auth.BearerToken != "":
		return &http.TokenAuth{Token: r.auth.BearerToken}, nil
	case r.auth.Username != "":
		return &http.BasicAuth{Username: r.auth.Username, Password: r.auth.Password}, nil
	}
	return nil, nil
}

// sshAuth asks the server for a host key of a kind that known_hosts has.
type sshAuth struct {
	*ssh.PublicKeys
	algorithms []string
}

// ClientConfig implements ssh.AuthMethod.
func (a *sshAuth) ClientConfig() (*gossh.ClientConfig, error) {
	c, err := a.PublicKeys.ClientConfig()
	if err != nil {
		return nil, err
	}
	c.HostKeyAlgorithms = a.algorithms
	for _, algorithm := range a.algorithms {
		// A key of the kind ssh-rsa also signs with SHA-2, and servers no longer offer SHA-1.
		if algorithm == gossh.KeyAlgoRSA {
			c.HostKeyAlgorithms = append([]string{gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256}, a.algorithms...)
		}
	}
	return c, nil
}
