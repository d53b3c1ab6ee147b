// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

const (
	certHospital = "cert-hospital" // all from its own CA
	certClinic   = "cert-clinic"   // the web host from the platform's issuer
	hour         = time.Hour
)

// platformIssuer is a ClusterIssuer as a platform has one of its own, here a CA.
const platformIssuer = `
- apiVersion: cert-manager.io/v1
  kind: ClusterIssuer
  metadata: {name: platform-root}
  spec: {selfSigned: {}}
- apiVersion: cert-manager.io/v1
  kind: Certificate
  metadata: {name: platform, namespace: cert-manager}
  spec:
    isCA: true
    commonName: platform
    secretName: platform
    privateKey: {algorithm: ECDSA, size: 256}
    issuerRef: {kind: ClusterIssuer, name: platform-root}
- apiVersion: cert-manager.io/v1
  kind: ClusterIssuer
  metadata: {name: platform}
  spec: {ca: {secretName: platform}}
`

// certificates is what the steps of TestCertificates share.
type certificates struct {
	env *environment
	f   *facilities
}

// cert-manager's own controllers issue the certificates of two tenants, and a TLS server with the Secret that the
// DICOM gateway is given tells their modalities apart. The steps build on each other: a tenant's certificates are
// renewed, lose a modality, outlive the tenant, and get a new CA.
func TestCertificates(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	var issuer []map[string]any
	g.Expect(yaml.Unmarshal([]byte(platformIssuer), &issuer)).To(Succeed())
	for _, object := range issuer {
		create(t, shared, &unstructured.Unstructured{Object: object})
	}
	c := &certificates{env: shared, f: newFacilities(t, shared, "certificates", map[string]string{
		certHospital + ".yaml": hospitalFile("ct-1", "mr-1"),
		certClinic + ".yaml": tenantFile(certClinic,
			"certificates: {duration: 100h, renewBefore: 10h, issuerRef: {name: platform}}",
			"orthanc: {modalities: [{name: ct-1, aeTitle: CT1, host: 10.1.0.1, port: 104}]}"),
	}, allow("spec.certificates.issuerRef"))}
	g.Eventually(c.f.ready(certHospital, certClinic)).Should(Succeed())

	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"the CA", c.testCA},
		{"certificates", c.testLeaves},
		{"the platform's issuer", c.testPlatformIssuer},
		{"handshakes", c.testHandshakes},
		{"renewed", c.testRenewal},
		{"removed modality", c.testRemovedModality},
		{"removed tenant", c.testRemovedTenant},
		{"new CA", c.testNewCA},
	} {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

func hospitalFile(modalities ...string) string {
	lines := []string{"certificates: {clients: {duration: 2000h, renewBefore: 500h}}", "orthanc:", "  modalities:"}
	for i, name := range modalities {
		lines = append(lines, fmt.Sprintf("  - {name: %s, aeTitle: M%d, host: 10.0.0.%d, port: 104}", name, i, i+1))
	}
	return tenantFile(certHospital, lines...)
}

func (c *certificates) testCA(t *testing.T) {
	g := gomega(t)
	ca := c.read(t, certHospital, "tenant-ca")
	g.Expect(ca.leaf.IsCA).To(BeTrue())
	g.Expect(ca.leaf.Subject.CommonName).To(Equal("cert-hospital CA"))
	g.Expect(ca.leaf.KeyUsage & x509.KeyUsageCertSign).NotTo(BeZero())
	g.Expect(ca.leaf.ExtKeyUsage).To(BeEmpty())
	g.Expect(ca.leaf.CheckSignatureFrom(ca.leaf)).To(Succeed())
	g.Expect(ca.lifetime()).To(Equal(87600 * hour))
	g.Expect(ca.pair.PrivateKey.(*rsa.PrivateKey).N.BitLen()).To(Equal(4096))
	other := c.read(t, certClinic, "tenant-ca")
	g.Expect(other.leaf.PublicKey).NotTo(Equal(ca.leaf.PublicKey))
}

func (c *certificates) testLeaves(t *testing.T) {
	ca, otherCA := c.read(t, certHospital, "tenant-ca"), c.read(t, certClinic, "tenant-ca")
	keys := map[string]string{}
	for _, test := range []struct {
		secret, host string
		lifetime     time.Duration
		usage        x509.ExtKeyUsage
	}{
		{secret: "web-tls", host: "cert-hospital.example.com", lifetime: 2160 * hour, usage: x509.ExtKeyUsageServerAuth},
		{secret: "dicom-tls", host: "dicom.cert-hospital.example.com", lifetime: 2160 * hour, usage: x509.ExtKeyUsageServerAuth},
		{secret: "modality-ct-1", lifetime: 2000 * hour, usage: x509.ExtKeyUsageClientAuth},
		{secret: "modality-mr-1", lifetime: 2000 * hour, usage: x509.ExtKeyUsageClientAuth},
	} {
		t.Run(test.secret, func(t *testing.T) {
			g := gomega(t)
			s := c.read(t, certHospital, test.secret)
			g.Expect(s.Data["ca.crt"]).To(Equal(ca.Data["tls.crt"]))
			g.Expect(s.verify(ca, test.host, test.usage)).To(Succeed())
			g.Expect(s.verify(otherCA, test.host, test.usage)).To(MatchError(ContainSubstring("unknown authority")))
			g.Expect(s.leaf.ExtKeyUsage).To(Equal([]x509.ExtKeyUsage{test.usage}))
			g.Expect(s.leaf.IsCA).To(BeFalse())
			g.Expect(s.lifetime()).To(Equal(test.lifetime))
			switch key := s.pair.PrivateKey.(type) {
			case *rsa.PrivateKey:
				g.Expect(key.N.BitLen()).To(Equal(2048))
			case *ecdsa.PrivateKey:
				g.Expect(test.secret).To(Equal("web-tls"))
			default:
				t.Errorf("a key of type %T", key)
			}
			key := string(s.Data["tls.key"])
			g.Expect(keys[key]).To(BeEmpty(), "each has a key of its own")
			keys[key] = test.secret
			if test.secret == "web-tls" {
				g.Expect(s.leaf.Subject.String()).To(BeEmpty(), "an ACME authority takes only the DNS name")
			} else {
				g.Expect(s.leaf.Subject.Organization).To(Equal([]string{certHospital}))
			}
			if test.host == "" {
				g.Expect("modality-" + s.leaf.Subject.CommonName).To(Equal(test.secret))
				g.Expect(s.leaf.DNSNames).To(BeEmpty())
			} else {
				g.Expect(s.leaf.DNSNames).To(Equal([]string{test.host}))
			}
		})
	}
	// As a person finds them.
	g := gomega(t)
	list := &corev1.SecretList{}
	g.Expect(c.env.client.List(t.Context(), list, client.HasLabels{"korthweb.digihunch.com/modality"},
		client.MatchingLabels{v1alpha1.TenantLabel: certHospital})).To(Succeed())
	g.Expect(list.Items).To(HaveLen(2))
}

func (c *certificates) testPlatformIssuer(t *testing.T) {
	g := gomega(t)
	platform := newKeyPair(t, c.secret(t, "cert-manager", "platform"))
	own := c.read(t, certClinic, "tenant-ca")
	web, dicom := c.read(t, certClinic, "web-tls"), c.read(t, certClinic, "dicom-tls")
	g.Expect(web.verify(platform, "cert-clinic.example.com", x509.ExtKeyUsageServerAuth)).To(Succeed())
	g.Expect(web.lifetime()).To(Equal(100 * hour))
	g.Expect(dicom.verify(own, "dicom.cert-clinic.example.com", x509.ExtKeyUsageServerAuth)).To(Succeed())
	g.Expect(dicom.verify(platform, "dicom.cert-clinic.example.com", x509.ExtKeyUsageServerAuth)).NotTo(Succeed())
}

func (c *certificates) testHandshakes(t *testing.T) {
	ct, dicom := c.read(t, certHospital, "modality-ct-1"), c.read(t, certHospital, "dicom-tls")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, test := range []struct {
			name    string
			shows   *keyPair
			refused string
		}{
			{name: "a modality", shows: ct},
			{name: "another modality", shows: c.read(t, certHospital, "modality-mr-1")},
			{name: "no certificate", refused: "client didn't provide a certificate"},
			{name: "another tenant's modality", shows: c.read(t, certClinic, "modality-ct-1"), refused: "unknown authority"},
			{name: "the web server's certificate", shows: c.read(t, certHospital, "web-tls"), refused: "incompatible key usage"},
			{name: "the DICOM server's own", shows: dicom, refused: "incompatible key usage"},
			{name: "the platform's", shows: c.read(t, certClinic, "web-tls"), refused: "unknown authority"},
		} {
			t.Run(tls.VersionName(version)+"/"+test.name, func(t *testing.T) {
				expectHandshake(t, dicom, ct, test.shows, version, test.refused)
			})
		}
	}
	t.Run("without TLS", func(t *testing.T) {
		g := gomega(t)
		conn, served := serveOnce(t, dicom)
		_, err := conn.Write([]byte{0x01, 0x00, 0x00, 0x00, 0x00, 0xcd, 0x00, 0x01}) // as an A-ASSOCIATE-RQ begins
		g.Expect(err).NotTo(HaveOccurred())
		g.Eventually(served).Should(Receive(MatchError(ContainSubstring("does not look like a TLS handshake"))))
	})
	t.Run("a modality at another tenant's server", func(t *testing.T) {
		g := gomega(t)
		other := c.read(t, certClinic, "dicom-tls")
		conn, _ := serveOnce(t, other)
		err := tls.Client(conn, clientConfig(ct, ct, other.leaf.DNSNames[0], tls.VersionTLS12)).HandshakeContext(t.Context())
		g.Expect(err).To(MatchError(ContainSubstring("unknown authority")), "the modality is not fooled either")
	})
}

