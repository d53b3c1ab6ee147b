// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// dirPrefix begins the names of the directories that fetches keep their files in.
const dirPrefix = "korthweb-source-"

// workDir is the directory of one fetch, in os.TempDir. It is locked (flock) while it is in use. The
// kernel drops the lock with the process, so what a killed one left behind is told from what another
// process or fetch has in use, also where both are process 1 of a container.
type workDir struct {
	path string
	lock *os.File
}

// newWorkDir makes a directory, and removes those that nobody has in use.
func newWorkDir() (*workDir, error) {
	sweep(os.TempDir())
	for {
		path, err := os.MkdirTemp("", dirPrefix)
		if err != nil {
			return nil, err
		}
		lock, held, err := lockDir(path)
		if held {
			if _, err = os.Lstat(path); err == nil {
				return &workDir{path: path, lock: lock}, nil
			}
		}
		if lock != nil {
			_ = lock.Close()
		}
		// Where another fetch took it for an abandoned one before it was locked, there is always a next.
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(err, os.RemoveAll(path))
		}
	}
}

func (d *workDir) remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// lockDir opens a directory and tells whether it could be locked, without waiting.
func lockDir(path string) (_ *os.File, held bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, errors.Join(&os.PathError{Op: "flock", Path: path, Err: err}, f.Close())
	}
	return f, err == nil, nil
}

// sweep removes the directories of fetches that were killed. What cannot be removed, such as that of
// another user, stays.
func sweep(tmp string) {
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return // making a directory there fails too, and says why
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), dirPrefix) {
			continue
		}
		path := filepath.Join(tmp, entry.Name())
		lock, held, err := lockDir(path)
		if err != nil {
			continue
		}
		if held {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
