// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// layer is the state of one layer. message and reason say why it is not ready, or not healthy.
type layer struct {
	name, revision  string
	ready, healthy  metav1.ConditionStatus
	reason, message string
}

// gateDisabled is how kustomize-controller 1.9 ends its message when it refuses an ExternalArtifact:
// can't access 'ExternalArtifact/flux-system/bhs', ExternalArtifact feature gate is disabled.
const gateDisabled = "ExternalArtifact feature gate is disabled"

const gateDisabledMessage = "kustomize-controller refuses Korthweb's bundles: add --feature-gates=ExternalArtifact=true to its arguments"

func assessLayer(in Input, name string, k *kustomizev1.Kustomization, dependencyReady bool) layer {
	l := layer{name: name, ready: metav1.ConditionUnknown, healthy: metav1.ConditionUnknown, reason: meta.ProgressingReason}
	if k == nil {
		l.message = fmt.Sprintf("Kustomization/%s/%s does not exist yet", in.Tenant.Namespace, in.Tenant.LayerName(name))
		return l
	}
	l.revision = k.Status.LastAppliedRevision

	ready := apimeta.FindStatusCondition(k.Status.Conditions, meta.ReadyCondition)
	if ready == nil {
		l.message = fmt.Sprintf("Kustomization/%s/%s has no status yet: it waits for kustomize-controller", k.Namespace, k.Name)
		return l
	}

	applied := k.Status.ObservedGeneration == k.Generation && k.Status.LastAppliedRevision == in.Revision && in.Revision != ""
	switch {
	case applied && ready.Status == metav1.ConditionTrue,
		applied && rechecks(ready, dependencyReady) && wasReady(in, name):
		l.ready = metav1.ConditionTrue
	case ready.Status == metav1.ConditionFalse && failed(in, k, ready):
		l.ready, l.reason = metav1.ConditionFalse, ready.Reason
	}
	l.healthy = healthOf(k, ready)
	if l.healthy == metav1.ConditionUnknown && l.ready == metav1.ConditionTrue {
		l.healthy = metav1.ConditionTrue
	}
	if l.ready == metav1.ConditionTrue && l.healthy == metav1.ConditionTrue {
		return l
	}

	switch text := firstUnready(in.Objects, k); {
	case strings.HasSuffix(ready.Message, gateDisabled):
		l.reason, l.message = v1alpha1.FeatureGateDisabledReason, gateDisabledMessage
	case k.Spec.Suspend:
		l.message = fmt.Sprintf("Kustomization/%s/%s is suspended: flux resume kustomization %s --namespace %s", k.Namespace, k.Name, k.Name, k.Namespace)
	// What keeps a revision from being applied comes before what an older one has left unready.
	case text != "" && (l.ready != metav1.ConditionFalse || l.reason == meta.HealthCheckFailedReason):
		l.message = shorten(text)
	default:
		l.message = shorten(ownMessage(in, k, ready))
	}
	return l
}

// rechecks says whether a Kustomization that has applied the revision looks at it again, as it does at
// every interval: it is Unknown then, and the application layer may find the dependency layer at it.
func rechecks(ready *metav1.Condition, dependencyReady bool) bool {
	return ready.Status == metav1.ConditionUnknown ||
		ready.Reason == meta.HealthCheckCanceledReason ||
		ready.Reason == meta.DependencyNotReadyReason && dependencyReady
}

// wasReady says whether the layer was ready with the published revision when the tenant was last
// assessed.
func wasReady(in Input, name string) bool {
	for _, l := range in.Tenant.Status.Layers {
		if l.Name == name {
			return l.Ready == metav1.ConditionTrue && l.Revision == in.Revision
		}
	}
	return false
}

// failed says whether a Kustomization that is not ready has failed, rather than waits: for a dependency,
// for a check that begins anew, or because its failure is that of another revision than the published
// one, which it has not come to yet.
func failed(in Input, k *kustomizev1.Kustomization, ready *metav1.Condition) bool {
	switch ready.Reason {
	case meta.DependencyNotReadyReason, meta.HealthCheckCanceledReason:
		return false
	case meta.HealthCheckFailedReason, meta.ReconciliationFailedReason, meta.PruneFailedReason, meta.BuildFailedReason:
		return k.Status.LastAttemptedRevision == in.Revision
	default:
		return true
	}
}

// healthOf is the Kustomization's Healthy condition, or its Ready condition where it has none.
func healthOf(k *kustomizev1.Kustomization, ready *metav1.Condition) metav1.ConditionStatus {
	if healthy := apimeta.FindStatusCondition(k.Status.Conditions, meta.HealthyCondition); healthy != nil {
		return healthy.Status
	}
	if ready.Status == metav1.ConditionTrue {
		return metav1.ConditionTrue
	}
	return metav1.ConditionUnknown
}

// ownMessage is what the Kustomization itself says when it has failed or waits for another. The steps
// that it goes through while it works are left out: each would be a write to the Tenant's status.
func ownMessage(in Input, k *kustomizev1.Kustomization, ready *metav1.Condition) string {
	if ready.Reason == meta.DependencyNotReadyReason || ready.Status == metav1.ConditionFalse && failed(in, k, ready) {
		return ready.Message
	}
	return "waiting for Flux to apply revision " + shortRevision(in.Revision)
}

// shortRevision cuts the digest at the end of a revision to its first 12 characters.
func shortRevision(revision string) string {
	const short = 12
	if i := strings.LastIndexByte(revision, ':'); i >= 0 && len(revision)-i-1 > short {
		return revision[:i+1+short]
	}
	return revision
}
