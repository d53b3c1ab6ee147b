// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
)

// keyPair is a Secret of cert-manager's: tls.crt, tls.key and ca.crt.
type keyPair struct {
	*corev1.Secret
	pair tls.Certificate
	leaf *x509.Certificate
}

func newKeyPair(t *testing.T, s *corev1.Secret) *keyPair {
	t.Helper()
	k, err := parseKeyPair(s)
	if err != nil {
		t.Fatalf("Secret %s/%s: %v", s.Namespace, s.Name, err)
	}
	return k
}

func parseKeyPair(s *corev1.Secret) (*keyPair, error) {
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	return &keyPair{Secret: s, pair: pair, leaf: pair.Leaf}, nil
}

func (k *keyPair) lifetime() time.Duration { return k.leaf.NotAfter.Sub(k.leaf.NotBefore) }

// verify verifies the chain up to a CA, as who connects (or is connected to) does.
func (k *keyPair) verify(ca *keyPair, host string, usage x509.ExtKeyUsage) error {
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage},
	}
	opts.Roots.AddCert(ca.leaf)
	for _, der := range k.pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		opts.Intermediates.AddCert(c)
	}
	_, err := k.leaf.Verify(opts)
	return err
}

// trusted are the authorities in the Secret's ca.crt.
func (k *keyPair) trusted() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(k.Data["ca.crt"])
	return pool
}

// serveOnce serves one connection on loopback as the DICOM gateway does from its Secret: it asks for a certificate of
// whoever ca.crt trusts. The returned channel gets what the server says of the handshake.
func serveOnce(t *testing.T, dicom *keyPair) (net.Conn, <-chan error) {
	t.Helper()
	g := gomega(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{dicom.pair},
		ClientCAs:    dicom.trusted(),
		ClientAuth:   tls.RequireAndVerifyClientCert,
	})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = listener.Close() })
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		err = conn.(*tls.Conn).HandshakeContext(t.Context())
		served <- errors.Join(err, conn.Close())
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = conn.Close() })
	return conn, served
}

// clientConfig is of a modality that trusts the ca.crt of one Secret and shows the certificate of another, or none.
func clientConfig(trusts, shows *keyPair, host string, version uint16) *tls.Config {
	config := &tls.Config{RootCAs: trusts.trusted(), ServerName: host, MinVersion: version, MaxVersion: version}
	if shows != nil {
		// Whatever authorities the server names: a client that is up to something does not heed them.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shows.pair, nil }
	}
	return config
}

// expectHandshake connects to a server with the Secret dicom, and expects the server to refuse with a text, or not to.
func expectHandshake(t *testing.T, dicom, trusts, shows *keyPair, version uint16, refused string) {
	t.Helper()
	g := gomega(t)
	conn, served := serveOnce(t, dicom)
	client := tls.Client(conn, clientConfig(trusts, shows, dicom.leaf.DNSNames[0], version))
	err := client.HandshakeContext(t.Context())
	var verdict error
	g.Eventually(served).Should(Receive(&verdict))
	if refused == "" {
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(verdict).NotTo(HaveOccurred())
		return
	}
	g.Expect(verdict).To(MatchError(ContainSubstring(refused)))
}
