// SPDX-License-Identifier: Apache-2.0

//go:build unix

package render_test

import (
	"syscall"
	"testing"

	"github.com/digihunch/korthweb/internal/artifact"
)

// reportCPU reports the time of the processor, which other work on the machine does not change, that an operation
// takes. It is called before the operations and what it returns after them.
func reportCPU(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkRender renders one tenant to files.
func BenchmarkRender(b *testing.B) {
	for _, name := range []string{"minimal", "full", "patched"} {
		b.Run(name, func(b *testing.B) {
			r, tenant := newRenderer(b), readTenant(b, name)
			renderFiles(b, r, tenant) // builds the variants
			b.ReportAllocs()
			defer reportCPU(b)()
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

// BenchmarkRenderAndArchive renders one tenant to the archive that Flux fetches.
func BenchmarkRenderAndArchive(b *testing.B) {
	r, tenant := newRenderer(b), readTenant(b, "full")
	renderFiles(b, r, tenant)
	var size int
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		bundle, err := r.Render(tenant)
		if err != nil {
			b.Fatal(err)
		}
		files, err := bundle.Files()
		if err != nil {
			b.Fatal(err)
		}
		packed := make([]artifact.File, len(files))
		for i, f := range files {
			packed[i] = artifact.File(f)
		}
		data, _, err := artifact.Archive(packed)
		if err != nil {
			b.Fatal(err)
		}
		size = len(data)
	}
	b.ReportMetric(float64(size), "archive-bytes")
}

// BenchmarkKrusty has kustomize build the same two layers of the same tenant.
func BenchmarkKrusty(b *testing.B) {
	r, tenant := newRenderer(b), readTenant(b, "full")
	memory, builds := overlay(b, r, tenant)
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		for i := range builds {
			if _, err := runKrusty(b, memory, overlayDir(i)).AsYaml(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkPatch renders a tenant with the most that is accepted: two hundred modalities, and patches that are applied
// to the most objects and with the most text.
func BenchmarkPatch(b *testing.B) {
	for name, tenant := range expensive(b) {
		b.Run(name, func(b *testing.B) {
			r := newRenderer(b)
			renderFiles(b, r, tenant) // builds the variants
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				if _, err := r.Render(tenant); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
