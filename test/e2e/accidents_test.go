// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

// The facilities of TestAccidents: one that data would go with, one whose newest file is refused, one that is
// suspended, one made by hand, and one made by hand whose newest definition is refused by the Tenant controller.
const (
	accidentPlain     = "accident-plain"
	accidentDelete    = "accident-delete"
	accidentRefused   = "accident-refused"
	accidentSuspended = "accident-suspended"
	accidentByHand    = "accident-byhand"
	accidentStalled   = "accident-stalled"
)

var (
	fromGit   = []string{accidentPlain, accidentDelete, accidentRefused, accidentSuspended}
	byHand    = []string{accidentByHand, accidentStalled}
	allOfThem = append(slices.Clone(fromGit), byHand...)
)

// accidents is what the steps of TestAccidents share.
type accidents struct {
	env   *environment
	f     *facilities
	guard *guard
	// before is what there was on the platform's side before the first accident, by kind and name.
	before   map[string]string
	restarts map[string]int32
}

// Whatever is deleted by accident, no object of a facility goes, no pod stops, no Deployment rolls, at any moment from
// before the accident until all is back; and what was deleted is put back as it was.
func TestAccidents(t *testing.T) {
	t.Parallel()
	a := newAccidents(t)
	for _, step := range []struct {
		name string
		// happen is the accident, mend what an administrator does about it beside waiting.
		happen func(t *testing.T)
		mend   func(t *testing.T)
		// goes are API groups whose objects in the facilities' namespaces go with it.
		goes []string
	}{
		{name: "all Tenants", happen: a.deleteTenants},
		{name: "all Kustomizations", happen: a.deleteAll(&kustomizev1.Kustomization{}, &kustomizev1.KustomizationList{})},
		{name: "all ExternalArtifacts", happen: a.deleteAll(&sourcev1.ExternalArtifact{}, &sourcev1.ExternalArtifactList{})},
		{name: "the CRD of Tenants", happen: a.deleteOwnCRD("tenants.korthweb.digihunch.com"), mend: a.installTenants},
		{name: "the CRD of TenantRepositories", happen: a.deleteOwnCRD("tenantrepositories.korthweb.digihunch.com"), mend: a.installRepositories},
		{name: "the TenantRepository", happen: a.deleteAll(&v1alpha1.TenantRepository{}, &v1alpha1.TenantRepositoryList{}), mend: a.createRepository},
		{name: "the CRD of Kustomizations", happen: a.deleteCRD("kustomizations.kustomize.toolkit.fluxcd.io"), mend: a.installFluxCRDs},
		{
			name: "flux uninstall", happen: a.fluxUninstall, mend: a.fluxInstall,
			goes: []string{"helm.toolkit.fluxcd.io", "source.toolkit.fluxcd.io"},
		},
		{name: "a new pod with an empty disk", happen: a.wipeStorage},
		{name: "Korthweb uninstalled", happen: a.uninstall, mend: a.install},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			begin := time.Now()
			end := a.guard.mayGo(step.goes...)
			step.happen(t)
			if step.mend != nil {
				// Korthweb and Flux have time to do harm while what was deleted is away.
				time.Sleep(3 * time.Second)
				step.mend(t)
			}
			a.expectBack(t)
			end()
			t.Logf("back after %s", time.Since(begin).Round(100*time.Millisecond))
		})
		if !ok {
			return // the next step begins where this one should have ended
		}
	}

	// That nothing was noted means something only if it would have been.
	t.Run("the guard sees harm", func(t *testing.T) {
		g := gomega(t)
		pods := &corev1.PodList{}
		g.Expect(a.env.client.List(t.Context(), pods, client.InNamespace(accidentPlain+"-orthweb"))).To(Succeed())
		g.Expect(a.env.client.Delete(t.Context(), &pods.Items[0])).To(Succeed())
		g.Eventually(a.guard.seen).Should(ContainElements(
			ContainSubstring("Pod accident-plain-orthweb/"+pods.Items[0].Name+" is going"),
			ContainSubstring("Pod accident-plain-orthweb/"+pods.Items[0].Name+" was deleted"),
			And(ContainSubstring("Pod accident-plain-orthweb/"), HaveSuffix("was made")),
		))
	})
}

