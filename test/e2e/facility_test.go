// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

// ociRevision is the key of the source revision in an artifact's metadata, as OCI names it.
const ociRevision = "org.opencontainers.image.revision"

// facilities is a git repository of tenants and the TenantRepository that reads it.
type facilities struct {
	t    *testing.T
	env  *environment
	name string
	repo *gitserver.Repo
}

// classFile is the file of the tests' own TenantClass, below the directory that classes may be in.
const classFile = "classes/e2e.yaml"

// allow lets the facilities' own files set fields that Korthweb reserves for the platform.
func allow(fields ...string) func(*v1alpha1.TenantRepository) {
	return func(r *v1alpha1.TenantRepository) { r.Spec.FacilityFields.Allow = fields }
}

// annotations lets definitions put these annotations on the Service of a gateway.
func annotations(keys ...string) func(*v1alpha1.TenantRepository) {
	return func(r *v1alpha1.TenantRepository) { r.Spec.AllowedServiceAnnotations = keys }
}

// newFacilities creates a git repository with files under tenants/ (path within it to content) and a
// TenantRepository, changed by options, that reads it every second. Both go with the test, and so do
// the tenants.
func newFacilities(t *testing.T, env *environment, name string, files map[string]string, options ...func(*v1alpha1.TenantRepository)) *facilities {
	t.Helper()
	seed := fstest.MapFS{"tenants/" + classFile: {Data: []byte(class(env))}}
	for path, content := range files {
		seed["tenants/"+path] = &fstest.MapFile{Data: []byte(content)}
	}
	repo, err := env.git.CreateRepo(name, seed)
	if err != nil {
		t.Fatal(err)
	}
	f := &facilities{t: t, env: env, name: name, repo: repo}
	obj := f.tenantRepository(options...)
	if err := env.client.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.remove)
	return f
}

// tenantRepository is the TenantRepository that newFacilities creates.
func (f *facilities) tenantRepository(options ...func(*v1alpha1.TenantRepository)) *v1alpha1.TenantRepository {
	budget := intstr.FromString("100%")
	obj := &v1alpha1.TenantRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: f.name},
		Spec: v1alpha1.TenantRepositorySpec{
			Interval:       metav1.Duration{Duration: time.Second},
			Prune:          true,
			DeletionBudget: &budget,
			Git:            &v1alpha1.GitSource{URL: f.repo.URL(), Reference: &sourcev1.GitRepositoryRef{Branch: gitserver.Branch}},
		},
	}
	for _, option := range options {
		option(obj)
	}
	return obj
}

// remove deletes the TenantRepository, its tenants, and the namespaces that those leave.
func (f *facilities) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if f.t.Failed() {
		f.env.printLog(f.t)
	}
	c := f.env.client
	obj := &v1alpha1.TenantRepository{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: f.name}}
	if err := client.IgnoreNotFound(c.Delete(ctx, obj)); err != nil {
		f.t.Errorf("cleaning up: %v", err)
	}
	for ctx.Err() == nil {
		tenants := f.tenants(ctx)
		if len(tenants) == 0 {
			return
		}
		for i := range tenants {
			if err := f.env.removeTenant(ctx, &tenants[i]); client.IgnoreNotFound(err) != nil {
				f.t.Errorf("cleaning up: %v", err)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	f.t.Errorf("cleaning up: tenants of %s are still there after 2 minutes", f.name)
}

// removeTenant marks and deletes a Tenant, as a TenantRepository does that no longer defines it. Only Korthweb may mark
// one, whose account an administrator can act as.
func (e *environment) removeTenant(ctx context.Context, obj *v1alpha1.Tenant) error {
	if obj.DeletionTimestamp != nil {
		return nil
	}
	config := e.stack.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + stack.FluxNamespace + ":" + stack.Korthweb}
	c, err := client.New(config, client.Options{Scheme: e.client.Scheme(), Mapper: e.client.RESTMapper()})
	if err != nil {
		return err
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"the end of the test"},"finalizers":[%q]}}`, v1alpha1.RemoveAnnotation, v1alpha1.Finalizer)
	if err := c.Patch(ctx, obj, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return err
	}
	return c.Delete(ctx, obj)
}

// make creates a Tenant by hand, which is removed with the test.
func (f *facilities) make(t *testing.T, obj *v1alpha1.Tenant) {
	t.Helper()
	if err := f.env.client.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		live := &v1alpha1.Tenant{}
		err := f.env.client.Get(ctx, client.ObjectKeyFromObject(obj), live)
		if err == nil {
			err = f.env.removeTenant(ctx, live)
		}
		if client.IgnoreNotFound(err) != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
}

// push commits files under tenants/ (path to content), removes others, and returns the source revision.
func (f *facilities) push(files map[string]string, remove ...string) string {
	f.t.Helper()
	in := map[string]string{}
	for path, content := range files {
		in["tenants/"+path] = content
	}
	gone := make([]string, len(remove))
	for i, path := range remove {
		gone[i] = "tenants/" + path
	}
	sha, err := f.repo.Commit(in, gone, "Change tenants")
	if err != nil {
		f.t.Fatal(err)
	}
	return gitserver.Branch + "@sha1:" + sha
}

func (f *facilities) tenants(ctx context.Context) []v1alpha1.Tenant {
	list := &v1alpha1.TenantList{}
	if err := f.env.client.List(ctx, list, client.InNamespace(stack.FluxNamespace), client.MatchingLabels{v1alpha1.RepositoryLabel: f.name}); err != nil {
		return nil
	}
	return list.Items
}

// repository reads the TenantRepository.
func (f *facilities) repository() (*v1alpha1.TenantRepository, error) {
	obj := &v1alpha1.TenantRepository{}
	err := f.env.client.Get(f.t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: f.name}, obj)
	return obj, err
}

// get reads a Tenant.
func (f *facilities) get(name string) (*v1alpha1.Tenant, error) {
	obj := &v1alpha1.Tenant{}
	err := f.env.client.Get(f.t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: name}, obj)
	return obj, err
}

// layer reads the Kustomization of a tenant's layer.
func (f *facilities) layer(tenant, layer string) (*kustomizev1.Kustomization, error) {
	obj := &kustomizev1.Kustomization{}
	err := f.env.client.Get(f.t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: tenant + "-" + layer}, obj)
	return obj, err
}

// ready returns a function for Eventually that fails until the named tenants are Ready at the newest
// definition that the cluster has.
func (f *facilities) ready(names ...string) func() error {
	return func() error {
		for _, name := range names {
			obj, err := f.get(name)
			if err != nil {
				return err
			}
			if !conditions.IsReady(obj) || obj.Status.ObservedGeneration != obj.Generation {
				return fmt.Errorf("tenant %s: %s", name, conditions.GetMessage(obj, meta.ReadyCondition))
			}
		}
		return nil
	}
}

// readyAt is ready, and asks for the source revision that last changed each tenant too.
func (f *facilities) readyAt(revision string, names ...string) func() error {
	return func() error {
		if err := f.published(revision, names...)(); err != nil {
			return err
		}
		return f.ready(names...)()
	}
}

// gone returns a function for Eventually that fails until the object does not exist.
func (f *facilities) gone(obj client.Object) func() error {
	return func() error {
		err := f.env.client.Get(f.t.Context(), client.ObjectKeyFromObject(obj), obj)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%T %s is still there", obj, client.ObjectKeyFromObject(obj))
	}
}

// class is the TenantClass of the tests: it installs the gateway from the local registry.
func class(env *environment) string { return classNamed(env, "e2e") }

// classNamed is the same with another name, and more lines for its spec.
func classNamed(env *environment, name string, spec ...string) string {
	return fmt.Sprintf(`apiVersion: korthweb.digihunch.com/v1alpha1
