// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// site is a tenant behind its own Traefik.
type site struct {
	*traefik
	orthanc  *orthanc
	web      certificate // of the web host
	modality certificate // of the one modality
	https    *http.Client
}

// newSite renders and installs a tenant, and starts its pods.
func newSite(t *testing.T, c *cluster, name string) *site {
	g := NewWithT(t)
	r := renderTenant(t, name, c.behindTraefik(t))
	for _, layer := range r.bundle.Layers {
		for _, o := range layer.Objects {
			g.Expect(o.APIVersion).NotTo(ContainSubstring("istio.io"), "%s/%s of a tenant outside the mesh", o.Kind, o.Name)
		}
	}
	c.install(t, r)
	s := &site{orthanc: r.startOrthanc(t, "a", newDir(t), r.startDatabase(t))}
	c.serve(t, s.orthanc)
	s.web, s.modality = c.certificate(t, r, "web-tls"), c.certificate(t, r, "modality-ct-1")
	c.certificate(t, r, "dicom-tls")
	s.traefik = c.startTraefik(t, r)
	s.https = s.client(t, s.web)
	// Traefik is ready before it has read all routes.
	g.Eventually(func(g Gomega) {
		status, _, _, err := s.try(http.MethodGet, "https://"+s.host()+"/system", "", s.orthanc.login, s.orthanc.password)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(status).To(Equal(http.StatusOK))
		g.Expect(s.dicom(t, "echoscu", s.withCertificate(s.modality))).To(Succeed())
	}).WithTimeout(patience).WithPolling(poll).Should(Succeed(), s.running.tail)
	return s
}

// behindTraefik is a tenant's specification with one modality and Traefik.
func (c *cluster) behindTraefik(t *testing.T) v1alpha1.TenantSpec {
	spec := scanner(t)
	spec.Ingress.Provider = v1alpha1.TraefikIngress
	spec.Ingress.DICOM.Port = 2762
	spec.Ingress.Chart = v1alpha1.ChartSpec{URL: c.charts.Traefik.URL, Version: c.charts.Traefik.Version, Insecure: true}
	return spec
}

func (s *site) host() string { return string(s.tenant.Spec.Ingress.Web.Host) }

// client connects to Traefik whatever host is asked for, trusts the tenant's CA alone, and follows no redirect.
func (s *site) client(t *testing.T, trusted certificate) *http.Client {
	g := NewWithT(t)
	ca, err := os.ReadFile(trusted.ca())
	g.Expect(err).NotTo(HaveOccurred())
	pool := x509.NewCertPool()
	g.Expect(pool.AppendCertsFromPEM(ca)).To(BeTrue())
	ports := map[string]string{"80": s.address(t, 80), "443": s.address(t, 443)}
	return &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: pool},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				return new(net.Dialer).DialContext(ctx, network, ports[port])
			},
		},
	}
}

// get asks for a path of a host over HTTPS with the password of the tenant's users.
func (s *site) get(t *testing.T, host, path string) (int, http.Header, []byte) {
	return s.do(t, http.MethodGet, "https://"+host+path, "", s.orthanc.login, s.orthanc.password)
}

func (s *site) do(t *testing.T, method, url, body, login, password string) (int, http.Header, []byte) {
	status, header, data, err := s.try(method, url, body, login, password)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return status, header, data
}

func (s *site) try(method, url, body, login, password string) (int, http.Header, []byte, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	if login != "" {
		req.SetBasicAuth(login, password)
	}
	resp, err := s.https.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, data, err
}

// studies are those with a UID that the tenant has, as its users find them over HTTPS by REST and by DICOMweb.
func (s *site) studies(t *testing.T, uid string) (rest, web int) {
	g := NewWithT(t)
	var found []any
	status, _, data := s.do(t, http.MethodPost, "https://"+s.host()+"/tools/find",
		fmt.Sprintf(`{"Level": "Study", "Query": {"StudyInstanceUID": %q}}`, uid), s.orthanc.login, s.orthanc.password)
	g.Expect(status).To(Equal(http.StatusOK))
	g.Expect(json.Unmarshal(data, &found)).To(Succeed())
	rest = len(found)
	status, _, data = s.get(t, s.host(), "/dicom-web/studies?StudyInstanceUID="+uid)
	g.Expect(status).To(Equal(http.StatusOK))
	found = nil
	g.Expect(json.Unmarshal(data, &found)).To(Succeed())
	return rest, len(found)
}

// withCertificate are dcmtk's options for TLS with a client certificate, to a server of the tenant's CA.
func (s *site) withCertificate(c certificate) []string {
	return []string{"+tls", c.key(), c.cert(), "+cf", s.web.ca()}
}

