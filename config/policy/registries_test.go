// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"encoding/json"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func testRegistries(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	c := newClient(g, config, applier)
	list := &corev1.ConfigMap{}
	admin := newClient(g, config, administrator)
	g.Expect(admin.Get(t.Context(), client.ObjectKey{Namespace: platformNamespace, Name: "allowed-registries"}, list)).To(Succeed())
	before := list.Data["registries"]

	// All defaults of a Tenant, of the charts and of CloudNativePG are in the list as it is shipped.
	for _, image := range []string{v1alpha1.DefaultOrthancImage, "docker.io/bitnamilegacy/pgpool:4", "bitnamilegacy/postgresql-repmgr:17", "docker.io/traefik:v3", "traefik:v3" + digest} {
		expect(g, c.Create(t.Context(), withImage(g, image), client.DryRunAll), "")
	}
	for _, url := range []string{v1alpha1.DefaultGatewayChartURL, v1alpha1.DefaultTraefikChartURL, v1alpha1.DefaultPostgresChartURL} {
		expect(g, c.Create(t.Context(), withURL(g, url), client.DryRunAll), "")
	}
	expect(g, c.Create(t.Context(), withImageName(g, "ghcr.io/cloudnative-pg/postgresql:18.4-system-trixie"), client.DryRunAll), "")

	setRegistries(t, config, " # a comment\ndocker.io/orthancteam\n\ndocker.io/library/traefik/\n  registry.example.org:5000/imaging\nallowed.example.com\n")
	g.Eventually(func() error { return c.Create(t.Context(), withImage(g, "allowed.example.com/x"), client.DryRunAll) }, 10*time.Second).Should(Succeed())
	const refused, malformed = "is in no registry that the platform allows", "is no reference to an image"
	for reference, denied := range map[string]string{
		"orthancteam/orthanc":                               "",
		"orthancteam/orthanc:26.8.1":                        "",
		"orthancteam/orthanc:26.8.1" + digest:               "",
		"docker.io/orthancteam/orthanc":                     "",
		"index.docker.io/orthancteam/orthanc":               "",
		"traefik":                                           "",
		"docker.io/traefik:v3":                              "",
		"docker.io/library/traefik" + digest:                "",
		"allowed.example.com/x":                             "",
		"Allowed.Example.COM/x":                             "",
		"allowed.example.com/a/b/c:1":                       "",
		"registry.example.org:5000/imaging/orthanc:1":       "",
		"registry.example.org:5000/imaging" + digest:        "",
		"registry.example.org:5000/imaginary/orthanc":       refused,
		"registry.example.org:5000/x":                       refused,
		"registry.example.org/imaging/orthanc":              refused,
		"registry.example.org:443/imaging/orthanc":          refused,
		"allowed.example.com:8443/x":                        refused,
		"allowed.example.com.evil.org/x":                    refused,
		"evil.org/allowed.example.com/x":                    refused,
		"evilallowed.example.com/x":                         refused,
		"allowed.example.com":                               refused, // docker.io/library/allowed.example.com
		"docker.io.evil.com/orthancteam/orthanc":            refused,
		"evil.com/orthancteam/orthanc":                      refused,
		"localhost/orthancteam/orthanc":                     refused,
		"Orthancteam/orthanc":                               refused, // a registry of that name
		"orthancteam:5000/orthanc":                          refused,
		"orthancteamevil/orthanc":                           refused,
		"library/orthancteam":                               refused,
		"docker.io/evil/orthancteam":                        refused,
		"traefikevil":                                       refused,
		"busybox":                                           refused,
		"quay.io/orthancteam/orthanc":                       refused,
		"auto":                                              refused,
		"allowed.example.com@evil.org/x":                    malformed,
		"allowed.example.com/x@evil.org/y":                  malformed,
		"user@allowed.example.com/x":                        malformed,
		"allowed.example.com/../evil.org/x":                 malformed,
		"allowed.example.com/./x":                           malformed,
		"allowed.example.com//x":                            malformed,
		"allowed.example.com/x y":                           malformed,
		"https://allowed.example.com/x":                     malformed,
		"allowed.example.com\\@evil.org/x":                  malformed,
		"allowed.example.com/x#evil":                        malformed,
		"allowed.example.com/x?y":                           malformed,
		"allowed.example.com/x@sha256:" + digest[8:] + "\n": "expected a reference to an image",
		"[2001:db8::1]/x":                                   malformed,
		"allowed.example.com/X":                             malformed,
		"аllowed.example.com/x":                             malformed, // the first letter is Cyrillic
		"allowed.example.com%2f@evil.org/x":                 malformed,
	} {
		t.Run(reference, func(t *testing.T) {
			g := NewWithT(t)
			expect(g, c.Create(t.Context(), withImage(g, reference), client.DryRunAll), denied)
			expect(g, c.Create(t.Context(), withImageName(g, reference), client.DryRunAll), denied)
		})
	}
	for url, denied := range map[string]string{
		"oci://allowed.example.com/charts/gateway":          "",
		"oci://registry.example.org:5000/imaging/gateway":   "",
		"oci://registry-1.docker.io/orthancteam/gateway":    refused,
		"oci://allowed.example.com.evil.org/charts/gateway": refused,
		"oci://evil.org/allowed.example.com/gateway":        refused,
		"oci://allowed.example.com@evil.org/charts/gateway": malformed,
		"oci://allowed.example.com:x@evil.org/gateway":      malformed,
	} {
		t.Run(url, func(t *testing.T) {
			g := NewWithT(t)
			expect(g, c.Create(t.Context(), withURL(g, url), client.DryRunAll), denied)
		})
	}
	for name, change := range map[string]string{
		"first containers":     `{initContainers: [{name: b, image: evil.org/x}]}`,
		"the second container": `{containers: [{name: a, image: orthancteam/orthanc}, {name: b, image: evil.org/x}]}`,
		"image as a volume":    `{volumes: [{name: v, image: {reference: evil.org/x}}]}`,
		"auto of another name": `{containers: [{name: b, image: auto}]}`,
	} {
		for _, kind := range []string{"Deployment", "StatefulSet", "CronJob", "Job"} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				g := NewWithT(t)
				wrapped := "spec: {template: {spec: " + change + "}}"
				if kind == "CronJob" {
					wrapped = "spec: {jobTemplate: {spec: {template: {spec: " + change + "}}}}"
				}
				u, _ := attempt{change: wrapped}.changed(g, fresh(g, kind))
				expect(g, c.Create(t.Context(), u, client.DryRunAll), refused)
			})
		}
	}
	// What Istio's injector replaces.
	u, _ := attempt{change: "spec: {template: {spec: {containers: [{name: istio-proxy, image: auto}]}}}"}.changed(g, fresh(g, "Deployment"))
	expect(g, c.Create(t.Context(), u, client.DryRunAll), "")
	u, _ = attempt{change: "spec: {imageCatalogRef: {apiGroup: postgresql.cnpg.io, kind: ImageCatalog, name: x, major: 18}}"}.changed(g, fresh(g, "Cluster"))
	expect(g, c.Create(t.Context(), u, client.DryRunAll), "spec.imageCatalogRef: expected imageName")
	// Another namespace may have what it wants.
	u = withImage(g, "busybox")
	u.SetNamespace(otherNamespace)
	expect(g, c.Create(t.Context(), u, client.DryRunAll), "")

	// Without the list nothing new comes in, and what runs goes on.
	standing := withImage(g, "traefik")
	standing.SetName("standing")
	g.Expect(c.Create(t.Context(), standing)).To(Succeed())
	g.Expect(admin.Delete(t.Context(), list)).To(Succeed())
	g.Eventually(func() error { return c.Create(t.Context(), withImage(g, "traefik"), client.DryRunAll) }, 10*time.Second).
		Should(MatchError(ContainSubstring("no params found for policy binding")))
	controllers := newClient(g, config, person)
	expect(g, controllers.Create(t.Context(), fresh(g, "Pod"), client.DryRunAll), "")
	set := fresh(g, "ReplicaSet")
	set.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(standing, appsv1.SchemeGroupVersion.WithKind("Deployment"))})
	expect(g, controllers.Create(t.Context(), set, client.DryRunAll), "")
	expect(g, controllers.Create(t.Context(), fresh(g, "Job"), client.DryRunAll), "")
	scale := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":3}}`))
	expect(g, controllers.SubResource("scale").Patch(t.Context(), standing.DeepCopy(), scale, client.DryRunAll), "")
	expect(g, c.Delete(t.Context(), standing), "")
	g.Expect(admin.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: platformNamespace, Name: "allowed-registries"},
		Data: map[string]string{"registries": before}})).To(Succeed())
}

