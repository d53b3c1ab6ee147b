// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// maxNameBytes is what file systems allow the name of a file or a directory.
const maxNameBytes = 255

// tree is a file system whose names are in memory and whose contents are read on demand.
type tree struct {
	limits Limits
	files  int
	bytes  int64
	root   *node
}

// node is a file, a directory or an entry that cannot be opened. It is its own fs.FileInfo.
type node struct {
	name    string
	mode    fs.FileMode
	size    int64
	read    func() ([]byte, error)
	entries map[string]*node
}

func newTree(limits Limits) *tree {
	return &tree{limits: limits, root: newDir(".")}
}

func newDir(name string) *node {
	return &node{name: name, mode: fs.ModeDir | 0o555, entries: map[string]*node{}}
}

// addFile adds a regular file. Its parents are added with it; a name that is there is replaced.
func (t *tree) addFile(name string, size int64, read func() ([]byte, error)) error {
	t.bytes += size
	if t.bytes > t.limits.MaxBytes {
		return &tooMuchError{what: fmt.Sprintf("files of more than %d bytes in all, counted up to %s", t.limits.MaxBytes, name),
			limit: fmt.Sprintf("%d bytes", t.limits.MaxBytes)}
	}
	return t.add(name, &node{mode: 0o444, size: size, read: read})
}

// addRefused adds an entry that is listed and cannot be opened.
func (t *tree) addRefused(name string, typ fs.FileMode) error {
	return t.add(name, &node{mode: typ.Type()})
}

func (t *tree) addDir(name string) error {
	if name == "." {
		return nil
	}
	return t.add(name, newDir(""))
}

func (t *tree) add(name string, n *node) error {
	// An entry that fs.FS cannot name is listed under the nearest name that it can.
	if !utf8.ValidString(name) {
		name = strings.ToValidUTF8(name, string(utf8.RuneError))
		n.mode, n.read, n.entries = fs.ModeIrregular, nil, nil
	}
	if !fs.ValidPath(name) || name == "." {
		return &unsafePathError{path: name}
	}

	elements := strings.Split(name, "/")
	for _, element := range elements {
		if len(element) > maxNameBytes {
			return &tooMuchError{what: fmt.Sprintf("a name of %d bytes", len(element)), limit: fmt.Sprintf("%d bytes", maxNameBytes)}
		}
	}
	if slices.Contains(elements, ".git") {
		return nil
	}
	dir := t.root
	for _, element := range elements[:len(elements)-1] {
		child := dir.entries[element]
		if child == nil {
			if err := t.count(); err != nil {
				return err
			}
			child = newDir(element)
			dir.entries[element] = child
		}
		if !child.IsDir() {
			return fmt.Errorf("%q is below %q, which is not a directory", name, element)
		}
		dir = child
	}

	n.name = elements[len(elements)-1]
	if there := dir.entries[n.name]; there != nil && there.IsDir() {
		if n.IsDir() {
			return nil
		}
		return fmt.Errorf("%q is both a directory and a file", name)
	}
	if err := t.count(); err != nil {
		return err
	}
	dir.entries[n.name] = n
	return nil
}

func (t *tree) count() error {
	t.files++
	if t.files > t.limits.MaxFiles {
		return &tooMuchError{what: fmt.Sprintf("more than %d files and directories", t.limits.MaxFiles),
			limit: fmt.Sprintf("%d", t.limits.MaxFiles)}
	}
	return nil
}

func (t *tree) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := t.root
	if name == "." {
		return n, nil
	}
	for element := range strings.SplitSeq(name, "/") {
		if n = n.entries[element]; n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

// Open implements fs.FS.
func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		return &openDir{node: n, list: n.list()}, nil
	}
	if n.read == nil {
		return nil, refused("open", name)
	}
	return &openFile{node: n, path: name}, nil
}

// Stat implements fs.StatFS, without reading the file. Of an entry that cannot be opened it tells
// the type.
func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ReadDir implements fs.ReadDirFS.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, notDir("readdir", name)
	}
	return n.list(), nil
}

// ReadFile implements fs.ReadFileFS.
func (t *tree) ReadFile(name string) ([]byte, error) {
	n, err := t.find("read", name)
	if err != nil {
		return nil, err
	}
	if n.read == nil {
		return nil, refused("read", name)
	}
	return n.read()
}

// Sub implements fs.SubFS.
func (t *tree) Sub(dir string) (fs.FS, error) {
	n, err := t.find("sub", dir)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, notDir("sub", dir)
	}
	root := *n
	root.name = "."
	return &tree{root: &root}, nil
}

func notDir(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w: not a directory", fs.ErrInvalid)}
}

func refused(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w: not a regular file", fs.ErrPermission)}
}

// Name, Size, Mode, ModTime, IsDir and Sys implement fs.FileInfo. There is no time: a revision has
// the same files whenever it is read.
func (n *node) Name() string       { return n.name }
func (n *node) Size() int64        { return n.size }
func (n *node) Mode() fs.FileMode  { return n.mode }
func (n *node) ModTime() time.Time { return time.Time{} }
func (n *node) IsDir() bool        { return n.mode.IsDir() }
func (n *node) Sys() any           { return nil }

func (n *node) list() []fs.DirEntry {
	list := make([]fs.DirEntry, 0, len(n.entries))
	for _, entry := range n.entries {
		list = append(list, fs.FileInfoToDirEntry(entry))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list
}

type openDir struct {
	node *node
	list []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.node, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.node.name, Err: fmt.Errorf("%w: is a directory", fs.ErrInvalid)}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.list) {
		if n > 0 && len(d.list) == 0 {
			return nil, io.EOF
		}
		n = len(d.list)
	}
	list := d.list[:n:n]
	d.list = d.list[n:]
	return list, nil
}

// openFile reads its content with the first Read, so that a file can be opened and its size seen at
// no cost.
type openFile struct {
	node   *node
	path   string
	reader *bytes.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *openFile) Close() error               { return nil }

func (f *openFile) Read(p []byte) (int, error) {
	if f.reader == nil {
		content, err := f.node.read()
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: f.path, Err: err}
		}
		f.reader = bytes.NewReader(content)
	}
	return f.reader.Read(p)
}

// join is path.Join without its cleaning, so that an unsafe name stays as it was written.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

var _ interface {
	fs.StatFS
	fs.ReadDirFS
	fs.ReadFileFS
	fs.SubFS
} = (*tree)(nil)
