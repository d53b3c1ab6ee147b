// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// places are where a definition names another machine.
var places = []struct{ spec, field string }{
	{"orthanc: {modalities: [{name: a, aeTitle: A, host: '%s', port: 104}]}", "spec.orthanc.modalities[0].host"},
	{"ingress: {egress: {hosts: [{host: '%s', port: 443}]}}", "spec.ingress.egress.hosts[0].host"},
	{"postgres: {provider: External, external: {host: '%s', secretRef: {name: db}}}", "spec.postgres.external.host"},
	{"orthanc: {storage: {type: S3, s3: {bucket: images, region: x, endpoint: 'https://%s'}}}", "spec.orthanc.storage.s3.endpoint"},
	{"postgres: {backup: {destinationPath: 's3://b1b/x', endpoint: 'https://%s'}}", "spec.postgres.backup.endpoint"},
}

// ownPlaces are where a definition names its own hosts.
var ownPlaces = []struct{ spec, field string }{
	{"domain: '%s'", "spec.domain"},
	{"domain: x.example.com\n  ingress: {web: {host: '%s'}}", "spec.ingress.web.host"},
	{"domain: x.example.com\n  ingress: {dicom: {host: '%s'}}", "spec.ingress.dicom.host"},
}

// expectRefused expects a definition to be refused by a field, and a message.
func expectRefused(t *testing.T, text, field, message string) {
	t.Helper()
	g := NewWithT(t)
	r := load(t, files{"tenants/x.yaml": text})
	g.Expect(r.Definitions).To(BeEmpty())
	g.Expect(problemFields(r)).To(Equal([]string{field}))
	g.Expect(r.Problems[0].File).To(MatchRegexp(`^tenants/x.yaml:[0-9]+$`))
	g.Expect(r.Problems[0].Message).To(ContainSubstring(message))
}

// TestHostIsInsideTheCluster holds that no field takes a name that the cluster's DNS would answer.
func TestHostIsInsideTheCluster(t *testing.T) {
	for _, host := range []string{
		"postgres-rw.mhr-orthweb.svc.cluster.local", "postgres-rw.mhr-orthweb.svc", "POSTGRES-RW.mhr-orthweb.SVC", "orthweb.mhr-orthweb",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "istiod.istio-system",
		"istiod.istio-system.svc", "prometheus.monitoring", "grafana.monitoring", "kube-dns.kube-system.svc.cluster.local",
		"a.b.svc.k8s.example.com", "10-1-2-3.mhr-orthweb.pod.cluster.local", "10-1-2-3.mhr-orthweb.pod.k8s.example.com",
		"cluster.local", "x.cluster.local",
		"postgres-1.postgres.mhr-orthweb", "postgres-1.postgres.mhr-orthweb.svc",
	} {
		t.Run(host, func(t *testing.T) {
			for i, place := range append(places, ownPlaces...) {
				host, own := host, i >= len(places)
				if strings.Contains(place.field, "endpoint") || own {
					// The schema wants lower case and two labels there, and says so itself.
					if host = strings.ToLower(host); !strings.Contains(host, ".") {
						continue
					}
				}
				text := simple("x", fmt.Sprintf(place.spec, host))
				if own {
					text = strings.Replace(text, "  domain: x.orthweb.com\n", "", 1)
				}
				expectRefused(t, text, place.field, "inside the cluster")
			}
		})
	}
}

// TestHostIsInternal holds that no field takes a name in .internal, and says what to give instead.
func TestHostIsInternal(t *testing.T) {
	const message = "names in .internal are refused, since clouds keep their metadata services there: "
	for _, host := range []string{"metadata.google.internal", "METADATA.google.Internal", "instance-data.ec2.internal"} {
		for _, place := range places {
			host := host
			if strings.Contains(place.field, "endpoint") {
				host = strings.ToLower(host)
			}
			expectRefused(t, simple("x", fmt.Sprintf(place.spec, host)), place.field, message+"give the IP address")
		}
		for _, place := range ownPlaces {
			text := strings.Replace(simple("x", fmt.Sprintf(place.spec, strings.ToLower(host))), "  domain: x.orthweb.com\n", "", 1)
			expectRefused(t, text, place.field, message+"choose another domain")
		}
	}
}

