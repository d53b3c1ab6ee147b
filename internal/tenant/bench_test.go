// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// thousand tenants in a file each, with a class, and the same tenants as they are held.
func thousand(b *testing.B) (files, []v1alpha1.Tenant) {
	b.Helper()
	f := files{"tenants/classes/class.yaml": class("standard", "orthanc: {storage: {size: 200Gi}}", "postgres: {instances: 2}")}
	for i := range 1000 {
		name := fmt.Sprintf("t%04d", i)
		f["tenants/"+name+".yaml"] = simple(name, "className: standard", "displayName: Facility "+name,
			"orthanc:", "  aeTitle: "+strings.ToUpper(name), "  modalities:",
			"  - {name: ct-1, aeTitle: CT1, host: ct-1.example.com, port: 104}",
			"  - {name: mr-1, aeTitle: MR1, host: mr-1.example.com, port: 104}",
			"ingress: {dicom: {port: 2762}}")
	}
	r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Namespace: "flux-system"})
	if err != nil || len(r.Problems) > 0 {
		b.Fatal(err, r.Problems)
	}
	var existing []v1alpha1.Tenant
	for _, d := range r.Definitions {
		t := d.Tenant.DeepCopy()
		t.Annotations = map[string]string{v1alpha1.PathAnnotation: d.File}
		existing = append(existing, *t)
	}
	return f, existing
}

// BenchmarkLoad1000 reads 1,000 tenants that all exist already.
func BenchmarkLoad1000(b *testing.B) {
	f, existing := thousand(b)
	fsys := f.fs()
	b.ReportAllocs()
	for b.Loop() {
		r, err := tenant.Load(fsys, tenant.Options{Path: "tenants", Namespace: "flux-system", Held: existing})
		if err != nil || len(r.Definitions) != 1000 {
			b.Fatal(err, len(r.Definitions))
		}
	}
}

// BenchmarkLoadMistakes reads one document that has as many mistakes as the bounds let it have, some 3,500.
// The schema's validator takes the square of their number: 0.5 s, and 54 s with 19,000.
func BenchmarkLoadMistakes(b *testing.B) {
	fsys := files{"tenants/x.yaml": simple("x", "patches:\n"+
		entries(256, "  - {patch: %[1]d, target: {group: %[1]d, version: %[1]d, kind: %[1]d, name: %[1]d, namespace: %[1]d, labelSelector: %[1]d, annotationSelector: %[1]d}}\n")+
		"  orthanc:\n    modalities:\n"+entries(256, "    - {name: %[1]d, aeTitle: %[1]d, host: %[1]d, port: x%[1]d}\n")+
		"  dependsOn:\n"+entries(256, "  - {name: %[1]d, namespace: %[1]d}\n"))}.fs()
	for b.Loop() {
		r, err := tenant.Load(fsys, tenant.Options{Path: "tenants", Namespace: "flux-system"})
		if err != nil || len(r.Problems) < 10 || r.Problems[0].Reason != v1alpha1.InvalidDefinitionReason {
			b.Fatal(err, r.Problems)
		}
	}
}

// BenchmarkValidate judges one tenant.
func BenchmarkValidate(b *testing.B) {
	_, existing := thousand(b)
	b.ReportAllocs()
	for b.Loop() {
		if errs := tenant.Validate(&existing[0]); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}

// BenchmarkConflicts1000 is what a reconciler of hand-made tenants pays.
func BenchmarkConflicts1000(b *testing.B) {
	_, existing := thousand(b)
	for b.Loop() {
		if c := tenant.Conflicts(existing); len(c) > 0 {
			b.Fatal(c)
		}
	}
}
