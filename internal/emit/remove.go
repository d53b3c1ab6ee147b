// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Remove takes down what was emitted for tenant in the order in which nothing is needed any more: the
// application layer, the dependency layer and its HelmReleases with it, the ExternalArtifact;
// then under deletionPolicy Delete the namespace with all that is in it, under Retain only the bindings
// and accounts that Flux acted by; the applier's account last. The next begins when the one before is
// gone. A namespace that is kept is marked first, with the revision that the Tenant's RemoveAnnotation names.
//
// The layers orphan what they applied. Before it deletes any, Remove tells both to prune and resumes them, in one patch
// each: from then on a layer that somebody else deletes is pruned too.
//
// It returns true when all is gone, or else what it waits for: Kustomization/flux-system/bhs-application.
// It can be called again at any point. It deletes only what carries this tenant's labels, and leaves
// everything else without an error. While a layer or the HelmRelease is there, an account or binding
// that Flux prunes by and that somebody deleted is put back.
func (a *Applier) Remove(ctx context.Context, tenant *v1alpha1.Tenant) (done bool, waitingFor string, err error) {
	layers := []*kustomizev1.Kustomization{
		Kustomization(tenant, v1alpha1.ApplicationLayer),
		Kustomization(tenant, v1alpha1.DependencyLayer),
	}
	release, err := a.installed(ctx, tenant)
	if err != nil {
		return false, "", err
	}
	needsAppliers := release != nil
	for _, layer := range layers {
		exists, err := a.letPrune(ctx, tenant, layer)
		if err != nil {
			return false, name(layer), explain(err, layer)
		}
		needsAppliers = needsAppliers || exists
	}
	if needsAppliers {
		if err := a.keepAppliers(ctx, tenant); err != nil {
			return false, "", err
		}
	}

	for _, layer := range layers {
		gone, err := a.remove(ctx, tenant, layer)
		if err != nil {
			return false, name(layer), explain(err, layer)
		}
		if !gone {
			return false, name(layer), nil
		}
	}
	// kustomize-controller waits no longer than the layer's timeout for what it prunes. Without its account
	// helm-controller never gets done with uninstalling what it has installed.
	if release, err = a.installed(ctx, tenant); err != nil {
		return false, "", err
	}
	if release != nil {
		return false, name(release), nil
	}

	if tenant.Spec.DeletionPolicy != v1alpha1.DeleteData {
		if err := a.markRetained(ctx, tenant); err != nil {
			return false, "", err
		}
	}
	steps := []client.Object{ExternalArtifact(tenant)}
	accounts := appliers(tenant)
	if tenant.Spec.DeletionPolicy == v1alpha1.DeleteData {
		steps = append(steps, Namespace(tenant), accounts[0])
	} else {
		slices.Reverse(accounts)
		steps = append(append(steps, secretReader(tenant, a.self)), accounts...)
	}
	for _, step := range steps {
		gone, err := a.remove(ctx, tenant, step)
		if err != nil {
			return false, name(step), explain(err, step)
		}
		if !gone {
			return false, name(step), nil
		}
	}
	return true, "", nil
}

