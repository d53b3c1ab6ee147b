// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/fluxcd/pkg/runtime/predicates"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// sourceIndex finds TenantRepositories by the Flux source that they take.
const sourceIndex = "spec.sourceRef"

// summaryDelay gathers the news of many tenants into one summary of their repository.
const summaryDelay = time.Second

// nextBatchDelay is after how long the next of many new Tenants are created.
const nextBatchDelay = 50 * time.Millisecond

// fluxSource is a Flux object that has an artifact.
type fluxSource interface {
	client.Object
	GetArtifact() *meta.Artifact
}

// newSource returns an empty object of a kind that spec.sourceRef may name.
func newSource(kind string) (fluxSource, error) {
	switch kind {
	case sourcev1.GitRepositoryKind:
		return &sourcev1.GitRepository{}, nil
	case sourcev1.OCIRepositoryKind:
		return &sourcev1.OCIRepository{}, nil
	case sourcev1.BucketKind:
		return &sourcev1.Bucket{}, nil
	case sourcev1.ExternalArtifactKind:
		return &sourcev1.ExternalArtifact{}, nil
	}
	return nil, fmt.Errorf("spec.sourceRef.kind: %q is not one of GitRepository, OCIRepository, Bucket, ExternalArtifact", kind)
}

// SetupWithManager registers the reconciler, with watches on its tenants and on the Flux sources that
// are referred to.
func (r *TenantRepositoryReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, rateLimiter workqueue.TypedRateLimiter[reconcile.Request]) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.TenantRepository{}, sourceIndex, func(obj client.Object) []string {
		ref := obj.(*v1alpha1.TenantRepository).Spec.SourceRef
		if ref == nil {
			return nil
		}
		return []string{sourceKey(ref.Kind, obj.GetNamespace(), ref.Name)}
	})
	if err != nil {
		return fmt.Errorf("cannot index TenantRepositories by their source: %w", err)
	}
	c, err := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.TenantRepository{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{},
			predicate.LabelChangedPredicate{},
			annotationChanged(v1alpha1.ApproveDeletionsAnnotation),
			predicates.ReconcileRequestedPredicate{},
		))).
		Watches(&v1alpha1.Tenant{}, summaryHandler(), builder.WithPredicates(tenantNews)).
		WithOptions(controller.Options{RateLimiter: rateLimiter}).
		Build(r)
	if err != nil {
		return err
	}
	for _, kind := range []string{
		sourcev1.GitRepositoryKind, sourcev1.OCIRepositoryKind, sourcev1.BucketKind, sourcev1.ExternalArtifactKind,
	} {
		src, err := newSource(kind)
		if err != nil {
			return err
		}
		if err := watchWhenServed(mgr, c, src, handler.EnqueueRequestsFromMapFunc(r.repositoriesOf(kind)), artifactChanged); err != nil {
			return err
		}
	}
	return nil
}

func sourceKey(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

// repositoriesOf returns the TenantRepositories that take a source of this kind.
func (r *TenantRepositoryReconciler) repositoriesOf(kind string) handler.MapFunc {
	return func(ctx context.Context, obj client.Object) []reconcile.Request {
		list := &v1alpha1.TenantRepositoryList{}
		key := sourceKey(kind, obj.GetNamespace(), obj.GetName())
		if err := r.List(ctx, list, client.MatchingFields{sourceIndex: key}); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot list the TenantRepositories of a source", "source", key)
			return nil
		}
		requests := make([]reconcile.Request, 0, len(list.Items))
		for i := range list.Items {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
		return requests
	}
}

// summaryHandler wakes the TenantRepository of a Tenant, and the one that is approved to take it over, after summaryDelay.
func summaryHandler() handler.EventHandler {
	enqueue := func(obj client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		taker, _, _ := strings.Cut(obj.GetAnnotations()[v1alpha1.ApproveAdoptionAnnotation], "/")
		for _, name := range []string{obj.GetLabels()[v1alpha1.RepositoryLabel], taker} {
			if name != "" {
				queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{
					Namespace: obj.GetNamespace(), Name: name,
				}}, summaryDelay)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, q)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.ObjectOld, q)
			enqueue(e.ObjectNew, q)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, q)
		},
	}
}

// tenantNews lets through what changes a repository's summary, or what the repository has to restore.
var tenantNews = predicate.Or(
	predicate.GenerationChangedPredicate{},
	predicate.LabelChangedPredicate{},
	annotationChanged(v1alpha1.DigestAnnotation),
	annotationChanged(v1alpha1.PathAnnotation),
	annotationChanged(v1alpha1.ApproveAdoptionAnnotation),
	updated(func(before, after client.Object) bool {
		return readyStatus(before) != readyStatus(after)
	}),
)

// artifactChanged lets through a source that has another artifact than before.
var artifactChanged = predicate.Or(
	updated(func(before, after client.Object) bool {
		was, is := before.(fluxSource).GetArtifact(), after.(fluxSource).GetArtifact()
		return is != nil && (was == nil || was.Revision != is.Revision || was.Digest != is.Digest)
	}),
	predicate.Funcs{
		UpdateFunc:  func(event.UpdateEvent) bool { return false },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	},
)

func readyStatus(obj client.Object) string {
	t, ok := obj.(*v1alpha1.Tenant)
	if !ok {
		return ""
	}
	if c := conditions.Get(t, meta.ReadyCondition); c != nil {
		return string(c.Status)
	}
	return ""
}
