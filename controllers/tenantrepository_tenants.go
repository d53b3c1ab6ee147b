// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apiacl "github.com/fluxcd/pkg/apis/acl"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// concurrentWrites is how many Tenants of one repository are written at a time, within the client's
// own rate limit.
const concurrentWrites = 8

// newAtOnce is how many new Tenants of one repository are written before it is looked again what has changed: a thousand
// new ones are no reason for the others to wait.
const newAtOnce = 50

// maxNamesInMessage is how many tenants a message names before it only counts.
const maxNamesInMessage = 20

// tenantSet is the Tenants that matter to one TenantRepository.
type tenantSet struct {
	// all Tenants of the cluster: what they claim, nobody else may.
	all []v1alpha1.Tenant
	// own Tenants: those that carry this repository's label.
	own []v1alpha1.Tenant
	// byName has the Tenants of the repository's namespace that this repository may write: its own, and
	// those of a TenantRepository that is gone for which that is approved.
	byName map[string]*v1alpha1.Tenant
	// orphans has how to approve that this repository takes over a Tenant of a TenantRepository that is gone, by name.
	orphans map[string]string
}

func (r *TenantRepositoryReconciler) listTenants(ctx context.Context, obj *v1alpha1.TenantRepository) (*tenantSet, error) {
	list := &v1alpha1.TenantList{}
	if err := r.List(ctx, list); err != nil {
		return nil, fmt.Errorf("cannot list Tenants: %w", err)
	}
	repositories := &v1alpha1.TenantRepositoryList{}
	if err := r.List(ctx, repositories, client.InNamespace(obj.Namespace)); err != nil {
		return nil, fmt.Errorf("cannot list TenantRepositories: %w", err)
	}
	return newTenantSet(obj, list.Items, repositories.Items), nil
}

func newTenantSet(obj *v1alpha1.TenantRepository, tenants []v1alpha1.Tenant, repositories []v1alpha1.TenantRepository) *tenantSet {
	exists := map[string]bool{}
	for i := range repositories {
		exists[repositories[i].Name] = true
	}
	set := &tenantSet{all: tenants, byName: map[string]*v1alpha1.Tenant{}, orphans: map[string]string{}}
	for i := range tenants {
		t := &tenants[i]
		owner, labelled := t.Labels[v1alpha1.RepositoryLabel]
		if t.Namespace != obj.Namespace || !labelled {
			continue
		}
		switch {
		case owner == obj.Name:
			set.own = append(set.own, *t)
			set.byName[t.Name] = t
		case exists[owner]:
		case t.Annotations[v1alpha1.ApproveAdoptionAnnotation] == takeOverApproval(obj, t):
			set.byName[t.Name] = t
		default:
			set.orphans[t.Name] = fmt.Sprintf("kubectl -n %s annotate --overwrite tenants.%s %s %s=%s",
				t.Namespace, v1alpha1.GroupVersion.Group, t.Name, v1alpha1.ApproveAdoptionAnnotation, takeOverApproval(obj, t))
		}
	}
	return set
}

// takeOverApproval is the annotation value that approves, on a Tenant, that a TenantRepository takes it over from one that
// is gone: a file of its name may be another facility's.
func takeOverApproval(obj *v1alpha1.TenantRepository, t *v1alpha1.Tenant) string {
	uid := string(t.UID)
	return obj.Name + "/" + uid[:min(8, len(uid))]
}

