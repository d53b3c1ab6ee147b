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

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// concurrentWrites is how many Tenants of one repository are written at a time, within the client's
// own rate limit.
const concurrentWrites = 8

// maxNamesInMessage is how many tenants a message names before it only counts.
const maxNamesInMessage = 20

// tenantSet is the Tenants that matter to one TenantRepository.
type tenantSet struct {
	// all Tenants of the cluster: what they claim, nobody else may.
	all []v1alpha1.Tenant
	// own Tenants: those that carry this repository's label.
	own []v1alpha1.Tenant
	// byName has the Tenants of the repository's namespace that this repository may write: its own, and
	// those of a TenantRepository that is gone.
	byName map[string]*v1alpha1.Tenant
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
	set := &tenantSet{all: tenants, byName: map[string]*v1alpha1.Tenant{}}
	for i := range tenants {
		t := &tenants[i]
		owner, labelled := t.Labels[v1alpha1.RepositoryLabel]
		if t.Namespace != obj.Namespace || !labelled {
			continue
		}
		if owner == obj.Name {
			set.own = append(set.own, *t)
		}
		if owner == obj.Name || !exists[owner] {
			set.byName[t.Name] = t
		}
	}
	return set
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

// applyTenants writes the Tenants that differ from their definitions. A Tenant that cannot be written
// is a problem of its own; the error is for what concerns them all, such as an unreachable apiserver.
func (r *TenantRepositoryReconciler) applyTenants(ctx context.Context, obj *v1alpha1.TenantRepository, read *reading, tenants *tenantSet) ([]v1alpha1.Problem, error) {
	var (
		mu       sync.Mutex
		group    errgroup.Group
		problems []v1alpha1.Problem
		changed  []string
		errs     []error
	)
	group.SetLimit(concurrentWrites)
	for _, definition := range read.result.Definitions {
		live := tenants.byName[definition.Tenant.Name]
		desired := desiredTenant(obj, definition, live, read.revision)
		if live != nil && (!live.DeletionTimestamp.IsZero() || upToDate(live, desired)) {
			continue
		}
		group.Go(func() error {
			err := r.writeTenant(ctx, live, desired)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				changed = append(changed, desired.Name)
			case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
				problems = append(problems, v1alpha1.Problem{
					File:    location(definition),
					Tenant:  desired.Name,
					Reason:  v1alpha1.InvalidDefinitionReason,
					Message: "the apiserver refused it: " + err.Error(),
				})
			default:
				errs = append(errs, fmt.Errorf("cannot write Tenant %s/%s: %w", desired.Namespace, desired.Name, err))
			}
			if apierrors.IsAlreadyExists(err) {
				// Somebody else has made a Tenant of that name since the definitions were judged.
				r.readings.Delete(client.ObjectKeyFromObject(obj))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		errs = append(errs, err)
	}
	if len(changed) > 0 {
		slices.Sort(changed)
		recordEvent(r.EventRecorder, obj, read.revision, corev1.EventTypeNormal, "TenantsChanged",
			fmt.Sprintf("revision %s changed %s", read.revision, nameSome(changed)))
	}
	return problems, errors.Join(errs...)
}

// desiredTenant is the Tenant to write for a definition. Its revision stays the one that last changed
// the definition.
func desiredTenant(obj *v1alpha1.TenantRepository, definition tenant.Definition, live *v1alpha1.Tenant, revision string) *v1alpha1.Tenant {
	desired := &v1alpha1.Tenant{}
	if live != nil {
		desired = live.DeepCopy()
	}
	desired.Namespace, desired.Name = obj.Namespace, definition.Tenant.Name
	desired.Spec = definition.Tenant.Spec

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
	maps.Copy(desired.Annotations, definition.Tenant.Annotations)
	desired.Annotations[v1alpha1.DigestAnnotation] = digest
	desired.Annotations[v1alpha1.RevisionAnnotation] = revision
	desired.Annotations[v1alpha1.PathAnnotation] = definition.File
	return desired
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

// removalRefusal says why tenants that are gone from the definitions were not removed.
type removalRefusal struct {
	reason  string
	message string
}

// removeTenants deletes the Tenants whose definitions are gone, if the repository prunes and the
// revision stays within the deletion budget or is approved.
func (r *TenantRepositoryReconciler) removeTenants(ctx context.Context, obj *v1alpha1.TenantRepository, read *reading, own []v1alpha1.Tenant) (*removalRefusal, error) {
	if !obj.Spec.Prune {
		return nil, nil
	}
	own = slices.DeleteFunc(slices.Clone(own), func(t v1alpha1.Tenant) bool { return !t.DeletionTimestamp.IsZero() })
	remove, _ := read.result.Removals(own)
	if len(remove) == 0 {
		return nil, nil
	}
	budget, err := deletionBudget(obj.Spec.DeletionBudget, len(own))
	if err != nil {
		return nil, err
	}
	if len(remove) > budget && obj.Annotations[v1alpha1.ApproveDeletionsAnnotation] != read.revision {
		return &removalRefusal{
			reason: v1alpha1.DeletionBudgetExceededReason,
			message: fmt.Sprintf("revision %s removes %s, and spec.deletionBudget allows %d at once: none was removed. To approve: kubectl -n %s annotate --overwrite tenantrepository %s %s=%s",
				read.revision, nameSome(remove), budget, obj.Namespace, obj.Name, v1alpha1.ApproveDeletionsAnnotation, read.revision),
		}, nil
	}
	for _, name := range remove {
		i := slices.IndexFunc(own, func(t v1alpha1.Tenant) bool { return t.Name == name })
		t := &own[i]
		err := r.Delete(ctx, t, client.Preconditions{UID: &t.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("cannot delete Tenant %s/%s: %w", t.Namespace, t.Name, err)
		}
	}
	recordEvent(r.EventRecorder, obj, read.revision, corev1.EventTypeNormal, "TenantsRemoved",
		fmt.Sprintf("revision %s removed %s", read.revision, nameSome(remove)))
	return nil, nil
}

// deletionBudget returns how many of so many tenants may be removed at once.
func deletionBudget(budget *intstr.IntOrString, tenants int) (int, error) {
	budget = ptr.To(ptr.Deref(budget, intstr.FromInt32(1)))
	n, err := intstr.GetScaledValueFromIntOrPercent(budget, tenants, false)
	if err != nil {
		return 0, fmt.Errorf("spec.deletionBudget: %w", err)
	}
	return n, nil
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
func nameSome(names []string) string {
	list := strings.Join(names[:min(len(names), maxNamesInMessage)], ", ")
	if len(names) > maxNamesInMessage {
		list += ", …"
	}
	if len(names) == 1 {
		return "1 tenant (" + list + ")"
	}
	return fmt.Sprintf("%d tenants (%s)", len(names), list)
}
