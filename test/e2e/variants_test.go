// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/test/variants"
)

// Every variant of a bundle is taken by the real apiserver with the CRDs of the programs that read it, field by field and
// without a warning, from the account that Flux acts as; and no pod of it is rejected, in a namespace with the quota, the
// limits and the Pod Security level of a tenant's. The apiserver judges each object by itself, so one that two variants
// share is applied once. The bundles of some variants, in which each two values of any two options meet, are applied whole.
//
// The pods of a database are not made: neither CloudNativePG's operator nor Bitnami's chart is here. Those of the
// gateways are: helm-controller installs the real charts with each different set of values.
func TestVariants(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	env := ownEnvironment(t, stack.Options{Workloads: true, Flux: true})
	g.Expect(env.stack.InstallKorthwebRBAC(t.Context(), env.charts.Host(), "registry.example.org")).To(Succeed())
	sets := objectSets(g, env.charts)
	objects := 0
	for _, s := range sets {
		objects += len(s.objects)
	}
	t.Logf("%d variants; %d objects of %d of them are applied", len(variants.All()), objects, len(sets))

	t.Run("apply", func(t *testing.T) {
		for _, s := range sets {
			t.Run(s.variant, func(t *testing.T) {
				t.Parallel()
				g := gomega(t)
				g.Expect(s.apply(g, t, env)).To(BeEmpty())
			})
		}
	})
	// That nothing was complained of means something only if it would have been.
	g.Expect(broken(g).apply(g, t, env)).To(ConsistOf(
		ContainSubstring("Service orthweb: failed to create typed patch object"),
		ContainSubstring(`Deployment orthanc: warning: would violate PodSecurity "restricted:latest": runAsNonRoot != true`),
	))
	t.Run("pods", func(t *testing.T) {
		g := gomega(t)
		g.Eventually(func(g Gomega) {
			var deployments appsv1.DeploymentList
			g.Expect(env.client.List(t.Context(), &deployments)).To(Succeed())
			g.Expect(len(deployments.Items)).To(BeNumerically(">", 50))
			for _, d := range deployments.Items {
				if d.Namespace == brokenNamespace {
					continue
				}
				what := fmt.Sprintf("Deployment %s/%s: %v", d.Namespace, d.Name, d.Status.Conditions)
				g.Expect(d.Status.ObservedGeneration).To(Equal(d.Generation), what)
				g.Expect(d.Status.Replicas).To(Equal(ptr.Deref(d.Spec.Replicas, 1)), what)
			}
		}).Should(Succeed())
		rejected := func(g Gomega) (ours, broken []string) {
			var events corev1.EventList
			g.Expect(env.client.List(t.Context(), &events)).To(Succeed())
			for _, e := range events.Items {
				switch message := e.Namespace + ": " + e.Message; {
				case e.Reason != "FailedCreate":
				case e.Namespace == brokenNamespace:
					broken = append(broken, message)
				// A new quota takes a moment until it is counted, and nothing is let in before.
				case !strings.Contains(e.Message, "status unknown for quota"):
					ours = append(ours, message)
				}
			}
			return ours, broken
		}
		g.Eventually(func(g Gomega) {
			_, broken := rejected(g)
			g.Expect(broken).To(ContainElement(ContainSubstring(`violates PodSecurity "restricted:latest": runAsNonRoot != true`)))
		}).Should(Succeed())
		ours, _ := rejected(g)
		g.Expect(ours).To(BeEmpty())
	})
	t.Run("charts", func(t *testing.T) {
		g := gomega(t)
		installed := map[string]int{}
		g.Eventually(func(g Gomega) {
			clear(installed)
			var releases helmv2.HelmReleaseList
			g.Expect(env.client.List(t.Context(), &releases)).To(Succeed())
			for _, r := range releases.Items {
				if !r.Spec.Suspend {
					installed[r.Name]++
					ready := meta.FindStatusCondition(r.Status.Conditions, "Ready")
					g.Expect(ready).NotTo(BeNil(), "HelmRelease %s/%s", r.Namespace, r.Name)
					g.Expect(ready.Status).To(Equal(metav1.ConditionTrue), "HelmRelease %s/%s: %s", r.Namespace, r.Name, ready.Message)
				}
			}
		}).Should(Succeed())
		t.Logf("installed: %v", installed)
		g.Expect(installed).To(HaveLen(3))
		for _, name := range []string{"istio-ingress", "istio-egress", "traefik"} {
			g.Expect(installed[name]).To(BeNumerically(">", 0), name)
		}
	})
}

