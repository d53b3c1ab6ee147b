// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"context"
	"encoding/json"
	"errors"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// removal is one run of Remove.
type removal struct {
	*Applier
	tenant    *v1alpha1.Tenant
	published *meta.Artifact

	// ours says that the tenant's namespace is there.
	ours bool

	// stays says that it also outlives the removal: what no layer prunes in it runs on.
	stays bool
}

// layer of a tenant that is being removed.
type layer struct {
	name    string
	desired *kustomizev1.Kustomization

	// live is nil where there is none of the tenant's.
	live *kustomizev1.Kustomization

	// forgotten says that something runs that the layer applied and does not know of.
	forgotten bool
}

func (r *removal) look(ctx context.Context) error {
	namespace := Namespace(r.tenant)
	live, err := r.metadata(ctx, namespace)
	if err != nil {
		return explain(err, namespace)
	}
	r.ours = live != nil && ownedBy(r.tenant, live)
	r.stays = r.ours && live.GetDeletionTimestamp() == nil && r.tenant.Spec.DeletionPolicy != v1alpha1.DeleteData
	return nil
}

// removeLayers makes both layers able to prune, then deletes them in order. It returns what it waits for.
func (r *removal) removeLayers(ctx context.Context) (waitingFor string, err error) {
	release, err := r.installed(ctx)
	if err != nil {
		return "", err
	}
	needsAppliers := release != nil
	var layers []*layer
	forgotten := false
	for _, layerName := range []string{v1alpha1.ApplicationLayer, v1alpha1.DependencyLayer} {
		l, err := r.layer(ctx, layerName)
		if err != nil {
			return "", err
		}
		needsAppliers = needsAppliers || l.live != nil || l.forgotten
		forgotten = forgotten || l.forgotten
		layers = append(layers, l)
	}
	if needsAppliers {
		if err := r.keepAppliers(ctx, r.tenant); err != nil {
			return "", err
		}
	}
	if forgotten {
		if err := r.serve(ctx); err != nil {
			return "", err
		}
	}
	for _, l := range layers {
		if err := r.letPrune(ctx, l); err != nil {
			return "", explain(err, l.desired)
		}
	}
	for _, l := range layers {
		if l.forgotten {
			return waitingToApply(l), nil
		}
		if l.name == v1alpha1.DependencyLayer {
			if release, err := r.unknownRelease(ctx); err != nil {
				return "", err
			} else if release != nil {
				return name(release) + " to know what it installed, so that it is uninstalled", nil
			}
		}
		if gone, err := r.gone(ctx, l.desired); err != nil || !gone {
			return toBeGone(l.desired), err
		}
	}
	return "", nil
}

func waitingToApply(l *layer) string {
	text := name(l.desired) + " to apply what was published, so that it can be pruned"
	if l.live != nil {
		if ready := apimeta.FindStatusCondition(l.live.Status.Conditions, meta.ReadyCondition); ready != nil && ready.Message != "" {
			text += " (" + ready.Message + ")"
		}
	}
	return text
}

// gone deletes an object and says whether it is gone. Nothing is taken for gone because its kind is not served, unless all
// of the tenant goes with its namespace.
func (r *removal) gone(ctx context.Context, o client.Object) (bool, error) {
	gone, err := r.remove(ctx, r.tenant, o)
	if err != nil {
		err = explain(err, o)
		if ok, lookErr := r.mayBeUnserved(ctx, err); ok || lookErr != nil {
			return ok, lookErr
		}
	}
	return gone, err
}

// mayBeUnserved says whether an error is that a kind of Flux is not served, and that nobody has to wait for it: nothing
// was ever published and runs, or all that does goes with the namespace.
func (r *removal) mayBeUnserved(ctx context.Context, err error) (bool, error) {
	if e := new(FluxNotInstalledError); !errors.As(err, &e) {
		return false, nil
	}
	if !r.stays {
		return true, nil
	}
	if r.published != nil {
		return false, nil
	}
	for _, d := range []string{orthanc, gateway(r.tenant)} {
		if found, err := r.deployment(ctx, d); err != nil || found != nil {
			return false, err
		}
	}
	return true, nil
}

// layer reads one layer, and looks whether it knows what it would have to prune.
func (r *removal) layer(ctx context.Context, layerName string) (*layer, error) {
	l := &layer{name: layerName, desired: Kustomization(r.tenant, layerName)}
	live := &kustomizev1.Kustomization{}
	err := r.uncached.Get(ctx, client.ObjectKeyFromObject(l.desired), live)
	if err != nil && (unserved(err) || !apierrors.IsNotFound(err)) {
		err = explain(err, l.desired)
		if ok, lookErr := r.mayBeUnserved(ctx, err); ok || lookErr != nil {
			return l, lookErr
		}
		return l, err
	}
	if err == nil {
		if !ownedBy(r.tenant, live) {
			return l, nil
		}
		l.live = live
		if live.Status.Inventory != nil || live.DeletionTimestamp != nil {
			return l, nil
		}
	}
	if r.stays && r.published != nil {
		l.forgotten, err = r.runs(ctx, layerName)
		return l, err
	}
	return l, nil
}

