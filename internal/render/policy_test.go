// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/test/variants"
)

// mistake is one that earlier manifests for Orthanc on Kubernetes made, and that no bundle may make again.
type mistake struct {
	name string
	// check says what of a bundle makes the mistake.
	check func(*bundle) []string
	// again makes the mistake in a bundle, each in one way, and returns false where that bundle has nothing to make it
	// with. It shows that check can fail.
	again []func(*bundle) bool
}

// TestMistakes goes over all variants for each mistake.
func TestMistakes(t *testing.T) {
	NewWithT(t).Expect(renderAll()).To(Succeed())
	t.Logf("%d variants, %d different objects", len(allBundles), len(decoded))
	t.Run("tenants as copied folders", tenantsAsCopies)
	for _, m := range slices.Concat(orthancMistakes, accessMistakes, databaseMistakes, certificateMistakes, fluxMistakes) {
		t.Run(m.name, func(t *testing.T) {
			g := NewWithT(t)
			for _, b := range allBundles {
				g.Expect(m.check(b)).To(BeEmpty(), b.variant)
			}
			g.Expect(m.again).NotTo(BeEmpty())
			for i, again := range m.again {
				made := slices.ContainsFunc(mixed(), func(b *bundle) bool {
					broken := b.clone()
					if !again(broken) {
						return false
					}
					g.Expect(m.check(broken)).NotTo(BeEmpty(), "made again in way %d in %s", i, b.variant)
					return true
				})
				g.Expect(made).To(BeTrue(), "way %d fits no variant", i)
			}
		})
	}
}

// mixed returns the bundles in an order in which every option comes soon.
func mixed() []*bundle {
	const stride = 37
	out := make([]*bundle, 0, len(allBundles))
	for from := range stride {
		for i := from; i < len(allBundles); i += stride {
			out = append(out, allBundles[i])
		}
	}
	return out
}

// object is a rendered object. What all bundles share must not be changed.
type object = *unstructured.Unstructured

// bundle is what is rendered for one variant.
type bundle struct {
	variant string
	tenant  *v1alpha1.Tenant
	// namespace are the labels of the tenant's namespace, which is emitted beside the bundle, as are the layers'
	// Kustomizations.
	namespace      map[string]string
	kustomizations []*kustomizev1.Kustomization
	layers         map[string][]object
}

// These are set by renderAll.
var (
	renderer   *render.Renderer
	allBundles []*bundle
	decoded    = map[string]object{}
)

// renderAll renders all variants once, for all tests.
var renderAll = sync.OnceValue(func() (err error) {
	if renderer, err = render.New(bundles.FS); err != nil {
		return err
	}
	all := variants.All()
	allBundles = make([]*bundle, len(all))
	errs := make([]error, len(all))
	var workers sync.WaitGroup
	var mu sync.Mutex
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := w; i < len(all); i += runtime.GOMAXPROCS(0) {
				t := all[i].Tenant("one")
				rendered, err := renderer.Render(t)
				if err != nil {
					errs[i] = fmt.Errorf("%s: %w", all[i].Name, err)
					continue
				}
				mu.Lock()
				allBundles[i], errs[i] = newBundle(all[i].Name, t, rendered)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
})

func newBundle(variant string, t *v1alpha1.Tenant, from *render.Bundle) (*bundle, error) {
	b := &bundle{variant: variant, tenant: t, namespace: emit.Namespace(t).Labels, layers: map[string][]object{}}
	for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
		b.kustomizations = append(b.kustomizations, emit.Kustomization(t, layer))
	}
	for _, l := range from.Layers {
		for _, o := range l.Objects {
			text := string(o.YAML())
			if decoded[text] == nil {
				data, err := yaml.YAMLToJSON([]byte(text))
				if err != nil {
					return nil, err
				}
				u := &unstructured.Unstructured{}
				if err := u.UnmarshalJSON(data); err != nil {
					return nil, err
				}
				decoded[text] = u
			}
			b.layers[l.Name] = append(b.layers[l.Name], decoded[text])
		}
	}
	return b, nil
}

func (b *bundle) clone() *bundle {
	c := &bundle{variant: b.variant, tenant: b.tenant.DeepCopy(), namespace: maps.Clone(b.namespace), layers: map[string][]object{}}
	for _, k := range b.kustomizations {
		c.kustomizations = append(c.kustomizations, k.DeepCopy())
	}
	for name, objects := range b.layers {
		for _, o := range objects {
			c.layers[name] = append(c.layers[name], o.DeepCopy())
		}
	}
	return c
}

func (b *bundle) objects() []object {
	return slices.Concat(b.layers[v1alpha1.DependencyLayer], b.layers[v1alpha1.ApplicationLayer])
}

// all returns the objects of the given kinds.
func (b *bundle) all(kinds ...string) []object {
	var out []object
	for _, o := range b.objects() {
		if slices.Contains(kinds, o.GetKind()) {
			out = append(out, o)
		}
	}
	return out
}

// find returns an object, which is empty where there is none.
func (b *bundle) find(kind, name string) object {
	for _, o := range b.all(kind) {
		if o.GetName() == name {
			return o
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{}}
}

// remove takes objects out, and tells whether there were any.
func (b *bundle) remove(kind, name string) bool {
	found := false
	for layer, objects := range b.layers {
		b.layers[layer] = slices.DeleteFunc(objects, func(o object) bool {
			match := o.GetKind() == kind && (name == "" || o.GetName() == name)
			found = found || match
			return match
		})
	}
	return found
}

func (b *bundle) istio() bool { return b.tenant.Spec.Ingress.Provider == v1alpha1.IstioIngress }

// remembered are results about objects, which bundles share. An object is changed before anything is asked of it.
var remembered = map[string]map[object]any{}

func remember[T any](what string, o object, compute func() T) T {
	if remembered[what] == nil {
		remembered[what] = map[object]any{}
	}
	if _, ok := remembered[what][o]; !ok {
		remembered[what][o] = compute()
	}
	return remembered[what][o].(T)
}

// convert reads an object as a type of Kubernetes.
func convert[T any](o object) T {
	return remember("typed", o, func() T {
		var typed T
		if err := apiruntime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &typed, true); err != nil {
			panic(fmt.Sprintf("%s/%s: %v", o.GetKind(), o.GetName(), err))
		}
		return typed
	})
}

