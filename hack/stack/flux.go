// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/client-go/kubernetes"
)

// fluxControllers are started in parallel: they wait for each other's objects, not for each other.
var fluxControllers = []string{SourceController, KustomizeController, HelmController}

// startFlux starts the Flux controllers, each as its own ServiceAccount. Those are
// bound to cluster-admin, as a Flux install does: what a tenant may do is decided
// by the ServiceAccount that a Kustomization or HelmRelease makes them impersonate.
func (s *Stack) startFlux(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	errs := make([]error, len(fluxControllers))
	var group sync.WaitGroup
	for i, name := range fluxControllers {
		group.Go(func() { errs[i] = s.startFluxController(ctx, client, name) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func (s *Stack) startFluxController(ctx context.Context, client kubernetes.Interface, name string) error {
	if err := createAdminAccount(ctx, client, FluxNamespace, name); err != nil {
		return err
	}
	_, kubeconfig, err := s.ServiceAccountConfig(ctx, FluxNamespace, name)
	if err != nil {
		return err
	}
	health, err := FreeAddress()
	if err != nil {
		return err
	}
	metrics, err := FreeAddress()
	if err != nil {
		return err
	}
	args := []string{
		"--watch-all-namespaces",
		"--enable-leader-election=false",
		"--events-addr=",
		"--metrics-addr=" + metrics,
		"--health-addr=" + health,
		"--log-level=info",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
	switch name {
	case SourceController:
		storage, err := FreeAddress()
		if err != nil {
			return err
		}
		path := filepath.Join(s.dir, "source-storage")
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("stack: %w", err)
		}
		args = append(args,
			"--concurrent=8",
			"--requeue-dependency=2s",
			"--storage-path="+path,
			"--storage-addr="+storage, "--storage-adv-addr="+storage,
		)
	case KustomizeController, HelmController:
		args = append(args,
			"--concurrent=20",
			"--requeue-dependency=2s",
			"--no-cross-namespace-refs=true",
			// A Kustomization whose artifact is not served says nothing while it retries,
			// after 5, 10, 20 s and so on. One retry, so that tests of faults are short.
			"--http-retry=1",
		)
		var gates []string
		if !s.opts.WithoutExternalArtifact {
			gates = append(gates, "ExternalArtifact=true")
		}
		if name == KustomizeController {
			// Else the repair of an unhealthy revision waits until the health check of that times out.
			gates = append(gates, "CancelHealthCheckOnNewRevision=true")
		}
		if len(gates) > 0 {
			args = append(args, "--feature-gates="+strings.Join(gates, ","))
		}
	}
	if name == HelmController {
		args = append(args, "--graceful-shutdown-timeout=5s")
	}
	return s.Run(ctx, Program{
		Name:     name,
		Path:     s.ProgramPath(name),
		Args:     append(args, s.opts.ExtraArgs[name]...),
		Env:      []string{"KUBECONFIG=" + kubeconfig, "RUNTIME_NAMESPACE=" + FluxNamespace, "TMPDIR=" + s.dir},
		ReadyURL: "http://" + health + "/readyz",
	})
}
