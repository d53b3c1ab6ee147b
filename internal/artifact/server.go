// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// ReadyPath is what a Server answers with 200 as long as it serves.
	ReadyPath = "/readyz"

	// shutdownTimeout is how long answers that have begun may take once the server is told to stop.
	shutdownTimeout = 5 * time.Second
)

// archiveFile is how a Publisher names an archive: its sha256 in hex.
var archiveFile = regexp.MustCompile(`^[0-9a-f]{64}\.tar\.gz$`)

// Server serves the archives of a Publisher to Flux, and nothing else: no directory is listed, and no
// other file of the storage can be had. It is a manager.Runnable of the leader, whose storage alone is
// whole.
type Server struct {
	// Path of the storage (--storage-path).
	Path string

	// Address to listen on, as host:port (--storage-addr).
	Address string
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *Server) NeedLeaderElection() bool { return true }

// Start serves until ctx ends, and returns an error when it cannot.
func (s *Server) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("artifact server: %w", err)
	}
	return s.serve(ctx, listener)
}

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	root, err := os.OpenRoot(s.Path)
	if err != nil {
		return errors.Join(fmt.Errorf("artifact server: %w", err), listener.Close())
	}
	defer func() { _ = root.Close() }()
	server := &http.Server{
		Handler:           &handler{root: root},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		// Archives have some 10 kB.
		WriteTimeout:   30 * time.Second,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("artifact server on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(timeout); err != nil {
		return errors.Join(fmt.Errorf("artifact server on %s: %w", listener.Addr(), err), server.Close())
	}
	return nil
}

// handler answers for the archives below root.
type handler struct{ root *os.Root }

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	name, isArchive := archivePath(req.URL.Path)
	switch {
	case !isArchive && req.URL.Path != ReadyPath:
		http.NotFound(w, req)
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
	case isArchive:
		h.serveArchive(w, req, name)
	}
}

// archivePath returns the path in the storage that a URL's path stands for:
// externalartifact/<namespace>/<name>/<sha256>.tar.gz.
func archivePath(urlPath string) (string, bool) {
	name := strings.TrimPrefix(urlPath, "/")
	elements := strings.Split(name, "/")
	ok := len(elements) == 4 && elements[0] == strings.ToLower(sourcev1.ExternalArtifactKind) &&
		len(validation.IsDNS1123Label(elements[1])) == 0 &&
		len(validation.IsDNS1123Subdomain(elements[2])) == 0 &&
		archiveFile.MatchString(elements[3])
	return name, ok
}

func (h *handler) serveArchive(w http.ResponseWriter, req *http.Request, name string) {
	// What is no regular file is not opened: a link might lead elsewhere, a pipe might wait.
	if info, err := h.root.Lstat(name); err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, req)
		return
	}
	f, err := h.root.Open(name)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/gzip")
	http.ServeContent(w, req, "", info.ModTime(), f)
}
