// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"strings"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

func TestApplyThenNothing(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "steady")
	f.reset()

	result, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(result.Writes).To(Equal(10), "nine objects and one status")
	f.Expect(f.writes).To(HaveLen(result.Writes))
	f.Expect(f.reads).To(BeEmpty(), "what is new is created without a look")
	f.Expect(result.Changed).To(Equal([]string{
		"Namespace/steady-orthweb", "ServiceAccount/flux-system/steady-applier", "ServiceAccount/steady-orthweb/helm-applier",
		"RoleBinding/steady-orthweb/kustomize-applier", "RoleBinding/steady-orthweb/helm-applier",
		"Secret/steady-orthweb/orthanc-users", "ExternalArtifact/flux-system/steady",
		"Kustomization/flux-system/steady-dependency", "Kustomization/flux-system/steady-application"}))
	f.Expect(result.Inventory.Entries).To(HaveLen(9))
	f.Expect(result.Inventory.Entries).To(ContainElements(
		kustomizev1.ResourceRef{ID: "_steady-orthweb__Namespace", Version: "v1"},
		kustomizev1.ResourceRef{ID: "flux-system_steady-application_kustomize.toolkit.fluxcd.io_Kustomization", Version: "v1"}))

	ea := &sourcev1.ExternalArtifact{}
	f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(tenant), ea)).To(Succeed())
	f.Expect(ea.Status.Artifact.Revision).To(Equal("r1"))
	f.Expect(apimeta.IsStatusConditionTrue(ea.Status.Conditions, meta.ReadyCondition)).To(BeTrue())

	again := result.Inventory
	tenant.Status.Inventory = result.Inventory
	f.settle(tenant)
	result, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(result.Changed).To(BeEmpty())
	f.Expect(f.writes).To(BeEmpty())
	f.Expect(f.reads).To(Equal([]string{"/api/v1/namespaces/steady-orthweb/secrets/orthanc-users"}))
	f.Expect(result.Inventory).To(Equal(again), "the inventory does not depend on what changed")

	f.reset()
	result, err = f.Apply(ctx, tenant, published("r2"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.writes).To(Equal([]string{"PATCH /apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/externalartifacts/steady/status"}))
	f.Expect(result.Changed).To(Equal([]string{"ExternalArtifact/flux-system/steady"}))

	f.settle(tenant)
	_, err = f.Apply(ctx, tenant, published("r2"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.writes).To(BeEmpty())
}

// A cache that has not seen what was just written must not make a second write out of it.
func TestApplyAgainAtOnce(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "hasty")
	for range 3 {
		_, err := f.Apply(ctx, tenant, published("r1"))
		f.Expect(err).NotTo(HaveOccurred())
	}
	k := kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer)
	f.Expect(k.Generation).To(Equal(int64(1)))
}

func TestApplyRestores(t *testing.T) {
	for name, damage := range map[string]func(*fixture, *v1alpha1.Tenant){
		"field edited": func(f *fixture, tenant *v1alpha1.Tenant) {
			k := kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer)
			k.Spec.Prune = false
			f.Expect(admin.Update(ctx, k)).To(Succeed())
		},
		"label of the namespace edited": func(f *fixture, tenant *v1alpha1.Tenant) {
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.Spec.Namespace}}
			f.Expect(admin.Patch(ctx, ns, client.RawPatch(types.MergePatchType,
				[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`)))).To(Succeed())
		},
		"fields added to a layer": func(f *fixture, tenant *v1alpha1.Tenant) {
			k := kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer)
			f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType,
				[]byte(`{"spec":{"targetNamespace":"default","namePrefix":"x-"}}`)))).To(Succeed())
		},
		"subject added to a binding": func(f *fixture, tenant *v1alpha1.Tenant) {
			rb := &rbacv1.RoleBinding{}
			f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: tenant.Spec.Namespace, Name: emit.KustomizeApplierBinding}, rb)).To(Succeed())
			rb.Subjects = append(rb.Subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "intruder"})
			f.Expect(admin.Update(ctx, rb)).To(Succeed())
		},
		"account deleted": func(f *fixture, tenant *v1alpha1.Tenant) {
			f.Expect(admin.Delete(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: emit.ApplierName(tenant)}})).To(Succeed())
		},
		"secret deleted": func(f *fixture, tenant *v1alpha1.Tenant) {
			f.Expect(admin.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: v1alpha1.DefaultUsersSecret}})).To(Succeed())
		},
		"artifact blanked": func(f *fixture, tenant *v1alpha1.Tenant) {
			ea := &sourcev1.ExternalArtifact{}
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(tenant), ea)).To(Succeed())
			ea.Status = sourcev1.ExternalArtifactStatus{}
			f.Expect(admin.Status().Update(ctx, ea)).To(Succeed())
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, "restore-"+strings.ReplaceAll(name, " ", "-"))
			result, err := f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			tenant.Status.Inventory = result.Inventory
			damage(f, tenant)

			f.Eventually(func(g Gomega) {
				result, err := f.Apply(ctx, tenant, published("r1"))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(result.Changed).To(HaveLen(1))
			}, 10*time.Second, 20*time.Millisecond).Should(Succeed())

			f.settle(tenant)
			result, err = f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(result.Changed).To(BeEmpty())
			f.Expect(kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer).Spec.Prune).To(BeTrue())
		})
	}
}

// What is no longer wanted goes, although it came with the creation of the object. What others note on an
// object stays, and what they add to its spec does not.
func TestApplyTakesBack(t *testing.T) {
	f := newFixture(t)
	tenant := newTenant("takes-back")
	tenant.Spec.Suspend = true
	tenant.Spec.DependsOn = []v1alpha1.DependencyReference{{Name: "infrastructure"}}
	f.Expect(admin.Create(ctx, tenant)).To(Succeed())
	result, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	tenant.Status.Inventory = result.Inventory
	k := kustomization(f.WithT, tenant, v1alpha1.DependencyLayer)
	f.Expect(k.Spec.Suspend).To(BeTrue())
	f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"note":"kept"}},"spec":{"force":true}}`)))).To(Succeed())
	f.settle(tenant)

	tenant.Spec.Suspend, tenant.Spec.DependsOn = false, nil
	_, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	k = kustomization(f.WithT, tenant, v1alpha1.DependencyLayer)
	f.Expect(k.Spec.Suspend).To(BeFalse())
	f.Expect(k.Spec.DependsOn).To(BeEmpty())
	f.Expect(k.Spec.Force).To(BeFalse())
	f.Expect(k.Annotations).To(HaveKeyWithValue("note", "kept"))

	// A layer that a person suspends stays suspended.
	f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":true}}`)))).To(Succeed())
	f.settle(tenant)
	_, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.writes).To(BeEmpty())
}

