// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/fluxcd/pkg/runtime/jitter"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/emit"
)

// tenantDefinition is the name of the CustomResourceDefinition of Tenants.
var tenantDefinition = "tenants." + v1alpha1.GroupVersion.Group

// putBackInterval is how soon it is looked again whether a Tenant that is gone can be put back.
const putBackInterval = 2 * time.Second

// absentGrace is how long a Tenant made by hand may be away before it is taken offline: kubectl replace --force deletes it
// and makes it anew.
const absentGrace = 10 * time.Second

// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;create;patch;delete
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,resourceNames=tenants.korthweb.digihunch.com,verbs=get

// refuse says why the definition cannot be published, and serves what was last published.
func (r *TenantReconciler) refuse(ctx context.Context, obj *v1alpha1.Tenant, reason string, cause error) (ctrl.Result, error) {
	served, err := r.serveLastGood(ctx, obj)
	if err != nil {
		markStalled(obj, reason, fmt.Errorf("%w; what was last published cannot be served: %w", cause, err))
		return ctrl.Result{}, failed(told, fmt.Errorf("cannot serve what was last published: %w", err))
	}
	if !served {
		markStalled(obj, reason, fmt.Errorf("%w; nothing was published before: nothing is served", cause))
		return ctrl.Result{}, nil
	}
	markStalled(obj, reason, fmt.Errorf("%w; revision %s, published before, runs on", cause, obj.Status.LastAttemptedRevision))
	return ctrl.Result{RequeueAfter: jitter.JitteredIntervalDuration(resyncInterval)}, nil
}

// serveLastGood makes the cluster and the storage hold what was last published, whatever the definition says by now. It
// says whether there is anything.
func (r *TenantReconciler) serveLastGood(ctx context.Context, obj *v1alpha1.Tenant) (bool, error) {
	good, published, state, err := r.restoreArchive(ctx, obj)
	if err != nil || good == nil {
		return false, err
	}
	if err := r.History.Note(ctx, client.ObjectKeyFromObject(obj), state, r.notes(obj, false)); err != nil {
		return false, err
	}
	emitted, err := r.Applier.Apply(ctx, good, published)
	if err != nil {
		return false, err
	}
	obj.Status.Artifact = published
	obj.Status.LastAttemptedRevision = published.Revision
	obj.Status.Inventory = emitted.Inventory
	return true, nil
}

// suspend tells Flux to change nothing, before all else: something may be broken. Only what is gone is put back, as
// suspended. The status stays as it is, but for what fails now and what failed before.
func (r *TenantReconciler) suspend(ctx context.Context, obj, resolved *v1alpha1.Tenant) (ctrl.Result, error) {
	suspendErr := r.Applier.Suspend(ctx, resolved)
	if suspendErr != nil {
		suspendErr = fmt.Errorf("cannot suspend the layers: %w", suspendErr)
	}
	restoreErr := r.restoreSuspended(ctx, obj)
	if restoreErr != nil {
		restoreErr = fmt.Errorf("cannot put back what is gone of a suspended tenant: %w", restoreErr)
	}
	if err := errors.Join(suspendErr, restoreErr); err != nil {
		return r.retry(obj, emit.Reason(err), err)
	}
	if conditions.GetReason(obj, meta.ReconcilingCondition) == meta.ProgressingWithRetryReason {
		conditions.Delete(obj, meta.ReconcilingCondition)
		conditions.MarkUnknown(obj, meta.ReadyCondition, meta.SuspendedReason, "suspended: nothing is changed")
	}
	return ctrl.Result{}, nil
}

func (r *TenantReconciler) restoreSuspended(ctx context.Context, obj *v1alpha1.Tenant) error {
	good, published, state, err := r.restoreArchive(ctx, obj)
	if err != nil || good == nil {
		return err
	}
	if err := r.History.Note(ctx, client.ObjectKeyFromObject(obj), state, r.notes(obj, true)); err != nil {
		return err
	}
	good.Spec.Suspend = true
	emitted, err := r.Applier.Restore(ctx, good, published)
	if err != nil {
		return err
	}
	if obj.Status.Artifact == nil { // it was put back itself
		obj.Status.Artifact = published
		obj.Status.LastAttemptedRevision = published.Revision
		obj.Status.Inventory = emitted.Inventory
	}
	return nil
}

// restoreArchive puts what was last published back into the storage, where it is not there. It returns the Tenant that it
// was made from, with its defaults and obj's own metadata and status, and the artifact; nil where there is none.
func (r *TenantReconciler) restoreArchive(ctx context.Context, obj *v1alpha1.Tenant) (*v1alpha1.Tenant, *meta.Artifact, *artifact.State, error) {
	key := client.ObjectKeyFromObject(obj)
	announced, err := r.announced(ctx, obj)
	if err != nil {
		return nil, nil, nil, err
	}
	digest := ""
	if announced != nil {
		digest = announced.Digest
	}
	state, _, err := r.History.Last(ctx, key, digest)
	if err != nil || state == nil {
		return nil, nil, nil, err
	}
	published, err := r.Publisher.Restore(obj, state.Artifact, func() ([]byte, error) { return r.History.Archive(ctx, key, state) })
	if err != nil {
		return nil, nil, nil, err
	}
	if announced != nil && announced.Digest == published.Digest && announced.URL == published.URL && announced.Revision == published.Revision {
		published = announced
	}
	good := obj.DeepCopy()
	good.Spec = *state.Spec.DeepCopy()
	good.SetDefaults()
	return good, published, state, nil
}

