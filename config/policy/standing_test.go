// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"context"
	"testing"

	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// oldTemplate is what no workload may say of its pods any more, but that Pod Security lets pass.
const oldTemplate = `{metadata: {labels: {app: a, istio: somebody}, annotations: {k8s.v1.cni.cncf.io/networks: x}},
	spec: {priorityClassName: system-node-critical, automountServiceAccountToken: true, tolerations: [{operator: Exists}],
	volumes: [{name: v, csi: {driver: secrets-store.csi.k8s.io}}], containers: [{name: a, image: old.example.org/x}]}}`

// made is what Kubernetes makes of each kind of workload, and who of it makes it.
var made = []struct{ of, kind, by string }{
	{"Deployment", "ReplicaSet", "deployment-controller"},
	{"ReplicaSet", "Pod", "replicaset-controller"},
	{"StatefulSet", "Pod", "statefulset-controller"},
	{"DaemonSet", "Pod", "daemon-set-controller"},
	{"ReplicationController", "Pod", "replication-controller"},
	{"CronJob", "Job", "cronjob-controller"},
	{"Job", "Pod", "job-controller"},
}

// old returns an object of a kind with the old template.
func old(g Gomega, kind string) *unstructured.Unstructured {
	change := "spec: {template: " + oldTemplate + "}"
	switch kind {
	case "CronJob":
		change = "spec: {jobTemplate: {spec: {template: " + oldTemplate + "}}}"
	case "Pod":
		change = oldTemplate[1 : len(oldTemplate)-1]
	}
	u, _ := attempt{change: change}.changed(g, base(g, kind, tenantNamespace))
	if kind == "Pod" {
		u.Object["spec"].(map[string]any)["containers"] = base(g, kind, tenantNamespace).Object["spec"].(map[string]any)["containers"]
	}
	u.SetName("predates")
	return u
}

// predate makes what stands before the policies do.
func predate(ctx context.Context, g Gomega, admin client.Client) {
	for _, m := range made {
		g.Expect(admin.Create(ctx, old(g, m.of))).To(Succeed(), m.of)
	}
	cluster, _ := attempt{change: `spec: {imageName: old.example.org/x, priorityClassName: system-node-critical}`}.changed(g, base(g, "Cluster", tenantNamespace))
	cluster.SetName("predates")
	g.Expect(admin.Create(ctx, cluster)).To(Succeed())
}

// What predates the rules, or a shorter list, is scaled, and what Kubernetes makes of it is made again: after a drain all
// of a facility's pods are new. Whoever else makes the same is refused, also if he writes an owner.
func testWhatPredatesTheRules(t *testing.T, config *rest.Config) {
	for _, m := range made {
		t.Run(m.of, func(t *testing.T) {
			g := NewWithT(t)
			c := newClient(g, config, person)
			owner := old(g, m.of)
			g.Expect(c.Get(t.Context(), client.ObjectKeyFromObject(owner), owner)).To(Succeed())
			change := func(user, text string) error {
				return newClient(g, config, user).Patch(t.Context(), owner.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(text)), client.DryRunAll)
			}
			scale := `{"spec":{"replicas":3}}`
			switch m.of {
			case "DaemonSet":
				scale = `{"spec":{"minReadySeconds":3}}`
			case "CronJob", "Job":
				scale = `{"spec":{"suspend":true}}`
			}
			expect(g, change(person, scale), "")
			if m.of == "Deployment" || m.of == "StatefulSet" || m.of == "CronJob" || m.of == "Job" {
				expect(g, change(applier, scale), "")
			}
			expect(g, change("system:serviceaccount:kube-system:"+m.by, scale), "")
			switch m.of {
			case "CronJob":
				expect(g, change(person, `{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"labels":{"new":"x"}}}}}}}`), "ValidatingAdmissionPolicy")
			case "Job": // Kubernetes lets nobody change its template.
			default:
				expect(g, change(person, `{"spec":{"template":{"metadata":{"labels":{"new":"x"}}}}}`), "ValidatingAdmissionPolicy")
			}

			again := old(g, m.kind)
			again.SetName("again")
			create := func(user string, owners ...metav1.OwnerReference) error {
				u := again.DeepCopy()
				u.SetOwnerReferences(owners)
				return newClient(g, config, user).Create(t.Context(), u, client.DryRunAll)
			}
			controls := *metav1.NewControllerRef(owner, owner.GroupVersionKind())
			by := "system:serviceaccount:kube-system:" + m.by
			binding := &rbacv1.ClusterRoleBinding{}
			g.Expect(c.Get(t.Context(), client.ObjectKey{Name: "system:controller:" + m.by}, binding)).To(Succeed(), "Kubernetes' own name for it")
			g.Expect(binding.Subjects).To(ConsistOf(rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "kube-system", Name: m.by}))
			expect(g, create(by, controls), "")
			expect(g, create(by), "ValidatingAdmissionPolicy")
			for _, user := range []string{person, "system:serviceaccount:kube-system:generic-garbage-collector", administrator} {
				expect(g, create(user, controls), "ValidatingAdmissionPolicy 'korthweb-pod")
			}
			for _, user := range []string{applier, helmApplier, ownAccount} {
				expect(g, create(user, controls), "ValidatingAdmissionPolicy")
			}
		})
	}
	t.Run("Cluster", func(t *testing.T) {
		g := NewWithT(t)
		cluster := base(g, "Cluster", tenantNamespace)
		cluster.SetName("predates")
		change := func(text string) error {
			return newClient(g, config, applier).Patch(t.Context(), cluster.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(text)), client.DryRunAll)
		}
		expect(g, change(`{"spec":{"instances":3}}`), "")
		expect(g, change(`{"spec":{"imageName":"old.example.org/y"}}`), "is in no registry")
		expect(g, change(`{"spec":{"affinity":{"nodeSelector":{"disk":"ssd"}}}}`), "spec.priorityClassName")
	})
	t.Run("all controllers as one account", func(t *testing.T) {
		g := NewWithT(t)
		pod := old(g, "Pod")
		pod.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x", UID: "x", Controller: new(true)}})
		pod.SetName("again")
		expect(g, newClient(g, config, "system:kube-controller-manager").Create(t.Context(), pod, client.DryRunAll), "")
	})
}
