// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// UserConfig returns a client configuration, and the path of a kubeconfig with the
// same content, for a user in groups. The user has the rights that RBAC gives it.
func (s *Stack) UserConfig(user string, groups ...string) (*rest.Config, string, error) {
	cfg, err := s.pki.clientConfig(s.apiURL, user, groups...)
	if err != nil {
		return nil, "", err
	}
	return s.withKubeconfig(cfg, user)
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
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(certLifetime.Seconds()))},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("stack: token for ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return s.withKubeconfig(&rest.Config{
		Host:            s.apiURL,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.pki.caPEM},
		BearerToken:     token.Status.Token,
	}, "system:serviceaccount:"+namespace+":"+name)
}

func (s *Stack) withKubeconfig(cfg *rest.Config, user string) (*rest.Config, string, error) {
	file := strings.NewReplacer(":", "_", "/", "_").Replace(user) + ".kubeconfig"
	path := filepath.Join(s.dir, "kubeconfigs", file)
	if err := writeKubeconfig(path, cfg, user); err != nil {
		return nil, "", err
	}
	return cfg, path, nil
}
