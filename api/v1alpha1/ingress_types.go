// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
)

// IngressProvider says what the facility is reached through.
// +kubebuilder:validation:Enum=Istio;Traefik
type IngressProvider string

const (
	// IstioIngress is a gateway of Istio, and Orthanc in its mesh.
	IstioIngress IngressProvider = "Istio"

	// TraefikIngress is a Traefik of the tenant's own, without a mesh.
	TraefikIngress IngressProvider = "Traefik"
)

// IngressSpec configures how the facility is reached from outside, and what it reaches there.
//
// +kubebuilder:validation:XValidation:rule="!self.?egress.?gateway.orValue(false) || self.?provider.orValue('Istio') == 'Istio'",fieldPath=".egress.gateway",message="an egress gateway is Istio's: it needs provider Istio"
type IngressSpec struct {
	// Provider of the ingress: Istio (the default) or Traefik.
	// +optional
	Provider IngressProvider `json:"provider,omitempty" facility:"allowed"`

	// Web is the HTTPS entry.
	// +optional
	Web WebIngress `json:"web,omitempty,omitzero" facility:"allowed"`

	// DICOM is the DICOM over TLS entry.
	// +optional
	DICOM DICOMIngress `json:"dicom,omitempty,omitzero" facility:"allowed"`

	// Service of the gateway.
	// +optional
	Service GatewayService `json:"service,omitempty,omitzero" facility:"reserved"`

	// Egress is what the tenant reaches outside of the cluster, beside what other fields name.
	// +optional
	Egress EgressSpec `json:"egress,omitempty,omitzero" facility:"allowed"`

	// Chart that the gateway is installed from. The default is the provider's own: Istio's gateway chart, or Traefik's.
	// +optional
	Chart ChartSpec `json:"chart,omitempty,omitzero" facility:"reserved"`
}

// ClientCertificates says whether who connects must show a certificate.
// +kubebuilder:validation:Enum=Required;None
type ClientCertificates string

const (
	// ClientCertificatesRequired refuses who has no certificate of the tenant's CA.
	ClientCertificatesRequired ClientCertificates = "Required"

	// ClientCertificatesNone takes anybody who speaks TLS.
	ClientCertificatesNone ClientCertificates = "None"
)

// EgressSpec is what the tenant reaches outside of the cluster.
type EgressSpec struct {
	// Hosts that the tenant may reach beside the modalities, the S3 service and the database that its definition
	// names.
	// +kubebuilder:validation:MaxItems=100
	// +optional
	Hosts []EgressHost `json:"hosts,omitempty" facility:"allowed"`

	// Gateway sends what leaves the mesh through an egress gateway of the tenant's own, so that it comes from
	// addresses that a firewall can know. Istio only.
	// +optional
	Gateway bool `json:"gateway,omitempty" facility:"allowed"`
}

// EgressHost is a host outside of the cluster.
type EgressHost struct {
	// Host is a DNS name or an IP address.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9.:]*[a-zA-Z0-9])?$')",message="host must be a DNS name or an IP address"
	// +required
	Host string `json:"host" facility:"allowed"`

	// Port of the host.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port" facility:"allowed"`

	// Protocol that is spoken there: TLS (which HTTPS is, the default) or TCP.
	// +kubebuilder:validation:Enum=TLS;TCP
	// +optional
	Protocol string `json:"protocol,omitempty" facility:"allowed"`
}

// WebIngress is the HTTPS entry.
type WebIngress struct {
	// Host is the DNS name, spec.domain by default.
	// +optional
	Host Hostname `json:"host,omitempty" facility:"allowed"`
}

// DICOMIngress is the DICOM over TLS entry.
type DICOMIngress struct {
	// Host is the DNS name in the certificate, dicom.<domain> by default.
	// +optional
	Host Hostname `json:"host,omitempty" facility:"allowed"`

	// Port that modalities connect to, 11112 by default (registered for DICOM, IANA "dicom").
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="!(self in [80, 443]) && !(self >= 15000 && self <= 15090)",message="ports 80, 443 and 15000 to 15090 are the gateway's own"
	// +optional
	Port int32 `json:"port,omitempty" facility:"allowed"`

	// ClientCertificates says whether modalities must show a certificate of the tenant's CA: Required (the default)
	// or None, for a network that is closed by other means.
	// +optional
	ClientCertificates ClientCertificates `json:"clientCertificates,omitempty" facility:"allowed"`
}

// Hostname is a DNS name in lower case, without a wildcard.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\\\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="a host must be a DNS name of at least two labels in lower case"
type Hostname string

// GatewayService is the Service in front of the gateway.
//
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerClass) || !has(self.type) || self.type == 'LoadBalancer'",message="loadBalancerClass needs type LoadBalancer"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerIP) || !has(self.type) || self.type == 'LoadBalancer'",message="loadBalancerIP needs type LoadBalancer"
type GatewayService struct {
	// Type of the Service, LoadBalancer by default.
	// +kubebuilder:validation:Enum=LoadBalancer;NodePort;ClusterIP
	// +optional
	Type corev1.ServiceType `json:"type,omitempty" facility:"reserved"`

	// Annotations of the Service, which is where clouds take their load balancer's options from.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Annotations map[string]string `json:"annotations,omitempty" facility:"reserved"`

	// LoadBalancerClass of the Service, in the form of a label's key: example.com/internal.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`
	// +optional
	LoadBalancerClass string `json:"loadBalancerClass,omitempty" facility:"reserved"`

	// LoadBalancerIP is the address to ask the load balancer for. No two tenants may ask for one address.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="loadBalancerIP must be an IP address"
	// +optional
	LoadBalancerIP string `json:"loadBalancerIP,omitempty" facility:"reserved"`
}

// ChartSpec is a Helm chart in an OCI registry.
type ChartSpec struct {
	// URL of the chart, without a tag: oci:// and a registry, and the repository's path.
	// +kubebuilder:validation:Pattern=`^oci://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`
	// +kubebuilder:validation:MaxLength=512
	// +optional
	URL string `json:"url,omitempty" facility:"reserved"`

	// Version of the chart.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`
	// +optional
	Version string `json:"version,omitempty" facility:"reserved"`

	// Insecure allows a registry without TLS.
	// +optional
	Insecure bool `json:"insecure,omitempty" facility:"reserved"`

	// SecretRef names a registry Secret in the tenant's namespace.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty" facility:"reserved"`
}
