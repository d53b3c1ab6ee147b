// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/digihunch/korthweb/api/v1alpha1"
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
	kind  string // namespace, host, address, database, bucket or backup
	value string
}

// claims returns what a tenant claims, and the field that each comes from: the tenant's namespace,
// the hosts of its web and DICOM entries, the address of its load balancer, and where its images, its index
// and its backups are. An address is claimed with all its ports, since every gateway listens on 80 and 443.
func claims(t *v1alpha1.Tenant) map[claim]string {
	t = t.DeepCopy()
	t.SetDefaults()
	s := &t.Spec
	// A host that follows from the domain is the domain's doing.
	from := func(field, value, byDefault, origin string) string {
		if value == byDefault {
			return origin
		}
		return field
	}
	c := map[claim]string{
		{"namespace", s.Namespace}:             from("spec.namespace", s.Namespace, t.Name+"-orthweb", "metadata.name"),
		{"host", string(s.Ingress.DICOM.Host)}: from("spec.ingress.dicom.host", string(s.Ingress.DICOM.Host), "dicom."+s.Domain, "spec.domain"),
	}
	c[claim{"host", string(s.Ingress.Web.Host)}] = from("spec.ingress.web.host", string(s.Ingress.Web.Host), s.Domain, "spec.domain")
	if ip, err := netip.ParseAddr(s.Ingress.Service.LoadBalancerIP); err == nil {
		c[claim{"address", ip.Unmap().String()}] = "spec.ingress.service.loadBalancerIP"
	}
	if s3 := s.Orthanc.Storage.S3; s3 != nil {
		c[claim{"bucket", canonicalEndpoint(s3.Endpoint) + " " + path.Join(s3.Bucket, s3.RootPath)}] = "spec.orthanc.storage.s3.bucket"
	}
	if e := s.Postgres.External; e != nil {
		c[claim{"database", fmt.Sprintf("%s port %d %s", canonicalHost(e.Host), e.Port, e.Database)}] = "spec.postgres.external.database"
	}
	if b := s.Postgres.Backup; b != nil {
		c[claim{"backup", canonicalEndpoint(b.Endpoint) + " " + b.DestinationPath}] = "spec.postgres.backup.destinationPath"
	}
	return c
}

// Claims names what a tenant claims for itself, sorted: "host bhs.orthweb.com", "namespace bhs-orthweb".
// Tenants that share one of these are in conflict, so it serves as an index of whom to ask Conflicts about.
func Claims(t *v1alpha1.Tenant) []string {
	var names []string
	for c := range claims(t) {
		names = append(names, c.kind+" "+c.value)
	}
	slices.Sort(names)
	return names
}

// Conflicts returns the claims that cannot be granted: of the tenants that claim one thing, the oldest
// holds it (by creationTimestamp, then by name and namespace). A tenant that is refused one thing still
// holds the others. The result is sorted by tenant and field.
func Conflicts(tenants []v1alpha1.Tenant) []Conflict {
	ordered := byAge(tenants)
	holders := map[claim]*v1alpha1.Tenant{}
	var conflicts []Conflict
	for _, t := range ordered {
		for c, field := range claims(t) {
			holder, taken := holders[c]
			if !taken {
				holders[c] = t
				continue
			}
			conflicts = append(conflicts, newConflict(t, holder, c, field))
		}
	}
	slices.SortFunc(conflicts, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Tenant.String(), b.Tenant.String()), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return conflicts
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
	name := holder.Name
	if holder.Namespace != t.Namespace {
		name = holder.Namespace + "/" + holder.Name
	}
	return Conflict{
		Tenant:  types.NamespacedName{Namespace: t.Namespace, Name: t.Name},
		Holder:  types.NamespacedName{Namespace: holder.Namespace, Name: holder.Name},
		Field:   field,
		Message: fmt.Sprintf("%s %s is held by tenant %s: choose another", c.kind, c.value, name),
	}
}
