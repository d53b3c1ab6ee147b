// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
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
		refused   string
	}{
		{name: "neither published", refused: "younger"},
		{name: "both published", published: []string{"older", "younger"}, refused: "younger"},
		{name: "the younger was put back", published: []string{"younger"}, refused: "older"},
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
			for _, name := range test.published {
				objects = append(objects, &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: name + "-0", Labels: map[string]string{
					v1alpha1.ManagedByLabel: v1alpha1.FieldManager, v1alpha1.TenantLabel: name, v1alpha1.TenantNamespaceLabel: "flux-system"}}})
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithIndex(&v1alpha1.Tenant{}, claimIndex, func(o client.Object) []string {
				return tenant.Claims(o.(*v1alpha1.Tenant))
			}).Build()
			r := &TenantReconciler{Client: c, History: artifact.NewHistory(c, c)}
			g.Expect(r.History.Load(ctx)).To(Succeed())
			for name, o := range tenants {
				conflict, err := r.conflict(ctx, o)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(conflict != "").To(Equal(name == test.refused), "%s: %s", name, conflict)
			}
		})
	}
}
