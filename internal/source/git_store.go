// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	// maxObjectBytes bounds one unpacked object, which go-git holds in memory while it indexes a pack.
	maxObjectBytes = 128 << 20

	// maxObjects bounds the objects of a pack; go-git keeps some 250 bytes for each.
	maxObjects = 1 << 20

	// maxInflation is how many times Limits.MaxBytes all objects may have unpacked: 4 GiB by default, as
	// much as a pack of 200 to 400 MB with a long history. A pack of deltas that repeat themselves has no
	// limit of its own, and go-git indexes one without regard to a deadline.
	maxInflation = 8

	// objectCacheBytes of unpacked objects are kept until the snapshot is closed. Definitions are small
	// and read once.
	objectCacheBytes = 4 * cache.MiByte

	// maxTreeDepth is far beyond what an operating system lets a path have.
	maxTreeDepth = 128
)

// objectStore keeps the objects of a repository on disk, and reads files out of them.
type objectStore struct {
	*filesystem.Storage
	dir    string
	limits Limits

	mu sync.Mutex // go-git's readers of one pack share a file position
}

func newObjectStore(dir string, limits Limits) (*objectStore, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	storage := filesystem.NewStorageWithOptions(osfs.New(dir, osfs.WithBoundOS()),
		cache.NewObjectLRU(objectCacheBytes),
		filesystem.Options{ExclusiveAccess: true, KeepDescriptors: true})
	return &objectStore{Storage: storage, dir: dir, limits: limits}, nil
}

// cloneStore bounds what is fetched, and makes a checkout find no file. A checkout would write every
// file of the revision to a disk, links and all, and fail altogether at a single name that it does
// not like.
type cloneStore struct {
	*objectStore
	ctx context.Context // of the clone; go-git unpacks without one
}

// EncodedObject implements storer.EncodedObjectStorer.
func (s *cloneStore) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	if t == plumbing.TreeObject {
		empty := &plumbing.MemoryObject{}
		empty.SetType(plumbing.TreeObject)
		return empty, nil
	}
	return s.objectStore.EncodedObject(t, h)
}

// PackfileWriter implements storer.PackfileWriter.
func (s *cloneStore) PackfileWriter() (io.WriteCloser, error) {
	f, err := os.CreateTemp(s.dir, "received-")
	if err != nil {
		return nil, err
	}
	return &packWriter{ctx: s.ctx, store: s.objectStore, file: f}, nil
}

// packWriter holds back a pack until it is complete and known to be harmless.
type packWriter struct {
	ctx    context.Context
	store  *objectStore
	file   *os.File
	bytes  int64
	failed error
}

func (w *packWriter) Write(p []byte) (int, error) {
	if w.failed == nil && w.bytes+int64(len(p)) > w.store.limits.MaxBytes {
		w.failed = &tooMuchError{what: fmt.Sprintf("the repository sends more than %d bytes", w.store.limits.MaxBytes),
			limit: fmt.Sprintf("%d bytes", w.store.limits.MaxBytes)}
	}
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.file.Write(p)
	w.bytes += int64(n)
	w.failed = err
	return n, err
}

func (w *packWriter) Close() (err error) {
	defer func() {
		err = errors.Join(err, w.file.Close(), os.Remove(w.file.Name()))
	}()
	if w.failed != nil || w.bytes == 0 {
		return w.failed
	}
	if err := checkPack(w.ctx, w.file, maxInflation*w.store.limits.MaxBytes); err != nil {
		return err
	}
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	pack, err := w.store.PackfileWriter()
	if err != nil {
		return err
	}
	_, err = io.Copy(pack, w.file)
	return errors.Join(err, pack.Close())
}

