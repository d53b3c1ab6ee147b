// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	eventv1 "github.com/fluxcd/pkg/apis/event/v1beta1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

// instance is one of several Korthwebs on a stack.
type instance struct {
	name, metrics, storage, dir string
	args                        []string
	env                         *environment
}

// newInstance chooses addresses for a Korthweb that is to be called name.
func newInstance(g *WithT, t *testing.T, env *environment, name string, args ...string) *instance {
	t.Helper()
	i := &instance{name: name, env: env, args: args, dir: t.TempDir()}
	for _, address := range []*string{&i.metrics, &i.storage} {
		var err error
		*address, err = stack.FreeAddress()
		g.Expect(err).NotTo(HaveOccurred())
	}
	return i
}

// start runs it for the first time, under Korthweb's ServiceAccount.
func (i *instance) start(g *WithT, t *testing.T) {
	t.Helper()
	g.Expect(i.env.stack.InstallKorthwebRBAC(t.Context(), i.env.charts.Host())).To(Succeed())
	_, kubeconfig, err := i.env.stack.ServiceAccountConfig(t.Context(), stack.FluxNamespace, stack.Korthweb)
	g.Expect(err).NotTo(HaveOccurred())
	health, err := stack.FreeAddress()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(i.env.stack.Run(t.Context(), stack.Program{
		Name: i.name,
		Path: korthweb,
		Args: append([]string{
			"controller", "--watch-all-namespaces", "--insecure-allow-http", "--requeue-dependency=2s",
			"--metrics-addr=" + i.metrics, "--health-addr=" + health,
			"--storage-path=" + i.dir, "--storage-addr=" + i.storage, "--storage-adv-addr=" + i.storage,
		}, i.args...),
		Env:      []string{"KUBECONFIG=" + kubeconfig, "RUNTIME_NAMESPACE=" + stack.FluxNamespace},
		ReadyURL: "http://" + health + "/readyz",
	})).To(Succeed())
}

// idle fails when it has reconciled, stored or served anything.
func (i *instance) idle() error {
	for _, kind := range []string{v1alpha1.TenantKind, v1alpha1.TenantRepositoryKind} {
		if n, err := reconciledObjects(i.metrics, kind); err != nil || n > 0 {
			return errors.Join(err, errors.New(i.name+" has reconciled a "+kind))
		}
	}
	if entries(i.dir) > 0 {
		return errors.New(i.name + " has stored something")
	}
	if resp, err := http.Get("http://" + i.storage); err == nil {
		resp.Body.Close()
		return errors.New(i.name + " serves artifacts")
	}
	return nil
}

// serves returns a function for Eventually that fails until a tenant's artifact is announced at this
// instance and can be had there.
func (i *instance) serves(f *facilities, tenant string) func() error {
	return func() error {
		ea := &sourcev1.ExternalArtifact{}
		if err := f.env.client.Get(f.t.Context(), client.ObjectKey{Namespace: stack.FluxNamespace, Name: tenant}, ea); err != nil {
			return err
		}
		if ea.Status.Artifact == nil || !strings.HasPrefix(ea.Status.Artifact.URL, "http://"+i.storage+"/") {
			return errors.New(tenant + " is not announced at " + i.name)
		}
		resp, err := http.Get(ea.Status.Artifact.URL)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
}

// receiver collects what Korthweb sends to --events-addr.
type receiver struct {
	mu     sync.Mutex
	events []eventv1.Event
	*httptest.Server
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var event eventv1.Event
		if err := json.NewDecoder(req.Body).Decode(&event); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, event)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(r.Close)
	return r
}

// of returns what was received about an object for a reason.
func (r *receiver) of(kind, name, reason string) []eventv1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.events), func(e eventv1.Event) bool {
		return e.InvolvedObject.Kind != kind || e.InvolvedObject.Name != name || e.Reason != reason
	})
}

