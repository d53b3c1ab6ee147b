// SPDX-License-Identifier: Apache-2.0

package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/git/gogit"
	"github.com/fluxcd/pkg/git/repository"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-git/go-billy/v5/memfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// Git is a repository to read definitions from.
type Git struct {
	// URL of the repository: http, https or ssh, with no credentials in it.
	URL string

	// Ref to read, as in Flux's GitRepository; nil stands for the branch master.
	Ref *sourcev1.GitRepositoryRef

	// Secret holds the data of the Secret that goes with the repository; empty for a public one. For
	// http and https: username and password, or bearerToken; tls.crt and tls.key; ca.crt (or caFile).
	// For ssh: identity, known_hosts, and password when the identity is encrypted.
	Secret map[string][]byte

	// AllowHTTP permits an http URL, whose answers anybody on the way may change.
	AllowHTTP bool

	// Limits of one fetch.
	Limits Limits
}

// Fetch reads the revision that Ref stands for. It returns ErrUnchanged when that is lastRevision,
// having cloned nothing; with an empty lastRevision it always reads. All other errors are an
// [*Error].
//
// No history is cloned, except for a commit, which is looked for in the history of Ref's branch, or of
// all branches if it names none; that history counts towards the limits.
func (g *Git) Fetch(ctx context.Context, lastRevision string) (*Snapshot, error) {
	r, err := g.remote()
	if err != nil {
		return nil, err
	}
	if pinned := r.pinnedRevision(); pinned != "" && pinned == lastRevision {
		return nil, ErrUnchanged
	}
	return fetchInto(withMeter(ctx, r.limits), r.limits.Timeout, func(ctx context.Context, dir string) (*Snapshot, error) {
		snapshot, err := r.fetch(ctx, dir, lastRevision)
		if err != nil && !errors.Is(err, ErrUnchanged) {
			err = r.explain(ctx, err)
		}
		return snapshot, err
	})
}

// remote is a Git that has been validated.
type remote struct {
	url    *url.URL
	ref    sourcev1.GitRepositoryRef
	auth   *git.AuthOptions
	limits Limits
}

