// SPDX-License-Identifier: Apache-2.0

// Package policy_test asks a real apiserver what the admission policies of this directory allow.
package policy_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/hack/stack"
)

const (
	tenantNamespace = "bhs-orthweb"
	// earlierNamespace is a tenant's that an earlier version of Korthweb made, which wrote no annotations.
	earlierNamespace = "mhr-orthweb"
	otherNamespace   = "somebody"
	applier          = "system:serviceaccount:flux-system:bhs-applier"
	helmApplier      = "system:serviceaccount:bhs-orthweb:helm-applier"
	// ownAccount is what a chart may make and bind to what the chart's applier holds.
	ownAccount = "system:serviceaccount:bhs-orthweb:traefik"
	korthweb   = "system:serviceaccount:flux-system:korthweb"
	person     = "jane"
	label      = v1alpha1.TenantLabel
)

// ownAnnotations are those of the tenant's namespace, as Korthweb writes them. The keys are of annotations that the platform
// has allowed and the tenant has.
var ownAnnotations = map[string]string{
	v1alpha1.HostsAnnotation:             "bhs.example.org,dicom.bhs.example.org",
	v1alpha1.LoadBalancerIPAnnotation:    "192.0.2.1",
	v1alpha1.LoadBalancerClassAnnotation: "example.org/lb",
	v1alpha1.ServiceAnnotationsAnnotation: "example.org/scheme,external-dns.alpha.kubernetes.io/hostname,kube-vip.io/loadbalancerIPs," +
		"lbipam.cilium.io/ips,metallb.io/allow-shared-ip,metallb.io/loadBalancerIPs,metallb.universe.tf/loadBalancerIPs",
	v1alpha1.CommonAnnotationsAnnotation: "example.org/owner",
	v1alpha1.BackupPathAnnotation:        "s3://backups/bhs.example.com",
}

// The users have all rights that RBAC can give, so that what is denied is denied by a policy.
func TestPolicies(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	s, err := stack.Start(ctx, stack.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(s.Stop()).To(Succeed()) })
	admin := newClient(g, s.RESTConfig(), "")
	for _, name := range []string{tenantNamespace, earlierNamespace, otherNamespace} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name != otherNamespace {
			ns.Labels = map[string]string{
				label: strings.TrimSuffix(name, "-orthweb"), "app.kubernetes.io/managed-by": "korthweb", "pod-security.kubernetes.io/enforce": "restricted",
			}
		}
		if name == tenantNamespace {
			ns.Annotations = ownAnnotations
		}
		g.Expect(admin.Create(ctx, ns)).To(Succeed())
		g.Expect(admin.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}})).To(Succeed())
	}
	predate(ctx, g, admin)
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "users"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}
	for _, user := range []string{applier, helmApplier, ownAccount, "system:serviceaccount:mhr-orthweb:helm-applier", "system:serviceaccount:flux-system:rendered-applier", korthweb, person,
		"system:serviceaccount:kube-system:deployment-controller", "system:serviceaccount:kube-system:replicaset-controller",
		"system:serviceaccount:kube-system:statefulset-controller", "system:serviceaccount:kube-system:cronjob-controller",
		"system:serviceaccount:kube-system:job-controller", "system:serviceaccount:kube-system:daemon-set-controller",
		"system:serviceaccount:kube-system:replication-controller",
		"system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"} {
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user})
	}
	g.Expect(admin.Create(ctx, binding)).To(Succeed())
	g.Expect(s.InstallKorthwebRBAC(ctx)).To(Succeed())

	allowImaging(t, s.RESTConfig())
	awaitPolicies(t, s.RESTConfig())

	t.Run("appliers", func(t *testing.T) { testAppliers(t, s.RESTConfig()) })
	t.Run("rendered releases", func(t *testing.T) { testRenderedReleases(t, s.RESTConfig()) })
	t.Run("labels of namespaces", func(t *testing.T) { testNamespaceLabels(t, s.RESTConfig()) })
	t.Run("services", func(t *testing.T) { tryAll(t, s.RESTConfig(), serviceAttempts) })
	t.Run("routes", func(t *testing.T) { tryAll(t, s.RESTConfig(), routeAttempts) })
	t.Run("identities", func(t *testing.T) { tryAll(t, s.RESTConfig(), identityAttempts) })
	t.Run("subresources", func(t *testing.T) { testSubresources(t, s.RESTConfig()) })
	t.Run("network policies", func(t *testing.T) { tryAll(t, s.RESTConfig(), networkPolicyAttempts) })
	t.Run("default-deny", func(t *testing.T) { testDefaultDeny(t, s.RESTConfig()) })
	t.Run("pod templates", func(t *testing.T) { tryAll(t, s.RESTConfig(), templateAttempts) })
	t.Run("pods", func(t *testing.T) { tryAll(t, s.RESTConfig(), podAttempts) })
	t.Run("databases", func(t *testing.T) { tryAll(t, s.RESTConfig(), databaseAttempts) })
	t.Run("database fields", func(t *testing.T) { tryAll(t, s.RESTConfig(), databaseFieldAttempts) })
	t.Run("volume claims", func(t *testing.T) { tryAll(t, s.RESTConfig(), claimAttempts) })
	t.Run("annotations", func(t *testing.T) { tryAll(t, s.RESTConfig(), annotationAttempts) })
	t.Run("rendered bundles", func(t *testing.T) { testRenderedBundles(t, s.RESTConfig()) })
	t.Run("charts", func(t *testing.T) { tryAll(t, s.RESTConfig(), chartAttempts) })
	t.Run("registries", func(t *testing.T) { testRegistries(t, s.RESTConfig()) })
	t.Run("Korthweb's account", func(t *testing.T) { tryAll(t, s.RESTConfig(), accountAttempts) })
	t.Run("Korthweb's repairs", func(t *testing.T) { testRepairs(t, s.RESTConfig()) })
	t.Run("Korthweb's objects", func(t *testing.T) { tryAll(t, s.RESTConfig(), objectAttempts) })
	t.Run("deletion", func(t *testing.T) { testDeletion(t, s.RESTConfig()) })
	t.Run("what stands may stay", func(t *testing.T) { testWhatStandsMayStay(t, s.RESTConfig()) })
	t.Run("what predates the rules", func(t *testing.T) { testWhatPredatesTheRules(t, s.RESTConfig()) })
	t.Run("open places", func(t *testing.T) { testOpenPlaces(t, s.RESTConfig()) })
}

