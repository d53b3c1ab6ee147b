// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/fstest"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/tenant"
)

// repository is a TenantRepository whose revisions are given by the test. Its reconciler is called directly.
type repository struct {
	*WithT
	*TenantRepositoryReconciler
	key    types.NamespacedName
	events *record.FakeRecorder
	// failDelete makes deletions fail, as a crash after the mark does.
	failDelete bool
	// fail says how a request fails, if so.
	fail func(verb string, obj runtime.Object) error
}

func newRepository(t *testing.T) *repository {
	f := &repository{WithT: NewWithT(t), events: record.NewFakeRecorder(1000), fail: func(string, runtime.Object) error { return nil }}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "repository-"}}
	f.Expect(admin.Create(ctx, ns)).To(Succeed())
	config := rest.CopyConfig(server.Korthweb)
	config.QPS = -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	f.Expect(err).NotTo(HaveOccurred())
	crashing := interceptor.NewClient(c, interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if f.failDelete {
				return errors.New("killed")
			}
			if err := f.fail("delete", obj); err != nil {
				return err
			}
			return c.Delete(ctx, obj, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if err := f.fail("create", obj); err != nil {
				return err
			}
			return c.Create(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if err := f.fail("patch", obj); err != nil {
				return err
			}
			return c.Patch(ctx, obj, patch, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := f.fail("list", list); err != nil {
				return err
			}
			return c.List(ctx, list, opts...)
		},
	})
	f.TenantRepositoryReconciler = &TenantRepositoryReconciler{Client: crashing, EventRecorder: f.events, History: artifact.NewHistory(crashing, crashing)}
	obj := &v1alpha1.TenantRepository{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "central"}}
	obj.Spec.Interval = metav1.Duration{Duration: time.Hour}
	obj.Spec.Path = "tenants"
	obj.Spec.Prune = true
	obj.Spec.Git = &v1alpha1.GitSource{URL: "https://git.example.com/tenants"}
	f.Expect(admin.Create(ctx, obj)).To(Succeed())
	f.key = client.ObjectKeyFromObject(obj)
	return f
}

// push makes a revision with these files below tenants/ the newest.
func (f *repository) push(revision string, files map[string]string) {
	obj := f.object()
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys["tenants/"+name] = &fstest.MapFile{Data: []byte(content)}
	}
	set, err := f.listTenants(ctx, obj)
	f.Expect(err).NotTo(HaveOccurred())
	result, err := tenant.Load(fsys, tenant.Options{Path: "tenants", Namespace: obj.Namespace, Repository: obj.Name, Held: set.held(obj), Orphans: set.orphans})
	f.Expect(err).NotTo(HaveOccurred())
	f.readings.Store(f.key, &reading{revision: revision, result: result, created: map[string]time.Time{}, refused: map[string]*v1alpha1.Problem{},
		uid: obj.UID, generation: obj.Generation, taken: set.taken(obj), nextRead: time.Now().Add(time.Hour)})
}

func (f *repository) reconcile() (ctrl.Result, error) {
	return f.Reconcile(ctx, ctrl.Request{NamespacedName: f.key})
}

func (f *repository) object() *v1alpha1.TenantRepository {
	obj := &v1alpha1.TenantRepository{}
	f.Expect(admin.Get(ctx, f.key, obj)).To(Succeed())
	return obj
}

func (f *repository) tenant(name string) *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{}
	f.Expect(admin.Get(ctx, types.NamespacedName{Namespace: f.key.Namespace, Name: name}, t)).To(Succeed())
	return t
}

func file(name string, lines ...string) string {
	content := "apiVersion: korthweb.digihunch.com/v1alpha1\nkind: Tenant\nmetadata:\n  name: " + name + "\nspec:\n  domain: " + name + ".example.com\n"
	for _, line := range lines {
		content += "  " + line + "\n"
	}
	return content
}

func files(names ...string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		out[name+".yaml"] = file(name)
	}
	return out
}

