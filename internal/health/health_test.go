// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	. "github.com/onsi/gomega"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/health"
)

const (
	published = "main/1a2b3c4d5e6f@sha256:9a688776fff61a80ac194656d4ccaa9f0ffbccc0abdf2885277c3fa44eb2213a"
	waiting   = "waiting for Flux to apply revision main/1a2b3c4d5e6f@sha256:9a688776fff6"
	success   = "Applied revision: main/1a2b3c4d5e6f@sha256:9a688776fff6"
	older     = "main/000000000000@sha256:old"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)

func newTenant() *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: "bhs", Generation: 3}}
	t.Status.LastAppliedRevision = older
	return t
}

// readyTenant was ready with the published revision when it was last assessed.
func readyTenant() *v1alpha1.Tenant {
	t := newTenant()
	t.Status.LastAppliedRevision = published
	for _, name := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
		t.Status.Layers = append(t.Status.Layers, v1alpha1.LayerStatus{Name: name, Ready: metav1.ConditionTrue, Revision: published})
	}
	return t
}

type option func(*kustomizev1.Kustomization)

func layer(name string, options ...option) *kustomizev1.Kustomization {
	k := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: "bhs-" + name, Generation: 2}}
	k.Status.ObservedGeneration = 2
	k.Status.LastAppliedRevision = published
	k.Status.LastAttemptedRevision = published
	with(meta.ReadyCondition, metav1.ConditionTrue, meta.ReconciliationSucceededReason, "Applied revision: "+published)(k)
	with(meta.HealthyCondition, metav1.ConditionTrue, meta.SucceededReason, "Health check passed in 1s")(k)
	for _, o := range options {
		o(k)
	}
	return k
}

func with(kind string, status metav1.ConditionStatus, reason, message string) option {
	return func(k *kustomizev1.Kustomization) {
		apimeta.SetStatusCondition(&k.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message})
	}
}

func without() option { return func(k *kustomizev1.Kustomization) { k.Status.Conditions = nil } }

func applied(revision string) option {
	return func(k *kustomizev1.Kustomization) { k.Status.LastAppliedRevision = revision }
}

func attempted(revision string) option {
	return func(k *kustomizev1.Kustomization) { k.Status.LastAttemptedRevision = revision }
}

func observed(generation int64) option {
	return func(k *kustomizev1.Kustomization) { k.Status.ObservedGeneration = generation }
}

func suspended() option { return func(k *kustomizev1.Kustomization) { k.Spec.Suspend = true } }

func inventory(ids ...string) option {
	return func(k *kustomizev1.Kustomization) {
		k.Status.Inventory = &kustomizev1.ResourceInventory{}
		for _, id := range ids {
			k.Status.Inventory.Entries = append(k.Status.Inventory.Entries, kustomizev1.ResourceRef{ID: id, Version: "v1"})
		}
	}
}

func working(step string) option {
	return func(k *kustomizev1.Kustomization) {
		with(meta.ReadyCondition, metav1.ConditionUnknown, meta.ProgressingReason, "Reconciliation in progress")(k)
		with(meta.HealthyCondition, metav1.ConditionUnknown, meta.ProgressingReason, step)(k)
		with(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingReason, step)(k)
	}
}

func failing(reason, message string) option {
	return func(k *kustomizev1.Kustomization) {
		with(meta.ReadyCondition, metav1.ConditionFalse, reason, message)(k)
		with(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingWithRetryReason, message)(k)
	}
}

func object(g *WithT, text string) *unstructured.Unstructured {
	content := map[string]any{}
	g.Expect(yaml.Unmarshal([]byte(text), &content)).To(Succeed())
	data, err := json.Marshal(content)
	g.Expect(err).NotTo(HaveOccurred())
	o := &unstructured.Unstructured{}
	g.Expect(o.UnmarshalJSON(data)).To(Succeed())
	return o
}

