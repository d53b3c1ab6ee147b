// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// platformNamespaces are where Flux, Istio, CloudNativePG, cert-manager and what watches them are installed by their own
// guides, and what docs/install.md asks for. Korthweb never takes over a namespace that is there, but a tenant can be
// defined before they are.
var platformNamespaces = []string{"default", "flux-system", "istio-system", "istio-ingress", "istio-egress", "istio-gateway",
	"istio-ingressgateway", "istio-egressgateway", "cnpg-system", "cert-manager", "monitoring", "observability", "traefik"}

// isPlatformNamespace tells whether a namespace is the platform's: one of platformNamespaces, Kubernetes' own, what is
// named like the namespace of an operator, or one of those that the platform adds.
func isPlatformNamespace(namespace string, added []string) bool {
	return slices.Contains(platformNamespaces, namespace) || slices.Contains(added, namespace) ||
		strings.HasPrefix(namespace, "kube-") || strings.HasSuffix(namespace, "-system")
}

// maxCertificateDuration is half the life of the tenant's CA, as gitops/bundles has it.
const maxCertificateDuration = 43800 * time.Hour

// CheckSpec judges what the schema of Tenant cannot say: names and keys that Kubernetes refuses in the
// objects that are made from them, keys that belong to Korthweb or Flux, hosts that are none outside of the cluster,
// and options that Orthanc does not have or Korthweb sets. Defaults must be set. The platform's namespaces are
// platformNamespaces and those that are given.
// [Load] applies it; a Tenant that somebody made by hand needs it too.
func CheckSpec(t *v1alpha1.Tenant, namespaces ...string) field.ErrorList {
	spec := field.NewPath("spec")
	errs := CheckCommonMetadata(t.Spec.CommonMetadata, spec.Child("commonMetadata"))
	switch namespace := t.Spec.Namespace; {
	case t.Namespace != "" && namespace == t.Namespace:
		errs = append(errs, field.Invalid(spec.Child("namespace"), namespace, "must not be the namespace that the Tenant itself lives in"))
	case isPlatformNamespace(namespace, namespaces):
		errs = append(errs, field.Invalid(spec.Child("namespace"), namespace, "must not be a namespace of the platform: leave it out, or choose another"))
	}
	errs = append(errs, checkOwnHosts(&t.Spec, spec, namespaces)...)
	for i, d := range t.Spec.DependsOn {
		errs = append(errs, checkDependency(d, spec.Child("dependsOn").Index(i))...)
	}
	patches := 0
	for _, p := range t.Spec.Patches {
		patches += len(p.Patch)
	}
	if patches > v1alpha1.MaxPatchBytes {
		errs = append(errs, field.Invalid(spec.Child("patches"), fmt.Sprintf("%d bytes", patches), fmt.Sprintf(
			"the patches may have %d bytes together: shorten them", v1alpha1.MaxPatchBytes)))
	}
	if r := t.Spec.Orthanc.Resources; r != nil {
		errs = append(errs, checkResources(r, spec.Child("orthanc", "resources"))...)
	}
	errs = append(errs, checkOrthanc(&t.Spec.Orthanc, spec.Child("orthanc"))...)
	errs = append(errs, checkPostgres(&t.Spec, spec.Child("postgres"))...)
	errs = append(errs, checkQuota(&t.Spec, spec.Child("quota"))...)
	errs = append(errs, checkSecretNames(t)...)
	certificates, at := &t.Spec.Certificates, spec.Child("certificates")
	errs = append(errs, checkDuration(certificates.Duration, certificates.RenewBefore, at)...)
	errs = append(errs, checkDuration(certificates.Clients.Duration, certificates.Clients.RenewBefore, at.Child("clients"))...)
	if s3 := t.Spec.Orthanc.Storage.S3; s3 != nil {
		errs = append(errs, checkEndpoint(s3.Endpoint, spec.Child("orthanc", "storage", "s3", "endpoint"))...)
	}
	if b := t.Spec.Postgres.Backup; b != nil {
		errs = append(errs, checkEndpoint(b.Endpoint, spec.Child("postgres", "backup", "endpoint"))...)
	}
	for i, h := range t.Spec.Ingress.Egress.Hosts {
		errs = append(errs, checkHost(h.Host, spec.Child("ingress", "egress", "hosts").Index(i).Child("host"))...)
	}
	return append(errs, apivalidation.ValidateAnnotations(t.Spec.Ingress.Service.Annotations, spec.Child("ingress", "service", "annotations"))...)
}