func testAppliers(t *testing.T, config *rest.Config) {
	tests := []struct {
		name      string
		user      string // the applier, unless set
		namespace string // the tenant's, unless set
		spec      map[string]any
		denied    string
	}{
		{name: "the tenant's account", spec: map[string]any{"serviceAccountName": "helm-applier"}},
		{name: "its own namespace", spec: map[string]any{"serviceAccountName": "helm-applier", "targetNamespace": tenantNamespace}},
		{name: "no account", denied: "spec.serviceAccountName: expected helm-applier"},
		{name: "another account", spec: map[string]any{"serviceAccountName": "default"}, denied: "spec.serviceAccountName"},
		{
			name:   "another cluster",
			spec:   map[string]any{"serviceAccountName": "helm-applier", "kubeConfig": map[string]any{"secretRef": map[string]any{"name": "x"}}},
			denied: "spec.kubeConfig",
		},
		{
			name:   "another namespace",
			spec:   map[string]any{"serviceAccountName": "helm-applier", "targetNamespace": "kube-system"},
			denied: "spec.targetNamespace",
		},
		{name: "the other applier", user: helmApplier, denied: "spec.serviceAccountName"},
		{name: "a person", user: person},
		{name: "an applier that is not Korthweb's", namespace: otherNamespace},
	}
	for _, kind := range []string{"HelmRelease", "Kustomization"} {
		for _, test := range tests {
			t.Run(kind+"/"+test.name, func(t *testing.T) {
				g := NewWithT(t)
				if test.user == "" {
					test.user = applier
				}
				if test.namespace == "" {
					test.namespace = tenantNamespace
				}
				err := newClient(g, config, test.user).Create(t.Context(), flux(kind, test.namespace, test.spec), client.DryRunAll)
				expect(g, err, test.denied)
			})
		}
		t.Run(kind+"/changed", func(t *testing.T) {
			g := NewWithT(t)
			obj := flux(kind, tenantNamespace, map[string]any{"serviceAccountName": "helm-applier"})
			c := newClient(g, config, applier)
			g.Expect(c.Create(t.Context(), obj)).To(Succeed())
			err := c.Patch(t.Context(), obj, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"serviceAccountName":null}}`)), client.DryRunAll)
			expect(g, err, "spec.serviceAccountName")
			err = c.Patch(t.Context(), obj, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":true}}`)), client.DryRunAll)
			expect(g, err, "")
			expect(g, c.Delete(t.Context(), obj), "")
		})
	}
	t.Run("HelmRelease/stored elsewhere", func(t *testing.T) {
		g := NewWithT(t)
		spec := map[string]any{"serviceAccountName": "helm-applier", "storageNamespace": "kube-system"}
		expect(g, newClient(g, config, applier).Create(t.Context(), flux("HelmRelease", tenantNamespace, spec), client.DryRunAll), "spec.storageNamespace")
	})
}

