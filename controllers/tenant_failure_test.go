// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/emit"
)

// What is broken in a tenant does not keep it from being suspended, and a condition says so until it is mended.
func TestSuspendThoughBroken(t *testing.T) {
	h := newHarness(t)
	tenant := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "broken"},
		Spec:       v1alpha1.TenantSpec{Domain: "broken.orthweb.com"},
	}
	tenant.Spec.Postgres.Provider = v1alpha1.BitnamiPostgres
	h.Expect(admin.Create(ctx, tenant)).To(Succeed())
	h.becomeReady("broken")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "broken-orthweb", Name: emit.PostgresCredentialsName}}
	h.Expect(admin.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
	h.Expect(admin.Delete(ctx, secret)).To(Succeed())
	tenant = h.get("broken")
	tenant.Spec.Suspend = true
	h.update(tenant)
	h.eventually(func(g Gomega) {
		for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
			k := &kustomizev1.Kustomization{}
			g.Expect(admin.Get(ctx, h.key(tenant.LayerName(layer)), k)).To(Succeed())
			g.Expect(k.Spec.Suspend).To(BeTrue(), layer)
		}
		ready := conditions.Get(h.get("broken"), meta.ReadyCondition)
		g.Expect(ready.Reason).To(Equal(v1alpha1.InvalidSecretReason))
		g.Expect(ready.Message).To(ContainSubstring("cannot put back what is gone of a suspended tenant: spec.postgres: Secret broken-orthweb/postgres-credentials"))
	})

	secret.ResourceVersion, secret.UID = "", ""
	h.Expect(admin.Create(ctx, secret)).To(Succeed())
	h.eventually(func(g Gomega) {
		ready := conditions.Get(h.get("broken"), meta.ReadyCondition)
		g.Expect(ready.Status).To(Equal(metav1.ConditionUnknown))
		g.Expect(ready.Reason).To(Equal(meta.SuspendedReason))
	})
}

// Flux goes on fetching what it was told of last, though the Tenant is new and its definition cannot be applied.
func TestAnnouncedIsServedWhenEmittingFails(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("announced", "central")
	h.stop()
	h.storage = t.TempDir()
	h.Expect(admin.Delete(ctx, tenant)).To(Succeed())
	again := copyOf(tenant)
	again.Spec.Orthanc.UsersSecretRef = &meta.LocalObjectReference{Name: "missing"}
	h.Expect(admin.Create(ctx, again)).To(Succeed())
	h.start()
	h.eventually(func(g Gomega) {
		g.Expect(conditions.GetReason(h.get("announced"), meta.ReadyCondition)).To(Equal(v1alpha1.InvalidSecretReason))
		h.archived(g, "announced")
	})
}

// direct returns a reconciler without a manager, whose reads and lists may fail.
func (h *harness) direct(broken interceptor.Funcs) *TenantReconciler {
	live, err := client.NewWithWatch(server.Admin, client.Options{Scheme: scheme})
	h.Expect(err).NotTo(HaveOccurred())
	c := interceptor.NewClient(live, broken)
	history := artifact.NewHistory(c, c)
	return &TenantReconciler{
		Client: c, Uncached: c, EventRecorder: record.NewFakeRecorder(1000), History: history, Publisher: h.publisher(), swept: true,
		Applier: emit.NewApplier(c, c, h.self()), DependencyRequeueInterval: time.Second,
	}
}

// Every error is a condition, whichever step it comes from.
func TestErrorIsCondition(t *testing.T) {
	unwell := errors.New("etcd is not well")
	for name, broken := range map[string]interceptor.Funcs{
		"the Tenants that claim the same": {List: func(ctx context.Context, next client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*v1alpha1.TenantList); ok {
				return unwell
			}
			return next.List(ctx, list, opts...)
		}},
		"the definition of the kind": {Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if key.Name == tenantDefinition {
				return unwell
			}
			return next.Get(ctx, key, o, opts...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.stop()
			tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "unwell"}, Spec: v1alpha1.TenantSpec{Domain: "unwell.orthweb.com"}}
			h.Expect(admin.Create(ctx, tenant)).To(Succeed())
			_, err := h.direct(broken).Reconcile(ctx, ctrl.Request{NamespacedName: h.key("unwell")})
			h.Expect(err).To(MatchError(unwell))
			ready := conditions.Get(h.get("unwell"), meta.ReadyCondition)
			h.Expect(ready).NotTo(BeNil())
			h.Expect(ready.Status).To(Equal(metav1.ConditionFalse))
			h.Expect(ready.Reason).To(Equal(meta.FailedReason))
			h.Expect(ready.Message).To(ContainSubstring("etcd is not well"))
		})
	}
}

