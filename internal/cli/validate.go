// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/internal/tenant"
)

func validateCommand() *cobra.Command {
	var output string
	from := &scope{}
	cmd := &cobra.Command{
		Use:   "validate [PATH...]",
		Short: "Check tenant files, as the cluster would",
		Long: `Check tenant files without a cluster, with the verdict that the cluster would give: the same schema, the
same rules, the same conflicts between tenants. A directory is read with all below it. A file is judged
together with the directory that it is in, so that its class is found, and reported alone. Where tenants are
in several directories, name the TenantRepository's path as --root.

With --repository, path, classPath and the platform's rules come from the manifest of a TenantRepository, and
PATH may be left out. Its paths begin in the current directory, or in --root. Without it, classes are in the
directory classes of the root, and the rules are those of a TenantRepository that says nothing.

A class, and a file that is gone, concern tenants in other files: where one of the paths is below the classes,
everything is judged and reported. So let a pull request check the whole.

The exit code is 0 where all is well, 1 where there is a problem, 2 where the command line is wrong.`,
		Example: `  # All tenants of a repository
  korthweb validate tenants

  # A pull request, with the rules of the cluster, for a program to read
  korthweb validate -o json --repository clusters/production/tenants.yaml

  # One file while you write it
  korthweb validate --root tenants tenants/east/bhs.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && from.repository == "" {
				return errors.New("requires at least 1 arg, or --repository")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s: expected text or json", output)
			}
			renderer, err := render.New(bundles.FS)
			if err != nil {
				return err
			}
			loaded, err := from.loadAll(args, renderer)
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
	from.addFlags(cmd)
	return cmd
}

// loaded is what was found under the paths of a command line.
type loaded struct {
	definitions []tenant.Definition
	Tenants     []string           `json:"tenants"`
	Problems    []v1alpha1.Problem `json:"problems"`
}

// lineSuffix ends the File of a problem that has a line.
var lineSuffix = regexp.MustCompile(`:[0-9]+$`)

// load adds what a source holds in one of the paths. What cannot be rendered, such as a patch that is refused, is a
// problem too.
func (l *loaded) load(from source, paths []string, renderer *render.Renderer) error {
	var wanted []string
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return err
		}
		rel, err := relative(from.root, p)
		if err != nil {
			return err
		}
		if !tenant.Within(from.opts.Path, rel) && !tenant.Within(from.opts.Classes(), rel) {
			return fmt.Errorf("%s is not below %s", p, from.place(from.opts.Path))
		}
		wanted = append(wanted, rel)
	}
	if len(paths) == 0 || slices.ContainsFunc(wanted, func(p string) bool { return tenant.Within(from.opts.Classes(), p) }) {
		wanted = []string{from.opts.Path, from.opts.Classes()}
	}
	result, err := tenant.Load(os.DirFS(from.root), from.opts)
	if err != nil {
		return fmt.Errorf("%s: %w", from.place(from.opts.Path), err)
	}
	if len(result.Definitions) == 0 && len(result.Problems) == 0 {
		l.Problems = append(l.Problems, v1alpha1.Problem{File: from.place(from.opts.Path), Reason: v1alpha1.PathNotFoundReason,
			Message: "no tenant is defined here: a tenant's file is named after it and ends in .yaml"})
	}
	for _, d := range result.Definitions {
		if !slices.ContainsFunc(wanted, func(p string) bool { return tenant.Within(p, d.File) }) {
			continue
		}
		d.File = from.place(d.File)
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
		if slices.ContainsFunc(wanted, func(p string) bool { return tenant.Within(p, name) || tenant.Within(name, p) }) {
			problem.File = from.place(problem.File)
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

// describe puts a problem on one line: file, line, tenant, field, message.
func describe(p v1alpha1.Problem) string {
	if p.Tenant != "" {
		p.File += ": tenant " + p.Tenant
	}
	return harmless(tenant.DescribeProblem(p))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func printJSON(w io.Writer, l *loaded) error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", harmlessJSON(data))
	return err
}
