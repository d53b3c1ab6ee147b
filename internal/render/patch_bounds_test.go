// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// expensive returns tenants with the patches that cost the most of those that are accepted.
func expensive(t testing.TB) map[string]*v1alpha1.Tenant {
	t.Helper()
	large := readTenant(t, "minimal")
	for i := range 200 {
		large.Spec.Orthanc.Modalities = append(large.Spec.Orthanc.Modalities, v1alpha1.Modality{
			Name: fmt.Sprintf("m-%d", i), AETitle: v1alpha1.AETitle(fmt.Sprintf("M%d", i)), Host: fmt.Sprintf("m-%d.example.org", i), Port: 104,
		})
	}
	with := func(patches ...v1alpha1.Patch) *v1alpha1.Tenant {
		tenant := large.DeepCopy()
		tenant.Spec.Patches = patches
		return tenant
	}
	const annotate = `[{"op":"add","path":"/metadata/labels/team","value":"imaging"}]`
	kind := func(kind v1alpha1.PatchPattern) *v1alpha1.PatchTarget { return &v1alpha1.PatchTarget{Kind: kind} }
	var pods, selectors []v1alpha1.Patch
	for i := range v1alpha1.MaxPatches {
		if i < 12 {
			pods = append(pods, v1alpha1.Patch{Patch: "{kind: Deployment, metadata: {name: orthanc}, spec: {template: {spec: {tolerations: [{operator: Exists}]}}}}"})
		}
		selectors = append(selectors, v1alpha1.Patch{
			Patch: `[{"op":"add","path":"/metadata/labels/team","value":"imaging"}]`,
			Target: &v1alpha1.PatchTarget{
				Kind: v1alpha1.PatchPattern(strings.Repeat("x|", 100) + "Certificate"), Name: "modality-m-199",
				LabelSelector: strings.Repeat("!a,", 42) + "!a", AnnotationSelector: strings.Repeat("!a,", 42) + "!a",
			},
		})
	}
	return map[string]*v1alpha1.Tenant{
		"no patches":           with(),
		"every certificate":    with(v1alpha1.Patch{Patch: annotate, Target: kind("Certificate")}, v1alpha1.Patch{Patch: annotate, Target: kind("Certificate")}),
		"the pods, many times": with(pods...),
		"many selectors":       with(selectors...),
		"much text": with(v1alpha1.Patch{
			Patch:  `[{"op":"add","path":"/spec/template/spec/tolerations","value":[` + strings.Repeat("{},", 4000) + `{}]}]`,
			Target: kind("Deployment"),
		}),
		"many operations": with(v1alpha1.Patch{
			Patch:  `[` + strings.Repeat(`{"op":"add","path":"/spec/template/spec/tolerations","value":[]},`, 400) + annotate[1:],
			Target: kind("Deployment"),
		}),
	}
}

// TestPatchMemory holds that rendering the most that is accepted allocates less than 50 MB.
func TestPatchMemory(t *testing.T) {
	r := newRenderer(t)
	for name, tenant := range expensive(t) {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			renderFiles(t, r, tenant) // builds the variants
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := r.Render(tenant)
			runtime.ReadMemStats(&after)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect((after.TotalAlloc-before.TotalAlloc)>>20).To(BeNumerically("<", 50), "MB")
		})
	}
}

// TestPatchWorkRefused holds that work without bounds is refused before any of it is done.
func TestPatchWorkRefused(t *testing.T) {
	const annotate = `[{"op":"add","path":"/metadata/annotations/x","value":"%s"}]`
	all := &v1alpha1.PatchTarget{Kind: "Certificate"}
	large := expensive(t)["no patches"]
	r := newRenderer(t)
	renderFiles(t, r, large)
	for name, tc := range map[string]struct {
		patches []v1alpha1.Patch
		message string
	}{
		"text times objects": {[]v1alpha1.Patch{{Patch: fmt.Sprintf(annotate, strings.Repeat("x", 20<<10)), Target: all}}, "spec.patches[0]: is too much work"},
		"too many objects":   {[]v1alpha1.Patch{{Patch: "[]", Target: all}, {Patch: "[]", Target: all}, {Patch: "[]", Target: all}}, "spec.patches[2]: is too much work"},
		"merging everywhere": {[]v1alpha1.Patch{{Patch: "{metadata: {labels: {team: imaging}}}", Target: all}}, "spec.patches[0]: is too much work"},
		"too many patches":   {make([]v1alpha1.Patch, v1alpha1.MaxPatches+1), "spec.patches: are 65 with 0 bytes"},
		"too many bytes":     {[]v1alpha1.Patch{{Patch: strings.Repeat("#", v1alpha1.MaxPatchBytes+1)}}, "spec.patches: are 1 with 32769 bytes"},
		"a regular expression": {[]v1alpha1.Patch{{Patch: "[]", Target: &v1alpha1.PatchTarget{Name: v1alpha1.PatchPattern(strings.Repeat("(", 9<<10) + "(a{1000}){1000}" + strings.Repeat(")", 9<<10))}}},
			"spec.patches[0]: its target matches no object"},
		"a long selector": {[]v1alpha1.Patch{{Patch: "[]", Target: &v1alpha1.PatchTarget{LabelSelector: strings.Repeat("!a,", 9<<10) + "!a"}}}, "spec.patches[0]: target: "},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := large.DeepCopy()
			tenant.Spec.Patches = tc.patches
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := r.Render(tenant)
			runtime.ReadMemStats(&after)
			g.Expect(err).To(MatchError(ContainSubstring(tc.message)))
			g.Expect((after.TotalAlloc-before.TotalAlloc)>>20).To(BeNumerically("<", 50), "MB")
		})
	}
}
