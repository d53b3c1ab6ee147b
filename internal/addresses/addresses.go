// SPDX-License-Identifier: Apache-2.0

// Package addresses holds the addresses that no tenant may connect to. Definitions that name one are refused, and the
// NetworkPolicies of every bundle except them.
package addresses

import (
	"net/netip"
	"slices"
)

// Range is a range of closed addresses.
type Range struct {
	Prefix netip.Prefix
	// Is says what the addresses are: "a link-local address".
	Is string
}

const (
	thisHost  = "a loopback or unspecified address"
	linkLocal = "a link-local address"
	multicast = "a multicast address"
	future    = "a reserved or broadcast address"
	metadata  = "where a cloud serves the machine's credentials"
	embedding = "an IPv6 address that stands for an IPv4 one"
)

// ipv4 are the closed IPv4 addresses. Most clouds serve metadata at link-local ones: 169.254.169.254, 169.254.170.2,
// 169.254.170.23.
var ipv4 = []Range{
	{netip.MustParsePrefix("0.0.0.0/8"), thisHost},
	{netip.MustParsePrefix("100.100.100.200/32"), metadata}, // Alibaba Cloud
	{netip.MustParsePrefix("127.0.0.0/8"), thisHost},
	{netip.MustParsePrefix("168.63.129.16/32"), metadata}, // Azure
	{netip.MustParsePrefix("169.254.0.0/16"), linkLocal},
	{netip.MustParsePrefix("192.0.0.192/32"), metadata}, // Oracle Cloud
	{netip.MustParsePrefix("224.0.0.0/4"), multicast},
	{netip.MustParsePrefix("240.0.0.0/4"), future},
}

// nat64 is the prefix by which all of IPv4 is reached from a network without it (RFC 6052). It is closed where what it
// stands for is.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// closed are all closed addresses. The ranges whose use is to carry an IPv4 address are closed as a whole, as nobody uses
// them any more or not beyond one network.
var closed = slices.Concat(ipv4, behindNAT64(), []Range{
	{netip.MustParsePrefix("::/64"), embedding + ", or of the machine itself"}, // mapped, compatible, translated; ::1 and ::
	{netip.MustParsePrefix("64:ff9b:1::/48"), embedding},                       // NAT64 of one network (RFC 8215)
	{netip.MustParsePrefix("2001::/32"), embedding},                            // Teredo
	{netip.MustParsePrefix("2002::/16"), embedding},                            // 6to4
	{netip.MustParsePrefix("fd00:42::42/128"), metadata},                       // Scaleway
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), metadata},                // Oracle Cloud
	{netip.MustParsePrefix("fd00:ec2::/32"), metadata},                         // AWS
	{netip.MustParsePrefix("fd20:ce::254/128"), metadata},                      // Google Cloud
	{netip.MustParsePrefix("fe80::/10"), linkLocal},
	{netip.MustParsePrefix("ff00::/8"), multicast},
})

func behindNAT64() []Range {
	out := make([]Range, 0, len(ipv4))
	for _, r := range ipv4 {
		address := nat64.Addr().As16()
		copy(address[12:], r.Prefix.Addr().AsSlice())
		out = append(out, Range{netip.PrefixFrom(netip.AddrFrom16(address), nat64.Bits()+r.Prefix.Bits()), r.Is})
	}
	return out
}

// Closed says what an address is that no tenant may connect to, and returns "" for any other. An IPv4-mapped address is
// the IPv4 address that it maps, as it is to the kernel.
func Closed(ip netip.Addr) string {
	if ip.Zone() != "" {
		return linkLocal
	}
	for _, r := range closed {
		if r.Prefix.Contains(ip.Unmap()) {
			return r.Is
		}
	}
	return ""
}

// Canonical returns the one address that stands for an address in all of its notations: of an IPv4-mapped one, and of one
// behind NAT64, the IPv4 address.
func Canonical(ip netip.Addr) netip.Addr {
	if ip = ip.Unmap(); nat64.Contains(ip) {
		bytes := ip.As16()
		return netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return ip
}

// Exceptions are the closed addresses as the exceptions of a NetworkPolicy's 0.0.0.0/0 and ::/0.
func Exceptions() (v4, v6 []string) {
	for _, r := range closed {
		if r.Prefix.Addr().Is4() {
			v4 = append(v4, r.Prefix.String())
		} else {
			v6 = append(v6, r.Prefix.String())
		}
	}
	return v4, v6
}
