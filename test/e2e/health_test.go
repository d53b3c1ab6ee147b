// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

const impossible = "- patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: orthanc}, spec: {template: {spec: {nodeSelector: {disk: none}}}}}'"

// Through good and bad changes, fast and slow ones, a Tenant is Ready only while both layers have applied
// exactly what is published for its newest definition, and says otherwise what is missing.
func TestReadyMeansAppliedAndHealthy(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name = "health-one"
	history := watchTenant(t, name)
	f := newFacilities(t, shared, "health", map[string]string{name + ".yaml": tenantFile(name)}, allow("spec.patches"))
	g.Eventually(f.ready(name)).Should(Succeed())

	revision := f.push(map[string]string{name + ".yaml": tenantFile(name, "orthanc: {replicas: 2}")})
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())
	for i := range 3 {
		revision = f.push(map[string]string{name + ".yaml": tenantFile(name, "displayName: Fast "+strconv.Itoa(i))})
		time.Sleep(1200 * time.Millisecond)
	}
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())

	notReady := func(revision, reason string, texts ...string) {
		t.Helper()
		g.Eventually(f.published(revision, name)).Should(Succeed())
		g.Eventually(func(g Gomega) {
			obj, err := f.get(name)
			g.Expect(err).NotTo(HaveOccurred())
			ready := conditions.Get(obj, meta.ReadyCondition)
			for _, text := range texts {
				g.Expect(ready.Message).To(ContainSubstring(text))
			}
			g.Expect(ready.Status).NotTo(Equal(metav1.ConditionTrue))
			g.Expect(ready.Reason).To(Equal(reason))
			g.Expect(conditions.IsReconciling(obj)).To(BeTrue())
			g.Expect(obj.Status.LastAppliedRevision).NotTo(Equal(obj.Status.Artifact.Revision))
		}).Should(Succeed())
	}

	// Pods that no node takes.
	revision = f.push(map[string]string{name + ".yaml": tenantFile(name, "patches:", impossible)})
	notReady(revision, meta.ProgressingReason, "application: Deployment/health-one-orthweb/orthanc: 0/1 replicas available")
	g.Eventually(func(g Gomega) {
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.IsReady(r)).To(BeFalse())
		g.Expect(conditions.GetMessage(r, meta.ReadyCondition)).To(Equal("1 tenant: 1 progressing"))
	}).Should(Succeed())

	// What the apiserver refuses.
	revision = f.push(map[string]string{name + ".yaml": tenantFile(name, "patches:",
		"- patch: '{apiVersion: v1, kind: Service, metadata: {name: orthweb}, spec: {sessionAffinity: Impossible}}'")})
	notReady(revision, meta.ReconciliationFailedReason, "application: Service/health-one-orthweb/orthweb", "spec.sessionAffinity", "Impossible")
	obj, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(conditions.IsFalse(obj, meta.ReadyCondition)).To(BeTrue())
	g.Eventually(func(g Gomega) {
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.GetReason(r, meta.ReadyCondition)).To(Equal(v1alpha1.TenantsNotReadyReason))
		g.Expect(conditions.GetMessage(r, meta.ReadyCondition)).To(ContainSubstring("1 failed (health-one)"))
	}).Should(Succeed())

	revision = f.push(map[string]string{name + ".yaml": tenantFile(name)})
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())

	seen := history.check(t)
	g.Expect(seen).To(BeNumerically(">=", 4), "revisions that were Ready")
}

// tenantHistory is every state of a Tenant and of its Flux objects, as the apiserver had them.
type tenantHistory struct {
	mu             sync.Mutex
	tenants        []*v1alpha1.Tenant
	kustomizations map[string][]*kustomizev1.Kustomization
}

