// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/cli"
)

const header = "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: Tenant\nmetadata:\n  name: "

const classHeader = "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: TenantClass\nmetadata:\n  name: "

var files = map[string]string{
	"good.yaml":  header + "good\nspec:\n  domain: good.example.com\n",
	"bad.yaml":   header + "bad\nspec:\n  domain: bad.example.com\n  orthanc:\n    aeTitel: BAD\n",
	"patch.yaml": header + "patch\nspec:\n  className: patched\n  domain: patch.example.com\n",
	"classes/patched.yaml": classHeader + `patched
spec:
  patches:
  - target: {kind: VirtualService, name: web-vs}
    patch: '[{"op": "add", "path": "/spec/hosts/-", "value": "good.example.com"}]'
`,
	"classes/small.yaml": classHeader + "small\nspec:\n  orthanc:\n    replicas: 1\n",
	"classes/wrong.yaml": classHeader + "small\nspec:\n  orthanc:\n    replicas: 1\n    autoscaling: {maxReplicas: 2}\n",
	"reserved.yaml":      header + "reserved\nspec:\n  domain: reserved.example.com\n  quota: {hard: {pods: 1}}\n",
	"named.yaml":         header + "named\nspec:\n  displayName: X\n  domain: named.example.org\n",
	"notes.txt":          "nothing",
	"::error::x.yaml":    header + "\"a\\u202e\\x1b[31m\"\nspec: {\"##[error]\": x, \"\\u009b31m\": y}\n",
	"loud.YAML":          header + "loud\nspec:\n  domain: loud.example.com\n",
	"../repository.yaml": `apiVersion: v1
kind: Namespace
metadata:
  name: flux-system
---
apiVersion: korthweb.digihunch.com/v1alpha1
kind: TenantRepository
metadata:
  name: tenants
  namespace: flux-system
spec:
  interval: 1m
  prune: true
  git:
    url: https://example.com/tenants
  path: ./tenants
  classPath: ./platform
  domains: [example.com]
  facilityFields:
    allow: [spec.quota]
    reserve: [spec.displayName]
`,
	"../broken-repository.yaml": `apiVersion: korthweb.digihunch.com/v1alpha1
kind: TenantRepository
metadata:
  name: tenants
spec:
  interval: 1m
  prune: true
  git:
    url: https://example.com/tenants
  facilityFields:
    allow: [spec.quotas]
  domain: x
`,
	"../platform/small.yaml": classHeader + "small\nspec:\n  orthanc:\n    replicas: 1\n",
	"east/classed.yaml":      header + "classed\nspec:\n  className: small\n  domain: classed.example.com\n",
	"west/same.yaml":         header + "same\nspec:\n  domain: good.example.com\n",
	"east/odd:1.yaml":        header + "odd:1\nspec: {}\n",
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		files  []string
		chdir  string
		code   int
		stdout []string
		stderr []string
	}{
		{
			name: "valid", args: []string{"validate", "tenants"}, files: []string{"good.yaml"},
			stdout: []string{"1 tenant valid, 0 problems\n"},
		},
		{
			name: "an unknown field", args: []string{"validate", "tenants"}, files: []string{"good.yaml", "bad.yaml"}, code: 1,
			stdout: []string{"tenants/bad.yaml:8: tenant bad: spec.orthanc.aeTitel: unknown field ", "aeTitle", "1 tenant valid, 1 problem\n"},
		},
		{
			name: "a refused patch", args: []string{"validate", "tenants"}, files: []string{"patch.yaml", "classes/patched.yaml"}, code: 1,
			stdout: []string{"tenants/patch.yaml:1: tenant patch: spec.patches[0]: VirtualService/web-vs: spec.hosts"},
		},
		{
			name: "one file of several", args: []string{"validate", "tenants/good.yaml"}, files: []string{"good.yaml", "bad.yaml"},
			stdout: []string{"1 tenant valid, 0 problems\n"},
		},
		{
			name: "several files of one directory", args: []string{"validate", "tenants/good.yaml", "./tenants/bad.yaml", "tenants/good.yaml"},
			files: []string{"good.yaml", "bad.yaml", "patch.yaml"}, code: 1,
			stdout: []string{"tenants/bad.yaml:8: tenant bad: ", "\n1 tenant valid, 1 problem\n"},
		},
		{
			name: "a file and its directory", args: []string{"validate", "tenants/good.yaml", "tenants"}, files: []string{"good.yaml", "bad.yaml"}, code: 1,
			stdout: []string{"\n1 tenant valid, 1 problem\n"},
		},
		{
			name: "a class in the directory above", args: []string{"validate", "tenants/east/classed.yaml"},
			files: []string{"classes/small.yaml", "east/classed.yaml"}, code: 1,
			stdout: []string{"there is no TenantClass of this name"},
		},
		{
			name: "a class in the root", args: []string{"validate", "--root", "tenants", "tenants/east/classed.yaml"},
			files: []string{"classes/small.yaml", "bad.yaml", "east/classed.yaml"}, stdout: []string{"1 tenant valid, 0 problems\n"},
		},
		{
			name: "a conflict within the root", args: []string{"validate", "--root=./tenants/", "tenants/west", "tenants/east"},
			files: []string{"good.yaml", "bad.yaml", "classes/small.yaml", "west/same.yaml", "east/classed.yaml"}, code: 1,
			stdout: []string{"tenants/west/same.yaml:", "host good.example.com is held by tenant good", "1 tenant valid, "},
		},
		{
			name: "a colon in the name of a file", args: []string{"validate", "tenants/east/odd:1.yaml"}, files: []string{"east/odd:1.yaml"}, code: 1,
			stdout: []string{"tenants/east/odd:1.yaml:5: tenant odd:1: spec.domain: "},
		},
		{
			name: "a path outside the root", args: []string{"validate", "--root", "tenants/east", "tenants/good.yaml"},
			files: []string{"good.yaml", "east/classed.yaml"}, code: 1,
			stderr: []string{"tenants/good.yaml is not below tenants/east"},
		},
		{
			name: "no such root", args: []string{"validate", "--root", "nowhere", "nowhere"}, code: 1,
			stderr: []string{"no such file or directory"},
		},
		{
			name: "no such path", args: []string{"validate", "nowhere"}, code: 1,
			stderr: []string{"korthweb: stat nowhere: no such file or directory"},
		},
		{
			name: "an empty directory", args: []string{"validate", "tenants"}, code: 1,
			stdout: []string{"tenants: no tenant is defined here", "0 tenants valid, 1 problem\n"},
		},
		{
			name: "no tenant files", args: []string{"validate", "tenants"}, files: []string{"notes.txt", "classes/small.yaml"}, code: 1,
			stdout: []string{"tenants: no tenant is defined here"},
		},
		{
			name: "no tenant files, for a program", args: []string{"validate", "-o", "json", "tenants"}, code: 1,
			stdout: []string{`"reason": "PathNotFound"`, `"tenants": []`},
		},
		{
			name: "render an empty directory", args: []string{"render", "tenants"}, code: 1, stderr: []string{"tenants: no tenant is defined here"},
		},
		{
			name: "a reserved field", args: []string{"validate", "tenants/reserved.yaml"}, files: []string{"reserved.yaml"}, code: 1,
			stdout: []string{"tenants/reserved.yaml:7: tenant reserved: spec.quota.hard: is for the platform to set, and a facility's own file may not: remove it here, move it to a class below tenants/classes, or ask the platform to allow spec.quota.hard in spec.facilityFields.allow of the TenantRepository\n"},
		},
		{
			name: "a class that breaks a tenant in another file", args: []string{"validate", "--root", "tenants", "tenants/classes/wrong.yaml"},
			files: []string{"classes/wrong.yaml", "east/classed.yaml", "good.yaml"}, code: 1,
			stdout: []string{"tenants/east/classed.yaml:5: tenant classed: spec.orthanc: replicas and autoscaling exclude each other", "1 tenant valid, 1 problem\n"},
		},
		{
			name: "a class that breaks a tenant, without a root", args: []string{"validate", "tenants/classes/wrong.yaml"},
			files: []string{"classes/wrong.yaml", "east/classed.yaml"}, code: 1,
			stdout: []string{"tenants/east/classed.yaml:5: tenant classed: ", "0 tenants valid, 1 problem\n"},
		},
		{
			name: "an extension in upper case", args: []string{"validate", "tenants"}, files: []string{"good.yaml", "loud.YAML"}, code: 1,
			stdout: []string{"tenants/loud.YAML:1: is not read: its name must end in .yaml or .yml"},
		},
		{
			name: "a TenantRepository", args: []string{"validate", "--repository", "tenants/../repository.yaml"},
			files:  []string{"good.yaml", "reserved.yaml", "east/classed.yaml", "../platform/small.yaml", "../repository.yaml"},
			stdout: []string{"3 tenants valid, 0 problems\n"},
		},
		{
			name: "a file with a TenantRepository's rules", args: []string{"validate", "--repository", "repository.yaml", "tenants/named.yaml"},
			files: []string{"good.yaml", "named.yaml", "../repository.yaml"}, code: 1,
			stdout: []string{"tenants/named.yaml:6: tenant named: spec.displayName: is for the platform to set", "below platform", "tenants/named.yaml:7: tenant named: spec.domain: \"named.example.org\": is not below a domain", "0 tenants valid, 2 problems\n"},
		},
		{
			name: "a class of a TenantRepository", args: []string{"validate", "--repository", "repository.yaml", "platform/small.yaml"},
			files: []string{"good.yaml", "named.yaml", "../platform/small.yaml", "../repository.yaml"}, code: 1,
			stdout: []string{"1 tenant valid, 2 problems\n"},
		},
		{
			name: "a TenantRepository in another directory", args: []string{"validate", "--repository", "../repository.yaml", "--root", ".."}, chdir: "tenants",
			files: []string{"good.yaml", "../repository.yaml"}, stdout: []string{"1 tenant valid, 0 problems\n"},
		},
		{
			name: "a TenantRepository with mistakes", args: []string{"validate", "--repository", "broken-repository.yaml"}, files: []string{"good.yaml", "../broken-repository.yaml"}, code: 1,
			stdout: []string{"broken-repository.yaml:11: spec.facilityFields.allow[0]: \"spec.quotas\": no Tenant has this field, did you mean spec.quota?\n", "broken-repository.yaml:12: spec.domain: unknown field spec.domain, did you mean domains?\n"},
		},
		{
			name: "no TenantRepository", args: []string{"validate", "--repository", "tenants/good.yaml"}, files: []string{"good.yaml"}, code: 1,
			stdout: []string{"tenants/good.yaml: holds no TenantRepository"},
		},
		{name: "no such TenantRepository", args: []string{"validate", "--repository", "x.yaml"}, code: 1, stderr: []string{"--repository: open x.yaml: no such file"}},
		{
			name: "a path outside of a TenantRepository's", args: []string{"validate", "--repository", "repository.yaml", "repository.yaml"}, files: []string{"good.yaml", "../repository.yaml"}, code: 1,
			stderr: []string{"repository.yaml is not below tenants"},
		},
		{
			name: "render with a TenantRepository", args: []string{"render", "--repository", "repository.yaml", "--tenant", "reserved"},
			files: []string{"reserved.yaml", "../repository.yaml"}, stdout: []string{"kind: ResourceQuota\n"},
		},
		{
			name: "hostile text", args: []string{"validate", "."}, chdir: "tenants", files: []string{"::error::x.yaml"}, code: 1,
			stdout: []string{`: :error: :x.yaml:4: tenant a\u202e\x1b[31m: metadata.name: `},
		},
		{
			name: "hostile argument", args: []string{"validate", "x\n::error::y\x1b[0m"}, code: 1,
			stderr: []string{`korthweb: stat x\n: :error: :y\x1b[0m: no such file`},
		},
		{
			name: "hostile flag", args: []string{"validate", "--x\n::error::y\x1b[0m"}, code: 2,
			stderr: []string{"\n: :error: :y" + `\x1b[0m`},
		},
		{name: "no path", args: []string{"validate"}, code: 2, stderr: []string{"requires at least 1 arg, or --repository", "korthweb --help"}},
		{name: "an unknown command", args: []string{"valdate"}, code: 2, stderr: []string{`unknown command "valdate"`}},
		{name: "an unknown flag", args: []string{"render", "--colour", "."}, code: 2, stderr: []string{"unknown flag: --colour"}},
		{
			name: "render", args: []string{"render", "tenants", "--tenant", "good"}, files: []string{"good.yaml", "bad.yaml"},
			stdout: []string{"kind: Namespace\n", "name: good-applier\n", "kind: Kustomization\n", "kind: HelmRelease\n", "kind: Deployment\n"},
		},
		{
			name: "render a tenant that is not there", args: []string{"render", "tenants", "--tenant", "other"}, files: []string{"good.yaml"}, code: 1,
			stderr: []string{"no tenant other is defined under tenants"},
		},
		{
			name: "render a tenant with a problem", args: []string{"render", "tenants", "--tenant", "bad"}, files: []string{"good.yaml", "bad.yaml"}, code: 1,
			stderr: []string{"spec.orthanc.aeTitel"},
		},
		{name: "the controller without its namespace", args: []string{"controller"}, code: 1, stderr: []string{"RUNTIME_NAMESPACE is not set", "--watch-all-namespaces"}},
		{name: "version", args: []string{"version"}, stdout: []string{"korthweb dev"}},
		{name: "completion", args: []string{"completion", "bash"}, stdout: []string{"bash completion"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			t.Setenv("RUNTIME_NAMESPACE", "")
			t.Chdir(t.TempDir())
			write(t, test.files...)
			if test.chdir != "" {
				t.Chdir(test.chdir)
			}
			var stdout, stderr bytes.Buffer
			g.Expect(cli.Run(test.args, &stdout, &stderr)).To(Equal(test.code), stdout.String()+stderr.String())
			for _, want := range test.stdout {
				g.Expect(stdout.String()).To(ContainSubstring(want))
			}
			for _, want := range test.stderr {
				g.Expect(stderr.String()).To(ContainSubstring(want))
			}
		})
	}
}

