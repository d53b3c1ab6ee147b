// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apiacl "github.com/fluxcd/pkg/apis/acl"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	runtimeCtrl "github.com/fluxcd/pkg/runtime/controller"
	"github.com/fluxcd/pkg/runtime/jitter"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	kerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/internal/tenant"
)

// resyncInterval is how often a Tenant is looked at though nothing woke it: it is what brings back an
// artifact whose file was removed, or credentials that were. It costs one rendering, in the order of a
// millisecond, and one read of metadata.
const resyncInterval = time.Minute

// TenantReconciler turns a Tenant into a published bundle and the objects that apply it, and reports
// what becomes of them.
type TenantReconciler struct {
	client.Client
	record.EventRecorder
	runtimeCtrl.Metrics

	// Renderer, Publisher, History and Applier are the steps of the job.
	Renderer  *render.Renderer
	Publisher *artifact.Publisher
	History   *artifact.History
	Applier   *emit.Applier

	// Uncached reads past the cache, before anything is concluded from a Tenant's absence.
	Uncached client.Reader

	// Namespace of the Tenants of this instance; empty for all.
	Namespace string

	// Selector chooses the Tenants of this instance, by label; all of them where nil.
	Selector labels.Selector

	// DependencyRequeueInterval is how soon a Tenant that is not there yet is looked at again.
	DependencyRequeueInterval time.Duration

	// NoCrossNamespaceRefs refuses dependsOn across namespaces, as Flux's controllers do under
	// --no-cross-namespace-refs.
	NoCrossNamespaceRefs bool

	// PlatformNamespaces are namespaces of the platform beside those that Korthweb knows. They are no tenant's.
	PlatformNamespaces []string

	sweeping sync.Mutex
	swept    bool

	// definedBy is the CustomResourceDefinition of Tenants as it was last looked at, a definedBy.
	definedBy atomic.Value
	// known are the UIDs of the Tenants that were seen since, absentSince when one was first found to be gone, by name.
	known, absentSince sync.Map
	// grace is how long a Tenant made by hand may be away; absentGrace where it is 0.
	grace time.Duration
	// unserved is until when it is known that there is none, as a time.Time.
	unserved atomic.Value
}

// +kubebuilder:rbac:groups=korthweb.digihunch.com,resources=tenants/status,verbs=get;update;patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",resources=secrets,resourceNames=orthanc-users;postgres-credentials,verbs=get
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,resourceNames=korthweb-kustomize-applier;korthweb-helm-applier;korthweb-secret-reader,verbs=bind
// +kubebuilder:rbac:groups=source.toolkit.fluxcd.io,resources=externalartifacts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=source.toolkit.fluxcd.io,resources=externalartifacts/status,verbs=get;patch
// +kubebuilder:rbac:groups=kustomize.toolkit.fluxcd.io,resources=kustomizations,verbs=get;list;watch;create;patch;delete

// Reconcile publishes and emits one Tenant and reports its health.
func (r *TenantReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, retErr error) {
	start := time.Now()

	if err := r.sweepOnce(ctx); err != nil {
		return ctrl.Result{}, fmt.Errorf("cannot begin with what is there: %w", err)
	}

	obj := &v1alpha1.Tenant{}
	if err := r.Get(ctx, req.NamespacedName, obj); err != nil {
		if apierrors.IsNotFound(err) {
			return r.absent(ctx, req.NamespacedName)
		}
		return ctrl.Result{}, err
	}
	if r.Selector != nil && !r.Selector.Matches(labels.Set(obj.Labels)) {
		r.History.Forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}

	// Only a Tenant that is marked for removal has the finalizer: without the mark nothing is taken down.
	if obj.Annotations[v1alpha1.RemoveAnnotation] == "" {
		if controllerutil.ContainsFinalizer(obj, v1alpha1.Finalizer) {
			return ctrl.Result{}, r.dropFinalizer(ctx, obj)
		}
		if !obj.DeletionTimestamp.IsZero() {
			return ctrl.Result{}, nil
		}
	}

	before := obj.DeepCopy()
	defer func() {
		markError(obj, retErr)
		if err := patchStatus(ctx, r.Client, before, obj); err != nil {
			result, retErr = ctrl.Result{}, kerrors.NewAggregate([]error{retErr, err})
		}
		r.RecordDuration(ctx, obj, start)
		news := conditions.GetMessage(before, meta.ReadyCondition) != conditions.GetMessage(obj, meta.ReadyCondition)
		eventOnChange(ctx, r.EventRecorder, before, obj, obj.Status.LastAttemptedRevision, news)
	}()

	r.absentSince.Delete(req.NamespacedName)
	if err := r.learnDefinition(ctx, obj); err != nil {
		return ctrl.Result{}, err
	}
	if !obj.DeletionTimestamp.IsZero() {
		return r.finalize(ctx, obj)
	}
	return r.reconcile(ctx, obj)
}

