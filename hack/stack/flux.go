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

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if err := createFluxIdentity(ctx, client, name); err != nil {
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

func createFluxIdentity(ctx context.Context, client kubernetes.Interface, name string) error {
	_, err := client.CoreV1().ServiceAccounts(FluxNamespace).Create(ctx, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: FluxNamespace},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("stack: ServiceAccount %s/%s: %w", FluxNamespace, name, err)
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "flux-" + name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: FluxNamespace, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("stack: ClusterRoleBinding flux-%s: %w", name, err)
	}
	return nil
}
