// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

// slowTimeout is for what fifty tenants go through together, on a machine that does other things too.
const slowTimeout = 8 * time.Minute

// Fifty tenants live through everything that may be stopped, killed or lost under Korthweb. The steps are
// one test because bringing up fifty tenants is what takes the time; each leaves all of them ready, but
// for the last, which removes them.
func TestRestarts(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	g.SetDefaultEventuallyTimeout(slowTimeout)
	audit := newAudit(t)
	env := ownEnvironment(t, stack.Options{Workloads: true, Flux: true, ExtraArgs: audit.args()})
	metrics, err := stack.FreeAddress()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(env.stack.StartKorthweb(t.Context(), stack.KorthwebOptions{
		Binary:      korthweb,
		Registries:  []string{env.charts.Host()},
		MetricsAddr: metrics,
		Args:        []string{"--concurrent=2"},
	})).To(Succeed())

	files, names := map[string]string{}, []string(nil)
	for i := range 50 {
		name := fmt.Sprintf("facility-%02d", i)
		names = append(names, name)
		files[name+".yaml"] = tenantFile(name)
	}
	r := &restarts{env: env, audit: audit, metrics: metrics, names: names}
	var undisturbed map[string]string
	r.f = newFacilities(t, env, "restarts", files)

	steps := []struct {
		name string
		run  func(t *testing.T, g *WithT)
	}{
		{"killed in the middle of onboarding", func(t *testing.T, g *WithT) { r.killedWhileOnboarding(t, g) }},
		{"the storage wiped while down gives the same digests", func(t *testing.T, g *WithT) {
			disturbed := r.digests(t, g)
			g.Expect(env.stack.StopProcess(stack.Korthweb)).To(Succeed())
			g.Expect(wipe(env.stack.StorageDir())).To(Succeed())
			g.Expect(env.stack.StartProcess(t.Context(), stack.Korthweb)).To(Succeed())
			g.Eventually(r.reconciled).Should(Succeed())
			r.expectOneOfEach(t, g)
			undisturbed = r.digests(t, g)
			g.Expect(disturbed).To(Equal(undisturbed))
		}},
		{"a restart writes nothing", r.restartWritesNothing},
		{"a commit that changes no tenant writes one status", r.commitWithoutChange},
		{"the storage wiped while running comes back without a write", r.wipedWhileRunning},
		{"another address of the artifact server", func(t *testing.T, g *WithT) {
			address, err := stack.FreeAddress()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(env.stack.StopProcess(stack.Korthweb)).To(Succeed())
			g.Expect(env.stack.StartProcess(t.Context(), stack.Korthweb, "--storage-addr="+address, "--storage-adv-addr="+address)).To(Succeed())
			g.Eventually(r.servedAt(address)).Should(Succeed())
			g.Expect(r.digests(t, g)).To(Equal(undisturbed))
			r.expectFluxReconciles(t, g, "facility-00")
		}},
		{"the apiserver killed", func(t *testing.T, g *WithT) {
			g.Expect(env.stack.Kill(stack.APIServer)).To(Succeed())
			logged := len(r.log(t, g))
			revision := r.change("facility-01", "While the apiserver is down")
			g.Eventually(func() string { return r.log(t, g)[logged:] }).Should(ContainSubstring("cannot write Tenant " + stack.FluxNamespace + "/facility-01"))
			g.Expect(env.stack.StartProcess(t.Context(), stack.APIServer)).To(Succeed())
			g.Eventually(r.f.readyAt(revision, "facility-01")).Should(Succeed())
			g.Eventually(r.f.ready(names...)).Should(Succeed())
			r.expectOneOfEach(t, g)
			r.expectFluxReconciles(t, g, "facility-02")
		}},
		{"etcd stopped", func(t *testing.T, g *WithT) {
			g.Expect(env.stack.StopProcess(stack.Etcd)).To(Succeed())
			revision := r.change("facility-03", "While etcd is down")
			// Korthweb reads that revision and waits: the apiserver answers a write without etcd only after its
			// own timeout, so nothing tells when it has begun to.
			time.Sleep(3 * time.Second)
			g.Expect(env.stack.StartProcess(t.Context(), stack.Etcd)).To(Succeed())
			g.Eventually(r.f.readyAt(revision, "facility-03")).Should(Succeed())
			g.Eventually(r.f.ready(names...)).Should(Succeed())
			r.expectOneOfEach(t, g)
			r.expectFluxReconciles(t, g, "facility-04")
			others := r.digests(t, g)
			for _, changed := range r.changed {
				delete(others, changed)
			}
			for name, digest := range others {
				g.Expect(digest).To(Equal(undisturbed[name]), name)
			}
		}},
		{"killed in the middle of a removal", r.killedWhileRemoving},
	}
	for _, step := range steps {
		ok := t.Run(step.name, func(t *testing.T) {
			g := gomega(t)
			g.SetDefaultEventuallyTimeout(slowTimeout)
			step.run(t, g)
		})
		if !ok {
			return // the next step begins where this one should have ended
		}
	}
}