// fresh returns an object that has no name yet.
func fresh(g Gomega, key string) *unstructured.Unstructured {
	u := base(g, key, tenantNamespace)
	u.SetName("")
	u.SetGenerateName("attempt-")
	return u
}

func withImage(g Gomega, image string) *unstructured.Unstructured {
	u := fresh(g, "Deployment")
	g.Expect(unstructured.SetNestedSlice(u.Object, []any{map[string]any{"name": "a", "image": image}}, "spec", "template", "spec", "containers")).To(Succeed())
	return u
}

func withImageName(g Gomega, image string) *unstructured.Unstructured {
	u := fresh(g, "Cluster")
	g.Expect(unstructured.SetNestedField(u.Object, image, "spec", "imageName")).To(Succeed())
	return u
}

func withURL(g Gomega, url string) *unstructured.Unstructured {
	u := fresh(g, "OCIRepository")
	g.Expect(unstructured.SetNestedField(u.Object, url, "spec", "url")).To(Succeed())
	return u
}

// setRegistries changes what is allowed. The apiserver heeds it a moment later.
func setRegistries(t *testing.T, config *rest.Config, registries string) {
	t.Helper()
	g := NewWithT(t)
	text, err := json.Marshal(registries)
	g.Expect(err).NotTo(HaveOccurred())
	list := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: platformNamespace, Name: "allowed-registries"}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"data":{"registries":`+string(text)+`}}`))
	g.Expect(newClient(g, config, administrator).Patch(t.Context(), list, patch)).To(Succeed())
}
