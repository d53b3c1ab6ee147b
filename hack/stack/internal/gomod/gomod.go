// SPDX-License-Identifier: Apache-2.0

// Package gomod finds this repository and the modules that its nested go.mod
// files pin. It uses the standard library only, so that the build command, which
// runs before everything else, compiles in a second.
package gomod

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// The nested modules that pin what the stack uses, relative to the repository.
const (
	// Programs is the module of what is built into bin/stack.
	Programs = "hack/stack/programs"
	// Assets is the module of what is only read: CRDs, charts, sources.
	Assets = "hack/stack/assets"
	// CertManager is the module of cert-manager's controller, with its source.
	CertManager = "hack/stack/certmanager"
	// Traefik is the module of Traefik, whose replacements would not suit the others.
	Traefik = "hack/stack/traefik"
)

// Module is a module in the Go command's cache.
type Module struct {
	Path    string
	Version string
	Dir     string
	Error   string
}

// Root walks up from the working directory to Korthweb's go.mod. (The file names
// that runtime.Caller gives are no paths in a build with -trimpath.)
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(data, []byte("module github.com/digihunch/korthweb\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod of github.com/digihunch/korthweb above the working directory")
		}
		dir = parent
	}
}

// Download returns the modules of those paths at the versions that the nested
// module pin requires, by path. The Go command downloads what its cache lacks.
func Download(ctx context.Context, pin string, paths ...string) (map[string]Module, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"mod", "download", "-json"}, paths...)...)
	cmd.Dir = filepath.Join(root, pin)
	cmd.Env = Env()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, runErr := cmd.Output()

	modules := map[string]Module{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var m Module
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading the output of go mod download in %s: %w", pin, err)
		}
		if m.Error != "" {
			return nil, fmt.Errorf("module %s of %s: %s", m.Path, pin, m.Error)
		}
		modules[m.Path] = m
	}
	if runErr != nil {
		return nil, fmt.Errorf("go mod download in %s: %w: %s", pin, runErr, bytes.TrimSpace(stderr.Bytes()))
	}
	for _, path := range paths {
		if modules[path].Dir == "" {
			return nil, fmt.Errorf("%s/go.mod does not require %s", pin, path)
		}
	}
	return modules, nil
}

// Env is the environment for Go commands in a nested module: the caller's flags
// and workspace are about another one.
func Env(extra ...string) []string {
	return append(append(os.Environ(), "GOFLAGS=", "GOWORK=off"), extra...)
}