// CheckCommonMetadata judges labels and annotations that are put on every object, whoever sets them: Kubernetes must
// accept them, and they must not be those by which kustomize, Flux, Korthweb and the bundle's own selectors know the
// objects. Which domains a definition's keys may be in is for [Rules]. m may be nil.
func CheckCommonMetadata(m *kustomizev1.CommonMetadata, at *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	labels, annotations := at.Child("labels"), at.Child("annotations")
	errs := metav1validation.ValidateLabels(m.Labels, labels)
	errs = append(errs, apivalidation.ValidateAnnotations(m.Annotations, annotations)...)
	errs = append(errs, checkCommonKeys(m.Labels, labels)...)
	return append(errs, checkCommonKeys(m.Annotations, annotations)...)
}

var (
	// ownDomains are those whose keys say what an object is to kustomize, Flux and Korthweb, with all domains below
	// them. Keys without a domain are a user's own, by Kubernetes' convention; selectorKeys are those that selectors
	// of the bundle use all the same.
	ownDomains   = []string{"app.kubernetes.io", "config.kubernetes.io", "config.k8s.io", "fluxcd.io", strings.TrimSuffix(v1alpha1.LabelPrefix, "/")}
	selectorKeys = []string{"app", "istio", "istio-injection"}

	// harmlessKeys are in one of ownDomains, and may be on every object.
	harmlessKeys = []string{"app.kubernetes.io/version", v1alpha1.ShardingLabel}
)

func checkCommonKeys(keys map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		domain, _, found := strings.Cut(key, "/")
		if (found && isIn(domain, ownDomains) || slices.Contains(selectorKeys, key)) && !slices.Contains(harmlessKeys, key) {
			errs = append(errs, field.Forbidden(at.Key(key), "tells kustomize, Flux, Istio or Korthweb what an object is, so it may not be on every one: "+
				"use a key without a domain, or in one of your own"))
		}
	}
	return errs
}

// isIn tells whether a domain is one of some domains, or below one.
func isIn(domain string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) })
}

// writtenSecrets are the Secrets of a tenant's namespace that cert-manager, the database's operator and Korthweb write:
// a person's own of such a name would be written over. One that ends in a dash or dot stands for all that begin with it.
var writtenSecrets = []string{
	"tenant-ca", "web-tls", "dicom-tls", "modality-", "postgres-", v1alpha1.DefaultUsersSecret, "sh.helm.release.",
}

// checkSecretNames judges the names of the Secrets that a definition refers to.
func checkSecretNames(t *v1alpha1.Tenant) field.ErrorList {
	var errs field.ErrorList
	for _, ref := range t.Spec.SecretRefs() {
		at := field.NewPath(ref.Field, "name")
		for _, reason := range validation.IsDNS1123Subdomain(ref.Name) {
			errs = append(errs, field.Invalid(at, ref.Name, reason))
		}
		for _, name := range writtenSecrets {
			isPrefix := strings.HasSuffix(name, "-") || strings.HasSuffix(name, ".")
			if ref.Name == name || isPrefix && strings.HasPrefix(ref.Name, name) {
				errs = append(errs, field.Invalid(at, ref.Name, "is a name of a Secret that is written for the tenant: choose another for yours"))
			}
		}
	}
	return errs
}

