// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/internal/tenant"
)

func validateCommand() *cobra.Command {
	var output, root string
	cmd := &cobra.Command{
		Use:   "validate PATH...",
		Short: "Check tenant files, as the cluster would",
		Long: `Check tenant files without a cluster, with the verdict that the cluster would give: the same schema, the
same rules, the same conflicts between tenants. A directory is read with all below it. A file is judged
together with the directory that it is in, so that its class is found, and reported alone; where classes
and tenants are in several directories, give the TenantRepository's path as --root.

The exit code is 0 where all is well, 1 where there is a problem, 2 where the command line is wrong.`,
		Example: `  # All tenants of a repository
  korthweb validate tenants

  # What a pull request changed, for a program to read
  korthweb validate -o json --root tenants $(git diff --name-only --diff-filter=d main -- tenants)`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s: expected text or json", output)
			}
			renderer, err := render.New(bundles.FS)
			if err != nil {
				return err
			}
			loaded, err := loadAll(root, args, renderer)
			if err != nil {
				return err
			}
			if output == "json" {
				err = printJSON(cmd.OutOrStdout(), loaded)
			} else {
				err = printText(cmd.OutOrStdout(), loaded)
			}
			if err == nil && len(loaded.Problems) > 0 {
				err = errProblems
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "How to print the result: text or json.")
	cmd.Flags().StringVar(&root, "root", "", "Judge the paths together with all below this directory. (default the path itself, or the directory of a file)")
	return cmd
}

// loaded is what was found under the paths of a command line.
type loaded struct {
	definitions []tenant.Definition
	Tenants     []string           `json:"tenants"`
	Problems    []v1alpha1.Problem `json:"problems"`
}

// loadAll reads the tenant files of several paths, each judged with all below root; where that is empty,
// with what is in its directory. What cannot be rendered, such as a patch that is refused, is a problem too.
func loadAll(root string, paths []string, renderer *render.Renderer) (*loaded, error) {
	var roots []string
	within := map[string][]string{} // root → its paths
	for _, p := range paths {
		dir, err := rootOf(root, p)
		if err != nil {
			return nil, err
		}
		if within[dir] == nil {
			roots = append(roots, dir)
		}
		within[dir] = append(within[dir], p)
	}
	all := &loaded{Tenants: []string{}, Problems: []v1alpha1.Problem{}}
	for _, dir := range roots {
		if err := all.load(dir, within[dir], renderer); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// rootOf returns the directory that a path is judged with.
func rootOf(root, p string) (string, error) {
	info, err := os.Stat(p)
	switch {
	case err != nil:
		return "", err
	case root != "":
		return filepath.Clean(root), nil
	case info.IsDir():
		return filepath.Clean(p), nil
	}
	return filepath.Dir(p), nil
}

// lineSuffix ends the File of a problem that has a line.
var lineSuffix = regexp.MustCompile(`:[0-9]+$`)

// load adds what is below dir and in one of the paths.
func (l *loaded) load(dir string, paths []string, renderer *render.Renderer) error {
	// Rooted here where that is possible, so that messages name files as the user does.
	root, sub := ".", filepath.ToSlash(dir)
	if !fs.ValidPath(sub) {
		root, sub = dir, "."
	}
	var wanted []string
	for _, p := range paths {
		rel, err := relative(root, p)
		if err != nil {
			return err
		}
		if !contains(sub, rel) {
			return fmt.Errorf("%s is not below --root %s", p, dir)
		}
		wanted = append(wanted, rel)
	}
	result, err := tenant.Load(os.DirFS(root), tenant.Options{Path: sub})
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	file := func(name string) string { return path.Join(filepath.ToSlash(root), name) }
	for _, d := range result.Definitions {
		if !slices.ContainsFunc(wanted, func(p string) bool { return contains(p, d.File) }) {
			continue
		}
		d.File = file(d.File)
		if _, err := renderer.Render(d.Tenant); err != nil {
			l.Problems = append(l.Problems, renderProblem(d, err))
			continue
		}
		l.definitions = append(l.definitions, d)
		l.Tenants = append(l.Tenants, d.Tenant.Name)
	}
	for _, problem := range result.Problems {
		name := lineSuffix.ReplaceAllString(problem.File, "")
		// A directory that could not be read as a whole concerns every path in it.
		if slices.ContainsFunc(wanted, func(p string) bool { return contains(p, name) || contains(name, p) }) {
			problem.File = file(problem.File)
			l.Problems = append(l.Problems, problem)
		}
	}
	return nil
}

// relative returns p as a slash-separated path from root.
func relative(root, p string) (string, error) {
	from, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	to, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(from, to)
	return filepath.ToSlash(rel), err
}

// contains tells whether name is dir or below it, both relative to the same directory.
func contains(dir, name string) bool {
	return dir == "." && fs.ValidPath(name) || name == dir || strings.HasPrefix(name, dir+"/")
}

func renderProblem(d tenant.Definition, err error) v1alpha1.Problem {
	problem := v1alpha1.Problem{
		File:    fmt.Sprintf("%s:%d", d.File, d.Line),
		Tenant:  d.Tenant.Name,
		Reason:  v1alpha1.RenderFailedReason,
		Message: err.Error(),
	}
	var invalid *render.Error
	if errors.As(err, &invalid) {
		problem.Reason, problem.Field, problem.Message = v1alpha1.InvalidDefinitionReason, invalid.Field, invalid.Err.Error()
	}
	return problem
}

func printText(w io.Writer, l *loaded) error {
	for _, p := range l.Problems {
		if _, err := fmt.Fprintln(w, describe(p)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s valid, %s\n", count(len(l.Tenants), "tenant"), count(len(l.Problems), "problem"))
	return err
}

// describe puts a problem on one line: file, line, field, reason, message.
func describe(p v1alpha1.Problem) string {
	parts := []string{p.File}
	if p.Tenant != "" {
		parts = append(parts, "tenant "+p.Tenant)
	}
	if p.Field != "" {
		parts = append(parts, p.Field)
	}
	return strings.Join(append(parts, p.Reason, p.Message), ": ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func printJSON(w io.Writer, l *loaded) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(l)
}