// brokenNamespace is where a bundle is applied that nobody would render.
const brokenNamespace = "broken-orthweb"

// broken returns objects, one with a field that Kubernetes does not know and one whose pods may be root.
func broken(g *WithT) objectSet {
	r, err := render.New(bundles.FS)
	g.Expect(err).NotTo(HaveOccurred())
	s := objectSet{tenant: variants.All()[0].Tenant("broken")}
	b, err := r.Render(s.tenant)
	g.Expect(err).NotTo(HaveOccurred())
	for _, o := range objectsOf(b) {
		u := &unstructured.Unstructured{}
		g.Expect(yaml.Unmarshal(o.YAML(), &u.Object)).To(Succeed())
		switch o.Kind {
		case "ServiceAccount":
		case "Service":
			u.Object["automountServiceAccountToken"] = false
		case "Deployment":
			unstructured.RemoveNestedField(u.Object, "spec", "template", "spec", "securityContext", "runAsNonRoot")
		default:
			continue
		}
		s.objects = append(s.objects, u)
	}
	return s
}

// objectSet are objects of a variant that no variant before it has.
type objectSet struct {
	variant string
	tenant  *v1alpha1.Tenant
	objects []*unstructured.Unstructured
}

// objectSets returns what to apply, each for a tenant of its own.
func objectSets(g *WithT, charts *stack.ChartRegistry) []objectSet {
	r, err := render.New(bundles.FS)
	g.Expect(err).NotTo(HaveOccurred())
	whole := variants.Pairwise()
	var sets []objectSet
	seen := map[string]bool{}
	for i, v := range append(whole, variants.All()...) {
		isNew, err := newObjects(r, v, seen)
		g.Expect(err).NotTo(HaveOccurred(), v.Name)
		if len(isNew) == 0 {
			continue
		}
		s := objectSet{variant: v.Name, tenant: v.Tenant(fmt.Sprintf("v%03d", len(sets)))}
		// Charts are installed from the registry that is here, and not from one that asks for a password.
		installs := s.tenant.Spec.Ingress.Chart.SecretRef == nil &&
			(isNew["HelmRelease/istio-ingress"] || isNew["HelmRelease/istio-egress"] || isNew["HelmRelease/traefik"])
		if installs {
			chart := charts.Gateway
			if s.tenant.Spec.Ingress.Provider == v1alpha1.TraefikIngress {
				chart = charts.Traefik
			}
			s.tenant.Spec.Ingress.Chart = v1alpha1.ChartSpec{URL: chart.URL, Version: chart.Version, Insecure: true}
		}
		b, err := r.Render(s.tenant)
		g.Expect(err).NotTo(HaveOccurred(), v.Name)
		for _, o := range objectsOf(b) {
			// Pods need their account and what bounds them, and a release its chart, in any case.
			needed := slices.Contains([]string{"ResourceQuota", "LimitRange", "ServiceAccount", "OCIRepository"}, o.Kind)
			if i >= len(whole) && !isNew[o.Kind+"/"+o.Name] && !needed {
				continue
			}
			u := &unstructured.Unstructured{}
			g.Expect(yaml.Unmarshal(o.YAML(), &u.Object)).To(Succeed())
			idle := !installs || o.Name == "postgres" || o.Kind == "HelmRelease" && !isNew[o.Kind+"/"+o.Name]
			if idle && (o.Kind == "HelmRelease" || o.Kind == "OCIRepository") {
				g.Expect(unstructured.SetNestedField(u.Object, true, "spec", "suspend")).To(Succeed())
			}
			s.objects = append(s.objects, u)
		}
		sets = append(sets, s)
	}
	return sets
}

