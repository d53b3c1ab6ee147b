// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

func TestWarnOfIgnored(t *testing.T) {
	repository := func(namespace string) client.Object {
		return &v1alpha1.TenantRepository{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "tenants"}}
	}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "tenantrepositories"}, "", errors.New("no"))
	for name, test := range map[string]struct {
		objects []client.Object
		err     error
		want    []string
	}{
		"none elsewhere":      {objects: []client.Object{repository("flux-system")}},
		"two elsewhere":       {objects: []client.Object{repository("flux-system"), repository("team-a"), repository("team-b")}, want: []string{`"count"=2`, `"ignored"="team-a/tenants, team-b/tenants"`, "--watch-all-namespaces"}},
		"it may not be known": {err: forbidden},
		"it cannot be known":  {err: errors.New("connection refused"), want: []string{"connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			var lines []string
			log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
			c := fake.NewClientBuilder().WithScheme(newScheme()).WithObjects(test.objects...).WithInterceptorFuncs(interceptor.Funcs{
				List: func(ctx context.Context, next client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if test.err != nil {
						return test.err
					}
					return next.List(ctx, list, opts...)
				},
			}).Build()
			warnOfIgnored(t.Context(), log, c, "flux-system")
			if test.want == nil {
				g.Expect(lines).To(BeEmpty())
				return
			}
			g.Expect(lines).To(HaveLen(1))
			for _, want := range test.want {
				g.Expect(strings.Join(lines, "")).To(ContainSubstring(want))
			}
		})
	}
}
