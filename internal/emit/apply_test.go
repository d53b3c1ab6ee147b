// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

const platform = "flux-system"

var (
	ctx    = context.Background()
	scheme = runtime.NewScheme()
	admin  client.Client
	config *rest.Config
)

func TestMain(m *testing.M) {
	code, err := runWithControlPlane(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runWithControlPlane(m *testing.M) (code int, err error) {
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return 1, err
		}
	}
	root := filepath.Join("..", "..")
	crds := []string{filepath.Join(root, "config", "crd", "bases")}
	for _, module := range []string{"source-controller", "kustomize-controller"} {
		dir, err := exec.Command("go", "-C", filepath.Join(root, "hack", "stack", "programs"),
			"list", "-m", "-f", "{{.Dir}}", "github.com/fluxcd/"+module).Output()
		if err != nil {
			return 1, fmt.Errorf("finding the module of %s: %w", module, err)
		}
		crds = append(crds, filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "bases"))
	}
	assets, err := filepath.Abs(filepath.Join(root, "bin", "stack"))
	if err != nil {
		return 1, err
	}
	if _, err := os.Stat(filepath.Join(assets, "kube-apiserver")); err != nil {
		return 1, fmt.Errorf("%w: run make stack", err)
	}
	env := &envtest.Environment{BinaryAssetsDirectory: assets, CRDDirectoryPaths: crds, ErrorIfCRDPathMissing: true}
	if config, err = env.Start(); err != nil {
		return 1, fmt.Errorf("starting the control plane: %w", err)
	}
	defer func() {
		if stopErr := env.Stop(); err == nil {
			err = stopErr
		}
	}()
	if admin, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	if err := admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: platform}}); err != nil {
		return 1, err
	}
	if err := grant(filepath.Join(root, "config", "rbac")); err != nil {
		return 1, err
	}
	user, err := env.AddUser(envtest.User{Name: v1alpha1.FieldManager}, nil)
	if err != nil {
		return 1, err
	}
	config = user.Config()
	return m.Run(), nil
}

// grant gives the user that the Applier runs as what config/rbac gives the controller, and no more.
func grant(dir string) error {
	for _, file := range []string{"role.yaml", "applier_roles.yaml"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		for _, document := range strings.Split(string(data), "\n---\n") {
			role := &rbacv1.ClusterRole{}
			if err := yaml.UnmarshalStrict([]byte(document), role); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if role.Name == "" {
				continue
			}
			if err := admin.Create(ctx, role); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if strings.HasSuffix(role.Name, "-applier") {
				continue
			}
			if err := admin.Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: role.Name},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: v1alpha1.FieldManager}},
			}); err != nil {
				return err
			}
		}
	}
	return nil
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
	ours := labels.SelectorFromSet(labels.Set{emit.ManagedByLabel: v1alpha1.FieldManager})
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
	return &fixture{WithT: g, counter: c, cached: cl.GetClient(), Applier: emit.NewApplier(cl.GetClient(), cl.GetAPIReader())}
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
	tenant.UID = ""
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

func TestApplyThenNothing(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "steady")
	f.reset()

	result, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(result.Writes).To(Equal(10), "nine objects and one status")
	f.Expect(f.writes).To(HaveLen(result.Writes))
	f.Expect(f.reads).To(BeEmpty(), "what is new is created without a look")
	f.Expect(result.Changed).To(Equal([]string{
		"Namespace/steady-orthweb", "ServiceAccount/flux-system/steady-applier", "ServiceAccount/steady-orthweb/helm-applier",
		"RoleBinding/steady-orthweb/kustomize-applier", "RoleBinding/steady-orthweb/helm-applier",
		"Secret/steady-orthweb/orthanc-users", "ExternalArtifact/flux-system/steady",
		"Kustomization/flux-system/steady-dependency", "Kustomization/flux-system/steady-application"}))
	f.Expect(result.Inventory.Entries).To(HaveLen(9))
	f.Expect(result.Inventory.Entries).To(ContainElements(
		kustomizev1.ResourceRef{ID: "_steady-orthweb__Namespace", Version: "v1"},
		kustomizev1.ResourceRef{ID: "flux-system_steady-application_kustomize.toolkit.fluxcd.io_Kustomization", Version: "v1"}))

	ea := &sourcev1.ExternalArtifact{}
	f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(tenant), ea)).To(Succeed())
	f.Expect(ea.Status.Artifact.Revision).To(Equal("r1"))
	f.Expect(apimeta.IsStatusConditionTrue(ea.Status.Conditions, meta.ReadyCondition)).To(BeTrue())
	f.Expect(metav1.IsControlledBy(ea, tenant)).To(BeTrue())

	again := result.Inventory
	tenant.Status.Inventory = result.Inventory
	f.settle(tenant)
	result, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(result.Changed).To(BeEmpty())
	f.Expect(f.writes).To(BeEmpty())
	f.Expect(f.reads).To(Equal([]string{"/api/v1/namespaces/steady-orthweb/secrets/orthanc-users"}))
	f.Expect(result.Inventory).To(Equal(again), "the inventory does not depend on what changed")

	f.reset()
	result, err = f.Apply(ctx, tenant, published("r2"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.writes).To(Equal([]string{"PATCH /apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/externalartifacts/steady/status"}))
	f.Expect(result.Changed).To(Equal([]string{"ExternalArtifact/flux-system/steady"}))

	f.settle(tenant)
	_, err = f.Apply(ctx, tenant, published("r2"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.writes).To(BeEmpty())
}

// A cache that has not seen what was just written must not make a second write out of it.
func TestApplyAgainAtOnce(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "hasty")
	for range 3 {
		_, err := f.Apply(ctx, tenant, published("r1"))
		f.Expect(err).NotTo(HaveOccurred())
	}
	k := kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer)
	f.Expect(k.Generation).To(Equal(int64(1)))
}