const (
	deploymentID  = "bhs-orthweb_orthanc_apps_Deployment"
	certificateID = "bhs-orthweb_site_cert-manager.io_Certificate"
	deployment    = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: orthanc, namespace: bhs-orthweb, generation: 1},
		spec: {replicas: 3}, status: {observedGeneration: 1, replicas: 3, updatedReplicas: 3, readyReplicas: 1, availableReplicas: 1}}`
)

func TestAssess(t *testing.T) {
	type c = metav1.ConditionStatus
	const yes, no, unknown = metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown
	for name, tc := range map[string]struct {
		why                     string
		tenant                  *v1alpha1.Tenant
		dependency, application *kustomizev1.Kustomization
		objects                 []string
		ready, healthy          c
		reason, message         string
		layers                  [2]c
	}{
		"ready": {
			dependency: layer("dependency"), application: layer("application"),
			ready: yes, healthy: yes, reason: meta.ReconciliationSucceededReason, message: success, layers: [2]c{yes, yes}},
		"nothing emitted": {
			ready: unknown, healthy: unknown, reason: meta.ProgressingReason,
			message: "dependency: Kustomization/flux-system/bhs-dependency does not exist yet", layers: [2]c{unknown, unknown}},
		"no controller has looked": {
			dependency: layer("dependency", without()), application: layer("application", without()),
			ready: unknown, healthy: unknown, reason: meta.ProgressingReason,
			message: "dependency: Kustomization/flux-system/bhs-dependency has no status yet: it waits for kustomize-controller", layers: [2]c{unknown, unknown}},
		"one layer has the older revision": {
			why:        "ready with something else is not ready",
			dependency: layer("dependency"), application: layer("application", applied(older)),
			ready: unknown, healthy: yes, reason: meta.ProgressingReason,
			message: "application: " + waiting, layers: [2]c{yes, unknown}},
		"older generation": {
			dependency: layer("dependency", observed(1)), application: layer("application"),
			ready: unknown, healthy: yes, reason: meta.ProgressingReason,
			message: "dependency: " + waiting, layers: [2]c{unknown, yes}},
		"at work for the first time": {
			dependency:  layer("dependency", applied(""), working("Building manifests for revision x")),
			application: layer("application", applied(""), failing(meta.DependencyNotReadyReason, "dependency 'flux-system/bhs-dependency' is not ready")),
			ready:       unknown, healthy: unknown, reason: meta.ProgressingReason,
			message: "dependency: " + waiting, layers: [2]c{unknown, unknown}},
		"an object is on its way": {
			dependency: layer("dependency"), application: layer("application", applied(older), working("Running health checks"), inventory(deploymentID)),
			objects: []string{deployment},
			ready:   unknown, healthy: unknown, reason: meta.ProgressingReason,
			message: "application: Deployment/bhs-orthweb/orthanc: 1/3 replicas available", layers: [2]c{yes, unknown}},
		"a health check failed": {
			dependency: layer("dependency"), application: layer("application", applied(older), inventory(deploymentID),
				failing(meta.HealthCheckFailedReason, "timeout waiting for: [Deployment/bhs-orthweb/orthanc status: 'InProgress']"),
				with(meta.HealthyCondition, no, meta.HealthCheckFailedReason, "timeout")),
			objects: []string{deployment},
			ready:   no, healthy: no, reason: meta.HealthCheckFailedReason,
			message: "application: Deployment/bhs-orthweb/orthanc: 1/3 replicas available", layers: [2]c{yes, no}},
		"applying failed": {
			dependency: layer("dependency", applied(older), failing(meta.ReconciliationFailedReason, "Service/bhs-orthweb/orthweb dry-run failed:\n  invalid\n")), application: layer("application", applied(older)),
			ready: no, healthy: yes, reason: meta.ReconciliationFailedReason,
			message: "dependency: Service/bhs-orthweb/orthweb dry-run failed: invalid", layers: [2]c{no, unknown}},
		"applying failed over an unhealthy revision": {
			why:        "the object is not what keeps the published revision away",
			dependency: layer("dependency"), application: layer("application", applied(older), inventory(deploymentID),
				failing(meta.ReconciliationFailedReason, "Service/bhs-orthweb/orthweb dry-run failed: invalid")),
			objects: []string{deployment},
			ready:   no, healthy: yes, reason: meta.ReconciliationFailedReason,
			message: "application: Service/bhs-orthweb/orthweb dry-run failed: invalid", layers: [2]c{yes, no}},
		"the older revision failed": {
			why:        "the published one may be the repair",
			dependency: layer("dependency", applied(older), attempted(older), failing(meta.ReconciliationFailedReason, "dry-run failed")), application: layer("application", applied(older)),
			ready: unknown, healthy: yes, reason: meta.ProgressingReason,
			message: "dependency: " + waiting, layers: [2]c{unknown, unknown}},
		"a failure weighs more than a wait before it": {
			dependency: layer("dependency", applied(older), working("Detecting drift")), application: layer("application", applied(older), failing(meta.BuildFailedReason, "no such file")),
			ready: no, healthy: unknown, reason: meta.BuildFailedReason, message: "application: no such file", layers: [2]c{unknown, no}},
		"waits for another Kustomization": {
			tenant:     readyTenant(),
			dependency: layer("dependency", failing(meta.DependencyNotReadyReason, "dependency 'flux-system/infrastructure' is not ready")), application: layer("application"),
			ready: unknown, healthy: yes, reason: meta.ProgressingReason,
			message: "dependency: dependency 'flux-system/infrastructure' is not ready", layers: [2]c{unknown, yes}},
		"feature gate off": {
			dependency:  layer("dependency", applied(""), attempted(""), observed(0), gateOff()),
			application: layer("application", applied(""), attempted(""), observed(0), gateOff()),
			ready:       no, healthy: unknown, reason: v1alpha1.FeatureGateDisabledReason,
			message: "dependency: kustomize-controller refuses Korthweb's bundles: add --feature-gates=ExternalArtifact=true to its arguments", layers: [2]c{no, no}},
		"suspended by a person": {
			dependency: layer("dependency"), application: layer("application", applied(older), suspended()),
			ready: unknown, healthy: yes, reason: meta.ProgressingReason,
			message: "application: Kustomization/flux-system/bhs-application is suspended: flux resume kustomization bhs-application --namespace flux-system", layers: [2]c{yes, unknown}},
		"looked at again": {
			why: "Flux does so at every interval", tenant: readyTenant(),
			dependency: layer("dependency", working("Detecting drift")), application: layer("application", working("Running health checks")),
			ready: yes, healthy: yes, reason: meta.ReconciliationSucceededReason, message: success, layers: [2]c{yes, yes}},
		"looked at again, one after the other": {
			tenant:     readyTenant(),
			dependency: layer("dependency", working("Detecting drift")), application: layer("application", failing(meta.DependencyNotReadyReason, "dependency 'flux-system/bhs-dependency' is not ready")),
			ready: yes, healthy: yes, reason: meta.ReconciliationSucceededReason, message: success, layers: [2]c{yes, yes}},
		"looked at again after a failure": {
			why: "only what was ready stays ready", tenant: newTenant(),
			dependency: layer("dependency", working("Detecting drift")), application: layer("application"),
			ready: unknown, healthy: unknown, reason: meta.ProgressingReason, message: "dependency: " + waiting, layers: [2]c{unknown, yes}},
		"became unhealthy": {
			tenant: readyTenant(), dependency: layer("dependency"),
			application: layer("application", failing(meta.HealthCheckFailedReason, "timeout"), with(meta.HealthyCondition, no, meta.HealthCheckFailedReason, "timeout")),
			ready:       no, healthy: no, reason: meta.HealthCheckFailedReason, message: "application: timeout", layers: [2]c{yes, no}},
		"a new spec while looked at": {
			tenant:     readyTenant(),
			dependency: layer("dependency", observed(1), working("Detecting drift")), application: layer("application"),
			ready: unknown, healthy: unknown, reason: meta.ProgressingReason, message: "dependency: " + waiting, layers: [2]c{unknown, yes}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			in := health.Input{Tenant: tc.tenant, Revision: published, Dependency: tc.dependency, Application: tc.application, Now: now}
			if in.Tenant == nil {
				in.Tenant = newTenant()
			}
			for _, text := range tc.objects {
				in.Objects = append(in.Objects, object(g, text))
			}
			before := in.Tenant.DeepCopy()
			r := health.Assess(in)
			g.Expect(in.Tenant).To(Equal(before), "the tenant was changed")

			ready := apimeta.FindStatusCondition(r.Conditions, meta.ReadyCondition)
			g.Expect(string(ready.Status)+" "+ready.Reason+" "+ready.Message).To(Equal(string(tc.ready)+" "+tc.reason+" "+tc.message), tc.why)
			g.Expect(ready.ObservedGeneration).To(Equal(int64(3)))
			g.Expect(ready.LastTransitionTime.Time).To(Equal(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)))
			g.Expect(apimeta.FindStatusCondition(r.Conditions, meta.HealthyCondition).Status).To(Equal(tc.healthy))
			g.Expect(r.Ready()).To(Equal(tc.ready == yes))
			g.Expect(apimeta.IsStatusConditionTrue(r.Conditions, meta.ReconcilingCondition)).To(Equal(tc.ready != yes))
			g.Expect(apimeta.FindStatusCondition(r.Conditions, meta.StalledCondition)).To(BeNil())
			g.Expect(r.Layers).To(HaveLen(2))
			g.Expect([2]c{r.Layers[0].Ready, r.Layers[1].Ready}).To(Equal(tc.layers))
			if tc.ready == yes {
				g.Expect(r.LastAppliedRevision).To(Equal(published))
			} else {
				g.Expect(r.LastAppliedRevision).To(Equal(in.Tenant.Status.LastAppliedRevision))
			}
		})
	}
}

func gateOff() option {
	const message = "can't access 'ExternalArtifact/flux-system/bhs', ExternalArtifact feature gate is disabled"
	return func(k *kustomizev1.Kustomization) {
		k.Status.Conditions = nil
		with(meta.ReadyCondition, metav1.ConditionFalse, "AccessDenied", message)(k)
		with(meta.StalledCondition, metav1.ConditionTrue, "AccessDenied", message)(k)
	}
}

func TestObjectMessages(t *testing.T) {
	for name, tc := range map[string]struct{ id, object, want string }{
		"deployment": {deploymentID, deployment, "Deployment/bhs-orthweb/orthanc: 1/3 replicas available"},
		"deployment not seen": {deploymentID, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: orthanc, namespace: bhs-orthweb, generation: 1}, spec: {}}`,
			"Deployment/bhs-orthweb/orthanc: 0/1 replicas available"},
		"deployment rolling": {deploymentID, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: orthanc, namespace: bhs-orthweb, generation: 1},
			spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 3, updatedReplicas: 1, readyReplicas: 2, availableReplicas: 2}}`,
			"Deployment/bhs-orthweb/orthanc: 1/2 replicas updated"},
		"deployment whose pods are refused": {deploymentID, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: orthanc, namespace: bhs-orthweb, generation: 1},
			spec: {replicas: 1}, status: {observedGeneration: 1, conditions: [{type: ReplicaFailure, status: "True", message: 'pods "orthanc" is forbidden: violates PodSecurity'}]}}`,
			`Deployment/bhs-orthweb/orthanc: 0/1 replicas available: pods "orthanc" is forbidden: violates PodSecurity`},
		"deployment that gave up": {deploymentID, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: orthanc, namespace: bhs-orthweb, generation: 1},
			spec: {replicas: 1}, status: {observedGeneration: 1, conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded, message: it timed out}]}}`,
			"Deployment/bhs-orthweb/orthanc: 0/1 replicas available: it timed out"},
		"certificate not seen": {certificateID, `{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: site, namespace: bhs-orthweb}}`,
			"Certificate/bhs-orthweb/site: not reconciled yet"},
		"certificate": {certificateID, `{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: site, namespace: bhs-orthweb},
			status: {conditions: [{type: Ready, status: "False", message: Issuing certificate as Secret does not exist}]}}`,
			"Certificate/bhs-orthweb/site: Issuing certificate as Secret does not exist"},
		"certificate of the last spec": {certificateID, `{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: site, namespace: bhs-orthweb, generation: 2},
			status: {conditions: [{type: Ready, status: "True", observedGeneration: 1}]}}`,
			"Certificate/bhs-orthweb/site: its last change is not reconciled yet"},
		"release": {"bhs-orthweb_istio-ingress_helm.toolkit.fluxcd.io_HelmRelease", `{apiVersion: helm.toolkit.fluxcd.io/v2, kind: HelmRelease, metadata: {name: istio-ingress, namespace: bhs-orthweb},
			status: {conditions: [{type: Ready, status: "False", message: "Helm install failed"}]}}`,
			"HelmRelease/bhs-orthweb/istio-ingress: Helm install failed"},
		"database": {"bhs-orthweb_postgres_postgresql.cnpg.io_Cluster", `{apiVersion: postgresql.cnpg.io/v1, kind: Cluster, metadata: {name: postgres, namespace: bhs-orthweb},
			spec: {instances: 3}, status: {readyInstances: 1, phase: Creating a new replica, phaseReason: Creating replica postgres-2, conditions: [{type: Ready, status: "False", message: x}]}}`,
			"Cluster/bhs-orthweb/postgres: 1/3 instances ready: Creating a new replica: Creating replica postgres-2"},
		"database not seen": {"bhs-orthweb_postgres_postgresql.cnpg.io_Cluster", `{apiVersion: postgresql.cnpg.io/v1, kind: Cluster, metadata: {name: postgres, namespace: bhs-orthweb}, spec: {instances: 1}}`,
			"Cluster/bhs-orthweb/postgres: 0/1 instances ready: not reconciled yet"},
		"volume": {"bhs-orthweb_orthanc-storage__PersistentVolumeClaim", `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: orthanc-storage, namespace: bhs-orthweb}, status: {phase: Pending}}`,
			"PersistentVolumeClaim/bhs-orthweb/orthanc-storage: PVC is not Bound. phase: Pending"},
		"all as they should be": {"bhs-orthweb_orthanc-storage__PersistentVolumeClaim", `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: orthanc-storage, namespace: bhs-orthweb}, status: {phase: Bound}}`,
			waiting},
		"of nonsense": {certificateID, `{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: site, namespace: bhs-orthweb}, status: {conditions: [7, {type: Ready, status: 7}]}}`,
			"Certificate/bhs-orthweb/site: not ready"},
		"not of this layer": {"bhs-orthweb_other_apps_Deployment", deployment, waiting},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := health.Assess(health.Input{Tenant: newTenant(), Revision: published, Now: now, Objects: []*unstructured.Unstructured{object(g, tc.object)},
				Dependency: layer("dependency", applied(older), working("Running health checks"), inventory(tc.id)), Application: layer("application")})
			g.Expect(r.Layers[0].Message).To(Equal(tc.want))
		})
	}
}

// The cause comes before what waits for it, whatever the order of the inventory.
func TestClaimBeforeDeployment(t *testing.T) {
	g := NewWithT(t)
	claim := object(g, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: orthanc-storage, namespace: bhs-orthweb}, status: {phase: Pending}}`)
	r := health.Assess(health.Input{Tenant: newTenant(), Revision: published, Now: now, Objects: []*unstructured.Unstructured{object(g, deployment), claim},
		Dependency:  layer("dependency"),
		Application: layer("application", applied(older), working("Running health checks"), inventory(deploymentID, "bhs-orthweb_orthanc-storage__PersistentVolumeClaim"))})
	g.Expect(r.Layers[1].Message).To(Equal("PersistentVolumeClaim/bhs-orthweb/orthanc-storage: PVC is not Bound. phase: Pending"))
}

