// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/test/apiserver"
)

// emitted is what must not be made anew for a tenant that was put back, and what it was published as.
type emitted struct {
	namespace, dependency, application types.UID
	artifact                           meta.Artifact
}

func (h *harness) emitted(g Gomega, t *v1alpha1.Tenant) emitted {
	ns, dependency, application := &corev1.Namespace{}, &kustomizev1.Kustomization{}, &kustomizev1.Kustomization{}
	ea := &sourcev1.ExternalArtifact{}
	g.Expect(admin.Get(ctx, types.NamespacedName{Name: t.Name + "-orthweb"}, ns)).To(Succeed())
	g.Expect(admin.Get(ctx, h.key(t.LayerName(v1alpha1.DependencyLayer)), dependency)).To(Succeed())
	g.Expect(admin.Get(ctx, h.key(t.LayerName(v1alpha1.ApplicationLayer)), application)).To(Succeed())
	g.Expect(admin.Get(ctx, h.key(t.Name), ea)).To(Succeed())
	g.Expect(ea.Status.Artifact).NotTo(BeNil())
	return emitted{ns.UID, dependency.UID, application.UID, *ea.Status.Artifact}
}

func (h *harness) states(g Gomega, name string) []appsv1.ControllerRevision {
	list := &appsv1.ControllerRevisionList{}
	g.Expect(admin.List(ctx, list, client.InNamespace(h.namespace), client.MatchingLabels{v1alpha1.TenantLabel: name})).To(Succeed())
	return list.Items
}

// comesBack waits until a Tenant is there again, as it was, and holds that nothing of it was made anew.
func (h *harness) comesBack(t *v1alpha1.Tenant, was emitted) {
	h.t.Helper()
	h.eventually(func(g Gomega) {
		now := &v1alpha1.Tenant{}
		g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(t), now)).To(Succeed())
		g.Expect(now.UID).NotTo(Equal(t.UID))
		g.Expect(now.Spec).To(Equal(t.Spec))
		g.Expect(now.Labels).To(Equal(t.Labels))
		g.Expect(now.Annotations).To(Equal(t.Annotations))
		g.Expect(now.Finalizers).To(BeEmpty())
	})
	h.Eventually(func(g Gomega) {
		g.Expect(status(h.get(t.Name), meta.ReadyCondition)).To(Equal(metav1.ConditionTrue))
	}, time.Minute, 50*time.Millisecond).Should(Succeed(), "the informer finds the kind again")
	h.Expect(h.emitted(h, t)).To(Equal(was))
	h.Expect(h.states(h, t.Name)).To(HaveLen(1))
}

