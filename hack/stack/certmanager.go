// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// CertManagerNamespace is where cert-manager's ServiceAccount is, and the Secrets of
// ClusterIssuers. It exists in a stack with Options.CertManager.
const CertManagerNamespace = "cert-manager"

// startCertManager starts cert-manager's controller as its own ServiceAccount. That is
// bound to cluster-admin and not to the roles of cert-manager's chart: what is under
// test here is what cert-manager makes of Korthweb's objects, not how it is installed.
func (s *Stack) startCertManager(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: CertManagerNamespace},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("stack: Namespace %s: %w", CertManagerNamespace, err)
	}
	const account = "cert-manager"
	if err := createAdminAccount(ctx, client, CertManagerNamespace, account); err != nil {
		return err
	}
	_, kubeconfig, err := s.ServiceAccountConfig(ctx, CertManagerNamespace, account)
	if err != nil {
		return err
	}
	health, err := FreeAddress()
	if err != nil {
		return err
	}
	return s.runOwn(ctx, CertManager, "http://"+health+"/readyz",
		"--kubeconfig="+kubeconfig,
		"--cluster-resource-namespace="+CertManagerNamespace,
		"--health-addr="+health,
	)
}
