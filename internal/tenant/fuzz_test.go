// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// FuzzLoad holds that no file, as a tenant's or as a class's, makes Load panic, take seconds, give two results for one
// input, define another tenant, or accept what the schema refuses.
func FuzzLoad(f *testing.F) {
	samples, err := filepath.Glob(filepath.Join("..", "..", "tenants", "*.yaml"))
	classes, _ := filepath.Glob(filepath.Join("..", "..", "tenants", "classes", "*.yaml"))
	samples = append(samples, classes...)
	if err != nil || len(samples) == 0 {
		f.Fatal("no samples", err)
	}
	for _, sample := range samples {
		data, err := os.ReadFile(sample)
		if err != nil {
			f.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(sample), ".yaml")
		f.Add([]byte(strings.Replace(string(data), "name: "+name+"\n", "name: a\n", 1)))
	}
	for _, seed := range []string{
		simple("a", "orthanc: &o {storage: *o}"),
		simple("a", "orthanc: {storage: &s {size: 5Gi}}", "postgres: {storage: {<<: *s}}"),
		simple("a", "className: c") + "---\n" + class("c", "orthanc: {replicas: 2}") + "---\n" + simple("y", "className: c"),
		simple("a", "ingress: null", "x: &q {quota: {}}", "<<: [*q]"),
		tenantDocument("a", everything),
		"{", "- ? : &a *a", "\xff\xfe", "\xef\xbb\xbf# x", "%YAML 1.2\n---\n", "a: |\n\tb", "!!binary x",
	} {
		f.Add([]byte(seed))
	}
	existing := []v1alpha1.Tenant{held("a", "tenants/a.yaml", 1), held("x", "tenants/b.yaml", 2)}
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := fstest.MapFS{"tenants/a.yaml": {Data: data}, "tenants/classes/a.yaml": {Data: data}, "tenants/good.yaml": {Data: []byte(simple("good"))}}
		start := time.Now()
		run := func() *tenant.Result {
			r, err := tenant.Load(fsys, tenant.Options{Path: "tenants", Held: existing})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		first, second := run(), run()
		if took := time.Since(start); took > 10*time.Second {
			t.Fatalf("took %s", took)
		}
		if diff := cmp.Diff(first, second, cmpopts.IgnoreUnexported(tenant.Result{})); diff != "" {
			t.Fatalf("two results:\n%s", diff)
		}
		remove, kept := first.Removals(existing)
		if again, _ := second.Removals(existing); !cmp.Equal(remove, again) {
			t.Fatalf("two answers on removals: %v, %v", remove, again)
		}
		for _, d := range first.Definitions {
			if name := d.Tenant.Name; d.File != "tenants/"+name+".yaml" || name != "a" && name != "good" {
				t.Fatalf("tenant %s is defined in %s", name, d.File)
			}
			if errs := tenant.Validate(d.Tenant); len(errs) > 0 {
				t.Fatalf("accepted, and invalid: %v", errs)
			}
			if _, is := kept[d.Tenant.Name]; is {
				t.Fatalf("tenant %s is defined and kept for want of a definition", d.Tenant.Name)
			}
		}
		for _, p := range first.Problems {
			if p.Reason == "" || p.Message == "" || p.File == "" {
				t.Fatalf("problem that says nothing: %+v", p)
			}
			if max(len(p.File), len(p.Tenant), len(p.Field)) > v1alpha1.MaxProblemText || len(p.Message) > v1alpha1.MaxProblemMessage {
				t.Fatalf("problem that says too much: %+v", p)
			}
		}
	})
}

// FuzzValidate holds that any Tenant that the Go types can hold is judged, twice the same, and that a
// valid one stays valid with its defaults and after a trip through JSON.
func FuzzValidate(f *testing.F) {
	for _, seed := range []string{
		`{"metadata":{"name":"bhs"},"spec":{"domain":"bhs.orthweb.com"}}`,
		`{"metadata":{"name":"bhs"},"spec":{"domain":"a.b","orthanc":{"aeTitle":"A","replicas":2,"storage":{"size":"1Gi"},"resources":{"limits":{"memory":"1e3"}}}}}`,
		`{"metadata":{"name":"bhs"},"spec":{"domain":"a.b","certificates":{"duration":"24h","renewBefore":"5m"}}}`,
		`{"metadata":{"name":"bhs"},"spec":{"domain":"a.b","ingress":{"service":{"loadBalancerIP":"fd00::1"},"dicom":{"port":104}}}}`,
		`{"metadata":{"name":"bhs"},"spec":{"domain":"a.b","orthanc":{"modalities":[{"name":"ct","aeTitle":"CT","host":"h","port":1}]}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := &v1alpha1.Tenant{}
		if json.Unmarshal(data, in) != nil {
			return
		}
		errs := tenant.Validate(in)
		if diff := cmp.Diff(fmt.Sprint(errs), fmt.Sprint(tenant.Validate(in))); diff != "" {
			t.Fatalf("two verdicts:\n%s", diff)
		}
		if len(errs) > 0 {
			return
		}
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		back := &v1alpha1.Tenant{}
		if err := json.Unmarshal(text, back); err != nil {
			t.Fatalf("valid, and unreadable from its own JSON: %v", err)
		}
		if errs := tenant.Validate(back); len(errs) > 0 {
			t.Fatalf("valid, and invalid after a trip through JSON: %v", errs)
		}
		tenant.Conflicts([]v1alpha1.Tenant{*in, *back})
		back.SetDefaults()
		tenant.CheckSpec(back)
	})
}