func newAccidents(t *testing.T) *accidents {
	t.Helper()
	g := gomega(t)
	env := ownEnvironment(t, stack.Options{Workloads: true, Flux: true})
	g.Expect(env.stack.StartKorthweb(t.Context(), stack.KorthwebOptions{Binary: korthweb, Registries: []string{env.charts.Host()}})).To(Succeed())
	a := &accidents{env: env}
	files := map[string]string{"classes/delete.yaml": classNamed(env, "delete", "deletionPolicy: Delete")}
	for _, name := range fromGit {
		files[name+".yaml"] = tenantFile(name)
	}
	files[accidentDelete+".yaml"] = tenantOfClass(accidentDelete, "delete")
	a.f = newFacilities(t, env, "accidents", files)
	for _, name := range byHand {
		g.Expect(env.client.Create(t.Context(), tenantByHand(env, name))).To(Succeed())
	}
	g.Eventually(a.f.ready(allOfThem...)).Should(Succeed())

	a.f.push(map[string]string{
		accidentRefused + ".yaml":   tenantFile(accidentRefused, "quota: {hard: {configmaps: 100}}"),
		accidentSuspended + ".yaml": tenantFile(accidentSuspended, "suspend: true"),
	})
	a.stall(t)

	g.Eventually(a.asTheyShouldBe).Should(Succeed())
	var namespaces []string
	for _, name := range allOfThem {
		namespaces = append(namespaces, name+"-orthweb")
	}
	expectScaled(t, env, namespaces...)
	a.restarts = restartCounts(t, env, namespaces...)
	g.Expect(len(a.restarts)).To(BeNumerically(">=", len(allOfThem)))
	g.Eventually(func(g Gomega) { // the last status of Flux may still be on its way
		a.before = a.platform(g)
		time.Sleep(2 * time.Second)
		g.Expect(a.platform(g)).To(Equal(a.before))
	}).Should(Succeed())
	for _, kind := range platformKinds {
		g.Expect(slices.Collect(maps.Keys(a.before))).To(ContainElement(HavePrefix(kind.Kind+" ")), kind.Kind)
	}
	a.guard = guardNamespaces(t, env, namespaces...)
	return a
}

// tenantByHand is a Tenant that an administrator makes in the cluster.
func tenantByHand(env *environment, name string) *v1alpha1.Tenant {
	obj := &v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, name)}
	obj.Spec.Domain = name + ".example.com"
	obj.Spec.Ingress.Chart = v1alpha1.ChartSpec{URL: env.charts.Gateway.URL, Version: env.charts.Gateway.Version, Insecure: true}
	return obj
}

// asTheyShouldBe fails unless every facility is in the state that it had before the accidents.
func (a *accidents) asTheyShouldBe() error {
	if err := a.f.ready(accidentPlain, accidentDelete, accidentRefused, accidentByHand)(); err != nil {
		return err
	}
	refused, err := a.f.get(accidentRefused)
	if err != nil {
		return err
	}
	if !conditions.IsFalse(refused, v1alpha1.DefinitionAcceptedCondition) {
		return fmt.Errorf("the definition of %s is not refused: %v", refused.Name, refused.Status.Conditions)
	}
	stalled, err := a.f.get(accidentStalled)
	if err != nil {
		return err
	}
	if !conditions.IsStalled(stalled) || stalled.Status.ObservedGeneration != stalled.Generation {
		return fmt.Errorf("%s is not stalled: %v", stalled.Name, stalled.Status.Conditions)
	}
	for _, name := range allOfThem {
		artifact := &sourcev1.ExternalArtifact{}
		if err := a.env.client.Get(a.f.t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: name}, artifact); err != nil {
			return err
		}
		if !conditions.IsReady(artifact) {
			return fmt.Errorf("ExternalArtifact %s: %s", name, conditions.GetMessage(artifact, meta.ReadyCondition))
		}
		for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
			k, err := a.f.layer(name, layer)
			if err != nil {
				return err
			}
			if k.Spec.Suspend != (name == accidentSuspended) {
				return fmt.Errorf("Kustomization %s: suspend is %t", k.Name, k.Spec.Suspend)
			}
			if !k.Spec.Suspend && !applied(k, artifact.Status.Artifact.Revision) {
				return fmt.Errorf("Kustomization %s: %s", k.Name, conditions.GetMessage(k, meta.ReadyCondition))
			}
		}
	}
	return nil
}

