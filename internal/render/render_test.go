// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

// readTenant returns a tenant of testdata/tenants with its defaults.
func readTenant(t testing.TB, name string) *v1alpha1.Tenant {
	t.Helper()
	g := NewWithT(t)
	data, err := os.ReadFile(filepath.Join("testdata", "tenants", name+".yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	tenant := &v1alpha1.Tenant{}
	g.Expect(yaml.UnmarshalStrict(data, tenant)).To(Succeed())
	tenant.SetDefaults()
	return tenant
}

func newRenderer(t testing.TB) *render.Renderer {
	t.Helper()
	r, err := render.New(bundles.FS)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return r
}

func renderFiles(t testing.TB, r *render.Renderer, tenant *v1alpha1.Tenant) []render.File {
	t.Helper()
	g := NewWithT(t)
	b, err := r.Render(tenant)
	g.Expect(err).NotTo(HaveOccurred())
	files, err := b.Files()
	g.Expect(err).NotTo(HaveOccurred())
	return files
}

// tenants are those of testdata/tenants. Together they switch on every component.
var tenants = func() []string {
	files, err := filepath.Glob(filepath.Join("testdata", "tenants", "*.yaml"))
	if err != nil {
		panic(err)
	}
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(filepath.Base(file), ".yaml")
	}
	return names
}()

func TestGolden(t *testing.T) {
	r := newRenderer(t)
	for _, name := range tenants {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			dir := filepath.Join("testdata", "golden", name)
			files := renderFiles(t, r, readTenant(t, name))
			if *update {
				g.Expect(os.RemoveAll(dir)).To(Succeed())
				for _, f := range files {
					file := filepath.Join(dir, filepath.FromSlash(f.Path))
					g.Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
					g.Expect(os.WriteFile(file, f.Data, 0o644)).To(Succeed())
				}
			}
			var golden []string
			g.Expect(fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					golden = append(golden, path)
				}
				return err
			})).To(Succeed())
			var rendered []string
			for _, f := range files {
				rendered = append(rendered, f.Path)
				want, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
				g.Expect(err).NotTo(HaveOccurred(), "run go test ./internal/render -update and look at the difference")
				g.Expect(string(f.Data)).To(Equal(string(want)), f.Path)
			}
			g.Expect(rendered).To(ConsistOf(golden))
		})
	}
}
