// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CertificatesSpec configures the certificates of the tenant. Those of the DICOM host and of modalities are signed by
// the tenant's own CA, and that of the web host too unless issuerRef names another.
//
// +kubebuilder:validation:XValidation:rule="!has(self.duration) || !has(self.renewBefore) || duration(self.renewBefore).getSeconds() * 3 <= duration(self.duration).getSeconds() * 2",fieldPath=".renewBefore",message="renewBefore must be at most two thirds of duration: the certificate would be renewed without rest"
type CertificatesSpec struct {
	// Duration of the certificates of the web and DICOM hosts, 2160h (90 days) by default, 24h at least.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('24h')",message="duration must be at least 24h: the certificate would be renewed without rest"
	// +optional
	Duration *metav1.Duration `json:"duration,omitempty" facility:"allowed"`

	// RenewBefore is how long before their end these are renewed, 720h (30 days) by default.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m')",message="renewBefore must be at least 5m"
	// +optional
	RenewBefore *metav1.Duration `json:"renewBefore,omitempty" facility:"allowed"`

	// Clients are the certificates by which modalities identify themselves, one for each that is declared.
	// +optional
	Clients ClientCertificatesSpec `json:"clients,omitempty,omitzero" facility:"allowed"`

	// IssuerRef names the issuer of the web host's certificate, such as a ClusterIssuer of an ACME authority. The
	// tenant's own CA by default.
	// +optional
	IssuerRef *IssuerReference `json:"issuerRef,omitempty" facility:"reserved"`
}

// ClientCertificatesSpec configures the client certificates of modalities.
//
// +kubebuilder:validation:XValidation:rule="!has(self.duration) || !has(self.renewBefore) || duration(self.renewBefore).getSeconds() * 3 <= duration(self.duration).getSeconds() * 2",fieldPath=".renewBefore",message="renewBefore must be at most two thirds of duration: the certificate would be renewed without rest"
type ClientCertificatesSpec struct {
	// Duration of a client certificate, 8760h (a year) by default: somebody has to bring it to the modality.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('24h')",message="duration must be at least 24h: the certificate would be renewed without rest"
	// +optional
	Duration *metav1.Duration `json:"duration,omitempty" facility:"allowed"`

	// RenewBefore is how long before its end it is renewed, 2160h (90 days) by default. The old one is good until
	// its end.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m')",message="renewBefore must be at least 5m"
	// +optional
	RenewBefore *metav1.Duration `json:"renewBefore,omitempty" facility:"allowed"`
}

// IssuerReference names an issuer of cert-manager.
type IssuerReference struct {
	// Group of the issuer, cert-manager.io by default.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +optional
	Group string `json:"group,omitempty" facility:"reserved"`

	// Kind of the issuer, ClusterIssuer by default. An Issuer is looked for in the tenant's namespace.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z0-9]*$`
	// +optional
	Kind string `json:"kind,omitempty" facility:"reserved"`

	// Name of the issuer.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +required
	Name string `json:"name" facility:"reserved"`
}
