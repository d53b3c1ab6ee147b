// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
	"github.com/digihunch/korthweb/internal/artifact"
)

// The safe defaults of the controller, and what their flags loosen, on a real apiserver.
func TestControllerFlags(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(30 * time.Second)
	ctx := t.Context()
	binary := filepath.Join(t.TempDir(), "korthweb")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "../..").CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(out))

	git, err := gitserver.New(t.TempDir(), gitserver.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(git.Close()).To(Succeed()) })
	repo, err := git.CreateRepo("tenants", fstest.MapFS{
		"tenants/bhs.yaml": &fstest.MapFile{Data: []byte(header + "bhs\nspec:\n  domain: bhs.example.com\n")},
	})
	g.Expect(err).NotTo(HaveOccurred())

	s, err := stack.Start(ctx, stack.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(s.Stop()).To(Succeed()) })
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme,
	} {
		g.Expect(add(scheme)).To(Succeed())
	}
	c, err := client.New(s.RESTConfig(), client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())

	const elsewhere = "team-a"
	g.Expect(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: elsewhere}})).To(Succeed())
	repository := func(namespace, path string) *v1alpha1.TenantRepository {
		obj := &v1alpha1.TenantRepository{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "tenants"}}
		obj.Spec.Interval = metav1.Duration{Duration: time.Minute}
		obj.Spec.Git = &v1alpha1.GitSource{URL: repo.URL(), Reference: &sourcev1.GitRepositoryRef{Branch: "main"}}
		obj.Spec.Path = path
		g.Expect(c.Create(ctx, obj)).To(Succeed())
		return obj
	}
	ours, theirs := repository(stack.FluxNamespace, "./tenants"), repository(elsewhere, "./none")
	reread := func(g Gomega, obj *v1alpha1.TenantRepository) *v1alpha1.TenantRepository {
		g.Expect(c.Get(ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		return obj
	}
	status := func(address, path string) (int, error) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	var addresses [3]string
	for i := range addresses {
		addresses[i], err = stack.FreeAddress()
		g.Expect(err).NotTo(HaveOccurred())
	}
	storage, metrics, profiles := addresses[0], addresses[1], addresses[2]

	// By default: no plain http, its own namespace, no profiles.
	g.Expect(s.StartKorthweb(ctx, stack.KorthwebOptions{Binary: binary, StorageAddr: storage, MetricsAddr: metrics,
		Args: []string{"--insecure-allow-http=false", "--watch-all-namespaces=false"}})).To(Succeed())
	g.Eventually(func(g Gomega) {
		obj := reread(g, ours)
		g.Expect(conditions.IsTrue(obj, meta.StalledCondition)).To(BeTrue())
		g.Expect(conditions.GetReason(obj, meta.StalledCondition)).To(Equal(sourcev1.URLInvalidReason))
		g.Expect(conditions.GetMessage(obj, meta.StalledCondition)).To(ContainSubstring("start the controller with --insecure-allow-http"))
	}).Should(Succeed())
	g.Eventually(func() (int, error) { return status(storage, artifact.ReadyPath) }).Should(Equal(http.StatusOK))
	g.Expect(status(storage, "/")).To(Equal(http.StatusNotFound))
	g.Expect(status(metrics, "/metrics")).To(Equal(http.StatusOK))
	g.Expect(status(metrics, "/debug/pprof/")).To(Equal(http.StatusNotFound))

	// With plain http, and still its own namespace: what is a tenant's, in other namespaces, is made all the same.
	restart := func(args ...string) {
		g.Expect(s.StopProcess(stack.Korthweb)).To(Succeed())
		g.Expect(s.StartProcess(ctx, stack.Korthweb, args...)).To(Succeed())
	}
	restart("--insecure-allow-http", "--pprof-addr="+profiles)
	g.Eventually(func(g Gomega) {
		g.Expect(reread(g, ours).Status.LastAppliedRevision).To(HavePrefix("main@sha1:"))
		for _, obj := range []client.Object{
			&sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "bhs"}},
			&kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "bhs-application"}},
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "bhs-orthweb", Name: "helm-applier"}},
		} {
			g.Expect(c.Get(ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		}
	}).Should(Succeed())
	applier := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "bhs-orthweb", Name: "helm-applier"}}
	g.Expect(c.Delete(ctx, applier)).To(Succeed())
	g.Eventually(func() error { return c.Get(ctx, client.ObjectKeyFromObject(applier), applier) }).Should(Succeed(), "it is watched there")
	g.Expect(status(profiles, "/debug/pprof/")).To(Equal(http.StatusOK))
	g.Expect(status(metrics, "/debug/pprof/")).To(Equal(http.StatusNotFound))
	g.Expect(reread(g, theirs).Status).To(Equal(v1alpha1.TenantRepositoryStatus{}), "it is in another namespace")
	tenant := &v1alpha1.Tenant{}
	g.Expect(apierrors.IsNotFound(c.Get(ctx, client.ObjectKey{Namespace: elsewhere, Name: "bhs"}, tenant))).To(BeTrue())

	// With all namespaces.
	restart("--insecure-allow-http", "--watch-all-namespaces")
	g.Eventually(func(g Gomega) {
		g.Expect(conditions.Get(reread(g, theirs), meta.ReadyCondition)).NotTo(BeNil())
	}).Should(Succeed())
}
