// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/addresses"
)

// privateDomains are top-level domains of hospitals' own networks that the public DNS does not have, and those of
// examples. A cluster has no Services in them.
var privateDomains = []string{"corp", "example", "home", "intern", "intra", "intranet", "lan", "loc", "local", "priv", "private"}

// letters is what a top-level domain looks like. No number is one: the C library takes 127.1 and 0x7f000001 for addresses.
// Nor is a name with a dash, such as bhs-orthweb, but for a name of another script.
var letters = regexp.MustCompile(`^([a-z]+|xn--[-a-z0-9]+)$`)

// internal is the top-level domain of clouds' own networks.
const (
	internal        = "internal"
	refusesInternal = "names in .internal are refused, since clouds keep their metadata services there"
)

// checkHost judges the DNS name or IP address of another machine, outside of the cluster.
func checkHost(host string, at *field.Path) field.ErrorList {
	if ip, err := netip.ParseAddr(host); err == nil {
		if is := addresses.Closed(ip); is != "" {
			return field.ErrorList{field.Invalid(at, host, "is "+is+": name the other machine")}
		}
		return nil
	}
	if errs := checkName(host, at, nil); len(errs) > 0 {
		return errs
	}
	// A pod completes a name before it asks the public DNS, so postgres.monitoring is a Service where the last label is
	// the name of a namespace.
	top := lastLabel(host)
	_, public := publicsuffix.PublicSuffix("x.x." + top)
	if !public && !slices.Contains(privateDomains, top) {
		return field.ErrorList{field.Invalid(at, host, fmt.Sprintf(
			"must be outside of the cluster, and %q is no top-level domain (nor one of the private ones %s): name the machine in full, or by its IP address",
			top, strings.Join(privateDomains, ", ")))}
	}
	return nil
}

// checkName judges a DNS name, which may not be one inside the cluster, or of a namespace of the platform.
func checkName(host string, at *field.Path, namespaces []string) field.ErrorList {
	host = strings.ToLower(host)
	labels := strings.Split(host, ".")
	top := lastLabel(host)
	switch {
	case top == "localhost":
		return field.ErrorList{field.Invalid(at, host, "is the pod itself: name the other machine")}
	case len(validation.IsDNS1123Subdomain(host)) > 0 || number.MatchString(top):
		return field.ErrorList{field.Invalid(at, host, "must be an IP address or a DNS name whose last label is no number, without a port or a dot at its end")}
	case len(labels) < 2:
		return field.ErrorList{field.Invalid(at, host, "is a name inside the cluster, as it has one label: write it in full, such as "+host+".example.com")}
	case top == internal:
		return field.ErrorList{field.Invalid(at, host, refusesInternal+": give the IP address")}
	case !letters.MatchString(top), insideCluster(labels), isPlatformNamespace(top, namespaces):
		return field.ErrorList{field.Invalid(at, host, "is a name inside the cluster: name a host outside of it")}
	}
	return nil
}

// number is a last label by which the C library takes a name for an IPv4 address, such as 127.1 or 0x7f000001.
var number = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)

func lastLabel(host string) string {
	host = strings.ToLower(host)
	return host[strings.LastIndex(host, ".")+1:]
}

// insideCluster tells whether a name is one that the cluster's DNS answers, whatever the cluster's domain is
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md).
func insideCluster(labels []string) bool {
	n := len(labels)
	switch {
	case labels[n-1] == "svc", labels[n-1] == "local" && labels[n-2] == "cluster":
		return true
	case n > 3:
		return slices.Contains(labels[2:], "svc") || slices.Contains(labels[2:], "pod")
	}
	return false
}

// checkOwnHosts judges the names that a tenant is reached by.
func checkOwnHosts(s *v1alpha1.TenantSpec, at *field.Path, namespaces []string) field.ErrorList {
	errs := checkOwnHost(s.Domain, at.Child("domain"), namespaces)
	if web := string(s.Ingress.Web.Host); web != s.Domain {
		errs = append(errs, checkOwnHost(web, at.Child("ingress", "web", "host"), namespaces)...)
	}
	if dicom := string(s.Ingress.DICOM.Host); !strings.HasSuffix(dicom, "."+s.Domain) {
		errs = append(errs, checkOwnHost(dicom, at.Child("ingress", "dicom", "host"), namespaces)...)
	}
	return errs
}

// checkOwnHost judges a name that a tenant is reached by.
func checkOwnHost(host string, at *field.Path, namespaces []string) field.ErrorList {
	switch top := lastLabel(host); {
	case number.MatchString(top):
		return field.ErrorList{field.Invalid(at, host, "must be a DNS name such as bhs.orthweb.com, not an IP address")}
	case top == internal:
		return field.ErrorList{field.Invalid(at, host, refusesInternal+": choose another domain")}
	}
	return checkName(host, at, namespaces)
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
