// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

// What runs of a tenant: Orthanc, which kustomize-controller applied, and the gateway, which Helm installed.
func newOrthanc(tenant *v1alpha1.Tenant) *appsv1.Deployment {
	d := newDeployment(tenant, "orthanc")
	d.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": tenant.LayerName(v1alpha1.ApplicationLayer)}
	return d
}

func newGateway(tenant *v1alpha1.Tenant) *appsv1.Deployment {
	d := newDeployment(tenant, "istio-ingress")
	d.Annotations = map[string]string{"meta.helm.sh/release-name": "istio-ingress"}
	return d
}

func newDeployment(tenant *v1alpha1.Tenant, name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Spec.Namespace, Name: name},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: name}}},
		}},
	}
}

// applies plays kustomize-controller, which notes what it has applied.
func (f *fixture) applies(tenant *v1alpha1.Tenant, layer string) {
	k := kustomization(f.WithT, tenant, layer)
	k.Status.Inventory = &kustomizev1.ResourceInventory{Entries: []kustomizev1.ResourceRef{{ID: tenant.Spec.Namespace + "_x__ConfigMap", Version: "v1"}}}
	f.Expect(admin.Status().Update(ctx, k)).To(Succeed())
}

// A layer prunes what it has noted, and one that was put back has noted nothing. So it applies once more before it goes,
// whatever it would wait for.
func TestRemoveAppliesWhatWasForgotten(t *testing.T) {
	for name, forget := range map[string]func(f *fixture, k *kustomizev1.Kustomization){
		"put back and suspended since": func(f *fixture, k *kustomizev1.Kustomization) {
			f.Expect(admin.Patch(ctx, k, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":true}}`)))).To(Succeed())
		},
		"put back and waiting": func(*fixture, *kustomizev1.Kustomization) {},
		"deleted": func(f *fixture, k *kustomizev1.Kustomization) {
			f.Expect(admin.Delete(ctx, k)).To(Succeed())
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tenant := createTenant(f.WithT, "forgot-"+strings.Fields(name)[len(strings.Fields(name))-1])
			tenant.Spec.DependsOn = []v1alpha1.DependencyReference{{Name: "never-ready"}}
			_, err := f.Apply(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			orthanc, release := newOrthanc(tenant), newRelease(tenant)
			release.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": tenant.LayerName(v1alpha1.DependencyLayer)}
			f.Expect(admin.Create(ctx, orthanc)).To(Succeed())
			f.Expect(admin.Create(ctx, release)).To(Succeed())
			layers := []string{v1alpha1.ApplicationLayer, v1alpha1.DependencyLayer}
			for _, layer := range layers {
				forget(f, kustomization(f.WithT, tenant, layer))
			}
			f.Expect(admin.Delete(ctx, &sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: tenant.Name}})).To(Succeed())
			f.Eventually(func() bool {
				return apierrors.IsNotFound(f.cached.Get(ctx, client.ObjectKeyFromObject(tenant), &sourcev1.ExternalArtifact{}))
			}).Should(BeTrue())

			waits := func(text string) {
				t.Helper()
				done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
				f.Expect(err).NotTo(HaveOccurred())
				f.Expect(done).To(BeFalse())
				f.Expect(waitingFor).To(Equal(text))
			}
			prefix := "Kustomization/flux-system/" + tenant.Name
			for range 2 {
				waits(prefix + "-application to apply what was published, so that it can be pruned")
			}
			for _, layer := range layers {
				k := kustomization(f.WithT, tenant, layer)
				f.Expect(k.DeletionTimestamp).To(BeNil())
				f.Expect(k.Spec.Suspend).To(BeFalse())
				f.Expect(k.Spec.DependsOn).To(BeEmpty(), "it would wait for what may never be ready")
				f.Expect(k.Spec.Wait).To(BeFalse())
				f.Expect(k.Spec.DeletionPolicy).To(Equal(kustomizev1.DeletionPolicyWaitForTermination))
			}
			ea := &sourcev1.ExternalArtifact{}
			f.Expect(admin.Get(ctx, client.ObjectKeyFromObject(tenant), ea)).To(Succeed())
			f.Expect(ea.Status.Artifact.Revision).To(Equal("r1"))

			// The application layer prunes, and what it applied is gone.
			f.applies(tenant, v1alpha1.ApplicationLayer)
			f.Expect(admin.Delete(ctx, orthanc)).To(Succeed())
			waits(prefix + "-dependency to apply what was published, so that it can be pruned")
			f.Expect(apierrors.IsNotFound(admin.Get(ctx, types.NamespacedName{Namespace: platform, Name: tenant.Name + "-application"},
				&kustomizev1.Kustomization{}))).To(BeTrue())

			f.applies(tenant, v1alpha1.DependencyLayer)
			f.Expect(admin.Delete(ctx, release)).To(Succeed())
			done, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(waitingFor).To(BeEmpty())
			f.Expect(done).To(BeTrue())
		})
	}
}