// applied says whether a layer is Ready at a revision.
func applied(k *kustomizev1.Kustomization, revision string) bool {
	return conditions.IsReady(k) && k.Status.ObservedGeneration == k.Generation && k.Status.LastAppliedRevision == revision
}

// expectBack waits until the platform's side is as it was, has Flux apply everything once more, and looks at what the
// facilities felt since before the accident.
func (a *accidents) expectBack(t *testing.T) {
	t.Helper()
	g := gomega(t)
	g.SetDefaultEventuallyTimeout(2 * time.Minute)
	g.Eventually(a.differences).Should(BeEmpty())
	g.Eventually(a.asTheyShouldBe).Should(Succeed())

	asked := map[client.ObjectKey]string{}
	for _, name := range allOfThem {
		for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
			k, err := a.f.layer(name, layer)
			g.Expect(err).NotTo(HaveOccurred())
			if !k.Spec.Suspend {
				asked[client.ObjectKeyFromObject(k)] = requestReconciliation(t, a.env, k)
			}
		}
	}
	g.Eventually(func(g Gomega) {
		for key, token := range asked {
			k := &kustomizev1.Kustomization{}
			g.Expect(a.env.client.Get(t.Context(), key, k)).To(Succeed())
			g.Expect(k.Status.LastHandledReconcileAt).To(Equal(token), key.Name)
			g.Expect(conditions.IsReady(k)).To(BeTrue(), "%s: %s", key.Name, conditions.GetMessage(k, meta.ReadyCondition))
		}
	}).Should(Succeed())
	g.Eventually(a.asTheyShouldBe).Should(Succeed())

	a.guard.expectNoHarm(t)
	var namespaces []string
	for _, name := range allOfThem {
		namespaces = append(namespaces, name+"-orthweb")
	}
	g.Expect(restartCounts(t, a.env, namespaces...)).To(Equal(a.restarts))
}

// platformKinds are what the platform holds of its tenants in its own namespace.
var platformKinds = []schema.GroupVersionKind{
	v1alpha1.GroupVersion.WithKind(v1alpha1.TenantKind),
	sourcev1.GroupVersion.WithKind(sourcev1.ExternalArtifactKind),
	kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind),
	corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
}

// platform is what the platform's side is, without what the apiserver keeps for itself: metadata, spec, and which
// archive is announced.
func (a *accidents) platform(g Gomega) map[string]string {
	out := map[string]string{}
	for _, kind := range platformKinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		g.Expect(a.env.client.List(a.f.t.Context(), list, client.InNamespace(stack.FluxNamespace))).To(Succeed())
		for _, o := range list.Items {
			if kind.Kind != v1alpha1.TenantKind && o.GetLabels()[v1alpha1.TenantLabel] == "" {
				continue
			}
			annotations := o.GetAnnotations()
			delete(annotations, meta.ReconcileRequestAnnotation)
			digest, _, _ := unstructured.NestedString(o.Object, "status", "artifact", "digest")
			revision, _, _ := unstructured.NestedString(o.Object, "status", "artifact", "revision")
			text, err := json.MarshalIndent([]any{o.GetLabels(), annotations, o.GetOwnerReferences(), o.Object["spec"], revision, digest}, "", " ")
			g.Expect(err).NotTo(HaveOccurred())
			out[kind.Kind+" "+o.GetName()] = string(text)
		}
	}
	return out
}

// differences are what of the platform's side is not as it was.
func (a *accidents) differences(g Gomega) []string {
	var out []string
	now := a.platform(g)
	for name, was := range a.before {
		if now[name] != was {
			out = append(out, name+"\n"+cmp.Diff(was, now[name]))
		}
		delete(now, name)
	}
	return append(out, slices.Collect(maps.Keys(now))...)
}