func TestApplyRestores(t *testing.T) {
	for name, damage := range map[string]func(*fixture, *v1alpha1.Tenant){
		"field edited": func(f *fixture, tenant *v1alpha1.Tenant) {
			k := kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer)
			k.Spec.Prune = false
			f.Expect(admin.Update(ctx, k)).To(Succeed())
		},
		"label of the namespace edited": func(f *fixture, tenant *v1alpha1.Tenant) {
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.Spec.Namespace}}
			f.Expect(admin.Patch(ctx, ns, client.RawPatch(types.MergePatchType,
				[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`)))).To(Succeed())
		},
		"owner dropped": func(f *fixture, tenant *v1alpha1.Tenant) {
			k := kustomization(f.WithT, tenant, v1alpha1.DependencyLayer)
			k.OwnerReferences = nil
			f.Expect(admin.Update(ctx, k)).To(Succeed())
		},
		"subject added to a binding": func(f *fixture, tenant *v1alpha1.Tenant) {
			rb := &rbacv1.RoleBinding{}
			f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: tenant.Spec.Namespace, Name: emit.KustomizeApplierBinding}, rb)).To(Succeed())
			rb.Subjects = append(rb.Subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "intruder"})
			f.Expect(admin.Update(ctx, rb)).To(Succeed())
		},
		"account deleted": func(f *fixture, tenant *v1alpha1.Tenant) {
			f.Expect(admin.Delete(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: emit.ApplierName(tenant)}})).To(Succeed())
		},
		"secret deleted": func(f *fixture, tenant *v1alpha1.Tenant) {
			f.Expect(admin.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: emit.CredentialsName}})).To(Succeed())
		},
		"artifact blanked": func(f *fixture, tenant *v1alpha1.Tenant) {
			ea := &sourcev1.ExternalArtifact{}
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(tenant), ea)).To(Succeed())
			ea.Status = sourcev1.ExternalArtifactStatus{}
			f.Expect(admin.Status().Update(ctx, ea)).To(Succeed())
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, "restore-"+strings.ReplaceAll(name, " ", "-"))
			result, err := f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			tenant.Status.Inventory = result.Inventory
			damage(f, tenant)

			f.Eventually(func(g Gomega) {
				result, err := f.Apply(ctx, tenant, published("r1"))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(result.Changed).To(HaveLen(1))
			}, 10*time.Second, 20*time.Millisecond).Should(Succeed())

			f.settle(tenant)
			result, err = f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(result.Changed).To(BeEmpty())
			f.Expect(kustomization(f.WithT, tenant, v1alpha1.ApplicationLayer).Spec.Prune).To(BeTrue())
		})
	}
}

// What is no longer wanted goes, although it came with the creation of the object, and what others set stays.
func TestApplyTakesBack(t *testing.T) {
	f := newFixture(t)
	tenant := newTenant("takes-back")
	tenant.UID = ""
	tenant.Spec.Suspend = true
	tenant.Spec.DependsOn = []v1alpha1.DependencyReference{{Name: "infrastructure"}}
	f.Expect(admin.Create(ctx, tenant)).To(Succeed())
	result, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	tenant.Status.Inventory = result.Inventory
	k := kustomization(f.WithT, tenant, v1alpha1.DependencyLayer)
	f.Expect(k.Spec.Suspend).To(BeTrue())
	f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"note":"kept"}},"spec":{"force":true}}`)))).To(Succeed())
	f.settle(tenant)

	tenant.Spec.Suspend, tenant.Spec.DependsOn = false, nil
	_, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	k = kustomization(f.WithT, tenant, v1alpha1.DependencyLayer)
	f.Expect(k.Spec.Suspend).To(BeFalse())
	f.Expect(k.Spec.DependsOn).To(BeEmpty())
	f.Expect(k.Spec.Force).To(BeTrue())
	f.Expect(k.Annotations).To(HaveKeyWithValue("note", "kept"))

	// A layer that a person suspends stays suspended.
	f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":true}}`)))).To(Succeed())
	f.settle(tenant)
	_, err = f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.writes).To(BeEmpty())
}

