// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	artifactcfg "github.com/fluxcd/pkg/artifact/config"
	"github.com/fluxcd/pkg/artifact/storage"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/retry"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcfg "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/test/apiserver"
)

var (
	ctx    = context.Background()
	scheme *runtime.Scheme
	admin  client.Client
	server *apiserver.Server
)

func TestMain(m *testing.M) {
	apiserver.Main(ctx, m, func(s *apiserver.Server, kinds *runtime.Scheme, c client.Client) error {
		server, scheme, admin = s, kinds, c
		return nil
	})
}

// harness is one platform namespace with a running Tenant controller, under the roles of config/rbac. Nothing acts on what
// it emits: tests play Flux.
type harness struct {
	*WithT
	t         *testing.T
	namespace string
	storage   string
	stop      func()
	events    *record.FakeRecorder

	mu     sync.Mutex
	writes []string
	reads  []string
}

func newHarness(t *testing.T) *harness {
	h := &harness{WithT: NewWithT(t), t: t, storage: t.TempDir(), events: record.NewFakeRecorder(1000)}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "platform-"}}
	h.Expect(admin.Create(ctx, ns)).To(Succeed())
	h.namespace = ns.Name
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// start runs a Tenant controller with the harness' storage, as a new pod does.
func (h *harness) start() {
	config := rest.CopyConfig(server.Korthweb)
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			h.mu.Lock()
			if r.Method != http.MethodGet {
				h.writes = append(h.writes, r.Method+" "+r.URL.Path)
			} else if r.URL.Query().Get("watch") == "" {
				h.reads = append(h.reads, r.URL.Path)
			}
			h.mu.Unlock()
			return next.RoundTrip(r)
		})
	})
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.FieldManager}),
		Namespaces: map[string]cache.Config{metav1.NamespaceAll: {}}}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Client:  client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		Cache: cache.Options{
			DefaultTransform:  cache.TransformStripManagedFields(),
			DefaultNamespaces: map[string]cache.Config{h.namespace: {}},
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Namespace{}: {Label: ours.Label}, &corev1.ServiceAccount{}: ours, &rbacv1.RoleBinding{}: ours,
			},
		},
		Controller: ctrlcfg.Controller{SkipNameValidation: ptr.To(true), RecoverPanic: ptr.To(false)},
	})
	h.Expect(err).NotTo(HaveOccurred())
	renderer, err := render.New(bundles.FS)
	h.Expect(err).NotTo(HaveOccurred())
	reconciler := &TenantReconciler{
		Client:                    mgr.GetClient(),
		EventRecorder:             h.events,
		Renderer:                  renderer,
		Publisher:                 h.publisher(),
		History:                   artifact.NewHistory(mgr.GetClient(), mgr.GetAPIReader()),
		Uncached:                  mgr.GetAPIReader(),
		Applier:                   emit.NewApplier(mgr.GetClient(), mgr.GetAPIReader(), h.self()),
		DependencyRequeueInterval: 200 * time.Millisecond,
		grace:                     2 * time.Second,
	}
	running, cancel := context.WithCancel(ctx)
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, time.Second)
	h.Expect(reconciler.SetupWithManager(running, mgr, limiter)).To(Succeed())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(running) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		h.Expect(<-done).To(Succeed())
	})
}

// publisher returns a Publisher to the harness' storage.
func (h *harness) publisher() *artifact.Publisher {
	store, err := storage.New(&artifactcfg.Options{StoragePath: h.storage, StorageAdvAddress: "korthweb",
		ArtifactRetentionTTL: time.Hour, ArtifactRetentionRecords: 2})
	h.Expect(err).NotTo(HaveOccurred())
	return artifact.NewPublisher(store)
}

// self is who the controller is to the apiserver.
func (h *harness) self() rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: v1alpha1.FieldManager}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (h *harness) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes, h.reads = nil, nil
}

// written returns the requests that wrote something, but for the events.
func (h *harness) written() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.writes)
}

// read returns the paths that were read and contain part.
func (h *harness) read(part string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.reads), func(path string) bool { return !strings.Contains(path, part) })
}

