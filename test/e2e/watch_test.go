// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// guard watches every object in the namespaces of facilities, from before an accident until all is back, and notes
// what a facility would feel: an object that goes or is made anew, a pod that comes or goes, a workload whose
// specification moves.
type guard struct {
	namespaces map[string]bool

	mu     sync.Mutex
	harm   []string
	except map[string]bool // API groups whose objects may go for now
}

// transient are kinds that come and go by themselves.
var transient = map[schema.GroupResource]bool{
	{Resource: "events"}:                               true,
	{Group: "events.k8s.io", Resource: "events"}:       true,
	{Group: "coordination.k8s.io", Resource: "leases"}: true,
	{Resource: "endpoints"}:                            true, // the same as endpointslices
}

// guardNamespaces begins to watch the namespaces, until the end of the test.
func guardNamespaces(t *testing.T, env *environment, namespaces ...string) *guard {
	t.Helper()
	config := env.stack.RESTConfig()
	known, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := known.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	c, err := metadata.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &guard{namespaces: map[string]bool{}, except: map[string]bool{}}
	for _, ns := range namespaces {
		w.namespaces[ns] = true
	}
	// The informers outlast t.Context, which ends before the cleanups run: stopped here, they are waited for too.
	stop := make(chan struct{})
	factory := metadatainformer.NewSharedInformerFactory(c, 0)
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			gvr := gv.WithResource(r.Name)
			isNamespace := gvr.GroupResource() == schema.GroupResource{Resource: "namespaces"}
			if !r.Namespaced && !isNamespace || transient[gvr.GroupResource()] || !slices.Contains(r.Verbs, "watch") {
				continue
			}
			informer := factory.ForResource(gvr).Informer()
			// A kind that is not served for a while is what some of the accidents are.
			if err := informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {}); err != nil {
				t.Fatal(err)
			}
			if _, err := informer.AddEventHandler(w.handler(gvr.Group, r.Kind)); err != nil {
				t.Fatal(err)
			}
		}
	}
	factory.Start(stop)
	t.Cleanup(func() {
		close(stop)
		factory.Shutdown()
	})
	for gvr, synced := range factory.WaitForCacheSync(stop) {
		if !synced {
			t.Fatalf("cannot watch %s", gvr)
		}
	}
	return w
}

func (w *guard) handler(group, kind string) cache.ResourceEventHandlerDetailedFuncs {
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, isInInitialList bool) {
			o := accessor(obj)
			if !isInInitialList && (kind == "Pod" || kind == "ReplicaSet") {
				w.note(group, kind, o, "was made")
			}
			if isInInitialList && o.GetDeletionTimestamp() != nil {
				w.note(group, kind, o, "was going before")
			}
		},
		UpdateFunc: func(before, after any) {
			old, now := accessor(before), accessor(after)
			switch {
			case old.GetUID() != now.GetUID():
				w.note(group, kind, now, "was deleted and made anew")
			case old.GetDeletionTimestamp() == nil && now.GetDeletionTimestamp() != nil:
				w.note(group, kind, now, "is going")
			case group == "apps" && old.GetGeneration() != now.GetGeneration():
				w.note(group, kind, now, fmt.Sprintf("has another specification: generation %d became %d", old.GetGeneration(), now.GetGeneration()))
			}
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			w.note(group, kind, accessor(obj), "was deleted")
		},
	}
}

func accessor(obj any) metav1.Object {
	o, err := meta.Accessor(obj)
	if err != nil {
		panic(err)
	}
	return o
}

func (w *guard) note(group, kind string, o metav1.Object, what string) {
	of := o.GetNamespace()
	if of == "" {
		of = o.GetName() // a Namespace
	}
	if !w.namespaces[of] {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.except[group] {
		w.harm = append(w.harm, fmt.Sprintf("%s %s %s/%s %s", time.Now().Format("15:04:05.000"), kind, o.GetNamespace(), o.GetName(), what))
	}
}

// mayGo lets objects of API groups go until the returned function is called: those of Flux's own kinds go with their
// CRDs, which takes nothing with them.
func (w *guard) mayGo(groups ...string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, group := range groups {
		w.except[group] = true
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		clear(w.except)
	}
}

// seen is what was noted so far.
func (w *guard) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.harm)
}

// expectNoHarm fails the test with what was noted, once.
func (w *guard) expectNoHarm(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.harm) > 0 {
		t.Errorf("of the facilities' objects:\n%s", strings.Join(w.harm, "\n"))
	}
	w.harm = nil
}

// expectScaled waits until the autoscalers have scaled what they scale, so that nothing moves by itself.
func expectScaled(t *testing.T, env *environment, namespaces ...string) {
	t.Helper()
	gomega(t).Eventually(func(g Gomega) {
		for _, ns := range namespaces {
			autoscalers := &autoscalingv2.HorizontalPodAutoscalerList{}
			g.Expect(env.client.List(t.Context(), autoscalers, client.InNamespace(ns))).To(Succeed())
			for _, h := range autoscalers.Items {
				target := &appsv1.Deployment{}
				g.Expect(env.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: h.Spec.ScaleTargetRef.Name}, target)).To(Succeed())
				g.Expect(target.Status.ReadyReplicas).To(BeNumerically(">=", ptr.Deref(h.Spec.MinReplicas, 1)), ns)
			}
		}
	}).Should(Succeed())
}

// restartCounts are how often the containers of a namespace's pods were restarted, by pod.
func restartCounts(t *testing.T, env *environment, namespaces ...string) map[string]int32 {
	t.Helper()
	counts := map[string]int32{}
	for _, ns := range namespaces {
		pods := &corev1.PodList{}
		if err := env.client.List(t.Context(), pods, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			for _, c := range pod.Status.ContainerStatuses {
				counts[ns+"/"+pod.Name+"/"+c.Name] = c.RestartCount
			}
		}
	}
	return counts
}
