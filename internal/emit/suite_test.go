// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/test/apiserver"
)

const platform = "flux-system"

var (
	ctx    = context.Background()
	scheme *runtime.Scheme
	admin  client.Client
	config *rest.Config
)

func TestMain(m *testing.M) {
	apiserver.Main(ctx, m, func(s *apiserver.Server, kinds *runtime.Scheme, c client.Client) error {
		config, scheme, admin = s.Korthweb, kinds, c
		return admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: platform}})
	})
}

// counter counts requests by what they do.
type counter struct {
	sync.Mutex
	reads, writes []string
}

func (c *counter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		c.Lock()
		switch {
		case r.Method != http.MethodGet:
			c.writes = append(c.writes, r.Method+" "+r.URL.Path)
		case r.URL.Query().Get("watch") == "" && strings.Contains(r.URL.Path, "/v1/"):
			c.reads = append(c.reads, r.URL.Path)
		}
		c.Unlock()
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *counter) reset() {
	c.Lock()
	defer c.Unlock()
	c.reads, c.writes = nil, nil
}

// self is who the Appliers of the tests are.
var self = rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: v1alpha1.FieldManager}

// fixture is an Applier on a cache like the controller's.
type fixture struct {
	*WithT
	*emit.Applier
	*counter
	cached client.Client
}

func newFixture(t *testing.T) *fixture {
	g := NewWithT(t)
	c := &counter{}
	counted := rest.CopyConfig(config)
	counted.Wrap(c.wrap)
	counted.QPS = -1
	ours := labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.FieldManager})
	filtered := map[client.Object]cache.ByObject{}
	for _, o := range []client.Object{&corev1.Namespace{}, &corev1.ServiceAccount{}, &rbacv1.RoleBinding{}, &sourcev1.ExternalArtifact{}, &kustomizev1.Kustomization{}} {
		filtered[o] = cache.ByObject{Label: ours, Transform: cache.TransformStripManagedFields()}
	}
	cl, err := cluster.New(counted, func(o *cluster.Options) {
		o.Scheme = scheme
		o.Cache.ByObject = filtered
	})
	g.Expect(err).NotTo(HaveOccurred())
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- cl.Start(running) }()
	t.Cleanup(func() {
		cancel()
		g.Expect(<-done).To(Succeed())
	})
	for o := range filtered {
		_, err := cl.GetCache().GetInformer(ctx, o)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(cl.GetCache().WaitForCacheSync(ctx)).To(BeTrue())
	return &fixture{WithT: g, counter: c, cached: cl.GetClient(), Applier: emit.NewApplier(cl.GetClient(), cl.GetAPIReader(), self)}
}

// settle waits until the cache has what the apiserver has of a tenant.
func (f *fixture) settle(tenant *v1alpha1.Tenant) {
	f.Eventually(func(g Gomega) {
		for _, o := range emit.Objects(tenant) {
			live, seen := o.DeepCopyObject().(client.Object), o.DeepCopyObject().(client.Object)
			g.Expect(admin.Get(ctx, client.ObjectKeyFromObject(o), live)).To(Succeed())
			g.Expect(f.cached.Get(ctx, client.ObjectKeyFromObject(o), seen)).To(Succeed())
			g.Expect(seen.GetResourceVersion()).To(Equal(live.GetResourceVersion()))
		}
	}, 10*time.Second, 10*time.Millisecond).Should(Succeed())
	f.reset()
}

func createTenant(g *WithT, name string) *v1alpha1.Tenant {
	tenant := newTenant(name)
	g.Expect(admin.Create(ctx, tenant)).To(Succeed())
	return tenant
}

func published(revision string) *meta.Artifact {
	return &meta.Artifact{
		Digest: "sha256:" + strings.Repeat("a", 64), Path: "externalartifact/flux-system/x/y.tar.gz", URL: "http://korthweb/x",
		Revision: revision, LastUpdateTime: metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
	}
}

func kustomization(g *WithT, tenant *v1alpha1.Tenant, layer string) *kustomizev1.Kustomization {
	k := &kustomizev1.Kustomization{}
	g.Expect(admin.Get(ctx, types.NamespacedName{Namespace: platform, Name: tenant.LayerName(layer)}, k)).To(Succeed())
	return k
}
