// SPDX-License-Identifier: Apache-2.0

// Package artifact packs the files of a tenant's bundle into a deterministic archive and keeps it
// where Flux fetches it from. It is the only package that knows how archives are named, stored and
// thrown away.
package artifact

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// File is one file of a bundle.
type File struct {
	// Path within the bundle, relative and with slashes: dependency/kustomization.yaml.
	Path string

	// Data is the whole content.
	Data []byte
}

// fileMode is that of Flux's own archives (fluxcd/pkg/artifact/storage.DefaultFileMode).
const fileMode = 0o600

// packer is the memory of one Archive call. A gzip writer alone takes several hundred kilobytes, so
// it is used again.
type packer struct {
	out  bytes.Buffer
	gzip *gzip.Writer
}

var packers = sync.Pool{New: func() any {
	// Level 1 costs a third of the default level's time and a tenth more bytes. NewWriterLevel fails
	// only on an unknown level.
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return &packer{gzip: w}
}}

// Archive packs files into a tar.gz whose bytes depend on their paths and contents alone: entries are
// sorted by path, and neither clock, user nor the order of the argument gets in. It returns the
// archive and its sha256 digest. A path that is empty, absolute, not clean, leaves the bundle, or
// occurs twice is an error. files is left as it is.
func Archive(files []File) ([]byte, digest.Digest, error) {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })

	p := packers.Get().(*packer)
	defer packers.Put(p)
	p.out.Reset()
	p.gzip.Reset(&p.out)

	tw := tar.NewWriter(p.gzip)
	for i, f := range sorted {
		if f.Path == "." || !fs.ValidPath(f.Path) {
			return nil, "", fmt.Errorf("bundle file %q: the path must be relative, clean and within the bundle", f.Path)
		}
		if i > 0 && f.Path == sorted[i-1].Path {
			return nil, "", fmt.Errorf("bundle file %q occurs twice", f.Path)
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: int64(len(f.Data)), Mode: fileMode}
		if err := tw.WriteHeader(header); err != nil {
			return nil, "", fmt.Errorf("bundle file %q: %w", f.Path, err)
		}
		if _, err := tw.Write(f.Data); err != nil {
			return nil, "", fmt.Errorf("bundle file %q: %w", f.Path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, "", fmt.Errorf("closing the archive: %w", err)
	}
	if err := p.gzip.Close(); err != nil {
		return nil, "", fmt.Errorf("closing the archive: %w", err)
	}
	data := bytes.Clone(p.out.Bytes())
	return data, digest.SHA256.FromBytes(data), nil
}