// newObjects returns the objects of a variant that are not among those seen, by kind and name, and adds them to those.
func newObjects(r *render.Renderer, v variants.Variant, seen map[string]bool) (map[string]bool, error) {
	t := v.Tenant("same")
	b, err := r.Render(t)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, o := range objectsOf(b) {
		content := string(o.YAML())
		// A release that cannot be installed here is not one that was.
		content += fmt.Sprint(o.Kind == "HelmRelease" && t.Spec.Ingress.Chart.SecretRef != nil)
		if !seen[content] {
			seen[content], out[o.Kind+"/"+o.Name] = true, true
		}
	}
	return out, nil
}

func objectsOf(b *render.Bundle) []render.Object {
	var out []render.Object
	for _, l := range b.Layers {
		out = append(out, l.Objects...)
	}
	return out
}

// apply applies the set as the tenant's applier, each object once, and returns what the apiserver finds wrong with it.
func (s objectSet) apply(g *WithT, t *testing.T, env *environment) (problems []string) {
	tenant := s.tenant
	for _, o := range []client.Object{
		emit.Namespace(tenant),
		emit.ServiceAccount(tenant, tenant.Namespace, emit.ApplierName(tenant)),
		emit.ServiceAccount(tenant, tenant.Spec.Namespace, emit.HelmApplierName),
		emit.RoleBinding(tenant, emit.KustomizeApplierBinding, emit.KustomizeApplierRole, tenant.Namespace, emit.ApplierName(tenant)),
		emit.RoleBinding(tenant, emit.HelmApplierName, emit.HelmApplierRole, tenant.Spec.Namespace, emit.HelmApplierName),
	} {
		g.Expect(env.client.Create(t.Context(), o)).To(Succeed())
	}
	warned := &warnings{}
	config := env.stack.RESTConfig()
	config.QPS, config.WarningHandler = -1, warned
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + tenant.Namespace + ":" + emit.ApplierName(tenant),
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + tenant.Namespace, "system:authenticated"},
	}
	allowed := func(g Gomega) bool {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: config.Impersonate.UserName, Groups: config.Impersonate.Groups,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: tenant.Spec.Namespace, Verb: "patch", Resource: "services"},
		}}
		g.Expect(env.client.Create(t.Context(), review)).To(Succeed())
		return review.Status.Allowed
	}
	// The apiserver heeds a new binding a moment later.
	g.Eventually(allowed).Should(BeTrue())
	c, err := dynamic.NewForConfig(config)
	g.Expect(err).NotTo(HaveOccurred())
	for _, o := range s.objects {
		kind := o.GroupVersionKind()
		mapping, err := env.client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
		g.Expect(err).NotTo(HaveOccurred())
		body, err := json.Marshal(o.Object)
		g.Expect(err).NotTo(HaveOccurred())
		_, err = c.Resource(mapping.Resource).Namespace(o.GetNamespace()).Patch(t.Context(), o.GetName(), types.ApplyPatchType, body,
			metav1.PatchOptions{FieldManager: "kustomize-controller", Force: ptr.To(true), FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s %s: %v", kind.Kind, o.GetName(), err))
		}
		for _, text := range warned.take() {
			problems = append(problems, fmt.Sprintf("%s %s: warning: %s", kind.Kind, o.GetName(), text))
		}
	}
	return problems
}

// warnings keeps what the apiserver warns of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader is called by the client for each warning.
func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := w.texts
	w.texts = nil
	return texts
}
