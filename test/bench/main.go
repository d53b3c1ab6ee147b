// SPDX-License-Identifier: Apache-2.0

// Bench measures Korthweb with many tenants on a real apiserver: how long it takes to onboard them all,
// to take over a commit that changes one or none, and to restart; how many writes each costs; and how
// much memory. Flux's controllers do not run, so that what is measured is Korthweb.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing/fstest"
	"text/tabwriter"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

const (
	// quiet is how long nothing may be written before a step counts as over.
	quiet = 5 * time.Second

	// interval is so long that only a request makes Korthweb look at the source.
	interval = time.Hour

	auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  # A question in the form of an object that is created: who am I?
  - level: None
    resources: [{group: authentication.k8s.io, resources: [selfsubjectreviews]}]
  - level: Metadata
    users: ["system:serviceaccount:flux-system:korthweb"]
    verbs: [create, update, patch, delete, deletecollection]
  - level: None
`
)

func main() {
	log.SetOutput(io.Discard) // the git server's request log
	tenants := flag.Int("tenants", 1000, "how many tenants")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *tenants); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	stack  *stack.Stack
	repo   *gitserver.Repo
	client client.Client
	audit  string
	count  int
	table  *tabwriter.Writer
}

func run(ctx context.Context, count int) (err error) {
	dir, err := os.MkdirTemp("", "korthweb-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	policy := filepath.Join(dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	b := &bench{audit: filepath.Join(dir, "audit.log"), count: count, table: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	b.stack, err = stack.Start(ctx, stack.Options{
		Dir:      filepath.Join(dir, "stack"),
		Progress: os.Stderr,
		ExtraArgs: map[string][]string{stack.APIServer: {
			"--audit-policy-file=" + policy, "--audit-log-path=" + b.audit,
		}},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stack.Stop()) }()
	server, err := gitserver.New(filepath.Join(dir, "git"), gitserver.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	seed := fstest.MapFS{}
	for i := range count {
		seed[path(i)] = &fstest.MapFile{Data: []byte(tenantFile(i, "200Gi"))}
	}
	if b.repo, err = server.CreateRepo("facilities", seed); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), sourcev1.AddToScheme(scheme), kustomizev1.AddToScheme(scheme)); err != nil {
		return err
	}
	if b.client, err = client.New(b.stack.RESTConfig(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	storage, err := stack.FreeAddress()
	if err != nil {
		return err
	}
	korthweb := stack.KorthwebOptions{
		Binary:      filepath.Join("bin", "korthweb"),
		StorageAddr: storage,
		// Without Flux no tenant gets ready, and none is to be looked at again and again for that.
		Args: []string{"--concurrent=4", "--requeue-dependency=1h"},
	}
	if err := b.stack.StartKorthweb(ctx, korthweb); err != nil {
		return err
	}

	fmt.Fprintln(b.table, "step\tseconds\twrites\tevents\tpeak memory")
	if err := b.steps(ctx); err != nil {
		return err
	}
	return b.table.Flush()
}

func (b *bench) steps(ctx context.Context) error {
	err := b.step(ctx, fmt.Sprintf("onboard %d tenants", b.count), func() error {
		return b.client.Create(ctx, b.tenantRepository())
	}, func() (bool, error) { return b.published(ctx, b.count) })
	if err != nil {
		return err
	}

	before, err := b.artifact(ctx, 0)
	if err != nil {
		return err
	}
	if _, err := b.repo.Commit(map[string]string{path(0): tenantFile(0, "300Gi")}, nil, "Change one tenant"); err != nil {
		return err
	}
	err = b.step(ctx, "change one tenant", func() error { return b.request(ctx, "one") }, func() (bool, error) {
		after, err := b.artifact(ctx, 0)
		return after != before, err
	})
	if err != nil {
		return err
	}

	sha, err := b.repo.Commit(map[string]string{"README.md": "changes no tenant\n"}, nil, "Change no tenant")
	if err != nil {
		return err
	}
	err = b.step(ctx, "a commit that changes none", func() error { return b.request(ctx, "none") }, func() (bool, error) {
		return b.seen(ctx, sha)
	})
	if err != nil {
		return err
	}

	return b.step(ctx, "restart", func() error {
		if err := b.stack.StopProcess(stack.Korthweb); err != nil {
			return err
		}
		return b.stack.StartProcess(ctx, stack.Korthweb)
	}, func() (bool, error) { return true, nil })
}

// step runs what starts a piece of work and measures until it is done; writes are counted until it has
// been quiet for a while.
func (b *bench) step(ctx context.Context, name string, start func() error, done func() (bool, error)) error {
	writes, events, err := b.writes()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := start(); err != nil {
		return err
	}
	for {
		ok, err := done()
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	after, afterEvents, err := b.settle(ctx)
	if err != nil {
		return err
	}
	memory, err := peakMemory(b.stack.PIDs()[stack.Korthweb])
	if err != nil {
		return err
	}
	fmt.Fprintf(b.table, "%s\t%.2f\t%d\t%d\t%d MB\n", name, took.Seconds(), after-writes, afterEvents-events, memory)
	fmt.Fprintf(os.Stderr, "%s: done\n", name)
	return nil
}

// settle waits until Korthweb has written nothing for a while, and returns the counts.
func (b *bench) settle(ctx context.Context) (writes, events int, err error) {
	last, since := -1, time.Now()
	for time.Since(since) < quiet {
		if writes, events, err = b.writes(); err != nil {
			return 0, 0, err
		}
		if writes+events != last {
			last, since = writes+events, time.Now()
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
	return writes, events, nil
}

// writes counts Korthweb's successful writes in the apiserver's audit log, events apart. A dry run is no write.
func (b *bench) writes() (writes, events int, err error) {
	f, err := os.Open(b.audit)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct {
			RequestURI     string `json:"requestURI"`
			ObjectRef      struct{ Resource string }
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			continue // the line that is being written
		}
		switch {
		case entry.ResponseStatus.Code >= 300 || strings.Contains(entry.RequestURI, "dryRun="):
		case entry.ObjectRef.Resource == "events":
			events++
		default:
			writes++
		}
	}
	return writes, events, lines.Err()
}

func (b *bench) tenantRepository() *v1alpha1.TenantRepository {
	return &v1alpha1.TenantRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "facilities"},
		Spec: v1alpha1.TenantRepositorySpec{
			Interval: metav1.Duration{Duration: interval},
			Prune:    true,
			Git:      &v1alpha1.GitSource{URL: b.repo.URL(), Reference: &sourcev1.GitRepositoryRef{Branch: gitserver.Branch}},
		},
	}
}

// request asks Korthweb to look at the source now.
func (b *bench) request(ctx context.Context, token string) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, meta.ReconcileRequestAnnotation, token)
	return b.client.Patch(ctx, b.tenantRepository(), client.RawPatch("application/merge-patch+json", []byte(patch)))
}

// published says whether so many tenants have their artifact and both Kustomizations.
func (b *bench) published(ctx context.Context, count int) (bool, error) {
	artifacts := &sourcev1.ExternalArtifactList{}
	if err := b.client.List(ctx, artifacts); err != nil {
		return false, err
	}
	n := 0
	for i := range artifacts.Items {
		if artifacts.Items[i].Status.Artifact != nil {
			n++
		}
	}
	if n < count {
		return false, sleep(ctx, 500*time.Millisecond)
	}
	layers := &metav1.PartialObjectMetadataList{}
	layers.SetGroupVersionKind(kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind + "List"))
	if err := b.client.List(ctx, layers); err != nil {
		return false, err
	}
	return len(layers.Items) == 2*count, nil
}

func (b *bench) artifact(ctx context.Context, i int) (string, error) {
	ea := &sourcev1.ExternalArtifact{}
	if err := b.client.Get(ctx, client.ObjectKey{Namespace: stack.FluxNamespace, Name: name(i)}, ea); err != nil {
		return "", err
	}
	return ea.Status.Artifact.Revision, nil
}

func (b *bench) seen(ctx context.Context, sha string) (bool, error) {
	obj := &v1alpha1.TenantRepository{}
	if err := b.client.Get(ctx, client.ObjectKeyFromObject(b.tenantRepository()), obj); err != nil {
		return false, err
	}
	return strings.HasSuffix(obj.Status.LastAppliedRevision, sha), nil
}

// peakMemory is the most memory that a process has had resident, in megabytes.
func peakMemory(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			return kb / 1000, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmHWM", pid)
}

func name(i int) string { return fmt.Sprintf("facility-%04d", i) }

func path(i int) string { return "tenants/" + name(i) + ".yaml" }

func tenantFile(i int, size string) string {
	return fmt.Sprintf(`apiVersion: korthweb.digihunch.com/v1alpha1
kind: Tenant
metadata:
  name: %s
spec:
  displayName: Facility %d
  domain: %s.example.com
  orthanc:
    aeTitle: FACILITY%04d
    storage:
      size: %s
`, name(i), i, name(i), i, size)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
