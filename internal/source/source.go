// SPDX-License-Identifier: Apache-2.0

// Package source reads one revision of the tenant definitions as an fs.FS, from a git repository or
// from the artifact of a Flux source.
//
// It exists so that the packages behind it see files and nothing else: no server, no credential, no
// archive. What it reads was written by others, so nothing of it is trusted. Names are kept in memory
// and never resolved on a disk, symbolic links and submodules are listed but cannot be opened, and
// what a revision may cost is bounded by [Limits]. Files on disk are in directories korthweb-source-* of
// the system's directory for temporary files (TMPDIR), until the snapshot is closed; what a killed
// process left there is removed by the next fetch.
package source

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
)

// ErrUnchanged is returned by a fetch when the source is still at the revision that the caller has.
var ErrUnchanged = errors.New("the source is at the revision last seen")

const (
	// DefaultMaxBytes is enough for a repository that holds definitions beside other things, and
	// little enough for the disk of a small pod.
	DefaultMaxBytes = 512 << 20

	// DefaultMaxFiles is a hundred times the tenants that one installation is built for, at about
	// 200 bytes of memory each.
	DefaultMaxFiles = 100_000

	// DefaultTimeout is that of Flux's GitRepository.
	DefaultTimeout = 60 * time.Second
)

// Limits bound what is read from a source. The zero value of a field stands for its default.
//
// Bounded by MaxBytes are, each by itself: what is downloaded and kept on disk (git's pack files, or
// the archive), and the files of the revision added up. A single object of a git repository may have
// 128 MiB at most, since git's objects are unpacked in memory. What a server says beside that is bounded
// too: 8 MiB of references, 4 KiB of an error, 64 KiB of headers, 5 redirects.
type Limits struct {
	// MaxBytes is the most bytes, 512 MiB by default.
	MaxBytes int64

	// MaxFiles is the most files and directories of a revision, 100,000 by default.
	MaxFiles int

	// Timeout of one fetch from start to end, 60 s by default.
	Timeout time.Duration
}

func (l Limits) withDefaults() Limits {
	return Limits{
		MaxBytes: cmp.Or(l.MaxBytes, DefaultMaxBytes),
		MaxFiles: cmp.Or(l.MaxFiles, DefaultMaxFiles),
		Timeout:  cmp.Or(l.Timeout, DefaultTimeout),
	}
}

// Snapshot is one revision of a source. It can be read, also by several goroutines, until Close.
type Snapshot struct {
	// Revision as Flux writes it, such as main@sha1:<40 hex digits>.
	Revision string

	// FS holds the files. Symbolic links, submodules, hard links and devices are listed with their
	// type (fs.ModeSymlink, or fs.ModeIrregular for what fs.FileMode has no bit for); to open one
	// fails with fs.ErrPermission. There is no .git.
	FS fs.FS

	dir   *workDir
	close func() error
}

// Close removes what the snapshot keeps on disk. Closing it again does nothing.
func (s *Snapshot) Close() error {
	var err error
	if s.close != nil {
		err = s.close()
		s.close = nil
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.remove())
		s.dir = nil
	}
	return err
}

// fetchInto runs fetch with a deadline and a new directory, which goes away again unless fetch
// succeeds.
func fetchInto(ctx context.Context, timeout time.Duration,
	fetch func(ctx context.Context, dir string) (*Snapshot, error),
) (_ *Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	dir, err := newWorkDir()
	if err != nil {
		return nil, &Error{Reason: sourcev1.DirCreationFailedReason, Err: err}
	}
	defer func() {
		if err == nil {
			return
		}
		if removeErr := dir.remove(); removeErr != nil {
			err = errors.Join(err, removeErr)
		}
	}()

	snapshot, err := fetch(ctx, dir.path)
	if err != nil {
		return nil, err
	}
	snapshot.dir = dir
	return snapshot, nil
}