func TestSteadyStateAndChange(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("steady", "central")
	time.Sleep(500 * time.Millisecond) // what the last write woke
	h.reset()

	// Something wakes it.
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "steady-orthweb"}}
	h.Expect(admin.Patch(ctx, ns, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"note":"x"}}}`)))).To(Succeed())
	h.eventually(func(g Gomega) { g.Expect(h.read("/secrets/orthanc-users")).NotTo(BeEmpty()) })
	time.Sleep(500 * time.Millisecond)
	h.Expect(h.written()).To(BeEmpty())
	h.Expect(h.read("controllerrevisions")).To(BeEmpty())
	h.Expect(tenant.Finalizers).To(BeEmpty(), "only a marked Tenant has one")

	// It changes.
	before := h.states(h, "steady")[0].Name
	tenant.Annotations[v1alpha1.RevisionAnnotation] = "main@sha1:2222"
	tenant.Spec.DisplayName = "another"
	h.update(tenant)
	h.eventually(func(g Gomega) { g.Expect(h.get("steady").Status.LastAttemptedRevision).To(HavePrefix("main/2222@")) })
	h.becomeReady("steady")
	time.Sleep(500 * time.Millisecond)
	writes := h.written()
	h.Expect(len(writes)).To(BeNumerically("<=", 7), "with the Tenant itself 8: %v", writes)
	h.Expect(writes).To(ContainElement("DELETE /apis/apps/v1/namespaces/" + h.namespace + "/controllerrevisions/" + before))
	h.Expect(h.states(h, "steady")).To(HaveLen(1))

	// A new pod with an empty disk writes nothing and reads no state.
	h.stop()
	h.storage = t.TempDir()
	h.reset()
	h.start()
	h.eventually(func(g Gomega) { h.archived(g, "steady") })
	time.Sleep(500 * time.Millisecond)
	h.Expect(h.written()).To(BeEmpty())
	h.Expect(h.read("controllerrevisions/")).To(BeEmpty())
}

func TestStateIsKept(t *testing.T) {
	h := newHarness(t)
	h.create("kept", "central")
	state := h.states(h, "kept")[0]
	h.Expect(state.Labels).To(Equal(map[string]string{
		v1alpha1.ManagedByLabel: v1alpha1.FieldManager, v1alpha1.TenantLabel: "kept", v1alpha1.TenantNamespaceLabel: h.namespace,
	}), "a workload controller adopts what carries its labels")
	h.Expect(state.OwnerReferences).To(BeEmpty())
	h.Expect(len(state.Data.Raw)).To(BeNumerically("<", 64<<10))
	h.Expect(string(state.Data.Raw)).NotTo(ContainSubstring("RegisteredUsers"))
	state.Data.Raw = []byte(`{}`)
	h.Expect(admin.Update(ctx, &state)).To(MatchError(ContainSubstring("immutable")))
}

func TestDeletedByHandIsPutBack(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("put-back", "central")
	was := h.emitted(h, tenant)
	h.Expect(admin.Delete(ctx, tenant)).To(Succeed())
	h.comesBack(tenant, was)
	h.Expect(h.recorded("PutBack")).To(ContainSubstring("put back as it was published; nothing was restarted map["))

	// So is one on which somebody put the finalizer without a mark.
	tenant = h.get("put-back")
	patch := client.MergeFrom(tenant.DeepCopy())
	controllerutil.AddFinalizer(tenant, v1alpha1.Finalizer)
	h.Expect(admin.Patch(ctx, tenant, patch)).To(Succeed())
	h.Expect(admin.Delete(ctx, tenant)).To(Succeed())
	h.comesBack(tenant, was)

	// The layers too, and what is between them and Flux.
	for _, o := range []client.Object{
		&kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "put-back-application"}},
		&sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "put-back"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "put-back-applier"}},
	} {
		h.Expect(admin.Delete(ctx, o)).To(Succeed())
		h.eventually(func(g Gomega) { g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(o), o)).To(Succeed()) })
	}
	h.eventually(func(g Gomega) { h.archived(g, "put-back") })
}

func TestDefinitionOfTheKindDeleted(t *testing.T) {
	for name, running := range map[string]bool{"running": true, "stopped": false} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			repository, byHand := h.create("crd-repository-"+name, "central"), h.create("crd-by-hand-"+name, "")
			wasRepository, wasByHand := h.emitted(h, repository), h.emitted(h, byHand)
			if !running {
				h.stop()
			}
			crd := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: tenantDefinition}}
			crd.SetGroupVersionKind(crdKind)
			h.Expect(admin.Delete(ctx, crd)).To(Succeed())
			h.Eventually(func() bool {
				return apierrors.IsNotFound(admin.Get(ctx, client.ObjectKeyFromObject(crd), crd))
			}, 30*time.Second, 50*time.Millisecond).Should(BeTrue())
			time.Sleep(time.Second)
			_, err := envtest.InstallCRDs(server.Admin, envtest.CRDInstallOptions{Paths: []string{apiserver.CRDs()}})
			h.Expect(err).NotTo(HaveOccurred())
			if !running {
				h.start()
			}
			h.comesBack(repository, wasRepository)
			h.comesBack(byHand, wasByHand)

			// From now on the owner is believed again.
			h.Expect(admin.Delete(ctx, h.get(byHand.Name))).To(Succeed())
			h.goesOffline(byHand)
		})
	}
}

// goesOffline waits until nothing but the data of a tenant is left.
func (h *harness) goesOffline(t *v1alpha1.Tenant) {
	h.t.Helper()
	h.Eventually(func(g Gomega) {
		g.Expect(h.states(g, t.Name)).To(BeEmpty())
	}, time.Minute, 50*time.Millisecond).Should(Succeed())
	time.Sleep(500 * time.Millisecond)
	gone := func(o client.Object, key types.NamespacedName) {
		h.t.Helper()
		h.Expect(apierrors.IsNotFound(admin.Get(ctx, key, o))).To(BeTrue(), "%T %s", o, key)
	}
	gone(&kustomizev1.Kustomization{}, h.key(t.LayerName(v1alpha1.ApplicationLayer)))
	gone(&kustomizev1.Kustomization{}, h.key(t.LayerName(v1alpha1.DependencyLayer)))
	gone(&sourcev1.ExternalArtifact{}, h.key(t.Name))
	gone(&corev1.ServiceAccount{}, h.key(t.Name+"-applier"))
	gone(&v1alpha1.Tenant{}, h.key(t.Name))
	ns := &corev1.Namespace{}
	h.Expect(admin.Get(ctx, types.NamespacedName{Name: t.Name + "-orthweb"}, ns)).To(Succeed())
	h.Expect(ns.DeletionTimestamp).To(BeNil())
	h.Expect(ns.Annotations).To(HaveKey(v1alpha1.RetainedAnnotation))
}

// The data of a Tenant made by hand stays, whatever its deletionPolicy says.
func TestOwnerDeletesTenantMadeByHand(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("by-hand", "")
	tenant.Spec.DeletionPolicy = v1alpha1.DeleteData
	h.update(tenant)
	h.eventually(func(g Gomega) {
		states := h.states(g, "by-hand")
		g.Expect(states).To(HaveLen(1))
		g.Expect(string(states[0].Data.Raw)).To(ContainSubstring(`"deletionPolicy":"Delete"`))
	})
	// Flux takes its time.
	layer := &kustomizev1.Kustomization{}
	h.Expect(admin.Get(ctx, h.key("by-hand-application"), layer)).To(Succeed())
	h.Expect(admin.Patch(ctx, layer, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":["finalizers.fluxcd.io"]}}`)))).To(Succeed())
	h.Expect(admin.Delete(ctx, tenant)).To(Succeed())
	h.Expect(h.recorded("TakingOffline")).To(Equal("Warning TakingOffline Tenant " + h.namespace + "/by-hand was deleted by hand; its data stays; " +
		"to stop this apply the Tenant again; waiting for Kustomization/" + h.namespace + "/by-hand-application to be gone"))
	h.Expect(admin.Patch(ctx, layer, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
	h.goesOffline(tenant)

	// Made again, it asks before it takes the namespace.
	again := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "by-hand"}, Spec: v1alpha1.TenantSpec{Domain: "by-hand.orthweb.com"}}
	h.Expect(admin.Create(ctx, again)).To(Succeed())
	h.eventually(func(g Gomega) {
		again = h.get("by-hand")
		ready := again.Status.Conditions
		g.Expect(ready).To(ContainElement(And(HaveField("Type", meta.ReadyCondition), HaveField("Reason", v1alpha1.RetainedReason))))
	})
	for _, c := range again.Status.Conditions {
		if c.Type == meta.ReadyCondition {
			_, approval, _ := strings.Cut(c.Message, v1alpha1.ApproveAdoptionAnnotation+"=")
			metav1.SetMetaDataAnnotation(&again.ObjectMeta, v1alpha1.ApproveAdoptionAnnotation, approval)
		}
	}
	h.update(again)
	h.becomeReady("by-hand")
}

