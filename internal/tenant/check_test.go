// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

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
	for _, key := range []string{
		"korthweb.digihunch.com/tenant", "sub.korthweb.digihunch.com/x",
		"config.kubernetes.io/local-config", "config.kubernetes.io/function", "internal.config.kubernetes.io/index",
		"kustomize.config.k8s.io/behavior", "kustomize.config.k8s.io/needs-hash",
		"kustomize.toolkit.fluxcd.io/prune", "kustomize.toolkit.fluxcd.io/reconcile", "helm.toolkit.fluxcd.io/driftDetection",
		"reconcile.fluxcd.io/requestedAt", "source.toolkit.fluxcd.io/x",
		"istio", "istio-injection", "app", "app.kubernetes.io/managed-by", "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component",
		"app.kubernetes.io/part-of",
	} {
		t.Run(key, func(t *testing.T) {
			g := NewWithT(t)
			m := map[string]string{key: "x"}
			for kind, common := range map[string]*kustomizev1.CommonMetadata{"labels": {Labels: m}, "annotations": {Annotations: m}} {
				errs := tenant.CheckCommonMetadata(common, at)
				g.Expect(errs).To(HaveLen(1))
				g.Expect(errs[0].Field).To(Equal(fmt.Sprintf("spec.commonMetadata.%s[%s]", kind, key)))
				g.Expect(errs[0].Detail).To(HaveSuffix("use a key without a domain, or in one of your own"))
			}
		})
	}
	free := map[string]string{"team": "x", "example.com/istio": "x", "app.kubernetes.io/version": "x", "sharding.fluxcd.io/key": "x", "istio-x": "x",
		"velero.io/exclude-from-backup": "x", "cnpg.io/hibernation": "x"} // an administrator's
	NewWithT(t).Expect(tenant.CheckCommonMetadata(&kustomizev1.CommonMetadata{Labels: free, Annotations: free}, at)).To(BeEmpty())
}

// TestCommonMetadataDomains holds that a definition, with its class, puts on every object only keys without a domain and
// those in domains that the platform lists.
func TestCommonMetadataDomains(t *testing.T) {
	listed := v1alpha1.TenantRepositorySpec{CommonMetadataDomains: []v1alpha1.Hostname{"example.com"}}
	given := v1alpha1.TenantRepositorySpec{CommonMetadata: &kustomizev1.CommonMetadata{Annotations: map[string]string{"velero.io/x": "v"}, Labels: map[string]string{"velero.io/x": "v"}}}
	type row struct {
		name, key string
		spec      v1alpha1.TenantRepositorySpec
		refused   bool
	}
	rows := []row{
		{name: "without a domain", key: "team"},
		{name: "a version", key: "app.kubernetes.io/version"},
		{name: "a domain that is not listed", key: "example.com/team", refused: true},
		{name: "a domain that is listed", key: "example.com/team", spec: listed},
		{name: "below one that is listed", key: "imaging.example.com/team", spec: listed},
		{name: "like one that is listed", key: "myexample.com/team", spec: listed, refused: true},
		{name: "above one that is listed", key: "com/team", spec: listed, refused: true},
		{name: "what the TenantRepository puts there", key: "velero.io/x", spec: given},
		{name: "another key in its domain", key: "velero.io/z", spec: given, refused: true},
	}
	for _, key := range []string{
		"loadbalancer.openstack.org/load-balancer-id", "networking.gke.io/load-balancer-ip-addresses", "load-balancer.hetzner.cloud/name",
		"metallb.universe.tf/address-pool", "tailscale.com/expose", "eks.amazonaws.com/role-arn", "velero.io/exclude-from-backup",
		"networking.istio.io/exportTo", "istio.io/rev", "sidecar.istio.io/inject", "pod-security.kubernetes.io/enforce", "cnpg.io/hibernation",
		"cert-manager.io/cluster-issuer", "service.beta.kubernetes.io/aws-load-balancer-eip-allocations", "external-dns.alpha.kubernetes.io/hostname",
	} {
		rows = append(rows, row{name: key, key: key, spec: listed, refused: true})
	}
	for _, tc := range rows {
		for _, kind := range []string{"labels", "annotations"} {
			t.Run(tc.name+" "+kind, func(t *testing.T) {
				g := NewWithT(t)
				rules, errs := tenant.NewRules(&tc.spec)
				g.Expect(errs).To(BeEmpty())
				f := files{"tenants/x.yaml": simple("x", "className: c"), "tenants/classes/c.yaml": class("c", "commonMetadata: {"+kind+": {"+tc.key+": v}}")}
				r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Rules: rules, CommonMetadata: tc.spec.CommonMetadata})
				g.Expect(err).NotTo(HaveOccurred())
				if !tc.refused {
					expectProblems(t, r, nil)
					return
				}
				expectProblems(t, r, []problem{{"tenants/x.yaml:5", "x", "spec.commonMetadata." + kind + "[" + tc.key + "]", invalid, "spec.commonMetadataDomains"}})
			})
		}
	}

	// A class puts no value of its own in the place of the platform's.
	g := NewWithT(t)
	rules, errs := tenant.NewRules(&given)
	g.Expect(errs).To(BeEmpty())
	f := files{"tenants/x.yaml": simple("x", "className: c"), "tenants/classes/c.yaml": class("c", "commonMetadata: {annotations: {velero.io/x: other}}")}
	r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Rules: rules, CommonMetadata: given.CommonMetadata})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(problemFields(r)).To(Equal([]string{"spec.commonMetadata.annotations[velero.io/x]"}))
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

// TestPlatformNamespaces holds that no tenant's workload is put where the platform's own programs are.
func TestPlatformNamespaces(t *testing.T) {
	for _, namespace := range []string{
		"flux-system", "istio-system", "istio-ingress", "istio-egress", "istio-gateway", "istio-ingressgateway", "istio-egressgateway",
		"cnpg-system", "cert-manager", "monitoring", "observability", "traefik", "metallb-system", "kube-system", "kube-public", "default", "lake",
	} {
		t.Run(namespace, func(t *testing.T) {
			g := NewWithT(t)
			x := held("x", "", 1)
			x.Spec.Namespace, x.Namespace = namespace, "tenants"
			errs := tenant.CheckSpec(&x, "lake", "river")
			g.Expect(errs).To(HaveLen(1))
			g.Expect(errs[0].Field).To(Equal("spec.namespace"))
			g.Expect(errs[0].Detail).To(ContainSubstring("namespace of the platform"))
		})
	}
	g := NewWithT(t)
	for _, namespace := range []string{"x-orthweb", "lakeside", "monitoring-x", "istio-x-orthweb"} {
		x := held("x", "", 1)
		x.Spec.Namespace = namespace
		g.Expect(tenant.CheckSpec(&x, "lake")).To(BeEmpty())
	}

	// The same in a repository, where a host may not be in one either.
	fsys := fstest.MapFS{"a.yaml": {Data: []byte(simple("a", "namespace: lake"))}, "b.yaml": {Data: []byte(simple("b", "ingress: {web: {host: b.lake}}"))}}
	r, err := tenant.Load(fsys, tenant.Options{PlatformNamespaces: []string{"lake"}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(problemFields(r)).To(Equal([]string{"spec.ingress.web.host", "spec.namespace"}))
}
