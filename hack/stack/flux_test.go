// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/hack/stack"
)

// createTenantNamespace makes a namespace with a ServiceAccount that may edit it.
func createTenantNamespace(ctx context.Context, g Gomega, c client.Client, name, account, accountNamespace string) {
	g.Expect(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
	g.Expect(c.Create(ctx, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: accountNamespace},
	})).To(Succeed())
	g.Expect(c.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: accountNamespace, Name: account}},
	})).To(Succeed())
}

func archive(g Gomega, files map[string]string) []byte {
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for name, content := range files {
		g.Expect(tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})).To(Succeed())
		_, err := tw.Write([]byte(content))
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(tw.Close()).To(Succeed())
	g.Expect(gz.Close()).To(Succeed())
	return out.Bytes()
}

func configMap(namespace string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-artifact, namespace: " + namespace + "}\n"
}

// testKustomization leaves its artifact served until parent ends.
func testKustomization(ctx context.Context, t, parent *testing.T, c client.Client) {
	g := NewWithT(t)
	const ns = "kustomized"
	createTenantNamespace(ctx, g, c, ns, "applier", stack.FluxNamespace)

	data := archive(g, map[string]string{
		"good/kustomization.yaml": "resources: [config.yaml]\n", "good/config.yaml": configMap(ns),
		"bad/kustomization.yaml": "resources: [config.yaml]\n", "bad/config.yaml": configMap("default"),
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }))
	parent.Cleanup(server.Close)
	artifact := &sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Name: "by-hand", Namespace: stack.FluxNamespace}}
	g.Expect(c.Create(ctx, artifact)).To(Succeed())
	const revision = "main/1a2b3c4d5e6f@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	artifact.Status.Artifact = &meta.Artifact{
		Path: "a.tar.gz", URL: server.URL + "/a.tar.gz", Revision: revision,
		Digest: digest.FromBytes(data).String(), LastUpdateTime: metav1.Now(),
	}
	artifact.Status.Conditions = []metav1.Condition{{
		Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: meta.SucceededReason, LastTransitionTime: metav1.Now(),
	}}
	g.Expect(c.Status().Update(ctx, artifact)).To(Succeed())

	for _, name := range []string{"good", "bad"} {
		g.Expect(c.Create(ctx, &kustomizev1.Kustomization{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: stack.FluxNamespace},
			Spec: kustomizev1.KustomizationSpec{
				Interval:           metav1.Duration{Duration: time.Minute},
				Path:               "./" + name,
				Prune:              true,
				Wait:               true,
				ServiceAccountName: "applier",
				SourceRef:          kustomizev1.CrossNamespaceSourceReference{Kind: sourcev1.ExternalArtifactKind, Name: artifact.Name},
			},
		})).To(Succeed())
	}
	state := func(name string) func(Gomega) string {
		return func(g Gomega) string {
			var k kustomizev1.Kustomization
			g.Expect(c.Get(ctx, client.ObjectKey{Namespace: stack.FluxNamespace, Name: name}, &k)).To(Succeed())
			return ready(k.Status.Conditions)
		}
	}
	g.Eventually(state("good"), "30s", "100ms").Should(Equal("True: Applied revision: " + revision))
	g.Eventually(state("bad"), "30s", "100ms").Should(And(
		HavePrefix("False: "), ContainSubstring("forbidden"), ContainSubstring("system:serviceaccount:flux-system:applier")))
	g.Expect(c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "from-artifact"}, &corev1.ConfigMap{})).To(Succeed())
}