func TestRemovalIsMarked(t *testing.T) {
	tests := []struct {
		name   string
		reason string
		// crash after the mark, and what is defined then.
		crash   bool
		then    []string
		prune   bool
		removed bool
	}{
		{name: "at once", prune: true, removed: true, reason: "the mark is there before it is deleted"},
		{name: "interrupted", crash: true, then: []string{"stays"}, prune: true, removed: true, reason: "the next look goes on"},
		{name: "interrupted and defined again", crash: true, then: []string{"stays", "goes"}, prune: true, reason: "what is defined is not removed"},
		{name: "interrupted and not pruned any more", crash: true, then: []string{"stays"}, reason: "what stays is not marked"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newRepository(t)
			stays, goes := fmt.Sprintf("stays-%d", i), fmt.Sprintf("goes-%d", i)
			f.push("main@sha1:1111", files(stays, goes))
			_, err := f.reconcile()
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(f.tenant(goes).Finalizers).To(BeEmpty())

			f.failDelete = test.crash
			f.push("main@sha1:2222", files(stays))
			_, err = f.reconcile()
			if test.crash {
				f.Expect(err).To(HaveOccurred())
				marked := f.tenant(goes)
				f.Expect(marked.DeletionTimestamp).To(BeNil())
				f.Expect(marked.Annotations).To(HaveKeyWithValue(v1alpha1.RemoveAnnotation, "main@sha1:2222"))
				f.Expect(marked.Finalizers).To(ConsistOf(v1alpha1.Finalizer))
				f.failDelete = false
				if !test.prune {
					obj := f.object()
					obj.Spec.Prune = false
					f.Expect(admin.Update(ctx, obj)).To(Succeed())
				}
				var then []string
				for _, name := range test.then {
					then = append(then, fmt.Sprintf("%s-%d", name, i))
				}
				f.push("main@sha1:3333", files(then...))
				_, err = f.reconcile()
			}
			f.Expect(err).NotTo(HaveOccurred())

			now := f.tenant(goes)
			if test.removed {
				f.Expect(now.DeletionTimestamp).NotTo(BeNil(), test.reason)
				f.Expect(now.Annotations).To(HaveKeyWithValue(v1alpha1.RemoveAnnotation, f.object().Status.LastAttemptedRevision), "the revision that removes it")
				f.Expect(now.Finalizers).To(ConsistOf(v1alpha1.Finalizer))
				return
			}
			f.Expect(now.DeletionTimestamp).To(BeNil(), test.reason)
			f.Expect(now.Annotations).NotTo(HaveKey(v1alpha1.RemoveAnnotation), test.reason)
			f.Expect(now.Finalizers).To(BeEmpty(), test.reason)
		})
	}
}

// Both controllers write conditions of one Tenant, and neither takes the other's away. What is said already is not written.
func TestDefinitionAccepted(t *testing.T) {
	f := newRepository(t)
	condition := func(kind string) *metav1.Condition {
		for _, c := range f.tenant("accepted").Status.Conditions {
			if c.Type == kind {
				return &c
			}
		}
		return nil
	}
	f.push("main@sha1:1111", files("accepted", "other"))
	_, err := f.reconcile()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(condition(v1alpha1.DefinitionAcceptedCondition)).To(HaveField("Status", metav1.ConditionTrue))

	// The Tenant controller writes its own.
	before := f.tenant("accepted")
	obj := before.DeepCopy()
	markStalled(obj, v1alpha1.ConflictReason, errors.New("a conflict"))
	f.Expect(patchStatus(ctx, f.Client, before, obj)).To(Succeed())
	f.Expect(condition(v1alpha1.DefinitionAcceptedCondition)).NotTo(BeNil())

	broken := files("accepted", "other")
	broken["accepted.yaml"] = file("accepted", "orthanc:", "  replicas: many")
	f.push("main@sha1:2222", broken)
	_, err = f.reconcile()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(condition(v1alpha1.DefinitionAcceptedCondition)).To(And(HaveField("Status", metav1.ConditionFalse),
		HaveField("Reason", v1alpha1.InvalidDefinitionReason), HaveField("Message", HavePrefix("the newest definition is refused, the one before runs on: tenants/accepted.yaml:8: spec.orthanc.replicas: "))))
	f.Expect(condition(meta.StalledCondition)).NotTo(BeNil(), "what is the other controller's stays")
	var events []string
	for len(f.events.Events) > 0 {
		events = append(events, <-f.events.Events)
	}
	f.Expect(events).To(ContainElement(ContainSubstring("the newest definition is refused, the one before runs on: tenants/accepted.yaml:8")))

	// Again, it writes nothing.
	version := f.tenant("accepted").ResourceVersion
	f.push("main@sha1:3333", broken)
	_, err = f.reconcile()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.tenant("accepted").ResourceVersion).To(Equal(version))

	// A condition that does not hold any more goes, the other's stays.
	before = f.tenant("accepted")
	obj = before.DeepCopy()
	markFailed(obj, v1alpha1.EmitFailedReason, errors.New("a failure"))
	f.Expect(patchStatus(ctx, f.Client, before, obj)).To(Succeed())
	f.Expect(condition(meta.StalledCondition)).To(BeNil())
	f.Expect(condition(v1alpha1.DefinitionAcceptedCondition)).To(HaveField("Status", metav1.ConditionFalse))

	f.push("main@sha1:4444", files("accepted", "other"))
	_, err = f.reconcile()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(condition(v1alpha1.DefinitionAcceptedCondition)).To(HaveField("Status", metav1.ConditionTrue))
}