// recorded takes the next event of a reason.
func (h *harness) recorded(reason string) string {
	h.t.Helper()
	for {
		select {
		case event := <-h.events.Events:
			if strings.Contains(event, " "+reason+" ") {
				return event
			}
		case <-time.After(20 * time.Second):
			h.t.Fatalf("no event %s", reason)
		}
	}
}

// eventually polls for what comes within seconds.
func (h *harness) eventually(check func(Gomega)) {
	h.t.Helper()
	h.Eventually(check, 20*time.Second, 50*time.Millisecond).Should(Succeed())
}

// create makes a Tenant as a TenantRepository does, or by hand where repository is empty, and waits until it is published.
func (h *harness) create(name, repository string) *v1alpha1.Tenant {
	h.t.Helper()
	t := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: name, Annotations: map[string]string{v1alpha1.RevisionAnnotation: "main@sha1:1111"}},
		Spec:       v1alpha1.TenantSpec{Domain: name + ".orthweb.com"},
	}
	if repository != "" {
		t.Labels = map[string]string{v1alpha1.RepositoryLabel: repository}
	}
	h.Expect(admin.Create(ctx, t)).To(Succeed())
	h.becomeReady(name)
	return h.get(name)
}

// update writes what a test changed in a Tenant over its newest state, as kubectl apply does: Korthweb writes to it too.
func (h *harness) update(t *v1alpha1.Tenant) {
	h.t.Helper()
	h.Expect(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		live := h.get(t.Name)
		live.Spec, live.Labels, live.Annotations = t.Spec, t.Labels, t.Annotations
		err := admin.Update(ctx, live)
		live.DeepCopyInto(t)
		return err
	})).To(Succeed())
}

func (h *harness) get(name string) *v1alpha1.Tenant {
	h.t.Helper()
	t := &v1alpha1.Tenant{}
	h.Expect(admin.Get(ctx, h.key(name), t)).To(Succeed())
	return t
}

func (h *harness) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: h.namespace, Name: name}
}

// becomeReady plays kustomize-controller until the Tenant is Ready.
func (h *harness) becomeReady(name string) {
	h.t.Helper()
	h.eventually(func(g Gomega) {
		t := &v1alpha1.Tenant{}
		g.Expect(admin.Get(ctx, h.key(name), t)).To(Succeed())
		g.Expect(t.Status.Artifact).NotTo(BeNil())
		for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
			k := &kustomizev1.Kustomization{}
			g.Expect(admin.Get(ctx, h.key(t.LayerName(layer)), k)).To(Succeed())
			if k.Status.LastAppliedRevision == t.Status.Artifact.Revision && k.Status.ObservedGeneration == k.Generation {
				continue
			}
			before := k.DeepCopy()
			k.Status.LastAppliedRevision, k.Status.LastAttemptedRevision = t.Status.Artifact.Revision, t.Status.Artifact.Revision
			k.Status.ObservedGeneration = k.Generation
			k.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: meta.ReconciliationSucceededReason,
				ObservedGeneration: k.Generation, LastTransitionTime: metav1.Now()}}
			g.Expect(admin.Status().Patch(ctx, k, client.MergeFrom(before))).To(Succeed())
		}
		g.Expect(status(t, meta.ReadyCondition)).To(Equal(metav1.ConditionTrue))
	})
}

func status(t *v1alpha1.Tenant, condition string) metav1.ConditionStatus {
	for _, c := range t.Status.Conditions {
		if c.Type == condition {
			return c.Status
		}
	}
	return ""
}

// archived says whether the tenant's announced archive is in the storage.
func (h *harness) archived(g Gomega, name string) {
	ea := &sourcev1.ExternalArtifact{}
	g.Expect(admin.Get(ctx, h.key(name), ea)).To(Succeed())
	g.Expect(ea.Status.Artifact).NotTo(BeNil())
	_, err := os.Stat(filepath.Join(h.storage, ea.Status.Artifact.Path))
	g.Expect(err).NotTo(HaveOccurred())
}
