// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	runtimeCtrl "github.com/fluxcd/pkg/runtime/controller"
	"github.com/fluxcd/pkg/runtime/jitter"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	kerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/source"
	"github.com/digihunch/korthweb/internal/tenant"
)

// TenantRepositoryReconciler takes over revisions of tenant definitions: it reads a source, resolves
// its files and writes the Tenants that changed.
type TenantRepositoryReconciler struct {
	client.Client
	record.EventRecorder
	runtimeCtrl.Metrics

	// Selector chooses the TenantRepositories of this instance, by label; all of them where nil.
	Selector labels.Selector

	// History has the last good state of each tenant.
	History *artifact.History

	// InsecureAllowHTTP lets spec.git.url be a plain http URL.
	InsecureAllowHTTP bool

	// PlatformNamespaces are namespaces of the platform beside those that Korthweb knows. They are no tenant's.
	PlatformNamespaces []string

	// readings holds what was last read for each TenantRepository, by namespace and name, so that a
	// wake-up by a Tenant reads no source.
	readings sync.Map
}

// reading is one look at a source: the revision that was read, or why none could be.
type reading struct {
	revision string
	result   *tenant.Result
	err      error

	// created says when Tenants were created from it, which the cache may not know yet.
	created map[string]time.Time
	// refused are the Tenants that the apiserver would not create from it.
	refused map[string]*v1alpha1.Problem

	// What the look was for, and until when another is not due.
	uid         types.UID
	generation  int64
	requestedAt string
	taken       []string // Tenants that were to be had from TenantRepositories that are gone
	nextRead    time.Time
}

// defines says whether the revision defines a tenant of that name, and acceptably so.
func (r *reading) defines(name string) bool {
	return slices.ContainsFunc(r.result.Definitions, func(d tenant.Definition) bool { return d.Tenant.Name == name })
}

// +kubebuilder:rbac:groups=korthweb.digihunch.com,resources=tenantrepositories,verbs=get;list;watch
// +kubebuilder:rbac:groups=korthweb.digihunch.com,resources=tenantrepositories/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=korthweb.digihunch.com,resources=tenants,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=source.toolkit.fluxcd.io,resources=gitrepositories;ocirepositories;buckets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=secrets,namespace=flux-system,verbs=get