func TestApplyTakesNothingOver(t *testing.T) {
	other := map[string]string{v1alpha1.ManagedByLabel: v1alpha1.FieldManager, v1alpha1.TenantLabel: "other", v1alpha1.TenantNamespaceLabel: platform}
	for name, tc := range map[string]struct {
		tenant string
		object func(*v1alpha1.Tenant) client.Object
		labels map[string]string
		want   string
	}{
		"namespace of another tool": {tenant: "foreign-0",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.Namespace(t) },
			want:   "Namespace/foreign-0-orthweb exists and was not created by Korthweb"},
		"namespace of another tenant": {tenant: "foreign-1",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.Namespace(t) }, labels: other,
			want: "Namespace/foreign-1-orthweb exists, belongs to tenant flux-system/other and may hold its images; leave it"},
		"somebody's Kustomization": {tenant: "foreign-2",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.Kustomization(t, v1alpha1.DependencyLayer) },
			want:   "Kustomization/flux-system/foreign-2-dependency exists and was not created by Korthweb"},
		"somebody's source": {tenant: "foreign-3",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.ExternalArtifact(t) },
			want:   "ExternalArtifact/flux-system/foreign-3 exists and was not created by Korthweb"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, tc.tenant)
			theirs := tc.object(tenant)
			theirs.SetLabels(tc.labels)
			f.Expect(admin.Create(ctx, theirs)).To(Succeed())
			before := theirs.DeepCopyObject().(client.Object)

			for range 2 { // before and after the cache could have learned of it
				_, err := f.Apply(ctx, tenant, published("r1"))
				f.Expect(err).To(MatchError(ContainSubstring(tc.want)))
				f.Expect(emit.Reason(err)).To(Equal(v1alpha1.NotOwnedReason))
			}
			after := theirs.DeepCopyObject().(client.Object)
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(theirs), after)).To(Succeed())
			f.Expect(after.GetResourceVersion()).To(Equal(before.GetResourceVersion()))

			_, _, err := f.Remove(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(theirs), after)).To(Succeed(), "removal leaves it too")
			f.Expect(after.GetDeletionTimestamp()).To(BeNil())
		})
	}
}

func TestApplySecretOfSomebody(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "their-secret")
	f.Expect(admin.Create(ctx, emit.Namespace(tenant))).To(Succeed())
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: v1alpha1.DefaultUsersSecret}, StringData: map[string]string{"a": "b"}}
	f.Expect(admin.Create(ctx, theirs)).To(Succeed())
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).To(MatchError(ContainSubstring("Secret/their-secret-orthweb/orthanc-users exists and was not created by Korthweb")))
}

func TestApplyWhileNamespaceTerminates(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "terminating")
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.settle(tenant)
	// Nothing finishes the deletion of a namespace without a controller manager.
	f.Expect(admin.Delete(ctx, emit.Namespace(tenant))).To(Succeed())
	f.Eventually(func() error {
		_, err := f.Apply(ctx, tenant, published("r1"))
		return err
	}, 10*time.Second, 20*time.Millisecond).Should(MatchError("Namespace/terminating-orthweb is being deleted; it is created again once it is gone"))
}
