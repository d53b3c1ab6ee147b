// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// OrthancSpec configures the DICOM server.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.replicas) && has(self.autoscaling))",message="replicas and autoscaling exclude each other: set one"
// +kubebuilder:validation:XValidation:rule="!has(self.plugins) || 'dicom-web' in self.plugins || !self.plugins.exists(p, p in ['ohif', 'stone-web-viewer', 'volview'])",fieldPath=".plugins",message="ohif, stone-web-viewer and volview read images over DICOMweb: add the plugin dicom-web"
// +kubebuilder:validation:XValidation:rule="self.?storage.?accessMode.orValue('ReadWriteMany') == 'ReadWriteMany' || (!has(self.autoscaling) && self.?replicas.orValue(1) == 1)",fieldPath=".storage.accessMode",message="a ReadWriteOnce volume serves one node: leave replicas at 1, or use a ReadWriteMany volume or S3"
type OrthancSpec struct {
	// Image of Orthanc with a tag or a digest. The default is the image that the bundle was tested with.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]+([._-][a-z0-9]+)*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$') && self.matches('(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[a-f0-9]{64})$')",message="image must be a reference with a tag or an @sha256: digest, such as orthancteam/orthanc:26.8.1"
	// +optional
	Image string `json:"image,omitempty" facility:"reserved"`

	// Replicas is the fixed number of Orthanc pods, 1 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +optional
	Replicas *int32 `json:"replicas,omitempty" facility:"allowed"`

	// Autoscaling lets the number of Orthanc pods follow their CPU use.
	// +optional
	Autoscaling *AutoscalingSpec `json:"autoscaling,omitempty" facility:"allowed"`

	// Resources of the Orthanc container.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty" facility:"allowed"`

	// AETitle is the application entity title that modalities call, ORTHANC by default.
	// +optional
	AETitle AETitle `json:"aeTitle,omitempty" facility:"allowed"`

	// Modalities are the DICOM application entities that may talk to this Orthanc.
	// +kubebuilder:validation:MaxItems=200
	// +listType=map
	// +listMapKey=name
	// +optional
	Modalities []Modality `json:"modalities,omitempty" facility:"allowed"`

	// Plugins of Orthanc that are switched on; dicom-web, orthanc-explorer-2 and gdcm by default. The database's and the
	// storage's plugins follow from postgres and storage.
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	// +optional
	Plugins []Plugin `json:"plugins,omitzero" facility:"allowed"`

	// Storage is where DICOM instances are kept.
	// +optional
	Storage OrthancStorageSpec `json:"storage,omitempty,omitzero" facility:"allowed"`

	// UsersSecretRef names a Secret in the tenant's namespace with the users that may log in, in place of the one
	// that is generated (orthanc-users, with one user admin). Its key users.json holds Orthanc's option
	// RegisteredUsers: {"RegisteredUsers": {"name": "password"}}.
	// +optional
	UsersSecretRef *meta.LocalObjectReference `json:"usersSecretRef,omitempty" facility:"allowed"`

	// Config is merged into Orthanc's configuration file, for options that have no field here. Options that
	// Korthweb sets are refused.
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Config *apiextensionsv1.JSON `json:"config,omitempty" facility:"allowed"`
}

// Plugin is a plugin of Orthanc that comes with the image.
//
// +kubebuilder:validation:Enum=dicom-web;orthanc-explorer-2;ohif;stone-web-viewer;volview;gdcm;transfers;neuro;stl;wsi
type Plugin string

const (
	// DICOMwebPlugin serves DICOMweb (QIDO-RS, WADO-RS, STOW-RS) at /dicom-web.
	DICOMwebPlugin Plugin = "dicom-web"

	// OrthancExplorer2Plugin is the web page for people.
	OrthancExplorer2Plugin Plugin = "orthanc-explorer-2"

	// GDCMPlugin decodes what Orthanc cannot by itself, such as JPEG 2000.
	GDCMPlugin Plugin = "gdcm"
)

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
	MinReplicas *int32 `json:"minReplicas,omitempty" facility:"allowed"`

	// MaxReplicas is the most pods.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +required
	MaxReplicas int32 `json:"maxReplicas" facility:"allowed"`

	// TargetCPUUtilizationPercentage is the average CPU use, in percent of the request, that the
	// autoscaler aims at, 80 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	TargetCPUUtilizationPercentage *int32 `json:"targetCPUUtilizationPercentage,omitempty" facility:"allowed"`
}

