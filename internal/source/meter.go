// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"sync"
)

const (
	// maxAdvertisement bounds the list of references with which a git server greets its clients, whatever
	// is asked for. It has room for some 125,000 references, more than the pull requests of all but the
	// largest public repositories; go-git needs about four times the bytes in memory.
	maxAdvertisement = 8 << 20

	// maxAnswer bounds what a git server says before it sends the pack: which commits are shallow and which
	// it has in common. Of a clone without history that is a few lines; over ssh, a window of 2 MiB of the
	// pack comes with it.
	maxAnswer = 4 << 20
)

// A git server says three things, and each is bounded by itself.
const (
	advertisement = iota
	answer
	pack
)

// meter counts what one fetch receives from a git server, and keeps the error of the limit that was
// exceeded, which go-git would reduce to its text, or lose.
type meter struct {
	maxPack int64

	mu       sync.Mutex
	phase    int
	received int64
	failed   error
}

type meterKey struct{}

// withMeter returns a context whose fetch is bounded by limits.
func withMeter(ctx context.Context, limits Limits) context.Context {
	return context.WithValue(ctx, meterKey{}, newMeter(limits))
}

func newMeter(limits Limits) *meter {
	// A pack comes in packets, with messages about its progress between them.
	return &meter{maxPack: limits.MaxBytes + limits.MaxBytes/8 + 1<<20}
}

// meterOf returns the meter of a fetch, or one with the default limits.
func meterOf(ctx context.Context) *meter {
	if m, ok := ctx.Value(meterKey{}).(*meter); ok {
		return m
	}
	return newMeter(Limits{}.withDefaults())
}

// enter begins to count anew, against the limit of phase.
func (m *meter) enter(phase int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase, m.received = phase, 0
}

// take counts n bytes, and returns an error when they are too many.
func (m *meter) take(n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received += int64(n)
	what, limit, advice := m.limit()
	if m.received > limit && m.failed == nil {
		m.failed = &tooMuchError{what: fmt.Sprintf("the git server sends more than %d bytes of %s", limit, what),
			limit: fmt.Sprintf("%d bytes", limit), advice: advice}
	}
	return m.failed
}

func (m *meter) limit() (what string, limit int64, advice string) {
	switch m.phase {
	case advertisement:
		return "references", maxAdvertisement, "delete branches and tags that nobody needs, or give the definitions a repository of their own"
	case answer:
		return "an answer without a pack", maxAnswer, "see whether the URL is that of a git server"
	}
	return "a pack", m.maxPack, "give the definitions a repository of their own"
}

// exceeded returns the error of the limit that was exceeded, or nil.
func (m *meter) exceeded() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}
