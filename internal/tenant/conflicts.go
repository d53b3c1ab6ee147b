// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/addresses"
)

// Conflict is a claim of one tenant that another tenant holds.
type Conflict struct {
	// Tenant whose claim is refused.
	Tenant types.NamespacedName

	// Holder of what it claims.
	Holder types.NamespacedName

	// Field of Tenant that makes the claim: spec.ingress.web.host.
	Field string

	// Message says what is claimed, who holds it and what to do.
	Message string
}

// claim is something that only one tenant may have.
type claim struct {
	kind  string // namespace, host, address, database or bucket
	value string
}

// made says how a tenant makes a claim.
type made struct {
	field string

	// covers tells whether all below it is claimed too: the names below a host, the paths below one in a bucket.
	covers bool
}

// parents returns what a claim is below, from the nearest on: the domains of a host, the directories of a path.
func (c claim) parents() []claim {
	var out []claim
	for value := c.value; ; {
		cut := -1
		switch c.kind {
		case hostClaim:
			if cut = strings.IndexByte(value, '.'); cut >= 0 {
				value = value[cut+1:]
			}
		case bucketClaim:
			if cut = strings.LastIndexByte(value, '/'); cut >= 0 {
				value = value[:cut]
			}
		}
		if cut < 0 {
			return out
		}
		out = append(out, claim{c.kind, value})
	}
}

const (
	hostClaim   = "host"
	bucketClaim = "bucket"
)

// claims returns what a tenant claims: its namespace, its domain and the hosts of its web and DICOM entries, each with all
// below it, the address of its load balancer, and where its images, its index and its backups are. An address is
// claimed with all its ports, since every gateway listens on 80 and 443.
func claims(t *v1alpha1.Tenant) map[claim]made {
	t = t.DeepCopy()
	t.SetDefaults()
	s := &t.Spec
	// A host that follows from the domain is the domain's doing.
	from := func(field, value, byDefault, origin string) made {
		if value == byDefault {
			return made{field: origin, covers: field != "spec.namespace"}
		}
		return made{field: field, covers: field != "spec.namespace"}
	}
	web, dicom := string(s.Ingress.Web.Host), string(s.Ingress.DICOM.Host)
	c := map[claim]made{
		{"namespace", s.Namespace}:           from("spec.namespace", s.Namespace, t.Name+"-orthweb", "metadata.name"),
		{hostClaim, canonicalName(dicom)}:    from("spec.ingress.dicom.host", dicom, "dicom."+s.Domain, "spec.domain"),
		{hostClaim, canonicalName(web)}:      from("spec.ingress.web.host", web, s.Domain, "spec.domain"),
		{hostClaim, canonicalName(s.Domain)}: {field: "spec.domain", covers: true},
	}
	if ip, err := netip.ParseAddr(s.Ingress.Service.LoadBalancerIP); err == nil {
		c[claim{"address", addresses.Canonical(ip).String()}] = made{field: "spec.ingress.service.loadBalancerIP"}
	}
	if s3 := s.Orthanc.Storage.S3; s3 != nil {
		for _, spelling := range bucketSpellings(s3.Endpoint, path.Join(s3.Bucket, s3.RootPath)) {
			c[claim{bucketClaim, spelling}] = made{field: "spec.orthanc.storage.s3.bucket", covers: true}
		}
	}
	if e := s.Postgres.External; e != nil {
		c[claim{"database", fmt.Sprintf("%s port %d %s", canonicalName(e.Host), e.Port, e.Database)}] = made{field: "spec.postgres.external.database"}
	}
	if b := s.Postgres.Backup; b != nil {
		for _, spelling := range bucketSpellings(b.Endpoint, path.Join(strings.TrimPrefix(b.DestinationPath, "s3://"))) {
			c[claim{bucketClaim, spelling}] = made{field: "spec.postgres.backup.destinationPath", covers: true}
		}
	}
	return c
}

// canonicalName returns one spelling of a host for all of its spellings.
func canonicalName(host string) string { return canonicalHost(strings.TrimSuffix(host, ".")) }

// awsHost is a host of AWS's S3, with the bucket in front where it is written in that way.
var awsHost = regexp.MustCompile(`^(?:(.+)\.)?s3[-a-z0-9.]*\.amazonaws\.com(\.cn)?$`)