func TestLongMessages(t *testing.T) {
	g := NewWithT(t)
	r := health.Assess(health.Input{Tenant: newTenant(), Revision: published, Now: now, Application: layer("application"),
		Dependency: layer("dependency", failing(meta.ReconciliationFailedReason, strings.Repeat("größe\n", 5000)))})
	for _, message := range []string{r.Layers[0].Message, r.Conditions[0].Message} {
		g.Expect(len(message)).To(BeNumerically("<=", health.MaxMessageLength))
		g.Expect(utf8.ValidString(message)).To(BeTrue())
		g.Expect(message).To(HaveSuffix("…"))
		g.Expect(message).NotTo(ContainSubstring("\n"))
	}

	// What to do about a refusal stands at its end.
	refusal := "Deployment/bhs-orthweb/orthanc dry-run failed (Forbidden): " + strings.Repeat("x", 700) + "; list it in allowed-registries"
	r = health.Assess(health.Input{Tenant: newTenant(), Revision: published, Now: now, Application: layer("application"),
		Dependency: layer("dependency", failing(meta.ReconciliationFailedReason, refusal))})
	g.Expect(r.Conditions[0].Message).To(HaveSuffix("list it in allowed-registries"))
}

func TestWanted(t *testing.T) {
	g := NewWithT(t)
	ids := []string{deploymentID, "bhs-orthweb_orthweb__Service", certificateID, "not an id", "bhs-orthweb_web-gw_networking.istio.io_Gateway"}
	g.Expect(health.Wanted(nil, published)).To(BeEmpty())
	g.Expect(health.Wanted(layer("application", working("x")), published)).To(BeEmpty())
	g.Expect(health.Wanted(layer("application", inventory(ids...)), published)).To(BeEmpty(), "a ready layer costs no read")
	want := []health.ObjectRef{
		{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: "bhs-orthweb", Name: "orthanc"},
		{GroupVersionKind: schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}, Namespace: "bhs-orthweb", Name: "site"},
	}
	g.Expect(health.Wanted(layer("application", inventory(ids...), applied(older)), published)).To(Equal(want))
	g.Expect(health.Wanted(layer("application", inventory(ids...), working("x")), published)).To(Equal(want))

	many := make([]string, 500)
	for i := range many {
		many[i] = deploymentID
	}
	g.Expect(health.Wanted(layer("application", inventory(many...), working("x")), published)).To(HaveLen(health.MaxWanted))
}

