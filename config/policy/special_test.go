// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// administrator is in the group that no role binds.
const administrator = ""

func testSubresources(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	admin := newClient(g, config, administrator)
	service := base(g, "Service", tenantNamespace)
	service.SetName("spoofed")
	g.Expect(unstructured.SetNestedField(service.Object, "LoadBalancer", "spec", "type")).To(Succeed())
	g.Expect(admin.Create(t.Context(), service)).To(Succeed())
	pod := base(g, "Pod", tenantNamespace)
	pod.SetName("running")
	g.Expect(admin.Create(t.Context(), pod)).To(Succeed())
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: tenantNamespace, Name: "default"}}
	deployment := base(g, "Deployment", tenantNamespace)
	deployment.SetName("scaled")
	g.Expect(admin.Create(t.Context(), deployment)).To(Succeed())
	for _, test := range []struct {
		name   string
		do     func(client.Client) error
		denied string
	}{
		{"state of a Service", func(c client.Client) error {
			return c.Status().Patch(t.Context(), service.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.2"}]}}}`)), client.DryRunAll)
		}, "services/status: a tenant's applier makes workloads"},
		{"token", func(c client.Client) error {
			return c.SubResource("token").Create(t.Context(), account, &authenticationv1.TokenRequest{})
		}, "serviceaccounts/token: a tenant's applier"},
		{"container beside those of a pod", func(c client.Client) error {
			return c.SubResource("ephemeralcontainers").Patch(t.Context(), pod.DeepCopy(), client.RawPatch(types.StrategicMergePatchType,
				[]byte(`{"spec":{"ephemeralContainers":[{"name":"x","image":"evil.example.org/x",
					"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}`)), client.DryRunAll)
		}, "pods/ephemeralcontainers: a tenant's applier"},
		{"node of a pod", func(c client.Client) error {
			return c.SubResource("binding").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: tenantNamespace, Name: "running"}}, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "x"}}, &client.SubResourceCreateOptions{
				CreateOptions: client.CreateOptions{DryRun: []string{"All"}}})
		}, "pods/binding: a tenant's applier"},
		{"scale of a Deployment", func(c client.Client) error {
			return c.SubResource("scale").Patch(t.Context(), deployment.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":2}}`)), client.DryRunAll)
		}, ""},
	} {
		for _, user := range []string{applier, helmApplier} {
			t.Run(test.name+"/"+user, func(t *testing.T) {
				g := NewWithT(t)
				expect(g, test.do(newClient(g, config, user)), test.denied)
			})
		}
	}
}

func testDefaultDeny(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	admin := newClient(g, config, administrator)
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: earlierNamespace, Name: "default-deny"},
		Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}}}
	g.Expect(admin.Create(t.Context(), policy.DeepCopy())).To(Succeed())
	other := policy.DeepCopy()
	other.Name, other.Spec.PodSelector.MatchLabels = "other", map[string]string{"app": "a"}
	g.Expect(admin.Create(t.Context(), other)).To(Succeed())
	for _, user := range []string{applier, "system:serviceaccount:mhr-orthweb:helm-applier", korthweb, person, administrator} {
		c := newClient(g, config, user)
		want := "metadata.name: default-deny keeps the namespace closed and cannot be deleted; leave it, and open what is needed in another NetworkPolicy"
		if strings.HasSuffix(user, "helm-applier") {
			want = "metadata.name: expected a NetworkPolicy that the platform lets charts make"
		}
		expect(g, c.Delete(t.Context(), policy.DeepCopy(), client.DryRunAll), want)
		expect(g, c.DeleteAllOf(t.Context(), &networkingv1.NetworkPolicy{}, client.InNamespace(earlierNamespace), client.MatchingFields{"metadata.name": "default-deny"}, client.DryRunAll), want)
	}
	expect(g, newClient(g, config, applier).Delete(t.Context(), other.DeepCopy(), client.DryRunAll), "")

	// Without it the namespace would never be gone.
	going := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going-orthweb", Labels: map[string]string{label: "going"},
		Annotations: map[string]string{v1alpha1.AllowDeletionAnnotation: "true"}}}
	g.Expect(admin.Create(t.Context(), going)).To(Succeed())
	policy.Namespace = going.Name
	g.Expect(admin.Create(t.Context(), policy.DeepCopy())).To(Succeed())
	expect(g, admin.Delete(t.Context(), policy.DeepCopy(), client.DryRunAll), "metadata.name: default-deny")
	g.Expect(admin.Delete(t.Context(), going)).To(Succeed())
	g.Eventually(func() error { return newClient(g, config, person).Delete(t.Context(), policy.DeepCopy()) }, 10*time.Second).Should(Succeed())
}

