// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
)

type renderOptions struct {
	tenant    string
	outputDir string
	namespace string
	scope     scope
}

func renderCommand() *cobra.Command {
	o := &renderOptions{}
	from := &o.scope
	cmd := &cobra.Command{
		Use:   "render [PATH]",
		Short: "Print what would be applied for the tenants of a path",
		Long: `Print what would be applied for each tenant under a path, as YAML in the order in which it is applied:
what Korthweb itself emits, then the dependency layer, then the application layer. The generated
credentials are left out. With -o, write the files of each tenant's bundle instead, as Flux gets them.

Nothing is printed for a tenant with a problem; the exit code is then 1. Paths, --root and --repository are as
for korthweb validate.`,
		Example: `  # Everything for one tenant
  korthweb render tenants --tenant bhs

  # The bundles as files, to compare two versions
  korthweb render tenants -o /tmp/before`,
		Args: func(cmd *cobra.Command, args []string) error {
			if from.repository != "" {
				return cobra.MaximumNArgs(1)(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.tenant, "tenant", "", "Render this tenant only.")
	f.StringVarP(&o.outputDir, "output-dir", "o", "", "Write the bundles' files into this directory.")
	f.StringVarP(&o.namespace, "namespace", "n", "flux-system", "The platform namespace.")
	from.addFlags(cmd)
	return cmd
}

func (o *renderOptions) run(paths []string, stdout, stderr io.Writer) error {
	renderer, err := render.New(bundles.FS)
	if err != nil {
		return err
	}
	loaded, err := o.scope.loadAll(paths, renderer)
	if err != nil {
		return err
	}
	failed := false
	for _, p := range loaded.Problems {
		if o.tenant == "" || p.Tenant == "" || p.Tenant == o.tenant {
			fmt.Fprintln(stderr, describe(p))
			failed = failed || o.tenant == "" || p.Tenant == o.tenant
		}
	}
	found := false
	for _, d := range loaded.definitions {
		t := d.Tenant
		if o.tenant != "" && t.Name != o.tenant {
			continue
		}
		found = true
		t.Namespace = o.namespace
		bundle, err := renderer.Render(t)
		if err != nil {
			return fmt.Errorf("tenant %s: %w", t.Name, err)
		}
		if o.outputDir != "" {
			err = writeFiles(filepath.Join(o.outputDir, t.Name), bundle)
		} else {
			err = printObjects(stdout, t, bundle)
		}
		if err != nil {
			return err
		}
	}
	if o.tenant != "" && !found && !failed {
		return fmt.Errorf("no tenant %s is defined under %s", o.tenant, cmp.Or(strings.Join(paths, ""), o.scope.repository))
	}
	if failed {
		return errProblems
	}
	return nil
}

func writeFiles(dir string, bundle *render.Bundle) error {
	files, err := bundle.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func printObjects(w io.Writer, t *v1alpha1.Tenant, bundle *render.Bundle) error {
	for _, obj := range emit.Objects(t) {
		data, err := marshal(obj)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "---\n%s", data); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "---\n%s", bundle.YAML())
	return err
}

// marshal gives an object as YAML without the status that its Go type brings along.
func marshal(obj client.Object) ([]byte, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	return yaml.Marshal(content)
}
