// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// certLifetime is longer than any demo stays up.
const certLifetime = 365 * 24 * time.Hour

// pki is the stack's certificate authority: one for the apiserver and its clients.
type pki struct {
	dir    string
	caCert *x509.Certificate
	caKey  crypto.Signer
	caPEM  []byte
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// newPKI makes an authority, the apiserver's certificate and the key that signs
// ServiceAccount tokens, in dir. Files of an earlier stack there are overwritten.
func newPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "korthweb-stack"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(certLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	p := &pki{dir: dir, caCert: cert, caKey: key, caPEM: encodeCert(der)}
	if err := os.WriteFile(p.path("ca.crt"), p.caPEM, 0o600); err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}

	serverCert, serverKey, err := p.issue(pkix.Name{CommonName: APIServer}, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	saKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	saPEM, err := encodeKey(saKey)
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"apiserver.crt": serverCert, "apiserver.key": serverKey, "sa.key": saPEM} {
		if err := os.WriteFile(p.path(name), data, 0o600); err != nil {
			return nil, fmt.Errorf("stack: %w", err)
		}
	}
	return p, nil
}

// issue signs a certificate for loopback, and returns it and its key as PEM.
func (p *pki) issue(subject pkix.Name, usage x509.ExtKeyUsage) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("stack: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("stack: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     p.caCert.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{usage},
		DNSNames:     []string{"localhost", "kubernetes.default.svc"},
		IPAddresses:  []net.IP{net.ParseIP(loopback)},
	}, p.caCert, private.Public(), p.caKey)
	if err != nil {
		return nil, nil, fmt.Errorf("stack: signing a certificate for %s: %w", subject, err)
	}
	key, err = encodeKey(private)
	return encodeCert(der), key, err
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// clientConfig is the configuration of a client that authenticates as user in groups.
func (p *pki) clientConfig(url, user string, groups ...string) (*rest.Config, error) {
	cert, key, err := p.issue(pkix.Name{CommonName: user, Organization: groups}, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            url,
		TLSClientConfig: rest.TLSClientConfig{CAData: p.caPEM, CertData: cert, KeyData: key},
	}, nil
}

// writeKubeconfig writes what cfg says as a kubeconfig whose user has that name.
func writeKubeconfig(path string, cfg *rest.Config, user string) error {
	c := clientcmdapi.NewConfig()
	c.Clusters["stack"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: cfg.CertData,
		ClientKeyData:         cfg.KeyData,
		Token:                 cfg.BearerToken,
	}
	c.Contexts["stack"] = &clientcmdapi.Context{Cluster: "stack", AuthInfo: user, Namespace: FluxNamespace}
	c.CurrentContext = "stack"
	// WriteToFile creates the file with mode 0600.
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return fmt.Errorf("stack: writing kubeconfig %s: %w", path, err)
	}
	return nil
}
