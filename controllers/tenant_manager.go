// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/predicates"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// claimIndex finds Tenants by what they claim: a host, a namespace, an address.
const claimIndex = "spec.claims"

// SetupWithManager registers the reconciler, with watches that wake one Tenant for one object: its
// own, or one that carries its labels.
func (r *TenantReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, rateLimiter workqueue.TypedRateLimiter[reconcile.Request]) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.Tenant{}, claimIndex, func(obj client.Object) []string {
		return tenant.Claims(obj.(*v1alpha1.Tenant))
	})
	if err != nil {
		return fmt.Errorf("cannot index Tenants by their claims: %w", err)
	}
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named(strings.ToLower(v1alpha1.TenantKind)).
		Watches(&v1alpha1.Tenant{}, newLast(itself), builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{},
			predicate.LabelChangedPredicate{},
			annotationChanged(v1alpha1.RevisionAnnotation),
			annotationChanged(v1alpha1.ApproveAdoptionAnnotation),
			predicates.ReconcileRequestedPredicate{},
		))).
		Watches(&corev1.Namespace{}, newLast(r.tenantOf)).
		Watches(&corev1.ServiceAccount{}, newLast(r.tenantOf)).
		Watches(&rbacv1.RoleBinding{}, newLast(r.tenantOf)).
		WithOptions(controller.Options{RateLimiter: rateLimiter, LogConstructor: func(req *reconcile.Request) logr.Logger {
			// As the builder does for a controller of a kind; it would not leave the kind's own watch to us.
			log := mgr.GetLogger().WithValues("controller", strings.ToLower(v1alpha1.TenantKind),
				"controllerGroup", v1alpha1.GroupVersion.Group, "controllerKind", v1alpha1.TenantKind)
			if req != nil {
				log = log.WithValues(v1alpha1.TenantKind, klog.KRef(req.Namespace, req.Name), "namespace", req.Namespace, "name", req.Name)
			}
			return log
		}}).
		Build(r)
	if err != nil {
		return err
	}
	if err := c.Watch(source.Func(r.wakeKept)); err != nil {
		return err
	}
	for _, emitted := range []client.Object{&sourcev1.ExternalArtifact{}, &kustomizev1.Kustomization{}} {
		if err := watchWhenServed(mgr, c, emitted, newLast(r.tenantOf)); err != nil {
			return err
		}
	}
	return nil
}

// sweepOnce learns, before the first reconciliation, which states are kept, and throws away the archives of Tenants that are
// gone for good and what else a kill may have left.
func (r *TenantReconciler) sweepOnce(ctx context.Context) error {
	r.sweeping.Lock()
	defer r.sweeping.Unlock()
	if r.swept {
		return nil
	}
	if err := r.History.Load(ctx); err != nil {
		return err
	}
	definition, err := r.metadata(ctx, crdKind, types.NamespacedName{Name: tenantDefinition})
	if err != nil {
		return err
	}
	if definition != nil {
		r.setDefinition(definition)
	}
	list := &v1alpha1.TenantList{}
	if err := r.List(ctx, list); err != nil {
		return fmt.Errorf("cannot list Tenants: %w", err)
	}
	known := map[types.NamespacedName]bool{}
	for _, key := range r.History.Tenants() {
		known[key] = true
	}
	for i := range list.Items {
		key := client.ObjectKeyFromObject(&list.Items[i])
		known[key] = true
		if definition != nil {
			r.known.Store(key, list.Items[i].UID)
		}
	}
	err = r.Publisher.Sweep(ctx, func(namespace, name string) bool {
		elsewhere := r.Namespace != "" && namespace != r.Namespace // nothing is known of these
		return elsewhere || known[types.NamespacedName{Namespace: namespace, Name: name}]
	})
	if err != nil {
		return fmt.Errorf("cannot tidy the artifact storage: %w", err)
	}
	r.swept = true
	return nil
}

// wakeKept wakes, at the start, each tenant of which a state is kept: its Tenant may be gone, and all that is emitted for it.
func (r *TenantReconciler) wakeKept(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		_ = wait.PollUntilContextCancel(ctx, servedPollInterval, true, func(ctx context.Context) (bool, error) {
			if err := r.History.Load(ctx); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "cannot learn which tenants there were")
				return false, nil
			}
			for _, key := range r.History.Tenants() {
				queue.Add(reconcile.Request{NamespacedName: key})
			}
			return true, nil
		})
	}()
	return nil
}

// itself returns the Tenant that is obj.
func itself(_ context.Context, obj client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(obj)}}
}

// tenantOf returns the Tenant that an emitted object was created for, where that is in the namespace of this instance.
func (r *TenantReconciler) tenantOf(_ context.Context, obj client.Object) []reconcile.Request {
	l := obj.GetLabels()
	key := types.NamespacedName{Namespace: l[v1alpha1.TenantNamespaceLabel], Name: l[v1alpha1.TenantLabel]}
	if key.Namespace == "" || key.Name == "" || r.Namespace != "" && key.Namespace != r.Namespace {
		return nil
	}
	return []reconcile.Request{{NamespacedName: key}}
}

// neverPublished is by how much a Tenant that was never published counts as younger than it is.
const neverPublished = 200 * 365 * 24 * time.Hour

// conflict says which Tenant holds what resolved claims, or nothing: the oldest of those that were published, or else the
// oldest. One that was put back is young, and holds what it had.
func (r *TenantReconciler) conflict(ctx context.Context, resolved *v1alpha1.Tenant) (string, error) {
	claimants := map[types.UID]v1alpha1.Tenant{resolved.UID: *resolved}
	for _, claim := range tenant.Claims(resolved) {
		list := &v1alpha1.TenantList{}
		if err := r.List(ctx, list, client.MatchingFields{claimIndex: claim}); err != nil {
			return "", fmt.Errorf("cannot list the Tenants that claim %s: %w", claim, err)
		}
		for _, other := range list.Items {
			if other.UID != resolved.UID {
				claimants[other.UID] = other
			}
		}
	}
	if err := r.addAbsent(ctx, resolved, claimants); err != nil {
		return "", err
	}
	if len(claimants) == 1 {
		return "", nil
	}
	for uid, t := range claimants {
		// Another instance may have published it since this one began.
		published, err := r.History.Find(ctx, client.ObjectKeyFromObject(&t))
		if err != nil {
			return "", err
		}
		if !published {
			t.CreationTimestamp.Time = t.CreationTimestamp.Add(neverPublished)
			claimants[uid] = t
		}
	}
	for _, conflict := range tenant.Conflicts(slices.Collect(maps.Values(claimants))) {
		if conflict.Tenant == client.ObjectKeyFromObject(resolved) {
			return conflict.Field + ": " + conflict.Message, nil
		}
	}
	return "", nil
}

// addAbsent adds the tenants beside one that was never published whose Tenants are gone and will be put back, or are not
// offline yet: they hold what they have.
func (r *TenantReconciler) addAbsent(ctx context.Context, resolved *v1alpha1.Tenant, claimants map[types.UID]v1alpha1.Tenant) error {
	if r.History.Has(client.ObjectKeyFromObject(resolved)) {
		return nil
	}
	for _, key := range r.History.Tenants() {
		if key.Namespace != resolved.Namespace {
			continue
		}
		if err := r.Get(ctx, key, &v1alpha1.Tenant{}); err == nil {
			continue
		} else if !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot read Tenant %s: %w", key, err)
		}
		state, _, err := r.History.Last(ctx, key, "")
		if err != nil {
			return err
		}
		if state != nil {
			claimants[types.UID(key.String())] = v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: state.Spec}
		}
	}
	return nil
}