// TestOwnHostIsAddress holds that a tenant is reached by names.
func TestOwnHostIsAddress(t *testing.T) {
	for _, host := range []string{"10.1.2.3", "127.1", "8.8.8.8"} {
		for _, place := range ownPlaces {
			text := strings.Replace(simple("x", fmt.Sprintf(place.spec, host)), "  domain: x.orthweb.com\n", "", 1)
			expectRefused(t, text, place.field, "must be a DNS name such as bhs.orthweb.com, not an IP address")
		}
	}
}

// TestHostIsNoPublicName holds that another machine has a name in a domain that no namespace could have.
func TestHostIsNoPublicName(t *testing.T) {
	for host, message := range map[string]string{
		"postgres.databases":      "no top-level domain",
		"orthweb.harborview":      "no top-level domain",
		"pg.imaging.databases":    "no top-level domain",
		"localhost":               "the pod itself",
		"x.localhost":             "the pod itself",
		"127.1":                   "last label is no number",
		"2852039166":              "last label is no number",
		"0xa9fea9fe":              "last label is no number",
		"0251.0376.0251.0376":     "last label is no number",
		"169.254.43518":           "last label is no number",
		"ct.example.com.":         "must be a DNS name or an IP address",
		"ct_1.example.com":        "must be a DNS name or an IP address",
		"１６９.254.169.254":         "must be a DNS name or an IP address",
		"ct.exämple.com":          "must be a DNS name or an IP address",
		"[fe80::1]":               "must be a DNS name or an IP address",
		"fe80::1%eth0":            "must be a DNS name or an IP address",
		"user@ct.example.com":     "must be a DNS name or an IP address",
		"ct.example.com/x":        "must be a DNS name or an IP address",
		"ct.example.com:104":      "without a port",
		"a..example.com":          "IP address or a DNS name",
		"postgres.k8s.mhr-domain": "inside the cluster",
	} {
		t.Run(host, func(t *testing.T) {
			for _, place := range places[:3] {
				expectRefused(t, simple("x", fmt.Sprintf(place.spec, host)), place.field, message)
			}
		})
	}
}

// TestAddressNotations holds that a closed address is refused in each of its notations, in each field that takes one.
func TestAddressNotations(t *testing.T) {
	for _, address := range []string{
		"169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "127.0.0.1", "127.8.8.8", "0.0.0.0", "224.0.0.1",
		"255.255.255.255", "::", "::1", "::ffff:169.254.169.254", "::FFFF:A9FE:A9FE", "::ffff:127.0.0.1", "::169.254.169.254", "::ffff:0:a9fe:a9fe",
		"64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "fe80::1",
		"fe80::a9fe:a9fe", "fd00:ec2::254", "fd00:ec2:0:0::23", "fd20:ce::254", "fd20:0ce:0::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "ff02::1",
	} {
		t.Run(address, func(t *testing.T) {
			for _, place := range places[:3] {
				// The schema wants a letter or digit at the beginning and end, and says so itself.
				message := "name the other machine"
				if strings.HasPrefix(address, ":") || strings.HasSuffix(address, ":") {
					message = "must be a DNS name or an IP address"
				}
				expectRefused(t, simple("x", fmt.Sprintf(place.spec, address)), place.field, message)
			}
		})
	}
	expectRefused(t, simple("x", fmt.Sprintf(places[3].spec, "169.254.169.254:80")), places[3].field, "link-local")
	expectRefused(t, simple("x", fmt.Sprintf(places[4].spec, "168.63.129.16")), places[4].field, "credentials")
}

// TestHostIsOutside holds that names and addresses of other machines are taken.
func TestHostIsOutside(t *testing.T) {
	for _, host := range []string{
		"ct.example.com", "CT.Example.COM", "example.com", "ct-1.radiology.hospital.local", "ct.hospital.lan", "pacs.klinik.intern", "pacs.xn--bcher-kva.de",
		"xn--bcher-kva.xn--p1ai", "svc.example.com", "a.svc.example.com", "10.1.2.3", "192.168.1.2", "2001:db8::7", "fd12:3456::7", "64:ff9b::8.8.8.8",
		"pacs.example.co.uk", "ct.nhs.uk", "pacs.hospital.health", "pacs.gov.ck",
	} {
		t.Run(host, func(t *testing.T) {
			for _, place := range places[:3] {
				NewWithT(t).Expect(load(t, files{"tenants/x.yaml": simple("x", fmt.Sprintf(place.spec, host))}).Problems).To(BeEmpty())
			}
		})
	}
}
