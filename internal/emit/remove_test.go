// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"context"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

// The appliers' roles list what they may do; a wildcard would be more than anybody meant.
func TestRolesHaveNoWildcard(t *testing.T) {
	g := NewWithT(t)
	roles := &rbacv1.ClusterRoleList{}
	g.Expect(admin.List(ctx, roles)).To(Succeed())
	seen := 0
	for _, role := range roles.Items {
		if !strings.HasPrefix(role.Name, "korthweb-") {
			continue
		}
		seen++
		for _, rule := range role.Rules {
			for _, list := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
				g.Expect(list).NotTo(ContainElement(ContainSubstring("*")), role.Name)
			}
		}
	}
	g.Expect(seen).To(BeNumerically(">=", 3))
}

func TestRemove(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.RetainData, v1alpha1.DeleteData} {
		t.Run(string(policy), func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, "remove-"+strings.ToLower(string(policy)))
			tenant.Spec.DeletionPolicy = policy
			tenant.Spec.Suspend = true
			_, err := f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
				k := kustomization(f.WithT, tenant, layer)
				f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":["finalizers.fluxcd.io"]}}`)))).To(Succeed())
			}
			// Somebody takes away what Flux prunes by.
			for _, o := range []client.Object{
				&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: emit.ApplierName(tenant)}},
				&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: emit.KustomizeApplierBinding}},
			} {
				f.Expect(admin.Delete(ctx, o)).To(Succeed())
				f.Eventually(func() bool { return apierrors.IsNotFound(f.cached.Get(ctx, client.ObjectKeyFromObject(o), o)) }).Should(BeTrue())
			}

			for _, layer := range []string{v1alpha1.ApplicationLayer, v1alpha1.DependencyLayer} {
				for range 2 { // again while waiting
					done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
					f.Expect(err).NotTo(HaveOccurred())
					f.Expect(done).To(BeFalse())
					f.Expect(waitingFor).To(Equal("Kustomization/flux-system/" + tenant.LayerName(layer) + " to be gone"))
				}
				k := kustomization(f.WithT, tenant, layer)
				f.Expect(k.DeletionTimestamp).NotTo(BeNil())
				f.Expect(k.Spec.Suspend).To(BeFalse(), "a suspended Kustomization is deleted without pruning")
				f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(tenant), &sourcev1.ExternalArtifact{})).To(Succeed())
				account := &corev1.ServiceAccount{}
				f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: platform, Name: emit.ApplierName(tenant)}, account)).To(Succeed())
				binding := &rbacv1.RoleBinding{}
				f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: tenant.Spec.Namespace, Name: emit.KustomizeApplierBinding}, binding)).To(Succeed())
				f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
			}

			done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			ns := &corev1.Namespace{}
			f.Expect(admin.Get(ctx, types.NamespacedName{Name: tenant.Spec.Namespace}, ns)).To(Succeed())
			if policy == v1alpha1.DeleteData {
				f.Expect(done).To(BeFalse())
				f.Expect(waitingFor).To(Equal("Namespace/" + tenant.Spec.Namespace + " to be gone"))
				f.Expect(ns.DeletionTimestamp).NotTo(BeNil())
				ns.Spec.Finalizers = nil // what the controller manager does once it is empty
				f.Expect(admin.SubResource("finalize").Update(ctx, ns)).To(Succeed())
				done, _, err = f.Remove(ctx, tenant, published("r1"))
				f.Expect(err).NotTo(HaveOccurred())
			} else {
				f.Expect(ns.DeletionTimestamp).To(BeNil())
				secret := &corev1.Secret{}
				f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: ns.Name, Name: v1alpha1.DefaultUsersSecret}, secret)).To(Succeed())
				bindings := &rbacv1.RoleBindingList{}
				f.Expect(admin.List(ctx, bindings, client.InNamespace(ns.Name))).To(Succeed())
				f.Expect(bindings.Items).To(BeEmpty())
			}
			f.Expect(done).To(BeTrue())
			account := &corev1.ServiceAccount{}
			f.Expect(apierrors.IsNotFound(admin.Get(ctx, types.NamespacedName{Namespace: platform, Name: emit.ApplierName(tenant)}, account))).To(BeTrue())

			f.reset()
			done, _, err = f.Remove(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(done).To(BeTrue())
			f.Expect(f.writes).To(BeEmpty())
		})
	}
}