// restarts is what the steps of TestRestarts share.
type restarts struct {
	env     *environment
	f       *facilities
	audit   *audit
	metrics string
	names   []string
	changed []string // an older archive of theirs may still be within its retention
}

// change gives a tenant another display name and returns the revision.
func (r *restarts) change(name, displayName string) string {
	r.changed = append(r.changed, name)
	return r.f.push(map[string]string{name + ".yaml": tenantFile(name, "displayName: "+displayName)})
}

// log is what Korthweb has logged so far.
func (r *restarts) log(t *testing.T, g *WithT) string {
	t.Helper()
	data, err := os.ReadFile(r.env.stack.LogFile(stack.Korthweb))
	g.Expect(err).NotTo(HaveOccurred())
	return string(data)
}

// killedWhileOnboarding kills Korthweb at several points of its way through the tenants, and litters its
// storage as a kill at the worst moments would.
func (r *restarts) killedWhileOnboarding(t *testing.T, g *WithT) {
	dir := filepath.Join(r.env.stack.StorageDir(), "externalartifact", stack.FluxNamespace)
	for _, published := range []int{1, 12, 24, 35} {
		g.Eventually(func() int { return entries(dir) }).WithPolling(time.Millisecond).Should(BeNumerically(">=", published))
		g.Expect(r.env.stack.Kill(stack.Korthweb)).To(Succeed())
		at := entries(dir)
		t.Logf("killed with %d of %d tenants published", at, len(r.names))
		g.Expect(at).To(BeNumerically("<", len(r.names)), "the kill came too late to be in the middle")

		orphan := filepath.Join(dir, "nobody")
		g.Expect(os.MkdirAll(orphan, 0o700)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(orphan, strings.Repeat("0", 64)+".tar.gz"), nil, 0o600)).To(Succeed())
		some, err := os.ReadDir(dir)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(os.WriteFile(filepath.Join(dir, some[0].Name(), "half.tar.gz-1234567"), []byte("half"), 0o600)).To(Succeed())

		g.Expect(r.env.stack.StartProcess(t.Context(), stack.Korthweb)).To(Succeed())
	}
	g.Eventually(r.f.ready(r.names...)).Should(Succeed())
	g.Eventually(r.summary).Should(Equal("50 tenants: 50 ready"))
	r.expectOneOfEach(t, g)
}

func (r *restarts) restartWritesNothing(t *testing.T, g *WithT) {
	g.Eventually(r.summary).Should(Equal("50 tenants: 50 ready"))
	r.audit.waitQuiet(t)
	before, mark := r.versions(t, g), r.audit.mark(t)
	g.Expect(r.env.stack.Kill(stack.Korthweb)).To(Succeed())
	g.Expect(r.env.stack.StartProcess(t.Context(), stack.Korthweb)).To(Succeed())
	g.Eventually(r.reconciled).Should(Succeed())
	g.Consistently(func() []string { return r.audit.writes(t, mark) }).Should(BeEmpty())
	g.Expect(r.versions(t, g)).To(Equal(before))
	t.Logf("a restart with %d ready tenants: %d writes, %d reads and watches by Korthweb",
		len(r.names), len(r.audit.writes(t, mark)), len(r.audit.requests(t, mark)))
}

func (r *restarts) commitWithoutChange(t *testing.T, g *WithT) {
	r.audit.waitQuiet(t)
	before, mark := r.versions(t, g), r.audit.mark(t)
	sha, err := r.f.repo.Commit(map[string]string{"README.md": "Nothing about a tenant.\n"}, nil, "Say something else")
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func(g Gomega) {
		obj, err := r.f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(obj.Status.LastAppliedRevision).To(HaveSuffix(sha))
		g.Expect(conditions.IsReady(obj)).To(BeTrue())
	}).Should(Succeed())
	status := []string{"patch tenantrepositories/status " + stack.FluxNamespace + "/restarts"}
	g.Consistently(func() []string { return r.audit.writes(t, mark) }).Should(Equal(status))
	t.Logf("a commit that changes none of %d tenants: %v", len(r.names), status)

	after := r.versions(t, g)
	for _, versions := range []map[string]string{before, after} {
		delete(versions, "TenantRepository "+stack.FluxNamespace+"/restarts")
	}
	g.Expect(after).To(Equal(before))
}