// deleteTenants deletes the Tenants that come from git. One that was made by hand goes offline when its owner deletes
// it, which TestTenantByHand holds.
func (a *accidents) deleteTenants(t *testing.T) {
	a.deleteAndWait(t, &v1alpha1.Tenant{}, &v1alpha1.TenantList{}, client.MatchingLabels{v1alpha1.RepositoryLabel: a.f.name},
		client.PropagationPolicy(metav1.DeletePropagationForeground))
}

// deleteAll is kubectl delete --all.
func (a *accidents) deleteAll(kind client.Object, list client.ObjectList) func(t *testing.T) {
	return func(t *testing.T) { a.deleteAndWait(t, kind, list) }
}

// deleteAndWait deletes objects and waits until each of them is gone, or another of its name is there.
func (a *accidents) deleteAndWait(t *testing.T, kind client.Object, list client.ObjectList, options ...client.DeleteAllOfOption) {
	t.Helper()
	g := gomega(t)
	uids := func(g Gomega) []types.UID {
		var all []types.UID
		g.Expect(a.env.client.List(t.Context(), list, client.InNamespace(stack.FluxNamespace))).To(Succeed())
		g.Expect(apimeta.EachListItem(list, func(o runtime.Object) error {
			all = append(all, o.(client.Object).GetUID())
			return nil
		})).To(Succeed())
		return all
	}
	before := uids(g)
	options = append(options, client.InNamespace(stack.FluxNamespace))
	g.Expect(a.env.client.DeleteAllOf(t.Context(), kind, options...)).To(Succeed())
	deleted := &client.DeleteAllOfOptions{}
	deleted.ApplyOptions(options)
	kept := 0
	if deleted.LabelSelector != nil {
		kept = len(byHand)
	}
	g.Eventually(func(g Gomega) []types.UID {
		now := uids(g)
		return slices.DeleteFunc(slices.Clone(before), func(uid types.UID) bool { return !slices.Contains(now, uid) })
	}).Should(HaveLen(kept))
}

func crd(name string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	return o
}

// deleteCRD deletes a CRD, with all objects of its kind.
func (a *accidents) deleteCRD(name string) func(t *testing.T) {
	return func(t *testing.T) {
		g := gomega(t)
		g.Expect(a.env.client.Delete(t.Context(), crd(name))).To(Succeed())
		g.Eventually(a.f.gone(crd(name))).Should(Succeed())
	}
}

// deleteOwnCRD deletes a CRD of Korthweb's, which is refused until an annotation says that it is meant.
func (a *accidents) deleteOwnCRD(name string) func(t *testing.T) {
	return func(t *testing.T) {
		g := gomega(t)
		expectDeletionRefused(t, a.env, crd(name))
		allowDeletion(t, a.env, crd(name))
		g.Eventually(func() error { return a.env.client.Delete(t.Context(), crd(name)) }).Should(Succeed())
		g.Eventually(a.f.gone(crd(name))).Should(Succeed())
	}
}

// expectDeletionRefused tries to delete what an annotation must allow to be deleted.
func expectDeletionRefused(t *testing.T, env *environment, o client.Object) {
	t.Helper()
	g := gomega(t)
	err := env.client.Delete(t.Context(), o)
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)
	g.Expect(err).To(MatchError(ContainSubstring(v1alpha1.AllowDeletionAnnotation)))
}

// allowDeletion says that a deletion is meant.
func allowDeletion(t *testing.T, env *environment, o client.Object) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, v1alpha1.AllowDeletionAnnotation)
	gomega(t).Expect(env.client.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed())
}

func (a *accidents) installCRDs(t *testing.T) {
	gomega(t).Expect(a.env.stack.InstallKorthwebCRDs(t.Context())).To(Succeed())
}

// installTenants installs the CRD of Tenants again. What no file has comes back as it was last published, which its
// newest definition was not.
func (a *accidents) installTenants(t *testing.T) {
	a.installCRDs(t)
	a.stall(t)
}

func (a *accidents) installRepositories(t *testing.T) {
	a.installCRDs(t)
	a.createRepository(t)
}