func TestMarkedTenantIsTakenDown(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("marked", "central")
	patch := client.MergeFrom(tenant.DeepCopy())
	tenant.Annotations[v1alpha1.RemoveAnnotation] = "main@sha1:2222"
	controllerutil.AddFinalizer(tenant, v1alpha1.Finalizer)
	h.Expect(admin.Patch(ctx, tenant, patch)).To(Succeed())
	h.Expect(admin.Delete(ctx, tenant)).To(Succeed())
	h.goesOffline(tenant)
	ns := &corev1.Namespace{}
	h.Expect(admin.Get(ctx, types.NamespacedName{Name: "marked-orthweb"}, ns)).To(Succeed())
	h.Expect(ns.Annotations).To(HaveKeyWithValue(v1alpha1.RetainedAnnotation, "main@sha1:2222"))
}

// A tenant whose definition cannot be published any more is served as it was, by a new pod with an empty disk too.
func TestStalledTenantIsServed(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("stalled", "central")
	was := h.emitted(h, tenant)
	tenant.Spec.Patches = []v1alpha1.Patch{{Patch: `[{"op":"remove","path":"/nowhere"}]`, Target: &v1alpha1.PatchTarget{Kind: "Deployment"}}}
	h.update(tenant)
	stalled := func(g Gomega) {
		now := h.get("stalled")
		g.Expect(status(now, meta.StalledCondition)).To(Equal(metav1.ConditionTrue))
		g.Expect(now.Status.Artifact).To(Equal(&was.artifact))
		g.Expect(now.Status.Conditions).To(ContainElement(And(HaveField("Type", meta.StalledCondition),
			HaveField("Message", HaveSuffix("; revision "+was.artifact.Revision+", published before, runs on")))))
		h.archived(g, "stalled")
	}
	h.eventually(stalled)

	h.stop()
	h.storage = t.TempDir()
	h.start()
	h.eventually(stalled)
	h.Expect(h.emitted(h, tenant)).To(Equal(was))

	// What is emitted for it is put back meanwhile, for what was published.
	h.reset()
	k := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "stalled-application"}}
	h.Expect(admin.Delete(ctx, k)).To(Succeed())
	h.eventually(func(g Gomega) { g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(k), k)).To(Succeed()) })
	h.Expect(h.read("controllerrevisions")).To(BeEmpty(), "what it was made from is remembered")

	// Deleted, it is put back as what was published.
	h.Expect(admin.Delete(ctx, h.get("stalled"))).To(Succeed())
	h.eventually(func(g Gomega) {
		now := &v1alpha1.Tenant{}
		g.Expect(admin.Get(ctx, h.key("stalled"), now)).To(Succeed())
		g.Expect(now.Spec.Patches).To(BeEmpty())
	})
}