func (c *certificates) testRenewal(t *testing.T) {
	g := gomega(t)
	ca, ct := c.read(t, certHospital, "tenant-ca"), c.read(t, certHospital, "modality-ct-1")
	before := c.read(t, certHospital, "dicom-tls")
	c.renew(t, certHospital, "dicom-tls")
	after := c.read(t, certHospital, "dicom-tls")
	g.Expect(after.Data["tls.key"]).NotTo(Equal(before.Data["tls.key"]))
	g.Expect(after.Data["ca.crt"]).To(Equal(ca.Data["tls.crt"]))
	g.Expect(after.verify(ca, before.leaf.DNSNames[0], x509.ExtKeyUsageServerAuth)).To(Succeed())
	expectHandshake(t, after, ct, ct, tls.VersionTLS12, "")

	// A renewed CA keeps its key, so what it has signed stays good under both.
	c.renew(t, certHospital, "tenant-ca")
	renewed := c.read(t, certHospital, "tenant-ca")
	g.Expect(renewed.Data["tls.key"]).To(Equal(ca.Data["tls.key"]))
	g.Expect(after.verify(renewed, before.leaf.DNSNames[0], x509.ExtKeyUsageServerAuth)).To(Succeed())
	c.renew(t, certHospital, "modality-ct-1")
	c.renew(t, certHospital, "dicom-tls")
	expectHandshake(t, c.read(t, certHospital, "dicom-tls"), ct, ct, tls.VersionTLS12, "")
	expectHandshake(t, c.read(t, certHospital, "dicom-tls"), ct, c.read(t, certHospital, "modality-ct-1"), tls.VersionTLS12, "")
}

