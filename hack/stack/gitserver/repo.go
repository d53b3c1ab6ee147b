// SPDX-License-Identifier: Apache-2.0

package gitserver

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Branch is the branch that a Repo's helpers commit to.
const Branch = "main"

// Repo is one repository of a Server, with a clone of its own to commit in. The
// clone reaches the repository through the file system, so commits also arrive
// while the server is stopped.
type Repo struct {
	server *Server
	name   string

	mu sync.Mutex
}

// CreateRepo makes a repository whose first commit is the files of seed. With a nil
// seed it has no commit and no branch.
func (s *Server) CreateRepo(name string, seed fs.FS) (*Repo, error) {
	r := &Repo{server: s, name: name}
	if _, err := git(s.root, "init", "--quiet", "--bare", "--initial-branch="+Branch, r.bare()); err != nil {
		return nil, err
	}
	for _, setting := range []string{
		// Clients may fetch a commit that no branch leads to any more.
		"uploadpack.allowAnySHA1InWant=true",
		"http.receivepack=true",
		"receive.denyDeleteCurrent=ignore",
	} {
		key, value, _ := strings.Cut(setting, "=")
		if _, err := git(r.bare(), "config", key, value); err != nil {
			return nil, err
		}
	}
	if _, err := git(s.root, "clone", "--quiet", r.bare(), r.Dir()); err != nil {
		return nil, err
	}
	if seed == nil {
		return r, nil
	}
	if err := os.CopyFS(r.Dir(), seed); err != nil {
		return nil, fmt.Errorf("git repository %s: %w", name, err)
	}
	_, err := r.Commit(nil, nil, "Seed")
	return r, err
}

func (r *Repo) bare() string { return filepath.Join(r.server.repositories(), r.name+".git") }

// Dir is the clone's working tree. What is put there by hand is part of the next
// commit, which is how to get symbolic links and the like into one.
func (r *Repo) Dir() string { return filepath.Join(r.server.root, "clones", r.name) }

// URL is the repository's address over http or https, with no credentials in it.
func (r *Repo) URL() string { return r.server.URL() + "/" + r.name + ".git" }

// SSHURL is the repository's address over ssh. The server must serve it.
func (r *Repo) SSHURL() string { return r.server.SSHURL() + "/" + r.name + ".git" }

// Commit writes files (path to content), removes paths, and pushes that as one
// commit, even an empty one. It returns the commit's id.
func (r *Repo) Commit(files map[string]string, remove []string, message string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.write(files, remove); err != nil {
		return "", err
	}
	return r.commitAndPush(message)
}

// Rewrite replaces the branch's history by one new commit of the working tree, with
// files written to it, and pushes by force. It returns the commit's id.
func (r *Repo) Rewrite(files map[string]string, message string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.write(files, nil); err != nil {
		return "", err
	}
	if _, err := git(r.Dir(), "update-ref", "-d", "HEAD"); err != nil {
		return "", err
	}
	return r.commitAndPush(message, "--force")
}

// DeleteBranch deletes a branch from the server. The next Commit makes Branch anew.
func (r *Repo) DeleteBranch(branch string) error {
	_, err := r.Git("push", "--quiet", "origin", "--delete", branch)
	return err
}

// Git runs git in the working tree and returns its output, for what there is no
// helper for: tags, other branches, submodules.
func (r *Repo) Git(args ...string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return git(r.Dir(), args...)
}

func (r *Repo) write(files map[string]string, remove []string) error {
	for path, content := range files {
		full := filepath.Join(r.Dir(), path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return fmt.Errorf("git repository %s: %w", r.name, err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			return fmt.Errorf("git repository %s: %w", r.name, err)
		}
	}
	for _, path := range remove {
		if _, err := os.Lstat(filepath.Join(r.Dir(), path)); err != nil {
			return fmt.Errorf("git repository %s: nothing to remove: %w", r.name, err)
		}
		if err := os.RemoveAll(filepath.Join(r.Dir(), path)); err != nil {
			return fmt.Errorf("git repository %s: %w", r.name, err)
		}
	}
	return nil
}

func (r *Repo) commitAndPush(message string, pushFlags ...string) (string, error) {
	push := append([]string{"push", "--quiet"}, pushFlags...)
	for _, args := range [][]string{
		{"add", "--all"},
		{"commit", "--quiet", "--allow-empty", "--message", message},
		append(push, "origin", "HEAD:refs/heads/"+Branch),
	} {
		if _, err := git(r.Dir(), args...); err != nil {
			return "", err
		}
	}
	return git(r.Dir(), "rev-parse", "HEAD")
}

// git runs git without the user's own configuration, whose signing keys, hooks and
// default branch would change the outcome.
func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Platform Team", "GIT_AUTHOR_EMAIL=platform@example.com",
		"GIT_COMMITTER_NAME=Platform Team", "GIT_COMMITTER_EMAIL=platform@example.com")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}
