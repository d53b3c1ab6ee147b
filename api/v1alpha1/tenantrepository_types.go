// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TenantRepositoryKind is the kind of TenantRepository.
const TenantRepositoryKind = "TenantRepository"

const (
	// DefaultPath is where tenant files are looked for in a repository.
	DefaultPath = "./tenants"

	// DefaultTimeout bounds one fetch of a repository, as in Flux's GitRepository.
	DefaultTimeout = 60 * time.Second

	// MaxProblems is the most problems that a TenantRepository's status lists.
	MaxProblems = 50

	// MaxProblemText is the most bytes that a problem's file, tenant and field may each have. What they
	// say comes from others' files, and the whole status must fit into one object.
	MaxProblemText = 256

	// MaxProblemMessage is the most bytes that a problem's message may have.
	MaxProblemMessage = 1024
)

// TenantRepositorySpec says where tenant definitions come from and how a new revision is taken over.
//
// +kubebuilder:validation:XValidation:rule="has(self.git) != has(self.sourceRef)",message="exactly one of git, sourceRef must be set"
type TenantRepositorySpec struct {
	// Interval at which the source is checked for a new revision.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="interval must be at least 1s"
	// +required
	Interval metav1.Duration `json:"interval"`

	// Timeout of one fetch of the source, 60s by default.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m))+$"
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// RetryInterval is the interval at which a failed reconciliation is retried, spec.interval by default.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="retryInterval must be at least 1s"
	// +optional
	RetryInterval *metav1.Duration `json:"retryInterval,omitempty"`

	// Suspend stops new revisions from being taken over. Tenants already there go on.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// Git is a repository that Korthweb clones by itself.
	// +optional
	Git *GitSource `json:"git,omitempty"`

	// SourceRef is a Flux source in the same namespace whose artifact holds the definitions.
	// +optional
	SourceRef *SourceReference `json:"sourceRef,omitempty"`

	// Path is the directory of the tenant files within the source. Directories below it are read too.
	// +kubebuilder:default="./tenants"
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/') && !self.split('/').exists(p, p == '..')",message="path must be relative and stay within the repository"
	// +optional
	Path string `json:"path,omitempty"`

	// ClassPath is the directory of the TenantClass files within the source, the directory classes below path by
	// default. Directories below it are read too. A Tenant below it defines nothing, and a TenantClass elsewhere
	// defines nothing: so who may change classes is a matter of who may change this directory.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/') && !self.split('/').exists(p, p == '..')",message="classPath must be relative and stay within the repository"
	// +optional
	ClassPath string `json:"classPath,omitempty"`

	// FacilityFields amends the set of fields that a facility's own file may set. Without it the set is that of
	// the version of Korthweb.
	// +optional
	FacilityFields FacilityFields `json:"facilityFields,omitempty,omitzero"`

	// Domains are the DNS domains below which facilities may have hosts. Without it they may have any that no
	// other tenant has.
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	Domains []Hostname `json:"domains,omitempty"`

	// AllowedServiceAnnotations are the annotations that definitions may put on the Service of a gateway, by their
	// keys. Without it they are those of the version of Korthweb, none of which names an address, a certificate, a
	// load balancer or an identity.
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=317
	// +listType=set
	// +optional
	AllowedServiceAnnotations []string `json:"allowedServiceAnnotations,omitzero"`

	// Prune says whether a tenant whose definition is gone is removed. What removal means for its
	// data is the tenant's deletionPolicy.
	// +required
	Prune bool `json:"prune"`

	// DeletionBudget is the most tenants that one revision may remove: a number, or a percentage
	// (rounded down) of the tenants there are. A revision that removes more removes none until the
	// annotation korthweb.digihunch.com/approve-deletions approves these very removals, with the value
	// that the Ready condition's message gives. The first revision that a TenantRepository takes over
	// removes none without that.
	// +kubebuilder:default=1
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^(100|[0-9]{1,2})%$')",message="deletionBudget must be a number of at least 0 or a percentage such as 10%"
	// +optional
	DeletionBudget *intstr.IntOrString `json:"deletionBudget,omitempty"`

	// DependsOn names Flux Kustomizations that every tenant's dependency layer waits for.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	DependsOn []DependencyReference `json:"dependsOn,omitempty"`

	// CommonMetadata is added to every object that is emitted or rendered.
	// +optional
	CommonMetadata *kustomizev1.CommonMetadata `json:"commonMetadata,omitempty"`
}

// FacilityFields amends the set of fields that a facility's own file may set. Fields are named by their path, such as
// spec.quota or metadata.labels; a path stands for all fields below it, and the longest path that names a field counts.
// A path that no Tenant has stalls the TenantRepository.
type FacilityFields struct {
	// Allow names fields that a facility may set, though Korthweb reserves them.
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Allow []string `json:"allow,omitempty"`

	// Reserve names fields that a facility may not set, though Korthweb allows them.
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Reserve []string `json:"reserve,omitempty"`
}

