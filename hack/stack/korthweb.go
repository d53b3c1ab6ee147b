// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
)

// Korthweb is the name of Korthweb's own process in a stack.
const Korthweb = "korthweb"

// KorthwebOptions say how Korthweb runs on a stack.
type KorthwebOptions struct {
	// Binary is the path of the built program.
	Binary string

	// StorageAddr is the host:port of the artifact server. Empty means a free one.
	StorageAddr string

	// MetricsAddr is the host:port of the metrics. Empty means a free one.
	MetricsAddr string

	// Registries are where images and charts of tenants may come from beside what config/policy lists.
	Registries []string

	// Args are further flags. The last value of a flag wins.
	Args []string
}

// InstallKorthwebRBAC applies config/rbac and config/policy, as an administrator does who installs Korthweb, and adds
// registries to those that tenants may use. The apiserver heeds a new policy after a second or so.
func (s *Stack) InstallKorthwebRBAC(ctx context.Context, registries ...string) error {
	err := s.forConfig([]string{"rbac", "policy"}, func(c client.Client, o *unstructured.Unstructured) error {
		return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("stack"), client.ForceOwnership)
	})
	if err != nil || len(registries) == 0 {
		return err
	}
	kube, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	lists := kube.CoreV1().ConfigMaps(FluxNamespace)
	list, err := lists.Get(ctx, allowedRegistries, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	list.Data["registries"] += strings.Join(registries, "\n") + "\n"
	if _, err := lists.Update(ctx, list, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	return nil
}

// allowedRegistries is the ConfigMap of config/policy with the registries that tenants may use.
const allowedRegistries = "allowed-registries"

// UninstallKorthwebRBAC deletes config/rbac, as an administrator does who uninstalls Korthweb. The policies stay.
func (s *Stack) UninstallKorthwebRBAC(ctx context.Context) error {
	return s.forConfig([]string{"rbac"}, func(c client.Client, o *unstructured.Unstructured) error {
		return client.IgnoreNotFound(c.Delete(ctx, o))
	})
}

// forConfig builds directories of config/ with kustomize and does something to each object that comes out.
func (s *Stack) forConfig(dirs []string, do func(client.Client, *unstructured.Unstructured) error) error {
	root, err := gomod.Root()
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	c, err := client.New(s.admin, client.Options{Scheme: runtime.NewScheme()})
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	for _, dir := range dirs {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "config", dir))
		if err != nil {
			return fmt.Errorf("stack: config/%s: %w", dir, err)
		}
		for _, r := range built.Resources() {
			object, err := r.Map()
			if err == nil {
				err = do(c, &unstructured.Unstructured{Object: object})
			}
			if err != nil {
				return fmt.Errorf("stack: config/%s: %s: %w", dir, r.CurId(), err)
			}
		}
	}
	return nil
}

// StartKorthweb runs Korthweb's controller as a process of the stack, under the ServiceAccount and the roles of
// config/rbac and nothing more, with the policies of config/policy. The artifacts are in StorageDir.
func (s *Stack) StartKorthweb(ctx context.Context, opts KorthwebOptions) error {
	if err := s.InstallKorthwebRBAC(ctx, opts.Registries...); err != nil {
		return err
	}
	_, kubeconfig, err := s.ServiceAccountConfig(ctx, FluxNamespace, Korthweb)
	if err != nil {
		return err
	}
	health, err := FreeAddress()
	if err != nil {
		return err
	}
	for _, address := range []*string{&opts.StorageAddr, &opts.MetricsAddr} {
		if *address == "" {
			if *address, err = FreeAddress(); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(s.StorageDir(), 0o700); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	return s.Run(ctx, Program{
		Name: Korthweb,
		Path: opts.Binary,
		Args: append([]string{
			"controller",
			"--watch-all-namespaces", "--insecure-allow-http",
			"--enable-leader-election=false",
			"--requeue-dependency=2s",
			"--kube-api-qps=500", "--kube-api-burst=1000",
			"--metrics-addr=" + opts.MetricsAddr,
			"--health-addr=" + health,
			"--storage-path=" + s.StorageDir(),
			"--storage-addr=" + opts.StorageAddr,
			"--storage-adv-addr=" + opts.StorageAddr,
		}, opts.Args...),
		Env:      []string{"KUBECONFIG=" + kubeconfig, "RUNTIME_NAMESPACE=" + FluxNamespace, "TMPDIR=" + s.dir},
		ReadyURL: "http://" + health + "/readyz",
	})
}

// StorageDir is where Korthweb keeps its artifacts.
func (s *Stack) StorageDir() string { return filepath.Join(s.dir, "korthweb-storage") }