// announced returns the artifact that Flux was told of last, by the Tenant's status or, where that is new, by the
// ExternalArtifact's.
func (r *TenantReconciler) announced(ctx context.Context, obj *v1alpha1.Tenant) (*meta.Artifact, error) {
	if obj.Status.Artifact != nil {
		return obj.Status.Artifact, nil
	}
	ea := &sourcev1.ExternalArtifact{}
	err := r.Get(ctx, client.ObjectKeyFromObject(obj), ea)
	if apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err) || err == nil && ea.Labels[v1alpha1.TenantLabel] != obj.Name {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read ExternalArtifact %s/%s: %w", obj.Namespace, obj.Name, err)
	}
	return ea.Status.Artifact, nil
}

// absent deals with a Tenant that is not there. Whoever removes one in order leaves no state of it. Where there is one, the
// Tenant went by accident, and is put back, or it was made by hand and its owner deleted it, and it goes offline:
//
//   - It comes from a TenantRepository: put back.
//   - Its CustomResourceDefinition is gone, is going, or is another than that it was an object of: the Tenant went with it.
//     Put back, as soon as the kind is served.
//   - Its namespace is going: all that is kept goes with it, and nothing can be put back or taken down.
//   - Else its owner deleted it, unless it is back within absentGrace.
func (r *TenantReconciler) absent(ctx context.Context, key types.NamespacedName) (ctrl.Result, error) {
	r.known.Delete(key)
	soon := ctrl.Result{RequeueAfter: putBackInterval}
	definition, err := r.staying(ctx)
	if err != nil || definition == nil {
		return soon, err
	}
	if found, err := r.History.Find(ctx, key); err != nil || !found {
		r.absentSince.Delete(key)
		return ctrl.Result{}, err
	}
	namespace, err := r.metadata(ctx, corev1.SchemeGroupVersion.WithKind("Namespace"), types.NamespacedName{Name: key.Namespace})
	if err != nil || namespace == nil || namespace.DeletionTimestamp != nil {
		return soon, err
	}
	// The cache may be behind.
	if live, err := r.metadata(ctx, v1alpha1.GroupVersion.WithKind(v1alpha1.TenantKind), key); err != nil || live != nil {
		return soon, err
	}

	gone := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	announced, err := r.announced(ctx, gone)
	if err != nil {
		return ctrl.Result{}, err
	}
	digest := ""
	if announced != nil {
		digest = announced.Digest
	}
	state, notes, err := r.History.Last(ctx, key, digest)
	if err != nil || state == nil {
		return ctrl.Result{}, err
	}
	if r.Selector != nil && !r.Selector.Matches(labels.Set(state.Labels)) {
		return ctrl.Result{}, nil
	}
	gone.Labels, gone.Annotations = state.Labels, state.Annotations
	gone.Spec = *state.Spec.DeepCopy()
	gone.Spec.Suspend = gone.Spec.Suspend || notes.Suspended

	r.setDefinition(definition)
	if gone.Labels[v1alpha1.RepositoryLabel] == "" && notes.DefinitionUID == string(definition.UID) {
		// Whoever replaces it deletes it first.
		since, _ := r.absentSince.LoadOrStore(key, time.Now())
		if wait := cmp.Or(r.grace, absentGrace) - time.Since(since.(time.Time)); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
		return r.takeOffline(ctx, gone)
	}
	return r.putBack(ctx, gone, state, notes)
}

// putBack creates a Tenant anew.
func (r *TenantReconciler) putBack(ctx context.Context, gone *v1alpha1.Tenant, state *artifact.State, notes artifact.Notes) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(gone)
	err := r.Create(ctx, gone, client.FieldOwner(v1alpha1.FieldManager))
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err), apierrors.IsConflict(err), apimeta.IsNoMatchError(err),
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ctrl.Result{RequeueAfter: putBackInterval}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("cannot put back Tenant %s: %w", key, err)
	}
	recordEvent(ctx, r.EventRecorder, gone, state.Artifact.Revision, corev1.EventTypeWarning, "PutBack",
		"the Tenant was deleted without being marked for removal; put back as it was published; nothing was restarted"+howToRemove(gone))
	notes.DefinitionUID = r.definition().uid
	// The watch may begin anew after the kind was away: whoever deletes the Tenant before that is noticed by looking again.
	return ctrl.Result{RequeueAfter: putBackInterval}, r.History.Note(ctx, key, state, notes)
}

