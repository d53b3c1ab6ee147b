// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube/inject"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const istioNamespace = "istio-system"

// cluster is what istiod would find in a cluster: Istio's own objects, those of some tenants, and what the cluster
// makes of them.
type cluster struct {
	t        *testing.T
	objects  []*unstructured.Unstructured
	mesh     *meshconfig.MeshConfig
	injector inject.Config
	values   inject.ValuesConfig
	hosts    int // how many addresses are given
}

// newCluster has the tenants of these names, created in this order, an hour after each other. change, where not nil,
// is called for each rendered object first.
func newCluster(t *testing.T, change func(*unstructured.Unstructured), names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t}
	c.installIstio()
	for i, name := range names {
		created := metav1.NewTime(time.Date(2026, 1, 1, i, 0, 0, 0, time.UTC))
		for _, obj := range tenants[name] {
			obj = obj.DeepCopy()
			obj.SetCreationTimestamp(created)
			if change != nil {
				change(obj)
			}
			c.add(obj)
		}
	}
	for _, release := range c.of("HelmRelease") {
		c.install(release)
	}
	c.imitate()
	c.allocate()
	return c
}

// add puts objects into the cluster.
func (c *cluster) add(objects ...*unstructured.Unstructured) {
	c.objects = append(c.objects, objects...)
}

// put is add for an object of a Go type.
func (c *cluster) put(apiVersion, kind string, obj runtime.Object) {
	c.t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		c.t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	c.add(u)
}

// of returns the objects of a kind.
func (c *cluster) of(kind string) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, obj := range c.objects {
		if obj.GetKind() == kind {
			found = append(found, obj)
		}
	}
	return found
}

// get returns the object of this kind, namespace and name.
func (c *cluster) get(kind, namespace, name string) *unstructured.Unstructured {
	c.t.Helper()
	for _, obj := range c.of(kind) {
		if obj.GetNamespace() == namespace && obj.GetName() == name {
			return obj
		}
	}
	c.t.Fatalf("there is no %s %s/%s", kind, namespace, name)
	return nil
}

// as reads an object into its Go type.
func as[T any](t *testing.T, obj *unstructured.Unstructured) *T {
	t.Helper()
	into := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, into); err != nil {
		t.Fatalf("%s %s/%s: %v", obj.GetKind(), obj.GetNamespace(), obj.GetName(), err)
	}
	return into
}

// installIstio adds what istiod's own chart makes, with the settings that docs/istio.md asks of a platform.
func (c *cluster) installIstio() {
	c.t.Helper()
	c.put("v1", "Namespace", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: istioNamespace}})
	c.add(c.chart("istio-control/istio-discovery", "istiod", istioNamespace, map[string]any{
		"pilot": map[string]any{"cni": map[string]any{"enabled": true}},
	})...)
	var err error
	config := as[corev1.ConfigMap](c.t, c.get("ConfigMap", istioNamespace, "istio"))
	if c.mesh, err = mesh.ApplyMeshConfigDefaults(config.Data["mesh"]); err != nil {
		c.t.Fatal(err)
	}
	injector := as[corev1.ConfigMap](c.t, c.get("ConfigMap", istioNamespace, "istio-sidecar-injector"))
	if c.injector, err = inject.UnmarshalConfig([]byte(injector.Data["config"])); err != nil {
		c.t.Fatal(err)
	}
	if c.values, err = inject.NewValuesConfig(injector.Data["values"]); err != nil {
		c.t.Fatal(err)
	}
}

// install does what helm-controller does with a HelmRelease of Istio's gateway chart. Other charts bring nothing that
// Istio reads.
func (c *cluster) install(release *unstructured.Unstructured) {
	c.t.Helper()
	if !strings.HasPrefix(release.GetName(), "istio-") {
		return
	}
	name, _, _ := unstructured.NestedString(release.Object, "spec", "releaseName")
	values, _, _ := unstructured.NestedMap(release.Object, "spec", "values")
	objects := c.chart("gateway", name, release.GetNamespace(), values)
	for _, obj := range objects {
		obj.SetCreationTimestamp(release.GetCreationTimestamp())
	}
	c.add(objects...)
}

// chart renders a chart of Istio's module with Helm's SDK.
func (c *cluster) chart(path, release, namespace string, values map[string]any) []*unstructured.Unstructured {
	c.t.Helper()
	dir, err := istioModule()
	if err != nil {
		c.t.Fatal(err)
	}
	chart, err := loader.LoadDir(filepath.Join(dir, "manifests", "charts", path))
	if err != nil {
		c.t.Fatal(err)
	}
	all, err := util.ToRenderValues(chart, values,
		common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		c.t.Fatalf("values of chart %s in %s: %v", path, namespace, err)
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		c.t.Fatalf("chart %s in %s: %v", path, namespace, err)
	}
	var objects []*unstructured.Unstructured
	for file, content := range files {
		if filepath.Ext(file) != ".yaml" {
			continue
		}
		in, err := parse([]byte(content))
		if err != nil {
			c.t.Fatalf("chart %s in %s: %s: %v", path, namespace, file, err)
		}
		objects = append(objects, in...)
	}
	// The files are a map.
	slices.SortFunc(objects, func(a, b *unstructured.Unstructured) int {
		return strings.Compare(a.GetKind()+a.GetName(), b.GetKind()+b.GetName())
	})
	return objects
}

// istioModule is the directory of Istio's module, whose charts are part of it.
var istioModule = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio").Output()
	if err != nil {
		return "", fmt.Errorf("where the module istio.io/istio is: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// injected is the pod template of a Deployment after Istio's injector, which a webhook calls for each pod.
func (c *cluster) injected(deployment *unstructured.Unstructured) corev1.PodTemplateSpec {
	c.t.Helper()
	d := as[appsv1.Deployment](c.t, deployment)
	namespace := as[corev1.Namespace](c.t, c.get("Namespace", "", d.Namespace))
	if namespace.Labels["istio-injection"] != "enabled" && d.Spec.Template.Labels["sidecar.istio.io/inject"] != "true" {
		return d.Spec.Template
	}
	out, err := inject.IntoObject(nil, c.injector.Templates, c.values, "default", c.mesh, d, func(string) {})
	if err != nil {
		c.t.Fatalf("injecting Deployment %s/%s: %v", d.Namespace, d.Name, err)
	}
	return out.(*appsv1.Deployment).Spec.Template
}

// stream is objects as one YAML stream.
func stream(t *testing.T, objects []*unstructured.Unstructured) string {
	t.Helper()
	var b strings.Builder
	for _, obj := range objects {
		doc, err := yaml.Marshal(obj.Object)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n")
		b.Write(doc)
	}
	return b.String()
}
