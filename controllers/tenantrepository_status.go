// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/opencontainers/go-digest"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/health"
	"github.com/digihunch/korthweb/internal/source"
	"github.com/digihunch/korthweb/internal/tenant"
)

// reportSourceFailure says why the source could not be read; its tenants are counted as they are.
func (r *TenantRepositoryReconciler) reportSourceFailure(obj *v1alpha1.TenantRepository, own []v1alpha1.Tenant, err error) {
	obj.Status.Tenants, _ = health.Summarize(own)
	reason := meta.FailedReason
	var sourceErr *source.Error
	if errors.As(err, &sourceErr) {
		reason = sourceErr.Reason
		if sourceErr.Terminal {
			markStalled(obj, reason, err)
			return
		}
	}
	markFailed(obj, reason, err)
}

// report sums up the tenants, the problems of the revision (those in its files, and those met when
// writing), and what was not removed.
func (r *TenantRepositoryReconciler) report(obj *v1alpha1.TenantRepository, read *reading, own []v1alpha1.Tenant, written outcome, removal *removal, duration time.Duration) {
	problems := slices.Concat(read.result.Problems, written.problems)
	attribute(problems, own)
	slices.SortStableFunc(problems, func(a, b v1alpha1.Problem) int { return cmp.Compare(a.File, b.File) })
	obj.Status.Problems = problems[:min(len(problems), v1alpha1.MaxProblems)]

	counts, summary := health.Summarize(own)
	obj.Status.Tenants = counts
	if removal.refusal == "" && written.waiting == 0 {
		obj.Status.LastAppliedRevision = read.revision
	}

	message := []string{summary}
	if written.waiting > 0 {
		message = append(message, fmt.Sprintf("%d more are about to be created", written.waiting))
	}
	if removal.refusal != "" {
		message = append(message, removal.refusal)
	}
	if len(problems) > 0 {
		message = append(message, describeProblems(problems))
	}
	if kept := describeKept(removal.kept, problems); kept != "" {
		message = append(message, kept)
	}
	text := errors.New(strings.Join(message, "; "))
	switch {
	case removal.refusal != "":
		markFailed(obj, v1alpha1.DeletionBudgetExceededReason, text)
	case len(problems) > 0:
		markFailed(obj, v1alpha1.ProblemsFoundReason, text)
	case counts.Failed > 0:
		markFailed(obj, v1alpha1.TenantsNotReadyReason, text)
	case counts.Progressing > 0 || written.waiting > 0:
		conditions.Delete(obj, meta.StalledCondition)
		conditions.MarkReconciling(obj, meta.ProgressingReason, "%s", text)
		conditions.MarkUnknown(obj, meta.ReadyCondition, meta.ProgressingReason, "%s", text)
	default:
		conditions.MarkTrue(obj, meta.ReadyCondition, meta.SucceededReason, "%s", text)
		conditions.Delete(obj, meta.ReconcilingCondition)
		conditions.Delete(obj, meta.StalledCondition)
	}
	if !conditions.IsUnknown(obj, meta.ReadyCondition) {
		recordHistory(&obj.Status.History, read.revision, digest.FromString(read.revision).String(), conditions.GetReason(obj, meta.ReadyCondition), duration)
	}
}

// attribute names the tenant that comes from a file, where the file itself could not be read so far.
func attribute(problems []v1alpha1.Problem, own []v1alpha1.Tenant) {
	from := map[string][]string{}
	for i := range own {
		file := own[i].Annotations[v1alpha1.PathAnnotation]
		from[file] = append(from[file], own[i].Name)
	}
	for i := range problems {
		file, _, _ := strings.Cut(problems[i].File, ":")
		if tenants := from[file]; problems[i].Tenant == "" && len(tenants) == 1 {
			problems[i].Tenant = tenants[0]
		}
	}
}

// describeProblems gives the first problem in full and counts the rest.
func describeProblems(problems []v1alpha1.Problem) string {
	text := tenant.DescribeProblem(problems[0])
	if len(problems) == 1 {
		return "1 problem: " + text
	}
	return fmt.Sprintf("%d problems, the first: %s", len(problems), text)
}

// recordHistory notes the outcome of a revision, once for each outcome: a steady state adds nothing.
func recordHistory(history *meta.History, revision, digest, outcome string, duration time.Duration) {
	if latest := history.Latest(); latest != nil && latest.Digest == digest && latest.LastReconciledStatus == outcome {
		return
	}
	history.Upsert(digest, time.Now(), duration, outcome, map[string]string{"revision": revision})
}
