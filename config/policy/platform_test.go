// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/digihunch/korthweb/hack/stack"
)

// buildDefault builds config/default with what is added to its kustomization.
func buildDefault(g Gomega, added string) []*unstructured.Unstructured {
	memory := filesys.MakeFsInMemory()
	config := os.DirFS("..")
	g.Expect(fs.WalkDir(config, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(config, name)
		if err != nil {
			return err
		}
		if name == "default/kustomization.yaml" {
			data = append(data, added...)
		}
		return memory.WriteFile("/config/"+name, data)
	})).To(Succeed())
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/config/default")
	g.Expect(err).NotTo(HaveOccurred())
	var objects []*unstructured.Unstructured
	for _, r := range built.Resources() {
		object, err := r.Map()
		g.Expect(err).NotTo(HaveOccurred())
		objects = append(objects, &unstructured.Unstructured{Object: object})
	}
	return objects
}

// One line in config/default moves Korthweb, and the policies know its account there, and nobody else's.
func TestPlatformNamespace(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	s, err := stack.Start(ctx, stack.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(s.Stop()).To(Succeed()) })
	config := s.RESTConfig()
	admin := newClient(g, config, administrator)
	const account, former = "system:serviceaccount:gitops:korthweb", korthweb
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "users"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}
	for _, user := range []string{account, former, "system:serviceaccount:gitops:bhs-applier"} {
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user})
	}
	g.Expect(admin.Create(ctx, binding)).To(Succeed())
	for _, name := range []string{"gitops", tenantNamespace} {
		ns := namespace(name)
		if name == tenantNamespace {
			ns.Labels[label] = "bhs"
		}
		g.Expect(admin.Create(ctx, ns)).To(Succeed())
	}
	for _, object := range buildDefault(g, "\nnamespace: gitops\n") {
		applied := client.ApplyConfigurationFromUnstructured(object)
		g.Expect(admin.Apply(ctx, applied, client.FieldOwner("test"), client.ForceOwnership)).To(Succeed(), object.GetName())
	}
	c, other := newClient(g, config, account), newClient(g, config, former)
	g.Eventually(func() error {
		return newClient(g, config, account).Create(ctx, base(g, "plain Namespace", ""), client.DryRunAll)
	}, 30*time.Second, 200*time.Millisecond).Should(MatchError(ContainSubstring("metadata.labels: expected korthweb.digihunch.com/tenant")))

	expect(g, c.Create(ctx, base(g, "Namespace", ""), client.DryRunAll), "")
	expect(g, other.Create(ctx, base(g, "Namespace", ""), client.DryRunAll), "metadata.labels: only Korthweb may")
	expect(g, other.Create(ctx, base(g, "plain Namespace", ""), client.DryRunAll), "")
	expect(g, c.Create(ctx, base(g, "held Tenant", "gitops"), client.DryRunAll), "")
	expect(g, other.Create(ctx, base(g, "held Tenant", "gitops"), client.DryRunAll), "metadata.annotations: only Korthweb may")
	expect(g, c.Create(ctx, base(g, "last good state", "gitops"), client.DryRunAll), "")
	expect(g, other.Create(ctx, base(g, "last good state", "gitops"), client.DryRunAll), "metadata.labels: only Korthweb may")
	expect(g, other.Delete(ctx, namespace(tenantNamespace), client.DryRunAll), "kubectl annotate namespace")
	expect(g, other.Delete(ctx, namespace("gitops"), client.DryRunAll), "kubectl annotate namespace gitops")
	expect(g, other.Delete(ctx, namespace("flux-system"), client.DryRunAll), "")
	expect(g, newClient(g, config, "system:serviceaccount:gitops:bhs-applier").Create(ctx, withImage(g, "traefik"), client.DryRunAll), "")
	list := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "gitops", Name: "allowed-registries"}}
	g.Expect(admin.Delete(ctx, list)).To(Succeed())
	g.Eventually(func() error {
		return newClient(g, config, "system:serviceaccount:gitops:bhs-applier").Create(ctx, withImage(g, "traefik"), client.DryRunAll)
	}, 10*time.Second).Should(MatchError(ContainSubstring("no params found")))
}

// Nothing but the account and the list is moved, and where nothing is said it is flux-system.
func TestDefaultIsInFluxSystem(t *testing.T) {
	g := NewWithT(t)
	kinds := map[string]int{}
	page, err := os.ReadFile("../../docs/admission.md")
	g.Expect(err).NotTo(HaveOccurred())
	for _, object := range buildDefault(g, "") {
		kinds[object.GetKind()]++
		g.Expect(object.GetNamespace()).To(Or(BeEmpty(), Equal(platformNamespace)))
		if object.GetKind() == "CustomResourceDefinition" {
			g.Expect(object.GetAnnotations()).To(And(
				HaveKeyWithValue("kustomize.toolkit.fluxcd.io/prune", "disabled"),
				HaveKeyWithValue("helm.sh/resource-policy", "keep")), object.GetName())
		}
		text, err := object.MarshalJSON()
		g.Expect(err).NotTo(HaveOccurred())
		if object.GetKind() == "ValidatingAdmissionPolicy" {
			g.Expect(string(page)).To(ContainSubstring("| `"+object.GetName()+"` |"), "described in docs/admission.md")
		}
		if object.GetKind() == "ValidatingAdmissionPolicy" && strings.Contains(string(text), "'korthweb'") {
			g.Expect(string(text)).To(ContainSubstring("'system:serviceaccount:' + 'flux-system' + ':' + 'korthweb'"), object.GetName())
			kinds["naming the account"]++
		}
	}
	g.Expect(kinds).To(And(HaveKeyWithValue("CustomResourceDefinition", 2), HaveKeyWithValue("ValidatingAdmissionPolicy", 17),
		HaveKeyWithValue("ValidatingAdmissionPolicyBinding", 18), HaveKeyWithValue("naming the account", 5)))
}

// The example of docs/admission.md changes what it says.
func TestDocumentedPatch(t *testing.T) {
	g := NewWithT(t)
	page, err := os.ReadFile("../../docs/admission.md")
	g.Expect(err).NotTo(HaveOccurred())
	_, example, found := strings.Cut(string(page), "```yaml\n")
	g.Expect(found).To(BeTrue())
	example, _, _ = strings.Cut(example, "```")
	for _, object := range buildDefault(g, "\n"+example) {
		if object.GetName() != "korthweb-pod-templates" || object.GetKind() != "ValidatingAdmissionPolicy" {
			continue
		}
		variables, _, err := unstructured.NestedSlice(object.Object, "spec", "variables")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(variables).To(ContainElement(map[string]any{"name": "csiDrivers", "expression": "['csi.cert-manager.io']"}))
		return
	}
	t.Fatal("the policy is not in the build")
}
