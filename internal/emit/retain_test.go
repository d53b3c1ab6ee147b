// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
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

// A layer that somebody deletes orphans what it applied, until the removal of the tenant has begun: then both layers prune,
// the one whose turn it is not yet too.
func TestRemoveLetsPruneFirst(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "prunes-first")
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	layers := []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer}
	for _, layer := range layers {
		k := kustomization(f.WithT, tenant, layer)
		f.Expect(k.Spec.DeletionPolicy).To(Equal(kustomizev1.DeletionPolicyOrphan))
		f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":["finalizers.fluxcd.io"]},"spec":{"suspend":true}}`)))).To(Succeed())
	}
	f.settle(tenant)

	_, _, err = f.Remove(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	const path = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/prunes-first-"
	f.Expect(f.writes).To(Equal([]string{"PATCH " + path + "application", "PATCH " + path + "dependency", "DELETE " + path + "application"}))
	for _, layer := range layers {
		k := kustomization(f.WithT, tenant, layer)
		f.Expect(k.Spec.DeletionPolicy).To(Equal(kustomizev1.DeletionPolicyWaitForTermination))
		f.Expect(k.Spec.Suspend).To(BeFalse())
	}

	f.reset()
	_, _, err = f.Remove(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.writes).To(BeEmpty(), "while it waits")
}

// Where the namespace is gone, a layer's word that all is applied in it is not believed: both layers are made anew with it.
func TestApplyForgetsLayersOfLostNamespace(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "lost")
	// A layer that was left by a namespace that is gone: envtest has nobody who would let a namespace go.
	left := emit.Kustomization(tenant, v1alpha1.ApplicationLayer)
	left.SetFinalizers([]string{"finalizers.fluxcd.io"})
	f.Expect(admin.Create(ctx, left)).To(Succeed())
	f.Eventually(func() error { return f.cached.Get(ctx, client.ObjectKeyFromObject(left), &kustomizev1.Kustomization{}) }).Should(Succeed())

	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).To(MatchError("Kustomization/flux-system/lost-application is being deleted; it is created again once it is gone"))
	ns := &corev1.Namespace{}
	f.Expect(apierrors.IsNotFound(admin.Get(ctx, types.NamespacedName{Name: tenant.Spec.Namespace}, ns))).To(BeTrue(), "the namespace comes after")

	f.Expect(admin.Patch(ctx, left, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
	f.Eventually(func() error {
		_, err := f.Apply(ctx, tenant, published("r1"))
		return err
	}).Should(Succeed())
	f.Expect(kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer).UID).NotTo(Equal(left.GetUID()))
}

