// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"errors"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

// TestSecretsThatTheDefinitionNames holds that no layer gets a bundle before the Secrets that it needs are there and
// whole, that the error says what to do and nothing of the content, and that Korthweb may read Secrets only for so long.
func TestSecretsThatTheDefinitionNames(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "secrets")
	tenant.Spec.Orthanc.UsersSecretRef = &meta.LocalObjectReference{Name: "users"}
	apply := func() error {
		result, err := f.Apply(ctx, tenant, published("r1"))
		tenant.Status.Inventory = result.Inventory
		return err
	}
	kustomizationKey := types.NamespacedName{Namespace: platform, Name: tenant.LayerName(v1alpha1.ApplicationLayer)}
	refused := func(problem string) {
		t.Helper()
		err := apply()
		var e *emit.SecretError
		f.Expect(errors.As(err, &e)).To(BeTrue(), "%v", err)
		f.Expect(err.Error()).To(HavePrefix("spec.orthanc.usersSecretRef: Secret secrets-orthweb/users "))
		f.Expect(err.Error()).To(ContainSubstring(problem))
		f.Expect(err.Error()).NotTo(ContainSubstring("hunter2"))
		f.Expect(emit.Reason(err)).To(Equal(v1alpha1.InvalidSecretReason))
		f.Expect(apierrors.IsNotFound(admin.Get(ctx, kustomizationKey, &kustomizev1.Kustomization{}))).To(BeTrue(), "a layer was made")
	}

	refused("does not exist: create it with the key users.json")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "secrets-orthweb", Name: "users"}}
	f.Expect(admin.Create(ctx, secret)).To(Succeed())
	for content, problem := range map[string]string{
		"":        "has no key users.json, or it is empty",
		"hunter2": "and nothing else",
		`{"RegisteredUsers": {"a": "hunter2"}, "AuthenticationEnabled": false}`: "and nothing else",
		`{"RegisteredUsers": {"a": "hunter2"}} {}`:                              "and nothing else",
		`{"registeredusers": {"a": "hunter2"}}`:                                 "and nothing else",
		`{"RegisteredUsers": {"a": "hunter2"}}}`:                                "and nothing else",
		`{"RegisteredUsers": {"a": 2}}`:                                         "and nothing else",
		`{"RegisteredUsers": {}}`:                                               "names no user",
		`{"RegisteredUsers": {"a": "hunter2\u0024{PGPASSWORD}"}}`:               "has ${ in a name or password",
		`{"RegisteredUsers": {"a": ""}}`:                                        "without a name or a password",
		`{"RegisteredUsers": {"a": "hunter2$PGPASSWORD"}}`:                      "has a $",
	} {
		secret.Data = map[string][]byte{"users.json": []byte(content), "other": []byte("hunter2")}
		f.Expect(admin.Update(ctx, secret)).To(Succeed())
		refused(problem)
	}
	secret.Data["users.json"] = []byte(`{"RegisteredUsers": {"a": "hunter2\u0024"}}`)
	f.Expect(admin.Update(ctx, secret)).To(Succeed())
	f.Expect(apply()).To(Succeed())
	f.Expect(admin.Get(ctx, kustomizationKey, &kustomizev1.Kustomization{})).To(Succeed())

	generated := types.NamespacedName{Namespace: "secrets-orthweb", Name: v1alpha1.DefaultUsersSecret}
	f.Expect(apierrors.IsNotFound(admin.Get(ctx, generated, &corev1.Secret{}))).To(BeTrue(), "users are generated that nobody asked for")

	binding, key := &rbacv1.RoleBinding{}, types.NamespacedName{Namespace: "secrets-orthweb", Name: emit.SecretReaderRole}
	f.Expect(admin.Get(ctx, key, binding)).To(Succeed())
	f.Expect(binding.Subjects).To(Equal([]rbacv1.Subject{self}))

	tenant.Status.Inventory = nil // as after an error, when it is not written
	tenant.Spec.Orthanc.UsersSecretRef = nil
	f.Eventually(func(g Gomega) {
		g.Expect(f.cached.Get(ctx, key, &rbacv1.RoleBinding{})).To(Succeed())
	}).Should(Succeed())
	f.Expect(apply()).To(Succeed())
	f.Expect(apierrors.IsNotFound(admin.Get(ctx, key, binding))).To(BeTrue(), "Korthweb may still read Secrets")
	f.Expect(admin.Get(ctx, generated, &corev1.Secret{})).To(Succeed())
}

