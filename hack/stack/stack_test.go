// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/digihunch/korthweb/hack/stack"
)

// helperEnv makes the test binary a parent that starts a stack and waits to be killed.
const helperEnv = "KORTHWEB_STACK_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		helperParent()
	}
	// Else controller-runtime complains that it has no logger.
	log.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	os.Exit(m.Run())
}

func helperParent() {
	s, err := stack.Start(context.Background(), stack.Options{Dir: os.Getenv(helperEnv)})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for _, pid := range s.PIDs() {
		fmt.Println(pid)
	}
	fmt.Println("ready")
	select {}
}

func newClient(g Gomega, cfg *rest.Config) client.Client {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme, helmv2.AddToScheme,
	} {
		g.Expect(add(scheme)).To(Succeed())
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())
	return c
}

// TestStack starts everything once, since that takes ten seconds, and its parts use
// it one after the other.
func TestStack(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)

	s, err := stack.Start(ctx, stack.Options{Dir: t.TempDir(), Workloads: true, Flux: true, Progress: t.Output()})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(s.Stop()).To(Succeed()) })
	c := newClient(g, s.RESTConfig())

	t.Run("all programs run", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(slices.Collect(maps.Keys(s.PIDs()))).To(ConsistOf(
			stack.Etcd, stack.APIServer, stack.ControllerManager, stack.Scheduler, stack.Kwok,
			stack.SourceController, stack.KustomizeController, stack.HelmController))
	})
	t.Run("clients can parse the apiserver's version", func(t *testing.T) {
		g := NewWithT(t)
		d, err := discovery.NewDiscoveryClientForConfig(s.RESTConfig())
		g.Expect(err).NotTo(HaveOccurred())
		info, err := d.ServerVersion()
		g.Expect(err).NotTo(HaveOccurred())
		parsed, err := version.ParseSemantic(info.GitVersion)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(parsed.AtLeast(version.MustParseSemantic("v1.36.0"))).To(BeTrue(), info.GitVersion)
		g.Expect(info.Major + "." + info.Minor).To(Equal("1.36"))
	})
	t.Run("workloads come up", func(t *testing.T) { testWorkloads(ctx, t, c) })
	t.Run("the simulated operators answer", func(t *testing.T) { testSimulated(ctx, t, c) })
	parent := t
	t.Run("a Kustomization applies an ExternalArtifact as its ServiceAccount", func(t *testing.T) {
		testKustomization(ctx, t, parent, c)
	})
	t.Run("a HelmRelease installs each chart", func(t *testing.T) { testCharts(ctx, t, c) })
	t.Run("a ServiceAccount has its own rights only", func(t *testing.T) { testServiceAccount(ctx, t, s, c) })
	t.Run("etcd and the apiserver keep their data over a SIGKILL", func(t *testing.T) { testRestart(ctx, t, s, c) })
	t.Run("a program of the caller's own is restarted with new flags", func(t *testing.T) { testRun(ctx, t, s) })
	t.Run("Stop leaves no process", func(t *testing.T) {
		g := NewWithT(t)
		pids := s.PIDs()
		g.Expect(pids).To(HaveLen(8))
		g.Expect(s.Stop()).To(Succeed())
		for name, pid := range pids {
			g.Expect(syscall.Kill(pid, 0)).To(MatchError(syscall.ESRCH), name)
		}
		g.Expect(s.PIDs()).To(BeEmpty())
		g.Expect(processesOf(g, s.Dir())).To(BeEmpty())
	})
}

func testWorkloads(ctx context.Context, t *testing.T, c client.Client) {
	g := NewWithT(t)
	const ns = "workloads"
	g.Expect(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})).To(Succeed())
	claims := map[string]corev1.PersistentVolumeAccessMode{"many": corev1.ReadWriteMany, "once": corev1.ReadWriteOnce}
	for name, mode := range claims {
		g.Expect(c.Create(ctx, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{mode},
				Resources: corev1.VolumeResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")},
				},
			},
		})).To(Succeed())
	}
	labels := map[string]string{"app": "web"}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: ns},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "web", Image: "registry.invalid/web"}},
					Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
						PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "many"},
					}}},
				},
			},
		},
	}
	g.Expect(c.Create(ctx, deployment)).To(Succeed())
	g.Eventually(func(g Gomega) {
		for name, mode := range claims {
			var claim corev1.PersistentVolumeClaim
			g.Expect(c.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &claim)).To(Succeed())
			g.Expect(claim.Status.Phase).To(Equal(corev1.ClaimBound), name)
			g.Expect(claim.Status.AccessModes).To(ConsistOf(mode))
		}
		g.Expect(c.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)).To(Succeed())
		g.Expect(deployment.Status.AvailableReplicas).To(BeEquivalentTo(1))
	}, time.Minute, 100*time.Millisecond).Should(Succeed())
}

