// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// A tenant that changes is looked at before those that are new, however many there are, and these before what was there
// when the controller started.
func TestNewTenantsWaitBehindChanges(t *testing.T) {
	g := NewWithT(t)
	queue := priorityqueue.New[reconcile.Request]("test")
	defer queue.ShutDown()
	named := func(name string) *v1alpha1.Tenant {
		return &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: name}}
	}
	h := newLast(itself)
	h.Create(ctx, event.CreateEvent{Object: named("there"), IsInInitialList: true}, queue)
	h.Create(ctx, event.CreateEvent{Object: named("new")}, queue)
	h.Update(ctx, event.UpdateEvent{ObjectOld: &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "changed"}}, ObjectNew: named("changed")}, queue)
	g.Eventually(queue.Len).Should(Equal(3))
	for _, want := range []string{"changed", "new", "there"} {
		got, _ := queue.Get()
		g.Expect(got.Name).To(Equal(want))
	}
}
