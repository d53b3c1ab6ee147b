// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/cli-utils/pkg/object"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ObjectRef names an object that is worth reading.
type ObjectRef struct {
	schema.GroupVersionKind
	Namespace, Name string
}

// MaxWanted is the most objects that Wanted names for one layer, so that a layer of hundreds of objects
// costs no more reads than a usual one.
const MaxWanted = 20

// reporters are the kinds of a bundle whose objects say how they are, each with what it says when it is
// not as it should be, or an empty string.
var reporters = map[schema.GroupKind]func(*unstructured.Unstructured) string{
	{Group: "cert-manager.io", Kind: "Issuer"}:                 readyMessage,
	{Group: "cert-manager.io", Kind: "Certificate"}:            readyMessage,
	{Group: "source.toolkit.fluxcd.io", Kind: "OCIRepository"}: readyMessage,
	{Group: "helm.toolkit.fluxcd.io", Kind: "HelmRelease"}:     readyMessage,
	{Group: "postgresql.cnpg.io", Kind: "Cluster"}:             clusterMessage,
	{Kind: "PersistentVolumeClaim"}:                            kstatusMessage,
	{Group: "apps", Kind: "Deployment"}:                        deploymentMessage,
}

// Wanted names the objects of a layer that can say why it is not ready: those in its Kustomization's
// inventory whose kind reports a state, at most MaxWanted. It is empty for a layer that is ready with
// revision, so a healthy tenant costs no read.
func Wanted(k *kustomizev1.Kustomization, revision string) []ObjectRef {
	if k == nil || k.Status.Inventory == nil {
		return nil
	}
	if k.Status.LastAppliedRevision == revision && apimeta.IsStatusConditionTrue(k.Status.Conditions, meta.ReadyCondition) {
		return nil
	}
	var refs []ObjectRef
	for _, entry := range k.Status.Inventory.Entries {
		id, err := object.ParseObjMetadata(entry.ID)
		if err != nil || reporters[id.GroupKind] == nil {
			continue
		}
		refs = append(refs, ObjectRef{GroupVersionKind: id.GroupKind.WithVersion(entry.Version), Namespace: id.Namespace, Name: id.Name})
		if len(refs) == MaxWanted {
			break
		}
	}
	return refs
}

// firstUnready says what is wrong with the first object of a layer that is not as it should be, in the
// order in which the layer's inventory has them: Deployment/bhs-orthweb/orthanc: 1/3 replicas available.
func firstUnready(objects []*unstructured.Unstructured, k *kustomizev1.Kustomization) string {
	if k.Status.Inventory == nil {
		return ""
	}
	byID := make(map[string]*unstructured.Unstructured, len(objects))
	for _, o := range objects {
		byID[object.UnstructuredToObjMetadata(o).String()] = o
	}
	// A Deployment whose pods are there comes after what they wait for, such as a claim that is not bound.
	for _, waits := range []bool{false, true} {
		for _, entry := range k.Status.Inventory.Entries {
			o := byID[entry.ID]
			if o == nil || (o.GetKind() == "Deployment" && !replicaFailure(o)) != waits {
				continue
			}
			report := reporters[o.GroupVersionKind().GroupKind()]
			if report == nil {
				continue
			}
			if text := report(o); text != "" {
				return fmt.Sprintf("%s/%s/%s: %s", o.GetKind(), o.GetNamespace(), o.GetName(), text)
			}
		}
	}
	return ""
}

// replicaFailure says whether pods of a Deployment cannot be made, so that nothing that waits for them can go on.
func replicaFailure(o *unstructured.Unstructured) bool {
	c := condition(o, "ReplicaFailure")
	return c != nil && c.Status == metav1.ConditionTrue
}

// readyMessage is for kinds with a Ready condition, without which they have not been looked at yet.
func readyMessage(o *unstructured.Unstructured) string {
	c := condition(o, "Ready")
	switch {
	case c == nil:
		return "not reconciled yet"
	case c.ObservedGeneration != 0 && c.ObservedGeneration != o.GetGeneration():
		return "its last change is not reconciled yet"
	case c.Status == metav1.ConditionTrue:
		return ""
	case c.Message != "":
		return c.Message
	default:
		return "not ready"
	}
}

// clusterMessage is for CloudNativePG's Cluster, whose phase says more than its Ready condition.
func clusterMessage(o *unstructured.Unstructured) string {
	text := readyMessage(o)
	if text == "" {
		return ""
	}
	if phase, _, _ := unstructured.NestedString(o.Object, "status", "phase"); phase != "" {
		text = phase
		if reason, _, _ := unstructured.NestedString(o.Object, "status", "phaseReason"); reason != "" {
			text += ": " + reason
		}
	}
	wanted, _, _ := unstructured.NestedInt64(o.Object, "spec", "instances")
	ready, _, _ := unstructured.NestedInt64(o.Object, "status", "readyInstances")
	return fmt.Sprintf("%d/%d instances ready: %s", ready, wanted, text)
}

// deploymentMessage counts, and adds what keeps pods from being made, such as a quota or Pod Security.
func deploymentMessage(o *unstructured.Unstructured) string {
	text := kstatusMessage(o)
	if text == "" {
		return ""
	}
	wanted, found, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	if !found {
		wanted = 1
	}
	available, _, _ := unstructured.NestedInt64(o.Object, "status", "availableReplicas")
	updated, _, _ := unstructured.NestedInt64(o.Object, "status", "updatedReplicas")
	switch {
	case available < wanted:
		text = fmt.Sprintf("%d/%d replicas available", available, wanted)
	case updated < wanted:
		text = fmt.Sprintf("%d/%d replicas updated", updated, wanted)
	}
	if replicaFailure(o) {
		return text + ": " + condition(o, "ReplicaFailure").Message
	}
	if c := condition(o, "Progressing"); c != nil && c.Reason == "ProgressDeadlineExceeded" {
		return text + ": " + c.Message
	}
	return text
}

// kstatusMessage is for Kubernetes' own kinds.
func kstatusMessage(o *unstructured.Unstructured) string {
	result, err := status.Compute(o)
	switch {
	case err != nil:
		return err.Error()
	case result.Status == status.CurrentStatus:
		return ""
	case result.Message != "":
		return result.Message
	default:
		return strings.ToLower(result.Status.String())
	}
}

func condition(o *unstructured.Unstructured, kind string) *metav1.Condition {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, item := range conditions {
		c, ok := item.(map[string]any)
		if !ok || c["type"] != kind {
			continue
		}
		found := &metav1.Condition{Type: kind}
		if s, ok := c["status"].(string); ok {
			found.Status = metav1.ConditionStatus(s)
		}
		found.Reason, _ = c["reason"].(string)
		found.Message, _ = c["message"].(string)
		found.ObservedGeneration, _ = c["observedGeneration"].(int64)
		return found
	}
	return nil
}