func TestApplyTakesNothingOver(t *testing.T) {
	other := map[string]string{emit.ManagedByLabel: v1alpha1.FieldManager, v1alpha1.TenantLabel: "other", v1alpha1.TenantNamespaceLabel: platform}
	for name, tc := range map[string]struct {
		tenant string
		object func(*v1alpha1.Tenant) client.Object
		labels map[string]string
		want   string
	}{
		"namespace of another tool": {tenant: "foreign-0",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.Namespace(t) },
			want:   "Namespace/foreign-0-orthweb exists and was not created by Korthweb"},
		"namespace of another tenant": {tenant: "foreign-1",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.Namespace(t) }, labels: other,
			want: "Namespace/foreign-1-orthweb exists and belongs to tenant flux-system/other"},
		"somebody's Kustomization": {tenant: "foreign-2",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.Kustomization(t, v1alpha1.DependencyLayer) },
			want:   "Kustomization/flux-system/foreign-2-dependency exists and was not created by Korthweb"},
		"somebody's source": {tenant: "foreign-3",
			object: func(t *v1alpha1.Tenant) client.Object { return emit.ExternalArtifact(t) },
			want:   "ExternalArtifact/flux-system/foreign-3 exists and was not created by Korthweb"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, tc.tenant)
			theirs := tc.object(tenant)
			theirs.SetLabels(tc.labels)
			theirs.SetOwnerReferences(nil)
			f.Expect(admin.Create(ctx, theirs)).To(Succeed())
			before := theirs.DeepCopyObject().(client.Object)

			for range 2 { // before and after the cache could have learned of it
				_, err := f.Apply(ctx, tenant, published("r1"))
				f.Expect(err).To(MatchError(ContainSubstring(tc.want)))
				f.Expect(emit.Reason(err)).To(Equal(v1alpha1.NotOwnedReason))
			}
			after := theirs.DeepCopyObject().(client.Object)
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(theirs), after)).To(Succeed())
			f.Expect(after.GetResourceVersion()).To(Equal(before.GetResourceVersion()))

			_, _, err := f.Remove(ctx, tenant)
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(theirs), after)).To(Succeed(), "removal leaves it too")
			f.Expect(after.GetDeletionTimestamp()).To(BeNil())
		})
	}
}

func TestApplySecretOfSomebody(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "their-secret")
	f.Expect(admin.Create(ctx, emit.Namespace(tenant))).To(Succeed())
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: emit.CredentialsName}, StringData: map[string]string{"a": "b"}}
	f.Expect(admin.Create(ctx, theirs)).To(Succeed())
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).To(MatchError(ContainSubstring("Secret/their-secret-orthweb/orthanc-users exists and was not created by Korthweb")))
}

func TestApplyWhileNamespaceTerminates(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "terminating")
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.settle(tenant)
	// Nothing finishes the deletion of a namespace without a controller manager.
	f.Expect(admin.Delete(ctx, emit.Namespace(tenant))).To(Succeed())
	f.Eventually(func() error {
		_, err := f.Apply(ctx, tenant, published("r1"))
		return err
	}, 10*time.Second, 20*time.Millisecond).Should(MatchError("Namespace/terminating-orthweb is being deleted; it is created again once it is gone"))
}

// The appliers' roles list what they may do; a wildcard would be more than anybody meant.
func TestRolesHaveNoWildcard(t *testing.T) {
	g := NewWithT(t)
	roles := &rbacv1.ClusterRoleList{}
	g.Expect(admin.List(ctx, roles)).To(Succeed())
	seen := 0
	for _, role := range roles.Items {
		if !strings.HasPrefix(role.Name, "korthweb-") {
			continue
		}
		seen++
		for _, rule := range role.Rules {
			for _, list := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
				g.Expect(list).NotTo(ContainElement(ContainSubstring("*")), role.Name)
			}
		}
	}
	g.Expect(seen).To(BeNumerically(">=", 3))
}

