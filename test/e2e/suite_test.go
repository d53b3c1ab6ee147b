// SPDX-License-Identifier: Apache-2.0

// Package e2e tests Korthweb from outside: the built program, as a process under the roles of config/rbac,
// on a real control plane with the real Flux controllers, a real git server and the real gateway chart.
// What is simulated is named in hack/stack/stages.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

// The shared stack: tests use names of their own in it, and leave it as they found it. A test that stops
// a part of the control plane has a stack of its own.
var (
	shared   *environment
	korthweb string // path of the built program
)

// environment is a stack with what the tests need around it.
type environment struct {
	stack  *stack.Stack
	charts *stack.ChartRegistry
	git    *gitserver.Server
	client client.Client
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	log.SetOutput(io.Discard) // the git server's request log
	// Else controller-runtime complains that it has no logger.
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "korthweb-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	korthweb = filepath.Join(dir, "korthweb")
	build := exec.CommandContext(ctx, "go", "build", "-o", korthweb, "../..")
	if out, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("%w: %s", err, out))
	}
	shared, err = newEnvironment(ctx, filepath.Join(dir, "shared"), stack.Options{Workloads: true, Flux: true, CertManager: true, Progress: os.Stdout})
	if err != nil {
		return fail(err)
	}
	defer shared.stop()
	if err := shared.stack.StartKorthweb(ctx, stack.KorthwebOptions{
		Binary: korthweb, Registries: []string{shared.charts.Host()}, Args: []string{"--concurrent=8"},
	}); err != nil {
		return fail(err)
	}
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	return 1
}

// newEnvironment starts a stack without Korthweb.
func newEnvironment(ctx context.Context, dir string, opts stack.Options) (_ *environment, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	e := &environment{}
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	if e.charts, err = stack.StartChartRegistry(ctx); err != nil {
		return nil, err
	}
	if e.git, err = gitserver.New(filepath.Join(dir, "git"), gitserver.Options{}); err != nil {
		return nil, err
	}
	opts.Dir = filepath.Join(dir, "stack")
	if e.stack, err = stack.Start(ctx, opts); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err = errors.Join(
		clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), kustomizev1.AddToScheme(scheme),
		sourcev1.AddToScheme(scheme), helmv2.AddToScheme(scheme),
	); err != nil {
		return nil, err
	}
	e.client, err = client.New(e.stack.RESTConfig(), client.Options{Scheme: scheme})
	return e, err
}

func (e *environment) stop() {
	var errs []error
	if e.stack != nil {
		errs = append(errs, e.stack.Stop())
	}
	if e.git != nil {
		errs = append(errs, e.git.Close())
	}
	if e.charts != nil {
		errs = append(errs, e.charts.Stop())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
}

// ownEnvironment starts a stack for one test, which may stop parts of it, and stops it with the test.
func ownEnvironment(t *testing.T, opts stack.Options) *environment {
	t.Helper()
	e, err := newEnvironment(t.Context(), t.TempDir(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	t.Cleanup(func() {
		if t.Failed() {
			e.printLog(t)
		}
	})
	return e
}

func (e *environment) printLog(t *testing.T) {
	data, err := os.ReadFile(e.stack.LogFile(stack.Korthweb))
	if err == nil {
		t.Logf("the end of korthweb's log:\n%s", data[max(0, len(data)-8000):])
	}
}

// gomega returns assertions that wait long enough for a slow machine and poll often.
func gomega(t *testing.T) *WithT {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(5 * time.Minute)
	g.SetDefaultEventuallyPollingInterval(200 * time.Millisecond)
	g.SetDefaultConsistentlyDuration(5 * time.Second)
	g.SetDefaultConsistentlyPollingInterval(200 * time.Millisecond)
	return g
}