// checkPack refuses a pack with an object that is too big in memory, or with more than maxBytes of
// objects in all. A few kilobytes can unpack to gigabytes, by compression or as a delta that repeats
// its base.
func checkPack(ctx context.Context, f *os.File, maxBytes int64) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	scanner := packfile.NewScanner(f)
	_, count, err := scanner.Header()
	if err != nil {
		return err
	}
	if count > maxObjects {
		return &tooMuchError{what: fmt.Sprintf("the repository sends %d git objects", count), limit: fmt.Sprint(maxObjects)}
	}
	var total int64
	for range count {
		if err := ctx.Err(); err != nil {
			return err
		}
		header, err := scanner.NextObjectHeader()
		if err != nil {
			return err
		}
		size := header.Length
		if size <= maxObjectBytes {
			var start prefix
			if _, _, err := scanner.NextObject(&start); err != nil {
				return err
			}
			if header.Type.IsDelta() {
				if size, err = start.deltaResultSize(); err != nil {
					return err
				}
			}
		}
		if size > maxObjectBytes || size < 0 {
			return &tooMuchError{what: fmt.Sprintf("the repository sends a git object of %d bytes", size),
				limit: fmt.Sprintf("%d bytes", maxObjectBytes)}
		}
		if total += size; total > maxBytes {
			return &tooMuchError{what: fmt.Sprintf("the repository sends git objects that unpack to more than %d bytes", maxBytes),
				limit: fmt.Sprintf("%d bytes", maxBytes)}
		}
	}
	return nil
}

// prefix keeps the first bytes that are written to it: two numbers at the head of a delta.
type prefix struct {
	head [2 * binary.MaxVarintLen64]byte
	n    int
}

func (p *prefix) Write(b []byte) (int, error) {
	p.n += copy(p.head[p.n:], b)
	return len(b), nil
}

// deltaResultSize is the second number of a delta, after the size of its base.
func (p *prefix) deltaResultSize() (int64, error) {
	_, n := binary.Uvarint(p.head[:p.n])
	if n <= 0 {
		return 0, packfile.ErrInvalidDelta
	}
	size, m := binary.Uvarint(p.head[n:p.n])
	if m <= 0 {
		return 0, packfile.ErrInvalidDelta
	}
	return int64(size), nil
}

// tree lists the files of a commit. Their contents are read when they are opened.
func (s *objectStore) tree(ctx context.Context, commit plumbing.Hash) (*tree, error) {
	c, err := object.GetCommit(s.Storage, commit)
	if err != nil {
		return nil, err
	}
	files := newTree(s.limits)
	return files, s.addTree(ctx, files, ".", c.TreeHash, 0)
}

func (s *objectStore) addTree(ctx context.Context, files *tree, dir string, hash plumbing.Hash, depth int) error {
	if depth > maxTreeDepth {
		return &tooMuchError{what: "directories are nested too deep", limit: fmt.Sprint(maxTreeDepth)}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t, err := object.GetTree(s.Storage, hash)
	if err != nil {
		return fmt.Errorf("directory %q: %w", dir, err)
	}
	for _, entry := range t.Entries {
		if err := s.addEntry(ctx, files, join(dir, entry.Name), entry, depth); err != nil {
			return err
		}
	}
	return nil
}

func (s *objectStore) addEntry(ctx context.Context, files *tree, name string, entry object.TreeEntry, depth int) error {
	switch entry.Mode {
	case filemode.Dir:
		if err := files.addDir(name); err != nil {
			return err
		}
		return s.addTree(ctx, files, name, entry.Hash, depth+1)
	case filemode.Regular, filemode.Deprecated, filemode.Executable:
		size, err := s.EncodedObjectSize(entry.Hash)
		if err != nil {
			return fmt.Errorf("file %q: %w", name, err)
		}
		return files.addFile(name, size, func() ([]byte, error) { return s.readBlob(entry.Hash) })
	case filemode.Symlink:
		return files.addRefused(name, fs.ModeSymlink)
	default:
		return files.addRefused(name, fs.ModeIrregular)
	}
}

func (s *objectStore) readBlob(hash plumbing.Hash) (_ []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, err := s.EncodedObject(plumbing.BlobObject, hash)
	if err != nil {
		return nil, err
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}
