// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

const (
	// Interval is how often Flux looks whether somebody changed a layer's objects, and puts them back.
	// New revisions do not wait for it. It is the value that Flux's own documentation uses.
	Interval = 10 * time.Minute

	// RetryInterval is how soon Flux tries a failed layer again: soon enough that a repair shows within
	// a minute, and rare enough that a thousand failing tenants do not keep the controllers busy.
	RetryInterval = time.Minute

	// Timeout is how long a layer may take until it is healthy, or gone. The slowest things in it are
	// the first start of a database, a cloud's load balancer and the pull of Orthanc's image on a fresh
	// node, which take minutes.
	Timeout = 10 * time.Minute
)

// ExternalArtifact builds the source that the layers take the tenant's bundle from. Its status, where
// the artifact is, is announced apart: see Applier.Apply.
func ExternalArtifact(tenant *v1alpha1.Tenant) *sourcev1.ExternalArtifact {
	return &sourcev1.ExternalArtifact{
		TypeMeta:   metav1.TypeMeta{APIVersion: sourcev1.GroupVersion.String(), Kind: sourcev1.ExternalArtifactKind},
		ObjectMeta: objectMeta(tenant, tenant.Namespace, tenant.Name),
		Spec: sourcev1.ExternalArtifactSpec{SourceRef: &meta.NamespacedObjectKindReference{
			APIVersion: v1alpha1.GroupVersion.String(),
			Kind:       v1alpha1.TenantKind,
			Namespace:  tenant.Namespace,
			Name:       tenant.Name,
		}},
	}
}

// Kustomization builds one layer of the tenant's bundle. The dependency layer waits for what
// spec.dependsOn names, the application layer for the dependency layer.
//
// spec.suspend is set only while the tenant is suspended, so that a person can suspend a layer with the
// flux command line without Korthweb resuming it. spec.commonMetadata is not set: the tenant's is
// rendered into the bundle's objects, where it cannot replace their own labels.
//
// A layer that somebody deletes orphans its objects, and is put back. Remove makes it prune.
func Kustomization(tenant *v1alpha1.Tenant, layer string) *kustomizev1.Kustomization {
	k := &kustomizev1.Kustomization{
		TypeMeta:   metav1.TypeMeta{APIVersion: kustomizev1.GroupVersion.String(), Kind: kustomizev1.KustomizationKind},
		ObjectMeta: objectMeta(tenant, tenant.Namespace, tenant.LayerName(layer)),
		Spec: kustomizev1.KustomizationSpec{
			DependsOn:          dependsOn(tenant, layer),
			Interval:           metav1.Duration{Duration: Interval},
			RetryInterval:      &metav1.Duration{Duration: RetryInterval},
			Timeout:            &metav1.Duration{Duration: Timeout},
			Path:               "./" + layer,
			Prune:              true,
			DeletionPolicy:     kustomizev1.DeletionPolicyOrphan,
			ServiceAccountName: ApplierName(tenant),
			SourceRef:          kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.ExternalArtifactKind, Name: tenant.Name},
			Suspend:            tenant.Spec.Suspend,
			Wait:               true,
			HealthCheckExprs:   healthChecks(layer),
		},
	}
	k.Labels[v1alpha1.LayerLabel] = layer
	return k
}

func dependsOn(tenant *v1alpha1.Tenant, layer string) []kustomizev1.DependencyReference {
	if layer == v1alpha1.ApplicationLayer {
		return []kustomizev1.DependencyReference{{Name: tenant.LayerName(v1alpha1.DependencyLayer)}}
	}
	var refs []kustomizev1.DependencyReference
	for _, ref := range tenant.Spec.DependsOn {
		refs = append(refs, kustomizev1.DependencyReference{Namespace: ref.Namespace, Name: ref.Name})
	}
	return refs
}

// Flux evaluates these with the object's top-level fields as variables, failed before current, and
// takes an object for in progress when neither holds. An object that has no status at all makes them
// an error, which Flux takes for unknown and waits on, so that is right too.
//
// exists, not filter and all: all holds for an empty list, and a new object would count as healthy.
const (
	// readyExpr is a Ready condition that speaks of the current spec. Not every controller says which
	// spec its condition speaks of.
	readyExpr = `has(status.conditions) && status.conditions.exists(c, c.type == 'Ready' && c.status == 'True'` +
		` && (!has(c.observedGeneration) || c.observedGeneration == metadata.generation))`

	// certificateFailedExpr: cert-manager sets Issuing to False for the reason Failed when an attempt has
	// failed, and back to True when it tries again. A certificate that is ready does not fail because
	// its renewal does.
	certificateFailedExpr = `has(status.conditions) && !status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')` +
		` && status.conditions.exists(c, c.type == 'Issuing' && c.status == 'False' && c.reason == 'Failed')`

	// clusterFailedExpr lists the phases that CloudNativePG 1.30 does not leave by itself.
	clusterFailedExpr = `has(status.phase) && status.phase in [` +
		`'Cluster is unrecoverable and needs manual intervention',` +
		` 'Invalid cluster definition',` +
		` 'Cluster has incomplete or invalid image catalog',` +
		` 'Cluster cannot proceed to reconciliation due to an unknown plugin being required',` +
		` 'Cluster cannot execute instance online upgrade due to missing architecture binary']`
)

// healthChecks are for the kinds whose objects count as healthy before their controller has seen them,
// because they begin without conditions. All of them are in the dependency layer.
//
// An Issuer has no failed expression: a CA issuer is not ready until the CA's certificate is issued,
// which it is a moment later.
func healthChecks(layer string) []kustomize.CustomHealthCheck {
	if layer != v1alpha1.DependencyLayer {
		return nil
	}
	return []kustomize.CustomHealthCheck{
		{APIVersion: "cert-manager.io/v1", Kind: "Issuer", HealthCheckExpressions: kustomize.HealthCheckExpressions{
			Current: readyExpr}},
		{APIVersion: "cert-manager.io/v1", Kind: "Certificate", HealthCheckExpressions: kustomize.HealthCheckExpressions{
			Current: readyExpr, Failed: certificateFailedExpr}},
		{APIVersion: "postgresql.cnpg.io/v1", Kind: "Cluster", HealthCheckExpressions: kustomize.HealthCheckExpressions{
			Current: readyExpr, Failed: clusterFailedExpr}},
	}
}
