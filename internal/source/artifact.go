// SPDX-License-Identifier: Apache-2.0

package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/http/fetch"
	fluxtar "github.com/fluxcd/pkg/tar"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/opencontainers/go-digest"
)

// archiveName is the file that an artifact is downloaded to.
const archiveName = "artifact.tar.gz"

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
		files, err := unpack(dir, limits)
		if err != nil {
			return nil, artifactFailed(fmt.Errorf("artifact %s: %w", u, err))
		}
		return &Snapshot{Revision: artifact.Revision, FS: files}, nil
	})
}

func artifactFailed(err error) *Error {
	return &Error{Reason: meta.ArtifactFailedReason, Err: err}
}

func download(ctx context.Context, artifact *meta.Artifact, dir string, limits Limits) error {
	if _, err := digest.Parse(artifact.Digest); err != nil {
		return artifactFailed(fmt.Errorf("artifact %s has the digest %q, expected <algorithm>:<hex>: %w", artifact.URL, artifact.Digest, err))
	}

	fetcher := fetch.New(fetch.WithFileName(archiveName), fetch.WithMaxDownloadSize(int(limits.MaxBytes)))
	err := fetcher.FetchWithContext(ctx, artifact.URL, artifact.Digest, dir)
	if err == nil {
		return nil
	}
	if interrupted := interrupted(ctx, meta.ArtifactFailedReason, artifact.URL, limits.Timeout); interrupted != nil {
		return interrupted
	}
	// fetch has an error value for the first case only.
	switch text := err.Error(); {
	case errors.Is(err, fetch.ErrFileNotFound):
		return artifactFailed(fmt.Errorf("artifact %s is gone, the source has published another or its server lost it: %w", artifact.URL, err))
	case strings.Contains(text, "failed to verify archive"):
		return artifactFailed(fmt.Errorf("artifact %s does not have the digest %s that its source states", artifact.URL, artifact.Digest))
	case strings.HasSuffix(text, "giving up after 1 attempt(s)"):
		return artifactFailed(fmt.Errorf("the server of artifact %s answers with an error (HTTP 5xx or 429)", artifact.URL))
	}
	return artifactFailed(fmt.Errorf("cannot download artifact %s: %w", artifact.URL, quote(err)))
}

// unpack extracts the archive in dir, next to it, and returns what is in it.
func unpack(dir string, limits Limits) (*tree, error) {
	archive := filepath.Join(dir, archiveName)
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	contents := filepath.Join(dir, "contents")
	files := newTree(limits)
	var failed error
	err = fluxtar.Untar(f, contents,
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