// checkDuration refuses a certificate that may live longer than is left of its CA, and one that is renewed so early that
// its renewal never rests. The schema says the latter of what both are set; here the defaults are.
func checkDuration(duration, renewBefore *metav1.Duration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if duration.Duration > maxCertificateDuration {
		errs = append(errs, field.Invalid(at.Child("duration"), duration.Duration.String(), fmt.Sprintf(
			"must be at most %s (five years): the CA that signs it lives ten", maxCertificateDuration)))
	}
	if most := duration.Duration / 3 * 2; renewBefore.Duration > most {
		errs = append(errs, field.Invalid(at.Child("renewBefore"), renewBefore.Duration.String(), fmt.Sprintf(
			"must be at most %s, two thirds of duration: the certificate would be renewed without rest", most)))
	}
	return errs
}

// checkQuota judges the quota by itself and against what the bundle's containers ask for.
func checkQuota(s *v1alpha1.TenantSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	q := &s.Quota
	for _, name := range slices.Sorted(maps.Keys(q.Hard)) {
		value := q.Hard[name]
		if value.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Child("hard").Key(string(name)), value.String(), "must not be below zero"))
		}
		if !isQuotaName(string(name)) {
			errs = append(errs, field.Invalid(at.Child("hard").Key(string(name)), string(name), "is nothing that a ResourceQuota counts, such as pods, requests.memory or count/jobs.batch"))
		}
		// Under such a quota Kubernetes refuses each container without a limit, and not all of the bundle's have one.
		resourceName, limits := strings.CutPrefix(string(name), "limits.")
		if _, ok := q.Containers.Default[corev1.ResourceName(resourceName)]; limits && !ok {
			errs = append(errs, field.Required(at.Child("containers", "default").Key(resourceName), fmt.Sprintf(
				"quota.hard bounds %s, so each container needs a limit: say which by default", name)))
		}
	}
	c, at := &q.Containers, at.Child("containers")
	for _, name := range slices.Sorted(maps.Keys(c.Default)) {
		limit := c.Default[name]
		if request, ok := c.DefaultRequest[name]; ok && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(at.Child("default").Key(string(name)), limit.String(), fmt.Sprintf(
				"must not be below defaultRequest, %s", request.String())))
		}
	}
	for _, list := range []struct {
		field string
		names map[corev1.ResourceName]resource.Quantity
	}{{"default", c.Default}, {"defaultRequest", c.DefaultRequest}, {"max", c.Max}} {
		errs = append(errs, checkResourceNames(list.names, at.Child(list.field))...)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Max)) {
		most := c.Max[name]
		for _, values := range []struct {
			field string
			list  map[corev1.ResourceName]resource.Quantity
		}{{"default", c.Default}, {"defaultRequest", c.DefaultRequest}} {
			if value, ok := values.list[name]; ok && value.Cmp(most) > 0 {
				errs = append(errs, field.Invalid(at.Child(values.field).Key(string(name)), value.String(), fmt.Sprintf("must not be above max, %s", most.String())))
			}
		}
		for _, of := range []struct {
			field     string
			resources *v1alpha1.ResourceRequirements
		}{{"spec.orthanc.resources", s.Orthanc.Resources}, {"spec.postgres.resources", s.Postgres.Resources}} {
			if of.resources == nil {
				continue
			}
			for _, list := range []map[corev1.ResourceName]resource.Quantity{of.resources.Limits, of.resources.Requests} {
				if value, ok := list[name]; ok && value.Cmp(most) > 0 {
					errs = append(errs, field.Invalid(at.Child("max").Key(string(name)), most.String(), fmt.Sprintf(
						"%s asks for %s, so no pod of it could be made: allow more, or ask for less", of.field, value.String())))
					break
				}
			}
		}
	}
	return errs
}