// A namespace that a removal kept is not taken into use again until that is approved for this very namespace.
func TestRetained(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "retained")
	tenant.Annotations = map[string]string{v1alpha1.RemoveAnnotation: "main@sha1:1111"}
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(done).To(BeTrue(), waitingFor)
	ns := &corev1.Namespace{}
	key := types.NamespacedName{Name: tenant.Spec.Namespace}
	f.Expect(admin.Get(ctx, key, ns)).To(Succeed())
	f.Expect(ns.Annotations).To(HaveKeyWithValue(v1alpha1.RetainedAnnotation, "main@sha1:1111"))

	again := newTenant("retained")
	approval := ns.Name + "/" + string(ns.UID)[:8]
	for name, value := range map[string]string{
		"not approved": "", "another namespace approved": "other-orthweb/" + string(ns.UID)[:8], "an earlier namespace approved": ns.Name + "/00000000",
	} {
		again.Annotations = map[string]string{v1alpha1.ApproveAdoptionAnnotation: value}
		f.reset()
		_, err = f.Apply(ctx, again, published("r2"))
		f.Expect(err).To(MatchError(HaveSuffix("kubectl -n flux-system annotate --overwrite tenants.korthweb.digihunch.com retained "+
			v1alpha1.ApproveAdoptionAnnotation+"="+approval)), name)
		f.Expect(emit.Reason(err)).To(Equal(v1alpha1.RetainedReason))
		f.Expect(f.writes).To(BeEmpty(), name)
	}

	again.Annotations[v1alpha1.ApproveAdoptionAnnotation] = approval
	_, err = f.Apply(ctx, again, published("r2"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(admin.Get(ctx, key, ns)).To(Succeed())
	f.Expect(ns.Annotations).NotTo(HaveKey(v1alpha1.RetainedAnnotation))
	f.settle(tenant)
	delete(again.Annotations, v1alpha1.ApproveAdoptionAnnotation)
	_, err = f.Apply(ctx, again, published("r2"))
	f.Expect(err).NotTo(HaveOccurred(), "the approval is needed once")
}

// What is gone is put back as suspended, and what is there is left as it is.
func TestRestore(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "restored")
	result, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	tenant.Status.Inventory = result.Inventory
	tenant.Spec.Suspend = true
	f.Expect(f.Suspend(ctx, tenant)).To(Succeed())
	binding := &metav1.PartialObjectMetadata{}
	binding.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind("RoleBinding"))
	binding.Namespace, binding.Name = tenant.Spec.Namespace, emit.HelmApplierName
	f.Expect(admin.Patch(ctx, binding, client.RawPatch(types.MergePatchType, []byte(`{"subjects":[]}`)))).To(Succeed())
	k := kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer)
	f.Expect(admin.Delete(ctx, k)).To(Succeed())
	f.Eventually(func() bool { return apierrors.IsNotFound(f.cached.Get(ctx, client.ObjectKeyFromObject(k), k)) }, 10*time.Second, 10*time.Millisecond).Should(BeTrue())
	f.reset()

	result, err = f.Restore(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(result.Changed).To(Equal([]string{"Kustomization/flux-system/restored-application"}))
	f.Expect(kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer).Spec.Suspend).To(BeTrue())
	f.Expect(f.writes).To(HaveLen(1))
}

// A facility's labels and annotations do not reach its Namespace: they decide what may run and be reached there. The hosts
// and the address that admission compares with are Korthweb's own word.
func TestNamespaceIsThePlatforms(t *testing.T) {
	g := NewWithT(t)
	tenant := newTenant("bhs")
	tenant.Spec.CommonMetadata = &kustomizev1.CommonMetadata{
		Labels:      map[string]string{"istio-injection": "disabled", "team": "imaging"},
		Annotations: map[string]string{"scheduler.alpha.kubernetes.io/node-selector": "role=control-plane"},
	}
	tenant.Spec.Ingress.DICOM.Host = "dicom.bhs.orthweb.com"
	tenant.Spec.Ingress.Service.LoadBalancerIP = "192.0.2.7"
	tenant.Spec.Ingress.Service.LoadBalancerClass = "example.org/lb"
	tenant.Spec.Ingress.Service.Annotations = map[string]string{"example.org/scheme": "internal", "example.org/class": "x"}
	tenant.Spec.Postgres.Backup = &v1alpha1.BackupSpec{DestinationPath: "s3://backups/bhs"}
	ns := emit.Namespace(tenant)
	g.Expect(ns.Annotations).To(Equal(map[string]string{
		v1alpha1.HostsAnnotation:              "bhs.orthweb.com,dicom.bhs.orthweb.com",
		v1alpha1.LoadBalancerIPAnnotation:     "192.0.2.7",
		v1alpha1.LoadBalancerClassAnnotation:  "example.org/lb",
		v1alpha1.ServiceAnnotationsAnnotation: "example.org/class,example.org/scheme",
		v1alpha1.CommonAnnotationsAnnotation:  "scheduler.alpha.kubernetes.io/node-selector",
		v1alpha1.BackupPathAnnotation:         "s3://backups/bhs",
	}))
	g.Expect(ns.Labels).NotTo(HaveKey("team"))
	g.Expect(ns.Labels).To(HaveKeyWithValue("istio-injection", "enabled"))
}
