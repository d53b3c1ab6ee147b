// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

func objectMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func database(namespace string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "postgresql.cnpg.io", Version: "v1", Kind: "Cluster"})
	u.SetNamespace(namespace)
	u.SetName("postgres")
	return u
}

// A tenant whose file is gone goes offline in order, its data stays, and comes back with its file.
func TestRemovalKeepsOrderAndData(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name, ns = "removal-order", "removal-order-orthweb"
	f := newFacilities(t, shared, "removal", map[string]string{
		name + ".yaml":       tenantFile(name),
		"removal-other.yaml": tenantFile("removal-other"),
	})
	g.Eventually(f.ready(name, "removal-other")).Should(Succeed())

	secret := &corev1.Secret{ObjectMeta: objectMeta(ns, "orthanc-users")}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: objectMeta(ns, "orthanc-storage")}
	data := []client.Object{secret, claim, database(ns), &corev1.Namespace{ObjectMeta: objectMeta("", ns)}}
	uids := map[client.Object]any{}
	for _, o := range data {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		uids[o] = o.GetUID()
	}
	password := secret.Data["password"]
	storage := filepath.Join(f.env.stack.StorageDir(), "externalartifact", stack.FluxNamespace, name)
	g.Expect(entries(storage)).NotTo(BeZero())

	seen := watchRemoval(t, f.env, ns)
	f.push(nil, name+".yaml")
	g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)})).Should(Succeed())

	// Each is gone before the next begins to go.
	for _, order := range [][2]string{
		{"gone Deployment orthanc", "gone Kustomization " + name + "-application"},
		{"gone Kustomization " + name + "-application", "going Kustomization " + name + "-dependency"},
		{"gone HelmRelease istio-ingress", "gone Kustomization " + name + "-dependency"},
		{"gone Kustomization " + name + "-dependency", "gone ExternalArtifact " + name},
		{"gone Kustomization " + name + "-dependency", "gone RoleBinding kustomize-applier"},
		{"gone Kustomization " + name + "-dependency", "gone RoleBinding helm-applier"},
		{"gone Kustomization " + name + "-dependency", "gone ServiceAccount helm-applier"},
		{"gone RoleBinding kustomize-applier", "gone ServiceAccount " + name + "-applier"},
	} {
		g.Eventually(func() error { return seen.before(order[0], order[1]) }).Should(Succeed())
	}

	for _, o := range data {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		g.Expect(o.GetUID()).To(Equal(uids[o]))
		g.Expect(o.GetDeletionTimestamp()).To(BeNil())
	}
	for _, o := range []client.Object{
		&sourcev1.ExternalArtifact{ObjectMeta: objectMeta(stack.FluxNamespace, name)},
		&helmv2.HelmRelease{ObjectMeta: objectMeta(ns, "istio-ingress")},
		&appsv1.Deployment{ObjectMeta: objectMeta(ns, "orthanc")},
		&appsv1.Deployment{ObjectMeta: objectMeta(ns, "istio-ingress")},
	} {
		g.Expect(f.gone(o)()).To(Succeed())
	}
	g.Expect(storage).NotTo(BeAnExistingFile())
	g.Expect(f.ready("removal-other")()).To(Succeed())

	revision := f.push(map[string]string{name + ".yaml": tenantFile(name)})
	f.approveAdoption(t, name)
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())
	for _, o := range data {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		g.Expect(o.GetUID()).To(Equal(uids[o]))
	}
	g.Expect(secret.Data["password"]).To(Equal(password))
}

func TestRemovalUnderDelete(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	f := newFacilities(t, shared, "removal-delete", map[string]string{
		"removal-all.yaml":  tenantFile("removal-all", "deletionPolicy: Delete"),
		"removal-none.yaml": tenantFile("removal-none"),
	}, allow("spec.deletionPolicy"))
	g.Eventually(f.ready("removal-all", "removal-none")).Should(Succeed())

	f.push(nil, "removal-all.yaml")
	g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, "removal-all")})).Should(Succeed())
	g.Expect(f.gone(&corev1.Namespace{ObjectMeta: objectMeta("", "removal-all-orthweb")})()).To(Succeed())
	g.Expect(f.gone(&corev1.ServiceAccount{ObjectMeta: objectMeta(stack.FluxNamespace, "removal-all-applier")})()).To(Succeed())
	g.Expect(f.ready("removal-none")()).To(Succeed())
}

// A suspended tenant is told to stay as it is, but its removal is not suspended.
func TestRemovalOfSuspended(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name, ns = "removal-suspended", "removal-suspended-orthweb"
	f := newFacilities(t, shared, "removal-suspended", map[string]string{
		name + ".yaml":       tenantFile(name),
		"removal-awake.yaml": tenantFile("removal-awake"),
	})
	g.Eventually(f.ready(name)).Should(Succeed())
	f.push(map[string]string{name + ".yaml": tenantFile(name, "suspend: true")})
	for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
		g.Eventually(func() (bool, error) {
			k, err := f.layer(name, layer)
			return err == nil && k.Spec.Suspend, err
		}).Should(BeTrue())
	}

	f.push(nil, name+".yaml")
	g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)})).Should(Succeed())
	g.Expect(f.gone(&appsv1.Deployment{ObjectMeta: objectMeta(ns, "orthanc")})()).To(Succeed())
	g.Expect(f.gone(&helmv2.HelmRelease{ObjectMeta: objectMeta(ns, "istio-ingress")})()).To(Succeed())
	g.Expect(f.env.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "orthanc-storage"}, &corev1.PersistentVolumeClaim{})).To(Succeed())
}