func (b *bundle) deployment() appsv1.Deployment {
	return convert[appsv1.Deployment](b.find("Deployment", "orthanc"))
}

// orthanc returns Orthanc's container, which is empty where there is none.
func (b *bundle) orthanc() corev1.Container {
	for _, c := range b.deployment().Spec.Template.Spec.Containers {
		if c.Name == "orthanc" {
			return c
		}
	}
	return corev1.Container{}
}

func (b *bundle) networkPolicies() []networkingv1.NetworkPolicy {
	var out []networkingv1.NetworkPolicy
	for _, o := range b.all("NetworkPolicy") {
		out = append(out, convert[networkingv1.NetworkPolicy](o))
	}
	return out
}

// config returns Orthanc's configuration, all files of it together.
func (b *bundle) config() map[string]any {
	o := b.find("ConfigMap", "orthanc-config")
	return remember("config", o, func() map[string]any {
		config := map[string]any{}
		data, _, _ := unstructured.NestedStringMap(o.Object, "data")
		for _, name := range slices.Sorted(maps.Keys(data)) {
			part := map[string]any{}
			if err := json.Unmarshal([]byte(data[name]), &part); err != nil {
				panic(fmt.Sprintf("%s: %s: %v", b.variant, name, err))
			}
			maps.Copy(config, part)
		}
		return config
	})
}

// inConfig sets an option of Orthanc, of a section where one is named, in the file that has it.
func inConfig(value any, path ...string) func(*bundle) bool {
	return func(b *bundle) bool {
		o := b.find("ConfigMap", "orthanc-config")
		data, _, _ := unstructured.NestedStringMap(o.Object, "data")
		for name, text := range data {
			part := map[string]any{}
			_ = json.Unmarshal([]byte(text), &part)
			if _, ok := part[path[0]]; !ok {
				continue
			}
			if err := unstructured.SetNestedField(part, value, path...); err != nil {
				panic(err)
			}
			changed, _ := json.Marshal(part)
			data[name] = string(changed)
			return unstructured.SetNestedStringMap(o.Object, data, "data") == nil
		}
		return false
	}
}

// in sets a field of an object, or of all objects of the kind where no name is given; nil removes it. A number in the
// path is an index.
func in(kind, name string, value any, path ...any) func(*bundle) bool {
	return func(b *bundle) bool {
		found := false
		for _, o := range b.all(kind) {
			if name == "" || o.GetName() == name {
				found = set(o.Object, value, path...) || found
			}
		}
		return found
	}
}

// pod sets a field of Orthanc's pods.
func pod(value any, path ...any) func(*bundle) bool {
	return in("Deployment", "orthanc", value, append([]any{"spec", "template", "spec"}, path...)...)
}

// ctr sets a field of Orthanc's container.
func ctr(value any, path ...any) func(*bundle) bool {
	return pod(value, append([]any{"containers", 0}, path...)...)
}

func without(kind, name string) func(*bundle) bool {
	return func(b *bundle) bool { return b.remove(kind, name) }
}

// set sets a field in place and tells whether the way to it is there.
func set(from any, value any, path ...any) bool {
	parent := from
	if len(path) > 1 {
		parent = get(from, path[:len(path)-1]...)
	}
	switch parent := parent.(type) {
	case map[string]any:
		if value == nil {
			delete(parent, path[len(path)-1].(string))
		} else {
			parent[path[len(path)-1].(string)] = value
		}
	case []any:
		i := path[len(path)-1].(int)
		if i >= len(parent) {
			return false
		}
		parent[i] = value
	default:
		return false
	}
	return true
}

// get returns a field, or nil where it is not there. A number in the path is an index.
func get(from any, path ...any) any {
	for _, p := range path {
		switch v := from.(type) {
		case map[string]any:
			key, _ := p.(string)
			from = v[key]
		case []any:
			i, ok := p.(int)
			if !ok || i >= len(v) {
				return nil
			}
			from = v[i]
		default:
			return nil
		}
	}
	return from
}

// texts calls visit for every text in a value, with the path to it, without the indexes of lists.
func texts(v any, path string, visit func(path, text string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			texts(item, path+"."+key, visit)
		}
	case []any:
		for _, item := range v {
			texts(item, path, visit)
		}
	case string:
		visit(path, v)
	}
}

// list gathers what check functions find.
type list []string

func (l *list) addf(format string, args ...any) { *l = append(*l, fmt.Sprintf(format, args...)) }

// unless adds a line where something does not hold.
func (l *list) unless(holds bool, format string, args ...any) {
	if !holds {
		l.addf(format, args...)
	}
}

func title(o object) string { return o.GetKind() + "/" + o.GetName() }

// env returns a variable of Orthanc's container.
func (b *bundle) env(name string) corev1.EnvVar {
	for _, e := range b.orthanc().Env {
		if e.Name == name {
			return e
		}
	}
	return corev1.EnvVar{}
}

// contains tells whether a text in lower case is anywhere in an object, whatever the case of its letters there.
func contains(o object, text string) bool {
	return strings.Contains(remember("text", o, func() string {
		data, err := json.Marshal(o.Object)
		if err != nil {
			panic(err)
		}
		return strings.ToLower(string(data))
	}), text)
}