// Many new tenants are written in passes. What changes does not wait for them, and the revision counts as applied when all
// are written.
func TestManyNewTenantsWaitTheirTurn(t *testing.T) {
	f := newRepository(t)
	f.push("main@sha1:1111", files("zz-first"))
	_, err := f.reconcile()
	f.Expect(err).NotTo(HaveOccurred())

	all := files()
	for i := range 2*newAtOnce + 5 {
		maps.Copy(all, files(fmt.Sprintf("new-%d", i)))
	}
	all["zz-first.yaml"] = file("zz-first", "displayName: changed")
	f.push("main@sha1:2222", all)
	for pass, want := range []int{newAtOnce, 2 * newAtOnce, 2*newAtOnce + 5} {
		result, err := f.reconcile()
		f.Expect(err).NotTo(HaveOccurred())
		list := &v1alpha1.TenantList{}
		f.Expect(admin.List(ctx, list, client.InNamespace(f.key.Namespace))).To(Succeed())
		f.Expect(list.Items).To(HaveLen(want + 1))
		f.Expect(f.tenant("zz-first").Spec.DisplayName).To(Equal("changed"))
		if pass < 2 {
			f.Expect(result.RequeueAfter).To(Equal(nextBatchDelay))
			f.Expect(f.object().Status.LastAppliedRevision).To(Equal("main@sha1:1111"))
		}
	}
	f.Expect(f.object().Status.LastAppliedRevision).To(Equal("main@sha1:2222"))
}

// Rules that cannot be are not guessed: nothing is read by them.
func TestRulesThatCannotBe(t *testing.T) {
	f := newRepository(t)
	obj := f.object()
	obj.Spec.FacilityFields.Allow = []string{"spec.nowhere"}
	f.Expect(admin.Update(ctx, obj)).To(Succeed())
	f.push("main@sha1:1111", files("not-read"))
	_, err := f.reconcile()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.object().Status.Conditions).To(ContainElement(And(HaveField("Type", meta.StalledCondition), HaveField("Message",
		And(HavePrefix(`spec.facilityFields.allow[0]: "spec.nowhere": no Tenant has this field`), HaveSuffix("; nothing is read"))))))
	list := &v1alpha1.TenantList{}
	f.Expect(admin.List(ctx, list, client.InNamespace(f.key.Namespace))).To(Succeed())
	f.Expect(list.Items).To(BeEmpty())
}

