// SPDX-License-Identifier: Apache-2.0

// Demo runs all of Korthweb's pipeline on this machine: a real control plane with the real controllers of
// Flux and cert-manager, a git server, a chart registry, and the built korthweb program. It shows the
// facilities of the repository's sample tenants come up, then onboards one more with a commit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing/fstest"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

// readyTimeout bounds each wait for tenants. It is long, for a slow and shared machine.
const readyTimeout = 5 * time.Minute

const newTenant = `apiVersion: korthweb.digihunch.com/v1alpha1
kind: Tenant
metadata:
  name: northside
spec:
  className: standard
  displayName: Northside Imaging
  domain: northside.orthweb.com
  orthanc:
    aeTitle: NORTHSIDE
`

func main() {
	log.SetOutput(io.Discard) // the git server's request log
	once := flag.Bool("once", false, "end, with an exit code, when all facilities are ready")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	err := run(ctx, *once)
	switch {
	case err == nil:
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Println("\nstopped")
	default:
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, once bool) (err error) {
	begin := time.Now()
	dir, err := os.MkdirTemp("", "korthweb-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	heading("A real control plane: etcd, Kubernetes, cert-manager and Flux, as processes on loopback")
	s, err := stack.Start(ctx, stack.Options{
		Dir:         filepath.Join(dir, "stack"),
		Workloads:   true,
		Flux:        true,
		CertManager: true,
		Progress:    os.Stdout,
	})
	if err != nil {
		return err
	}
	defer func() {
		fmt.Println("\nstopping every process")
		err = errors.Join(err, s.Stop())
	}()
	fmt.Println(`Simulated by kwok, since nothing here can run containers: nodes and pods, volumes, the answers of
CloudNativePG, and the load balancer's addresses. Everything else is the real program; cert-manager's runs
without its webhook. Its certificates are real too.`)

	heading("A chart registry with the charts of Istio's gateway and of Traefik, and a git repository seeded from tenants/")
	charts, err := stack.StartChartRegistry(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, charts.Stop()) }()
	seed, tenants, err := seedFiles(charts)
	if err != nil {
		return err
	}
	server, err := gitserver.New(filepath.Join(dir, "git"), gitserver.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	repo, err := server.CreateRepo("facilities", seed)
	if err != nil {
		return err
	}
	for _, chart := range []stack.Chart{charts.Gateway, charts.Traefik} {
		fmt.Printf("chart      %s:%s\n", chart.URL, chart.Version)
	}
	fmt.Printf("repository %s\n", repo.URL())

	heading("korthweb controller, under the roles of config/rbac, and a TenantRepository that points at the repository")
	if err := s.StartKorthweb(ctx, stack.KorthwebOptions{
		Binary: filepath.Join("bin", "korthweb"), Registries: []string{charts.Host()},
	}); err != nil {
		return err
	}
	c, err := newClient(s)
	if err != nil {
		return err
	}
	if err := c.Create(ctx, tenantRepository(repo.URL())); err != nil {
		return fmt.Errorf("cannot create the TenantRepository: %w", err)
	}
	if err := watchUntilReady(ctx, c, os.Stdout, tenants...); err != nil {
		return withLog(s, err)
	}

	heading("git push: one more facility")
	fmt.Println(indent(newTenant))
	commit, err := repo.Commit(map[string]string{"tenants/northside.yaml": newTenant}, nil, "Onboard Northside Imaging")
	if err != nil {
		return err
	}
	pushed := time.Now()
	fmt.Printf("pushed %.12s\n", commit)
	if err := watchUntilReady(ctx, c, os.Stdout, append(tenants, "northside")...); err != nil {
		return withLog(s, err)
	}
	fmt.Printf("\nnorthside was ready %.0fs after the push; the whole demo took %.0fs\n", time.Since(pushed).Seconds(), time.Since(begin).Seconds())
	if once {
		return nil
	}

	root, err := os.Getwd()
	if err != nil {
		return err
	}
	heading("Go on by hand, from another terminal")
	fmt.Printf(`export KUBECONFIG=%s
export PATH=%s:$PATH

kubectl -n flux-system get tenants,tenantrepositories
flux get kustomizations
flux tree kustomization bhs-application
kubectl -n flux-system describe tenant bhs

git clone %s && cd facilities    # change a file under tenants/, commit, git push

The TenantRepository looks for a new commit every 5s. Logs are in %s.
Ctrl-C here stops everything and removes it.
`, s.Kubeconfig(), filepath.Join(root, "bin", "stack"), repo.URL(), filepath.Dir(s.LogFile(stack.Korthweb)))
	<-ctx.Done()
	return nil
}

// seedFiles returns the sample tenants, whose classes install from the local registry, and their names.
func seedFiles(charts *stack.ChartRegistry) (_ fs.FS, tenants []string, err error) {
	seed := fstest.MapFS{}
	paths, err := filepath.Glob("tenants/*.yaml")
	if err != nil {
		return nil, nil, err
	}
	classes, err := filepath.Glob("tenants/classes/*.yaml")
	if err != nil {
		return nil, nil, err
	}
	for _, path := range append(paths, classes...) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		doc := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(data, &doc.Object); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		if doc.GetKind() == v1alpha1.TenantKind {
			tenants = append(tenants, doc.GetName())
		} else if data, err = withChart(doc, charts); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		seed[filepath.ToSlash(path)] = &fstest.MapFile{Data: data}
	}
	if len(tenants) == 0 {
		return nil, nil, errors.New("no tenants/*.yaml here: run the demo from the root of the repository, with make demo")
	}
	return seed, tenants, nil
}

// withChart sets the chart of a class to that of its provider in the local registry.
func withChart(class *unstructured.Unstructured, charts *stack.ChartRegistry) ([]byte, error) {
	provider, _, err := unstructured.NestedString(class.Object, "spec", "ingress", "provider")
	if err != nil {
		return nil, err
	}
	chart := charts.Gateway
	if provider == string(v1alpha1.TraefikIngress) {
		chart = charts.Traefik
	}
	local := map[string]any{"url": chart.URL, "version": chart.Version, "insecure": true}
	if err := unstructured.SetNestedMap(class.Object, local, "spec", "ingress", "chart"); err != nil {
		return nil, err
	}
	return yaml.Marshal(class.Object)
}

func tenantRepository(url string) *v1alpha1.TenantRepository {
	repository := &v1alpha1.TenantRepository{}
	repository.Namespace, repository.Name = stack.FluxNamespace, "facilities"
	repository.Spec.Interval = metav1.Duration{Duration: 5 * time.Second}
	repository.Spec.Prune = true
	repository.Spec.Git = &v1alpha1.GitSource{URL: url}
	repository.Spec.Git.Reference = &gitRef
	return repository
}

func newClient(s *stack.Stack) (client.Client, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), kustomizev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	return client.New(s.RESTConfig(), client.Options{Scheme: scheme})
}

// withLog adds the end of Korthweb's log to an error.
func withLog(s *stack.Stack, err error) error {
	data, readErr := os.ReadFile(s.LogFile(stack.Korthweb))
	if readErr != nil || errors.Is(err, context.Canceled) {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return fmt.Errorf("%w\nthe last lines of korthweb's log:\n%s", err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
}

func heading(text string) { fmt.Printf("\n► %s\n", text) }

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}