func testDeletion(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	admin := newClient(g, config, administrator)
	g.Expect(apiextensionsv1.AddToScheme(admin.Scheme())).To(Succeed())
	crd := func(name string) client.Object {
		return &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	for _, user := range []string{person, korthweb, administrator} {
		c := newClient(g, config, user)
		for _, name := range []string{"tenants.korthweb.digihunch.com", "tenantrepositories.korthweb.digihunch.com"} {
			expect(g, c.Delete(t.Context(), crd(name), client.DryRunAll), "all objects of this kind go; facilities run on, but nothing is kept in place until config/crd is applied again. "+
				"If you mean it: kubectl annotate crd "+name+" korthweb.digihunch.com/allow-deletion=true")
		}
		expect(g, c.DeleteAllOf(t.Context(), &apiextensionsv1.CustomResourceDefinition{}, client.MatchingFields{"metadata.name": "tenants.korthweb.digihunch.com"}, client.DryRunAll), "allow-deletion")
		for _, name := range []string{"certificates.cert-manager.io", "clusters.postgresql.cnpg.io", "objectstores.barmancloud.cnpg.io", "helmreleases.helm.toolkit.fluxcd.io"} {
			expect(g, c.Delete(t.Context(), crd(name), client.DryRunAll), "kubectl annotate crd "+name+" korthweb.digihunch.com/allow-deletion=true")
		}
		expect(g, c.Delete(t.Context(), crd("kustomizations.kustomize.toolkit.fluxcd.io"), client.DryRunAll), "")
		expect(g, c.Delete(t.Context(), namespace(otherNamespace), client.DryRunAll), map[string]string{korthweb: "metadata.labels: expected korthweb"}[user])
		expect(g, c.Delete(t.Context(), namespace(tenantNamespace), client.DryRunAll),
			map[bool]string{true: "", false: "this deletes the facility for good: its images, its database and its passwords, whatever its deletionPolicy; " +
				"to take it offline and keep the data, remove its file instead. " +
				"If you mean it: kubectl annotate namespace bhs-orthweb korthweb.digihunch.com/allow-deletion=true"}[user == korthweb])
		expect(g, c.Delete(t.Context(), namespace(platformNamespace), client.DryRunAll),
			map[bool]string{true: "metadata.labels: expected korthweb", false: "Korthweb runs in this namespace, and with it go its Tenants, its TenantRepositories and the last good state of each facility; " +
				"facilities run on, but nothing is kept in place. " +
				"If you mean it: kubectl annotate namespace flux-system korthweb.digihunch.com/allow-deletion=true"}[user == korthweb])
	}
	// What the refusal says to do lets a person do it.
	allow := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"korthweb.digihunch.com/allow-deletion":"true"}}}`))
	c := newClient(g, config, person)
	for _, object := range []client.Object{crd("tenants.korthweb.digihunch.com"), namespace(tenantNamespace), namespace(platformNamespace)} {
		g.Expect(c.Patch(t.Context(), object, allow)).To(Succeed())
		expect(g, c.Delete(t.Context(), object, client.DryRunAll), "")
		deny := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"korthweb.digihunch.com/allow-deletion":"yes"}}}`))
		g.Expect(c.Patch(t.Context(), object, deny)).To(Succeed())
		expect(g, c.Delete(t.Context(), object, client.DryRunAll), "allow-deletion")
	}

	// The last good state of a facility, in the platform's namespace.
	state := base(g, "last good state", platformNamespace)
	state.SetName("kept")
	g.Expect(newClient(g, config, korthweb).Create(t.Context(), state)).To(Succeed())
	for user, denied := range map[string]string{
		person:        "metadata.labels: only Korthweb may delete",
		administrator: "metadata.labels: only Korthweb may delete",
		korthweb:      "",
	} {
		expect(g, newClient(g, config, user).Delete(t.Context(), state.DeepCopy(), client.DryRunAll), denied)
	}
	other := base(g, "ControllerRevision", platformNamespace)
	other.SetName("other")
	g.Expect(admin.Create(t.Context(), other)).To(Succeed())
	expect(g, c.Delete(t.Context(), other), "")

	// What the namespace's annotations say is for Korthweb to say.
	for _, change := range []string{
		`{"korthweb.digihunch.com/hosts":"mhr.example.org"}`, `{"korthweb.digihunch.com/hosts":null}`, `null`,
		`{"korthweb.digihunch.com/load-balancer-ip":"192.0.2.2"}`, `{"korthweb.digihunch.com/retained":"x"}`,
		`{"korthweb.digihunch.com/load-balancer-class":"x"}`, `{"korthweb.digihunch.com/service-annotations":"x"}`,
		`{"korthweb.digihunch.com/common-annotations":"x"}`, `{"korthweb.digihunch.com/backup-path":"s3://backups/mhr"}`,
	} {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":`+change+`}}`))
		expect(g, c.Patch(t.Context(), namespace(tenantNamespace), patch, client.DryRunAll), "metadata.annotations: only Korthweb may set")
		expect(g, newClient(g, config, korthweb).Patch(t.Context(), namespace(tenantNamespace), patch, client.DryRunAll), "")
	}
}

