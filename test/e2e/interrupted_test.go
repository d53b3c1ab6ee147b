// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

// A removal that people and kills interfere with ends as it would have, and so does the putting back of what was
// deleted by accident.
func TestInterruptions(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const (
		plain  = "interrupted-plain"
		byhand = "interrupted-byhand" // deleted by hand while it is being removed
		erased = "interrupted-erased" // the same under Delete
		again  = "interrupted-again"  // defined again while it is being removed
		first  = "interrupted-first"  // marked when Korthweb is killed
		second = "interrupted-second" // of the same commit, and perhaps not marked yet
		stays  = "interrupted-stays"
		stays2 = "interrupted-stays2"
	)
	names := []string{plain, byhand, erased, again, first, second, stays, stays2}
	env := ownEnvironment(t, stack.Options{Workloads: true, Flux: true})
	g.Expect(env.stack.StartKorthweb(t.Context(), stack.KorthwebOptions{Binary: korthweb, Registries: []string{env.charts.Host()}})).To(Succeed())
	files := map[string]string{"classes/delete.yaml": classNamed(env, "delete", "deletionPolicy: Delete")}
	for _, name := range names {
		files[name+".yaml"] = tenantFile(name)
	}
	files[erased+".yaml"] = tenantOfClass(erased, "delete")
	f := newFacilities(t, env, "interrupted", files)
	g.Eventually(f.ready(names...)).Should(Succeed())
	data := map[string]map[client.Object]types.UID{}
	for _, name := range names {
		data[name] = f.data(t, name)
	}
	expectScaled(t, env, stays+"-orthweb", stays2+"-orthweb")
	guard := guardNamespaces(t, env, stays+"-orthweb", stays2+"-orthweb")

	kill := func(t *testing.T) {
		g := gomega(t)
		g.Expect(env.stack.Kill(stack.Korthweb)).To(Succeed())
		g.Expect(env.stack.StartProcess(t.Context(), stack.Korthweb)).To(Succeed())
	}
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"killed while marking", func(t *testing.T) {
			g := gomega(t)
			f.push(nil, first+".yaml", second+".yaml")
			g.Eventually(func() error { return f.marked(first, second) }).WithPolling(time.Millisecond).Should(Succeed())
			kill(t)
			f.expectOffline(t, first, data[first])
			f.expectOffline(t, second, data[second])
		}},
		{"while layers are being removed", func(t *testing.T) {
			g := gomega(t)
			// Without kustomize-controller nothing lets a layer go, so all of this is in the middle.
			g.Expect(env.stack.StopProcess(stack.KustomizeController)).To(Succeed())
			removing := []string{plain, byhand, erased, again}
			f.push(nil, plain+".yaml", byhand+".yaml", erased+".yaml", again+".yaml")
			for _, name := range removing {
				g.Eventually(func(g Gomega) {
					k, err := f.layer(name, v1alpha1.ApplicationLayer)
					g.Expect(err).NotTo(HaveOccurred())
					g.Expect(k.DeletionTimestamp).NotTo(BeNil())
					obj, err := f.get(name)
					g.Expect(err).NotTo(HaveOccurred())
					g.Expect(obj.Annotations).To(HaveKey(v1alpha1.RemoveAnnotation))
					g.Expect(obj.Finalizers).To(ContainElement(v1alpha1.Finalizer))
					g.Expect(conditions.GetReason(obj, meta.ReadyCondition)).To(Equal(v1alpha1.RemovingReason))
				}).Should(Succeed(), name)
			}
			for _, name := range []string{byhand, erased} {
				tenant := &v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)}
				g.Expect(env.client.Delete(t.Context(), tenant)).To(Succeed())
			}
			revision := f.push(map[string]string{again + ".yaml": tenantFile(again, "displayName: Again")})
			g.Eventually(f.takenOver(revision)).Should(Succeed())
			kill(t)
			time.Sleep(2 * time.Second)
			for _, name := range removing {
				_, err := f.layer(name, v1alpha1.DependencyLayer)
				g.Expect(err).NotTo(HaveOccurred(), "%s: the order is kept", name)
			}
			g.Expect(env.stack.StartProcess(t.Context(), stack.KustomizeController)).To(Succeed())

			f.expectOffline(t, plain, data[plain])
			f.expectOffline(t, byhand, data[byhand])
			g.Eventually(f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, erased)})).Should(Succeed())
			g.Eventually(f.gone(&corev1.Namespace{ObjectMeta: objectMeta("", erased+"-orthweb")})).Should(Succeed())
			f.approveAdoption(t, again)
			g.Eventually(f.readyAt(revision, again)).Should(Succeed())
			for o, uid := range data[again] {
				g.Expect(env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)).To(Succeed())
				g.Expect(o.GetUID()).To(Equal(uid), "%T %s", o, o.GetName())
			}
		}},
		{"killed while putting back", func(t *testing.T) {
			g := gomega(t)
			before := map[string]string{}
			for _, name := range []string{stays, stays2} {
				obj, err := f.get(name)
				g.Expect(err).NotTo(HaveOccurred())
				before[name] = obj.Status.Artifact.Digest
			}
			g.Expect(env.client.DeleteAllOf(t.Context(), &v1alpha1.Tenant{}, client.InNamespace(stack.FluxNamespace))).To(Succeed())
			g.Eventually(func() int { return len(f.tenants(t.Context())) }).WithPolling(time.Millisecond).ShouldNot(BeZero())
			kill(t)
			g.Eventually(f.ready(stays, stays2, again)).Should(Succeed())
			for name, digest := range before {
				obj, err := f.get(name)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(obj.Status.Artifact.Digest).To(Equal(digest))
			}
		}},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			step.run(t)
			guard.expectNoHarm(t)
		}) {
			return
		}
	}
}

// marked fails until one of the Tenants carries the mark, or is gone already.
func (f *facilities) marked(names ...string) error {
	for _, name := range names {
		obj, err := f.get(name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, marked := obj.Annotations[v1alpha1.RemoveAnnotation]; marked {
			return nil
		}
	}
	return fmt.Errorf("none of %v is marked", names)
}
