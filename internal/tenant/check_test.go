// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// TestCheckCommonMetadata holds that nothing can be put on every object that makes one of them vanish,
// change hands or do something else.
func TestCheckCommonMetadata(t *testing.T) {
	at := field.NewPath("spec", "commonMetadata")
	for key, text := range map[string]string{
		"korthweb.digihunch.com/tenant":         "Korthweb's own",
		"sub.korthweb.digihunch.com/x":          "Korthweb's own",
		"config.kubernetes.io/local-config":     "leave out every object",
		"config.kubernetes.io/function":         "steer kustomize",
		"internal.config.kubernetes.io/index":   "kustomize's own",
		"kustomize.config.k8s.io/behavior":      "steer kustomize",
		"kustomize.config.k8s.io/needs-hash":    "steer kustomize",
		"kustomize.toolkit.fluxcd.io/prune":     "steer Flux",
		"kustomize.toolkit.fluxcd.io/reconcile": "steer Flux",
		"helm.toolkit.fluxcd.io/driftDetection": "steer Flux",
		"reconcile.fluxcd.io/requestedAt":       "requests to Flux",
		"source.toolkit.fluxcd.io/x":            "steer Flux",
		"networking.istio.io/exportTo":          "who may see a Service",
		"app.kubernetes.io/managed-by":          "Korthweb sets app.kubernetes.io/managed-by itself",
		"app.kubernetes.io/name":                "find their pods",
		"app.kubernetes.io/instance":            "find their pods",
		"app.kubernetes.io/component":           "find their pods",
		"app.kubernetes.io/part-of":             "find their pods",
		"istio":                                 "find their pods",
		"istio.io/rev":                          "its proxy",
		"istio-injection":                       "its proxy",
		"sidecar.istio.io/inject":               "its proxy",
		"pod-security.kubernetes.io/enforce":    "administrator",
	} {
		t.Run(key, func(t *testing.T) {
			g := NewWithT(t)
			m := map[string]string{key: "x"}
			for kind, common := range map[string]*kustomizev1.CommonMetadata{"labels": {Labels: m}, "annotations": {Annotations: m}} {
				errs := tenant.CheckCommonMetadata(common, at)
				g.Expect(errs).To(HaveLen(1))
				g.Expect(errs[0].Field).To(Equal(fmt.Sprintf("spec.commonMetadata.%s[%s]", kind, key)))
				g.Expect(errs[0].Detail).To(And(ContainSubstring(text), HaveSuffix(": remove it")))
			}
		})
	}
	free := map[string]string{"team": "x", "example.com/istio": "x", "app.kubernetes.io/version": "x", "sharding.fluxcd.io/key": "x", "istio-x": "x"}
	NewWithT(t).Expect(tenant.CheckCommonMetadata(&kustomizev1.CommonMetadata{Labels: free, Annotations: free}, at)).To(BeEmpty())
}

// TestCheckSpecPatches holds that patches are bounded together, as where they are applied.
func TestCheckSpecPatches(t *testing.T) {
	g := NewWithT(t)
	x := held("x", "", 1)
	x.SetDefaults()
	x.Spec.Patches = []v1alpha1.Patch{{Patch: strings.Repeat("a", 16<<10)}, {Patch: strings.Repeat("b", 16<<10)}}
	g.Expect(tenant.CheckSpec(&x)).To(BeEmpty())
	x.Spec.Patches[1].Patch += "b"
	errs := tenant.CheckSpec(&x)
	g.Expect(errs).To(HaveLen(1))
	g.Expect(errs[0]).To(MatchError(`spec.patches: Invalid value: "32769 bytes": the patches may have 32768 bytes together: shorten them`))
}