// watchTenant records from now until the end of the test.
func watchTenant(t *testing.T, name string) *tenantHistory {
	t.Helper()
	c, err := client.NewWithWatch(shared.stack.RESTConfig(), client.Options{Scheme: shared.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	h := &tenantHistory{kustomizations: map[string][]*kustomizev1.Kustomization{}}
	for _, list := range []client.ObjectList{&v1alpha1.TenantList{}, &kustomizev1.KustomizationList{}} {
		w, err := c.Watch(t.Context(), list, client.InNamespace(stack.FluxNamespace))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		go h.record(w, name)
	}
	return h
}

func (h *tenantHistory) record(w watch.Interface, name string) {
	for event := range w.ResultChan() {
		h.mu.Lock()
		switch obj := event.Object.(type) {
		case *v1alpha1.Tenant:
			if obj.Name == name {
				h.tenants = append(h.tenants, obj)
			}
		case *kustomizev1.Kustomization:
			if obj.Labels[v1alpha1.TenantLabel] == name {
				h.kustomizations[obj.Name] = append(h.kustomizations[obj.Name], obj)
			}
		}
		h.mu.Unlock()
	}
}

// check looks at each state in which the Tenant was Ready at its newest generation. It returns how many
// revisions were.
func (h *tenantHistory) check(t *testing.T) int {
	t.Helper()
	g := gomega(t)
	h.mu.Lock()
	defer h.mu.Unlock()
	revisions := map[string]bool{}
	for i, obj := range h.tenants {
		if !readyNow(obj) {
			continue
		}
		at := fmt.Sprintf("Tenant at resourceVersion %s: %s", obj.ResourceVersion, conditions.GetMessage(obj, meta.ReadyCondition))
		g.Expect(obj.Status.Artifact).NotTo(BeNil(), at)
		revision := obj.Status.Artifact.Revision
		revisions[revision] = true
		g.Expect("Applied revision: "+revision).To(HavePrefix(conditions.GetMessage(obj, meta.ReadyCondition)), at)
		g.Expect(obj.Status.Artifact.Metadata[ociRevision]).To(Equal(obj.Annotations[v1alpha1.RevisionAnnotation]), at)
		g.Expect(obj.Status.LastAttemptedRevision).To(Equal(revision), at)
		g.Expect(conditions.IsTrue(obj, meta.HealthyCondition)).To(BeTrue(), at)
		g.Expect(conditions.IsReconciling(obj) || conditions.IsStalled(obj)).To(BeFalse(), at)
		for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
			g.Expect(h.wasReady(obj.LayerName(layer), revision, version(obj))).To(BeTrue(), "%s: %s", layer, at)
		}
		// Flux's patch helper writes the conditions in a request of their own, before the other fields.
		if i+1 < len(h.tenants) && readyNow(h.tenants[i+1]) {
			continue
		}
		g.Expect(obj.Status.LastAppliedRevision).To(Equal(revision), at)
		g.Expect(obj.Status.Layers).To(HaveLen(2), at)
		for _, layer := range obj.Status.Layers {
			g.Expect(layer.Revision).To(Equal(revision), at)
			g.Expect(layer.Ready).To(Equal(metav1.ConditionTrue), at)
		}
	}
	return len(revisions)
}

func readyNow(obj *v1alpha1.Tenant) bool {
	return conditions.IsReady(obj) && obj.Status.ObservedGeneration == obj.Generation
}

// wasReady says whether a Kustomization had been Ready with a revision, all of its spec taken into
// account, before the resourceVersion.
func (h *tenantHistory) wasReady(name, revision string, before uint64) bool {
	for _, k := range h.kustomizations[name] {
		if version(k) < before && conditions.IsReady(k) && k.Status.ObservedGeneration == k.Generation && k.Status.LastAppliedRevision == revision {
			return true
		}
	}
	return false
}

// version is an object's place in the order of all writes: etcd's revision.
func version(obj client.Object) uint64 {
	v, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err)
	}
	return v
}