// Reconcile takes over the source's newest revision and reports on its tenants.
func (r *TenantRepositoryReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, retErr error) {
	start := time.Now()

	obj := &v1alpha1.TenantRepository{}
	if err := r.Get(ctx, req.NamespacedName, obj); err != nil {
		if apierrors.IsNotFound(err) {
			r.readings.Delete(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !obj.DeletionTimestamp.IsZero() || r.Selector != nil && !r.Selector.Matches(labels.Set(obj.Labels)) {
		return ctrl.Result{}, nil
	}
	if obj.Spec.Suspend {
		ctrl.LoggerFrom(ctx).Info("Reconciliation is suspended for this object")
		return ctrl.Result{}, nil
	}

	before := obj.DeepCopy()
	defer func() {
		if err := patchStatus(ctx, r.Client, before, obj); err != nil {
			result, retErr = ctrl.Result{}, kerrors.NewAggregate([]error{retErr, err})
		}
		r.RecordDuration(ctx, obj, start)
		// The counts in the message change with every tenant; what is news is what they come to.
		news := before.Status.LastAttemptedRevision != obj.Status.LastAttemptedRevision ||
			!equality.Semantic.DeepEqual(before.Status.Problems, obj.Status.Problems)
		eventOnChange(ctx, r.EventRecorder, before, obj, obj.Status.LastAttemptedRevision, news)
	}()

	return r.reconcile(ctx, obj)
}

func (r *TenantRepositoryReconciler) reconcile(ctx context.Context, obj *v1alpha1.TenantRepository) (ctrl.Result, error) {
	start := time.Now()

	tenants, err := r.listTenants(ctx, obj)
	if err != nil {
		markFailed(obj, meta.ReconciliationFailedReason, err)
		return ctrl.Result{}, err
	}
	rules, errs := tenant.NewRules(&obj.Spec)
	errs = append(errs, tenant.CheckCommonMetadata(obj.Spec.CommonMetadata, field.NewPath("spec", "commonMetadata"))...)
	if len(errs) > 0 {
		text := tenant.Describe(errs) + "; nothing is read"
		if n := len(tenants.own); n == 1 {
			text += ", its 1 tenant goes on as it is"
		} else if n > 1 {
			text += fmt.Sprintf(", its %d tenants go on as they are", n)
		}
		markStalled(obj, v1alpha1.InvalidDefinitionReason, errors.New(text))
		return ctrl.Result{}, nil
	}

	// Read the definitions. Whatever is wrong with the source, the tenants stay as they are.
	read, err := r.read(ctx, obj, rules, tenants)
	if err != nil {
		r.reportSourceFailure(obj, tenants.own, err)
		return ctrl.Result{RequeueAfter: max(obj.GetRetryInterval(), time.Second)}, nil
	}
	obj.Status.LastAttemptedRevision = read.revision

	// Write the tenants that changed, each for itself.
	written, err := r.applyTenants(ctx, obj, read, tenants)
	if err != nil {
		markFailed(obj, meta.ReconciliationFailedReason, err)
		return ctrl.Result{}, err
	}

	// Remove the tenants that are gone from the definitions, as far as that is allowed.
	removal, err := r.removeTenants(ctx, obj, read, tenants.own)
	if err != nil {
		markFailed(obj, meta.PruneFailedReason, err)
		return ctrl.Result{}, err
	}

	// Report on the tenants as they are now, which the cache may not know yet: to each of them, and in sum.
	now := tenants.after(written.tenants, removal.removed)
	if err := r.markAccepted(ctx, read, now, written.problems); err != nil {
		markFailed(obj, meta.ReconciliationFailedReason, err)
		return ctrl.Result{}, err
	}
	r.report(obj, read, now, written, removal, time.Since(start))
	if written.waiting > 0 {
		return ctrl.Result{RequeueAfter: nextBatchDelay}, nil
	}
	if written.stale || removal.stale {
		return ctrl.Result{RequeueAfter: summaryDelay}, nil
	}
	return ctrl.Result{RequeueAfter: max(time.Until(read.nextRead), time.Second)}, nil
}

// read returns the definitions of the source's newest revision. Until the next look is due, it returns
// what the last one brought, so that a wake-up by a tenant costs the git server nothing, a refused
// login included.
func (r *TenantRepositoryReconciler) read(ctx context.Context, obj *v1alpha1.TenantRepository, rules *tenant.Rules, tenants *tenantSet) (*reading, error) {
	key := client.ObjectKeyFromObject(obj)
	requestedAt, _ := meta.ReconcileAnnotationValue(obj.GetAnnotations())
	last := r.lastReading(obj)
	taken := tenants.taken(obj)
	// What it may take over by now was a conflict when it was read.
	judged := func(name string) bool { return last != nil && slices.Contains(last.taken, name) }
	recent := last != nil && last.requestedAt == requestedAt && time.Now().Before(last.nextRead) &&
		!slices.ContainsFunc(taken, func(name string) bool { return !judged(name) })
	if recent && obj.Spec.Git != nil {
		return last, last.err
	}
	lastRevision := ""
	// A conflict is judged against the tenants of other repositories, which may be gone since.
	if last != nil && last.err == nil && (recent || !hasConflict(last.result.Problems)) {
		lastRevision = last.revision
	}

	next := &reading{created: map[string]time.Time{}, refused: map[string]*v1alpha1.Problem{},
		uid: obj.UID, generation: obj.Generation, requestedAt: requestedAt, taken: taken}
	next.revision, next.result, next.err = r.load(ctx, obj, rules, lastRevision, tenants)
	next.nextRead = time.Now().Add(jitter.JitteredIntervalDuration(obj.Spec.Interval.Duration))
	switch {
	case errors.Is(next.err, source.ErrUnchanged) && recent:
		return last, nil
	case errors.Is(next.err, source.ErrUnchanged):
		next.revision, next.result, next.err = last.revision, last.result, nil
	case next.err != nil:
		next.nextRead = time.Now().Add(obj.GetRetryInterval())
	}
	r.readings.Store(key, next)
	return next, next.err
}

// load fetches the source's newest revision and resolves its definitions; source.ErrUnchanged says that
// it is lastRevision.
func (r *TenantRepositoryReconciler) load(ctx context.Context, obj *v1alpha1.TenantRepository, rules *tenant.Rules, lastRevision string, tenants *tenantSet) (string, *tenant.Result, error) {
	snapshot, err := r.fetch(ctx, obj, lastRevision)
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err := snapshot.Close(); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot remove a snapshot of the source")
		}
	}()
	result, err := tenant.Load(snapshot.FS, tenant.Options{
		Path:           obj.Spec.Path,
		ClassPath:      obj.Spec.ClassPath,
		Rules:          rules,
		Namespace:      obj.Namespace,
		Repository:     obj.Name,
		DependsOn:      obj.Spec.DependsOn,
		CommonMetadata: obj.Spec.CommonMetadata,
		Held:           tenants.held(obj),
		Orphans:        tenants.orphans,

		PlatformNamespaces: r.PlatformNamespaces,
	})
	if err != nil {
		return "", nil, &source.Error{Reason: v1alpha1.PathNotFoundReason, Err: fmt.Errorf("revision %s: %w", snapshot.Revision, err)}
	}
	if len(result.Definitions) == 0 && len(result.Problems) == 0 {
		return "", nil, &source.Error{Reason: v1alpha1.PathNotFoundReason, Err: fmt.Errorf(
			"revision %s: no tenant is defined under %s; nothing was removed", snapshot.Revision, obj.Spec.Path)}
	}
	return snapshot.Revision, result, nil
}

// fetch returns the source's newest revision, or source.ErrUnchanged when that is lastRevision.
func (r *TenantRepositoryReconciler) fetch(ctx context.Context, obj *v1alpha1.TenantRepository, lastRevision string) (*source.Snapshot, error) {
	if obj.Spec.SourceRef != nil {
		return r.fetchFromSource(ctx, obj, lastRevision)
	}
	git := obj.Spec.Git
	secret := map[string][]byte(nil)
	if git.SecretRef != nil {
		s := &corev1.Secret{}
		key := types.NamespacedName{Namespace: obj.Namespace, Name: git.SecretRef.Name}
		if err := r.Get(ctx, key, s); err != nil {
			return nil, &source.Error{Reason: sourcev1.AuthenticationFailedReason, Err: fmt.Errorf("cannot read Secret %s of spec.git.secretRef: %w", key, err)}
		}
		secret = s.Data
	}
	return (&source.Git{URL: git.URL, Ref: git.Reference, Secret: secret, AllowHTTP: r.InsecureAllowHTTP,
		Limits: source.Limits{Timeout: obj.GetTimeout()}}).Fetch(ctx, lastRevision)
}

// fetchFromSource returns the artifact of a Flux source.
func (r *TenantRepositoryReconciler) fetchFromSource(ctx context.Context, obj *v1alpha1.TenantRepository, lastRevision string) (*source.Snapshot, error) {
	ref := obj.Spec.SourceRef
	src, err := newSource(ref.Kind)
	if err != nil {
		return nil, &source.Error{Reason: v1alpha1.InvalidDefinitionReason, Terminal: true, Err: err}
	}
	key := types.NamespacedName{Namespace: obj.Namespace, Name: ref.Name}
	if err := r.Get(ctx, key, src); err != nil {
		if apimeta.IsNoMatchError(err) {
			kind := sourcev1.GroupVersion.String() + " " + ref.Kind
			return nil, &source.Error{Reason: v1alpha1.FluxNotInstalledReason, Err: &emit.FluxNotInstalledError{Kind: kind, Err: err}}
		}
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("%s %s of spec.sourceRef does not exist", ref.Kind, key)
		}
		return nil, &source.Error{Reason: meta.ArtifactFailedReason, Err: err}
	}
	artifact := src.GetArtifact()
	if artifact == nil {
		return nil, &source.Error{Reason: meta.ArtifactFailedReason, Err: fmt.Errorf("%s %s of spec.sourceRef has no artifact yet", ref.Kind, key)}
	}
	if artifact.Revision == lastRevision {
		return nil, source.ErrUnchanged
	}
	return source.FetchArtifact(ctx, artifact, source.Limits{Timeout: obj.GetTimeout()})
}

// lastReading returns what was last read for this very spec, or nil.
func (r *TenantRepositoryReconciler) lastReading(obj *v1alpha1.TenantRepository) *reading {
	v, ok := r.readings.Load(client.ObjectKeyFromObject(obj))
	if !ok {
		return nil
	}
	last := v.(*reading)
	if last.uid != obj.UID || last.generation != obj.Generation {
		return nil
	}
	return last
}

func hasConflict(problems []v1alpha1.Problem) bool {
	return slices.ContainsFunc(problems, func(p v1alpha1.Problem) bool {
		return p.Reason == v1alpha1.ConflictReason
	})
}
