// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/ssh/knownhosts"
	"github.com/fluxcd/pkg/version"
	extgogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"
	gossh "golang.org/x/crypto/ssh"
)

var errNoTagMatches = errors.New("no tag matches")

func (r *remote) validateSemVer() error {
	if _, err := semver.NewConstraint(r.ref.SemVer); err != nil {
		return r.refInvalid("semver", r.ref.SemVer, "a range of versions such as >=1.0.0 <2.0.0")
	}
	return nil
}

// resolveSemVer asks the remote for its tags and returns the highest version in the range. gogit
// itself would clone all tags each time to find out. Of versions that differ in their build metadata
// only, which semver does not order, the last in the order of the alphabet is taken.
func (r *remote) resolveSemVer(ctx context.Context) (string, error) {
	constraint, err := semver.NewConstraint(r.ref.SemVer)
	if err != nil {
		return "", err
	}
	auth, err := r.authMethod()
	if err != nil {
		return "", err
	}
	list := &extgogit.ListOptions{Auth: auth, ClientCert: r.auth.ClientCert, ClientKey: r.auth.ClientKey, CABundle: r.auth.CAFile}
	if r.auth.Transport == git.SSH {
		proxyURL, done := dialWithContext(ctx)
		defer done()
		list.ProxyOptions = transport.ProxyOptions{URL: proxyURL}
	}
	refs, err := extgogit.NewRemote(memory.NewStorage(), &config.RemoteConfig{
		Name: git.DefaultRemote, URLs: []string{r.url.String()},
	}).ListContext(ctx, list)
	if err != nil {
		return "", err
	}

	var highest *semver.Version
	for _, ref := range refs {
		if !ref.Name().IsTag() {
			continue
		}
		v, err := version.ParseVersion(ref.Name().Short())
		if err != nil || !constraint.Check(v) {
			continue
		}
		if highest == nil || v.GreaterThan(highest) ||
			(v.Equal(highest) && strings.Compare(v.Original(), highest.Original()) > 0) {
			highest = v
		}
	}
	if highest == nil {
		return "", errNoTagMatches
	}
	return highest.Original(), nil
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