// TestSuspend holds that suspending touches nothing but the layers, though the definition says something else by now.
func TestSuspend(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "suspended")
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.settle(tenant)

	tenant.Spec.Suspend = true
	tenant.Spec.Ingress.Provider = v1alpha1.TraefikIngress
	tenant.Spec.Orthanc.UsersSecretRef = &meta.LocalObjectReference{Name: "users"}
	for range 2 {
		f.Expect(f.Suspend(ctx, tenant)).To(Succeed())
	}
	f.Expect(f.writes).To(Equal([]string{
		"PATCH /apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/suspended-dependency",
		"PATCH /apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/suspended-application",
	}))
	for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
		f.Expect(kustomization(f.WithT, tenant, layer).Spec.Suspend).To(BeTrue())
	}

	tenant.Spec.Suspend = false
	tenant.Spec.Orthanc.UsersSecretRef = nil
	_, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer).Spec.Suspend).To(BeFalse(), "it is not resumed")
}

// TestPostgresCredentials holds that a database of Bitnami's chart gets passwords, once, and each its own.
func TestPostgresCredentials(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "bitnami")
	tenant.Spec.Postgres.Provider = v1alpha1.BitnamiPostgres
	read := func() map[string][]byte {
		_, err := f.Apply(ctx, tenant, published("r1"))
		f.Expect(err).NotTo(HaveOccurred())
		secret := &corev1.Secret{}
		f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: tenant.Spec.Namespace, Name: emit.PostgresCredentialsName}, secret)).To(Succeed())
		return secret.Data
	}
	first := read()
	f.Expect(first).To(HaveKeyWithValue("username", []byte("orthanc")))
	f.Expect(first).To(HaveLen(6))
	values := map[string]bool{}
	for _, value := range first {
		values[string(value)] = true
	}
	f.Expect(values).To(HaveLen(6))
	f.Expect(read()).To(Equal(first))

	result, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	tenant.Status.Inventory = result.Inventory
	f.Expect(admin.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: emit.PostgresCredentialsName}})).To(Succeed())
	_, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).To(MatchError(ContainSubstring("the database keeps the passwords")))

	// The namespace was deleted, and whoever made it anew failed before the credentials. The database is gone too.
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.Spec.Namespace}}
	f.Expect(admin.Delete(ctx, ns)).To(Succeed())
	f.Expect(admin.SubResource("finalize").Update(ctx, ns)).To(Succeed()) // as the controller manager does
	f.Expect(admin.Create(ctx, emit.Objects(tenant)[0])).To(Succeed())
	f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(ns), ns)).To(Succeed())
	f.Eventually(func(g Gomega) {
		seen := &corev1.Namespace{}
		g.Expect(f.cached.Get(ctx, client.ObjectKeyFromObject(ns), seen)).To(Succeed())
		g.Expect(seen.UID).To(Equal(ns.UID))
	}).Should(Succeed())
	f.Expect(read()).NotTo(Equal(first))
	// From then on it is the same namespace, whose database keeps them.
	ea := &sourcev1.ExternalArtifact{}
	f.Eventually(func(g Gomega) {
		g.Expect(f.cached.Get(ctx, client.ObjectKeyFromObject(tenant), ea)).To(Succeed())
		g.Expect(ea.Annotations).To(ContainElement(string(ns.UID)))
	}).Should(Succeed())
	f.Expect(admin.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: emit.PostgresCredentialsName}})).To(Succeed())
	// Somebody's label on it, which is taken off, makes no new one of it.
	f.Expect(admin.Patch(ctx, ns, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"istio-injection":"disabled"}}}`)))).To(Succeed())
	f.Eventually(func(g Gomega) {
		seen := &corev1.Namespace{}
		g.Expect(f.cached.Get(ctx, client.ObjectKeyFromObject(ns), seen)).To(Succeed())
		g.Expect(seen.Labels).To(HaveKeyWithValue("istio-injection", "disabled"))
	}).Should(Succeed())
	_, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).To(MatchError(ContainSubstring("the database keeps the passwords")))
}