func TestSetOn(t *testing.T) {
	g := NewWithT(t)
	tenant := newTenant()
	tenant.Status.Conditions = []metav1.Condition{
		{Type: meta.StalledCondition, Status: metav1.ConditionTrue},
		{Type: "Custom", Status: metav1.ConditionTrue},
	}
	assess := func(at time.Time) {
		health.Assess(health.Input{Tenant: tenant, Revision: published, Now: at, Dependency: layer("dependency"), Application: layer("application")}).SetOn(tenant)
	}
	assess(now)
	g.Expect(apimeta.FindStatusCondition(tenant.Status.Conditions, meta.StalledCondition)).To(BeNil())
	g.Expect(apimeta.FindStatusCondition(tenant.Status.Conditions, "Custom")).NotTo(BeNil())
	g.Expect(tenant.Status.LastAppliedRevision).To(Equal(published))

	before := tenant.DeepCopy()
	assess(now.Add(time.Hour))
	g.Expect(tenant).To(Equal(before), "a steady state writes nothing")

	health.Assess(health.Input{Tenant: tenant, Revision: published, Now: now.Add(time.Hour), Dependency: layer("dependency"), Application: nil}).SetOn(tenant)
	ready := apimeta.FindStatusCondition(tenant.Status.Conditions, meta.ReadyCondition)
	g.Expect(ready.LastTransitionTime.Time).To(Equal(now.Add(time.Hour).Truncate(time.Second)))
	g.Expect(apimeta.IsStatusConditionTrue(tenant.Status.Conditions, meta.ReconcilingCondition)).To(BeTrue())
}

