// SPDX-License-Identifier: Apache-2.0

package stack

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

// repoRoot walks up from the working directory to Korthweb's go.mod. (The file
// names that runtime.Caller gives are no paths in a build with -trimpath.)
func repoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("stack: %w", err)
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(data, []byte("module github.com/digihunch/korthweb\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("stack: no go.mod of github.com/digihunch/korthweb above the working directory")
		}
		dir = parent
	}
}

// The nested modules that pin what the stack uses.
const (
	programsModule = "hack/stack/programs" // built into bin/stack, some files of theirs read
	assetsModule   = "hack/stack/assets"   // only their files are read
)

// moduleDirs returns where the Go command keeps the modules of those paths, at the
// versions that the go.mod of pin (a directory of the repository) requires. It
// downloads what is missing.
func moduleDirs(ctx context.Context, pin string, paths ...string) (map[string]string, error) {
	root, err := repoRoot()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"mod", "download", "-json"}, paths...)...)
	cmd.Dir = filepath.Join(root, pin)
	// The caller's flags and workspace are about other modules.
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, runErr := cmd.Output()

	dirs := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var m struct{ Path, Dir, Error string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("stack: reading the output of go mod download: %w", err)
		}
		if m.Error != "" {
			return nil, fmt.Errorf("stack: module %s of %s: %s", m.Path, pin, m.Error)
		}
		dirs[m.Path] = m.Dir
	}
	if runErr != nil {
		return nil, fmt.Errorf("stack: go mod download in %s: %w: %s", pin, runErr, bytes.TrimSpace(stderr.Bytes()))
	}
	for _, path := range paths {
		if dirs[path] == "" {
			return nil, fmt.Errorf("stack: %s does not require module %s", pin, path)
		}
	}
	return dirs, nil
}