// ResourceRequirements are the compute resources of a container.
type ResourceRequirements struct {
	// Requests is what the container is guaranteed.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Requests map[corev1.ResourceName]resource.Quantity `json:"requests,omitempty" facility:"allowed"`

	// Limits is the most that the container may use.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Limits map[corev1.ResourceName]resource.Quantity `json:"limits,omitempty" facility:"allowed"`
}

// Modality is a DICOM application entity that may talk to Orthanc.
type Modality struct {
	// Name of the modality in Orthanc, such as ct-1. Objects are named after it, such as the Secret modality-ct-1
	// with its client certificate.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="a modality's name must be lower case letters, digits and dashes, beginning and ending with a letter or digit: objects are named after it"
	// +required
	Name string `json:"name" facility:"allowed"`

	// AETitle of the modality. No two modalities may have one: Orthanc knows who is calling by it.
	// +required
	AETitle AETitle `json:"aeTitle" facility:"allowed"`

	// Host is the DNS name or IP address of the modality, for C-MOVE and C-STORE to it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9.:]*[a-zA-Z0-9])?$')",message="host must be a DNS name or an IP address"
	// +required
	Host string `json:"host" facility:"allowed"`

	// Port of the modality.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port" facility:"allowed"`

	// Permissions are the DICOM services that the modality may ask Orthanc for, Echo and Store by default: what a
	// scanner needs. A workstation needs Find and Move (or Get) too. An empty list is none: what is only sent to.
	// +kubebuilder:validation:MaxItems=7
	// +listType=set
	// +optional
	Permissions []Permission `json:"permissions,omitzero" facility:"allowed"`
}

// Permission is a DICOM service of Orthanc that a modality may use: C-ECHO, C-STORE, C-FIND, C-FIND of the modality
// worklist, C-GET, C-MOVE, and storage commitment (N-ACTION).
//
// +kubebuilder:validation:Enum=Echo;Store;Find;FindWorklist;Get;Move;StorageCommitment
type Permission string

// The services that a modality may be allowed.
const (
	EchoPermission              Permission = "Echo"
	StorePermission             Permission = "Store"
	FindPermission              Permission = "Find"
	FindWorklistPermission      Permission = "FindWorklist"
	GetPermission               Permission = "Get"
	MovePermission              Permission = "Move"
	StorageCommitmentPermission Permission = "StorageCommitment"
)

// StorageType says where Orthanc keeps DICOM instances.
// +kubebuilder:validation:Enum=Volume;S3;Database
type StorageType string

const (
	// VolumeStorage is a PersistentVolumeClaim.
	VolumeStorage StorageType = "Volume"

	// S3Storage is a bucket of S3 or of what speaks its protocol.
	S3Storage StorageType = "S3"

	// DatabaseStorage is the database beside the index, as large objects. It is for trials: the database's
	// volume has to bear all images, and so has each of its backups.
	DatabaseStorage StorageType = "Database"
)