// After Flux was uninstalled and installed again the gateway runs, but no HelmRelease knows of it.
func TestRemoveUninstallsWhatNoReleaseKnows(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "unknown-release")
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	gateway, release := newGateway(tenant), newRelease(tenant)
	f.Expect(admin.Create(ctx, gateway)).To(Succeed())
	f.applies(tenant, v1alpha1.ApplicationLayer)
	waits := func(text string) {
		t.Helper()
		_, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
		f.Expect(err).NotTo(HaveOccurred())
		f.Expect(waitingFor).To(Equal(text))
	}
	waits("Kustomization/flux-system/unknown-release-dependency to apply what was published, so that it can be pruned")
	f.applies(tenant, v1alpha1.DependencyLayer)
	f.Expect(admin.Create(ctx, release)).To(Succeed())
	waits("HelmRelease/unknown-release-orthweb/istio-ingress to know what it installed, so that it is uninstalled")
	f.Expect(kustomization(f.WithT, tenant, v1alpha1.DependencyLayer).DeletionTimestamp).To(BeNil())

	release.Status.History = helmv2.Snapshots{{Name: "istio-ingress", Namespace: tenant.Spec.Namespace, Status: "deployed", Version: 2, Digest: "sha256:0",
		ConfigDigest: "sha256:0", ChartName: "gateway", ChartVersion: "1.0.0",
		FirstDeployed: metav1.Now(), LastDeployed: metav1.Now()}}
	f.Expect(admin.Status().Update(ctx, release)).To(Succeed())
	waits("HelmRelease/unknown-release-orthweb/istio-ingress to be gone")
}

// What goes with its namespace need not be pruned.
func TestRemoveUnderDeleteWaitsForNoLayer(t *testing.T) {
	f := newFixture(t)
	tenant := createTenant(f.WithT, "not-pruned")
	tenant.Spec.DeletionPolicy = v1alpha1.DeleteData
	_, err := f.Apply(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(admin.Create(ctx, newOrthanc(tenant))).To(Succeed())
	f.Expect(admin.Create(ctx, newRelease(tenant))).To(Succeed())
	_, waitingFor, err := f.Remove(ctx, tenant, published("r1"))
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(waitingFor).To(Equal("Namespace/not-pruned-orthweb to be gone"))
}

// While the kinds of Flux are not served nothing can be pruned, so nothing counts as gone, unless it goes with the namespace
// or nothing was ever published.
func TestRemoveWithoutFlux(t *testing.T) {
	unserved := map[string]func(kind schema.GroupVersionKind) error{
		"known to discovery": func(kind schema.GroupVersionKind) error {
			return &apimeta.NoKindMatchError{GroupKind: kind.GroupKind()}
		},
		"gone since": func(kind schema.GroupVersionKind) error {
			return apierrors.NewGenericServerResponse(http.StatusNotFound, "GET", schema.GroupResource{Group: kind.Group}, "x", "404 page not found", 0, true)
		},
	}
	for how, err := range unserved {
		for _, kind := range []string{kustomizev1.KustomizationKind, helmv2.HelmReleaseKind, sourcev1.ExternalArtifactKind} {
			for name, c := range map[string]struct {
				policy    v1alpha1.DeletionPolicy
				published *meta.Artifact
				running   bool
				done      bool
			}{
				"published":                     {v1alpha1.RetainData, published("r1"), false, false},
				"running, though not published": {v1alpha1.RetainData, nil, true, false},
				"never published":               {v1alpha1.RetainData, nil, false, true},
				"going with its namespace":      {v1alpha1.DeleteData, published("r1"), true, true},
			} {
				t.Run(kind+" "+how+"/"+name, func(t *testing.T) {
					g := NewWithT(t)
					tenant := newTenant("bhs")
					tenant.Spec.DeletionPolicy = c.policy
					objects := []client.Object{emit.Namespace(tenant)}
					if c.running {
						objects = append(objects, newOrthanc(tenant))
					}
					without := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), interceptor.Funcs{
						Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
							gvk, gvkErr := next.GroupVersionKindFor(o)
							if gvkErr != nil {
								return gvkErr
							}
							if gvk.Kind == kind {
								return err(gvk)
							}
							return next.Get(ctx, key, o, opts...)
						},
					})
					done, waitingFor, err := emit.NewApplier(without, without, self).Remove(ctx, tenant, c.published)
					g.Expect(done).To(Equal(c.done), waitingFor)
					if c.done {
						g.Expect(err).NotTo(HaveOccurred())
						return
					}
					g.Expect(errors.As(err, new(*emit.FluxNotInstalledError))).To(BeTrue(), "%v", err)
					g.Expect(err.Error()).To(ContainSubstring(" " + kind + ":"))
				})
			}
		}
	}
}
