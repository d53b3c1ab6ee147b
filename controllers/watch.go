// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
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
