// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
)

// maxMessage is the most bytes of another program's error text that are passed on. A git server
// answers an error with a page of its own choice.
const maxMessage = 500

// Error says why a source could not be read. Its text holds no credential.
type Error struct {
	// Reason for a condition: one of source-controller's, such as AuthenticationFailed.
	Reason string

	// Terminal is true when no retry can help, only another specification.
	Terminal bool

	// Err is the failure itself.
	Err error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the failure itself.
func (e *Error) Unwrap() error { return e.Err }

func authFailed(format string, args ...any) *Error {
	return &Error{Reason: sourcev1.AuthenticationFailedReason, Err: fmt.Errorf(format, args...)}
}

func urlInvalid(format string, args ...any) *Error {
	return &Error{Reason: sourcev1.URLInvalidReason, Terminal: true, Err: fmt.Errorf(format, args...)}
}

// tooMuchError says that a source exceeds a limit.
type tooMuchError struct {
	what   string
	limit  string
	advice string // what to do; may be empty
}

func (e *tooMuchError) Error() string {
	text := fmt.Sprintf("%s, the limit is %s", e.what, e.limit)
	if e.advice != "" {
		text += "; " + e.advice
	}
	return text
}

// unsafePathError says that a revision holds a path that leaves the tree.
type unsafePathError struct{ path string }

func (e *unsafePathError) Error() string {
	return fmt.Sprintf("holds the path %q, which is not within the tree", e.path)
}

// quoted is another error with a text that is safe to show.
type quoted struct {
	text  string
	cause error
}

func (e *quoted) Error() string { return e.text }
func (e *quoted) Unwrap() error { return e.cause }

// quote shortens the text of err to one line and takes the secrets out of it.
func quote(err error, secrets ...string) error {
	text := err.Error()
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return &quoted{text: text, cause: err}
}

// interrupted explains a failure by ctx having ended, and returns nil when it has not.
func interrupted(ctx context.Context, reason, url string, timeout time.Duration) *Error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Reason: reason, Err: fmt.Errorf("no complete answer from %s within %s: %w", url, timeout, context.DeadlineExceeded)}
	case ctx.Err() != nil:
		return &Error{Reason: reason, Err: fmt.Errorf("reading %s was interrupted: %w", url, ctx.Err())}
	}
	return nil
}
