// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

// Two tenants: whatever the files of one hold, and whatever is tried behind Korthweb's back with its
// accounts, nothing reaches the other, the platform, or the cluster.
func TestTenantsCannotReachEachOther(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	f := newFacilities(t, shared, "policy", map[string]string{"policy-a.yaml": tenantFile("policy-a"), "policy-b.yaml": tenantFile("policy-b")},
		allow("spec.patches"))
	g.Eventually(f.ready("policy-a", "policy-b")).Should(Succeed())

	t.Run("patches", func(t *testing.T) { testPatchesAreRefused(t, f) })
	t.Run("accounts", testAccountsAreConfined)
	t.Run("attempts", testAttemptsAreDenied)
	t.Run("Kustomization", testKustomizationIsDenied)
}

func testPatchesAreRefused(t *testing.T, f *facilities) {
	g := gomega(t)
	before, err := f.get("policy-a")
	g.Expect(err).NotTo(HaveOccurred())
	const harmless = "- patch: '{apiVersion: v1, kind: Service, metadata: {name: orthweb, labels: {note: x}}}'"
	for _, tc := range []struct {
		name    string
		patches []string
		message string
	}{
		{
			name:    "object in another tenant's namespace",
			patches: []string{"- patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: orthanc, namespace: policy-b-orthweb}, spec: {replicas: 0}}'"},
			message: `spec.patches[0]: metadata.namespace: names namespace "policy-b-orthweb", the tenant's is "policy-a-orthweb"`,
		},
		{
			name: "target in another tenant's namespace",
			patches: []string{harmless,
				`- {target: {kind: Deployment, namespace: policy-b-orthweb}, patch: '[{"op": "replace", "path": "/spec/replicas", "value": 0}]'}`},
			message: "spec.patches[1]: its target matches no object of the bundle: kind Deployment, namespace policy-b-orthweb",
		},
		{
			name: "move to the platform's namespace",
			patches: []string{harmless, harmless,
				`- {target: {kind: Service, name: orthweb}, patch: '[{"op": "replace", "path": "/metadata/namespace", "value": "flux-system"}]'}`},
			message: "spec.patches[2]: Service/orthweb: metadata.namespace: a patch may not change this",
		},
		{
			name:    "cluster-scoped kind",
			patches: []string{"- patch: '{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: cluster-admin}, rules: []}'"},
			message: "spec.patches[0]: its target matches no object of the bundle",
		},
		{
			name:    "change of the kind to a cluster-scoped one",
			patches: []string{`- {target: {kind: Service, name: orthweb}, patch: '[{"op": "replace", "path": "/kind", "value": "Namespace"}]'}`},
			message: "spec.patches[0]: Service/orthweb: kind: a patch may not change this",
		},
		{
			name:    "another account to act as",
			patches: []string{`- {target: {kind: HelmRelease}, patch: '[{"op": "remove", "path": "/spec/serviceAccountName"}]'}`},
			message: "spec.patches[0]: HelmRelease/istio-ingress: spec.serviceAccountName: a patch may not change this",
		},
		{
			name:    "host in another tenant's namespace",
			patches: []string{`- {target: {kind: Gateway, name: web-gw}, patch: '[{"op": "replace", "path": "/spec/servers/0/hosts/0", "value": "policy-b-orthweb/policy-b.example.com"}]'}`},
			message: "spec.patches[0]: Gateway/web-gw: spec.servers[0].hosts[0]: a patch may not change this: use spec.ingress",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := gomega(t)
			lines := []string{"patches:"}
			f.push(map[string]string{"policy-a.yaml": tenantFile("policy-a", append(lines, tc.patches...)...)})
			g.Eventually(func(g Gomega) {
				obj, err := f.get("policy-a")
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(obj.Spec.Patches).To(HaveLen(len(tc.patches)))
				g.Expect(obj.Status.ObservedGeneration).To(Equal(obj.Generation))
				g.Expect(conditions.IsStalled(obj)).To(BeTrue())
				g.Expect(conditions.GetReason(obj, meta.StalledCondition)).To(Equal(v1alpha1.InvalidDefinitionReason))
				g.Expect(conditions.GetMessage(obj, meta.ReadyCondition)).To(HavePrefix(tc.message))
				g.Expect(conditions.IsFalse(obj, meta.ReadyCondition)).To(BeTrue())
				g.Expect(obj.Status.Artifact).To(Equal(before.Status.Artifact))
			}).Should(Succeed())
		})
	}
	revision := f.push(map[string]string{"policy-a.yaml": tenantFile("policy-a", "patches:", harmless)})
	g.Eventually(f.readyAt(revision, "policy-a")).Should(Succeed())
	g.Expect(f.ready("policy-b")()).To(Succeed())
}

