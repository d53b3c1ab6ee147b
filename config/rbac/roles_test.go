// SPDX-License-Identifier: Apache-2.0

// Package rbac_test holds the roles of tenants' appliers against what is rendered for tenants: each kind is allowed,
// and no kind more.
package rbac_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/types"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/gitops/bundles"
)

// applyVerbs are what kustomize-controller needs of a kind: it applies by patch, lists to wait, and prunes.
var applyVerbs = []string{"create", "delete", "get", "list", "patch", "watch"}

// readVerbs are enough for what is only looked at.
var readVerbs = []string{"get", "list", "watch"}

func TestKustomizeApplierMayWriteWhatIsRendered(t *testing.T) {
	g := NewWithT(t)
	role := applierRole(t, "korthweb-kustomize-applier")
	written, read := sets.New[schema.GroupResource](), sets.New[schema.GroupResource]()
	for _, rule := range role.Rules {
		g.Expect(rule.ResourceNames).To(BeEmpty())
		verbs := slices.Sorted(slices.Values(rule.Verbs))
		for _, resource := range resources(rule) {
			g.Expect(written.Union(read).Has(resource)).To(BeFalse(), "%s is in two rules", resource)
			if slices.Equal(verbs, readVerbs) {
				read.Insert(resource)
				continue
			}
			g.Expect(verbs).To(Equal(applyVerbs), "%s", resource)
			written.Insert(resource)
		}
	}
	rendered := renderedResources(t)
	g.Expect(len(rendered)).To(BeNumerically(">", 10))
	g.Expect(names(rendered.Difference(written))).To(BeEmpty(), "rendered, but not allowed")
	g.Expect(names(written.Difference(rendered))).To(BeEmpty(), "allowed, but not rendered")
	// What a Deployment makes, which its health is read from.
	g.Expect(names(read)).To(Equal([]string{"pods", "replicasets.apps"}))
}

// What a chart's Role grants, helm-controller must hold itself: the apiserver lets nobody grant more than that.
func TestHelmApplierHoldsWhatChartsGrant(t *testing.T) {
	g := NewWithT(t)
	held := map[schema.GroupResource]sets.Set[string]{}
	for _, rule := range applierRole(t, "korthweb-helm-applier").Rules {
		for _, resource := range resources(rule) {
			g.Expect(held).NotTo(HaveKey(resource), "%s is in two rules", resource)
			held[resource] = sets.New(rule.Verbs...)
		}
	}
	for _, grant := range []struct {
		chart    string
		resource schema.GroupResource
		verbs    []string
	}{
		// Istio 1.31, gateway/templates/role.yaml.
		{"gateway", schema.GroupResource{Resource: "secrets"}, readVerbs},
		// Traefik's chart 41, templates/rbac/role.yaml with rbac.namespaced and the provider kubernetesCRD alone.
		{"traefik", schema.GroupResource{Resource: "configmaps"}, readVerbs},
		{"traefik", schema.GroupResource{Resource: "services"}, readVerbs},
		{"traefik", schema.GroupResource{Resource: "secrets"}, readVerbs},
		{"traefik", schema.GroupResource{Resource: "pods"}, []string{"get"}},
		{"traefik", schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}, []string{"list", "watch"}},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "ingressroutes"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "ingressroutetcps"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "ingressrouteudps"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "middlewares"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "middlewaretcps"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "serverstransports"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "serverstransporttcps"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "tlsoptions"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "tlsstores"}, readVerbs},
		{"traefik", schema.GroupResource{Group: "traefik.io", Resource: "traefikservices"}, readVerbs},
	} {
		g.Expect(held[grant.resource].HasAll(grant.verbs...)).To(BeTrue(),
			"chart %s grants %v of %s, which korthweb-helm-applier lacks", grant.chart, grant.verbs, grant.resource)
	}
}

func applierRole(t *testing.T, name string) *rbacv1.ClusterRole {
	t.Helper()
	g := NewWithT(t)
	file, err := os.Open("applier_roles.yaml")
	g.Expect(err).NotTo(HaveOccurred())
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		role := &rbacv1.ClusterRole{}
		err := decoder.Decode(role)
		g.Expect(err).NotTo(HaveOccurred(), "looking for ClusterRole %s", name)
		if role.Name == name {
			g.Expect(role.Rules).NotTo(BeEmpty())
			return role
		}
	}
}

func resources(rule rbacv1.PolicyRule) []schema.GroupResource {
	var all []schema.GroupResource
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			all = append(all, schema.GroupResource{Group: group, Resource: resource})
		}
	}
	return all
}

// renderedResources are of the kinds in the bases and components, so of every variant that there can be.
func renderedResources(t *testing.T) sets.Set[schema.GroupResource] {
	t.Helper()
	g := NewWithT(t)
	found := sets.New[schema.GroupResource]()
	g.Expect(fs.WalkDir(bundles.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Base(name) != "kustomization.yaml" {
			return err
		}
		data, err := fs.ReadFile(bundles.FS, name)
		if err != nil {
			return err
		}
		k := types.Kustomization{}
		if err := sigsyaml.UnmarshalStrict(data, &k); err != nil {
			return err
		}
		if len(k.ConfigMapGenerator) > 0 {
			found.Insert(schema.GroupResource{Resource: "configmaps"})
		}
		for _, resource := range k.Resources {
			if strings.HasSuffix(resource, ".yaml") {
				kinds, err := kindsIn(path.Join(path.Dir(name), resource))
				if err != nil {
					return err
				}
				found = found.Union(kinds)
			}
		}
		return nil
	})).To(Succeed())
	return found
}

func kindsIn(file string) (sets.Set[schema.GroupResource], error) {
	data, err := fs.ReadFile(bundles.FS, file)
	if err != nil {
		return nil, err
	}
	found := sets.New[schema.GroupResource]()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := metav1.TypeMeta{}
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if object.Kind == "Gateway" { // its y follows a vowel, which the guess does not look at
			found.Insert(schema.GroupResource{Group: object.GroupVersionKind().Group, Resource: "gateways"})
			continue
		}
		plural, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
		found.Insert(plural.GroupResource())
	}
}

func names(resources sets.Set[schema.GroupResource]) []string {
	all := make([]string, 0, len(resources))
	for resource := range resources {
		all = append(all, resource.String())
	}
	slices.Sort(all)
	return all
}