// Several instances of Korthweb on one apiserver: who acts, and what it tells. No Flux controller is
// needed for that.
func TestInstances(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	env := ownEnvironment(t, stack.Options{})
	events := newReceiver(t)
	elected := []string{
		"--enable-leader-election", "--leader-election-lease-duration=6s",
		"--leader-election-renew-deadline=4s", "--leader-election-retry-period=1s",
		"--events-addr=" + events.URL,
	}
	first := newInstance(g, t, env, stack.Korthweb, elected...)
	second := newInstance(g, t, env, "korthweb-second", elected...)
	first.start(g, t)
	f := newFacilities(t, env, "instances", map[string]string{
		"instances-one.yaml": tenantFile("instances-one"),
		"broken.yaml":        "kind: [",
	})
	g.Eventually(first.serves(f, "instances-one")).Should(Succeed())

	t.Run("metrics", func(t *testing.T) {
		g := gomega(t)
		for kind, name := range map[string]string{v1alpha1.TenantKind: "instances-one", v1alpha1.TenantRepositoryKind: "instances"} {
			g.Eventually(func() ([]string, error) { return metricLines(first.metrics, "gotk_reconcile_duration_seconds_count{") }).Should(
				ContainElement(And(
					ContainSubstring(`kind="`+kind+`"`), ContainSubstring(`name="`+name+`"`), ContainSubstring(`namespace="flux-system"`))))
		}
	})

	t.Run("events", func(t *testing.T) {
		g := gomega(t)
		const key = "korthweb.digihunch.com/revision"
		obj, err := f.get("instances-one")
		g.Expect(err).NotTo(HaveOccurred())
		repository, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		for _, want := range []struct {
			kind, name, reason, severity, revision string
		}{
			{v1alpha1.TenantKind, "instances-one", "Published", eventv1.EventSeverityInfo, obj.Status.Artifact.Revision},
			{v1alpha1.TenantRepositoryKind, "instances", "TenantsChanged", eventv1.EventSeverityInfo, repository.Status.LastAppliedRevision},
			{v1alpha1.TenantRepositoryKind, "instances", v1alpha1.ProblemsFoundReason, eventv1.EventSeverityError, repository.Status.LastAppliedRevision},
		} {
			g.Eventually(func() []eventv1.Event { return events.of(want.kind, want.name, want.reason) }).ShouldNot(BeEmpty(), want.reason)
			event := events.of(want.kind, want.name, want.reason)[0]
			g.Expect(event.InvolvedObject.APIVersion).To(Equal(v1alpha1.GroupVersion.String()))
			g.Expect(event.InvolvedObject.Namespace).To(Equal(stack.FluxNamespace))
			g.Expect(event.InvolvedObject.UID).NotTo(BeEmpty())
			g.Expect(event.Severity).To(Equal(want.severity))
			g.Expect(event.ReportingController).To(Equal("korthweb"))
			g.Expect(event.Metadata).To(HaveKeyWithValue(key, want.revision), want.reason)
		}
	})

	t.Run("only the leader acts, and another takes over", func(t *testing.T) {
		g := gomega(t)
		second.start(g, t)
		revision := f.push(map[string]string{"instances-two.yaml": tenantFile("instances-two")})
		g.Eventually(first.serves(f, "instances-two")).Should(Succeed())
		g.Consistently(second.idle).Should(Succeed())

		g.Expect(env.stack.Kill(first.name)).To(Succeed())
		g.Eventually(second.serves(f, "instances-one")).Should(Succeed())
		g.Eventually(second.serves(f, "instances-two")).Should(Succeed())
		obj, err := f.get("instances-two")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(obj.Annotations).To(HaveKeyWithValue(v1alpha1.RevisionAnnotation, revision))

		g.Expect(wipe(first.dir)).To(Succeed())
		g.Expect(env.stack.StartProcess(t.Context(), first.name)).To(Succeed())
		f.push(map[string]string{"instances-three.yaml": tenantFile("instances-three")})
		g.Eventually(second.serves(f, "instances-three")).Should(Succeed())
		g.Consistently(first.idle).Should(Succeed())
	})

	t.Run("each instance has its shard", func(t *testing.T) {
		g := gomega(t)
		for name, selector := range map[string]string{first.name: "!" + v1alpha1.ShardingLabel, second.name: v1alpha1.ShardingLabel + "=shard1"} {
			g.Expect(env.stack.StopProcess(name)).To(Succeed())
			g.Expect(env.stack.StartProcess(t.Context(), name, "--watch-label-selector="+selector)).To(Succeed())
		}
		shard := func(key string) func(*v1alpha1.TenantRepository) {
			return func(obj *v1alpha1.TenantRepository) { obj.Labels = map[string]string{v1alpha1.ShardingLabel: key} }
		}
		mine := newFacilities(t, env, "shard1", map[string]string{"shard1-a.yaml": tenantFile("shard1-a")}, shard("shard1"))
		nobodys := newFacilities(t, env, "shard2", map[string]string{"shard2-a.yaml": tenantFile("shard2-a")}, shard("shard2"))
		g.Eventually(second.serves(mine, "shard1-a")).Should(Succeed())
		g.Eventually(first.serves(f, "instances-one")).Should(Succeed())
		f.push(map[string]string{"instances-four.yaml": tenantFile("instances-four")})
		g.Eventually(first.serves(f, "instances-four")).Should(Succeed())

		g.Consistently(func(g Gomega) {
			g.Expect(nobodys.tenants(t.Context())).To(BeEmpty())
			repository, err := nobodys.repository()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(repository.Status.Conditions).To(BeEmpty())
			g.Expect(second.serves(mine, "shard1-a")()).To(Succeed())
			g.Expect(first.serves(f, "instances-one")()).To(Succeed())
			n, err := reconciledObjects(second.metrics, v1alpha1.TenantKind)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(n).To(Equal(1), "of its own shard")
		}).Should(Succeed())
	})
}