func TestSummarize(t *testing.T) {
	tenant := func(name string, status metav1.ConditionStatus) v1alpha1.Tenant {
		t := v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 2}}
		if status != "" {
			t.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: status, ObservedGeneration: 2}}
		}
		return t
	}
	stopped := tenant("stopped", metav1.ConditionFalse)
	stopped.Spec.Suspend = true
	changed := tenant("changed", metav1.ConditionTrue)
	changed.Generation = 3
	many := make([]v1alpha1.Tenant, 410, 412)
	for i := range many {
		many[i] = tenant("t", metav1.ConditionTrue)
	}
	for name, tc := range map[string]struct {
		tenants []v1alpha1.Tenant
		counts  v1alpha1.TenantCounts
		want    string
	}{
		"none": {nil, v1alpha1.TenantCounts{}, "0 tenants"},
		"one":  {[]v1alpha1.Tenant{tenant("bhs", metav1.ConditionTrue)}, v1alpha1.TenantCounts{Total: 1, Ready: 1}, "1 tenant: 1 ready"},
		"many": {append(many, tenant("bhs", metav1.ConditionUnknown), tenant("mhr", metav1.ConditionFalse)),
			v1alpha1.TenantCounts{Total: 412, Ready: 410, Progressing: 1, Failed: 1}, "412 tenants: 410 ready, 1 progressing, 1 failed (mhr)"},
		"three failed": {[]v1alpha1.Tenant{tenant("c", "False"), tenant("a", "False"), tenant("b", "False")},
			v1alpha1.TenantCounts{Total: 3, Failed: 3}, "3 tenants: 3 failed (a, b, c)"},
		"five failed": {[]v1alpha1.Tenant{tenant("e", "False"), tenant("c", "False"), tenant("a", "False"), tenant("b", "False"), tenant("d", "False")},
			v1alpha1.TenantCounts{Total: 5, Failed: 5}, "5 tenants: 5 failed (a, b, c and 2 more)"},
		"new, suspended and changed": {[]v1alpha1.Tenant{tenant("new", ""), stopped, changed},
			v1alpha1.TenantCounts{Total: 3, Progressing: 2, Suspended: 1}, "3 tenants: 2 progressing, 1 suspended"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			counts, sentence := health.Summarize(tc.tenants)
			g.Expect(sentence).To(Equal(tc.want))
			g.Expect(counts).To(Equal(tc.counts))
		})
	}
}
