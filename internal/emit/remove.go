// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/fluxcd/pkg/apis/meta"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
// A layer prunes only what it has noted that it applied. One that is gone, or was put back and has applied nothing since,
// is made to apply the bundle published once more, so that it knows what to prune; only where something of it runs on,
// and where the namespace stays. published must be in the storage; nil says that nothing was ever published.
//
// It returns true when all is gone, or else what it waits for: Kustomization/flux-system/bhs-application to be gone.
// It can be called again at any point. It deletes only what carries this tenant's labels, and leaves
// everything else without an error. While a layer or the HelmRelease is there, an account or binding
// that Flux prunes by and that somebody deleted is put back.
//
// While the cluster does not serve the kinds of Flux nothing can be pruned: that is a FluxNotInstalledError, unless the
// namespace goes with all that is in it.
func (a *Applier) Remove(ctx context.Context, tenant *v1alpha1.Tenant, published *meta.Artifact) (done bool, waitingFor string, err error) {
	r := &removal{Applier: a, tenant: tenant, published: published}
	if err := r.look(ctx); err != nil {
		return false, "", err
	}
	if waitingFor, err := r.removeLayers(ctx); err != nil || waitingFor != "" {
		return false, waitingFor, err
	}
	// kustomize-controller waits no longer than the layer's timeout for what it prunes. Without its account
	// helm-controller never gets done with uninstalling what it has installed.
	release, err := r.installed(ctx)
	if err != nil {
		return false, "", err
	}
	if release != nil {
		return false, toBeGone(release), nil
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
		if gone, err := r.gone(ctx, step); err != nil || !gone {
			return false, toBeGone(step), err
		}
	}
	return true, "", nil
}

func toBeGone(o client.Object) string { return name(o) + " to be gone" }

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

// metadata reads the metadata of an object past the cache. It returns nil where there is none.
func (a *Applier) metadata(ctx context.Context, o client.Object) (client.Object, error) {
	live := metadataOf(o.GetObjectKind().GroupVersionKind(), "", "")
	err := a.uncached.Get(ctx, client.ObjectKeyFromObject(o), live)
	if apierrors.IsNotFound(err) && !unserved(err) {
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
	if apierrors.IsNotFound(err) && !unserved(err) {
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