// Suspended, a Tenant and its facility stay as they are; a request for a reconciliation is answered.
func TestSuspendAndRequest(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name = "suspend-one"
	f := newFacilities(t, shared, "suspend", map[string]string{name + ".yaml": tenantFile(name)}, onlyRetries)
	g.Eventually(f.ready(name)).Should(Succeed())
	kustomizationsSuspended := func() []bool {
		var all []bool
		for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
			k, err := f.layer(name, layer)
			g.Expect(err).NotTo(HaveOccurred())
			all = append(all, k.Spec.Suspend)
		}
		return all
	}

	// A commit waits for the interval, unless somebody asks.
	revision := f.push(map[string]string{name + ".yaml": tenantFile(name, "displayName: Asked for")})
	g.Consistently(f.takenOver(revision), "3s").ShouldNot(Succeed())
	repository, err := f.repository()
	g.Expect(err).NotTo(HaveOccurred())
	at := requestReconciliation(t, shared, repository)
	g.Eventually(func() string {
		r, _ := f.repository()
		return r.Status.LastHandledReconcileAt
	}).Should(Equal(at))
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())
	obj, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	at = requestReconciliation(t, shared, obj)
	g.Eventually(func() string {
		obj, _ := f.get(name)
		return obj.Status.LastHandledReconcileAt
	}).Should(Equal(at))
	g.Expect(f.readyAt(revision, name)()).To(Succeed())

	// The tenant is suspended by its file.
	before, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	f.push(map[string]string{name + ".yaml": tenantFile(name, "suspend: true", "displayName: Suspended")})
	f.request(t)
	g.Eventually(kustomizationsSuspended).Should(Equal([]bool{true, true}))
	g.Eventually(func(g Gomega) {
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Status.Tenants).To(Equal(v1alpha1.TenantCounts{Total: 1, Suspended: 1}))
	}).Should(Succeed())
	obj, err = f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(obj.Spec.DisplayName).To(Equal("Suspended"))
	g.Expect(obj.Status.Artifact).To(Equal(before.Status.Artifact))
	revision = f.push(map[string]string{name + ".yaml": tenantFile(name, "displayName: Resumed")})
	f.request(t)
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())
	g.Expect(kustomizationsSuspended()).To(Equal([]bool{false, false}))

	// The repository is suspended by a person.
	suspend := func(suspended bool) {
		t.Helper()
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		patch := client.MergeFrom(r.DeepCopy())
		r.Spec.Suspend = suspended
		g.Expect(shared.client.Patch(t.Context(), r, patch)).To(Succeed())
	}
	suspend(true)
	revision = f.push(map[string]string{name + ".yaml": tenantFile(name, "displayName: Later")})
	f.request(t)
	g.Consistently(f.published(revision, name), "3s").ShouldNot(Succeed())
	g.Expect(f.ready(name)()).To(Succeed())
	suspend(false)
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())
}

// Of fifty tenants one is changed: nothing of the others moves.
func TestOneOfFiftyMoves(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const count, changed = 50, "fifty-07"
	file := func(name string, more ...string) string {
		return tenantFile(name, append(more, "orthanc: {replicas: 1}")...)
	}
	files := map[string]string{}
	var names []string
	for i := range count {
		name := fmt.Sprintf("fifty-%02d", i)
		names = append(names, name)
		files[name+".yaml"] = file(name)
	}
	f := newFacilities(t, shared, "fifty", files)
	g.Eventually(f.ready(names...), "6m", "2s").Should(Succeed())
	// The last wave of news has been dealt with when the repository has counted them.
	g.Eventually(func(g Gomega) {
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.GetMessage(r, meta.ReadyCondition)).To(Equal("50 tenants: 50 ready"))
	}).Should(Succeed())

	before := f.snapshot(g)
	revision := f.push(map[string]string{changed + ".yaml": file(changed, "displayName: Changed")})
	g.Eventually(f.readyAt(revision, changed)).Should(Succeed())
	g.Eventually(f.takenOver(revision)).Should(Succeed())
	g.Consistently(f.takenOver(revision), "5s").Should(Succeed())
	after := f.snapshot(g)

	var moved []string
	g.Expect(after).To(HaveLen(len(before)))
	for object, was := range before {
		if after[object] != was {
			moved = append(moved, object)
		}
	}
	g.Expect(moved).To(ConsistOf(
		"Tenant "+changed,
		"ExternalArtifact "+changed,
		"Kustomization "+changed+"-dependency",
		"Kustomization "+changed+"-application",
	))
}

// snapshot is what there is of each tenant, by kind and name: of what only Korthweb writes the
// resourceVersion, of a Kustomization what is wanted and what was applied.
func (f *facilities) snapshot(g *WithT) map[string]string {
	f.t.Helper()
	out := map[string]string{}
	for _, obj := range f.tenants(f.t.Context()) {
		out["Tenant "+obj.Name] = obj.ResourceVersion
	}
	artifacts := &sourcev1.ExternalArtifactList{}
	g.Expect(f.env.client.List(f.t.Context(), artifacts, client.InNamespace(stack.FluxNamespace))).To(Succeed())
	for _, a := range artifacts.Items {
		if strings.HasPrefix(a.Name, f.name+"-") {
			out["ExternalArtifact "+a.Name] = a.ResourceVersion
		}
	}
	kustomizations := &kustomizev1.KustomizationList{}
	g.Expect(f.env.client.List(f.t.Context(), kustomizations, client.InNamespace(stack.FluxNamespace))).To(Succeed())
	for _, k := range kustomizations.Items {
		if strings.HasPrefix(k.Name, f.name+"-") {
			out["Kustomization "+k.Name] = fmt.Sprint(k.Generation, k.Labels, k.Annotations, k.Status.LastAppliedRevision, k.Status.LastAttemptedRevision)
		}
	}
	return out
}