// wipedWhileRunning waits for the resync, but for one tenant, whose reconciliation is asked for.
func (r *restarts) wipedWhileRunning(t *testing.T, g *WithT) {
	r.audit.waitQuiet(t)
	digests, mark := r.digests(t, g), r.audit.mark(t)
	g.Expect(wipe(r.env.stack.StorageDir())).To(Succeed())

	asked := time.Now()
	requestReconciliation(t, r.env, &v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, "facility-00")})
	g.Eventually(func() error { return r.stored("facility-00", digests["facility-00"]) }).WithPolling(10 * time.Millisecond).Should(Succeed())
	t.Logf("back %s after it was asked for", time.Since(asked).Round(time.Millisecond))
	g.Eventually(func() error {
		for name, digest := range digests {
			if err := r.stored(name, digest); err != nil {
				return err
			}
		}
		return nil
	}).Should(Succeed())
	t.Logf("all back after %s", time.Since(asked).Round(time.Millisecond))
	r.expectOneOfEach(t, g)
	g.Expect(r.digests(t, g)).To(Equal(digests))

	writes := slices.DeleteFunc(r.audit.writes(t, mark), func(w string) bool {
		// lastHandledReconcileAt of the one that was asked
		return w == "patch tenants/status "+stack.FluxNamespace+"/facility-00"
	})
	g.Expect(writes).To(BeEmpty())
	r.expectFluxReconciles(t, g, "facility-05")
}

// killedWhileRemoving removes all tenants but one, with a kill at several points of it.
func (r *restarts) killedWhileRemoving(t *testing.T, g *WithT) {
	kept := r.names[0]
	var gone []string
	for _, name := range r.names[1:] {
		gone = append(gone, name+".yaml")
	}
	r.f.push(nil, gone...)
	for _, left := range []int{45, 25, 5} {
		g.Eventually(func() int { return len(r.f.tenants(t.Context())) }).WithPolling(20 * time.Millisecond).Should(BeNumerically("<=", left))
		g.Expect(r.env.stack.Kill(stack.Korthweb)).To(Succeed())
		t.Logf("killed with %d tenants left", len(r.f.tenants(t.Context())))
		g.Expect(r.env.stack.StartProcess(t.Context(), stack.Korthweb)).To(Succeed())
	}
	g.Eventually(func() int { return len(r.f.tenants(t.Context())) }).Should(Equal(1))

	namespaces := r.list(t, g, "v1", "Namespace")
	g.Expect(namespaces).To(HaveLen(len(r.names)), "data outlives its tenant")
	g.Expect(r.list(t, g, "v1", "Secret")).To(HaveLen(len(r.names)))
	r.names = []string{kept}
	g.Eventually(r.f.ready(kept)).Should(Succeed())
	r.expectStored(t, g)
	for kind, want := range map[string]int{"ExternalArtifact": 1, "ControllerRevision": 1, "Kustomization": 2, "ServiceAccount": 2, "RoleBinding": 2} {
		g.Expect(r.list(t, g, apiVersions[kind], kind)).To(HaveLen(want), kind)
	}
}

// expectOneOfEach checks that what is emitted is there for every tenant, once, and for nobody else, and
// that the storage holds what is announced and nothing else.
func (r *restarts) expectOneOfEach(t *testing.T, g *WithT) {
	t.Helper()
	want := map[string][]string{}
	for _, name := range r.names {
		ns := name + "-orthweb"
		platform := stack.FluxNamespace + "/"
		want["Tenant"] = append(want["Tenant"], platform+name)
		want["ExternalArtifact"] = append(want["ExternalArtifact"], platform+name)
		want["ControllerRevision"] = append(want["ControllerRevision"], platform+name)
		want["Kustomization"] = append(want["Kustomization"], platform+name+"-dependency", platform+name+"-application")
		want["Namespace"] = append(want["Namespace"], "/"+ns)
		want["ServiceAccount"] = append(want["ServiceAccount"], platform+name+"-applier", ns+"/helm-applier")
		want["RoleBinding"] = append(want["RoleBinding"], ns+"/helm-applier", ns+"/kustomize-applier")
		want["Secret"] = append(want["Secret"], ns+"/orthanc-users")
	}
	for kind, names := range want {
		var have []string
		for _, object := range r.list(t, g, apiVersions[kind], kind) {
			name := object.GetName()
			if kind == "ControllerRevision" {
				name = object.Labels[v1alpha1.TenantLabel] // its own name says what it holds
			}
			have = append(have, object.GetNamespace()+"/"+name)
		}
		g.Expect(have).To(ConsistOf(names), kind)
	}
	r.expectStored(t, g)
}