// One that never was published says so, in the words of korthweb validate.
func TestRefusedTenantWithoutPast(t *testing.T) {
	h := newHarness(t)
	h.Expect(admin.Create(ctx, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "no-past"},
		Spec: v1alpha1.TenantSpec{Domain: "10.1.2.3"}})).To(Succeed())
	h.eventually(func(g Gomega) {
		g.Expect(h.get("no-past").Status.Conditions).To(ContainElement(And(HaveField("Type", meta.StalledCondition), HaveField("Message",
			Equal(`spec.domain: "10.1.2.3": must be a DNS name such as bhs.orthweb.com, not an IP address; nothing was published before: nothing is served`)))))
	})
}

// While it is taken down, it says for how long, of what becomes of the data, and where to look.
func TestDescribeWaiting(t *testing.T) {
	began := metav1.Date(2026, time.November, 24, 13, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		policy     v1alpha1.DeletionPolicy
		waitingFor string
		want       string
	}{
		"a layer": {v1alpha1.RetainData, "Kustomization/flux-system/bhs-application to be gone",
			"removing: waiting for Kustomization/flux-system/bhs-application to be gone (data stays); the removal began at 2026-11-24T13:00:00Z; " +
				"look at: kubectl -n flux-system describe kustomization bhs-application"},
		"the namespace": {v1alpha1.DeleteData, "Namespace/bhs-orthweb to be gone",
			"removing: waiting for Namespace/bhs-orthweb to be gone (data is deleted); the removal began at 2026-11-24T13:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &began}, Spec: v1alpha1.TenantSpec{DeletionPolicy: test.policy}}
			NewWithT(t).Expect(describeWaiting(tenant, test.waitingFor)).To(Equal(test.want))
		})
	}
}