// Objects from before the policies, or let in while a registry was listed, may lose a finalizer and be scaled, labelled and
// deleted.
func testWhatStandsMayStay(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	admin := newClient(g, config, administrator)
	list := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: platformNamespace, Name: "allowed-registries"}
	g.Expect(admin.Get(t.Context(), key, list)).To(Succeed())
	before := list.Data["registries"]
	setRegistries(t, config, "docker.io/library\nregistry.example.org/old")
	deployment := base(g, "Deployment", tenantNamespace)
	deployment.SetName("old")
	containers := []any{map[string]any{"name": "a", "image": "registry.example.org/old/orthanc:1"}}
	g.Expect(unstructured.SetNestedSlice(deployment.Object, containers, "spec", "template", "spec", "containers")).To(Succeed())
	c := newClient(g, config, applier)
	g.Eventually(func() error { return c.Create(t.Context(), deployment.DeepCopy(), client.DryRunAll) }, 10*time.Second).Should(Succeed())
	g.Expect(c.Create(t.Context(), deployment)).To(Succeed())
	setRegistries(t, config, before)
	g.Eventually(func() error {
		attempt := deployment.DeepCopy()
		attempt.SetResourceVersion("")
		attempt.SetName("another")
		return c.Create(t.Context(), attempt, client.DryRunAll)
	}, 10*time.Second).Should(MatchError(ContainSubstring("registry.example.org/old/orthanc is in no registry")))

	patch := func(change string) error {
		return c.Patch(t.Context(), deployment.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(change)), client.DryRunAll)
	}
	expect(g, patch(`{"metadata":{"annotations":{"deployment.kubernetes.io/revision":"2"}}}`), "")
	expect(g, patch(`{"metadata":{"finalizers":["example.org/x"]}}`), "")
	expect(g, patch(`{"spec":{"template":{"metadata":{"labels":{"new":"x"}}}}}`), "is in no registry")
	// Kubernetes makes of it what it needs.
	controllers := newClient(g, config, person)
	set := base(g, "ReplicaSet", tenantNamespace)
	set.SetName("of-old")
	g.Expect(unstructured.SetNestedSlice(set.Object, containers, "spec", "template", "spec", "containers")).To(Succeed())
	expect(g, controllers.Create(t.Context(), set.DeepCopy(), client.DryRunAll), "is in no registry")
	set.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(deployment, appsv1.SchemeGroupVersion.WithKind("Deployment"))})
	expect(g, controllers.Create(t.Context(), set.DeepCopy(), client.DryRunAll), "")
	pod := base(g, "Pod", tenantNamespace)
	pod.SetName("of-old")
	expect(g, controllers.Create(t.Context(), pod, client.DryRunAll), "")
	expect(g, c.Delete(t.Context(), deployment), "")
}

