// SPDX-License-Identifier: Apache-2.0

package exposure_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/exposure"
)

func TestAllowed(t *testing.T) {
	const hostname = "external-dns.alpha.kubernetes.io/hostname"
	for name, tc := range map[string]struct {
		key, value string
		want       bool
	}{
		"own host":                {hostname, "bhs.orthweb.com", true},
		"own hosts":               {hostname, "bhs.orthweb.com, dicom.bhs.orthweb.com", true},
		"another's host":          {hostname, "mhr.orthweb.com", false},
		"another's host with own": {hostname, "bhs.orthweb.com,mhr.orthweb.com", false},
		"a host below own":        {hostname, "x.bhs.orthweb.com", false},
		"no host":                 {hostname, "", false},
		"in other letters":        {"External-DNS.alpha.kubernetes.io/Hostname", "mhr.orthweb.com", false},
		"target":                  {"external-dns.alpha.kubernetes.io/target", "192.0.2.18", false},
		"own target":              {"external-dns.alpha.kubernetes.io/target", "192.0.2.17", true},
		"ttl":                     {"external-dns.alpha.kubernetes.io/ttl", "60", true},
		"MetalLB":                 {"metallb.io/loadBalancerIPs", "192.0.2.18", false},
		"MetalLB, own address":    {"metallb.io/loadBalancerIPs", "192.0.2.17", true},
		"MetalLB, pool":           {"metallb.io/address-pool", "facilities", true},
		"MetalLB, shared":         {"metallb.io/allow-shared-ip", "bhs", false},
		"kube-vip":                {"kube-vip.io/loadbalancerIPs", "192.0.2.18", false},
		"Cilium":                  {"lbipam.cilium.io/ips", "192.0.2.18", false},
		"GKE":                     {"networking.gke.io/load-balancer-ip-addresses", "reserved", false},
		"Azure":                   {"service.beta.kubernetes.io/azure-load-balancer-ipv4", "192.0.2.18", false},
		"AWS":                     {"service.beta.kubernetes.io/aws-load-balancer-eip-allocations", "eipalloc-1", false},
		"AWS, kind of addresses":  {"service.beta.kubernetes.io/aws-load-balancer-ip-address-type", "dualstack", true},
		"AWS, scheme":             {"service.beta.kubernetes.io/aws-load-balancer-scheme", "internal", true},
		"something else":          {"example.org/idle-timeout", "30", true},
		"no definition's address": {"metallb.io/loadBalancerIPs", ",", false},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{Spec: v1alpha1.TenantSpec{Domain: "bhs.orthweb.com"}}
			tenant.Spec.Ingress.Web.Host = "bhs.orthweb.com"
			tenant.Spec.Ingress.DICOM.Host = "dicom.bhs.orthweb.com"
			tenant.Spec.Ingress.Service.LoadBalancerIP = "192.0.2.17"
			NewWithT(t).Expect(exposure.Allowed(tc.key, tc.value, tenant)).To(Equal(tc.want))
		})
	}
}