// letPrune makes kustomize-controller prune a layer when it is deleted, and says whether the layer is there. For one that
// is deleted while it is suspended it would prune nothing: the facility would stay online.
func (a *Applier) letPrune(ctx context.Context, tenant *v1alpha1.Tenant, layer *kustomizev1.Kustomization) (bool, error) {
	live := &kustomizev1.Kustomization{}
	err := a.uncached.Get(ctx, client.ObjectKeyFromObject(layer), live)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !ownedBy(tenant, live) {
		return false, nil
	}
	if live.Spec.DeletionPolicy == kustomizev1.DeletionPolicyWaitForTermination && !live.Spec.Suspend {
		return true, nil
	}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"uid":%q},"spec":{"deletionPolicy":%q,"suspend":false}}`,
		live.UID, kustomizev1.DeletionPolicyWaitForTermination))
	err = a.client.Patch(ctx, live, patch, client.FieldOwner(v1alpha1.FieldManager))
	return err == nil, client.IgnoreNotFound(err)
}

// byHand stands on a namespace for the revision where a Tenant was removed that no revision defined.
const byHand = "local"

// markRetained notes on the tenant's namespace that it is kept, and by which revision its tenant was removed.
func (a *Applier) markRetained(ctx context.Context, tenant *v1alpha1.Tenant) error {
	ns := Namespace(tenant)
	live, err := a.metadata(ctx, ns)
	if err != nil {
		return explain(err, ns)
	}
	if live == nil || !ownedBy(tenant, live) || live.GetDeletionTimestamp() != nil || live.GetAnnotations()[v1alpha1.RetainedAnnotation] != "" {
		return nil
	}
	revision := cmp.Or(tenant.Annotations[v1alpha1.RemoveAnnotation], byHand)
	if err := a.annotate(ctx, live, v1alpha1.RetainedAnnotation, &revision); err != nil {
		return explain(err, ns)
	}
	return nil
}

// annotate sets an annotation of this very object, or takes it off where value is nil.
func (a *Applier) annotate(ctx context.Context, live client.Object, key string, value *string) error {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": live.GetUID(), "annotations": map[string]*string{key: value}}})
	if err != nil {
		return err
	}
	return a.client.Patch(ctx, live, client.RawPatch(types.MergePatchType, data), client.FieldOwner(v1alpha1.FieldManager))
}

// keepAppliers puts back what Flux acts by where somebody has deleted it. Without its account
// kustomize-controller lets go of a layer without pruning it; without its rights it never gets done.
func (a *Applier) keepAppliers(ctx context.Context, tenant *v1alpha1.Tenant) error {
	run := &apply{Applier: a, tenant: tenant}
	for _, o := range appliers(tenant) {
		setDigest(o)
		_, err := run.ensure(ctx, o)
		notOwned, terminating := new(NotOwnedError), new(TerminatingError)
		// Where the namespace is gone or going there is nothing to prune in it.
		if errors.As(err, &notOwned) || errors.As(err, &terminating) || apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// releases are the HelmReleases that a bundle may have.
var releases = []string{"istio-ingress", "istio-egress", "traefik", "postgres"}

// installed returns a HelmRelease of the bundle that is there, nil where none is. Only the tenant's own namespace is
// looked at: in another one it is no concern of this tenant.
func (a *Applier) installed(ctx context.Context, tenant *v1alpha1.Tenant) (client.Object, error) {
	namespace := Namespace(tenant)
	if ours, err := a.exists(ctx, tenant, namespace); err != nil || !ours {
		return nil, explainIf(err, namespace)
	}
	for _, releaseName := range releases {
		release := metadataOf(helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind), tenant.Spec.Namespace, releaseName)
		if live, err := a.metadata(ctx, release); err != nil || live != nil {
			return release, explainIf(err, release)
		}
	}
	return nil, nil
}

func explainIf(err error, o client.Object) error {
	if err == nil {
		return nil
	}
	return explain(err, o)
}

// exists says whether an object of the tenant is there.
func (a *Applier) exists(ctx context.Context, tenant *v1alpha1.Tenant, o client.Object) (bool, error) {
	live, err := a.metadata(ctx, o)
	return live != nil && ownedBy(tenant, live), err
}

// metadata reads the metadata of an object past the cache. It returns nil where there is none, or where
// its kind is not served.
func (a *Applier) metadata(ctx context.Context, o client.Object) (client.Object, error) {
	live := metadataOf(o.GetObjectKind().GroupVersionKind(), "", "")
	err := a.uncached.Get(ctx, client.ObjectKeyFromObject(o), live)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return live, nil
}

func metadataOf(kind schema.GroupVersionKind, namespace, name string) client.Object {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	o.SetGroupVersionKind(kind)
	return o
}

// remove deletes one object and says whether it is gone, or not the tenant's. It reads past the cache:
// removal is rare, and must not believe that something is gone when it is not.
func (a *Applier) remove(ctx context.Context, tenant *v1alpha1.Tenant, o client.Object) (bool, error) {
	live, err := a.emptyOf(o)
	if err != nil {
		return false, err
	}
	err = a.uncached.Get(ctx, client.ObjectKeyFromObject(o), live)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if !ownedBy(tenant, live) {
		return true, nil
	}
	if live.GetDeletionTimestamp() != nil {
		return false, nil
	}
	uid := live.GetUID()
	err = a.client.Delete(ctx, live, client.Preconditions{UID: &uid}, client.PropagationPolicy("Background"))
	if err != nil && !apierrors.IsNotFound(err) {
		return false, err
	}
	// Without a finalizer it is gone at once, and there is no need to be called again for the next step.
	err = a.uncached.Get(ctx, client.ObjectKeyFromObject(o), live)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}