kind: TenantClass
metadata:
  name: %s
spec:
  ingress:
    chart: {url: %q, version: %q, insecure: true}
%s`, name, env.charts.Gateway.URL, env.charts.Gateway.Version, indentLines(spec))
}

// tenantFile is the file of a tenant, with more lines for its spec.
func tenantFile(name string, spec ...string) string { return tenantOfClass(name, "e2e", spec...) }

// tenantOfClass is the same with another class.
func tenantOfClass(name, class string, spec ...string) string {
	return fmt.Sprintf(`apiVersion: korthweb.digihunch.com/v1alpha1
kind: Tenant
metadata:
  name: %s
spec:
  className: %s
  domain: %s.example.com
%s`, name, class, name, indentLines(spec))
}

func indentLines(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("  " + line + "\n")
	}
	return b.String()
}

// create creates an object that goes with the test.
func create(t *testing.T, env *environment, obj client.Object) {
	t.Helper()
	if err := env.client.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(env.client.Delete(context.Background(), obj)); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
}

// request asks for a reconciliation of the TenantRepository now, as flux reconcile does.
func (f *facilities) request(t *testing.T) {
	t.Helper()
	obj := &v1alpha1.TenantRepository{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: f.name}}
	requestReconciliation(t, f.env, obj)
}

// requestReconciliation annotates an object as flux reconcile does, and returns the annotation's value.
func requestReconciliation(t *testing.T, env *environment, obj client.Object) string {
	t.Helper()
	at := time.Now().Format(time.RFC3339Nano)
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, meta.ReconcileRequestAnnotation, at)
	if err := env.client.Patch(t.Context(), obj, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
	return at
}

// takenOver returns a function for Eventually that fails until the TenantRepository has written the
// tenants of a revision.
func (f *facilities) takenOver(revision string) func() error {
	return func() error {
		obj, err := f.repository()
		if err != nil {
			return err
		}
		if obj.Status.LastAppliedRevision != revision {
			return fmt.Errorf("%s is not taken over: %s", revision, conditions.GetMessage(obj, meta.ReadyCondition))
		}
		return nil
	}
}

// published returns a function for Eventually that fails until the bundles of the named tenants are
// those of the source revision, applied or not.
func (f *facilities) published(revision string, names ...string) func() error {
	return func() error {
		for _, name := range names {
			obj, err := f.get(name)
			if err != nil {
				return err
			}
			if obj.Annotations[v1alpha1.RevisionAnnotation] != revision {
				return fmt.Errorf("tenant %s is at %s, not %s", name, obj.Annotations[v1alpha1.RevisionAnnotation], revision)
			}
			if obj.Status.Artifact == nil || obj.Status.Artifact.Metadata[ociRevision] != revision {
				return fmt.Errorf("tenant %s: %s is not published yet: %s", name, revision, conditions.GetMessage(obj, meta.ReadyCondition))
			}
		}
		return nil
	}
}
