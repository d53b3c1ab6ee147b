// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantKind is the kind of Tenant.
const TenantKind = "Tenant"

// MaxTenantNameLength is the longest name of a Tenant in characters: the longest that still fits a
// 63-character namespace or label with the longest suffix that is put after it (-application).
const MaxTenantNameLength = 50

// DeletionPolicy says what becomes of a tenant's data when the tenant is removed.
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

const (
	// RetainData takes the tenant offline and keeps its namespace, database, volumes and credentials.
	RetainData DeletionPolicy = "Retain"

	// DeleteData removes the tenant's namespace with all that is in it.
	DeleteData DeletionPolicy = "Delete"
)

// TenantSpec is the resolved definition of one facility.
//
// +kubebuilder:validation:XValidation:rule="has(self.__namespace__) == has(oldSelf.__namespace__) && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)",message="namespace is immutable: moving a tenant would leave its data behind"
type TenantSpec struct {
	// ClassName of the TenantClass that this tenant's definition was resolved with.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	ClassName string `json:"className,omitempty"`

	// DisplayName of the facility, for people. Orthanc shows it as its name.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[^\x00-\x1f\x7f]*$`
	// +optional
	DisplayName string `json:"displayName,omitempty"`

	// Domain is the DNS name under which the facility is reached.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\\\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="domain must be a DNS name of at least two labels in lower case, such as bhs.orthweb.com"
	// +required
	Domain string `json:"domain"`

	// Namespace of the tenant's workload, <name>-orthweb by default. It cannot be changed.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="namespace must be a DNS label: lower case letters, digits and dashes"
	// +kubebuilder:validation:XValidation:rule="self != 'default' && !self.startsWith('kube-')",message="namespace must not be one of Kubernetes' own"
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// Suspend stops Korthweb and Flux from changing this tenant. The facility stays online.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// DeletionPolicy says what becomes of the data when the tenant is removed: Retain (the default)
	// takes the facility offline and keeps it, Delete removes the namespace with all that is in it.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// DependsOn names Flux Kustomizations that the dependency layer waits for. A TenantRepository's
	// spec.dependsOn is written here.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	DependsOn []DependencyReference `json:"dependsOn,omitempty"`

	// CommonMetadata is added to every object that is emitted or rendered for this tenant. A
	// TenantRepository's spec.commonMetadata is written here.
	// +optional
	CommonMetadata *kustomizev1.CommonMetadata `json:"commonMetadata,omitempty"`

	// Orthanc configures the DICOM server.
	// +optional
	Orthanc OrthancSpec `json:"orthanc,omitempty,omitzero"`

	// Postgres configures the database of the DICOM index.
	// +optional
	Postgres PostgresSpec `json:"postgres,omitempty,omitzero"`

	// Certificates configures the tenant's own CA and the certificates that it signs.
	// +optional
	Certificates CertificatesSpec `json:"certificates,omitempty,omitzero"`

	// Ingress configures how the facility is reached from outside.
	// +optional
	Ingress IngressSpec `json:"ingress,omitempty,omitzero"`

	// Patches are kustomize patches on the rendered objects. They may change objects; they may not
	// add, remove, rename or move any.
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Patches []kustomize.Patch `json:"patches,omitempty"`
}

// OrthancSpec configures the DICOM server.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.replicas) && has(self.autoscaling))",message="replicas and autoscaling exclude each other: set one"
type OrthancSpec struct {
	// Image of Orthanc with a tag or a digest. The default is the image that the bundle was tested with.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]+([._-][a-z0-9]+)*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$') && self.matches('(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[a-f0-9]{64})$')",message="image must be a reference with a tag or an @sha256: digest, such as orthancteam/orthanc:26.8.1"
	// +optional
	Image string `json:"image,omitempty"`

	// Replicas is the fixed number of Orthanc pods, 1 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// Autoscaling lets the number of Orthanc pods follow their CPU use.
	// +optional
	Autoscaling *AutoscalingSpec `json:"autoscaling,omitempty"`

	// Resources of the Orthanc container.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// AETitle is the application entity title that modalities call, ORTHANC by default.
	// +optional
	AETitle AETitle `json:"aeTitle,omitempty"`

	// Modalities are the DICOM application entities that may talk to this Orthanc.
	// +kubebuilder:validation:MaxItems=200
	// +listType=map
	// +listMapKey=name
	// +optional
	Modalities []Modality `json:"modalities,omitempty"`

	// Storage is the volume that DICOM instances are kept on.
	// +optional
	Storage StorageSpec `json:"storage,omitempty,omitzero"`
}