// A repository that comes to be like that says that its tenants are safe.
func TestRulesThatCannotBeAnyMore(t *testing.T) {
	for i, test := range []struct {
		name   string
		change func(*v1alpha1.TenantRepositorySpec)
	}{
		{"fields", func(s *v1alpha1.TenantRepositorySpec) { s.FacilityFields.Allow = []string{"spec.nowhere"} }},
		{"metadata", func(s *v1alpha1.TenantRepositorySpec) {
			s.CommonMetadata = &kustomizev1.CommonMetadata{Labels: map[string]string{v1alpha1.TenantLabel: "x"}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newRepository(t)
			one, two := fmt.Sprintf("safe-%d", i), fmt.Sprintf("sound-%d", i)
			f.push("main@sha1:1111", files(one, two))
			_, err := f.reconcile()
			f.Expect(err).NotTo(HaveOccurred())
			obj := f.object()
			test.change(&obj.Spec)
			f.Expect(admin.Update(ctx, obj)).To(Succeed())
			_, err = f.reconcile()
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(f.object().Status.Conditions).To(ContainElement(And(HaveField("Type", meta.StalledCondition),
				HaveField("Message", HaveSuffix("; nothing is read, its 2 tenants go on as they are")))))
		})
	}
}

// Whoever puts back a Tenant that was deleted by accident gives it the revision that it had.
func TestDeletedTenantKeepsItsRevision(t *testing.T) {
	for i, test := range []struct {
		name, change string
		revision     string
		reason       string
	}{
		{name: "as it was", revision: "main@sha1:1111", reason: "its definition is the one that was published"},
		{name: "changed meanwhile", change: "displayName: Changed", revision: "main@sha1:2222", reason: "it is published anew"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newRepository(t)
			name := fmt.Sprintf("deleted-%d", i)
			f.push("main@sha1:1111", files(name))
			_, err := f.reconcile()
			f.Expect(err).NotTo(HaveOccurred())
			obj := f.tenant(name)
			key := client.ObjectKeyFromObject(obj)
			published := &meta.Artifact{Digest: "sha256:0000", Revision: "main/1111@sha256:0000"}
			f.Expect(f.History.Save(ctx, key, artifact.NewState(obj, published), artifact.Notes{}, func() ([]byte, error) { return nil, nil })).To(Succeed())

			f.Expect(admin.Delete(ctx, obj)).To(Succeed())
			var lines []string
			if test.change != "" {
				lines = append(lines, test.change)
			}
			f.push("main@sha1:2222", map[string]string{name + ".yaml": file(name, lines...)})
			_, err = f.reconcile()
			f.Expect(err).NotTo(HaveOccurred())
			back := f.tenant(name)
			f.Expect(back.UID).NotTo(Equal(obj.UID))
			f.Expect(back.Annotations).To(HaveKeyWithValue(v1alpha1.RevisionAnnotation, test.revision), test.reason)
		})
	}
}

// While a Tenant is away, a repository that it was not published from does not get it: names are bound to their owners.
func TestAbsentTenantIsNotTakenOver(t *testing.T) {
	for name, owner := range map[string]string{"another repository's": "old", "made by hand": ""} {
		t.Run(name, func(t *testing.T) {
			f := newRepository(t)
			held := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: f.key.Namespace, Name: "away"}, Spec: v1alpha1.TenantSpec{Domain: "away.example.org"}}
			if owner != "" {
				held.Labels = map[string]string{v1alpha1.RepositoryLabel: owner}
			}
			published := &meta.Artifact{Digest: "sha256:0000", Revision: "main/1111@sha256:0000"}
			f.Expect(f.History.Save(ctx, client.ObjectKeyFromObject(held), artifact.NewState(held, published), artifact.Notes{}, func() ([]byte, error) { return nil, nil })).To(Succeed())

			f.push("main@sha1:2222", files("away"))
			_, err := f.reconcile()
			f.Expect(err).NotTo(HaveOccurred())
			f.Expect(apierrors.IsNotFound(admin.Get(ctx, client.ObjectKeyFromObject(held), &v1alpha1.Tenant{}))).To(BeTrue())
			problems := f.object().Status.Problems
			f.Expect(problems).To(HaveLen(1))
			f.Expect(problems[0].Reason).To(Equal(v1alpha1.ConflictReason))
			f.Expect(problems[0].Message).To(ContainSubstring("its Tenant is away"))
		})
	}
}