// letPrune makes kustomize-controller prune a layer when it is deleted. For one that is deleted while it is suspended it
// would prune nothing: the facility would stay online. Neither would it for one that has applied nothing: a layer that is
// forgotten is put back, and waits for nothing, so that it applies at once.
func (r *removal) letPrune(ctx context.Context, l *layer) error {
	k := l.desired
	k.Spec.DeletionPolicy, k.Spec.Suspend = kustomizev1.DeletionPolicyWaitForTermination, false
	spec := map[string]any{"deletionPolicy": k.Spec.DeletionPolicy, "suspend": false}
	if l.forgotten {
		k.Spec.DependsOn, k.Spec.Wait = nil, false
		spec["dependsOn"], spec["wait"] = nil, false
	}
	if l.live == nil {
		if !l.forgotten {
			return nil
		}
		setDigest(k)
		return r.client.Create(ctx, k.DeepCopy(), client.FieldOwner(v1alpha1.FieldManager))
	}
	is := l.live.Spec
	if is.DeletionPolicy == k.Spec.DeletionPolicy && !is.Suspend && (!l.forgotten || len(is.DependsOn) == 0 && !is.Wait) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": l.live.UID}, "spec": spec})
	if err != nil {
		return err
	}
	err = r.client.Patch(ctx, l.live.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.FieldManager))
	return client.IgnoreNotFound(err)
}

// serve keeps the ExternalArtifact that a forgotten layer applies from.
func (r *removal) serve(ctx context.Context) error {
	run := &apply{Applier: r.Applier, tenant: r.tenant, missingOnly: true}
	ea := ExternalArtifact(r.tenant)
	setDigest(ea)
	live, err := run.ensure(ctx, ea)
	if err != nil {
		return err
	}
	return run.announce(ctx, live.(*sourcev1.ExternalArtifact), r.published)
}

const (
	// orthanc is the Deployment of the application layer, whatever the variant.
	orthanc = "orthanc"

	// appliedBy is on all that kustomize-controller applies, with the name of the Kustomization.
	appliedBy = "kustomize.toolkit.fluxcd.io/name"

	// installedBy is on all that Helm installs, with the name of the release.
	installedBy = "meta.helm.sh/release-name"
)

// gateway is the HelmRelease of the dependency layer, and its Deployment.
func gateway(tenant *v1alpha1.Tenant) string {
	if tenant.Spec.Ingress.Provider == v1alpha1.TraefikIngress {
		return "traefik"
	}
	return "istio-ingress"
}

// runs says whether what a layer stands for runs in the tenant's namespace and nobody is deleting it: Orthanc, or the
// gateway or what installs it.
func (r *removal) runs(ctx context.Context, layerName string) (bool, error) {
	if layerName == v1alpha1.ApplicationLayer {
		found, err := r.deployment(ctx, orthanc)
		return found != nil, err
	}
	release := helmRelease(r.tenant, gateway(r.tenant))
	live, err := r.metadata(ctx, release)
	if err != nil {
		return false, explain(err, release)
	}
	if live != nil && live.GetDeletionTimestamp() == nil && live.GetLabels()[appliedBy] == r.tenant.LayerName(layerName) {
		return true, nil
	}
	found, err := r.deployment(ctx, gateway(r.tenant))
	return found != nil && live == nil, err
}

// deployment returns a Deployment of the tenant's bundle, nil where it is not there or goes.
func (r *removal) deployment(ctx context.Context, deploymentName string) (client.Object, error) {
	d := metadataOf(appsv1.SchemeGroupVersion.WithKind("Deployment"), r.tenant.Spec.Namespace, deploymentName)
	live, err := r.metadata(ctx, d)
	if err != nil {
		return nil, explain(err, d)
	}
	if live == nil || live.GetDeletionTimestamp() != nil {
		return nil, nil
	}
	layerName := r.tenant.LayerName(v1alpha1.ApplicationLayer)
	if live.GetLabels()[appliedBy] != layerName && live.GetAnnotations()[installedBy] != deploymentName {
		return nil, nil
	}
	return live, nil
}

// unknownRelease returns the gateway's HelmRelease where it does not know yet of the gateway that runs, else nil: it was
// put back a moment ago, and helm-controller uninstalls only what it knows of.
func (r *removal) unknownRelease(ctx context.Context) (client.Object, error) {
	if !r.stays {
		return nil, nil
	}
	release := &unstructured.Unstructured{}
	release.SetGroupVersionKind(helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind))
	release.SetNamespace(r.tenant.Spec.Namespace)
	release.SetName(gateway(r.tenant))
	err := r.uncached.Get(ctx, client.ObjectKeyFromObject(release), release)
	if apierrors.IsNotFound(err) && !unserved(err) {
		return nil, nil
	}
	if err != nil {
		err = explain(err, release)
		if ok, lookErr := r.mayBeUnserved(ctx, err); ok || lookErr != nil {
			return nil, lookErr
		}
		return nil, err
	}
	known, _, err := unstructured.NestedSlice(release.Object, "status", "history")
	if err != nil || len(known) > 0 || release.GetDeletionTimestamp() != nil {
		return nil, err
	}
	if found, err := r.deployment(ctx, release.GetName()); err != nil || found == nil {
		return nil, err
	}
	return release, nil
}

// releases are the HelmReleases that a bundle may have.
var releases = []string{"istio-ingress", "istio-egress", "traefik", "postgres"}

func helmRelease(tenant *v1alpha1.Tenant, releaseName string) client.Object {
	return metadataOf(helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind), tenant.Spec.Namespace, releaseName)
}

// installed returns a HelmRelease of the bundle that has to go first, nil where none is. Only the tenant's own namespace is
// looked at: in another one it is no concern of this tenant. One that no layer deletes goes with a namespace that goes.
func (r *removal) installed(ctx context.Context) (client.Object, error) {
	if !r.ours {
		return nil, nil
	}
	for _, releaseName := range releases {
		release := helmRelease(r.tenant, releaseName)
		live, err := r.metadata(ctx, release)
		if err != nil {
			err = explain(err, release)
			if ok, lookErr := r.mayBeUnserved(ctx, err); ok || lookErr != nil {
				return nil, lookErr
			}
			return nil, err
		}
		if live != nil && (r.stays || live.GetDeletionTimestamp() != nil) {
			return release, nil
		}
	}
	return nil, nil
}