func TestHowToRemove(t *testing.T) {
	g := NewWithT(t)
	tenant := &v1alpha1.Tenant{}
	g.Expect(howToRemove(tenant)).To(BeEmpty())
	tenant.Annotations = map[string]string{v1alpha1.PathAnnotation: "tenants/bhs.yaml"}
	g.Expect(howToRemove(tenant)).To(Equal("; to remove the facility, remove its file tenants/bhs.yaml from git"))
}

func TestSuspendedTenantIsPutBackAsSuspended(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("suspended", "central")
	tenant.Spec.Suspend = true
	h.update(tenant)
	k := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "suspended-application"}}
	suspended := func(g Gomega) {
		g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(k), k)).To(Succeed())
		g.Expect(k.Spec.Suspend).To(BeTrue())
	}
	h.eventually(suspended)
	h.Expect(admin.Delete(ctx, k)).To(Succeed())
	h.eventually(suspended)
	h.eventually(func(g Gomega) {
		g.Expect(h.states(g, "suspended")[0].Annotations).To(HaveKeyWithValue("korthweb.digihunch.com/suspended", "true"))
	})

	h.Expect(admin.Delete(ctx, h.get("suspended"))).To(Succeed())
	h.eventually(func(g Gomega) {
		now := &v1alpha1.Tenant{}
		g.Expect(admin.Get(ctx, h.key("suspended"), now)).To(Succeed())
		g.Expect(now.UID).NotTo(Equal(tenant.UID))
		g.Expect(now.Spec.Suspend).To(BeTrue())
	})
	h.eventually(suspended)

	// Resumed by a definition that is refused it is served as it was, and not suspended, nor is it when it is put back.
	tenant = h.get("suspended")
	tenant.Spec.Suspend = false
	tenant.Spec.Patches = []v1alpha1.Patch{{Patch: `[{"op":"remove","path":"/nowhere"}]`, Target: &v1alpha1.PatchTarget{Kind: "Deployment"}}}
	h.update(tenant)
	h.eventually(func(g Gomega) {
		g.Expect(status(h.get("suspended"), meta.StalledCondition)).To(Equal(metav1.ConditionTrue))
		g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(k), k)).To(Succeed())
		g.Expect(k.Spec.Suspend).To(BeFalse())
		g.Expect(h.states(g, "suspended")[0].Annotations).To(HaveKeyWithValue("korthweb.digihunch.com/suspended", "false"))
	})
}

// What is in a namespace that is deleted goes with it. That is no owner's word.
func TestPlatformNamespaceDeleted(t *testing.T) {
	h := newHarness(t)
	tenant := h.create("platform-gone", "")
	was := h.emitted(h, tenant)
	// Nothing finishes the deletion of a namespace here, nor deletes what is in it: that is this test's to do.
	h.Expect(admin.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.namespace}})).To(Succeed())
	h.Expect(admin.Delete(ctx, tenant)).To(Succeed())
	h.eventually(func(g Gomega) { g.Expect(h.read("/namespaces/" + h.namespace)).NotTo(BeEmpty()) })
	time.Sleep(time.Second)
	h.Expect(h.emitted(h, tenant)).To(Equal(was))
	k := &kustomizev1.Kustomization{}
	h.Expect(admin.Get(ctx, h.key("platform-gone-application"), k)).To(Succeed())
	h.Expect(k.DeletionTimestamp).To(BeNil())
	h.Expect(k.Spec.DeletionPolicy).To(Equal(kustomizev1.DeletionPolicyOrphan))
}
