// SPDX-License-Identifier: Apache-2.0

// Package charts_test templates the charts that Korthweb's bundles install, without a control plane.
package charts_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	helmcommon "helm.sh/helm/v4/pkg/chart/common"
	helmvalues "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/internal/tenant"
	"github.com/digihunch/korthweb/test/variants"
)

// hostile are texts that would be structure where something prints them as they are.
var hostile = []string{
	`"`, `'`, "x\ny", "x\r\ny", "x\n---\nkind: Role\n", "x: y", "x:", "x #y", "- x", "{x", "x}", "[x", "{{ .Values }}", "{{", "}}",
	`\`, "x\ty", "x\u2028y", "x\u0085y", "&x", "*x", "!x", "|", "%x", "${x}",
}

// harness renders tenants and templates the charts of their HelmReleases.
type harness struct {
	renderer *render.Renderer
	charts   map[string]*chart.Chart
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	g := NewWithT(t)
	const istio, traefik = "istio.io/istio", "github.com/traefik/traefik-helm-chart"
	modules, err := gomod.Download(t.Context(), gomod.Assets, istio, traefik)
	g.Expect(err).NotTo(HaveOccurred())
	gateway, err := loader.LoadDir(filepath.Join(modules[istio].Dir, "manifests", "charts", "gateway"))
	g.Expect(err).NotTo(HaveOccurred())
	proxy, err := loader.LoadDir(filepath.Join(modules[traefik].Dir, "traefik"))
	g.Expect(err).NotTo(HaveOccurred())
	r, err := render.New(bundles.FS)
	g.Expect(err).NotTo(HaveOccurred())
	return &harness{renderer: r, charts: map[string]*chart.Chart{"istio-ingress": gateway, "istio-egress": gateway, "traefik": proxy}}
}

// shapes returns what is made for a tenant, with the charts' objects: every object with its name and its fields, without
// the values of those. It fails where the tenant is refused.
func (h *harness) shapes(t *v1alpha1.Tenant) (shapes []string, refused field.ErrorList, err error) {
	if refused = append(tenant.Validate(t), tenant.CheckSpec(t)...); len(refused) > 0 {
		return nil, refused, nil
	}
	b, err := h.renderer.Render(t)
	if err != nil {
		if mendable := new(render.Error); errors.As(err, &mendable) {
			return nil, field.ErrorList{field.Invalid(field.NewPath(mendable.Field), "", mendable.Error())}, nil
		}
		return nil, nil, err
	}
	for _, l := range b.Layers {
		for _, o := range l.Objects {
			var object map[string]any
			if err := yaml.Unmarshal(o.YAML(), &object); err != nil {
				return nil, nil, fmt.Errorf("%s/%s: %w", o.Kind, o.Name, err)
			}
			shapes = append(shapes, shape(object))
			if c := h.charts[o.Name]; o.Kind == "HelmRelease" && c != nil {
				values := object["spec"].(map[string]any)["values"].(map[string]any)
				made, err := template(c, o, values)
				if err != nil {
					return nil, nil, err
				}
				shapes = append(shapes, made...)
			}
		}
	}
	slices.Sort(shapes)
	return shapes, nil, nil
}

// template returns the shapes of the objects that Helm would make.
func template(c *chart.Chart, o render.Object, values map[string]any) ([]string, error) {
	all, err := helmvalues.ToRenderValues(c, values, helmcommon.ReleaseOptions{Name: o.Name, Namespace: o.Namespace, IsInstall: true}, nil)
	if err != nil {
		return nil, fmt.Errorf("chart of %s: %w", o.Name, err)
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, fmt.Errorf("chart of %s: %w", o.Name, err)
	}
	var made []string
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for document := range strings.SplitSeq("\n"+text, "\n---") {
			var object map[string]any
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				return nil, fmt.Errorf("chart of %s: %s: %w", o.Name, name, err)
			}
			if object != nil {
				made = append(made, shape(object))
			}
		}
	}
	return made, nil
}

// shape returns an object as text: its kind, name and namespace, and of the rest the fields and how many items lists have.
func shape(object map[string]any) string {
	var of func(value any) any
	of = func(value any) any {
		switch v := value.(type) {
		case map[string]any:
			fields := map[string]any{}
			for name, item := range v {
				fields[name] = of(item)
			}
			return fields
		case []any:
			items := make([]any, len(v))
			for i, item := range v {
				items[i] = of(item)
			}
			return items
		}
		return "value"
	}
	data, err := json.Marshal(of(object))
	if err != nil {
		panic(err)
	}
	metadata, _ := object["metadata"].(map[string]any)
	return fmt.Sprintf("%v %v %v/%v %s", object["apiVersion"], object["kind"], metadata["namespace"], metadata["name"], data)
}

// place is a string somewhere in a Tenant: a field, an item of a list, or a key or value of a map.
type place struct {
	path string
	set  func(root reflect.Value, text string)
	// isSet says whether a Tenant has the field.
	isSet func(root reflect.Value) bool
}

// places returns all strings of a type, by reflection, so that a new field is tried by itself.
func places(typ reflect.Type, path string, at func(reflect.Value) reflect.Value) []place {
	value := func(root reflect.Value) reflect.Value { return at(root) }
	here := func(set func(reflect.Value, string)) []place {
		return []place{{path, func(root reflect.Value, text string) { set(value(root), text) },
			func(root reflect.Value) bool { return !value(root).IsZero() }}}
	}
	switch {
	case typ == reflect.TypeFor[apiextensionsv1.JSON]():
		return here(func(v reflect.Value, text string) {
			raw, _ := json.Marshal(map[string]any{"Locale": text})
			v.Set(reflect.ValueOf(apiextensionsv1.JSON{Raw: raw}))
		})
	case typ.Kind() == reflect.String:
		return here(func(v reflect.Value, text string) { v.SetString(text) })
	case typ.Kind() == reflect.Pointer:
		return places(typ.Elem(), path, func(root reflect.Value) reflect.Value {
			v := at(root)
			if v.IsNil() {
				v.Set(reflect.New(typ.Elem()))
			}
			return v.Elem()
		})
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8:
		return places(typ.Elem(), path+"[0]", func(root reflect.Value) reflect.Value {
			v := at(root)
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(typ, 1, 1))
			}
			return v.Index(0)
		})
	case typ.Kind() == reflect.Map:
		all := []place{{path + " (a key)", func(root reflect.Value, text string) {
			v := at(root)
			if v.IsNil() {
				v.Set(reflect.MakeMap(typ))
			}
			v.SetMapIndex(reflect.ValueOf(text).Convert(typ.Key()), reflect.Zero(typ.Elem()))
		}, func(root reflect.Value) bool { return at(root).Len() > 0 }}}
		if typ.Elem().Kind() == reflect.String {
			all = append(all, place{path + " (a value)", func(root reflect.Value, text string) {
				v := at(root)
				if v.IsNil() {
					v.Set(reflect.MakeMap(typ))
				}
				v.SetMapIndex(reflect.ValueOf("note").Convert(typ.Key()), reflect.ValueOf(text).Convert(typ.Elem()))
			}, func(root reflect.Value) bool { return at(root).Len() > 0 }})
		}
		return all
	case typ.Kind() == reflect.Struct && (strings.HasPrefix(typ.PkgPath(), "github.com/")):
		var all []place
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			below := path
			if name != "" {
				below += "." + name
			}
			all = append(all, places(f.Type, below, func(root reflect.Value) reflect.Value { return at(root).Field(i) })...)
		}
		return all
	}
	return nil
}

// bases are tenants of all variants, of which each field is tried on one that has it.
func bases() []*v1alpha1.Tenant {
	var all []*v1alpha1.Tenant
	for _, v := range variants.Pairwise() {
		all = append(all, v.Tenant("bhs"))
	}
	return all
}

// TestStringsAreValues puts texts that mean something to YAML and to Helm into every string of a Tenant. What is not refused
// makes the same objects, of the same fields, as a text that means nothing.
func TestStringsAreValues(t *testing.T) {
	g := NewWithT(t)
	h := newHarness(t)
	all := bases()
	found := places(reflect.TypeFor[v1alpha1.TenantSpec](), "spec", func(root reflect.Value) reflect.Value { return root })
	g.Expect(len(found)).To(BeNumerically(">", 60))
	accepted := map[string]int{}
	for _, p := range found {
		t.Run(p.path, func(t *testing.T) {
			g := NewWithT(t)
			base := all[0]
			for _, b := range all {
				if p.isSet(reflect.ValueOf(&b.DeepCopy().Spec).Elem()) {
					base = b
					break
				}
			}
			with := func(text string) *v1alpha1.Tenant {
				changed := base.DeepCopy()
				p.set(reflect.ValueOf(&changed.Spec).Elem(), text)
				return changed
			}
			want, refused, err := h.shapes(with("harmless"))
			g.Expect(err).NotTo(HaveOccurred())
			if len(refused) > 0 {
				want, refused, err = h.shapes(base)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(refused).To(BeEmpty())
			}
			for _, text := range hostile {
				got, refused, err := h.shapes(with(text))
				g.Expect(err).NotTo(HaveOccurred(), "%q", text)
				if len(refused) > 0 {
					continue
				}
				accepted[p.path]++
				g.Expect(strings.Join(got, "\n")).To(Equal(strings.Join(want, "\n")), "%q", text)
			}
		})
	}
	// The test sees something: free text, such as a name for people, is accepted.
	g.Expect(slices.Sorted(maps.Keys(accepted))).To(ContainElements("spec.displayName", "spec.ingress.service.annotations (a value)"))
}

// TestPatchedValuesAreValues does the same with what patches put into the values of a chart.
func TestPatchedValuesAreValues(t *testing.T) {
	h := newHarness(t)
	for _, provider := range []v1alpha1.IngressProvider{v1alpha1.IstioIngress, v1alpha1.TraefikIngress} {
		for _, path := range []string{
			"/priorityClassName", "/service/externalTrafficPolicy", "/nodeSelector",
		} {
			if provider == v1alpha1.TraefikIngress && path == "/service/externalTrafficPolicy" {
				continue // Its Service is not the chart's.
			}
			t.Run(string(provider)+path, func(t *testing.T) {
				g := NewWithT(t)
				patched := func(text string) *v1alpha1.Tenant {
					all := bases()
					i := slices.IndexFunc(all, func(b *v1alpha1.Tenant) bool {
						return b.Spec.Ingress.Provider == provider && b.Spec.Postgres.Provider == v1alpha1.CloudNativePG
					})
					var value any = text
					switch path {
					case "/nodeSelector":
						value = map[string]string{"disk": text}
					case "/service/externalTrafficPolicy":
						path, value = "/service", map[string]any{"externalTrafficPolicy": text}
					}
					merge, err := json.Marshal(map[string]any{"spec": map[string]any{"values": map[string]any{path[1:]: value}}})
					g.Expect(err).NotTo(HaveOccurred())
					tenant := all[i]
					tenant.Spec.Patches = []v1alpha1.Patch{{Patch: string(merge), Target: &v1alpha1.PatchTarget{Kind: "HelmRelease", Name: "istio-ingress|traefik"}}}
					return tenant
				}
				want, refused, err := h.shapes(patched("harmless"))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(refused).To(BeEmpty())
				for _, text := range hostile {
					got, refused, err := h.shapes(patched(text))
					g.Expect(err).NotTo(HaveOccurred(), "%q", text)
					if len(refused) == 0 {
						g.Expect(got).To(Equal(want), "%q", text)
					}
				}
			})
		}
	}
}