// GitSource is a git repository, named and authenticated as in a Flux GitRepository.
type GitSource struct {
	// URL of the repository.
	// +kubebuilder:validation:Pattern="^(http|https|ssh)://.*$"
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^/]*@')",message="credentials belong in the Secret that git.secretRef names, not in the URL"
	// +required
	URL string `json:"url"`

	// Reference to check out, the branch master by default.
	// +optional
	Reference *sourcev1.GitRepositoryRef `json:"ref,omitempty"`

	// SecretRef names a Secret in the same namespace. For http and https: username and password,
	// or bearerToken, and optionally ca.crt. For ssh: identity, known_hosts, optionally password.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`
}

// SourceReference names a Flux source in the same namespace.
type SourceReference struct {
	// Kind of the source.
	// +kubebuilder:validation:Enum=GitRepository;OCIRepository;Bucket;ExternalArtifact
	// +required
	Kind string `json:"kind"`

	// Name of the source.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// DependencyReference names a Flux Kustomization.
type DependencyReference struct {
	// Name of the Kustomization.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name" facility:"reserved"`

	// Namespace of the Kustomization, the Tenant's own by default.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty" facility:"reserved"`
}

// TenantRepositoryStatus is what was last seen and done.
type TenantRepositoryStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`

	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready, Reconciling, Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// LastAttemptedRevision is the revision that was last read.
	// +optional
	LastAttemptedRevision string `json:"lastAttemptedRevision,omitempty"`

	// LastAppliedRevision is the revision that was last taken over, its problems left out.
	// +optional
	LastAppliedRevision string `json:"lastAppliedRevision,omitempty"`

	// Tenants counts this repository's tenants by their state.
	// +optional
	Tenants TenantCounts `json:"tenants,omitempty"`

	// Problems lists what the last revision has wrong, the first 50 in order of file and line.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Problems []Problem `json:"problems,omitempty"`

	// History of the revisions taken over, newest first.
	// +optional
	History meta.History `json:"history,omitempty"`
}

// TenantCounts counts tenants by their state. Each tenant is in one of the four.
type TenantCounts struct {
	// Total number of tenants.
	// +kubebuilder:default=0
	// +optional
	Total int32 `json:"total"`
	// Ready tenants: Ready is True.
	// +kubebuilder:default=0
	// +optional
	Ready int32 `json:"ready"`
	// Progressing tenants: Ready is Unknown or not yet reported.
	// +kubebuilder:default=0
	// +optional
	Progressing int32 `json:"progressing"`
	// Failed tenants: Ready is False.
	// +kubebuilder:default=0
	// +optional
	Failed int32 `json:"failed"`
	// Suspended tenants: spec.suspend is true.
	// +kubebuilder:default=0
	// +optional
	Suspended int32 `json:"suspended"`
}

// Problem is something wrong with one file or one tenant of a revision.
type Problem struct {
	// File within the source, with the line where it is known: tenants/bhs.yaml:12.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	File string `json:"file,omitempty"`

	// Tenant that the problem keeps back, where it is known.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Tenant string `json:"tenant,omitempty"`

	// Field that is wrong, as a path: spec.orthanc.aeTitle.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Field string `json:"field,omitempty"`

	// Reason in one word.
	// +required
	Reason string `json:"reason"`

	// Message says what was found, what was expected and what to do.
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Message string `json:"message"`
}

// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=tr;tenantrepo,categories=korthweb
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations={"kustomize.toolkit.fluxcd.io/prune=disabled","helm.sh/resource-policy=keep"}
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Tenants",type=integer,JSONPath=`.status.tenants.total`
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.lastAppliedRevision`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.git.url`,priority=1
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="a TenantRepository's name must be at most 63 characters, so that its tenants can carry it as a label"

// TenantRepository is where tenant definitions come from, and the rules for taking over a new revision of them.
type TenantRepository struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantRepositorySpec   `json:"spec,omitempty"`
	Status TenantRepositoryStatus `json:"status,omitempty"`
}

// TenantRepositoryList is a list of TenantRepository.
// +kubebuilder:object:root=true
type TenantRepositoryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TenantRepository `json:"items"`
}

// GetConditions returns the status conditions.
func (in *TenantRepository) GetConditions() []metav1.Condition { return in.Status.Conditions }

// SetConditions replaces the status conditions.
func (in *TenantRepository) SetConditions(conditions []metav1.Condition) {
	in.Status.Conditions = conditions
}

// SetLastHandledReconcileAt records the value of the reconcile request annotation that was acted on.
func (in *TenantRepository) SetLastHandledReconcileAt(v string) {
	in.Status.LastHandledReconcileAt = v
}

// GetTimeout returns spec.timeout or its default.
func (in *TenantRepository) GetTimeout() time.Duration {
	if in.Spec.Timeout != nil {
		return in.Spec.Timeout.Duration
	}
	return DefaultTimeout
}

// GetRetryInterval returns spec.retryInterval, or spec.interval where that is not set.
func (in *TenantRepository) GetRetryInterval() time.Duration {
	if in.Spec.RetryInterval != nil {
		return in.Spec.RetryInterval.Duration
	}
	return in.Spec.Interval.Duration
}

// SetObservedGeneration records the generation that the status speaks of.
func (in *TenantRepository) SetObservedGeneration(generation int64) {
	in.Status.ObservedGeneration = generation
}