// OrthancStorageSpec is where Orthanc keeps DICOM instances.
//
// +kubebuilder:validation:XValidation:rule="self.?type.orValue('Volume') == 'Volume' || !(has(self.size) || has(self.className) || has(self.accessMode))",message="size, className and accessMode are of a volume: they need type Volume"
// +kubebuilder:validation:XValidation:rule="has(self.s3) == (self.?type.orValue('Volume') == 'S3')",message="type S3 needs s3, and s3 needs type S3"
type OrthancStorageSpec struct {
	// Type of the storage: Volume (the default), S3, or Database for trials. It cannot be changed.
	// +optional
	Type StorageType `json:"type,omitempty" facility:"allowed"`

	StorageSpec `json:",inline" facility:"allowed"`

	// AccessMode of the volume, ReadWriteMany by default: several Orthanc pods use one volume. With ReadWriteOnce,
	// which more storage classes offer, there can be one replica only. It cannot be changed.
	// +kubebuilder:validation:Enum=ReadWriteMany;ReadWriteOnce
	// +optional
	AccessMode corev1.PersistentVolumeAccessMode `json:"accessMode,omitempty" facility:"allowed"`

	// S3 is the bucket of type S3.
	// +optional
	S3 *S3Spec `json:"s3,omitempty" facility:"allowed"`
}

// S3Spec is a bucket of S3, or of what speaks its protocol.
//
// +kubebuilder:validation:XValidation:rule="has(self.endpoint) || !self.region.startsWith('cn-')",fieldPath=".region",message="in China AWS has other hosts: name the endpoint"
type S3Spec struct {
	// Bucket that the instances are kept in. It cannot be changed.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9][-.a-z0-9]*[a-z0-9]$')",message="a bucket's name is lower case letters, digits, dots and dashes"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="bucket is immutable: the images that are stored would be left behind"
	// +required
	Bucket string `json:"bucket" facility:"allowed"`

	// Region of the bucket.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9][-a-z0-9]*$')",message="a region is lower case letters, digits and dashes, such as eu-central-1"
	// +required
	Region string `json:"region" facility:"allowed"`

	// Endpoint is the URL of a service other than AWS, such as https://minio.example.com:9000.
	// +kubebuilder:validation:XValidation:rule="!self.matches('[.]amazonaws[.]com(:[0-9]+)?$') || self.contains('.vpce.')",message="an endpoint of AWS follows from the region: leave it out"
	// +optional
	Endpoint EndpointURL `json:"endpoint,omitempty" facility:"allowed"`

	// VirtualAddressing puts the bucket's name into the host's, as AWS does; true by default, and false where
	// endpoint is set, as MinIO and others need.
	// +optional
	VirtualAddressing *bool `json:"virtualAddressing,omitempty" facility:"allowed"`

	// RootPath is put before the names of all objects in the bucket. It cannot be changed.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9][-_.A-Za-z0-9]*(/[A-Za-z0-9][-_.A-Za-z0-9]*)*$')",message="a rootPath is names of letters, digits, '-', '_' and '.', each beginning with a letter or digit, with '/' between them"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="rootPath is immutable: the images that are stored would be left behind"
	// +optional
	RootPath string `json:"rootPath,omitempty" facility:"allowed"`

	// SecretRef names a Secret in the tenant's namespace with the keys accesskey and secretkey. Without it Orthanc
	// uses the identity that the platform gives its ServiceAccount (workload identity).
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty" facility:"allowed"`
}

// EndpointURL is the https URL of a service: host and port, no path.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^https://([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\\\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(:[0-9]{1,5})?$')",message="an endpoint must be https://, a DNS name and maybe a port, such as https://minio.example.com:9000"
type EndpointURL string

// StorageSpec is a volume claim.
type StorageSpec struct {
	// Size of the volume, 100Ti at most. The default is the bundle's.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",message="size must be a Kubernetes quantity above zero, such as 100Gi"
	// +kubebuilder:validation:XValidation:rule="!isQuantity(string(self)) || !quantity(string(self)).isGreaterThan(quantity('100Ti'))",message="size must be at most 100Ti"
	// +kubebuilder:validation:XValidation:rule="!isQuantity(string(self)) || !isQuantity(string(oldSelf)) || quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",message="size cannot shrink: Kubernetes makes no volume smaller"
	// +optional
	Size *resource.Quantity `json:"size,omitempty" facility:"allowed"`

	// ClassName is the StorageClass, the cluster's default where not set.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="className is immutable: a volume cannot change its class"
	// +optional
	ClassName string `json:"className,omitempty" facility:"reserved"`
}