// table asks the apiserver for what kubectl get shows, and returns it as rows of column name to value.
func table(g Gomega, env *environment, resource string) []map[string]any {
	config := env.stack.RESTConfig()
	httpClient, err := rest.HTTPClientFor(config)
	g.Expect(err).NotTo(HaveOccurred())
	req, err := http.NewRequest(http.MethodGet, config.Host+"/apis/"+v1alpha1.GroupVersion.String()+"/namespaces/"+stack.FluxNamespace+"/"+resource, nil)
	g.Expect(err).NotTo(HaveOccurred())
	req.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	resp, err := httpClient.Do(req)
	g.Expect(err).NotTo(HaveOccurred())
	defer resp.Body.Close()
	result := &metav1.Table{}
	g.Expect(json.NewDecoder(resp.Body).Decode(result)).To(Succeed())
	var rows []map[string]any
	for _, row := range result.Rows {
		cells := map[string]any{}
		for i, column := range result.ColumnDefinitions {
			if column.Priority == 0 {
				cells[column.Name] = row.Cells[i]
			}
		}
		rows = append(rows, cells)
	}
	return rows
}

// shortRevision is a revision with as much of its digest as a message has.
var shortRevision = regexp.MustCompile(`^main/[0-9a-f]{12}@sha256:[0-9a-f]{12}`)

// What kubectl shows of tenants and their repository.
func TestShown(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	f := newFacilities(t, shared, "columns", map[string]string{"columns-one.yaml": tenantFile("columns-one")})
	g.Eventually(f.ready("columns-one")).Should(Succeed())
	g.Eventually(func(g Gomega) {
		obj, err := f.get("columns-one")
		g.Expect(err).NotTo(HaveOccurred())
		repository, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		age := HaveKeyWithValue("Age", Not(BeEmpty()))
		g.Expect(table(g, shared, "tenants")).To(ContainElement(And(
			HaveLen(7), age, HaveKey("Suspended"),
			HaveKeyWithValue("Name", "columns-one"),
			HaveKeyWithValue("Domain", "columns-one.example.com"),
			HaveKeyWithValue("Ready", "True"),
			HaveKeyWithValue("Reason", meta.ReconciliationSucceededReason),
			HaveKeyWithValue("Accepted", "True"),
		)))
		g.Expect(conditions.GetMessage(obj, meta.ReadyCondition)).To(Equal("Applied revision: " + shortRevision.FindString(obj.Status.Artifact.Revision)))
		g.Expect(table(g, shared, "tenantrepositories")).To(ContainElement(And(
			HaveLen(6), age, HaveKey("Suspended"),
			HaveKeyWithValue("Name", "columns"),
			HaveKeyWithValue("Ready", "True"),
			HaveKeyWithValue("Reason", meta.SucceededReason),
			HaveKeyWithValue("Tenants", BeEquivalentTo(1)),
		)))
		g.Expect(conditions.GetMessage(repository, meta.ReadyCondition)).To(Equal("1 tenant: 1 ready"))
	}).Should(Succeed())

	// The same is news, in the events that kubectl describe shows.
	g.Eventually(func(g Gomega) {
		obj, err := f.get("columns-one")
		g.Expect(err).NotTo(HaveOccurred())
		repository, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		for about, want := range map[client.Object][2]string{
			obj:        {meta.ReconciliationSucceededReason, obj.Status.Artifact.Revision},
			repository: {meta.SucceededReason, repository.Status.LastAppliedRevision},
		} {
			events := &corev1.EventList{}
			g.Expect(f.env.client.List(t.Context(), events, client.InNamespace(stack.FluxNamespace),
				client.MatchingFields{"involvedObject.uid": string(about.GetUID()), "reason": want[0]})).To(Succeed())
			g.Expect(events.Items).To(HaveLen(1))
			g.Expect(events.Items[0].Type).To(Equal(corev1.EventTypeNormal))
			g.Expect(events.Items[0].Message).To(Equal(conditions.GetMessage(about.(conditions.Getter), meta.ReadyCondition)))
			g.Expect(events.Items[0].Annotations).To(HaveKeyWithValue("korthweb.digihunch.com/revision", want[1]))
		}
	}).Should(Succeed())
}

