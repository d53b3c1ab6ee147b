// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// No role that Korthweb brings, for itself or for a tenant, grants anything by a wildcard, or impersonation.
func TestNoRoleHasWildcards(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	roles := map[string]int{}
	for _, dir := range []string{"rbac", "default"} {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("../../config", dir))
		g.Expect(err).NotTo(HaveOccurred())
		manifests, err := built.AsYaml()
		g.Expect(err).NotTo(HaveOccurred())
		roles[dir] = expectNoWildcards(g, manifests)
	}
	g.Expect(roles["rbac"]).To(BeNumerically(">=", 4))
	g.Expect(roles["default"]).To(Equal(roles["rbac"]))

	definitions := t.TempDir()
	g.Expect(os.CopyFS(definitions, os.DirFS("../../tenants"))).To(Succeed())
	for file, sample := range map[string]string{"riverside.yaml": "tenant_full.yaml", "lakeside.yaml": "tenant_minimal.yaml"} {
		content, err := os.ReadFile(filepath.Join("../../config/samples", sample))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(os.WriteFile(filepath.Join(definitions, file), content, 0o600)).To(Succeed())
	}
	// The samples are an administrator's, who may set every field.
	repository := filepath.Join(t.TempDir(), "repository.yaml")
	g.Expect(os.WriteFile(repository, []byte(`apiVersion: korthweb.digihunch.com/v1alpha1
kind: TenantRepository
metadata: {name: tenants, namespace: flux-system}
spec:
  interval: 1m
  sourceRef: {kind: GitRepository, name: tenants}
  path: .
  prune: true
  facilityFields: {allow: [spec, metadata]}
  commonMetadataDomains: [example.com]
`), 0o600)).To(Succeed())
	rendered, err := exec.CommandContext(t.Context(), korthweb, "render", "--repository", repository, "--root", definitions).Output()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(rendered)).To(ContainSubstring("kind: RoleBinding"))
	expectNoWildcards(g, rendered)
}

// expectNoWildcards checks the Roles and ClusterRoles in a stream of manifests, and counts them. It checks
// that what is bound is one of Korthweb's own roles.
func expectNoWildcards(g *WithT, manifests []byte) int {
	roles := 0
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		// Role and ClusterRole have the same rules, and a binding has a roleRef instead.
		object := struct {
			rbacv1.ClusterRole `json:",inline"`
			RoleRef            rbacv1.RoleRef `json:"roleRef"`
		}{}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return roles
		}
		g.Expect(err).NotTo(HaveOccurred())
		switch object.Kind {
		case "Role", "ClusterRole":
			roles++
		case "RoleBinding", "ClusterRoleBinding":
			g.Expect(object.RoleRef.Name).To(HavePrefix("korthweb-"), object.Name)
			continue
		default:
			continue
		}
		g.Expect(object.AggregationRule).To(BeNil(), object.Name)
		g.Expect(object.Rules).NotTo(BeEmpty(), object.Name)
		for _, rule := range object.Rules {
			for _, values := range [][]string{rule.Verbs, rule.APIGroups, rule.Resources, rule.NonResourceURLs, rule.ResourceNames} {
				for _, value := range values {
					g.Expect(value).NotTo(ContainSubstring("*"), "%s %s: %v", object.Kind, object.Name, rule)
				}
			}
			for _, verb := range []string{"impersonate", "escalate"} {
				g.Expect(slices.Contains(rule.Verbs, verb)).To(BeFalse(), "%s %s: %v", object.Kind, object.Name, rule)
			}
			if slices.Contains(rule.Verbs, "bind") {
				g.Expect(rule.ResourceNames).NotTo(BeEmpty(), "%s %s may bind any role: %v", object.Kind, object.Name, rule)
			}
		}
	}
}