// Korthweb puts back in several steps what somebody changed by hand: who holds the fields, what was added, what was changed.
func testRepairs(t *testing.T, config *rest.Config) {
	admin, c := newClient(NewWithT(t), config, administrator), newClient(NewWithT(t), config, korthweb)
	for _, test := range []struct{ name, object, namespace, drift, step, denied string }{
		{"fields added", "layer", platformNamespace, `spec: {targetNamespace: default, namePrefix: x-}`, `metadata: {annotations: {a: b}}`, ""},
		{"fields added, one removed", "layer", platformNamespace, `spec: {targetNamespace: default, namePrefix: x-}`, `spec: {targetNamespace: null}`, ""},
		{"fields added, one changed", "layer", platformNamespace, `spec: {targetNamespace: default}`, `spec: {targetNamespace: kube-system}`, "spec.targetNamespace"},
		{"account changed", "layer", platformNamespace, `spec: {serviceAccountName: default}`, `metadata: {annotations: {a: b}}`, ""},
		{"account changed, put back", "layer", platformNamespace, `spec: {serviceAccountName: default}`, `spec: {serviceAccountName: bhs-applier}`, ""},
		{"account changed, then removed", "layer", platformNamespace, `spec: {serviceAccountName: default}`, `spec: {serviceAccountName: null}`, "spec.serviceAccountName"},
		{"labels removed", "layer", platformNamespace, `metadata: {labels: null}`, `metadata: {annotations: {a: b}}`, ""},
		{"source changed", "layer", platformNamespace, `spec: {sourceRef: {kind: GitRepository}}`, `spec: {suspend: true}`, ""},
		{"source changed again", "layer", platformNamespace, `spec: {sourceRef: {kind: GitRepository}}`, `spec: {sourceRef: {name: other}}`, "spec.sourceRef"},
		{"everybody bound", "binding", tenantNamespace, `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:authenticated"}]`, `metadata: {annotations: {a: b}}`, ""},
		{"nobody bound", "binding", tenantNamespace, `subjects: null`, `subjects: [{kind: ServiceAccount, namespace: flux-system, name: bhs-applier}]`, ""},
		{"everybody bound, and another", "binding", tenantNamespace, `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:authenticated"}]`,
			`subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:unauthenticated"}]`, "subjects"},
		{"restriction lifted", "Namespace", "", `metadata: {labels: {pod-security.kubernetes.io/enforce: privileged}}`, `metadata: {annotations: {a: b}}`, ""},
		{"restriction lifted, and further", "Namespace", "", `metadata: {labels: {pod-security.kubernetes.io/enforce: baseline}}`, `metadata: {labels: {pod-security.kubernetes.io/enforce: privileged}}`, "pod-security"},
	} {
		t.Run(test.object+"/"+test.name, func(t *testing.T) {
			g := NewWithT(t)
			object, _ := attempt{change: test.drift}.changed(g, base(g, test.object, test.namespace))
			object.SetName("")
			object.SetGenerateName("drifted-")
			g.Expect(admin.Create(t.Context(), object)).To(Succeed())
			_, step := attempt{change: test.step}.changed(g, object)
			expect(g, c.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, step), client.DryRunAll), test.denied)
		})
	}
}
