// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

var adoptionApproval = regexp.MustCompile(regexp.QuoteMeta(v1alpha1.ApproveAdoptionAnnotation) + `=(\S+)`)

// approveAdoption waits until a tenant asks whether its retained namespace may be taken into use again, looks that
// nothing was started in it meanwhile, and approves it as the message says.
func (f *facilities) approveAdoption(t *testing.T, name string) {
	t.Helper()
	g := gomega(t)
	ns := name + "-orthweb"
	approval := ""
	g.Eventually(func(g Gomega) {
		obj, err := f.get(name)
		g.Expect(err).NotTo(HaveOccurred())
		ready := conditions.Get(obj, meta.ReadyCondition)
		g.Expect(ready).NotTo(BeNil())
		g.Expect(ready.Reason).To(Equal(v1alpha1.RetainedReason), ready.Message)
		g.Expect(conditions.IsFalse(obj, meta.ReadyCondition)).To(BeTrue())
		g.Expect(ready.Message).To(And(ContainSubstring(ns), ContainSubstring("kubectl"), ContainSubstring(name)))
		command := adoptionApproval.FindStringSubmatch(ready.Message)
		g.Expect(command).To(HaveLen(2), ready.Message)
		approval = command[1]
	}).Should(Succeed())
	notStarted := func() bool {
		err := f.env.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "orthanc"}, &appsv1.Deployment{})
		return apierrors.IsNotFound(err)
	}
	g.Consistently(notStarted, "2s").Should(BeTrue())

	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ApproveAdoptionAnnotation, approval)
	tenant := &v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)}
	g.Expect(f.env.client.Patch(t.Context(), tenant, client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed())
	g.Eventually(f.ready(name)).Should(Succeed())
	namespace := &corev1.Namespace{}
	g.Expect(f.env.client.Get(t.Context(), client.ObjectKey{Name: ns}, namespace)).To(Succeed())
	g.Expect(namespace.Annotations).NotTo(HaveKey(v1alpha1.RetainedAnnotation))
}

// expectOffline waits until a facility that was removed under Retain is down, with its data kept as it was.
func (f *facilities) expectOffline(t *testing.T, name string, kept map[client.Object]types.UID) {
	t.Helper()
	g := gomega(t)
	ns := name + "-orthweb"
	g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)})).Should(Succeed())
	for _, deployment := range []string{"orthanc", "istio-ingress"} {
		g.Eventually(f.gone(&appsv1.Deployment{ObjectMeta: objectMeta(ns, deployment)})).Should(Succeed())
	}
	namespace := &corev1.Namespace{}
	g.Eventually(func(g Gomega) {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKey{Name: ns}, namespace)).To(Succeed())
		g.Expect(namespace.Annotations).To(HaveKeyWithValue(v1alpha1.RetainedAnnotation, Not(BeEmpty())))
	}).Should(Succeed())
	for o, uid := range kept {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		g.Expect(o.GetUID()).To(Equal(uid))
		g.Expect(o.GetDeletionTimestamp()).To(BeNil())
	}
}

// data are the objects that hold a facility's data, with their present UIDs.
func (f *facilities) data(t *testing.T, name string) map[client.Object]types.UID {
	t.Helper()
	ns := name + "-orthweb"
	out := map[client.Object]types.UID{}
	for _, o := range []client.Object{
		&corev1.Secret{ObjectMeta: objectMeta(ns, "orthanc-users")},
		&corev1.PersistentVolumeClaim{ObjectMeta: objectMeta(ns, "orthanc-storage")},
		database(ns),
		&corev1.Namespace{ObjectMeta: objectMeta("", ns)},
	} {
		gomega(t).Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		out[o] = o.GetUID()
	}
	return out
}

// A Tenant made by hand goes offline when its owner deletes it, its data stays, and comes back when the owner approves.
func TestTenantByHand(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name = "byhand-one"
	f := newFacilities(t, shared, "byhand", map[string]string{"byhand-other.yaml": tenantFile("byhand-other", "suspend: true")})
	f.make(t, tenantByHand(shared, name))
	g.Eventually(f.ready(name)).Should(Succeed())
	kept := f.data(t, name)

	// Who deletes it may have the garbage collector delete first what it owns. It owns nothing, so the order is kept.
	seen := watchRemoval(t, shared, name+"-orthweb")
	tenant := &v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)}
	g.Expect(shared.client.Delete(t.Context(), tenant, client.PropagationPolicy(metav1.DeletePropagationForeground))).To(Succeed())
	f.expectOffline(t, name, kept)
	events := &corev1.EventList{}
	g.Expect(shared.client.List(t.Context(), events, client.InNamespace(stack.FluxNamespace),
		client.MatchingFields{"involvedObject.name": name, "reason": "TakingOffline"})).To(Succeed())
	g.Expect(events.Items).To(ContainElement(HaveField("Message", And(ContainSubstring("its data stays; to stop this apply the Tenant again"),
		ContainSubstring("waiting for Kustomization/flux-system/"+name)))))
	for _, order := range [][2]string{
		{"gone Deployment orthanc", "gone Kustomization " + name + "-application"},
		{"gone Kustomization " + name + "-application", "going Kustomization " + name + "-dependency"},
		{"gone Kustomization " + name + "-dependency", "gone ExternalArtifact " + name},
	} {
		g.Eventually(func() error { return seen.before(order[0], order[1]) }).Should(Succeed())
	}
	g.Consistently(f.gone(tenant)).Should(Succeed())

	g.Expect(shared.client.Create(t.Context(), tenantByHand(shared, name))).To(Succeed())
	f.approveAdoption(t, name)
	for o, uid := range kept {
		g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		g.Expect(o.GetUID()).To(Equal(uid))
	}
}

// A tenant's namespace is deleted only when somebody says that it is meant. Then it goes to its end, whatever becomes of
// the data otherwise, and the facility comes back, empty.
func TestTenantNamespaceDeleted(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	names := []string{"emptied-retain", "emptied-delete"}
	f := newFacilities(t, shared, "emptied", map[string]string{
		"classes/emptied.yaml": classNamed(shared, "emptied", "deletionPolicy: Delete"),
		names[0] + ".yaml":     tenantFile(names[0]),
		names[1] + ".yaml":     tenantOfClass(names[1], "emptied"),
	})
	g.Eventually(f.ready(names...)).Should(Succeed())
	before := map[string]map[client.Object]types.UID{}
	for _, name := range names {
		before[name] = f.data(t, name)
		namespace := &corev1.Namespace{ObjectMeta: objectMeta("", name+"-orthweb")}
		expectDeletionRefused(t, shared, namespace)
		g.Expect(f.ready(name)()).To(Succeed())
		allowDeletion(t, shared, namespace)
		g.Eventually(func() error { return shared.client.Delete(t.Context(), namespace) }).Should(Succeed())
	}
	for _, name := range names {
		g.Eventually(func(g Gomega) {
			for o, was := range before[name] {
				g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
				g.Expect(o.GetUID()).NotTo(Equal(was), "%T %s", o, o.GetName())
				g.Expect(o.GetDeletionTimestamp()).To(BeNil())
			}
		}).Should(Succeed())
		g.Eventually(f.ready(name)).Should(Succeed())
		// What allowed the deletion went with the namespace.
		expectDeletionRefused(t, shared, &corev1.Namespace{ObjectMeta: objectMeta("", name+"-orthweb")})
	}
}
