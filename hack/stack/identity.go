// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"github.com/digihunch/korthweb/hack/stack/internal/pki"
)

// adminUser is in a group that RBAC does not limit.
const adminUser, adminGroup = "stack-admin", "system:masters"

func (s *Stack) pkiPath(name string) string { return filepath.Join(s.dir, "pki", name) }

// createIdentities makes the authority of the apiserver and its clients, and the
// files that the apiserver reads. Those of an earlier stack in the same directory
// are overwritten.
func (s *Stack) createIdentities() error {
	authority, err := pki.New()
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	server, err := authority.Server()
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	tokens, err := pki.SigningKey()
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	s.authority = authority
	if err := os.MkdirAll(s.pkiPath(""), 0o700); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	for name, data := range map[string][]byte{
		"ca.crt":        authority.CA,
		"apiserver.crt": server.Cert,
		"apiserver.key": server.Key,
		"sa.key":        tokens,
	} {
		if err := os.WriteFile(s.pkiPath(name), data, 0o600); err != nil {
			return fmt.Errorf("stack: %w", err)
		}
	}
	return nil
}

// UserConfig returns a client configuration, and the path of a kubeconfig with the
// same content, for a user in groups. The user has the rights that RBAC gives it.
func (s *Stack) UserConfig(user string, groups ...string) (*rest.Config, string, error) {
	cfg, err := s.clientConfig(user, groups...)
	if err != nil {
		return nil, "", err
	}
	path, err := s.writeKubeconfig(cfg, user)
	return cfg, path, err
}

// ServiceAccountConfig returns a client configuration, and the path of a kubeconfig
// with the same content, that authenticates as an existing ServiceAccount, with a
// token such as a pod of it would get. The token is good for a year, or until the
// ServiceAccount is deleted.
func (s *Stack) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, string, error) {
	client, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return nil, "", fmt.Errorf("stack: %w", err)
	}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(pki.Lifetime.Seconds()))},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("stack: token for ServiceAccount %s/%s: %w", namespace, name, err)
	}
	cfg := &rest.Config{
		Host:            s.apiURL,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.authority.CA},
		BearerToken:     token.Status.Token,
	}
	path, err := s.writeKubeconfig(cfg, "system:serviceaccount:"+namespace+":"+name)
	return cfg, path, err
}

// createAdminAccount creates a ServiceAccount, if absent, and binds it to cluster-admin.
func createAdminAccount(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	_, err := client.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("stack: ServiceAccount %s/%s: %w", namespace, name, err)
	}
	binding := namespace + "-" + name
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: binding},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("stack: ClusterRoleBinding %s: %w", binding, err)
	}
	return nil
}

func (s *Stack) clientConfig(user string, groups ...string) (*rest.Config, error) {
	pair, err := s.authority.Client(user, groups...)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	return &rest.Config{
		Host:            s.apiURL,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.authority.CA, CertData: pair.Cert, KeyData: pair.Key},
	}, nil
}

// writeKubeconfig writes cfg as a kubeconfig, readable by its owner only.
func (s *Stack) writeKubeconfig(cfg *rest.Config, user string) (string, error) {
	path := filepath.Join(s.dir, "kubeconfigs", strings.NewReplacer(":", "_", "/", "_").Replace(user))
	if user == adminUser {
		path = s.Kubeconfig()
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["stack"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: cfg.CertData,
		ClientKeyData:         cfg.KeyData,
		Token:                 cfg.BearerToken,
	}
	c.Contexts["stack"] = &clientcmdapi.Context{Cluster: "stack", AuthInfo: user, Namespace: FluxNamespace}
	c.CurrentContext = "stack"
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return "", fmt.Errorf("stack: writing kubeconfig %s: %w", path, err)
	}
	return path, nil
}