// actAs returns a client that acts as a ServiceAccount, as the Flux controllers do.
func actAs(t *testing.T, namespace, name string) client.Client {
	t.Helper()
	config := shared.stack.RESTConfig()
	config.QPS = -1
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + name,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	c, err := client.New(config, client.Options{Scheme: shared.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The apiserver's own verdict on everything that the roles of the appliers allow somewhere.
func testAccountsAreConfined(t *testing.T) {
	const own = "policy-a-orthweb"
	elsewhere := []string{"policy-b-orthweb", stack.FluxNamespace, "default", ""}
	writes := []string{"create", "update", "patch", "delete", "deletecollection"}
	// Nothing of this in any namespace: what decides over others, and what Korthweb itself keeps.
	never := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "nodes", "persistentvolumes"}, Verbs: writes},
		{APIGroups: []string{"rbac.authorization.k8s.io"}, Resources: []string{"clusterroles", "clusterrolebindings"}, Verbs: append(writes, "bind", "escalate")},
		{APIGroups: []string{"kustomize.toolkit.fluxcd.io"}, Resources: []string{"kustomizations"}, Verbs: writes},
		{APIGroups: []string{"source.toolkit.fluxcd.io"}, Resources: []string{"externalartifacts", "externalartifacts/status"}, Verbs: writes},
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"tenants", "tenantrepositories", "tenants/status"}, Verbs: append(writes, "get", "list")},
		{APIGroups: []string{""}, Resources: []string{"users", "groups", "serviceaccounts"}, Verbs: []string{"impersonate"}},
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token", "pods/exec"}, Verbs: []string{"create"}},
		{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, Verbs: writes},
		{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"}, Verbs: writes},
	}
	noSecrets := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: append(writes, "get", "list", "watch")}
	noRoles := rbacv1.PolicyRule{APIGroups: []string{"rbac.authorization.k8s.io"}, Resources: []string{"roles", "rolebindings"}, Verbs: append(writes, "bind", "escalate")}
	for _, account := range []struct {
		namespace, name, role string
		never                 []rbacv1.PolicyRule
	}{
		{stack.FluxNamespace, "policy-a-applier", "korthweb-kustomize-applier", append(never, noSecrets, noRoles)},
		{own, "helm-applier", "korthweb-helm-applier", never},
	} {
		t.Run(account.name, func(t *testing.T) {
			g := gomega(t)
			c := actAs(t, account.namespace, account.name)
			role := &rbacv1.ClusterRole{}
			g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Name: account.role}, role)).To(Succeed())
			for _, rule := range role.Rules {
				forEachAccess(rule, func(access authorizationv1.ResourceAttributes) {
					access.Namespace = own
					g.Expect(may(t, c, access)).To(BeTrue(), "%v", access)
					for _, access.Namespace = range elsewhere {
						g.Expect(may(t, c, access)).To(BeFalse(), "%v", access)
					}
				})
			}
			for _, rule := range account.never {
				forEachAccess(rule, func(access authorizationv1.ResourceAttributes) {
					for _, access.Namespace = range append(elsewhere, own) {
						g.Expect(may(t, c, access)).To(BeFalse(), "%v", access)
					}
				})
			}
		})
	}
}

func forEachAccess(rule rbacv1.PolicyRule, do func(authorizationv1.ResourceAttributes)) {
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			resource, subresource, _ := strings.Cut(resource, "/")
			for _, verb := range rule.Verbs {
				do(authorizationv1.ResourceAttributes{Group: group, Resource: resource, Subresource: subresource, Verb: verb})
			}
		}
	}
}