func TestRemove(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.RetainData, v1alpha1.DeleteData} {
		t.Run(string(policy), func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, "remove-"+strings.ToLower(string(policy)))
			tenant.Spec.DeletionPolicy = policy
			tenant.Spec.Suspend = true
			_, err := f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
				k := kustomization(f.WithT, tenant, layer)
				f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":["finalizers.fluxcd.io"]}}`)))).To(Succeed())
			}
			// Somebody takes away what Flux prunes by.
			for _, o := range []client.Object{
				&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: emit.ApplierName(tenant)}},
				&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: emit.KustomizeApplierBinding}},
			} {
				f.Expect(admin.Delete(ctx, o)).To(Succeed())
				f.Eventually(func() bool { return apierrors.IsNotFound(f.cached.Get(ctx, client.ObjectKeyFromObject(o), o)) }).Should(BeTrue())
			}

			for _, layer := range []string{v1alpha1.ApplicationLayer, v1alpha1.DependencyLayer} {
				for range 2 { // again while waiting
					done, waitingFor, err := f.Remove(ctx, tenant)
					f.Expect(err).NotTo(HaveOccurred())
					f.Expect(done).To(BeFalse())
					f.Expect(waitingFor).To(Equal("Kustomization/flux-system/" + tenant.LayerName(layer)))
				}
				k := kustomization(f.WithT, tenant, layer)
				f.Expect(k.DeletionTimestamp).NotTo(BeNil())
				f.Expect(k.Spec.Suspend).To(BeFalse(), "a suspended Kustomization is deleted without pruning")
				f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(tenant), &sourcev1.ExternalArtifact{})).To(Succeed())
				account := &corev1.ServiceAccount{}
				f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: platform, Name: emit.ApplierName(tenant)}, account)).To(Succeed())
				binding := &rbacv1.RoleBinding{}
				f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: tenant.Spec.Namespace, Name: emit.KustomizeApplierBinding}, binding)).To(Succeed())
				f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
			}

			done, waitingFor, err := f.Remove(ctx, tenant)
			f.Expect(err).NotTo(HaveOccurred())
			ns := &corev1.Namespace{}
			f.Expect(admin.Get(ctx, types.NamespacedName{Name: tenant.Spec.Namespace}, ns)).To(Succeed())
			if policy == v1alpha1.DeleteData {
				f.Expect(done).To(BeFalse())
				f.Expect(waitingFor).To(Equal("Namespace/" + tenant.Spec.Namespace))
				f.Expect(ns.DeletionTimestamp).NotTo(BeNil())
				ns.Spec.Finalizers = nil // what the controller manager does once it is empty
				f.Expect(admin.SubResource("finalize").Update(ctx, ns)).To(Succeed())
				done, _, err = f.Remove(ctx, tenant)
				f.Expect(err).NotTo(HaveOccurred())
			} else {
				f.Expect(ns.DeletionTimestamp).To(BeNil())
				secret := &corev1.Secret{}
				f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: ns.Name, Name: emit.CredentialsName}, secret)).To(Succeed())
				bindings := &rbacv1.RoleBindingList{}
				f.Expect(admin.List(ctx, bindings, client.InNamespace(ns.Name))).To(Succeed())
				f.Expect(bindings.Items).To(BeEmpty())
			}
			f.Expect(done).To(BeTrue())
			account := &corev1.ServiceAccount{}
			f.Expect(apierrors.IsNotFound(admin.Get(ctx, types.NamespacedName{Namespace: platform, Name: emit.ApplierName(tenant)}, account))).To(BeTrue())

			f.reset()
			done, _, err = f.Remove(ctx, tenant)
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(done).To(BeTrue())
			f.Expect(f.writes).To(BeEmpty())
		})
	}
}

// A tenant that was removed under Retain and comes back finds its namespace and credentials.
func TestComeBack(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "comes-back")
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	key := types.NamespacedName{Namespace: tenant.Spec.Namespace, Name: emit.CredentialsName}
	before, after := &corev1.Secret{}, &corev1.Secret{}
	f.Expect(admin.Get(ctx, key, before)).To(Succeed())
	f.Expect(before.Data["password"]).To(HaveLen(32))

	f.Eventually(func() (bool, error) {
		done, _, err := f.Remove(ctx, tenant)
		return done, err
	}).Should(BeTrue())
	f.Eventually(func() error {
		_, err := f.Apply(ctx, tenant, published("r2"))
		return err
	}, 10*time.Second, 20*time.Millisecond).Should(Succeed())
	f.Expect(admin.Get(ctx, key, after)).To(Succeed())
	f.Expect(after.Data).To(Equal(before.Data))
}
