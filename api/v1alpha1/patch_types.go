// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// The bounds of patches, and so of what a bundle can grow to and of how long that takes.
const (
	// MaxPatches is the most patches of a tenant.
	MaxPatches = 64

	// MaxPatchBytes bounds the text of a tenant's patches together.
	MaxPatchBytes = 32 << 10

	// MaxPatchSelector is the most bytes of a label or annotation selector of a patch.
	MaxPatchSelector = 128
)

// Patch is a kustomize patch: a strategic merge patch, or a list of JSON 6902 operations.
type Patch struct {
	// Patch is the text, as YAML or JSON.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32768
	// +required
	Patch string `json:"patch" facility:"reserved"`

	// Target selects the objects. A strategic merge patch without a target is for the object that it names.
	// +optional
	Target *PatchTarget `json:"target,omitempty" facility:"reserved"`
}

// PatchTarget selects rendered objects by all that is set.
type PatchTarget struct {
	// Group of the object's API.
	// +optional
	Group PatchPattern `json:"group,omitempty" facility:"reserved"`

	// Version of the object's API.
	// +optional
	Version PatchPattern `json:"version,omitempty" facility:"reserved"`

	// Kind of the object.
	// +optional
	Kind PatchPattern `json:"kind,omitempty" facility:"reserved"`

	// Namespace of the object, which can only be the tenant's.
	// +optional
	Namespace PatchPattern `json:"namespace,omitempty" facility:"reserved"`

	// Name of the object.
	// +optional
	Name PatchPattern `json:"name,omitempty" facility:"reserved"`

	// LabelSelector is a label selector of Kubernetes, such as app.kubernetes.io/component=certificates.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	LabelSelector string `json:"labelSelector,omitempty" facility:"reserved"`

	// AnnotationSelector is the same of annotations.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	AnnotationSelector string `json:"annotationSelector,omitempty" facility:"reserved"`
}

// PatchPattern is the one form of kustomize's regular expressions that a target may have: names with "|" between them, of
// which each may end in ".*", such as web-tls|modality-.*
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[-.A-Za-z0-9]*(\.\*)?(\|[-.A-Za-z0-9]*(\.\*)?)*$`
type PatchPattern string
