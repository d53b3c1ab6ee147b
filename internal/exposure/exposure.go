// SPDX-License-Identifier: Apache-2.0

// Package exposure knows the annotations by which an object asks for an address or a DNS name. Whoever may set
// them freely could ask for another tenant's. They are listed here once, for definitions and for patches.
package exposure

import (
	"slices"
	"strings"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// claimed are parts of annotation keys, in lower case, whose value is an address or a name of a host. Keys that choose a
// pool of addresses are not among them: a pool gives each address away once.
var claimed = []string{
	"external-dns",           // external-dns.alpha.kubernetes.io/hostname, /target
	"loadbalancerips",        // MetalLB's metallb.io/loadBalancerIPs, kube-vip's kube-vip.io/loadbalancerIPs
	"load-balancer-ip",       // GKE's load-balancer-ip-addresses, Azure's azure-load-balancer-ipv4
	"loadbalancer-ip",        // the same, as others spell it
	"lb-ipam-ips",            // Cilium's io.cilium/lb-ipam-ips
	"lbipam.cilium.io/ips",   // and its newer name
	"allow-shared-ip",        // MetalLB: the address of a Service that has the same key
	"sharing-key",            // Cilium: likewise
	"eip-allocations",        // AWS: elastic addresses
	"private-ipv4-addresses", // AWS: addresses of the subnet
	"azure-pip-name",         // Azure: a public address by its name
	"azure-pip-prefix",       // Azure: an address of a range
	"azure-dns-label-name",   // Azure: a name under cloudapp.azure.com
}

// unclaimed end keys that contain a part of the list and name neither address nor host.
var unclaimed = []string{
	"/ttl",             // external-dns.alpha.kubernetes.io/ttl
	"-ip-address-type", // AWS: ipv4 or dualstack
}

// Allowed says whether a tenant may have the annotation: its key is none that names an address or a host, or each
// item of its value, which commas separate, is a host or the loadBalancerIP of the tenant's own definition. That no
// other tenant has those is settled with the tenants' claims.
func Allowed(key, value string, t *v1alpha1.Tenant) bool {
	key = strings.ToLower(key)
	in := func(part string) bool { return strings.Contains(key, part) }
	ends := func(end string) bool { return strings.HasSuffix(key, end) }
	if !slices.ContainsFunc(claimed, in) || slices.ContainsFunc(unclaimed, ends) {
		return true
	}
	ingress := t.Spec.Ingress
	own := []string{string(ingress.Web.Host), string(ingress.DICOM.Host), ingress.Service.LoadBalancerIP}
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" || !slices.Contains(own, item) {
			return false
		}
	}
	return true
}