// taken returns the names of the Tenants that this repository may take over, sorted.
func (s *tenantSet) taken(obj *v1alpha1.TenantRepository) []string {
	var names []string
	for name, t := range s.byName {
		if t.Labels[v1alpha1.RepositoryLabel] != obj.Name {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// held returns all Tenants as the definitions are judged against them: those that this repository may
// take over count as its own.
func (s *tenantSet) held(obj *v1alpha1.TenantRepository) []v1alpha1.Tenant {
	held := slices.Clone(s.all)
	for i := range held {
		t := &held[i]
		if t.Namespace != obj.Namespace || s.byName[t.Name] == nil || t.Labels[v1alpha1.RepositoryLabel] == obj.Name {
			continue
		}
		t.Labels = maps.Clone(t.Labels)
		t.Labels[v1alpha1.RepositoryLabel] = obj.Name
	}
	return held
}

// after returns the repository's own tenants as they are after some were written and others removed.
func (s *tenantSet) after(written []*v1alpha1.Tenant, removed []string) []v1alpha1.Tenant {
	now := map[string]v1alpha1.Tenant{}
	for _, t := range s.own {
		now[t.Name] = t
	}
	for _, t := range written {
		now[t.Name] = *t
	}
	for _, name := range removed {
		delete(now, name)
	}
	return slices.Collect(maps.Values(now))
}

// outcome is what came of writing Tenants.
type outcome struct {
	// tenants as the apiserver has them now.
	tenants []*v1alpha1.Tenant
	// problems are Tenants that the apiserver refuses.
	problems []v1alpha1.Problem
	// stale says that some were not written since the cache was behind.
	stale bool
	// waiting counts the new Tenants whose turn has not come.
	waiting int
}

// write is a Tenant that differs from its definition; live is nil where it is new.
type write struct {
	definition    tenant.Definition
	live, desired *v1alpha1.Tenant
}

// due returns the Tenants to write: all that changed, and after them some of those that are new. It counts the rest. What
// was just created and is not in the cache yet is neither, nor is what the apiserver has refused since the source was read:
// it has its turn again at the next look.
func due(obj *v1alpha1.TenantRepository, read *reading, tenants *tenantSet, now time.Time) (writes []write, waiting int) {
	var created []write
	for _, definition := range read.result.Definitions {
		live := tenants.byName[definition.Tenant.Name]
		desired := desiredTenant(obj, definition, live, read.revision)
		switch {
		case live == nil && now.Sub(read.created[definition.Tenant.Name]) < summaryDelay:
		case live == nil && read.refused[definition.Tenant.Name] != nil:
		case live == nil:
			created = append(created, write{definition, nil, desired})
		case live.DeletionTimestamp.IsZero() && !upToDate(live, desired):
			writes = append(writes, write{definition, live, desired})
		}
	}
	first := min(len(created), newAtOnce)
	return append(writes, created[:first]...), len(created) - first
}

// applyTenants writes the Tenants that differ from their definitions and whose turn it is, each for itself. The error is
// for what no definition can help, such as an unreachable apiserver.
func (r *TenantRepositoryReconciler) applyTenants(ctx context.Context, obj *v1alpha1.TenantRepository, read *reading, tenants *tenantSet) (outcome, error) {
	var (
		mu    sync.Mutex
		group errgroup.Group
		out   outcome
		errs  []error
	)
	group.SetLimit(concurrentWrites)
	writes, waiting := due(obj, read, tenants, time.Now())
	out.waiting = waiting
	for _, w := range writes {
		definition, desired := w.definition, w.desired
		group.Go(func() error {
			foreign, unkept := r.keepRevision(ctx, obj, w)
			var err error
			if unkept == nil && foreign == "" {
				err = r.writeTenant(ctx, w.live, desired)
			}
			mu.Lock()
			defer mu.Unlock()
			refuse := func(reason string) {
				problem := refusedBy(definition, reason, err)
				if w.live == nil {
					read.refused[desired.Name] = &problem
				} else {
					out.problems = append(out.problems, problem)
				}
			}
			switch {
			case unkept != nil:
				errs = append(errs, unkept)
			case foreign != "":
				read.refused[desired.Name] = &v1alpha1.Problem{File: location(definition), Tenant: desired.Name, Field: "metadata.name",
					Reason: v1alpha1.ConflictReason, Message: foreign}
			case err == nil:
				out.tenants = append(out.tenants, desired)
				if w.live == nil {
					read.created[desired.Name] = time.Now()
				}
			case apierrors.IsConflict(err), apierrors.IsNotFound(err):
				out.stale = true
			case apierrors.IsAlreadyExists(err):
				// The cache is behind, or somebody else has made a Tenant of that name: judge anew.
				r.readings.Delete(client.ObjectKeyFromObject(obj))
				out.stale = true
			case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
				refuse(v1alpha1.InvalidDefinitionReason)
			case apierrors.IsForbidden(err):
				refuse(apiacl.AccessDeniedReason)
			default:
				errs = append(errs, fmt.Errorf("cannot write Tenant %s/%s: %w", desired.Namespace, desired.Name, err))
			}
			return nil
		})
	}
	errs = append(errs, group.Wait())
	for _, name := range slices.Sorted(maps.Keys(read.refused)) {
		if tenants.byName[name] == nil {
			out.problems = append(out.problems, *read.refused[name])
		}
	}
	if len(out.tenants) > 0 {
		var changed []string
		for _, t := range out.tenants {
			changed = append(changed, t.Name)
		}
		slices.Sort(changed)
		recordEvent(ctx, r.EventRecorder, obj, read.revision, corev1.EventTypeNormal, "TenantsChanged",
			fmt.Sprintf("revision %s changed %s", read.revision, nameSome(changed)))
	}
	return out, errors.Join(errs...)
}

func refusedBy(definition tenant.Definition, reason string, err error) v1alpha1.Problem {
	return tenant.Bounded(v1alpha1.Problem{
		File:    location(definition),
		Tenant:  definition.Tenant.Name,
		Reason:  reason,
		Message: "the apiserver refused it: " + err.Error(),
	})
}

// desiredTenant is the Tenant to write for a definition. Its revision stays the one that last changed
// the definition.
func desiredTenant(obj *v1alpha1.TenantRepository, definition tenant.Definition, live *v1alpha1.Tenant, revision string) *v1alpha1.Tenant {
	desired := &v1alpha1.Tenant{}
	if live != nil {
		desired = live.DeepCopy()
	}
	desired.Namespace, desired.Name = obj.Namespace, definition.Tenant.Name
	definition.Tenant.Spec.DeepCopyInto(&desired.Spec)

	desired.Labels = maps.Clone(definition.Tenant.Labels)
	if desired.Labels == nil {
		desired.Labels = map[string]string{}
	}
	desired.Labels[v1alpha1.RepositoryLabel] = obj.Name
	if shard, ok := obj.Labels[v1alpha1.ShardingLabel]; ok {
		desired.Labels[v1alpha1.ShardingLabel] = shard
	}

	digest := definitionDigest(definition.Tenant)
	if live != nil && live.Annotations[v1alpha1.DigestAnnotation] == digest && live.Annotations[v1alpha1.RevisionAnnotation] != "" {
		revision = live.Annotations[v1alpha1.RevisionAnnotation]
	}
	if desired.Annotations == nil {
		desired.Annotations = map[string]string{}
	}
	if live != nil && live.Labels[v1alpha1.RepositoryLabel] != obj.Name {
		delete(desired.Annotations, v1alpha1.ApproveAdoptionAnnotation) // used by taking it over
	}
	maps.Copy(desired.Annotations, definition.Tenant.Annotations)
	desired.Annotations[v1alpha1.DigestAnnotation] = digest
	desired.Annotations[v1alpha1.RevisionAnnotation] = revision
	desired.Annotations[v1alpha1.PathAnnotation] = definition.File
	if definition.ClassFile == "" {
		delete(desired.Annotations, v1alpha1.ClassPathAnnotation)
	} else {
		desired.Annotations[v1alpha1.ClassPathAnnotation] = definition.ClassFile
	}
	// What is defined is not to be removed, though it was to be before.
	unmark(desired)
	return desired
}

// unmark takes the mark of removal off a Tenant.
func unmark(t *v1alpha1.Tenant) {
	delete(t.Annotations, v1alpha1.RemoveAnnotation)
	controllerutil.RemoveFinalizer(t, v1alpha1.Finalizer)
}

func upToDate(live, desired *v1alpha1.Tenant) bool {
	return equality.Semantic.DeepEqual(live.Spec, desired.Spec) &&
		maps.Equal(live.Labels, desired.Labels) &&
		maps.Equal(live.Annotations, desired.Annotations)
}

// writeTenant replaces the whole spec: a Tenant that comes from a repository has no field of anybody else's.
func (r *TenantRepositoryReconciler) writeTenant(ctx context.Context, live, desired *v1alpha1.Tenant) error {
	if live == nil {
		return r.Create(ctx, desired, client.FieldOwner(v1alpha1.FieldManager))
	}
	return r.Update(ctx, desired, client.FieldOwner(v1alpha1.FieldManager))
}

// keepRevision gives a Tenant that was deleted by accident the revision that it had, where its definition is still the one
// that was published: so it makes no difference who puts it back. A tenant that was published for somebody else is not
// this repository's to make, as little as while its Tenant is there: foreign says so.
func (r *TenantRepositoryReconciler) keepRevision(ctx context.Context, obj *v1alpha1.TenantRepository, w write) (foreign string, _ error) {
	if w.live != nil {
		return "", nil
	}
	key := client.ObjectKeyFromObject(w.desired)
	if err := r.History.Load(ctx); err != nil {
		return "", err
	}
	if !r.History.Has(key) {
		return "", nil
	}
	state, _, err := r.History.Last(ctx, key, "")
	if err != nil {
		return "", fmt.Errorf("cannot learn what was last published of Tenant %s: %w", key, err)
	}
	if state == nil {
		return "", nil
	}
	if owner := state.Labels[v1alpha1.RepositoryLabel]; owner != obj.Name {
		whose := "made by hand"
		if owner != "" {
			whose = "published from TenantRepository " + owner
		}
		return fmt.Sprintf("tenant %s was %s, and its Tenant is away at the moment: it is judged again at the next look at the source", w.desired.Name, whose), nil
	}
	revision := state.Annotations[v1alpha1.RevisionAnnotation]
	if revision != "" && state.Annotations[v1alpha1.DigestAnnotation] == w.desired.Annotations[v1alpha1.DigestAnnotation] {
		w.desired.Annotations[v1alpha1.RevisionAnnotation] = revision
	}
	return "", nil
}

// definitionDigest identifies the content of a definition, wherever its file is.
func definitionDigest(t *v1alpha1.Tenant) string {
	content, err := json.Marshal(struct {
		Labels, Annotations map[string]string
		Spec                v1alpha1.TenantSpec
	}{t.Labels, t.Annotations, t.Spec})
	if err != nil {
		// The spec came out of JSON, so it goes back into it.
		panic(err)
	}
	return digest.FromBytes(content).String()
}

func location(definition tenant.Definition) string {
	return fmt.Sprintf("%s:%d", definition.File, definition.Line)
}

// nameSome counts tenants and names the first of them.
func nameSome(names []string) string { return count(names) + " (" + firstOf(names) + ")" }

func count(names []string) string {
	if len(names) == 1 {
		return "1 tenant"
	}
	return fmt.Sprintf("%d tenants", len(names))
}

func firstOf(names []string) string {
	list := strings.Join(names[:min(len(names), maxNamesInMessage)], ", ")
	if len(names) > maxNamesInMessage {
		list += ", …"
	}
	return list
}
