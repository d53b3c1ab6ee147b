// SPDX-License-Identifier: Apache-2.0

package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/addresses"
)

// compute returns what no single field of a Tenant holds.
//
//   - tenant.json: Orthanc's configuration of the tenant
//   - maxConnections: the connections that its database must bear
//   - sharedBuffers: the memory that the database keeps its pages in
//   - backupPort: the port of the object store that its backups go to
//   - modalities: the modalities with the name of their objects
//   - peerHosts, peerAddresses: the outside endpoints that the tenant's configuration names, by DNS name and by IP
//     address
//   - peerNames: the DNS names of peerHosts, each once, with the ports of an Istio ServiceEntry and the TCP routes of
//     an Istio VirtualService
//   - closedIPv4, closedIPv6: the addresses that nothing of a tenant may connect to
//   - meshServiceAnnotations: the annotations of the gateway's Service where Istio runs it
func compute(t *v1alpha1.Tenant) (map[string]any, error) {
	orthanc, err := orthancJSON(t)
	if err != nil {
		return nil, err
	}
	hosts, byAddress := peers(t)
	closedIPv4, closedIPv6 := addresses.Exceptions()
	return map[string]any{
		"tenant.json":    orthanc,
		"maxConnections": strconv.Itoa(int(t.Spec.MaxConnections())),
		"sharedBuffers":  sharedBuffers(&t.Spec.Postgres),
		"backupPort":     backupPort(t.Spec.Postgres.Backup),
		"modalities":     modalities(t),
		"peerHosts":      hosts,
		"peerAddresses":  byAddress,
		"peerNames":      byName(hosts),
		"closedIPv4":     texts(closedIPv4),
		"closedIPv6":     texts(closedIPv6),

		"meshServiceAnnotations": meshServiceAnnotations(t),
	}, nil
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

// meshServiceAnnotations are those of the gateway's Service, of which proxies of other namespaces are not told
// (https://istio.io/latest/docs/reference/config/annotations/#NetworkingExportTo).
func meshServiceAnnotations(t *v1alpha1.Tenant) map[string]any {
	all := map[string]any{}
	for key, value := range t.Spec.Ingress.Service.Annotations {
		all[key] = value
	}
	all["networking.istio.io/exportTo"] = "."
	return all
}

func modalities(t *v1alpha1.Tenant) []any {
	var items []any
	for _, m := range t.Spec.Orthanc.Modalities {
		items = append(items, map[string]any{"name": m.Name, "objectName": modalityName(m), "aeTitle": string(m.AETitle)})
	}
	return items
}

func modalityName(m v1alpha1.Modality) string { return "modality-" + m.Name }

// endpoint is a host outside of the tenant's namespace that its configuration names.
type endpoint struct {
	name     string // of the objects that are made for it
	host     string
	port     int
	protocol string // TCP or TLS
}

// peers returns the outside endpoints of a tenant as items, those that are named by DNS and those by address. What is
// named twice is one.
func peers(t *v1alpha1.Tenant) (hosts, addresses []any) {
	seen := map[string]bool{}
	for _, e := range endpoints(&t.Spec) {
		e.host = strings.ToLower(e.host)
		ip, err := netip.ParseAddr(e.host)
		if err == nil {
			ip = ip.Unmap()
			e.host = ip.String()
		}
		key := e.host + " " + strconv.Itoa(e.port)
		if seen[key] {
			continue
		}
		if err == nil || t.Spec.Ingress.Egress.Gateway {
			// Istio knows TLS by the host's name in it. There is none with an address, and none to look at where all
			// goes to the egress gateway.
			e.protocol = "TCP"
		}
		item := map[string]any{
			"objectName": e.name,
			"host":       e.host,
			"port":       e.port,
			"protocol":   e.protocol,
			"portName":   strings.ToLower(e.protocol) + "-" + strconv.Itoa(e.port),
		}
		seen[key] = true
		if err == nil {
			item["address"] = e.host
			item["cidr"] = netip.PrefixFrom(ip, ip.BitLen()).String()
			// An Istio ServiceEntry needs a name, also where nobody asks for it.
			item["host"] = e.name + ".peer.internal"
			addresses = append(addresses, item)
			continue
		}
		hosts = append(hosts, item)
	}
	return hosts, addresses
}

// byName puts endpoints of one DNS name together. Istio gives each ServiceEntry an address and answers to a name with one
// of them, so a second entry of that name could not be reached. Nor does it like two VirtualServices of one name.
func byName(hosts []any) (names []any) {
	at := map[any]map[string]any{}
	for _, h := range hosts {
		h := h.(map[string]any)
		name := at[h["host"]]
		if name == nil {
			name = map[string]any{"objectName": h["objectName"], "host": h["host"], "ports": []any{}, "routes": []any{}}
			at[h["host"]] = name
			names = append(names, name)
		}
		name["ports"] = append(name["ports"].([]any), map[string]any{"name": h["portName"], "number": h["port"], "protocol": h["protocol"]})
		name["routes"] = append(name["routes"].([]any), map[string]any{
			"match": []any{map[string]any{"port": h["port"]}},
			"route": []any{map[string]any{"destination": egressDestination(h["objectName"].(string))}},
		})
	}
	return names
}

// egressDestination is the way to an endpoint through the tenant's egress gateway, as dependency/ingress/istio/egress-peer
// of the bundle has it.
func egressDestination(objectName string) map[string]any {
	return map[string]any{"host": "istio-egress", "subset": "peer-" + objectName, "port": map[string]any{"number": 8443}}
}

func endpoints(s *v1alpha1.TenantSpec) []endpoint {
	var out []endpoint
	for _, m := range s.Orthanc.Modalities {
		out = append(out, endpoint{modalityName(m), m.Host, int(m.Port), "TCP"})
	}
	if s3 := s.Orthanc.Storage.S3; s3 != nil {
		out = append(out, s3Endpoints(s3)...)
	}
	if e := s.Postgres.External; e != nil {
		// PostgreSQL begins TLS inside of its own protocol, so it is TCP to who looks at it.
		out = append(out, endpoint{"postgres", e.Host, int(e.Port), "TCP"})
	}
	for _, h := range s.Ingress.Egress.Hosts {
		hash := sha256.Sum256([]byte(fmt.Sprintf("%s %d", strings.ToLower(h.Host), h.Port)))
		out = append(out, endpoint{"egress-" + hex.EncodeToString(hash[:8]), h.Host, int(h.Port), h.Protocol})
	}
	return out
}

// s3Endpoints are where the AWS SDK connects to: the bucket's own host with virtual addressing, and the token service
// where no key is given (https://docs.aws.amazon.com/general/latest/gr/s3.html and sts.html).
func s3Endpoints(s3 *v1alpha1.S3Spec) []endpoint {
	host, port := s3.Endpoint.HostPort()
	if host == "" {
		host, port = "s3."+s3.Region+".amazonaws.com", 443
	}
	if s3.VirtualAddressing != nil && *s3.VirtualAddressing {
		host = s3.Bucket + "." + host
	}
	out := []endpoint{{"s3", host, port, "TLS"}}
	if s3.SecretRef == nil && s3.Endpoint == "" {
		out = append(out, endpoint{"sts", "sts." + s3.Region + ".amazonaws.com", 443, "TLS"})
	}
	return out
}