// dicom runs one of dcmtk's clients against Traefik's DICOM port. Those of 3.6.7 send no server name.
func (s *site) dicom(t *testing.T, program string, options []string, files ...string) error {
	host, port, err := net.SplitHostPort(s.address(t, s.tenant.Spec.Ingress.DICOM.Port))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	args := slices.Concat(
		[]string{"-v", "-ta", "20", "-td", "20", "-aet", "CT1", "-aec", string(s.tenant.Spec.Orthanc.AETitle)}, options,
		[]string{host, port}, files,
	)
	out, err := run(t, program, args...)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// TestStudyThroughTraefik sends studies to two tenants, each behind its own Traefik: from a modality over DICOM TLS
// into Orthanc and its database, and out of it over HTTPS.
func TestStudyThroughTraefik(t *testing.T) {
	c := startCluster(t)
	north, south := newSite(t, c, "north"), newSite(t, c, "south")
	others := map[*site]*site{north: south, south: north}

	for s, other := range others {
		t.Run(s.tenant.Name, func(t *testing.T) {
			s.takesStudies(t, other)
			s.refusesStrangers(t, other)
			s.servesItsHost(t, other)
			s.seesItsNamespaceOnly(t, c, other)
		})
	}

	t.Run("without client certificates", func(t *testing.T) {
		g := NewWithT(t)
		anonymous := []string{"+tla", "+cf", south.web.ca()}
		g.Expect(south.dicom(t, "echoscu", anonymous)).NotTo(Succeed())
		spec := south.tenant.Spec.DeepCopy()
		spec.Ingress.DICOM.ClientCertificates = v1alpha1.ClientCertificatesNone
		c.apply(t, renderTenant(t, "south", *spec))
		g.Eventually(func() error { return south.dicom(t, "echoscu", anonymous) }).
			WithTimeout(patience).WithPolling(poll).Should(Succeed())
		g.Expect(south.dicom(t, "echoscu", nil)).NotTo(Succeed(), "still without TLS")
		g.Expect(north.dicom(t, "echoscu", []string{"+tla", "+cf", north.web.ca()})).NotTo(Succeed(), "the other tenant's")
	})
	t.Run("without the CA of client certificates nobody is let in", func(t *testing.T) {
		g := NewWithT(t)
		option := &unstructured.Unstructured{}
		option.SetAPIVersion("traefik.io/v1alpha1")
		option.SetKind("TLSOption")
		option.SetNamespace(north.tenant.Spec.Namespace)
		option.SetName("dicom")
		g.Expect(c.admin.Patch(t.Context(), option, client.RawPatch(types.MergePatchType,
			[]byte(`{"spec":{"clientAuth":{"secretNames":["gone"]}}}`)))).To(Succeed())
		g.Eventually(func() error { return north.dicom(t, "echoscu", north.withCertificate(north.modality)) }).
			WithTimeout(patience).WithPolling(poll).ShouldNot(Succeed())
		g.Expect(north.dicom(t, "echoscu", []string{"+tla", "+cf", north.web.ca()})).NotTo(Succeed())
		g.Expect(north.dicom(t, "echoscu", nil)).NotTo(Succeed())
	})
}

func (s *site) takesStudies(t *testing.T, other *site) {
	t.Run("a modality's study is found here and nowhere else", func(t *testing.T) {
		g := NewWithT(t)
		sent := newStudy(t, 3)
		var files []string
		for _, uid := range sent.instances {
			files = append(files, sent.file(uid))
		}
		g.Expect(s.dicom(t, "storescu", s.withCertificate(s.modality), files...)).To(Succeed())
		rest, web := s.studies(t, sent.uid)
		g.Expect([]int{rest, web}).To(Equal([]int{1, 1}))
		g.Expect(s.orthanc.instances(t, sent)).To(Equal(sent.instances))
		rest, web = other.studies(t, sent.uid)
		g.Expect([]int{rest, web}).To(Equal([]int{0, 0}))

		log, err := os.ReadFile(s.running.log)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(bytes.Count(log, []byte(`"RequestMethod":"GET"`))).To(BeNumerically(">", 0), "no access log")
		g.Expect(string(log)).NotTo(ContainSubstring(sent.uid), "the access log names a study")
	})
}

func (s *site) refusesStrangers(t *testing.T, other *site) {
	const failed, distrusted = "Association Request Failed", "certificate verify failed"
	for name, test := range map[string]struct {
		options []string
		reason  string // of dcmtk
		alert   string // of Traefik, by which it ends TLS
	}{
		"plaintext":                             {nil, failed, ""},
		"no certificate":                        {[]string{"+tla", "+cf", s.web.ca()}, failed, "certificate required"},
		"the other tenant's modality":           {s.withCertificate(other.modality), failed, "unknown certificate authority"},
		"a server's certificate of the same CA": {s.withCertificate(s.web), failed, "bad certificate"},
		"a modality of the other tenant's CA alone": {
			[]string{"+tls", s.modality.key(), s.modality.cert(), "+cf", other.web.ca()}, distrusted, "",
		},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			g := NewWithT(t)
			refused := newStudy(t, 1)
			g.Expect(s.dicom(t, "echoscu", test.options)).To(MatchError(ContainSubstring(test.reason)))
			g.Expect(s.dicom(t, "storescu", test.options, refused.file(refused.instances[0]))).To(MatchError(ContainSubstring(test.reason)))
			g.Expect(s.orthanc.instances(t, refused)).To(BeEmpty())
			if test.alert != "" {
				g.Expect(s.alert(t, test.options)).To(MatchError(ContainSubstring(test.alert)))
			}
		})
	}
}