// AETitle is a DICOM application entity title: 1 to 16 characters of the default repertoire without
// backslash and control characters, not only spaces (DICOM PS3.5, section 6.2, value representation AE).
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:XValidation:rule="self.matches('^[\\\\x20-\\\\x5b\\\\x5d-\\\\x7e]*$') && !self.matches('^ *$')",message="an AE title is 1 to 16 printable ASCII characters without backslash, and not only spaces (DICOM PS3.5 section 6.2)"
type AETitle string

// AutoscalingSpec configures a HorizontalPodAutoscaler.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",message="minReplicas must not be above maxReplicas"
type AutoscalingSpec struct {
	// MinReplicas is the fewest pods, 1 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +optional
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// MaxReplicas is the most pods.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +required
	MaxReplicas int32 `json:"maxReplicas"`

	// TargetCPUUtilizationPercentage is the average CPU use, in percent of the request, that the
	// autoscaler aims at, 80 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	TargetCPUUtilizationPercentage *int32 `json:"targetCPUUtilizationPercentage,omitempty"`
}

// ResourceRequirements are the compute resources of a container.
type ResourceRequirements struct {
	// Requests is what the container is guaranteed.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Requests map[corev1.ResourceName]resource.Quantity `json:"requests,omitempty"`

	// Limits is the most that the container may use.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Limits map[corev1.ResourceName]resource.Quantity `json:"limits,omitempty"`
}

// Modality is a DICOM application entity that may talk to Orthanc.
type Modality struct {
	// Name of the modality in Orthanc, such as ct-1.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$')",message="a modality's name must be letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
	// +required
	Name string `json:"name"`

	// AETitle of the modality.
	// +required
	AETitle AETitle `json:"aeTitle"`

	// Host is the DNS name or IP address of the modality, for C-MOVE and C-STORE to it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9.:]*[a-zA-Z0-9])?$')",message="host must be a DNS name or an IP address"
	// +required
	Host string `json:"host"`

	// Port of the modality.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`
}

// StorageSpec is a volume claim.
type StorageSpec struct {
	// Size of the volume. The default is the bundle's.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",message="size must be a Kubernetes quantity above zero, such as 100Gi"
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`

	// ClassName is the StorageClass, the cluster's default where not set.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +optional
	ClassName string `json:"className,omitempty"`
}

// PostgresSpec configures the database of the DICOM index.
type PostgresSpec struct {
	// Instances is the number of PostgreSQL servers, one of them the primary; 1 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=9
	// +optional
	Instances *int32 `json:"instances,omitempty"`

	// Storage is the volume of each instance.
	// +optional
	Storage StorageSpec `json:"storage,omitempty,omitzero"`
}

// CertificatesSpec configures the certificates that the tenant's own CA signs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.duration) || !has(self.renewBefore) || duration(self.renewBefore) < duration(self.duration)",message="renewBefore must be shorter than duration"
type CertificatesSpec struct {
	// Duration of the site certificate, 2160h (90 days) by default, 1h at least (cert-manager's minimum).
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h')",message="duration must be at least 1h"
	// +optional
	Duration *metav1.Duration `json:"duration,omitempty"`

	// RenewBefore is how long before its end the site certificate is renewed, 720h (30 days) by default.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m')",message="renewBefore must be at least 5m"
	// +optional
	RenewBefore *metav1.Duration `json:"renewBefore,omitempty"`
}

// IngressSpec configures how the facility is reached from outside.
type IngressSpec struct {
	// Web is the HTTPS entry.
	// +optional
	Web WebIngress `json:"web,omitempty,omitzero"`

	// DICOM is the DICOM over TLS entry.
	// +optional
	DICOM DICOMIngress `json:"dicom,omitempty,omitzero"`

	// Service of the gateway.
	// +optional
	Service GatewayService `json:"service,omitempty,omitzero"`

	// Chart that the gateway is installed from. The default is Istio's own gateway chart.
	// +optional
	Chart ChartSpec `json:"chart,omitempty,omitzero"`
}

// WebIngress is the HTTPS entry.
type WebIngress struct {
	// Host is the DNS name, spec.domain by default.
	// +optional
	Host Hostname `json:"host,omitempty"`
}

// DICOMIngress is the DICOM over TLS entry.
type DICOMIngress struct {
	// Host is the DNS name in the certificate, dicom.<domain> by default.
	// +optional
	Host Hostname `json:"host,omitempty"`

	// Port that modalities connect to, 11112 by default (registered for DICOM, IANA "dicom").
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="!(self in [80, 443, 15021])",message="ports 80, 443 and 15021 are the gateway's own"
	// +optional
	Port int32 `json:"port,omitempty"`
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
	Type corev1.ServiceType `json:"type,omitempty"`

	// Annotations of the Service, which is where clouds take their load balancer's options from.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`

	// LoadBalancerClass of the Service.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	LoadBalancerClass string `json:"loadBalancerClass,omitempty"`

	// LoadBalancerIP is the address to ask the load balancer for. No two tenants may ask for one address.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="loadBalancerIP must be an IP address"
	// +optional
	LoadBalancerIP string `json:"loadBalancerIP,omitempty"`
}