// The Certificate of a modality that is declared no longer goes; what was issued is good until its end, for TLS.
// docs/certificates.md says what keeps the modality out.
func (c *certificates) testRemovedModality(t *testing.T) {
	g := gomega(t)
	mr := c.read(t, certHospital, "modality-mr-1")
	revision := c.f.push(map[string]string{certHospital + ".yaml": hospitalFile("ct-1")})
	g.Eventually(c.f.readyAt(revision, certHospital)).Should(Succeed())
	g.Expect(c.f.gone(certificate(certHospital, "modality-mr-1"))()).To(Succeed())
	g.Expect(c.read(t, certHospital, "modality-mr-1").Data).To(Equal(mr.Data))
	expectHandshake(t, c.read(t, certHospital, "dicom-tls"), mr, mr, tls.VersionTLS12, "")

	g.Expect(c.env.client.Delete(t.Context(), mr.Secret)).To(Succeed())
	g.Consistently(func() bool {
		err := c.env.client.Get(t.Context(), client.ObjectKeyFromObject(mr.Secret), &corev1.Secret{})
		return apierrors.IsNotFound(err)
	}).Should(BeTrue(), "nobody issues it anew")
}

// A tenant that was removed under deletionPolicy Retain and comes back has the same CA, and its modalities the
// certificates that they were given.
func (c *certificates) testRemovedTenant(t *testing.T) {
	g := gomega(t)
	names := []string{"tenant-ca", "web-tls", "dicom-tls", "modality-ct-1"}
	before := map[string]map[string][]byte{}
	for _, name := range names {
		before[name] = c.read(t, certHospital, name).Data
	}
	c.f.push(nil, certHospital+".yaml")
	g.Eventually(c.f.gone(&v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, certHospital)})).Should(Succeed())
	g.Expect(c.f.gone(certificate(certHospital, "dicom-tls"))()).To(Succeed())
	kept := certificate(certHospital, "tenant-ca")
	g.Expect(c.env.client.Get(t.Context(), client.ObjectKeyFromObject(kept), kept)).To(Succeed())
	g.Expect(kept.GetDeletionTimestamp()).To(BeNil())

	revision := c.f.push(map[string]string{certHospital + ".yaml": hospitalFile("ct-1")})
	c.f.approveAdoption(t, certHospital)
	g.Eventually(c.f.readyAt(revision, certHospital)).Should(Succeed())
	for _, name := range names {
		g.Expect(c.read(t, certHospital, name).Data).To(Equal(before[name]), name)
	}
}

