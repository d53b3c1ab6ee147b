// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/klauspost/compress/gzip"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/render"
)

// BenchmarkRender renders one tenant to files.
func BenchmarkRender(b *testing.B) {
	for _, name := range []string{"minimal", "full", "patched"} {
		b.Run(name, func(b *testing.B) {
			r, tenant := newRenderer(b), readTenant(b, name)
			renderFiles(b, r, tenant) // builds the variants
			b.ReportAllocs()
			for b.Loop() {
				bundle, err := r.Render(tenant)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := bundle.Files(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRenderAndArchive renders one tenant to a compressed archive.
func BenchmarkRenderAndArchive(b *testing.B) {
	r, tenant := newRenderer(b), readTenant(b, "full")
	var out bytes.Buffer
	compress, err := gzip.NewWriterLevel(&out, gzip.DefaultCompression)
	NewWithT(b).Expect(err).NotTo(HaveOccurred())
	b.ReportAllocs()
	for b.Loop() {
		bundle, err := r.Render(tenant)
		if err != nil {
			b.Fatal(err)
		}
		files, err := bundle.Files()
		if err != nil {
			b.Fatal(err)
		}
		out.Reset()
		compress.Reset(&out)
		if err := writeTar(compress, files); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(out.Len()), "archive-bytes")
}

func writeTar(compress *gzip.Writer, files []render.File) error {
	w := tar.NewWriter(compress)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: int64(len(f.Data)), Mode: 0o644}); err != nil {
			return err
		}
		if _, err := w.Write(f.Data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return compress.Close()
}

// BenchmarkKrusty has kustomize build the same two layers of the same tenant.
func BenchmarkKrusty(b *testing.B) {
	r, tenant := newRenderer(b), readTenant(b, "full")
	memory, builds := overlay(b, r, tenant)
	b.ReportAllocs()
	for b.Loop() {
		for _, build := range builds {
			if _, err := runKrusty(b, memory, build.Layer).AsYaml(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