// While Flux is not installed a removal waits and says so: what it would have pruned runs on.
func TestRemovalWaitsForFlux(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("removed-without-flux", "central")
	h.stop()
	h.mark(tenant)
	r := h.direct(interceptor.Funcs{Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		if _, ok := o.(*kustomizev1.Kustomization); ok {
			return &apimeta.NoKindMatchError{GroupKind: kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind).GroupKind()}
		}
		return next.Get(ctx, key, o, opts...)
	}})
	h.Expect(r.History.Load(ctx)).To(Succeed())
	result, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: h.key(tenant.Name)})
	h.Expect(err).NotTo(HaveOccurred())
	h.Expect(result.RequeueAfter).To(Equal(time.Second))
	now := h.get(tenant.Name)
	h.Expect(now.Finalizers).To(ContainElement(v1alpha1.Finalizer))
	h.Expect(conditions.GetReason(now, meta.ReadyCondition)).To(Equal(v1alpha1.FluxNotInstalledReason))
	h.Expect(h.states(h, tenant.Name)).To(HaveLen(1))
	h.Expect(admin.Get(ctx, h.key(tenant.Name), &sourcev1.ExternalArtifact{})).To(Succeed())

	// It is installed again.
	h.start()
	h.goesOffline(tenant)
}

// mark asks for the removal of a Tenant as a TenantRepository does.
func (h *harness) mark(tenant *v1alpha1.Tenant) {
	h.t.Helper()
	tenant = h.get(tenant.Name)
	patch := client.MergeFrom(tenant.DeepCopy())
	metav1.SetMetaDataAnnotation(&tenant.ObjectMeta, v1alpha1.RemoveAnnotation, "main@sha1:2222")
	controllerutil.AddFinalizer(tenant, v1alpha1.Finalizer)
	h.Expect(admin.Patch(ctx, tenant, patch)).To(Succeed())
	h.Expect(admin.Delete(ctx, tenant)).To(Succeed())
}

// A layer that was put back applies what was published before it is removed, and that is there for it on an empty disk too,
// whoever removes the tenant.
func TestRemovalServesWhatWasPublished(t *testing.T) {
	for name, remove := range map[string]func(h *harness, tenant *v1alpha1.Tenant){
		"central": func(h *harness, tenant *v1alpha1.Tenant) { h.mark(tenant) },
		"":        func(h *harness, tenant *v1alpha1.Tenant) { h.Expect(admin.Delete(ctx, tenant)).To(Succeed()) },
	} {
		t.Run("repository "+name, func(t *testing.T) {
			h := newHarness(t)
			tenant := h.create("served"+name, name)
			ea := &sourcev1.ExternalArtifact{}
			h.Expect(admin.Get(ctx, h.key(tenant.Name), ea)).To(Succeed())
			h.stop()
			labels := map[string]string{"kustomize.toolkit.fluxcd.io/name": tenant.LayerName(v1alpha1.ApplicationLayer)}
			orthanc := &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Name + "-orthweb", Name: "orthanc", Labels: labels},
				Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "orthanc", Image: "orthanc"}}},
				}},
			}
			h.Expect(admin.Create(ctx, orthanc)).To(Succeed())
			h.storage = t.TempDir()
			remove(h, tenant)
			h.start()
			k := &kustomizev1.Kustomization{}
			h.eventually(func(g Gomega) {
				g.Expect(admin.Get(ctx, h.key(tenant.LayerName(v1alpha1.ApplicationLayer)), k)).To(Succeed())
				g.Expect(k.Spec.DependsOn).To(BeEmpty())
				_, err := os.Stat(filepath.Join(h.storage, ea.Status.Artifact.Path))
				g.Expect(err).NotTo(HaveOccurred())
			})
			h.Expect(k.DeletionTimestamp).To(BeNil())
			if name != "" {
				h.eventually(func(g Gomega) {
					g.Expect(conditions.GetMessage(h.get(tenant.Name), meta.ReadyCondition)).To(HavePrefix("removing: waiting for Kustomization/" +
						h.namespace + "/" + k.Name + " to apply what was published, so that it can be pruned (data stays); "))
				})
			}

			k.Status.Inventory = &kustomizev1.ResourceInventory{Entries: []kustomizev1.ResourceRef{{ID: "x_orthanc_apps_Deployment", Version: "v1"}}}
			h.Expect(admin.Status().Update(ctx, k)).To(Succeed())
			h.Expect(admin.Delete(ctx, orthanc)).To(Succeed())
			h.goesOffline(tenant)
			h.eventually(func(g Gomega) {
				_, err := os.Stat(filepath.Join(h.storage, ea.Status.Artifact.Path))
				g.Expect(os.IsNotExist(err)).To(BeTrue())
			})
		})
	}
}