// stall gives a Tenant that is there, with the definition that was last published, one that is refused.
func (a *accidents) stall(t *testing.T) {
	t.Helper()
	g := gomega(t)
	g.Eventually(func(g Gomega) {
		obj, err := a.f.get(accidentStalled)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(obj.Spec.Patches).To(BeEmpty())
		obj.Spec.Patches = []v1alpha1.Patch{{Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: nobody}, spec: {replicas: 0}}"}}
		g.Expect(a.env.client.Update(t.Context(), obj)).To(Succeed())
	}).Should(Succeed())
}

// createRepository applies what an administrator has in git of the TenantRepository.
func (a *accidents) createRepository(t *testing.T) {
	gomega(t).Eventually(func() error { return a.env.client.Create(t.Context(), a.f.tenantRepository()) }).Should(Succeed())
}

func (a *accidents) installFluxCRDs(t *testing.T) {
	gomega(t).Expect(a.env.stack.InstallFluxCRDs(t.Context())).To(Succeed())
}

var fluxProcesses = []string{stack.SourceController, stack.KustomizeController, stack.HelmController}

// fluxUninstall runs the very command. The stack's controllers are no Deployments, so they are stopped here; and
// its CRDs come from the controllers' modules, without the label that Flux's installation manifests give them.
func (a *accidents) fluxUninstall(t *testing.T) {
	g := gomega(t)
	for _, name := range fluxProcesses {
		g.Expect(a.env.stack.StopProcess(name)).To(Succeed())
	}
	crds := &metav1.PartialObjectMetadataList{}
	crds.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinitionList"})
	g.Expect(a.env.client.List(t.Context(), crds)).To(Succeed())
	var ofFlux []string
	for _, o := range crds.Items {
		if group := o.Name[len(o.Name)-len("toolkit.fluxcd.io"):]; group == "toolkit.fluxcd.io" {
			ofFlux = append(ofFlux, o.Name)
			patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"app.kubernetes.io/part-of":"flux"}}}`))
			g.Expect(a.env.client.Patch(t.Context(), crd(o.Name), patch)).To(Succeed())
		}
	}
	g.Expect(len(ofFlux)).To(BeNumerically(">", 5))
	// Else the command would leave it there.
	releases := crd("helmreleases.helm.toolkit.fluxcd.io")
	expectDeletionRefused(t, a.env, releases)
	allowDeletion(t, a.env, releases)
	flux := exec.CommandContext(t.Context(), a.env.stack.ProgramPath("flux"), "uninstall",
		"--silent", "--keep-namespace", "--namespace="+stack.FluxNamespace, "--kubeconfig="+a.env.stack.Kubeconfig())
	out, err := flux.CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(out))
	for _, name := range ofFlux {
		g.Eventually(a.f.gone(crd(name))).Should(Succeed())
	}
}

func (a *accidents) fluxInstall(t *testing.T) {
	g := gomega(t)
	a.installFluxCRDs(t)
	for _, name := range fluxProcesses {
		g.Expect(a.env.stack.StartProcess(t.Context(), name)).To(Succeed())
	}
}

// wipeStorage is what becomes of an emptyDir when a pod is replaced.
func (a *accidents) wipeStorage(t *testing.T) {
	g := gomega(t)
	g.Expect(a.env.stack.Kill(stack.Korthweb)).To(Succeed())
	g.Expect(wipe(a.env.stack.StorageDir())).To(Succeed())
	g.Expect(a.env.stack.StartProcess(t.Context(), stack.Korthweb)).To(Succeed())
	g.Eventually(func() error {
		for _, name := range allOfThem {
			if err := a.stored(name); err != nil {
				return err
			}
		}
		return nil
	}).Should(Succeed())
}

// stored fails unless the archive that was announced before the accidents is on the disk.
func (a *accidents) stored(name string) error {
	obj := &sourcev1.ExternalArtifact{}
	if err := a.env.client.Get(a.f.t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: name}, obj); err != nil {
		return err
	}
	if obj.Status.Artifact == nil {
		return errors.New("ExternalArtifact " + name + " announces nothing")
	}
	return storedArchive(a.env, name, obj.Status.Artifact.Digest)
}