func (g *Git) remote() (*remote, error) {
	u, err := parseURL(g.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme == string(git.HTTP) && !g.AllowHTTP {
		return nil, urlInvalid("the URL of the git repository at %s is plain http, which anybody on the way can change: "+
			"use https or ssh, or start the controller with --insecure-allow-http", u.Host)
	}
	auth, err := authOptions(u, g.Secret)
	if err != nil {
		return nil, err
	}
	r := &remote{url: u, auth: auth, limits: g.Limits.withDefaults()}
	if g.Ref != nil {
		r.ref = *g.Ref
	}
	if err := r.validateRef(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *remote) validateRef() error {
	var name plumbing.ReferenceName
	switch {
	case r.ref.Commit != "":
		if !plumbing.IsHash(r.ref.Commit) {
			return r.refInvalid("commit", r.ref.Commit, "all 40 hex digits of a commit")
		}
		return nil
	case r.ref.Name != "":
		// source-controller takes this suffix for the commit behind an annotated tag.
		name = plumbing.ReferenceName(strings.TrimSuffix(r.ref.Name, "^{}"))
	case r.ref.SemVer != "":
		return r.validateSemVer()
	case r.ref.Tag != "":
		name = plumbing.NewTagReferenceName(r.ref.Tag)
	default:
		name = plumbing.NewBranchReferenceName(r.branch())
	}
	if err := name.Validate(); err != nil {
		return r.refInvalid("reference", name.String(), "a name that git check-ref-format accepts")
	}
	return nil
}

func (r *remote) refInvalid(what, value, expected string) *Error {
	return &Error{Reason: sourcev1.GitOperationFailedReason, Terminal: true,
		Err: fmt.Errorf("%s %q is invalid, expected %s", what, value, expected)}
}

func (r *remote) branch() string {
	return cmp.Or(r.ref.Branch, git.DefaultBranch)
}

// refText names the reference for a message.
func (r *remote) refText() string {
	switch {
	case r.ref.Commit != "" && r.ref.Branch != "":
		return fmt.Sprintf("commit %s of branch %s", r.ref.Commit, r.ref.Branch)
	case r.ref.Commit != "":
		return "commit " + r.ref.Commit
	case r.ref.Name != "":
		return "reference " + r.ref.Name
	case r.ref.SemVer != "":
		return "a tag that matches semver " + r.ref.SemVer
	case r.ref.Tag != "":
		return "tag " + r.ref.Tag
	}
	return "branch " + r.branch()
}

// pinnedRevision is the one revision that a commit can lead to, or empty.
func (r *remote) pinnedRevision() string {
	if r.ref.Commit == "" {
		return ""
	}
	commit := &git.Commit{Hash: git.Hash(r.ref.Commit), Reference: r.ref.Name}
	if r.ref.Name == "" && r.ref.Branch != "" {
		commit.Reference = plumbing.NewBranchReferenceName(r.ref.Branch).String()
	}
	return r.revision(commit)
}

// revision as source-controller writes it: with the full name of a reference that was given in full.
func (r *remote) revision(commit *git.Commit) string {
	if r.ref.Name != "" {
		return commit.AbsoluteReference()
	}
	return commit.String()
}

func (r *remote) fetch(ctx context.Context, dir, lastRevision string) (*Snapshot, error) {
	ref := r.ref
	if ref.Commit == "" && ref.Name == "" && ref.SemVer != "" {
		tag, err := r.resolveSemVer(ctx)
		if err != nil {
			return nil, err
		}
		ref = sourcev1.GitRepositoryRef{Tag: tag}
	}

	store, err := newObjectStore(filepath.Join(dir, "git"), r.limits)
	if err != nil {
		return nil, err
	}
	snapshot, err := r.read(ctx, dir, store, ref, lastRevision)
	if err != nil {
		_ = store.Close() // what counts is err; the files are removed either way
		return nil, err
	}
	return snapshot, nil
}

func (r *remote) read(ctx context.Context, dir string, store *objectStore, ref sourcev1.GitRepositoryRef, lastRevision string) (*Snapshot, error) {
	var commit *git.Commit
	var err error
	name := plumbing.ReferenceName(ref.Name)
	clone := &cloneStore{objectStore: store, ctx: ctx}
	if ref.Commit == "" && name != "" && !name.IsBranch() && !name.IsTag() {
		commit, err = r.fetchName(ctx, clone, lastRevision)
	} else {
		commit, err = r.clone(ctx, dir, clone, ref, lastRevision)
	}
	if err != nil {
		return nil, err
	}
	files, err := store.tree(ctx, plumbing.NewHash(commit.Hash.String()))
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit.Hash, err)
	}
	return &Snapshot{Revision: r.revision(commit), FS: files, close: store.Close}, nil
}

func (r *remote) clone(ctx context.Context, dir string, store *cloneStore, ref sourcev1.GitRepositoryRef, lastRevision string) (*git.Commit, error) {
	proxy, done := r.proxy(ctx)
	defer done()
	client, err := gogit.NewClient(dir, r.auth,
		gogit.WithStorer(store), gogit.WithWorkTreeFS(memfs.New()), gogit.WithProxy(proxy))
	if err != nil {
		return nil, err
	}
	defer client.Close()

	commit, err := client.Clone(ctx, r.url.String(), repository.CloneConfig{
		CheckoutStrategy: repository.CheckoutStrategy{
			Branch:  ref.Branch,
			Tag:     ref.Tag,
			RefName: ref.Name,
			Commit:  ref.Commit,
		},
		LastObservedCommit: lastRevision,
		ShallowClone:       true,
	})
	switch {
	case err != nil:
		return nil, err
	case commit == nil:
		return nil, transport.ErrEmptyRemoteRepository
	case !git.IsConcreteCommit(*commit):
		return nil, ErrUnchanged
	}
	return commit, nil
}
