// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
)

// The modules of Flux's CRDs: the very modules that its controllers are built from.
const (
	sourceModule    = "github.com/fluxcd/source-controller"
	kustomizeModule = "github.com/fluxcd/kustomize-controller"
	helmModule      = "github.com/fluxcd/helm-controller"
)

// assetCRDs are the other CRDs, of what Korthweb renders: their files in each
// module. Kinds that are not rendered stay out: the large ones among them would
// double the time that the apiserver needs for all.
var assetCRDs = map[string][]string{
	"github.com/cert-manager/cert-manager": {"deploy/crds"},
	"github.com/cloudnative-pg/cloudnative-pg": {
		"config/crd/bases/postgresql.cnpg.io_backups.yaml",
		"config/crd/bases/postgresql.cnpg.io_clusters.yaml",
		"config/crd/bases/postgresql.cnpg.io_scheduledbackups.yaml",
	},
	"github.com/prometheus-operator/prometheus-operator": {
		"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
	},
	"github.com/cloudnative-pg/plugin-barman-cloud": {"config/crd/bases/barmancloud.cnpg.io_objectstores.yaml"},
	// All of them, since Traefik starts only when it can watch every kind of its own.
	"github.com/traefik/traefik/v3": {"docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml"},
	"istio.io/api":                  {"kubernetes/customresourcedefinitions.gen.yaml"},
}

// prepareCluster installs the CRDs and creates the namespace of Flux.
func (s *Stack) prepareCluster(ctx context.Context) error {
	begin := time.Now()
	root, err := gomod.Root()
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	modules := make([]string, 0, len(assetCRDs))
	for module := range assetCRDs {
		modules = append(modules, module)
	}
	found, err := gomod.Download(ctx, gomod.Assets, modules...)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	paths := []string{filepath.Join(root, "config", "crd", "bases")}
	for module, files := range assetCRDs {
		for _, file := range files {
			paths = append(paths, filepath.Join(found[module].Dir, file))
		}
	}
	if !s.opts.WithoutFluxCRDs {
		fluxPaths, err := fluxCRDs(ctx)
		if err != nil {
			return err
		}
		paths = append(paths, fluxPaths...)
	}
	if err := s.installCRDs(paths); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: FluxNamespace},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("stack: Namespace %s: %w", FluxNamespace, err)
	}
	s.progressf("%-24s ready after %.1fs", "CRDs", time.Since(begin).Seconds())
	return nil
}

// InstallFluxCRDs installs Flux's CRDs into a stack that was started without them,
// and returns when they are served.
func (s *Stack) InstallFluxCRDs(ctx context.Context) error {
	paths, err := fluxCRDs(ctx)
	if err != nil {
		return err
	}
	return s.installCRDs(paths)
}

// InstallKorthwebCRDs installs Korthweb's own CRDs again, and returns when they are served.
func (s *Stack) InstallKorthwebCRDs(_ context.Context) error {
	root, err := gomod.Root()
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	return s.installCRDs([]string{filepath.Join(root, "config", "crd", "bases")})
}

func fluxCRDs(ctx context.Context) ([]string, error) {
	modules, err := gomod.Download(ctx, gomod.Programs, sourceModule, kustomizeModule, helmModule)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	var paths []string
	for _, module := range modules {
		paths = append(paths, filepath.Join(module.Dir, "config", "crd", "bases"))
	}
	return paths, nil
}

func (s *Stack) installCRDs(paths []string) error {
	_, err := envtest.InstallCRDs(s.admin, envtest.CRDInstallOptions{
		Paths:              paths,
		ErrorIfPathMissing: true,
		MaxTime:            readyTimeout,
	})
	if err != nil {
		return fmt.Errorf("stack: installing CRDs: %w", err)
	}
	return nil
}
