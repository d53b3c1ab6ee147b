// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// servedPollInterval is how often it is looked whether a missing kind is served by now.
const servedPollInterval = 5 * time.Second

// watchWhenServed makes c watch obj's kind as soon as the cluster serves it. A watch that is set up
// with the controller would keep it from starting while Flux is not installed, and then no condition
// could say so.
func watchWhenServed(mgr ctrl.Manager, c controller.Controller, obj client.Object, h handler.EventHandler, predicates ...predicate.Predicate) error {
	gvk, err := apiutil.GVKForObject(obj, mgr.GetScheme())
	if err != nil {
		return err
	}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		log := mgr.GetLogger().WithValues("kind", gvk.Kind)
		served := func(context.Context) (bool, error) {
			_, err := mgr.GetRESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
			if apimeta.IsNoMatchError(err) {
				log.Info("waiting for a kind of Flux to be installed", "group", gvk.Group, "version", gvk.Version)
			}
			return err == nil, nil
		}
		if err := wait.PollUntilContextCancel(ctx, servedPollInterval, true, served); err != nil {
			return err
		}
		return c.Watch(source.Kind[client.Object](mgr.GetCache(), obj, h, predicates...))
	}))
}

// newPriority is that of a tenant of which something was created: below that of one that changes, which is 0, and above that
// of what is only looked at again, handler.LowPriority.
const newPriority = -50

// newLast wakes the tenants that an object belongs to. Where the object is new they wait behind those that change.
func newLast(tenants handler.MapFunc) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	wake := func(ctx context.Context, q queue, objects ...client.Object) {
		for _, obj := range objects {
			for _, request := range tenants(ctx, obj) {
				q.Add(request)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request])
			if !ok || e.IsInInitialList {
				wake(ctx, q, e.Object)
				return
			}
			pq.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(newPriority)}, tenants(ctx, e.Object)...)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { wake(ctx, q, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, q, e.Object) },
		GenericFunc: func(ctx context.Context, e event.GenericEvent, q queue) {
			wake(ctx, q, e.Object)
		},
	}
}

// updated lets updates through for which changed is true, and nothing else.
func updated(changed func(before, after client.Object) bool) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc:  func(e event.UpdateEvent) bool { return changed(e.ObjectOld, e.ObjectNew) },
	}
}

// annotationChanged lets updates through that change the annotation of that key.
func annotationChanged(key string) predicate.Predicate {
	return updated(func(before, after client.Object) bool {
		return before.GetAnnotations()[key] != after.GetAnnotations()[key]
	})
}