func testCharts(ctx context.Context, t *testing.T, c client.Client) {
	g := NewWithT(t)
	charts, err := stack.StartChartRegistry(ctx)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(charts.Stop()).To(Succeed()) })
	g.Expect(charts.Stop()).To(Succeed())
	g.Expect(charts.Start()).To(Succeed(), "with the same content as before")

	for _, tc := range []struct {
		name   string
		chart  stack.Chart
		values string
	}{
		{name: "istio-ingress", chart: charts.Gateway, values: `{}`},
		// Without what is cluster-scoped, or more than the role admin may give away.
		{name: "traefik", chart: charts.Traefik, values: `{"rbac": {"enabled": false}, "ingressClass": {"enabled": false}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			ns := "chart-" + tc.name
			createTenantNamespace(ctx, g, c, ns, "helm-applier", ns)
			g.Expect(c.Create(ctx, &sourcev1.OCIRepository{
				ObjectMeta: metav1.ObjectMeta{Name: tc.name, Namespace: ns},
				Spec: sourcev1.OCIRepositorySpec{
					Interval:  metav1.Duration{Duration: time.Minute},
					URL:       tc.chart.URL,
					Insecure:  true,
					Reference: &sourcev1.OCIRepositoryRef{Tag: tc.chart.Version},
				},
			})).To(Succeed())
			release := &helmv2.HelmRelease{
				ObjectMeta: metav1.ObjectMeta{Name: tc.name, Namespace: ns},
				Spec: helmv2.HelmReleaseSpec{
					Interval:           metav1.Duration{Duration: time.Minute},
					ReleaseName:        tc.name,
					ServiceAccountName: "helm-applier",
					ChartRef:           &helmv2.CrossNamespaceSourceReference{Kind: sourcev1.OCIRepositoryKind, Name: tc.name},
					// The stack has the CRDs, and this account may not create any.
					Install: &helmv2.Install{CRDs: helmv2.Skip},
					Values:  &apiextensionsv1.JSON{Raw: []byte(tc.values)},
				},
			}
			g.Expect(c.Create(ctx, release)).To(Succeed())
			g.Eventually(func(g Gomega) string {
				g.Expect(c.Get(ctx, client.ObjectKeyFromObject(release), release)).To(Succeed())
				// It reports Ready a moment before the release is in the history.
				g.Expect(release.Status.History).NotTo(BeEmpty())
				return ready(release.Status.Conditions)
			}, "60s", "200ms").Should(HavePrefix("True: Helm install succeeded"))
			// helm-controller appends the digest, so that a moved tag is another version.
			g.Expect(release.Status.History.Latest().ChartVersion).To(HavePrefix(tc.chart.Version + "+"))
			var service corev1.Service
			g.Expect(c.Get(ctx, client.ObjectKey{Namespace: ns, Name: tc.name}, &service)).To(Succeed())
			g.Expect(service.Status.LoadBalancer.Ingress).To(HaveLen(1))
			g.Expect(service.Status.LoadBalancer.Ingress[0].IP).To(HavePrefix("198.18."))
		})
	}
}

// testSimulated checks the stages that stand in for operators, also after a change.
func testSimulated(ctx context.Context, t *testing.T, c client.Client) {
	const ns = "simulated"
	NewWithT(t).Expect(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})).To(Succeed())
	certManager := schema.GroupVersion{Group: "cert-manager.io", Version: "v1"}
	for _, tc := range []struct {
		kind   schema.GroupVersionKind
		spec   map[string]any
		change map[string]any
		want   func(Gomega, *unstructured.Unstructured)
	}{
		{
			kind:   certManager.WithKind("Issuer"),
			spec:   map[string]any{"selfSigned": map[string]any{}},
			change: map[string]any{"ca": map[string]any{"secretName": "ca"}, "selfSigned": nil},
			want:   observed,
		},
		{
			kind:   certManager.WithKind("Certificate"),
			spec:   map[string]any{"secretName": "tls", "commonName": "a", "issuerRef": map[string]any{"name": "issuer"}},
			change: map[string]any{"commonName": "b"},
			want:   observed,
		},
		{
			kind:   schema.GroupVersionKind{Group: "postgresql.cnpg.io", Version: "v1", Kind: "Cluster"},
			spec:   map[string]any{"instances": int64(1), "storage": map[string]any{"size": "1Gi"}},
			change: map[string]any{"instances": int64(3)},
			want: func(g Gomega, u *unstructured.Unstructured) {
				want, _, _ := unstructured.NestedInt64(u.Object, "spec", "instances")
				got, _, _ := unstructured.NestedInt64(u.Object, "status", "readyInstances")
				g.Expect(got).To(Equal(want))
			},
		},
	} {
		t.Run(tc.kind.Kind, func(t *testing.T) {
			g := NewWithT(t)
			u := &unstructured.Unstructured{Object: map[string]any{"spec": tc.spec}}
			u.SetGroupVersionKind(tc.kind)
			u.SetNamespace(ns)
			u.SetName("it")
			g.Expect(c.Create(ctx, u)).To(Succeed())
			check := func(g Gomega) {
				g.Expect(c.Get(ctx, client.ObjectKeyFromObject(u), u)).To(Succeed())
				g.Expect(readyCondition(u)).To(HaveKeyWithValue("status", "True"))
				tc.want(g, u)
			}
			g.Eventually(check, "20s", "100ms").Should(Succeed())
			before := u.GetGeneration()
			body, err := json.Marshal(map[string]any{"spec": tc.change})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(c.Patch(ctx, u, client.RawPatch(types.MergePatchType, body))).To(Succeed())
			g.Expect(u.GetGeneration()).To(BeNumerically(">", before))
			g.Eventually(check, "20s", "100ms").Should(Succeed())
		})
	}
}

func observed(g Gomega, u *unstructured.Unstructured) {
	g.Expect(readyCondition(u)).To(HaveKeyWithValue("observedGeneration", u.GetGeneration()))
}

func readyCondition(u *unstructured.Unstructured) map[string]any {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range list {
		if condition, ok := item.(map[string]any); ok && condition["type"] == "Ready" {
			return condition
		}
	}
	return nil
}