// testRenderedReleases tries every HelmRelease of the bundle bases, as kustomize-controller applies it.
func testRenderedReleases(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	c := newClient(g, config, applier)
	tried := 0
	g.Expect(fs.WalkDir(bundles.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(bundles.FS, name)
		if err != nil {
			return err
		}
		for document := range strings.SplitSeq(string(data), "\n---\n") {
			release := &unstructured.Unstructured{}
			// What is no object is no HelmRelease either.
			if yaml.Unmarshal([]byte(document), &release.Object) != nil || release.GetKind() != "HelmRelease" {
				continue
			}
			release.SetNamespace(tenantNamespace)
			g.Expect(c.Create(t.Context(), release, client.DryRunAll)).To(Succeed(), name)
			g.Expect(unstructured.SetNestedField(release.Object, "default", "spec", "serviceAccountName")).To(Succeed())
			expect(g, c.Create(t.Context(), release, client.DryRunAll), "spec.serviceAccountName")
			tried++
		}
		return nil
	})).To(Succeed())
	g.Expect(tried).To(BeNumerically(">=", 2))
}

func testNamespaceLabels(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	for _, test := range []struct {
		name   string
		do     func(context.Context, client.Client) error
		denied bool // to the person; Korthweb and administrators may do all of it
	}{
		{"create", func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, namespace("new"), client.DryRunAll)
		}, false},
		{"create with other labels", func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, namespace("new", "team", "radiology"), client.DryRunAll)
		}, false},
		{"create with Korthweb's", func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, namespace("new", label, "bhs"), client.DryRunAll)
		}, true},
		{"another label of a tenant's", patch(tenantNamespace, "", `{"team":"radiology"}`), false},
		{"the same value", patch(tenantNamespace, "", `{"`+label+`":"bhs"}`), false},
		{"change", patch(tenantNamespace, "", `{"`+label+`":"mhr"}`), true},
		{"remove", patch(tenantNamespace, "", `{"`+label+`":null}`), true},
		{"remove all", patch(tenantNamespace, "", `null`), true},
		{"add to a tenant's", patch(tenantNamespace, "", `{"korthweb.digihunch.com/layer":"x"}`), true},
		{"add to another", patch(otherNamespace, "", `{"`+label+`":"bhs"}`), true},
		{"add an empty one", patch(otherNamespace, "", `{"`+label+`":""}`), true},
		{"add by the status", patch(otherNamespace, "status", `{"`+label+`":"bhs"}`), true},
		{"another label of another", patch(otherNamespace, "", `{"team":"radiology"}`), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := NewWithT(t)
			want := ""
			if test.denied {
				want = "metadata.labels: only Korthweb may"
			}
			expect(g, test.do(t.Context(), newClient(g, config, person)), want)
			expect(g, test.do(t.Context(), newClient(g, config, "")), "")
		})
	}
	// Korthweb itself.
	expect(g, patch(tenantNamespace, "", `{"`+label+`":"mhr"}`)(t.Context(), newClient(g, config, korthweb)), "")
}

// patch returns what changes the labels of a namespace.
func patch(name, subresource, labels string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		change := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":`+labels+`}}`))
		if subresource != "" {
			return c.SubResource(subresource).Patch(ctx, namespace(name), change, client.DryRunAll)
		}
		return c.Patch(ctx, namespace(name), change, client.DryRunAll)
	}
}

func namespace(name string, labels ...string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for i := 0; i+1 < len(labels); i += 2 {
		ns.Labels[labels[i]] = labels[i+1]
	}
	return ns
}

// flux builds a HelmRelease or a Kustomization that the CRDs take, with spec over it.
func flux(kind, namespace string, spec map[string]any) *unstructured.Unstructured {
	group, version := "helm.toolkit.fluxcd.io", "v2"
	all := map[string]any{"interval": "1h"}
	if kind == "Kustomization" {
		group, version = "kustomize.toolkit.fluxcd.io", "v1"
		all["prune"], all["sourceRef"] = true, map[string]any{"kind": "GitRepository", "name": "x"}
	} else {
		all["chartRef"] = map[string]any{"kind": "OCIRepository", "name": "x"}
	}
	for field, value := range spec {
		all[field] = value
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": all}}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: version, Kind: kind})
	u.SetNamespace(namespace)
	u.SetName("attempt")
	return u
}

// newClient acts as a user, or as the administrator.
func newClient(g Gomega, config *rest.Config, user string) client.Client {
	config = rest.CopyConfig(config)
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	}
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	g.Expect(err).NotTo(HaveOccurred())
	return c
}

func expect(g Gomega, err error, denied string) {
	if denied == "" {
		g.Expect(err).NotTo(HaveOccurred())
		return
	}
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
	g.Expect(err).To(MatchError(And(ContainSubstring("ValidatingAdmissionPolicy"), ContainSubstring(denied))))
}
