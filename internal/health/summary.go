// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// maxNamed is how many failed tenants a summary names: as many as fit a line of a terminal.
const maxNamed = 3

// Summarize counts tenants by their state and puts the counts into a sentence:
// 412 tenants: 410 ready, 1 progressing, 1 failed (mhr). The order of tenants does not matter.
func Summarize(tenants []v1alpha1.Tenant) (v1alpha1.TenantCounts, string) {
	counts := v1alpha1.TenantCounts{Total: int32(len(tenants))}
	var failed []string
	for i := range tenants {
		t := &tenants[i]
		ready := apimeta.FindStatusCondition(t.Status.Conditions, meta.ReadyCondition)
		switch {
		case t.Spec.Suspend:
			counts.Suspended++
		case ready == nil || ready.Status == metav1.ConditionUnknown || ready.ObservedGeneration != t.Generation:
			counts.Progressing++
		case ready.Status == metav1.ConditionTrue:
			counts.Ready++
		default:
			counts.Failed++
			failed = append(failed, t.Name)
		}
	}

	noun := "tenants"
	if counts.Total == 1 {
		noun = "tenant"
	}
	sentence := fmt.Sprintf("%d %s", counts.Total, noun)
	var parts []string
	add := func(n int32, state string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	add(counts.Ready, "ready")
	add(counts.Progressing, "progressing")
	add(counts.Failed, "failed"+names(failed))
	add(counts.Suspended, "suspended")
	if len(parts) > 0 {
		sentence += ": " + strings.Join(parts, ", ")
	}
	return counts, sentence
}

func names(failed []string) string {
	if len(failed) == 0 {
		return ""
	}
	slices.Sort(failed)
	more := ""
	if n := len(failed) - maxNamed; n > 0 {
		failed, more = failed[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return " (" + strings.Join(failed, ", ") + more + ")"
}
