// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"context"
	"errors"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

func TestApplyErrors(t *testing.T) {
	kustomizations := schema.GroupResource{Group: kustomizev1.GroupVersion.Group, Resource: "kustomizations"}
	unserved := apierrors.NewGenericServerResponse(404, "post", kustomizations, "", "404 page not found", 0, true)
	terminating := apierrors.NewForbidden(schema.GroupResource{Resource: "roles"}, "x", errors.New("being terminated"))
	terminating.ErrStatus.Details.Causes = append(terminating.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})

	for name, tc := range map[string]struct {
		kind   client.Object
		err    error
		reason string
		want   string
	}{
		"kind never served": {&kustomizev1.Kustomization{}, &apimeta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "Kustomization"}},
			v1alpha1.FluxNotInstalledReason, "the cluster does not serve kustomize.toolkit.fluxcd.io/v1 Kustomization: install Flux"},
		"kind no longer served": {&kustomizev1.Kustomization{}, unserved,
			v1alpha1.FluxNotInstalledReason, "the cluster does not serve kustomize.toolkit.fluxcd.io/v1 Kustomization: install Flux"},
		"namespace terminating": {&corev1.ServiceAccount{}, terminating, v1alpha1.EmitFailedReason, "is being deleted; it is created again once it is gone"},
		"anything else": {&kustomizev1.Kustomization{}, errors.New("connection refused"),
			v1alpha1.EmitFailedReason, "Kustomization/flux-system/bhs-dependency: connection refused"},
		"the secret's creation": {&corev1.Secret{}, errors.New("denied"), v1alpha1.EmitFailedReason, "Secret/bhs-orthweb/orthanc-users: denied"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).Build(), interceptor.Funcs{
				Create: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					kind, _, err := scheme.ObjectKinds(o)
					g.Expect(err).NotTo(HaveOccurred())
					failing, _, err := scheme.ObjectKinds(tc.kind)
					g.Expect(err).NotTo(HaveOccurred())
					if kind[0] == failing[0] {
						return tc.err
					}
					return next.Create(ctx, o, opts...)
				},
			})
			_, err := emit.NewApplier(c, c, self).Apply(ctx, newTenant("bhs"), nil)
			g.Expect(err).To(MatchError(ContainSubstring(tc.want)))
			g.Expect(emit.Reason(err)).To(Equal(tc.reason))
		})
	}
}

// A namespace may hold images, so nobody is told to remove one.
func TestNotOwnedError(t *testing.T) {
	for name, tc := range map[string]struct {
		err  emit.NotOwnedError
		want string
	}{
		"another tenant's namespace": {emit.NotOwnedError{Object: "Namespace/bhs-orthweb", Owner: "flux-system/bhs", Tenant: "flux-system/mhr"},
			"Namespace/bhs-orthweb exists, belongs to tenant flux-system/bhs and may hold its images; leave it: give tenant flux-system/mhr another name or namespace"},
		"anybody's namespace": {emit.NotOwnedError{Object: "Namespace/bhs-orthweb", Tenant: "flux-system/mhr"},
			"Namespace/bhs-orthweb exists and was not created by Korthweb; it is left as it is: give tenant flux-system/mhr another name or namespace"},
		"another tenant's layer": {emit.NotOwnedError{Object: "Kustomization/flux-system/x", Owner: "flux-system/bhs", Tenant: "flux-system/mhr"},
			"Kustomization/flux-system/x exists and belongs to tenant flux-system/bhs; it is left as it is: remove it, or give tenant flux-system/mhr another name or namespace"},
		"anybody's account": {emit.NotOwnedError{Object: "ServiceAccount/flux-system/x", Tenant: "flux-system/mhr"},
			"ServiceAccount/flux-system/x exists and was not created by Korthweb; it is left as it is: remove it, or give tenant flux-system/mhr another name or namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(tc.err.Error()).To(Equal(tc.want))
		})
	}
}

// Whoever removed the tenant is named, and the images may be another facility's.
func TestRetainedError(t *testing.T) {
	for revision, by := range map[string]string{"main@sha1:1111": "main@sha1:1111", "local": "its Tenant was deleted by hand"} {
		t.Run(revision, func(t *testing.T) {
			err := &emit.RetainedError{Namespace: "bhs-orthweb", Revision: revision, Tenant: newTenant("bhs"), Approval: "bhs-orthweb/1234"}
			NewWithT(t).Expect(err.Error()).To(Equal("Namespace/bhs-orthweb was kept with its data when its tenant was removed (" + by + "); nothing is applied. " +
				"If the images are another facility's, give this tenant another name instead. To take it into use again: " +
				"kubectl -n flux-system annotate --overwrite tenants.korthweb.digihunch.com bhs korthweb.digihunch.com/approve-adoption=bhs-orthweb/1234"))
		})
	}
}
