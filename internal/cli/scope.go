// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/internal/tenant"
)

// scope says what the paths of a command line are judged with.
type scope struct {
	root       string
	repository string
}

func (s *scope) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.repository, "repository", "", "Take path, classPath and the platform's rules from the first TenantRepository in this file.")
	cmd.Flags().StringVar(&s.root, "root", "", "Judge the paths together with all below this directory; with --repository, the directory that its paths begin in. "+
		"(default the path itself, or the directory of a file; with --repository, the current directory)")
}

// source is a directory of the machine, and what is read in it.
type source struct {
	root string
	opts tenant.Options
}

// place names a file of the source as the user does.
func (s source) place(name string) string { return path.Join(filepath.ToSlash(s.root), name) }

// loadAll reads the tenant files of several paths, each judged with what is in its source.
func (s *scope) loadAll(paths []string, renderer *render.Renderer) (*loaded, error) {
	all := &loaded{Tenants: []string{}, Problems: []v1alpha1.Problem{}}
	if s.repository != "" {
		from, problems, err := s.fromRepository()
		if err != nil || len(problems) > 0 {
			all.Problems = append(all.Problems, problems...)
			return all, err
		}
		return all, all.load(from, paths, renderer)
	}
	var roots []string
	within := map[string][]string{} // root → its paths
	for _, p := range paths {
		dir, err := s.rootOf(p)
		if err != nil {
			return nil, err
		}
		if within[dir] == nil {
			roots = append(roots, dir)
		}
		within[dir] = append(within[dir], p)
	}
	for _, dir := range roots {
		// Rooted here where that is possible, so that messages name files as the user does.
		from := source{root: ".", opts: tenant.Options{Path: filepath.ToSlash(dir)}}
		if !fs.ValidPath(from.opts.Path) {
			from = source{root: dir, opts: tenant.Options{Path: "."}}
		}
		if err := all.load(from, within[dir], renderer); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// fromRepository returns what a TenantRepository reads.
func (s *scope) fromRepository() (source, []v1alpha1.Problem, error) {
	data, err := os.ReadFile(s.repository)
	if err != nil {
		return source{}, nil, fmt.Errorf("--repository: %w", err)
	}
	repository, rules, problems := tenant.ReadRepository(filepath.ToSlash(s.repository), data)
	if len(problems) > 0 {
		return source{}, problems, nil
	}
	from := source{root: filepath.Clean(cmp.Or(s.root, ".")), opts: tenant.Options{
		Path:           path.Clean(repository.Spec.Path),
		Namespace:      repository.Namespace,
		DependsOn:      repository.Spec.DependsOn,
		CommonMetadata: repository.Spec.CommonMetadata,
		Rules:          rules,
	}}
	if repository.Spec.ClassPath != "" {
		from.opts.ClassPath = path.Clean(repository.Spec.ClassPath)
	}
	return from, nil, nil
}

// rootOf returns the directory that a path is judged with where no TenantRepository says so. That of a class is the one
// that the directory of classes is in.
func (s *scope) rootOf(p string) (string, error) {
	if s.root != "" {
		return filepath.Clean(s.root), nil
	}
	info, err := os.Stat(p)
	if err != nil {
		return "", err
	}
	dir := filepath.Clean(p)
	if !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	parts := strings.Split(filepath.ToSlash(dir), "/")
	if filepath.IsAbs(dir) && filepath.Base(dir) == tenant.ClassDirectory {
		return filepath.Dir(dir), nil
	}
	if i := slices.Index(parts, tenant.ClassDirectory); i >= 0 && !filepath.IsAbs(dir) {
		return filepath.Clean(strings.Join(append([]string{"."}, parts[:i]...), "/")), nil
	}
	return dir, nil
}
