// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/health"
)

// What a message says of an object in the tenant's namespace is read from the object itself, and only
// while its layer is not ready.
//
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get
// +kubebuilder:rbac:groups=helm.toolkit.fluxcd.io,resources=helmreleases,verbs=get
// +kubebuilder:rbac:groups=source.toolkit.fluxcd.io,resources=ocirepositories,verbs=get
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates;issuers,verbs=get
// +kubebuilder:rbac:groups=postgresql.cnpg.io,resources=clusters,verbs=get
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get

// assess writes to obj's status what Flux makes of the published bundle. It returns whether the tenant is ready.
func (r *TenantReconciler) assess(ctx context.Context, obj *v1alpha1.Tenant, duration time.Duration) (bool, error) {
	in := health.Input{Tenant: obj, Revision: obj.Status.LastAttemptedRevision, Now: time.Now()}
	for layer, k := range map[string]**kustomizev1.Kustomization{
		v1alpha1.DependencyLayer:  &in.Dependency,
		v1alpha1.ApplicationLayer: &in.Application,
	} {
		found, err := r.kustomization(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: obj.LayerName(layer)})
		if err != nil {
			return false, err
		}
		*k = found
		if found == nil {
			continue
		}
		objects, err := r.objects(ctx, health.Wanted(found, in.Revision))
		if err != nil {
			return false, err
		}
		in.Objects = append(in.Objects, objects...)
	}

	result := health.Assess(in)
	result.SetOn(obj)
	if !conditions.IsUnknown(obj, meta.ReadyCondition) {
		recordHistory(&obj.Status.History, obj.Status.Artifact.Revision, obj.Status.Artifact.Digest,
			conditions.GetReason(obj, meta.ReadyCondition), duration)
	}
	return result.Ready(), nil
}

// kustomization returns a Kustomization from the cache, nil where there is none.
func (r *TenantReconciler) kustomization(ctx context.Context, key types.NamespacedName) (*kustomizev1.Kustomization, error) {
	k := &kustomizev1.Kustomization{}
	if err := r.Get(ctx, key, k); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot read Kustomization %s: %w", key, err)
	}
	return k, nil
}

// objects reads objects of the tenant's namespace from the apiserver. One that is gone is left out.
func (r *TenantReconciler) objects(ctx context.Context, refs []health.ObjectRef) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, ref := range refs {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(ref.GroupVersionKind)
		key := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
		if err := r.Get(ctx, key, u); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("cannot read %s %s: %w", ref.Kind, key, err)
		} else if err == nil {
			objects = append(objects, u)
		}
	}
	return objects, nil
}