// awsEndpoint is what the private endpoint of a VPC puts in front of such a host.
var awsEndpoint = regexp.MustCompile(`(^|\.)bucket\.vpce-[^.]+$`)

// bucketSpellings returns the two ways to write a path of a bucket, host/bucket/path and bucket.host/path, in one
// spelling of the host. A bucket of AWS has one name in all regions, so it has one spelling.
func bucketSpellings(endpoint v1alpha1.EndpointURL, bucketPath string) []string {
	host, port := endpoint.HostPort()
	host = canonicalName(host)
	bucket, below, _ := strings.Cut(bucketPath, "/")
	bucket = strings.ToLower(bucket)
	aws := "AWS"
	if m := awsHost.FindStringSubmatch(host); m != nil {
		inHost := awsEndpoint.ReplaceAllString(m[1], "")
		aws += m[2]
		if inHost != "" {
			return []string{path.Join(aws, inHost, bucket, below), path.Join(aws, bucket+"."+inHost, below)}
		}
		host = ""
	}
	if host == "" || strings.HasSuffix(host, ".amazonaws.com") {
		return []string{path.Join(aws, bucket, below)}
	}
	address := fmt.Sprintf("%s:%d", host, port)
	return []string{path.Join(address, bucket, below), path.Join(bucket+"."+address, below)}
}

// Claims names what a tenant claims for itself, sorted: "host bhs.orthweb.com", "namespace bhs-orthweb".
// Tenants that share one of these are in conflict, so it serves as an index of whom to ask Conflicts about. Those of which
// one has something below another's, such as a host below its domain, share none: that a class may permit, so only
// [Load], which knows the classes, judges it.
func Claims(t *v1alpha1.Tenant) []string {
	var names []string
	for c := range claims(t) {
		names = append(names, c.kind+" "+c.value)
	}
	slices.Sort(names)
	return names
}

// Conflicts returns the claims that cannot be granted, of those that are equal: of the tenants that claim one thing, the oldest
// holds it (by creationTimestamp, then by name and namespace). A tenant that is refused one thing still
// holds the others. The result is sorted by tenant and field.
func Conflicts(tenants []v1alpha1.Tenant) []Conflict {
	ordered := byAge(tenants)
	holders := map[claim]*v1alpha1.Tenant{}
	var conflicts []Conflict
	for _, t := range ordered {
		all := claims(t)
		told := map[string]bool{}
		for _, c := range byLength(all) {
			holder, taken := holders[c]
			if !taken {
				holders[c] = t
				continue
			}
			// What follows from a field, such as the DICOM host from the domain, is told with it.
			if key := all[c].field + " " + nameFor(t, holder); !told[key] {
				told[key] = true
				conflicts = append(conflicts, newConflict(t, holder, c, all[c].field))
			}
		}
	}
	slices.SortFunc(conflicts, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Tenant.String(), b.Tenant.String()), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return conflicts
}

// byLength sorts claims so that those come first that others follow from.
func byLength(all map[claim]made) []claim {
	return slices.SortedFunc(maps.Keys(all), func(a, b claim) int {
		return cmp.Or(cmp.Compare(len(a.value), len(b.value)), cmp.Compare(a.value, b.value), cmp.Compare(a.kind, b.kind))
	})
}

func byAge(tenants []v1alpha1.Tenant) []*v1alpha1.Tenant {
	ordered := make([]*v1alpha1.Tenant, len(tenants))
	for i := range tenants {
		ordered[i] = &tenants[i]
	}
	slices.SortStableFunc(ordered, func(a, b *v1alpha1.Tenant) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	return ordered
}

func newConflict(t, holder *v1alpha1.Tenant, c claim, field string) Conflict {
	return Conflict{
		Tenant:  types.NamespacedName{Namespace: t.Namespace, Name: t.Name},
		Holder:  types.NamespacedName{Namespace: holder.Namespace, Name: holder.Name},
		Field:   field,
		Message: fmt.Sprintf("%s %s is held by tenant %s: choose another", c.kind, c.value, nameFor(t, holder)),
	}
}

// nameFor is how a message to one tenant names another.
func nameFor(t, other *v1alpha1.Tenant) string {
	if other.Namespace != t.Namespace {
		return other.Namespace + "/" + other.Name
	}
	return other.Name
}
