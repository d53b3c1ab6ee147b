// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// defaultServiceAnnotations may stand on a gateway's Service where a TenantRepository lists none: how a cloud's load
// balancer treats connections and asks for health, and whether it is internal. None names an address, a certificate, a
// load balancer or an identity.
var defaultServiceAnnotations = []string{
	// AWS: cloud-provider-aws and the AWS Load Balancer Controller.
	"service.beta.kubernetes.io/aws-load-balancer-connection-draining-enabled",
	"service.beta.kubernetes.io/aws-load-balancer-connection-draining-timeout",
	"service.beta.kubernetes.io/aws-load-balancer-connection-idle-timeout",
	"service.beta.kubernetes.io/aws-load-balancer-cross-zone-load-balancing-enabled",
	"service.beta.kubernetes.io/aws-load-balancer-healthcheck-healthy-threshold",
	"service.beta.kubernetes.io/aws-load-balancer-healthcheck-interval",
	"service.beta.kubernetes.io/aws-load-balancer-healthcheck-path",
	"service.beta.kubernetes.io/aws-load-balancer-healthcheck-port",
	"service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol",
	"service.beta.kubernetes.io/aws-load-balancer-healthcheck-timeout",
	"service.beta.kubernetes.io/aws-load-balancer-healthcheck-unhealthy-threshold",
	"service.beta.kubernetes.io/aws-load-balancer-internal",
	"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type",
	"service.beta.kubernetes.io/aws-load-balancer-proxy-protocol",
	"service.beta.kubernetes.io/aws-load-balancer-scheme",
	"service.beta.kubernetes.io/aws-load-balancer-type",
	// Azure: cloud-provider-azure.
	"service.beta.kubernetes.io/azure-load-balancer-health-probe-interval",
	"service.beta.kubernetes.io/azure-load-balancer-health-probe-num-of-probe",
	"service.beta.kubernetes.io/azure-load-balancer-health-probe-protocol",
	"service.beta.kubernetes.io/azure-load-balancer-health-probe-request-path",
	"service.beta.kubernetes.io/azure-load-balancer-internal",
	"service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout",
	// Google: GKE.
	"cloud.google.com/l4-rbs",
	"networking.gke.io/internal-load-balancer-allow-global-access",
	"networking.gke.io/load-balancer-type",
}

// configField is allowed to facilities for the options of facilityOptions. A platform that names it in facilityFields.allow
// opens it to what a class may set.
const configField = "spec.orthanc.config"

// Rules are what a platform says of the definitions of one TenantRepository.
type Rules struct {
	fields             *access
	reserve            []string // what the platform reserves beside the API
	domains            []string // "" for any
	serviceAnnotations map[string]bool
	opensConfig        bool // to all options of Orthanc that a class may set
}

// defaultRules are those of a TenantRepository that says nothing.
func defaultRules() *Rules {
	rules, _ := NewRules(&v1alpha1.TenantRepositorySpec{})
	return rules
}

// NewRules reads the rules of a TenantRepository. The errors are about paths that no Tenant has, fields that are both
// allowed and reserved, and a classPath that leaves no room for tenants.
func NewRules(spec *v1alpha1.TenantRepositorySpec) (*Rules, field.ErrorList) {
	at := field.NewPath("spec")
	fields, errs := amend(spec.FacilityFields, at.Child("facilityFields"))
	r := &Rules{
		fields:             fields,
		reserve:            spec.FacilityFields.Reserve,
		serviceAnnotations: map[string]bool{},
		opensConfig:        slices.Contains(spec.FacilityFields.Allow, configField),
	}
	for _, domain := range spec.Domains {
		r.domains = append(r.domains, strings.ToLower(strings.TrimSuffix(string(domain), ".")))
	}
	annotations := spec.AllowedServiceAnnotations
	if annotations == nil {
		annotations = defaultServiceAnnotations
	}
	for _, key := range annotations {
		r.serviceAnnotations[key] = true
	}
	if spec.ClassPath != "" && Within(path.Clean(spec.ClassPath), path.Clean(spec.Path)) {
		errs = append(errs, field.Invalid(at.Child("classPath"), spec.ClassPath, roomForTenants))
	}
	return r, errs
}

