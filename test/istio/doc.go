// SPDX-License-Identifier: Apache-2.0

// Package istio proves that Istio reads the rendered tenants as they are meant: its tests give the objects of
// several tenants to istiod's own code and look at what its analyzers say and at the configuration that it makes
// for each tenant's proxies.
//
// It is a module of its own because that code is not meant to be a library: it needs replacements and versions that
// Korthweb's own module should not have. So it takes what `korthweb render` prints. There is no Envoy here: what
// istiod would send to one is where these tests end.
package istio