func TestValidateJSON(t *testing.T) {
	g := NewWithT(t)
	t.Chdir(t.TempDir())
	write(t, "good.yaml", "bad.yaml")
	var stdout, stderr bytes.Buffer
	g.Expect(cli.Run([]string{"validate", "-o", "json", "tenants"}, &stdout, &stderr)).To(Equal(1))
	var result struct {
		Tenants  []string
		Problems []struct{ File, Tenant, Field, Reason, Message string }
	}
	g.Expect(json.Unmarshal(stdout.Bytes(), &result)).To(Succeed())
	g.Expect(result.Tenants).To(Equal([]string{"good"}))
	g.Expect(result.Problems).To(HaveLen(1))
	g.Expect(result.Problems[0].Field).To(Equal("spec.orthanc.aeTitel"))
}

// What render -o writes is what Flux gets, and it does not depend on when or how often it is written.
func TestRenderFiles(t *testing.T) {
	g := NewWithT(t)
	t.Chdir(t.TempDir())
	write(t, "good.yaml")
	contents := [2]map[string]string{}
	for i, dir := range []string{"one", "two"} {
		var stdout, stderr bytes.Buffer
		g.Expect(cli.Run([]string{"render", "tenants", "-o", dir}, &stdout, &stderr)).To(Equal(0), stderr.String())
		contents[i] = map[string]string{}
		g.Expect(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			name, relErr := filepath.Rel(dir, path)
			contents[i][name] = string(data)
			return errors.Join(err, relErr)
		})).To(Succeed())
	}
	g.Expect(contents[0]).To(HaveKey("good/dependency/kustomization.yaml"))
	g.Expect(contents[0]).To(HaveKey("good/application/deployment-orthanc.yaml"))
	g.Expect(contents[0]).To(Equal(contents[1]))
}

func write(t *testing.T, names ...string) {
	t.Helper()
	if err := os.MkdirAll("tenants", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join("tenants", filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("tenants", name), []byte(files[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