// howToRemove says how a tenant that comes from a file is removed.
func howToRemove(t *v1alpha1.Tenant) string {
	if path := t.Annotations[v1alpha1.PathAnnotation]; path != "" {
		return "; to remove the facility, remove its file " + path + " from git"
	}
	return ""
}

// takeOffline takes down a tenant that was made by hand and whose owner deleted it. Its data stays.
func (r *TenantReconciler) takeOffline(ctx context.Context, gone *v1alpha1.Tenant) (ctrl.Result, error) {
	gone.Spec.DeletionPolicy = v1alpha1.RetainData
	gone.SetDefaults()
	// The Tenant is gone, so what happens to it is told of its ExternalArtifact.
	key, about := client.ObjectKeyFromObject(gone), &sourcev1.ExternalArtifact{}
	aboutErr := r.Get(ctx, key, about)
	if client.IgnoreNotFound(aboutErr) != nil && !apimeta.IsNoMatchError(aboutErr) {
		return ctrl.Result{}, fmt.Errorf("cannot read ExternalArtifact %s: %w", key, aboutErr)
	}
	done, waitingFor, err := r.remove(ctx, gone)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("cannot take down the tenant: %w", err)
	}
	if aboutErr == nil {
		message := fmt.Sprintf("Tenant %s was deleted by hand; its data stays; to stop this apply the Tenant again", key)
		if !done {
			message += "; waiting for " + waitingFor
		}
		recordEvent(ctx, r.EventRecorder, about, "", corev1.EventTypeWarning, "TakingOffline", message)
	}
	if !done {
		return ctrl.Result{RequeueAfter: r.DependencyRequeueInterval}, nil
	}
	r.absentSince.Delete(key)
	return ctrl.Result{}, nil
}

// staying returns the CustomResourceDefinition of Tenants while it stays, nil while there is none or it is going. That
// is remembered for a moment, as all tenants ask at once. That it stays is not: it may be going by now.
func (r *TenantReconciler) staying(ctx context.Context) (*metav1.PartialObjectMetadata, error) {
	if until, ok := r.unserved.Load().(time.Time); ok && time.Now().Before(until) {
		return nil, nil
	}
	found, err := r.metadata(ctx, crdKind, types.NamespacedName{Name: tenantDefinition})
	if err != nil || found != nil && found.DeletionTimestamp == nil {
		return found, err
	}
	r.unserved.Store(time.Now().Add(putBackInterval / 2))
	return nil, nil
}

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// metadata reads an object's metadata past the cache; nil where there is none or its kind is not served.
func (r *TenantReconciler) metadata(ctx context.Context, kind schema.GroupVersionKind, key types.NamespacedName) (*metav1.PartialObjectMetadata, error) {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(kind)
	err := r.Uncached.Get(ctx, key, o)
	if apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s %s: %w", kind.Kind, key, err)
	}
	return o, nil
}

// definedBy is the CustomResourceDefinition that Tenants are objects of.
type definedBy struct {
	uid     string
	created metav1.Time
}

func (r *TenantReconciler) definition() definedBy {
	d, _ := r.definedBy.Load().(definedBy)
	return d
}

func (r *TenantReconciler) setDefinition(definition *metav1.PartialObjectMetadata) {
	r.definedBy.Store(definedBy{string(definition.UID), definition.CreationTimestamp})
}

// learnDefinition looks, for a Tenant that is new to this process, what it is an object of.
func (r *TenantReconciler) learnDefinition(ctx context.Context, obj *v1alpha1.Tenant) error {
	key := client.ObjectKeyFromObject(obj)
	if known, ok := r.known.Load(key); ok && known == obj.UID {
		return nil
	}
	found, err := r.metadata(ctx, crdKind, types.NamespacedName{Name: tenantDefinition})
	if err != nil || found == nil {
		return err
	}
	r.setDefinition(found)
	r.known.Store(key, obj.UID)
	return nil
}

// notes returns what is noted on the state of a Tenant. One that is older than the definition, as the cache may have it, is
// no object of that one.
func (r *TenantReconciler) notes(obj *v1alpha1.Tenant, suspended bool) artifact.Notes {
	d := r.definition()
	if obj.CreationTimestamp.Before(&d.created) {
		d.uid = ""
	}
	return artifact.Notes{DefinitionUID: d.uid, Suspended: suspended}
}

// keep keeps the state of a tenant that is about to be announced as published.
func (r *TenantReconciler) keep(ctx context.Context, obj *v1alpha1.Tenant, state *artifact.State, published *meta.Artifact) error {
	return r.History.Save(ctx, client.ObjectKeyFromObject(obj), state, r.notes(obj, false),
		func() ([]byte, error) { return r.Publisher.Read(published) })
}

// tooLarge says whether a definition can never be published since its state cannot be kept.
func tooLarge(err error) bool {
	var e *artifact.TooLargeError
	return errors.As(err, &e)
}