// A tenant that was removed under Retain and comes back, which somebody has to approve, finds its namespace and
// credentials.
func TestComeBack(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "comes-back")
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	key := types.NamespacedName{Namespace: tenant.Spec.Namespace, Name: v1alpha1.DefaultUsersSecret}
	before, after := &corev1.Secret{}, &corev1.Secret{}
	f.Expect(admin.Get(ctx, key, before)).To(Succeed())
	f.Expect(before.Data["password"]).To(HaveLen(32))

	f.Eventually(func() (bool, error) {
		done, _, err := f.Remove(ctx, tenant, published("r1"))
		return done, err
	}).Should(BeTrue())
	ns := &corev1.Namespace{}
	f.Expect(admin.Get(ctx, types.NamespacedName{Name: tenant.Spec.Namespace}, ns)).To(Succeed())
	tenant.Annotations = map[string]string{v1alpha1.ApproveAdoptionAnnotation: ns.Name + "/" + string(ns.UID)[:8]}
	f.Eventually(func() error {
		_, err := f.Apply(ctx, tenant, published("r2"))
		return err
	}, 10*time.Second, 20*time.Millisecond).Should(Succeed())
	f.Expect(admin.Get(ctx, key, after)).To(Succeed())
	f.Expect(after.Data).To(Equal(before.Data))
}

// kustomize-controller lets go of a layer after its timeout, even if the gateway is still being uninstalled.
func TestRemoveWaitsForTheGateway(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.RetainData, v1alpha1.DeleteData} {
		t.Run(string(policy), func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, "gateway-"+strings.ToLower(string(policy)))
			tenant.Spec.DeletionPolicy = policy
			_, err := f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			release := newRelease(tenant)
			release.Finalizers = []string{"finalizers.fluxcd.io"}
			f.Expect(admin.Create(ctx, release)).To(Succeed())
			f.Expect(admin.Delete(ctx, release)).To(Succeed())
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: emit.HelmApplierName}}
			f.Expect(admin.Delete(ctx, account)).To(Succeed())
			f.Eventually(func() bool {
				return apierrors.IsNotFound(f.cached.Get(ctx, client.ObjectKeyFromObject(account), &corev1.ServiceAccount{}))
			}).Should(BeTrue())

			for range 2 {
				done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
				f.Expect(err).NotTo(HaveOccurred())
				f.Expect(done).To(BeFalse())
				f.Expect(waitingFor).To(Equal("HelmRelease/" + tenant.Spec.Namespace + "/istio-ingress to be gone"))
			}
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(account), account)).To(Succeed(), "it is put back")
			binding := &rbacv1.RoleBinding{}
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(account), binding)).To(Succeed())
			ns := &corev1.Namespace{}
			f.Expect(admin.Get(ctx, types.NamespacedName{Name: tenant.Spec.Namespace}, ns)).To(Succeed())
			f.Expect(ns.DeletionTimestamp).To(BeNil())

			f.Expect(admin.Patch(ctx, release, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
			done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(done).To(Equal(policy == v1alpha1.RetainData))
			if policy == v1alpha1.DeleteData {
				f.Expect(waitingFor).To(Equal("Namespace/" + tenant.Spec.Namespace + " to be gone"))
			}
		})
	}
}

// A gateway in a namespace that this tenant never got is not waited for.
func TestRemoveLeavesOthersGateway(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "gateway-of-others")
	theirs := emit.Namespace(tenant)
	theirs.Labels[v1alpha1.TenantNamespaceLabel] = "another-platform"
	f.Expect(admin.Create(ctx, theirs)).To(Succeed())
	f.Expect(admin.Create(ctx, newRelease(tenant))).To(Succeed())

	done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(waitingFor).To(BeEmpty())
	f.Expect(done).To(BeTrue())
}

// Where the cluster does not know HelmReleases there is none.
func TestRemoveWithoutHelmController(t *testing.T) {
	g := NewWithT(t)
	tenant := newTenant("bhs")
	c := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(emit.Namespace(tenant)).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if kind := o.GetObjectKind().GroupVersionKind(); kind.Kind == helmv2.HelmReleaseKind {
				return &apimeta.NoKindMatchError{GroupKind: kind.GroupKind()}
			}
			return next.Get(ctx, key, o, opts...)
		},
	})
	done, waitingFor, err := emit.NewApplier(c, c, self).Remove(ctx, tenant, nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(waitingFor).To(BeEmpty())
	g.Expect(done).To(BeTrue())
}

func newRelease(tenant *v1alpha1.Tenant) *helmv2.HelmRelease {
	return &helmv2.HelmRelease{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: "istio-ingress"},
		Spec: helmv2.HelmReleaseSpec{
			Interval: metav1.Duration{Duration: time.Hour},
			ChartRef: &helmv2.CrossNamespaceSourceReference{Kind: sourcev1.OCIRepositoryKind, Name: "istio-ingress"},
		},
	}
}