// The way of docs/certificates.md for a key that was stolen: a new CA, and new certificates from it.
func (c *certificates) testNewCA(t *testing.T) {
	g := gomega(t)
	old := c.read(t, certHospital, "tenant-ca")
	stolen := c.read(t, certHospital, "modality-ct-1")
	g.Expect(c.env.client.Delete(t.Context(), old.Secret)).To(Succeed())
	g.Eventually(c.issued(t, certHospital, "tenant-ca", old)).Should(Succeed())
	ca := c.read(t, certHospital, "tenant-ca")
	g.Expect(ca.Data["tls.key"]).NotTo(Equal(old.Data["tls.key"]))
	for _, name := range []string{"web-tls", "dicom-tls", "modality-ct-1"} {
		c.renew(t, certHospital, name)
	}
	dicom, ct := c.read(t, certHospital, "dicom-tls"), c.read(t, certHospital, "modality-ct-1")
	g.Expect(dicom.Data["ca.crt"]).To(Equal(ca.Data["tls.crt"]))
	expectHandshake(t, dicom, ct, ct, tls.VersionTLS12, "")
	expectHandshake(t, dicom, ct, stolen, tls.VersionTLS12, "unknown authority")
}

// renew has a certificate issued anew, as `cmctl renew` does: by its condition Issuing.
func (c *certificates) renew(t *testing.T, tenant, name string) {
	t.Helper()
	g := gomega(t)
	before := c.read(t, tenant, name)
	cert := certificate(tenant, name)
	g.Eventually(func(g Gomega) {
		g.Expect(c.env.client.Get(t.Context(), client.ObjectKeyFromObject(cert), cert)).To(Succeed())
		list, _, err := unstructured.NestedSlice(cert.Object, "status", "conditions")
		g.Expect(err).NotTo(HaveOccurred())
		list = append(list, map[string]any{
			"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "",
			"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
		})
		g.Expect(unstructured.SetNestedSlice(cert.Object, list, "status", "conditions")).To(Succeed())
		g.Expect(c.env.client.Status().Update(t.Context(), cert)).To(Succeed())
	}).Should(Succeed())
	g.Eventually(c.issued(t, tenant, name, before)).Should(Succeed())
}

// issued returns a function for Eventually that fails until a Secret has another certificate than before, whole.
func (c *certificates) issued(t *testing.T, tenant, name string, before *keyPair) func() error {
	return func() error {
		s := &corev1.Secret{}
		if err := c.env.client.Get(t.Context(), types.NamespacedName{Namespace: tenant + "-orthweb", Name: name}, s); err != nil {
			return err
		}
		pair, err := parseKeyPair(s)
		if err != nil {
			return err
		}
		if pair.leaf.SerialNumber.Cmp(before.leaf.SerialNumber) == 0 {
			return fmt.Errorf("%s: not issued anew", name)
		}
		return nil
	}
}

func (c *certificates) secret(t *testing.T, namespace, name string) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	gomega(t).Expect(c.env.client.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, s)).To(Succeed())
	return s
}

func (c *certificates) read(t *testing.T, tenant, name string) *keyPair {
	t.Helper()
	return newKeyPair(t, c.secret(t, tenant+"-orthweb", name))
}

func certificate(tenant, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"})
	u.SetNamespace(tenant + "-orthweb")
	u.SetName(name)
	return u
}
