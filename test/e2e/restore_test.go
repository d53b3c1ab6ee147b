// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

// What somebody changes or deletes of that which Korthweb keeps for a tenant comes back.
func TestEmittedObjectsAreRestored(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const own = "restored-one-orthweb"
	f := newFacilities(t, shared, "restored", map[string]string{"restored-one.yaml": tenantFile("restored-one")})
	g.Eventually(f.ready("restored-one")).Should(Succeed())

	in := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	tenant := &v1alpha1.Tenant{ObjectMeta: in(stack.FluxNamespace, "restored-one")}
	namespace := &corev1.Namespace{ObjectMeta: in("", own)}
	applier := &corev1.ServiceAccount{ObjectMeta: in(stack.FluxNamespace, "restored-one-applier")}
	helmApplier := &corev1.ServiceAccount{ObjectMeta: in(own, "helm-applier")}
	binding := &rbacv1.RoleBinding{ObjectMeta: in(own, "kustomize-applier")}
	helmBinding := &rbacv1.RoleBinding{ObjectMeta: in(own, "helm-applier")}
	secret := &corev1.Secret{ObjectMeta: in(own, "orthanc-users")}
	artifact := &sourcev1.ExternalArtifact{ObjectMeta: in(stack.FluxNamespace, "restored-one")}
	dependency := &kustomizev1.Kustomization{ObjectMeta: in(stack.FluxNamespace, "restored-one-dependency")}
	application := &kustomizev1.Kustomization{ObjectMeta: in(stack.FluxNamespace, "restored-one-application")}

	for _, edit := range []struct {
		name  string
		obj   client.Object
		patch string
		// status says that the patch is one of the status.
		status bool
	}{
		{name: "Tenant spec", obj: tenant, patch: `{"spec":{"displayName":"By hand","domain":"by-hand.example.com"}}`},
		{name: "Tenant spec, a field added", obj: tenant, patch: `{"spec":{"orthanc":{"aeTitle":"BYHAND"}}}`},
		{name: "Tenant label", obj: tenant, patch: `{"metadata":{"labels":{"sharding.fluxcd.io/key":"by-hand"}}}`},
		{name: "Namespace label changed", obj: namespace, patch: `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`},
		{name: "Namespace label removed", obj: namespace, patch: `{"metadata":{"labels":{"istio-injection":null}}}`},
		{name: "ServiceAccount token mounted", obj: applier, patch: `{"automountServiceAccountToken":true}`},
		{name: "RoleBinding subject added", obj: binding, patch: `{"subjects":[{"kind":"ServiceAccount","namespace":"flux-system","name":"restored-one-applier"},{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"system:authenticated"}]}`},
		{name: "RoleBinding subjects removed", obj: helmBinding, patch: `{"subjects":null}`},
		{name: "ExternalArtifact status", obj: artifact, status: true, patch: `{"status":{"artifact":{"url":"http://127.0.0.1:1/elsewhere.tar.gz","revision":"main/000000000000@sha256:0"}}}`},
		{name: "ExternalArtifact status removed", obj: artifact, status: true, patch: `{"status":null}`},
		{name: "Kustomization path", obj: dependency, patch: `{"spec":{"path":"./application","prune":false,"wait":false}}`},
		{name: "Kustomization account", obj: application, patch: `{"spec":{"serviceAccountName":"default"}}`},
		{name: "Kustomization order", obj: application, patch: `{"spec":{"dependsOn":null}}`},
		{name: "Kustomization fields added", obj: application, patch: `{"spec":{"targetNamespace":"default","force":true,"namePrefix":"by-hand-"}}`},
	} {
		t.Run(edit.name, func(t *testing.T) {
			g := gomega(t)
			before := content(t, edit.obj)
			patch := client.RawPatch(types.MergePatchType, []byte(edit.patch))
			if edit.status {
				g.Expect(shared.client.Status().Patch(t.Context(), edit.obj, patch)).To(Succeed())
			} else {
				g.Expect(shared.client.Patch(t.Context(), edit.obj, patch)).To(Succeed())
			}
			g.Eventually(func() map[string]any { return content(t, edit.obj) }).Should(Equal(before))
		})
	}
	g.Eventually(f.ready("restored-one")).Should(Succeed())

	// The Secret is not watched: it is missed at the next look at the Tenant.
	deleted := func(obj client.Object) func() error {
		g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		old := obj.GetUID()
		g.Expect(shared.client.Delete(t.Context(), obj)).To(Succeed())
		return func() error {
			if err := shared.client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
				return err
			}
			if obj.GetUID() == old {
				return errors.New("it is still the old one")
			}
			if obj.GetLabels()[v1alpha1.TenantLabel] != "restored-one" {
				return fmt.Errorf("it is not Korthweb's: %v", obj.GetLabels())
			}
			return nil
		}
	}
	password := func() string {
		g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(secret), secret)).To(Succeed())
		return string(secret.Data["password"])
	}
	was := password()
	secretIsBack := deleted(secret)
	for _, obj := range []client.Object{applier, helmApplier, binding, helmBinding, artifact, application, dependency} {
		t.Run(fmt.Sprintf("%T %s deleted", obj, obj.GetName()), func(t *testing.T) {
			gomega(t).Eventually(deleted(obj)).Should(Succeed())
		})
	}
	g.Eventually(secretIsBack).Should(Succeed())
	g.Expect(password()).To(HaveLen(32))
	g.Expect(password()).NotTo(Equal(was))
	g.Eventually(f.ready("restored-one")).Should(Succeed())

	allowDeletion(t, shared, namespace)
	g.Eventually(deleted(namespace)).Should(Succeed())
	for _, obj := range []client.Object{helmApplier, binding, helmBinding, secret} {
		g.Eventually(func() error {
			return shared.client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj)
		}).Should(Succeed(), "%T %s", obj, obj.GetName())
	}
}

// content is what of an object a person decides on: all of it but what the apiserver keeps for itself, and
// no status but that of an ExternalArtifact, which Korthweb writes.
func content(t *testing.T, obj client.Object) map[string]any {
	t.Helper()
	gvk, err := apiutil.GVKForObject(obj, shared.client.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(gvk)
	if err := shared.client.Get(t.Context(), client.ObjectKeyFromObject(obj), live); err != nil {
		t.Fatal(err)
	}
	live.SetManagedFields(nil)
	live.SetResourceVersion("")
	live.SetGeneration(0)
	live.SetFinalizers(nil)
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	for _, c := range conditions {
		delete(c.(map[string]any), "lastTransitionTime")
	}
	if len(conditions) > 0 {
		_ = unstructured.SetNestedSlice(live.Object, conditions, "status", "conditions")
	}
	if gvk.Kind != sourcev1.ExternalArtifactKind {
		delete(live.Object, "status")
	}
	return live.Object
}
