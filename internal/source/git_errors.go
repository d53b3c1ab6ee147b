// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fluxcd/pkg/git"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	extgogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// explain turns what gogit and go-git report into what somebody can act upon.
func (r *remote) explain(ctx context.Context, err error) *Error {
	if exceeded := meterOf(ctx).exceeded(); exceeded != nil {
		err = exceeded
	} else if interrupted := interrupted(ctx, sourcev1.GitOperationFailedReason, r.url.String(), r.limits.Timeout); interrupted != nil {
		return interrupted
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return known
	}
	cause := quote(err, r.auth.Password, r.auth.BearerToken)

	var tooMuch *tooMuchError
	var redirect *redirectError
	var unsafePath *unsafePathError
	var hostKey *knownhosts.KeyError
	var algorithms *ssh.AlgorithmNegotiationError
	var notFound git.ErrRepositoryNotFound
	switch {
	case errors.As(err, &tooMuch), errors.As(err, &unsafePath):
		return gitFailed("%s of %s: %w", r.refText(), r.url, cause)
	case errors.As(err, &redirect):
		return gitFailed("cannot read %s of %s: %w", r.refText(), r.url, redirect)

	case errors.As(err, &hostKey) && len(hostKey.Want) > 0:
		return authFailed("the host key of %s has changed: it is not the one in known_hosts of the Secret; "+
			"find out why before known_hosts is changed", r.url.Host)
	case errors.As(err, &hostKey):
		return authFailed("the host key of %s is unknown: known_hosts of the Secret has no key for it", r.url.Host)
	case errors.As(err, &algorithms) && algorithms.What == "host key":
		return authFailed("%s offers no host key of a kind that known_hosts of the Secret has: "+
			"the host is unknown there, or its key has changed", r.url.Host)

	case errors.Is(err, transport.ErrAuthenticationRequired) && len(r.auth.Password)+len(r.auth.BearerToken) == 0:
		return authFailed("%s requires credentials, none are given: set secretRef: %w", r.url, transport.ErrAuthenticationRequired)
	case errors.Is(err, transport.ErrAuthenticationRequired):
		return authFailed("%s refused the credentials of the Secret: %w", r.url, transport.ErrAuthenticationRequired)
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return authFailed("%s denies access to the user of the Secret: %w", r.url, transport.ErrAuthorizationFailed)
	case strings.Contains(err.Error(), "ssh: unable to authenticate"):
		return authFailed("%s refused the identity of the Secret", r.url)

	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return gitFailed("%s not found in %s: %w", r.refText(), r.url, transport.ErrEmptyRemoteRepository)
	case r.ref.Commit != "" && r.ref.Branch == "" && errors.Is(err, plumbing.ErrReferenceNotFound):
		return gitFailed("cannot look for %s in %s, whose HEAD names no branch: set ref.branch to the branch of the commit",
			r.refText(), r.url)
	case r.isRefNotFound(err):
		return gitFailed("%s not found in %s", r.refText(), r.url)
	case errors.Is(err, transport.ErrRepositoryNotFound), errors.As(err, &notFound):
		return gitFailed("there is no repository at %s, or none that these credentials may read", r.url)
	}
	return gitFailed("cannot read %s of %s: %w", r.refText(), r.url, cause)
}

func (r *remote) isRefNotFound(err error) bool {
	if r.ref.Commit != "" && errors.Is(err, plumbing.ErrObjectNotFound) {
		return true
	}
	return errors.Is(err, extgogit.NoMatchingRefSpecError{}) || errors.Is(err, errNoTagMatches) ||
		errors.Is(err, plumbing.ErrReferenceNotFound) ||
		// gogit has no error value for these two.
		strings.Contains(err.Error(), "couldn't find remote ref") ||
		(r.ref.Name != "" && strings.Contains(err.Error(), "unable to resolve ref"))
}

func gitFailed(format string, args ...any) *Error {
	return &Error{Reason: sourcev1.GitOperationFailedReason, Err: fmt.Errorf(format, args...)}
}
