// SPDX-License-Identifier: Apache-2.0

// Package apiserver starts a real apiserver with the kinds of Korthweb and of Flux and nothing that acts on them, for tests
// of what Korthweb writes, under the roles that config/rbac gives it.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Server is a running apiserver.
type Server struct {
	// Admin may do everything.
	Admin *rest.Config

	// Korthweb is a user of the name korthweb who may do what config/rbac allows the controller in the cluster.
	Korthweb *rest.Config

	env *envtest.Environment
}

// CRDs is the directory of Korthweb's own CustomResourceDefinitions.
func CRDs() string { return filepath.Join(root(), "config", "crd", "bases") }

// root of the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Start starts an apiserver. The caller has to stop it.
func Start(ctx context.Context) (*Server, error) {
	crds := []string{CRDs()}
	for _, module := range []string{"source-controller", "kustomize-controller", "helm-controller"} {
		dir, err := exec.Command("go", "-C", filepath.Join(root(), "hack", "stack", "programs"),
			"list", "-m", "-f", "{{.Dir}}", "github.com/fluxcd/"+module).Output()
		if err != nil {
			return nil, fmt.Errorf("finding the module of %s: %w", module, err)
		}
		crds = append(crds, filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "bases"))
	}
	assets := filepath.Join(root(), "bin", "stack")
	if _, err := os.Stat(filepath.Join(assets, "kube-apiserver")); err != nil {
		return nil, fmt.Errorf("%w: run make stack", err)
	}
	env := &envtest.Environment{BinaryAssetsDirectory: assets, CRDDirectoryPaths: crds, ErrorIfCRDPathMissing: true}
	admin, err := env.Start()
	if err != nil {
		return nil, fmt.Errorf("starting the control plane: %w", err)
	}
	s := &Server{Admin: admin, env: env}
	if err := s.grant(ctx); err != nil {
		return nil, errors.Join(err, env.Stop())
	}
	user, err := env.AddUser(envtest.User{Name: v1alpha1.FieldManager}, nil)
	if err != nil {
		return nil, errors.Join(err, env.Stop())
	}
	s.Korthweb = user.Config()
	return s, nil
}

// Stop stops the apiserver.
func (s *Server) Stop() error { return s.env.Stop() }

// grant gives the user that Korthweb runs as what config/rbac gives the controller, and no more.
func (s *Server) grant(ctx context.Context) error {
	c, err := client.New(s.Admin, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		return err
	}
	for _, file := range []string{"role.yaml", "applier_roles.yaml", "secret_reader_role.yaml"} {
		data, err := os.ReadFile(filepath.Join(root(), "config", "rbac", file))
		if err != nil {
			return err
		}
		for _, document := range strings.Split(string(data), "\n---\n") {
			role := &rbacv1.ClusterRole{}
			if err := yaml.UnmarshalStrict([]byte(document), role); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			// The Role is for the Secrets of sources, which are no concern of these tests.
			if role.Kind != "ClusterRole" {
				continue
			}
			if err := c.Create(ctx, role); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if strings.HasSuffix(role.Name, "-applier") || strings.HasSuffix(role.Name, "-secret-reader") {
				continue
			}
			if err := c.Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: role.Name},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: v1alpha1.FieldManager}},
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
