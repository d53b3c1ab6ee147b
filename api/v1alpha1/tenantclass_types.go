// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TenantClassKind is the kind of TenantClass.
const TenantClassKind = "TenantClass"

// TenantClass is a document beside the tenants: the defaults of the tenants that name it in
// spec.className. It is resolved when files are read and is never stored in a cluster, so it has no
// CustomResourceDefinition.
//
// +kubebuilder:object:generate=false
type TenantClass struct {
	metav1.TypeMeta `json:",inline"`

	// Metadata holds the name of the class.
	Metadata TenantClassMetadata `json:"metadata"`

	// AllowedTenants are the names of the tenants that may name this class; all may where it is not set. An entry may
	// hold * for any characters: trial-*.
	AllowedTenants []string `json:"allowedTenants,omitempty"`

	// TenantLabels are put on the Tenants of this class, over labels that a facility sets where the platform lets it.
	TenantLabels map[string]string `json:"tenantLabels,omitempty"`

	// AllowNestedDomains permits a tenant of this class hosts below another tenant's domain or host.
	AllowNestedDomains bool `json:"allowNestedDomains,omitempty"`

	// Spec holds any fields of a Tenant's spec but domain, namespace and className, which are a
	// tenant's own. A tenant's spec is merged over it as a JSON merge patch (RFC 7386).
	Spec runtime.RawExtension `json:"spec"`
}

// TenantClassMetadata is the metadata that a TenantClass may have.
//
// +kubebuilder:object:generate=false
type TenantClassMetadata struct {
	// Name of the class.
	Name string `json:"name"`
}
