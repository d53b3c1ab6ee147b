// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/tenant"
)

// Who was published holds what it has, though a Tenant that was put back is younger than one that waits for the same host.
func TestWhoHoldsAClaim(t *testing.T) {
	tests := []struct {
		name      string
		published []string
		since     bool // this instance began
		refused   string
	}{
		{name: "neither published", refused: "younger"},
		{name: "both published", published: []string{"older", "younger"}, refused: "younger"},
		{name: "the younger was put back", published: []string{"younger"}, refused: "older"},
		{name: "the younger was put back by another instance", published: []string{"younger"}, since: true, refused: "older"},
		{name: "both published by another instance", published: []string{"older", "younger"}, since: true, refused: "younger"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			tenants := map[string]*v1alpha1.Tenant{}
			objects := []client.Object{}
			for name, hour := range map[string]int{"older": 1, "younger": 2} {
				o := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: name, UID: types.UID(name),
					CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC))}, Spec: v1alpha1.TenantSpec{Domain: "bhs.orthweb.com"}}
				o.SetDefaults()
				tenants[name] = o
				objects = append(objects, o)
			}
			var states []client.Object
			for _, name := range test.published {
				states = append(states, &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: name + "-0", Labels: map[string]string{
					v1alpha1.ManagedByLabel: v1alpha1.FieldManager, v1alpha1.TenantLabel: name, v1alpha1.TenantNamespaceLabel: "flux-system"}}})
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithIndex(&v1alpha1.Tenant{}, claimIndex, func(o client.Object) []string {
				return tenant.Claims(o.(*v1alpha1.Tenant))
			}).Build()
			r := &TenantReconciler{Client: c, History: artifact.NewHistory(c, c)}
			load := func() { g.Expect(r.History.Load(ctx)).To(Succeed()) }
			if test.since {
				load()
			}
			for _, state := range states {
				g.Expect(c.Create(ctx, state)).To(Succeed())
			}
			load()
			for name, o := range tenants {
				conflict, err := r.conflict(ctx, o)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(conflict != "").To(Equal(name == test.refused), "%s: %s", name, conflict)
			}
		})
	}
}

// What is emitted is watched in all namespaces, and wakes only tenants that this instance may read.
func TestTenantOfAnotherNamespace(t *testing.T) {
	emitted := func(namespace, name string) client.Object {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "bhs-orthweb",
			Labels: map[string]string{v1alpha1.TenantNamespaceLabel: namespace, v1alpha1.TenantLabel: name}}}
	}
	tests := []struct {
		name      string
		namespace string
		obj       client.Object
		wakes     bool
	}{
		{name: "its own", namespace: "flux-system", obj: emitted("flux-system", "bhs"), wakes: true},
		{name: "another", namespace: "flux-system", obj: emitted("team-a", "bhs")},
		{name: "all namespaces", obj: emitted("team-a", "bhs"), wakes: true},
		{name: "no tenant's", obj: emitted("flux-system", "")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			requests := (&TenantReconciler{Namespace: test.namespace}).tenantOf(ctx, test.obj)
			g.Expect(len(requests) == 1).To(Equal(test.wakes))
		})
	}
}