// failure is an error with the reason for its condition.
type failure struct {
	reason string
	err    error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// told is the reason of a failure that conditions tell of already.
const told = ""

func failed(reason string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{reason, err}
}

// markError says in obj's conditions why it is tried again.
func markError(obj *v1alpha1.Tenant, err error) {
	if err == nil {
		return
	}
	reason := meta.FailedReason
	if f := new(failure); errors.As(err, &f) {
		reason = f.reason
	}
	if reason != told {
		markFailed(obj, reason, err)
	}
}

func (r *TenantReconciler) reconcile(ctx context.Context, obj *v1alpha1.Tenant) (ctrl.Result, error) {
	start := time.Now()
	resolved := obj.DeepCopy()
	resolved.SetDefaults()

	// Suspended, Flux is told to change nothing, and bundle and status stay what they are.
	if obj.Spec.Suspend {
		return r.suspend(ctx, obj, resolved)
	}

	// Refuse what no retry can mend.
	if err := r.validate(resolved); err != nil {
		return r.refuse(ctx, obj, err.reason, err)
	}
	if conflict, err := r.conflict(ctx, resolved); err != nil {
		return ctrl.Result{}, err
	} else if conflict != "" {
		if _, err := r.refuse(ctx, obj, v1alpha1.ConflictReason, errors.New(conflict)); err != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{RequeueAfter: r.DependencyRequeueInterval}, nil
	}
	bundle, err := r.Renderer.Render(resolved)
	if err != nil {
		reason := v1alpha1.RenderFailedReason
		if e := new(render.Error); errors.As(err, &e) {
			reason = v1alpha1.InvalidDefinitionReason
		}
		return r.refuse(ctx, obj, reason, err)
	}

	// Publish the bundle, then hand it to Flux.
	files, err := bundle.Files()
	if err != nil {
		return r.refuse(ctx, obj, v1alpha1.RenderFailedReason, err)
	}
	if resolved.Status.Artifact, err = r.announced(ctx, obj); err != nil {
		return ctrl.Result{}, err
	}
	if resolved.Status.Artifact != nil {
		if err := r.History.Meet(ctx, client.ObjectKeyFromObject(obj)); err != nil {
			return ctrl.Result{}, err
		}
	}
	published, err := r.Publisher.Publish(ctx, resolved, archiveFiles(files), obj.Annotations[v1alpha1.RevisionAnnotation])
	if err != nil {
		return ctrl.Result{}, failed(v1alpha1.PublishFailedReason, err)
	}
	state := artifact.NewState(obj, published)
	if err := r.keep(ctx, obj, state, published); tooLarge(err) {
		return r.refuse(ctx, obj, v1alpha1.PublishFailedReason, err)
	} else if err != nil {
		return ctrl.Result{}, failed(v1alpha1.PublishFailedReason, err)
	}
	emitted, err := r.Applier.Apply(ctx, resolved, published)
	if err != nil {
		return r.emitFailed(ctx, obj, state, resolved.Status.Artifact, err)
	}
	if err := r.History.Prune(ctx, client.ObjectKeyFromObject(obj), state, published.Digest); err != nil {
		return ctrl.Result{}, failed(v1alpha1.PublishFailedReason, err)
	}
	if obj.Status.LastAttemptedRevision != published.Revision {
		recordEvent(ctx, r.EventRecorder, obj, published.Revision, corev1.EventTypeNormal, "Published",
			"published revision "+published.Revision)
	}
	obj.Status.Artifact = published
	obj.Status.LastAttemptedRevision = published.Revision
	obj.Status.Inventory = emitted.Inventory
	obj.Status.URLs = urls(resolved)

	// Report what Flux makes of it.
	ready, err := r.assess(ctx, obj, time.Since(start))
	if err != nil {
		return ctrl.Result{}, err
	}
	if !ready {
		return ctrl.Result{RequeueAfter: r.DependencyRequeueInterval}, nil
	}
	return ctrl.Result{RequeueAfter: jitter.JitteredIntervalDuration(resyncInterval)}, nil
}

// refusal is why a definition may not be published, with the reason for its condition.
type refusal struct {
	reason  string
	message string
}

func (r *refusal) Error() string { return r.message }

// validate refuses what the apiserver's schema cannot: a Tenant may be made by hand.
func (r *TenantReconciler) validate(resolved *v1alpha1.Tenant) *refusal {
	if errs := tenant.CheckSpec(resolved, r.PlatformNamespaces...); len(errs) > 0 {
		return &refusal{v1alpha1.InvalidDefinitionReason, tenant.Describe(errs)}
	}
	if !r.NoCrossNamespaceRefs {
		return nil
	}
	for i, d := range resolved.Spec.DependsOn {
		if d.Namespace != "" && d.Namespace != resolved.Namespace {
			return &refusal{apiacl.AccessDeniedReason, fmt.Sprintf(
				"spec.dependsOn[%d]: Kustomization %s/%s is in another namespace, which --no-cross-namespace-refs forbids", i, d.Namespace, d.Name)}
		}
	}
	return nil
}

// emitFailed says why the emitted objects could not be written and when that is tried again.
// Flux may have been told of an earlier bundle only: what is announced is kept where Flux fetches it from.
func (r *TenantReconciler) emitFailed(ctx context.Context, obj *v1alpha1.Tenant, state *artifact.State, announced *meta.Artifact, err error) (ctrl.Result, error) {
	if announced != nil && announced.Digest != state.Artifact.Digest {
		_, _, _, restoreErr := r.restoreArchive(ctx, obj)
		pruneErr := r.History.Prune(ctx, client.ObjectKeyFromObject(obj), state, announced.Digest)
		if keepErr := errors.Join(restoreErr, pruneErr); keepErr != nil {
			return ctrl.Result{}, failed(emit.Reason(err), errors.Join(err, keepErr))
		}
	}
	return r.retry(obj, emit.Reason(err), err)
}

// retry says that obj is tried again: soon where what stands in the way is known, and is another's to clear.
func (r *TenantReconciler) retry(obj *v1alpha1.Tenant, reason string, err error) (ctrl.Result, error) {
	if reason == v1alpha1.EmitFailedReason {
		return ctrl.Result{}, failed(reason, err)
	}
	markFailed(obj, reason, err)
	return ctrl.Result{RequeueAfter: r.DependencyRequeueInterval}, nil
}

func archiveFiles(files []render.File) []artifact.File {
	archived := make([]artifact.File, len(files))
	for i, f := range files {
		archived[i] = artifact.File(f)
	}
	return archived
}

// urls returns the addresses that the facility is reached at.
func urls(resolved *v1alpha1.Tenant) []string {
	ingress := resolved.Spec.Ingress
	return []string{
		"https://" + string(ingress.Web.Host),
		fmt.Sprintf("dicom+tls://%s:%d", ingress.DICOM.Host, ingress.DICOM.Port),
	}
}
