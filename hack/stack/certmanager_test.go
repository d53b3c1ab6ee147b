// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/hack/stack"
)

const certificates = `
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: self-signed}
spec:
  selfSigned: {}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: ca}
spec:
  isCA: true
  commonName: Test CA
  secretName: ca
  privateKey: {algorithm: RSA, size: 2048}
  issuerRef: {name: self-signed}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: ca}
spec:
  ca: {secretName: ca}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: server}
spec:
  secretName: server
  dnsNames: [web.example.com]
  usages: [digital signature, key encipherment, server auth]
  privateKey: {algorithm: ECDSA, size: 256}
  issuerRef: {name: ca}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: client}
spec:
  secretName: client
  commonName: ct-1
  duration: 8760h
  usages: [digital signature, client auth]
  issuerRef: {name: ca}
`

// Traefik reads the certificates that cert-manager issues, so both are here.
func TestCertManager(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	s, err := stack.Start(ctx, stack.Options{Dir: t.TempDir(), CertManager: true, Progress: t.Output()})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(s.Stop()).To(Succeed()) })
	c := newClient(g, s.RESTConfig())

	const ns = "certificates"
	g.Expect(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})).To(Succeed())
	for doc := range strings.SplitSeq(certificates, "---\n") {
		u := &unstructured.Unstructured{}
		g.Expect(yaml.UnmarshalStrict([]byte(doc), &u.Object)).To(Succeed())
		u.SetNamespace(ns)
		g.Expect(c.Create(ctx, u)).To(Succeed())
	}

	t.Run("a chain from a self-signed CA", func(t *testing.T) {
		g := NewWithT(t)
		server, roots := issued(ctx, g, c, ns, "server")
		_, err := server.Verify(x509.VerifyOptions{
			Roots: roots, DNSName: "web.example.com", KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(server.Issuer.CommonName).To(Equal("Test CA"))
	})
	t.Run("a client certificate", func(t *testing.T) {
		g := NewWithT(t)
		cert, roots := issued(ctx, g, c, ns, "client")
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(cert.ExtKeyUsage).To(ConsistOf(x509.ExtKeyUsageClientAuth))
		g.Expect(cert.Subject.CommonName).To(Equal("ct-1"))
		g.Expect(cert.NotAfter.Sub(cert.NotBefore)).To(Equal(8760 * time.Hour))
	})
	t.Run("Traefik serves a certificate, with rights in its own namespace only", func(t *testing.T) {
		testTraefik(ctx, t, s, c, ns)
	})
	t.Run("a changed name is issued anew, also after a restart", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(s.Kill(stack.CertManager)).To(Succeed())
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "cert-manager.io/v1", "kind": "Certificate"}}
		u.SetNamespace(ns)
		u.SetName("server")
		g.Expect(c.Patch(ctx, u, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"dnsNames":["new.example.com"]}}`)))).To(Succeed())
		g.Expect(s.StartProcess(ctx, stack.CertManager)).To(Succeed())
		cert, _ := issued(ctx, g, c, ns, "server")
		g.Expect(cert.DNSNames).To(ConsistOf("new.example.com"))
	})
}

// issued waits until a Certificate is issued as its spec says now, and returns it with its authority.
func issued(ctx context.Context, g Gomega, c client.Client, namespace, name string) (*x509.Certificate, *x509.CertPool) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "cert-manager.io/v1", "kind": "Certificate"}}
	g.Eventually(func(g Gomega) {
		g.Expect(c.Get(ctx, key, u)).To(Succeed())
		g.Expect(readyCondition(u)).To(And(
			HaveKeyWithValue("status", "True"), HaveKeyWithValue("observedGeneration", u.GetGeneration())))
	}, "60s", "100ms").Should(Succeed())
	var secret corev1.Secret
	g.Expect(c.Get(ctx, key, &secret)).To(Succeed())
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	g.Expect(err).NotTo(HaveOccurred())
	roots := x509.NewCertPool()
	g.Expect(roots.AppendCertsFromPEM(secret.Data["ca.crt"])).To(BeTrue())
	return pair.Leaf, roots
}

func testTraefik(ctx context.Context, t *testing.T, s *stack.Stack, c client.Client, ns string) {
	g := NewWithT(t)
	account := metav1.ObjectMeta{Name: "traefik", Namespace: ns}
	read := []string{"get", "list", "watch"}
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: account},
		&rbacv1.Role{ObjectMeta: account, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"configmaps", "secrets", "services"}, Verbs: read},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
			{APIGroups: []string{"traefik.io"}, Resources: []string{"*"}, Verbs: read},
		}},
		&rbacv1.RoleBinding{
			ObjectMeta: account,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account.Name, Namespace: ns}},
		},
		&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "traefik.io/v1alpha1", "kind": "TLSStore",
			"metadata": map[string]any{"name": "default", "namespace": ns},
			"spec":     map[string]any{"defaultCertificate": map[string]any{"secretName": "server"}},
		}},
	} {
		g.Expect(c.Create(ctx, object)).To(Succeed())
	}
	_, kubeconfig, err := s.ServiceAccountConfig(ctx, ns, account.Name)
	g.Expect(err).NotTo(HaveOccurred())
	web, err := stack.FreeAddress()
	g.Expect(err).NotTo(HaveOccurred())
	ping, err := stack.FreeAddress()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(s.Run(ctx, stack.Program{
		Name: stack.Traefik,
		Path: s.ProgramPath(stack.Traefik),
		Args: []string{
			"--entryPoints.websecure.address=" + web,
			"--entryPoints.traefik.address=" + ping,
			"--ping=true",
			"--providers.kubernetescrd=true",
			"--providers.kubernetescrd.namespaces=" + ns,
			"--providers.kubernetescrd.disableClusterScopeResources=true",
		},
		// Where the test itself runs in a pod, Traefik would take that pod's cluster.
		Env:      []string{"KUBECONFIG=" + kubeconfig, "KUBERNETES_SERVICE_HOST="},
		ReadyURL: "http://" + ping + "/ping",
	})).To(Succeed(), "go run ./hack/stack/build --all builds Traefik")

	_, roots := issued(ctx, g, c, ns, "server")
	g.Eventually(func() error {
		conn, err := tls.Dial("tcp", web, &tls.Config{RootCAs: roots, ServerName: "web.example.com"})
		if err != nil {
			return err
		}
		return conn.Close()
	}, "30s", "100ms").Should(Succeed())
}