// A suspended tenant whose layers were put back has layers that have never applied anything. They apply once more, so that
// they know what to prune, and the tenant goes offline in order.
func TestRemovalOfLayersPutBack(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name, ns = "removal-put-back", "removal-put-back-orthweb"
	f := newFacilities(t, shared, "removal-put-back", map[string]string{
		name + ".yaml":       tenantFile(name),
		"removal-stays.yaml": tenantFile("removal-stays"),
	})
	g.Eventually(f.ready(name)).Should(Succeed())
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: objectMeta(ns, "orthanc-storage")}
	g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim)).To(Succeed())
	uid := claim.UID

	f.push(map[string]string{name + ".yaml": tenantFile(name, "suspend: true")})
	layers := []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer}
	suspended := func(layer string) func() (*kustomizev1.Kustomization, error) {
		return func() (*kustomizev1.Kustomization, error) {
			k, err := f.layer(name, layer)
			if err == nil && !k.Spec.Suspend {
				err = fmt.Errorf("Kustomization %s is not suspended", k.Name)
			}
			return k, err
		}
	}
	for _, layer := range layers {
		g.Eventually(suspended(layer)).Should(HaveField("Spec.Suspend", true))
		was, err := suspended(layer)()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(f.env.client.Delete(t.Context(), was)).To(Succeed())
		g.Eventually(func(g Gomega) {
			k, err := suspended(layer)()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(k.UID).NotTo(Equal(was.UID))
			g.Expect(k.Status.Inventory).To(BeNil())
		}).Should(Succeed())
	}
	orthanc := &appsv1.Deployment{ObjectMeta: objectMeta(ns, "orthanc")}
	release := &helmv2.HelmRelease{ObjectMeta: objectMeta(ns, "istio-ingress")}
	for _, o := range []client.Object{orthanc, release} {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
	}

	seen := watchRemoval(t, f.env, ns)
	f.push(nil, name+".yaml")
	g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)})).Should(Succeed())
	for _, order := range [][2]string{
		{"gone Deployment orthanc", "gone Kustomization " + name + "-application"},
		{"gone Kustomization " + name + "-application", "going Kustomization " + name + "-dependency"},
		{"gone Deployment istio-ingress", "gone HelmRelease istio-ingress"},
		{"gone HelmRelease istio-ingress", "gone RoleBinding helm-applier"},
		{"gone Kustomization " + name + "-dependency", "gone ExternalArtifact " + name},
	} {
		g.Eventually(func() error { return seen.before(order[0], order[1]) }).Should(Succeed())
	}
	for _, o := range []client.Object{orthanc, release} {
		g.Expect(f.gone(o)()).To(Succeed())
	}
	g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim)).To(Succeed())
	g.Expect(claim.UID).To(Equal(uid))
	g.Expect(claim.DeletionTimestamp).To(BeNil())
}

// The policy that counts is the one that the tenant has when it is removed, also where Flux has never applied anything
// under it.
func TestRemovalAfterDeletionPolicyChanged(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name, ns = "removal-changed", "removal-changed-orthweb"
	f := newFacilities(t, shared, "removal-changed", map[string]string{
		name + ".yaml":           tenantFile(name, "deletionPolicy: Delete"),
		"removal-unchanged.yaml": tenantFile("removal-unchanged"),
	}, allow("spec.deletionPolicy"))
	g.Eventually(f.ready(name)).Should(Succeed())
	data := []client.Object{&corev1.PersistentVolumeClaim{ObjectMeta: objectMeta(ns, "orthanc-storage")}, database(ns)}
	uids := map[client.Object]any{}
	for _, o := range data {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		uids[o] = o.GetUID()
	}

	f.push(map[string]string{name + ".yaml": tenantFile(name, "suspend: true", "deletionPolicy: Retain")})
	g.Eventually(func() (v1alpha1.DeletionPolicy, error) {
		obj, err := f.get(name)
		return obj.Spec.DeletionPolicy, err
	}).Should(Equal(v1alpha1.RetainData))
	f.push(nil, name+".yaml")
	g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)})).Should(Succeed())

	g.Expect(f.gone(&appsv1.Deployment{ObjectMeta: objectMeta(ns, "orthanc")})()).To(Succeed())
	for _, o := range data {
		g.Expect(f.env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
		g.Expect(o.GetUID()).To(Equal(uids[o]))
		g.Expect(o.GetDeletionTimestamp()).To(BeNil())
	}
}