const roomForTenants = "must not be path or a directory that path is in: no Tenant below classPath counts"

// amend puts a platform's own marks over those of the API. The longest path that names a field counts.
func amend(amendments v1alpha1.FacilityFields, at *field.Path) (*access, field.ErrorList) {
	type amendment struct {
		path     string
		reserved bool
		at       *field.Path
	}
	var all []amendment
	for i, p := range amendments.Allow {
		all = append(all, amendment{p, false, at.Child("allow").Index(i)})
	}
	for i, p := range amendments.Reserve {
		all = append(all, amendment{p, true, at.Child("reserve").Index(i)})
	}
	slices.SortStableFunc(all, func(a, b amendment) int {
		return cmp.Compare(strings.Count(a.path, "."), strings.Count(b.path, "."))
	})
	var errs field.ErrorList
	fields := marks().clone()
	seen := map[string]bool{}
	for _, a := range all {
		f := fields.at(a.path)
		reserved, twice := seen[a.path]
		switch {
		case f == nil:
			errs = append(errs, field.Invalid(a.at, a.path, "no Tenant has this field"+likePath(fields, a.path)))
		case twice && reserved != a.reserved:
			errs = append(errs, field.Invalid(a.at, a.path, "is both allowed and reserved: remove it from one"))
		default:
			f.set(a.reserved)
		}
		seen[a.path] = a.reserved
	}
	fields.sum()
	return fields, errs
}

// reservedAs returns the path of facilityFields.reserve that reserves a field, or something below it; "" where allowing the
// field opens it.
func (r *Rules) reservedAs(field string) string {
	if slices.Contains(r.reserve, field) {
		return field
	}
	if api := marks().at(field); api == nil || api.someReserved {
		return ""
	}
	most := ""
	for _, p := range r.reserve {
		if (strings.HasPrefix(field, p+".") || strings.HasPrefix(p, field+".")) && len(p) > len(most) {
			most = p
		}
	}
	return most
}

// likePath suggests the path that is most like another.
func likePath(fields *access, like string) string {
	var known []string
	fields.walk("", func(path string, _ *access) { known = append(known, path) })
	if near := nearest(like, known); near != "" {
		return fmt.Sprintf(", did you mean %s?", near)
	}
	return ": write a path such as spec.quota or metadata.labels, without indices"
}

// checkRules judges a complete tenant by what no facility and no class decides: its domain and hosts, and the annotations
// of its gateway's Service.
func (r *Rules) checkRules(t *v1alpha1.Tenant) field.ErrorList {
	spec := field.NewPath("spec")
	ingress := spec.Child("ingress")
	errs := r.checkDomain(spec.Child("domain"), t.Spec.Domain)
	if host := string(t.Spec.Ingress.Web.Host); host != t.Spec.Domain {
		errs = append(errs, r.checkDomain(ingress.Child("web", "host"), host)...)
	}
	if host := string(t.Spec.Ingress.DICOM.Host); host != "dicom."+t.Spec.Domain {
		errs = append(errs, r.checkDomain(ingress.Child("dicom", "host"), host)...)
	}
	for _, key := range sortedKeys(t.Spec.Ingress.Service.Annotations) {
		if !r.serviceAnnotations[key] {
			errs = append(errs, field.Forbidden(ingress.Child("service", "annotations").Key(key),
				"is not among the annotations that a gateway's Service may have: remove it, or ask the platform to list it in "+
					"spec.allowedServiceAnnotations of the TenantRepository"))
		}
	}
	return errs
}

func (r *Rules) checkDomain(at *field.Path, host string) field.ErrorList {
	if len(r.domains) == 0 || slices.ContainsFunc(r.domains, func(d string) bool { return strings.HasSuffix(host, "."+d) }) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, host, "is not below a domain that facilities may have hosts in, "+
		strings.Join(r.domains, ", ")+" (spec.domains of the TenantRepository): choose a name below one")}
}

// Within tells whether a path is a directory or below it, both clean and relative to one root.
func Within(dir, name string) bool {
	return dir == "." && fs.ValidPath(name) || name == dir || strings.HasPrefix(name, dir+"/")
}
