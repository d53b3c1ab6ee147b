// SPDX-License-Identifier: Apache-2.0

package source

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	fluxtar "github.com/fluxcd/pkg/tar"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/opencontainers/go-digest"
	_ "github.com/opencontainers/go-digest/blake3" // source-controller may be told to use it
)

const (
	// archiveName is the file that an artifact is downloaded to.
	archiveName = "artifact.tar.gz"

	// maxEntryHeader is what an entry of an archive takes beside its contents: a header, those of its long
	// names, and padding.
	maxEntryHeader = 4 << 10
)

// FetchArtifact downloads the artifact of a Flux source, checks its digest and unpacks it. Whether
// its revision is a new one, the caller sees in the artifact itself.
//
// Symbolic links, hard links and devices in the archive are not unpacked but listed; a path that
// leaves the tree makes the whole artifact an error. The error is an [*Error].
func FetchArtifact(ctx context.Context, artifact *meta.Artifact, limits Limits) (*Snapshot, error) {
	if artifact == nil {
		return nil, artifactFailed(errors.New("the source has no artifact yet"))
	}
	u, err := url.Parse(artifact.URL)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, &Error{Reason: sourcev1.URLInvalidReason,
			Err: errors.New("the URL of the artifact is not that of an HTTP server, without credentials")}
	}
	limits = limits.withDefaults()

	return fetchInto(ctx, limits.Timeout, func(ctx context.Context, dir string) (*Snapshot, error) {
		if err := download(ctx, artifact, dir, limits); err != nil {
			return nil, err
		}
		files, err := unpack(ctx, dir, limits)
		if interrupted := interrupted(ctx, meta.ArtifactFailedReason, artifact.URL, limits.Timeout); err != nil && interrupted != nil {
			return nil, interrupted
		}
		if err != nil {
			return nil, artifactFailed(fmt.Errorf("artifact %s: %w", u, quote(err)))
		}
		return &Snapshot{Revision: artifact.Revision, FS: files}, nil
	})
}

func artifactFailed(err error) *Error {
	return &Error{Reason: meta.ArtifactFailedReason, Err: err}
}

func download(ctx context.Context, artifact *meta.Artifact, dir string, limits Limits) error {
	expected, err := digest.Parse(artifact.Digest)
	if err != nil {
		return artifactFailed(fmt.Errorf("artifact %s has the digest %q, expected <algorithm>:<hex>: %w", artifact.URL, artifact.Digest, err))
	}
	got := expected.Algorithm().Digester()
	err = get(ctx, artifact.URL, filepath.Join(dir, archiveName), got.Hash(), limits.MaxBytes)
	var failed *Error
	switch interrupted := interrupted(ctx, meta.ArtifactFailedReason, artifact.URL, limits.Timeout); {
	case err == nil && got.Digest() == expected:
		return nil
	case err == nil:
		return artifactFailed(fmt.Errorf("artifact %s does not have the digest %s that its source states", artifact.URL, artifact.Digest))
	case errors.As(err, &failed):
		return failed
	case interrupted != nil:
		return interrupted
	}
	return artifactFailed(fmt.Errorf("cannot download artifact %s: %w", artifact.URL, quote(err)))
}

// get writes a file that a server has, of at most maxBytes, and hashes it on the way. It tries once: a
// TenantRepository has a retry interval of its own. Flux's fetcher would read to the end what is too much.
func get(ctx context.Context, url, file string, hash io.Writer, maxBytes int64) (err error) {
	connections := newTransport()
	defer connections.CloseIdleConnections()
	var received int64
	take := func(_ *http.Request, n int) error {
		if received += int64(n); received > maxBytes {
			return artifactFailed(fmt.Errorf("artifact %s: %w", url, &tooMuchError{
				what: fmt.Sprintf("its server sends more than %d bytes", maxBytes), limit: fmt.Sprintf("%d bytes", maxBytes)}))
		}
		return nil
	}
	c := &http.Client{Transport: &bounded{next: connections, take: take}, CheckRedirect: checkRedirect(false)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return artifactFailed(fmt.Errorf("artifact %s is gone, the source has published another or its server lost it", url))
	default:
		return artifactFailed(fmt.Errorf("the server of artifact %s answers %d %s", url, resp.StatusCode, http.StatusText(resp.StatusCode)))
	}

	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(f, hash), resp.Body)
	return errors.Join(err, f.Close())
}

// unpack extracts the archive in dir, next to it, and returns what is in it.
func unpack(ctx context.Context, dir string, limits Limits) (*tree, error) {
	archive := filepath.Join(dir, archiveName)
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("cannot be unpacked with gzip: %w", err)
	}
	// Untar counts the contents of files, not their headers, and knows no deadline.
	unpacked, most := int64(0), limits.MaxBytes+int64(limits.MaxFiles)*maxEntryHeader
	r := &countedReader{next: z, take: func(n int) error {
		if unpacked += int64(n); unpacked > most {
			return &tooMuchError{what: fmt.Sprintf("unpacks to more than %d bytes, with the headers of its entries", most), limit: fmt.Sprintf("%d bytes", most)}
		}
		return ctx.Err()
	}}

	contents := filepath.Join(dir, "contents")
	files := newTree(limits)
	var failed error
	err = fluxtar.Untar(r, contents,
		fluxtar.WithSkipGzip(),
		fluxtar.WithMaxUntarSize(int(limits.MaxBytes)),
		fluxtar.WithFilter(func(name string, fi os.FileInfo) bool {
			if failed == nil {
				failed = addEntry(files, contents, name, fi)
			}
			// What is not a plain file or directory is listed, not extracted. A hard link passes for an
			// empty regular file otherwise.
			return failed != nil || !isPlain(fi)
		}))
	switch {
	case failed != nil:
		return nil, failed
	case errors.As(err, new(*tooMuchError)):
		return nil, err
	case err != nil && strings.Contains(err.Error(), "bigger than max archive size"):
		return nil, &tooMuchError{what: fmt.Sprintf("unpacks to more than %d bytes", limits.MaxBytes),
			limit: fmt.Sprintf("%d bytes", limits.MaxBytes)}
	case err != nil:
		return nil, fmt.Errorf("cannot be unpacked: %w", quote(err))
	}
	return files, os.Remove(archive)
}

func isPlain(fi fs.FileInfo) bool {
	if header, ok := fi.Sys().(*tar.Header); ok && header.Typeflag == tar.TypeLink {
		return false
	}
	return fi.Mode().IsRegular() || fi.IsDir()
}

func addEntry(files *tree, contents, name string, fi fs.FileInfo) error {
	if !filepath.IsLocal(name) || slices.Contains(strings.Split(name, "/"), "..") {
		return &unsafePathError{path: name}
	}
	clean := path.Clean(name)
	switch {
	case !isPlain(fi):
		typ := fi.Mode().Type()
		if typ == 0 {
			typ = fs.ModeIrregular
		}
		return files.addRefused(clean, typ)
	case fi.IsDir():
		return files.addDir(clean)
	}
	return files.addFile(clean, fi.Size(), func() ([]byte, error) {
		return os.ReadFile(filepath.Join(contents, filepath.FromSlash(clean)))
	})
}