func testServiceAccount(ctx context.Context, t *testing.T, s *stack.Stack, admin client.Client) {
	g := NewWithT(t)
	meta := metav1.ObjectMeta{Name: "reader", Namespace: stack.FluxNamespace}
	g.Expect(admin.Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta})).To(Succeed())
	g.Expect(admin.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: meta.Namespace, Name: meta.Name}},
	})).To(Succeed())
	cfg, path, err := s.ServiceAccountConfig(ctx, meta.Namespace, meta.Name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.Stat(path)).To(HaveField("Mode()", os.FileMode(0o600)))
	c := newClient(g, cfg)
	g.Eventually(func() error {
		return c.List(ctx, &corev1.PodList{}, client.InNamespace(meta.Namespace))
	}, "5s", "50ms").Should(Succeed())
	err = c.Create(ctx, &corev1.ConfigMap{ObjectMeta: meta})
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
	_, _, err = s.ServiceAccountConfig(ctx, meta.Namespace, "absent")
	g.Expect(err).To(MatchError(ContainSubstring("ServiceAccount flux-system/absent")))
}

func testRestart(ctx context.Context, t *testing.T, s *stack.Stack, c client.Client) {
	g := NewWithT(t)
	kept := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept", Namespace: "default"}}
	g.Expect(c.Create(ctx, kept)).To(Succeed())
	uid := kept.UID
	read := func() error { return c.Get(ctx, client.ObjectKeyFromObject(kept), kept) }

	g.Expect(s.Kill(stack.Etcd)).To(Succeed())
	g.Expect(s.PIDs()).NotTo(HaveKey(stack.Etcd))
	g.Expect(s.StartProcess(ctx, stack.Etcd)).To(Succeed())
	g.Eventually(read, "30s", "100ms").Should(Succeed(), "the apiserver finds etcd again")

	g.Expect(s.Kill(stack.APIServer)).To(Succeed())
	g.Expect(s.Kill(stack.Etcd)).To(Succeed())
	g.Expect(read()).NotTo(Succeed())
	g.Expect(s.StartProcess(ctx, stack.Etcd)).To(Succeed())
	g.Expect(s.StartProcess(ctx, stack.APIServer)).To(Succeed())
	g.Expect(read()).To(Succeed())
	g.Expect(kept.UID).To(Equal(uid))
	g.Expect(s.StartProcess(ctx, stack.Etcd)).To(MatchError(ContainSubstring("runs already")))

	// What uses the apiserver goes on by itself.
	web := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "workloads"}}
	g.Expect(c.Patch(ctx, web, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":3}}`)))).To(Succeed())
	good := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Name: "good", Namespace: stack.FluxNamespace}}
	g.Expect(c.Patch(ctx, good, client.RawPatch(types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":"now"}}}`)))).To(Succeed())
	g.Eventually(func(g Gomega) {
		g.Expect(c.Get(ctx, client.ObjectKeyFromObject(web), web)).To(Succeed())
		g.Expect(web.Status.AvailableReplicas).To(BeEquivalentTo(3))
		g.Expect(c.Get(ctx, client.ObjectKeyFromObject(good), good)).To(Succeed())
		g.Expect(good.Status.LastHandledReconcileAt).To(Equal("now"))
	}, "60s", "100ms").Should(Succeed())
}

func testRun(ctx context.Context, t *testing.T, s *stack.Stack) {
	g := NewWithT(t)
	sleep, err := exec.LookPath("sleep")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(s.Run(ctx, stack.Program{Name: "sleeper", Path: sleep, Args: []string{"1000"}})).To(Succeed())
	first := s.PIDs()["sleeper"]
	g.Expect(first).NotTo(BeZero())
	g.Expect(s.Run(ctx, stack.Program{Name: "sleeper", Path: sleep})).To(MatchError(ContainSubstring("already a program")))
	g.Expect(s.StopProcess("sleeper")).To(Succeed())
	g.Expect(s.PIDs()).NotTo(HaveKey("sleeper"))
	g.Expect(s.StartProcess(ctx, "sleeper", "0")).To(Succeed())
	g.Expect(s.PIDs()["sleeper"]).NotTo(Equal(first))
	g.Expect(s.Kill("sleeper")).To(Succeed())
	g.Expect(s.Kill("sleeper")).To(Succeed(), "gone already")
	g.Expect(s.Kill("absent")).To(MatchError(ContainSubstring("no program absent")))
}

// ready is the Ready condition of what has conditions, "status: message".
func ready(conditions []metav1.Condition) string {
	c := apimeta.FindStatusCondition(conditions, meta.ReadyCondition)
	if c == nil {
		return "no Ready condition"
	}
	return string(c.Status) + ": " + c.Message
}

// processesOf lists the command lines that name dir.
func processesOf(g Gomega, dir string) []string {
	out, err := exec.Command("ps", "-axo", "args=").Output()
	g.Expect(err).NotTo(HaveOccurred())
	var found []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, dir) {
			found = append(found, line)
		}
	}
	return found
}
