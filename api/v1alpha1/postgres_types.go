// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"github.com/fluxcd/pkg/apis/meta"
)

// PostgresProvider says who runs the database.
// +kubebuilder:validation:Enum=CloudNativePG;Bitnami;External
type PostgresProvider string

const (
	// CloudNativePG is a Cluster of the operator CloudNativePG.
	CloudNativePG PostgresProvider = "CloudNativePG"

	// BitnamiPostgres is Bitnami's chart postgresql-ha, for those who run it today.
	BitnamiPostgres PostgresProvider = "Bitnami"

	// ExternalPostgres is a server that somebody else runs.
	ExternalPostgres PostgresProvider = "External"
)

// PostgresSpec configures the database of the DICOM index.
//
// +kubebuilder:validation:XValidation:rule="has(self.external) == (self.?provider.orValue('CloudNativePG') == 'External')",message="provider External needs external, and external needs provider External"
// +kubebuilder:validation:XValidation:rule="self.?provider.orValue('CloudNativePG') != 'External' || !(has(self.instances) || has(self.storage) || has(self.resources))",message="instances, storage and resources are of a database that runs here: provider External has none"
// +kubebuilder:validation:XValidation:rule="!has(self.backup) || self.?provider.orValue('CloudNativePG') == 'CloudNativePG'",message="backup is CloudNativePG's: another provider's backups are made outside of Korthweb"
// +kubebuilder:validation:XValidation:rule="!has(self.chart) || self.?provider.orValue('CloudNativePG') == 'Bitnami'",message="chart needs provider Bitnami"
// +kubebuilder:validation:XValidation:rule="self.?provider.orValue('CloudNativePG') != 'Bitnami' || !has(self.storage) || !has(self.storage.size) || !has(oldSelf.storage) || !has(oldSelf.storage.size) || quantity(string(self.storage.size)).compareTo(quantity(string(oldSelf.storage.size))) == 0",fieldPath=".storage.size",message="storage.size is immutable with provider Bitnami: a StatefulSet cannot change its volumes"
type PostgresSpec struct {
	// Provider of the database: CloudNativePG (the default), Bitnami (the chart postgresql-ha) or External. It
	// cannot be changed.
	// +optional
	Provider PostgresProvider `json:"provider,omitempty" facility:"allowed"`

	// Instances is the number of PostgreSQL servers, one of them the primary; 1 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=9
	// +optional
	Instances *int32 `json:"instances,omitempty" facility:"allowed"`

	// Storage is the volume of each instance.
	// +optional
	Storage StorageSpec `json:"storage,omitempty,omitzero" facility:"allowed"`

	// Resources of each instance.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty" facility:"allowed"`

	// Backup of a CloudNativePG database. There is none without it.
	// +optional
	Backup *BackupSpec `json:"backup,omitempty" facility:"allowed"`

	// External is the server of provider External.
	// +optional
	External *ExternalPostgresSpec `json:"external,omitempty" facility:"allowed"`

	// Chart that provider Bitnami is installed from.
	// +optional
	Chart ChartSpec `json:"chart,omitempty,omitzero" facility:"reserved"`
}

// BackupSpec keeps base backups and the write-ahead log of a database in a bucket, by CloudNativePG's plugin Barman
// Cloud.
type BackupSpec struct {
	// Schedule of base backups: six fields with seconds first, as CloudNativePG's; "0 0 2 * * *" (at two every
	// night) by default. Seconds and minutes are one number each: once an hour is the most.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9*/,A-Za-z?-]+( [0-9*/,A-Za-z?-]+){5}$')",message="a schedule has six fields, seconds first, such as 0 0 2 * * *"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{1,2} [0-9]{1,2} ') || !self.matches('^[0-9*/,A-Za-z?-]+( [0-9*/,A-Za-z?-]+){5}$')",message="seconds and minutes must be one number each: a base backup more often than once an hour would never rest"
	// +optional
	Schedule string `json:"schedule,omitempty" facility:"allowed"`

	// RetentionPolicy is how long backups are kept: a number of days, weeks or months, such as 30d, the default.
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:XValidation:rule="self.matches('^[1-9][0-9]*[dwm]$')",message="a retentionPolicy is a number of days, weeks or months, such as 30d"
	// +optional
	RetentionPolicy string `json:"retentionPolicy,omitempty" facility:"allowed"`

	// DestinationPath is where in S3 the backups go, such as s3://backups/bhs. No two tenants may share one.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^s3://[a-z0-9][-.a-z0-9]+[a-z0-9](/[A-Za-z0-9][-_.A-Za-z0-9]*)*$')",message="a destinationPath is s3://, a bucket and maybe a path, such as s3://backups/bhs"
	// +required
	DestinationPath string `json:"destinationPath" facility:"allowed"`

	// Endpoint is the URL of a service other than AWS.
	// +optional
	Endpoint EndpointURL `json:"endpoint,omitempty" facility:"allowed"`

	// SecretRef names a Secret in the tenant's namespace with the keys accesskey and secretkey. Without it the
	// database's pods use the identity that the platform gives their ServiceAccount.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty" facility:"allowed"`
}

// TLSMode says how the connection to the database is protected. The values are those of libpq's sslmode.
// +kubebuilder:validation:Enum=disable;require;verify-ca;verify-full
type TLSMode string

// TLSVerifyFull encrypts, and checks the server's certificate and that it is the host's.
const TLSVerifyFull TLSMode = "verify-full"

// ExternalPostgresSpec is a PostgreSQL server that somebody else runs. The extension pg_trgm must be in the database.
//
// +kubebuilder:validation:XValidation:rule="!has(self.caSecretRef) || self.?tlsMode.orValue('verify-full') in ['verify-ca', 'verify-full']",message="caSecretRef is only looked at with tlsMode verify-ca or verify-full"
type ExternalPostgresSpec struct {
	// Host is the DNS name or IP address of the server.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9.:]*[a-zA-Z0-9])?$')",message="host must be a DNS name or an IP address"
	// +required
	Host string `json:"host" facility:"allowed"`

	// Port of the server, 5432 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty" facility:"allowed"`

	// Database is the name of the database, orthanc by default. It cannot be changed once it is written, while host and
	// port can: the same database may move to another server.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][-A-Za-z0-9_]*$')",message="a database's name is letters, digits, '-' and '_', beginning with a letter or '_'"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="database is immutable: the index of the images would be left behind in the other one"
	// +optional
	Database string `json:"database,omitempty" facility:"allowed"`

	// SecretRef names a Secret in the tenant's namespace with the keys username and password.
	// +required
	SecretRef meta.LocalObjectReference `json:"secretRef" facility:"allowed"`

	// TLSMode of the connection: verify-full (the default), verify-ca, require or disable, as in libpq's sslmode.
	// +optional
	TLSMode TLSMode `json:"tlsMode,omitempty" facility:"allowed"`

	// CASecretRef names a Secret in the tenant's namespace whose key ca.crt holds the CA of the server. Without it
	// the CAs of the image count.
	// +optional
	CASecretRef *meta.LocalObjectReference `json:"caSecretRef,omitempty" facility:"allowed"`

	// MaxConnections is how many connections the server allows this tenant. Orthanc's replicas may not need more.
	// Not set, nothing is checked.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	MaxConnections *int32 `json:"maxConnections,omitempty" facility:"allowed"`
}
