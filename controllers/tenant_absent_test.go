// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/test/apiserver"
)

// kubectl replace --force deletes a Tenant and makes it anew. Nothing of the facility stops for that.
func TestReplacedTenantStaysOnline(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("replaced", "")
	was := h.emitted(h, tenant)
	for range 2 {
		h.reset()
		h.Expect(admin.Delete(ctx, h.get("replaced"))).To(Succeed())
		h.eventually(func(g Gomega) { g.Expect(h.read("/controllerrevisions")).NotTo(BeEmpty(), "it was seen to be gone") })
		time.Sleep(700 * time.Millisecond)
		h.Expect(admin.Create(ctx, copyOf(tenant))).To(Succeed())
		h.becomeReady("replaced")
	}
	time.Sleep(2500 * time.Millisecond) // longer than the grace
	h.Expect(h.emitted(h, tenant)).To(Equal(was))
	h.Expect(h.written()).NotTo(ContainElement(HavePrefix("DELETE")))

	h.Expect(admin.Delete(ctx, h.get("replaced"))).To(Succeed())
	h.goesOffline(tenant)
}

// Whoever restores Tenants after their kind was deleted may be faster than Korthweb. Their owners are believed again.
func TestTenantsRestoredByHand(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("restored-by-hand", "")
	crd := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: tenantDefinition}}
	crd.SetGroupVersionKind(crdKind)
	h.Expect(admin.Delete(ctx, crd)).To(Succeed())
	h.Eventually(func() bool {
		return apierrors.IsNotFound(admin.Get(ctx, client.ObjectKeyFromObject(crd), crd))
	}, 30*time.Second, 50*time.Millisecond).Should(BeTrue())
	_, err := envtest.InstallCRDs(server.Admin, envtest.CRDInstallOptions{Paths: []string{apiserver.CRDs()}})
	h.Expect(err).NotTo(HaveOccurred())
	h.Eventually(func() error {
		return client.IgnoreAlreadyExists(admin.Create(ctx, copyOf(tenant)))
	}, 10*time.Second, 10*time.Millisecond).Should(Succeed())
	h.Eventually(func(g Gomega) {
		g.Expect(h.states(g, tenant.Name)[0].Annotations).To(HaveKeyWithValue("korthweb.digihunch.com/definition-uid", h.definitionUID(g)))
	}, time.Minute, 50*time.Millisecond).Should(Succeed())
	h.Expect(admin.Delete(ctx, h.get(tenant.Name))).To(Succeed())
	h.goesOffline(tenant)
}

func (h *harness) definitionUID(g Gomega) string {
	crd := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: tenantDefinition}}
	crd.SetGroupVersionKind(crdKind)
	g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(crd), crd)).To(Succeed())
	return string(crd.UID)
}

// copyOf is a Tenant as it is in a backup.
func copyOf(t *v1alpha1.Tenant) *v1alpha1.Tenant {
	return &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name, Labels: t.Labels, Annotations: t.Annotations},
		Spec:       *t.Spec.DeepCopy(),
	}
}

// A Tenant that is older than the definition is in the cache only.
func TestNotesOfAnOlderTenant(t *testing.T) {
	g := NewWithT(t)
	r := &TenantReconciler{}
	now := metav1.Now()
	r.setDefinition(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: "new", CreationTimestamp: now}})
	older, younger := &v1alpha1.Tenant{}, &v1alpha1.Tenant{}
	older.CreationTimestamp, younger.CreationTimestamp = metav1.NewTime(now.Add(-time.Second)), metav1.NewTime(now.Add(time.Second))
	g.Expect(r.notes(older, false).DefinitionUID).To(BeEmpty())
	g.Expect(r.notes(younger, false).DefinitionUID).To(Equal("new"))
}

// Who has a host keeps it while its Tenant is away: one that waits for the host does not get it in that moment.
func TestHostOfAnAbsentTenant(t *testing.T) {
	h := newHarness(t)
	holder := h.create("holder", "central")
	h.stop()
	h.Expect(admin.Delete(ctx, holder)).To(Succeed())
	r := h.direct(interceptor.Funcs{List: func(ctx context.Context, next client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if _, ok := list.(*v1alpha1.TenantList); ok {
			return nil // none claims the same
		}
		return next.List(ctx, list, opts...)
	}})
	h.Expect(r.History.Load(ctx)).To(Succeed())
	waiting := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "waiting", UID: "1", CreationTimestamp: metav1.Now()},
		Spec: v1alpha1.TenantSpec{Domain: "holder.orthweb.com"}}
	waiting.SetDefaults()
	h.Expect(r.conflict(ctx, waiting)).To(ContainSubstring("holder"))
	h.Expect(r.conflict(ctx, waiting)).To(ContainSubstring("spec.domain"))

	h.Expect(r.History.Remove(ctx, h.key("holder"))).To(Succeed())
	h.Expect(r.conflict(ctx, waiting)).To(BeEmpty(), "it is offline")
}