// alert connects to the DICOM port with the certificate of dcmtk's options and returns what ends the connection,
// which dcmtk does not tell.
func (s *site) alert(t *testing.T, options []string) error {
	g := NewWithT(t)
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} //nolint:gosec // the server's verdict is asked for
	if options[0] == "+tls" {
		pair, err := tls.LoadX509KeyPair(options[2], options[1])
		g.Expect(err).NotTo(HaveOccurred())
		// Whatever CAs the server says that it takes.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	conn, err := tls.Dial("tcp", s.address(t, s.tenant.Spec.Ingress.DICOM.Port), config)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { g.Expect(conn.Close()).To(Succeed()) }()
	g.Expect(conn.SetDeadline(time.Now().Add(patience))).To(Succeed())
	_, err = conn.Read(make([]byte, 1))
	return err
}

func (s *site) servesItsHost(t *testing.T, other *site) {
	t.Run("HTTP is sent on to HTTPS", func(t *testing.T) {
		g := NewWithT(t)
		status, header, _ := s.do(t, http.MethodGet, "http://"+s.host()+"/app/x?y=z", "", "", "")
		g.Expect(status).To(Equal(http.StatusMovedPermanently))
		g.Expect(header.Get("Location")).To(Equal("https://" + s.host() + "/app/x?y=z"))
	})
	t.Run("HTTPS asks for a password and for HTTPS in future", func(t *testing.T) {
		g := NewWithT(t)
		status, header, _ := s.do(t, http.MethodGet, "https://"+s.host()+"/system", "", "", "")
		g.Expect(status).To(Equal(http.StatusUnauthorized))
		g.Expect(header.Get("Strict-Transport-Security")).To(Equal("max-age=31536000"))
		status, _, _ = s.do(t, http.MethodGet, "https://"+s.host()+"/system", "", other.orthanc.login, other.orthanc.password)
		g.Expect(status).To(Equal(http.StatusUnauthorized), "the other tenant's password")
	})
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		for _, port := range []int32{443, s.tenant.Spec.Ingress.DICOM.Port} {
			_, err := tls.Dial("tcp", s.address(t, port), &tls.Config{
				InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, //nolint:gosec // what is refused
			})
			NewWithT(t).Expect(err).To(MatchError(ContainSubstring("protocol version not supported")), "port %d", port)
		}
	})
	t.Run("the other tenant's host is not served", func(t *testing.T) {
		g := NewWithT(t)
		_, _, _, err := s.try(http.MethodGet, "https://"+other.host()+"/system", "", "", "")
		g.Expect(err).To(MatchError(ContainSubstring("certificate is valid for " + string(s.tenant.Spec.Ingress.DICOM.Host))))
		status, _, _ := s.do(t, http.MethodGet, "http://"+other.host()+"/system", "", "", "")
		g.Expect(status).To(Equal(http.StatusNotFound))

		// As who does not look at certificates.
		transport := s.https.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.InsecureSkipVerify = true //nolint:gosec // what is tested
		careless := *s
		careless.https = &http.Client{Transport: transport, Timeout: patience}
		status, _, _ = careless.get(t, other.host(), "/system")
		g.Expect(status).To(Equal(http.StatusNotFound))
	})
	t.Run("neither dashboard nor API is served", func(t *testing.T) {
		for name, port := range s.ports {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/rawdata", port))
			if err != nil {
				continue // closed to plain HTTP
			}
			NewWithT(t).Expect(resp.StatusCode).To(BeElementOf(http.StatusNotFound, http.StatusBadRequest), "port %d of the container", name)
			NewWithT(t).Expect(resp.Body.Close()).To(Succeed())
		}
	})
}

func (s *site) seesItsNamespaceOnly(t *testing.T, c *cluster, other *site) {
	t.Run("Traefik may read its own namespace only", func(t *testing.T) {
		g := NewWithT(t)
		config, _, err := c.ServiceAccountConfig(t.Context(), s.tenant.Spec.Namespace, "traefik")
		g.Expect(err).NotTo(HaveOccurred())
		account := c.client(t, config)
		g.Expect(account.List(t.Context(), &corev1.SecretList{}, client.InNamespace(s.tenant.Spec.Namespace))).To(Succeed())
		for _, o := range []client.ObjectList{&corev1.SecretList{}, &corev1.ServiceList{}, &corev1.ConfigMapList{}} {
			err = account.List(t.Context(), o, client.InNamespace(other.tenant.Spec.Namespace))
			g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%T: %v", o, err)
			err = account.List(t.Context(), o)
			g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%T of all namespaces: %v", o, err)
		}
	})
}