func checkDependency(d v1alpha1.DependencyReference, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, reason := range validation.IsDNS1123Subdomain(d.Name) {
		errs = append(errs, field.Invalid(at.Child("name"), d.Name, reason))
	}
	if d.Namespace != "" {
		for _, reason := range validation.IsDNS1123Label(d.Namespace) {
			errs = append(errs, field.Invalid(at.Child("namespace"), d.Namespace, reason))
		}
	}
	return errs
}

// isQuotaName tells whether a ResourceQuota knows a name
// (https://kubernetes.io/docs/concepts/policy/resource-quotas/).
func isQuotaName(name string) bool {
	if counted, ok := strings.CutPrefix(name, "count/"); ok {
		return len(validation.IsDNS1123Subdomain(counted)) == 0
	}
	compute := strings.TrimPrefix(strings.TrimPrefix(name, "requests."), "limits.")
	switch {
	case slices.Contains([]string{"cpu", "memory", "ephemeral-storage"}, compute), name == "requests.storage",
		strings.HasPrefix(compute, corev1.ResourceHugePagesPrefix):
		return true
	case strings.Contains(name, "/"): // a device, or a class of storage or devices
		return len(validation.IsQualifiedName(name)) == 0
	}
	return slices.Contains([]string{
		"pods", "services", "services.loadbalancers", "services.nodeports", "configmaps", "secrets",
		"persistentvolumeclaims", "replicationcontrollers", "resourcequotas",
	}, name)
}

// checkResourceNames judges the names and values of a container's resources: Kubernetes' own, or those of a device, which
// have a domain (https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/).
func checkResourceNames(list map[corev1.ResourceName]resource.Quantity, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(list)) {
		own := slices.Contains([]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}, name) ||
			strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
		device := strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), "requests.")
		if !own && (!device || len(validation.IsQualifiedName(string(name))) > 0) {
			errs = append(errs, field.NotSupported(at.Key(string(name)), name, []string{"cpu", "memory", "ephemeral-storage", "hugepages-<size>", "<domain>/<device>"}))
		}
		value := list[name]
		if value.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), value.String(), "must not be below zero"))
		}
		if most, bounded := maxResources[name]; bounded && value.Cmp(most) > 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), value.String(), fmt.Sprintf("must be at most %s: no machine has more to give", most.String())))
		}
	}
	return errs
}

// maxResources are the most that a container may ask for: an autoscaler of the cluster would look for a machine that
// bears it, and pay for that.
var maxResources = map[corev1.ResourceName]resource.Quantity{
	corev1.ResourceCPU: resource.MustParse("128"), corev1.ResourceMemory: resource.MustParse("1Ti"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
}

// leastMemory is the least limit of a container: none of the bundle's starts with less.
var leastMemory = resource.MustParse("64Mi")

func checkResources(r *v1alpha1.ResourceRequirements, at *field.Path) field.ErrorList {
	errs := checkResourceNames(r.Requests, at.Child("requests"))
	errs = append(errs, checkResourceNames(r.Limits, at.Child("limits"))...)
	if limit, ok := r.Limits[corev1.ResourceMemory]; ok && limit.Sign() >= 0 && limit.Cmp(leastMemory) < 0 {
		errs = append(errs, field.Invalid(at.Child("limits").Key("memory"), limit.String(), fmt.Sprintf("must be at least %s: the container would not start", leastMemory.String())))
	}
	if limit, ok := r.Limits[corev1.ResourceCPU]; ok && limit.IsZero() {
		errs = append(errs, field.Invalid(at.Child("limits").Key("cpu"), limit.String(), "must be above zero"))
	}
	if request, ok := r.Requests[corev1.ResourceCPU]; ok && request.IsZero() {
		errs = append(errs, field.Invalid(at.Child("requests").Key("cpu"), request.String(), "must be above zero"))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request := r.Requests[name]
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(at.Child("requests").Key(string(name)), request.String(), fmt.Sprintf("must not be above the limit, %s", limit.String())))
		}
	}
	return errs
}
