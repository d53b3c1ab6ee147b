// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// metadata are where clouds serve a machine's credentials to whoever asks, beside the link-local addresses: AWS over
// IPv6, Azure and Alibaba.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("100.100.100.200/32"),
}

// number is a last label by which the C library takes a name for an IPv4 address, such as 127.1 or 0x7f000001.
var number = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)

// checkHost judges the DNS name or IP address of another machine. It refuses those of the pod itself, and the addresses
// where clouds serve credentials.
func checkHost(host string, at *field.Path) field.ErrorList {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return checkName(host, at)
	}
	ip = ip.Unmap()
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.Zone() != "" {
		return field.ErrorList{field.Invalid(at, host, "is a loopback, link-local, multicast or unspecified address: name the other machine")}
	}
	if slices.ContainsFunc(metadata, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return field.ErrorList{field.Invalid(at, host, "is where a cloud serves the machine's credentials: name the other machine")}
	}
	return nil
}

func checkName(host string, at *field.Path) field.ErrorList {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return field.ErrorList{field.Invalid(at, host, "is the pod itself: name the other machine")}
	}
	if len(validation.IsDNS1123Subdomain(host)) > 0 || number.MatchString(host[strings.LastIndex(host, ".")+1:]) {
		return field.ErrorList{field.Invalid(at, host, "must be an IP address or a DNS name whose last label is no number, without a port")}
	}
	return nil
}

// checkEndpoint judges the https URL of a service.
func checkEndpoint(endpoint v1alpha1.EndpointURL, at *field.Path) field.ErrorList {
	if endpoint == "" {
		return nil
	}
	host, port := endpoint.HostPort()
	errs := checkHost(host, at)
	if port < 1 || port > 65535 {
		errs = append(errs, field.Invalid(at, string(endpoint), "its port must be 1 to 65535"))
	}
	return errs
}

// canonicalHost returns one spelling of a host for all of its spellings.
func canonicalHost(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(host)
}