// No secret shows anywhere but in its Secret.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const user, password, wrong = "sentinel-user", "sentinel-password-0bd1", "sentinel-wrong-77ab"
	server, err := gitserver.New(filepath.Join(t.TempDir(), "git"), gitserver.Options{Username: user, Password: password, TLS: true})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = server.Close() })
	env := *shared
	env.git = server
	login := func(name, password string) func(*v1alpha1.TenantRepository) {
		secret := &corev1.Secret{
			ObjectMeta: objectMeta(stack.FluxNamespace, name),
			StringData: map[string]string{"username": user, "password": password, "ca.crt": string(server.CA)},
		}
		g.Expect(env.client.Create(t.Context(), secret)).To(Succeed())
		t.Cleanup(func() { _ = env.client.Delete(t.Context(), secret) })
		return func(obj *v1alpha1.TenantRepository) { obj.Spec.Git.SecretRef = &meta.LocalObjectReference{Name: name} }
	}
	f := newFacilities(t, &env, "secrets", map[string]string{"secrets-one.yaml": tenantFile("secrets-one")}, login("secrets-right", password))
	refused := newFacilities(t, &env, "secrets-refused", nil, login("secrets-wrong", wrong))

	g.Eventually(f.ready("secrets-one")).Should(Succeed())
	g.Eventually(func(g Gomega) {
		obj, err := refused.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.GetReason(obj, meta.ReadyCondition)).To(Equal(sourcev1.AuthenticationFailedReason))
	}).Should(Succeed())

	users := &corev1.Secret{}
	g.Expect(env.client.Get(t.Context(), client.ObjectKey{Namespace: "secrets-one-orthweb", Name: "orthanc-users"}, users)).To(Succeed())
	g.Expect(users.Data["password"]).NotTo(BeEmpty())
	var forbidden []string
	for _, secret := range []string{password, wrong, string(users.Data["password"]), user + ":" + password} {
		forbidden = append(forbidden, secret, base64.StdEncoding.EncodeToString([]byte(secret)))
	}

	shown := map[string][]byte{}
	shown["Korthweb's log"], err = os.ReadFile(env.stack.LogFile(stack.Korthweb))
	g.Expect(err).NotTo(HaveOccurred())
	for _, list := range []struct{ apiVersion, kind string }{
		{"v1", "Event"}, {"events.k8s.io/v1", "Event"}, {"v1", "ConfigMap"}, {"apps/v1", "Deployment"},
		{"korthweb.digihunch.com/v1alpha1", "Tenant"}, {"korthweb.digihunch.com/v1alpha1", "TenantRepository"},
		{"source.toolkit.fluxcd.io/v1", "ExternalArtifact"}, {"kustomize.toolkit.fluxcd.io/v1", "Kustomization"},
		{"helm.toolkit.fluxcd.io/v2", "HelmRelease"},
	} {
		u := &unstructured.UnstructuredList{}
		u.SetAPIVersion(list.apiVersion)
		u.SetKind(list.kind + "List")
		g.Expect(env.client.List(t.Context(), u)).To(Succeed())
		g.Expect(u.Items).NotTo(BeEmpty(), list.kind)
		shown[list.kind+" "+list.apiVersion], err = json.Marshal(u)
		g.Expect(err).NotTo(HaveOccurred())
	}
	archives, err := filepath.Glob(filepath.Join(env.stack.StorageDir(), "externalartifact", stack.FluxNamespace, "secrets-one", "*"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(archives).NotTo(BeEmpty())
	for _, archive := range archives {
		shown[archive] = unpack(g, archive)
		g.Expect(shown[archive]).To(ContainSubstring("orthanc-users"), "the archive names the Secret")
	}
	for where, text := range shown {
		for _, secret := range forbidden {
			g.Expect(bytes.Contains(text, []byte(secret))).To(BeFalse(), "%q is in %s", secret, where)
		}
	}
}

// unpack returns the contents of all files of a tar.gz.
func unpack(g Gomega, path string) []byte {
	file, err := os.Open(path)
	g.Expect(err).NotTo(HaveOccurred())
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	g.Expect(err).NotTo(HaveOccurred())
	var all bytes.Buffer
	for archive := tar.NewReader(unzipped); ; {
		if _, err := archive.Next(); errors.Is(err, io.EOF) {
			return all.Bytes()
		} else {
			g.Expect(err).NotTo(HaveOccurred())
		}
		_, err := io.Copy(&all, archive)
		g.Expect(err).NotTo(HaveOccurred())
	}
}