func may(t *testing.T, c client.Client, access authorizationv1.ResourceAttributes) bool {
	t.Helper()
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &access}}
	if err := c.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

// The same by doing it.
func testAttemptsAreDenied(t *testing.T) {
	g := gomega(t)
	const other = "policy-b-orthweb"
	ctx := t.Context()
	config := func(namespace string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "attempt"}}
	}
	for _, account := range []types.NamespacedName{
		{Namespace: stack.FluxNamespace, Name: "policy-a-applier"},
		{Namespace: "policy-a-orthweb", Name: "helm-applier"},
	} {
		c := actAs(t, account.Namespace, account.Name)
		for _, obj := range []client.Object{
			config(other), config(stack.FluxNamespace), config("default"),
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: "attempt"}},
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "attempt"}},
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "attempt"}},
			&rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: "attempt"},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "korthweb-kustomize-applier"},
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
			},
		} {
			g.Expect(apierrors.IsForbidden(c.Create(ctx, obj))).To(BeTrue(), "%T %s", obj, client.ObjectKeyFromObject(obj))
		}
		nothing := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"attempt":"x"}}}`))
		for _, obj := range []client.Object{
			&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: "orthanc"}},
			&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: "orthanc-storage"}},
			&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: "kustomize-applier"}},
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "policy-b-applier"}},
			&kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "policy-b-application"}},
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: other}},
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "korthweb-kustomize-applier"}},
		} {
			g.Expect(shared.client.Get(ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
			g.Expect(apierrors.IsForbidden(c.Patch(ctx, obj, nothing))).To(BeTrue(), "patch %T", obj)
			g.Expect(apierrors.IsForbidden(c.Delete(ctx, obj))).To(BeTrue(), "delete %T", obj)
		}
		secret := &corev1.Secret{}
		err := c.Get(ctx, client.ObjectKey{Namespace: other, Name: "orthanc-users"}, secret)
		g.Expect(apierrors.IsForbidden(err)).To(BeTrue())
	}
}

// A Kustomization that somebody makes beside Korthweb's, with a tenant's account and other sources.
func testKustomizationIsDenied(t *testing.T) {
	g := gomega(t)
	repo, err := shared.git.CreateRepo("policy-rogue", fstest.MapFS{
		"namespace/config.yaml": {Data: []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: rogue, namespace: policy-b-orthweb}}")},
		"cluster/role.yaml":     {Data: []byte("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: rogue}, rules: []}")},
		"own/config.yaml":       {Data: []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: rogue, namespace: policy-a-orthweb}}")},
	})
	g.Expect(err).NotTo(HaveOccurred())
	create(t, shared, &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "policy-rogue"},
		Spec: sourcev1.GitRepositorySpec{
			URL:       repo.URL(),
			Reference: &sourcev1.GitRepositoryRef{Branch: gitserver.Branch},
			Interval:  metav1.Duration{Duration: time.Hour},
		},
	})
	kustomization := func(name string) *kustomizev1.Kustomization {
		k := &kustomizev1.Kustomization{
			ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "policy-rogue-" + name},
			Spec: kustomizev1.KustomizationSpec{
				Interval:           metav1.Duration{Duration: time.Hour},
				RetryInterval:      &metav1.Duration{Duration: time.Second},
				Path:               "./" + name,
				Prune:              true,
				ServiceAccountName: "policy-a-applier",
				SourceRef:          kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.GitRepositoryKind, Name: "policy-rogue"},
			},
		}
		create(t, shared, k)
		return k
	}
	inNamespace, inCluster, inOwn := kustomization("namespace"), kustomization("cluster"), kustomization("own")
	g.Eventually(func(g Gomega) {
		for k, denied := range map[*kustomizev1.Kustomization]string{
			inNamespace: `in the namespace "policy-b-orthweb"`,
			inCluster:   "at the cluster scope",
		} {
			g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(k), k)).To(Succeed())
			g.Expect(conditions.IsFalse(k, meta.ReadyCondition)).To(BeTrue())
			g.Expect(conditions.GetMessage(k, meta.ReadyCondition)).To(And(
				ContainSubstring(`User "system:serviceaccount:flux-system:policy-a-applier" cannot`), ContainSubstring(denied)))
		}
		g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(inOwn), inOwn)).To(Succeed())
		g.Expect(conditions.IsReady(inOwn)).To(BeTrue())
	}).Should(Succeed())
	for key, obj := range map[client.ObjectKey]client.Object{
		{Namespace: "policy-b-orthweb", Name: "rogue"}: &corev1.ConfigMap{},
		{Name: "rogue"}: &rbacv1.ClusterRole{},
	} {
		g.Expect(apierrors.IsNotFound(shared.client.Get(t.Context(), key, obj))).To(BeTrue(), "%T", obj)
	}
	g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Namespace: "policy-a-orthweb", Name: "rogue"}, &corev1.ConfigMap{})).To(Succeed())
}

// What has the name that a tenant needs and belongs to somebody else is left as it is, also by the
// tenant's removal.
func TestForeignObjectsAreNotTakenOver(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	ctx := t.Context()
	labels := map[string]string{"team": "radiology"}
	foreign := map[string]client.Object{
		"foreign-namespace": &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "foreign-namespace-orthweb", Labels: labels}},
		"foreign-account":   &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "foreign-account-applier", Labels: labels}},
		"foreign-layer": &kustomizev1.Kustomization{
			ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "foreign-layer-application", Labels: labels},
			Spec: kustomizev1.KustomizationSpec{
				Interval: metav1.Duration{Duration: time.Hour}, Suspend: true, Path: "./",
				SourceRef: kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.GitRepositoryKind, Name: "foreign"},
			},
		},
	}
	names := map[string]string{
		"foreign-namespace": "Namespace/foreign-namespace-orthweb",
		"foreign-account":   "ServiceAccount/flux-system/foreign-account-applier",
		"foreign-layer":     "Kustomization/flux-system/foreign-layer-application",
	}
	files := map[string]string{}
	for name, obj := range foreign {
		create(t, shared, obj)
		files[name+".yaml"] = tenantFile(name)
	}
	before := map[string]map[string]any{}
	for name, obj := range foreign {
		before[name] = content(t, obj)
	}
	untouched := func() {
		t.Helper()
		for name, obj := range foreign {
			g.Expect(content(t, obj)).To(Equal(before[name]))
		}
	}

	f := newFacilities(t, shared, "foreign", files)
	for name, object := range names {
		g.Eventually(func(g Gomega) {
			obj, err := f.get(name)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(conditions.GetReason(obj, meta.ReadyCondition)).To(Equal(v1alpha1.NotOwnedReason))
			g.Expect(conditions.IsFalse(obj, meta.ReadyCondition)).To(BeTrue())
			g.Expect(conditions.GetMessage(obj, meta.ReadyCondition)).To(
				HavePrefix(object + " exists and was not created by Korthweb; it is left as it is"))
		}).Should(Succeed())
	}
	untouched()
	inside := &rbacv1.RoleBindingList{}
	g.Expect(shared.client.List(ctx, inside, client.InNamespace("foreign-namespace-orthweb"))).To(Succeed())
	g.Expect(inside.Items).To(BeEmpty())

	// Only by its removal does the tenant get the name.
	g.Expect(shared.client.Delete(ctx, foreign["foreign-account"])).To(Succeed())
	requestReconciliation(t, shared, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "foreign-account"}})
	g.Eventually(func() string {
		obj, _ := f.get("foreign-account")
		return conditions.GetReason(obj, meta.ReadyCondition)
	}).ShouldNot(Equal(v1alpha1.NotOwnedReason))
	delete(foreign, "foreign-account")

	f.push(map[string]string{"foreign-last.yaml": tenantFile("foreign-last", "suspend: true")},
		"foreign-namespace.yaml", "foreign-account.yaml", "foreign-layer.yaml")
	for name := range names {
		g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: name}})).Should(Succeed(), name)
	}
	untouched()
}
