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