// The Tenants of a deleted TenantRepository stay, go on working, and are adopted by another where somebody approves it.
func TestTenantRepositoryDeleted(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name = "left-alone"
	f := newFacilities(t, shared, "removal-first", map[string]string{name + ".yaml": tenantFile(name)})
	g.Eventually(f.ready(name)).Should(Succeed())
	before, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())

	repository, err := f.repository()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(f.env.client.Delete(t.Context(), repository)).To(Succeed())
	g.Eventually(f.gone(repository)).Should(Succeed())
	g.Consistently(f.ready(name)).Should(Succeed())

	// It works: what is taken from it comes back.
	layer, err := f.layer(name, v1alpha1.ApplicationLayer)
	g.Expect(err).NotTo(HaveOccurred())
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"prune":false}}`))
	g.Expect(f.env.client.Patch(t.Context(), layer, patch)).To(Succeed())
	g.Eventually(func() (bool, error) {
		k, err := f.layer(name, v1alpha1.ApplicationLayer)
		return err == nil && k.Spec.Prune, err
	}).Should(BeTrue())

	// Nobody has said that it is to be removed, so it is put back.
	g.Expect(f.env.client.Delete(t.Context(), before)).To(Succeed())
	g.Eventually(f.ready(name)).Should(Succeed())
	back, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(back.UID).NotTo(Equal(before.UID))
	g.Expect(back.Spec).To(Equal(before.Spec))
	g.Expect(back.Status.Artifact.Digest).To(Equal(before.Status.Artifact.Digest))
	before = back

	second := newFacilities(t, shared, "removal-second", map[string]string{name + ".yaml": tenantFile(name)})
	command := regexp.MustCompile(regexp.QuoteMeta(name+" "+v1alpha1.ApproveAdoptionAnnotation) + `=(\S+)`)
	approval := ""
	g.Eventually(func(g Gomega) {
		repository, err := second.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(repository.Status.Problems).To(HaveLen(1))
		problem := repository.Status.Problems[0]
		g.Expect(problem.Reason).To(Equal(v1alpha1.ConflictReason))
		found := command.FindStringSubmatch(problem.Message)
		g.Expect(found).To(HaveLen(2), problem.Message)
		approval = found[1]
	}).Should(Succeed())
	g.Expect(second.tenants(t.Context())).To(BeEmpty())
	approve := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ApproveAdoptionAnnotation, approval)
	g.Expect(f.env.client.Patch(t.Context(), before.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(approve)))).To(Succeed())
	g.Eventually(func(g Gomega) {
		g.Expect(second.tenants(t.Context())).To(HaveLen(1))
		repository, err := second.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(repository.Status.Tenants).To(Equal(v1alpha1.TenantCounts{Total: 1, Ready: 1}))
	}).Should(Succeed())
	after, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after.UID).To(Equal(before.UID))
	g.Expect(after.Status.Artifact).To(Equal(before.Status.Artifact))

	revision := second.push(map[string]string{name + ".yaml": tenantFile(name, "displayName: Adopted")})
	g.Eventually(second.readyAt(revision, name)).Should(Succeed())
}

// removal is when objects began to go and were gone, as resourceVersions, which count all of the
// apiserver's writes: watches of several kinds arrive in any order.
type removal struct {
	mu   sync.Mutex
	seen map[string]uint64
}

// watchRemoval watches, for the rest of the test, what removing a tenant with the namespace ns removes.
func watchRemoval(t *testing.T, env *environment, ns string) *removal {
	t.Helper()
	c, err := client.NewWithWatch(env.stack.RESTConfig(), client.Options{Scheme: env.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	r := &removal{seen: map[string]uint64{}}
	for _, list := range []client.ObjectList{
		&kustomizev1.KustomizationList{}, &sourcev1.ExternalArtifactList{}, &corev1.ServiceAccountList{},
		&rbacv1.RoleBindingList{}, &appsv1.DeploymentList{}, &helmv2.HelmReleaseList{},
	} {
		gvks, _, err := env.client.Scheme().ObjectKinds(list)
		if err != nil {
			t.Fatal(err)
		}
		kind := gvks[0].Kind[:len(gvks[0].Kind)-len("List")]
		w, err := c.Watch(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		go r.note(w, kind, ns)
	}
	return r
}

func (r *removal) note(w watch.Interface, kind, ns string) {
	for event := range w.ResultChan() {
		o, err := apimeta.Accessor(event.Object)
		if err != nil || o.GetNamespace() != ns && o.GetNamespace() != stack.FluxNamespace {
			continue
		}
		version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
		if err != nil {
			continue
		}
		name := kind + " " + o.GetName()
		r.mu.Lock()
		if event.Type == watch.Deleted {
			r.seen["gone "+name] = version
		} else if _, known := r.seen["going "+name]; !known && o.GetDeletionTimestamp() != nil {
			r.seen["going "+name] = version
		}
		r.mu.Unlock()
	}
}

// before fails unless both have happened, the first before the second.
func (r *removal) before(first, second string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, seen := r.seen[first]
	if !seen {
		return fmt.Errorf("%s was not seen", first)
	}
	b, seen := r.seen[second]
	if !seen {
		return fmt.Errorf("%s was not seen", second)
	}
	if a >= b {
		return fmt.Errorf("%s (%d) was not before %s (%d)", first, a, second, b)
	}
	return nil
}