// expectStored checks that every file of the storage is the archive that an ExternalArtifact announces.
func (r *restarts) expectStored(t *testing.T, g *WithT) {
	t.Helper()
	digests := r.digests(t, g)
	g.Expect(slices.Sorted(maps.Keys(digests))).To(Equal(slices.Sorted(slices.Values(r.names))))
	for name, digest := range digests {
		g.Expect(r.stored(name, digest)).To(Succeed())
	}
	root := filepath.Join(r.env.stack.StorageDir(), "externalartifact")
	dirs, err := filepath.Glob(filepath.Join(root, "*", "*"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(dirs).To(HaveLen(len(r.names)))
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		g.Expect(err).NotTo(HaveOccurred())
		if !slices.Contains(r.changed, filepath.Base(dir)) {
			g.Expect(files).To(HaveLen(1), dir)
		}
		for _, file := range files {
			g.Expect(file.Name()).To(MatchRegexp(`^[0-9a-f]{64}\.tar\.gz$`), dir)
		}
	}
}

// stored fails unless the announced archive is in the storage.
func (r *restarts) stored(name, digest string) error {
	return storedArchive(r.env, name, digest)
}

// storedArchive fails unless the archive of a tenant with that digest is in the storage.
func storedArchive(env *environment, name, digest string) error {
	file := filepath.Join(env.stack.StorageDir(), "externalartifact", stack.FluxNamespace, name, strings.TrimPrefix(digest, "sha256:")+".tar.gz")
	have, err := fileDigest(file)
	if err != nil {
		return err
	}
	if have != digest {
		return fmt.Errorf("%s has the content %s", file, have)
	}
	return nil
}

// digests are those that the ExternalArtifacts announce, by tenant. The Tenants' statuses say the same.
func (r *restarts) digests(t *testing.T, g *WithT) map[string]string {
	t.Helper()
	list := &sourcev1.ExternalArtifactList{}
	g.Expect(r.env.client.List(t.Context(), list)).To(Succeed())
	digests := map[string]string{}
	for _, ea := range list.Items {
		g.Expect(ea.Status.Artifact).NotTo(BeNil(), ea.Name)
		g.Expect(conditions.IsTrue(&ea, meta.ReadyCondition)).To(BeTrue(), ea.Name)
		tenant, err := r.f.get(ea.Name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(tenant.Status.Artifact).To(Equal(ea.Status.Artifact))
		digests[ea.Name] = ea.Status.Artifact.Digest
	}
	return digests
}

// reconciled fails until the running Korthweb has been through all tenants and their repository.
func (r *restarts) reconciled() error {
	for kind, want := range map[string]int{v1alpha1.TenantKind: len(r.names), v1alpha1.TenantRepositoryKind: 1} {
		if n, err := reconciledObjects(r.metrics, kind); err != nil || n < want {
			return fmt.Errorf("%d of %d %ss: %w", n, want, kind, err)
		}
	}
	return nil
}

// servedAt fails until every artifact is announced at that address of the artifact server.
func (r *restarts) servedAt(address string) func() error {
	return func() error {
		list := &sourcev1.ExternalArtifactList{}
		if err := r.env.client.List(r.f.t.Context(), list); err != nil {
			return err
		}
		for _, ea := range list.Items {
			u, err := url.Parse(ea.Status.Artifact.URL)
			if err != nil {
				return err
			}
			tenant, err := r.f.get(ea.Name)
			if err != nil {
				return err
			}
			if u.Host != address || tenant.Status.Artifact.URL != ea.Status.Artifact.URL {
				return fmt.Errorf("%s is at %s, its Tenant says %s", ea.Name, u.Host, tenant.Status.Artifact.URL)
			}
		}
		return nil
	}
}

// expectFluxReconciles makes kustomize-controller fetch and apply a layer again.
func (r *restarts) expectFluxReconciles(t *testing.T, g *WithT, tenant string) {
	t.Helper()
	layer, err := r.f.layer(tenant, v1alpha1.ApplicationLayer)
	g.Expect(err).NotTo(HaveOccurred())
	token := requestReconciliation(t, r.env, layer)
	g.Eventually(func(g Gomega) {
		layer, err := r.f.layer(tenant, v1alpha1.ApplicationLayer)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(layer.Status.LastHandledReconcileAt).To(Equal(token))
		g.Expect(conditions.IsTrue(layer, meta.ReadyCondition)).To(BeTrue(), conditions.GetMessage(layer, meta.ReadyCondition))
	}).Should(Succeed())
}

func (r *restarts) summary() (string, error) {
	obj, err := r.f.repository()
	if err != nil {
		return "", err
	}
	return conditions.GetMessage(obj, meta.ReadyCondition), nil
}
