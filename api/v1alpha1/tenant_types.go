// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
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
// Every field, here and below, is marked with who may set it: facility:"allowed" for what a facility's own file may
// set, facility:"reserved" for what only a TenantClass or a platform administrator may. A field without a mark is
// reserved.
//
// +kubebuilder:validation:XValidation:rule="has(self.__namespace__) == has(oldSelf.__namespace__) && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)",fieldPath=".namespace",message="namespace is immutable: moving a tenant would leave its data behind"
// +kubebuilder:validation:XValidation:rule="['S3', 'Database'].all(t, (self.?orthanc.?storage.?type.orValue('Volume') == t) == (oldSelf.?orthanc.?storage.?type.orValue('Volume') == t))",fieldPath=".orthanc.storage.type",message="orthanc.storage.type is immutable: the images that are stored would be left behind"
// +kubebuilder:validation:XValidation:rule="(self.?orthanc.?storage.?accessMode.orValue('ReadWriteMany') == 'ReadWriteOnce') == (oldSelf.?orthanc.?storage.?accessMode.orValue('ReadWriteMany') == 'ReadWriteOnce')",fieldPath=".orthanc.storage.accessMode",message="orthanc.storage.accessMode is immutable: a volume cannot change its access mode"
// +kubebuilder:validation:XValidation:rule="self.?orthanc.?storage.?className.hasValue() == oldSelf.?orthanc.?storage.?className.hasValue()",fieldPath=".orthanc.storage.className",message="orthanc.storage.className is immutable: a volume cannot change its class"
// +kubebuilder:validation:XValidation:rule="self.?orthanc.?storage.?s3.?rootPath.hasValue() == oldSelf.?orthanc.?storage.?s3.?rootPath.hasValue()",fieldPath=".orthanc.storage.s3.rootPath",message="orthanc.storage.s3.rootPath is immutable: the images that are stored would be left behind"
// +kubebuilder:validation:XValidation:rule="self.?postgres.?storage.?className.hasValue() == oldSelf.?postgres.?storage.?className.hasValue()",fieldPath=".postgres.storage.className",message="postgres.storage.className is immutable: a volume cannot change its class"
// +kubebuilder:validation:XValidation:rule="['Bitnami', 'External'].all(p, (self.?postgres.?provider.orValue('CloudNativePG') == p) == (oldSelf.?postgres.?provider.orValue('CloudNativePG') == p))",fieldPath=".postgres.provider",message="postgres.provider is immutable: the index of the images would be left behind in the other database"
type TenantSpec struct {
	// ClassName of the TenantClass that this tenant's definition was resolved with.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	ClassName string `json:"className,omitempty" facility:"allowed"`

	// DisplayName of the facility, for people. Orthanc shows it as its name.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[^\x00-\x1f\x7f]*$`
	// +optional
	DisplayName string `json:"displayName,omitempty" facility:"allowed"`

	// Domain is the DNS name under which the facility is reached.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\\\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="domain must be a DNS name of at least two labels in lower case, such as bhs.orthweb.com"
	// +required
	Domain string `json:"domain" facility:"allowed"`

	// Namespace of the tenant's workload, <name>-orthweb by default. It cannot be changed.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="namespace must be a DNS label: lower case letters, digits and dashes"
	// +kubebuilder:validation:XValidation:rule="self != 'default' && !self.startsWith('kube-')",message="namespace must not be one of Kubernetes' own"
	// +optional
	Namespace string `json:"namespace,omitempty" facility:"reserved"`

	// Suspend stops Korthweb and Flux from changing this tenant. The facility stays online.
	// +optional
	Suspend bool `json:"suspend,omitempty" facility:"allowed"`

	// DeletionPolicy says what becomes of the data when the tenant is removed: Retain (the default)
	// takes the facility offline and keeps it, Delete removes the namespace with all that is in it.
	// +kubebuilder:default=Retain
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty" facility:"reserved"`

	// DependsOn names Flux Kustomizations that the dependency layer waits for. A TenantRepository's
	// spec.dependsOn is written here.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	DependsOn []DependencyReference `json:"dependsOn,omitempty" facility:"reserved"`

	// CommonMetadata is added to every object that is emitted or rendered for this tenant. A
	// TenantRepository's spec.commonMetadata is written here.
	// +optional
	CommonMetadata *kustomizev1.CommonMetadata `json:"commonMetadata,omitempty" facility:"reserved"`

	// Orthanc configures the DICOM server.
	// +optional
	Orthanc OrthancSpec `json:"orthanc,omitempty,omitzero" facility:"allowed"`

	// Postgres configures the database of the DICOM index.
	// +optional
	Postgres PostgresSpec `json:"postgres,omitempty,omitzero" facility:"allowed"`

	// Certificates configures the tenant's own CA, the certificates that it signs, and who signs that of the web host.
	// +optional
	Certificates CertificatesSpec `json:"certificates,omitempty,omitzero" facility:"allowed"`

	// Ingress configures how the facility is reached from outside.
	// +optional
	Ingress IngressSpec `json:"ingress,omitempty,omitzero" facility:"allowed"`

	// Quota bounds what the tenant's namespace may hold.
	// +optional
	Quota QuotaSpec `json:"quota,omitempty,omitzero" facility:"reserved"`

	// Monitoring says who collects the tenant's metrics.
	// +optional
	Monitoring MonitoringSpec `json:"monitoring,omitempty,omitzero" facility:"allowed"`

	// Patches are kustomize patches on the rendered objects. They may change objects; they may not
	// add, remove, rename or move any.
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Patches []Patch `json:"patches,omitempty" facility:"reserved"`
}

// TenantStatus is the health of one facility.
type TenantStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`

	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready, Healthy, Reconciling, Stalled, DefinitionAccepted.
	// +listType=map
	// +listMapKey=type
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
// +kubebuilder:resource:shortName=kwt,categories=korthweb
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations={"kustomize.toolkit.fluxcd.io/prune=disabled","helm.sh/resource-policy=keep"}
// +kubebuilder:printcolumn:name="Domain",type=string,JSONPath=`.spec.domain`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="DefinitionAccepted")].status`
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.spec.className`,priority=1
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.lastAppliedRevision`,priority=1
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.namespace`,priority=1
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
