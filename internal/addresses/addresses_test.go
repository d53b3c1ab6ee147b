// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"net/netip"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/addresses"
)

// TestClosed holds that an address is closed in each notation that it has.
func TestClosed(t *testing.T) {
	for address, want := range map[string]string{
		"169.254.169.254":                  "link-local",
		"169.254.170.2":                    "link-local",
		"169.254.170.23":                   "link-local",
		"::ffff:169.254.169.254":           "link-local",
		"::169.254.169.254":                "stands for an IPv4",
		"::ffff:0:169.254.169.254":         "stands for an IPv4",
		"64:ff9b::169.254.169.254":         "link-local",
		"64:ff9b::a9fe:a9fe":               "link-local",
		"64:ff9b:1::169.254.169.254":       "stands for an IPv4",
		"64:ff9b:1:fffe::a9fe:a9fe":        "stands for an IPv4",
		"2002:a9fe:a9fe::1":                "stands for an IPv4",
		"2001:0:a9fe:a9fe::":               "stands for an IPv4",
		"127.0.0.1":                        "loopback",
		"127.255.255.254":                  "loopback",
		"::1":                              "machine itself",
		"::":                               "machine itself",
		"::ffff:127.0.0.1":                 "loopback",
		"64:ff9b::7f00:1":                  "loopback",
		"0.0.0.0":                          "unspecified",
		"0.1.2.3":                          "unspecified",
		"fe80::1":                          "link-local",
		"fe80::1%eth0":                     "link-local",
		"2001:db8::1%eth0":                 "link-local",
		"febf:ffff::1":                     "link-local",
		"168.63.129.16":                    "credentials",
		"64:ff9b::168.63.129.16":           "credentials",
		"100.100.100.200":                  "credentials",
		"::ffff:100.100.100.200":           "credentials",
		"192.0.0.192":                      "credentials",
		"fd20:ce::254":                     "credentials",
		"fd20:00ce:0000:0000:0:0:0000:254": "credentials",
		"fd00:ec2::254":                    "credentials",
		"fd00:ec2::23":                     "credentials",
		"fd00:42::42":                      "credentials",
		"fd00:c1::a9fe:a9fe":               "credentials",
		"224.0.0.1":                        "multicast",
		"239.255.255.250":                  "multicast",
		"255.255.255.255":                  "broadcast",
		"240.0.0.1":                        "reserved",
		"64:ff9b::f000:1":                  "reserved",
		"ff02::1":                          "multicast",
	} {
		t.Run(address, func(t *testing.T) {
			NewWithT(t).Expect(addresses.Closed(netip.MustParseAddr(address))).To(ContainSubstring(want))
		})
	}
	for _, address := range []string{
		"10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "203.0.113.7", "8.8.8.8", "168.63.129.17", "169.253.255.255",
		"::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "64:ff9b::8.8.8.8", "2001:db8::1", "2001:4860:4860::8888", "fd12:3456::1", "fd00:ec3::1",
	} {
		t.Run(address, func(t *testing.T) {
			NewWithT(t).Expect(addresses.Closed(netip.MustParseAddr(address))).To(BeEmpty())
		})
	}
}

// TestCanonical holds that two notations of one address are told to be the same.
func TestCanonical(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.2.3":            "10.1.2.3",
		"::ffff:10.1.2.3":     "10.1.2.3",
		"64:ff9b::10.1.2.3":   "10.1.2.3",
		"64:FF9B:0::a01:203":  "10.1.2.3",
		"64:ff9b::1:a01:203":  "64:ff9b::1:a01:203",
		"2001:db8:0:0:0::7":   "2001:db8::7",
		"64:ff9b:1::10.1.2.3": "64:ff9b:1::a01:203",
	} {
		t.Run(address, func(t *testing.T) {
			NewWithT(t).Expect(addresses.Canonical(netip.MustParseAddr(address)).String()).To(Equal(want))
		})
	}
}

// TestExceptions holds that the exceptions are what an apiserver takes in a NetworkPolicy, and that each is closed.
func TestExceptions(t *testing.T) {
	g := NewWithT(t)
	v4, v6 := addresses.Exceptions()
	g.Expect(v4).To(ContainElements("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32"))
	g.Expect(v6).To(ContainElements("fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128", "64:ff9b::a9fe:0/112"))
	for _, list := range []struct {
		texts []string
		is4   bool
	}{{v4, true}, {v6, false}} {
		for _, text := range list.texts {
			prefix := netip.MustParsePrefix(text)
			g.Expect(prefix.Masked()).To(Equal(prefix))
			g.Expect(prefix.Addr().Is4()).To(Equal(list.is4))
			g.Expect(prefix.Bits()).To(BeNumerically(">", 0))
			g.Expect(addresses.Closed(prefix.Addr())).NotTo(BeEmpty())
		}
	}
}
