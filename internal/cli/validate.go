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
	"strings"

	"github.com/spf13/cobra"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/internal/tenant"
)

func validateCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "validate PATH...",
		Short: "Check tenant files, as the cluster would",
		Long: `Check tenant files without a cluster, with the verdict that the cluster would give: the same schema, the
same rules, the same conflicts between tenants. A directory is read with all below it; a file is read
together with the directory that it is in, so that its class is found, and reported alone.

The exit code is 0 where all is well, 1 where there is a problem, 2 where the command line is wrong.`,
		Example: `  # All tenants of a repository
  korthweb validate tenants

  # What a pull request changed, for a program to read
  korthweb validate -o json $(git diff --name-only main -- tenants)`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s: expected text or json", output)
			}
			renderer, err := render.New(bundles.FS)
			if err != nil {
				return err
			}
			loaded, err := loadAll(args, renderer)
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
	return cmd
}

// loaded is what was found under the paths of a command line.
type loaded struct {
	definitions []tenant.Definition
	Tenants     []string           `json:"tenants"`
	Problems    []v1alpha1.Problem `json:"problems"`
}

// loadAll reads the tenant files of several paths, each judged with what is in its directory. What
// cannot be rendered, such as a patch that is refused, is a problem too.
func loadAll(paths []string, renderer *render.Renderer) (*loaded, error) {
	all := &loaded{Tenants: []string{}, Problems: []v1alpha1.Problem{}}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		dir, only := p, ""
		if !info.IsDir() {
			dir, only = filepath.Dir(p), filepath.Base(p)
		}
		// Rooted here where that is possible, so that messages name files as the user does.
		root, sub := ".", filepath.ToSlash(filepath.Clean(dir))
		if !fs.ValidPath(sub) {
			root, sub = dir, "."
		}
		result, err := tenant.Load(os.DirFS(root), tenant.Options{Path: sub})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		file := func(name string) string { return path.Join(filepath.ToSlash(root), name) }
		for _, d := range result.Definitions {
			if only != "" && d.File != path.Join(sub, only) {
				continue
			}
			d.File = file(d.File)
			if _, err := renderer.Render(d.Tenant); err != nil {
				all.Problems = append(all.Problems, renderProblem(d, err))
				continue
			}
			all.definitions = append(all.definitions, d)
			all.Tenants = append(all.Tenants, d.Tenant.Name)
		}
		for _, problem := range result.Problems {
			name, _, _ := strings.Cut(problem.File, ":")
			if only != "" && name != path.Join(sub, only) {
				continue
			}
			problem.File = file(problem.File)
			all.Problems = append(all.Problems, problem)
		}
	}
	return all, nil
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