// ChartSpec is a Helm chart in an OCI registry.
type ChartSpec struct {
	// URL of the chart.
	// +kubebuilder:validation:Pattern="^oci://.+$"
	// +kubebuilder:validation:MaxLength=512
	// +optional
	URL string `json:"url,omitempty"`

	// Version of the chart.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`
	// +optional
	Version string `json:"version,omitempty"`

	// Insecure allows a registry without TLS.
	// +optional
	Insecure bool `json:"insecure,omitempty"`

	// SecretRef names a registry Secret in the tenant's namespace.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`
}

// TenantStatus is the health of one facility.
type TenantStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`

	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready, Healthy, Reconciling, Stalled.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// LastAttemptedRevision is the bundle revision that was last published.
	// +optional
	LastAttemptedRevision string `json:"lastAttemptedRevision,omitempty"`

	// LastAppliedRevision is the bundle revision that both layers last applied and found healthy.
	// +optional
	LastAppliedRevision string `json:"lastAppliedRevision,omitempty"`

	// Artifact is the published bundle.
	// +optional
	Artifact *meta.Artifact `json:"artifact,omitempty"`

	// Layers are the states of the layers, in the order in which they are applied.
	// +optional
	Layers []LayerStatus `json:"layers,omitempty"`

	// Inventory lists what Korthweb itself emitted.
	// +optional
	Inventory *kustomizev1.ResourceInventory `json:"inventory,omitempty"`

	// URLs under which the facility is reached.
	// +optional
	URLs []string `json:"urls,omitempty"`

	// History of the bundle revisions, newest first.
	// +optional
	History meta.History `json:"history,omitempty"`
}

// LayerStatus is the state of one layer.
type LayerStatus struct {
	// Name of the layer: dependency or application.
	Name string `json:"name"`

	// Ready of the layer's Kustomization: True, False or Unknown.
	Ready metav1.ConditionStatus `json:"ready"`

	// Revision that the layer last applied.
	// +optional
	Revision string `json:"revision,omitempty"`

	// Message names the first object that is not as it should be.
	// +optional
	Message string `json:"message,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Domain",type=string,JSONPath=`.spec.domain`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.lastAppliedRevision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.namespace`,priority=1
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.spec.className`,priority=1
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="a tenant's name must be at most 50 lower case letters, digits and dashes, beginning with a letter, so that names made from it still fit"

// Tenant is one healthcare facility. Its spec is the resolved definition, its status is its health.
type Tenant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantSpec   `json:"spec"`
	Status TenantStatus `json:"status,omitempty"`
}

// TenantList is a list of Tenant.
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Tenant `json:"items"`
}

// GetConditions returns the status conditions.
func (in *Tenant) GetConditions() []metav1.Condition { return in.Status.Conditions }

// SetConditions replaces the status conditions.
func (in *Tenant) SetConditions(conditions []metav1.Condition) { in.Status.Conditions = conditions }

// SetLastHandledReconcileAt records the value of the reconcile request annotation that was acted on.
func (in *Tenant) SetLastHandledReconcileAt(v string) { in.Status.LastHandledReconcileAt = v }

// LayerName returns the name of the Kustomization of one of the tenant's layers.
func (in *Tenant) LayerName(layer string) string { return in.Name + "-" + layer }

// SetObservedGeneration records the generation that the status speaks of.
func (in *Tenant) SetObservedGeneration(generation int64) { in.Status.ObservedGeneration = generation }
