// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// DefinitionAcceptedCondition is, on a Tenant that comes from a TenantRepository, whether its newest definition was
// accepted. It is False, with file, line and what is wrong, while that is refused and an older one runs.
const DefinitionAcceptedCondition = "DefinitionAccepted"

// Condition reasons beyond those of github.com/fluxcd/pkg/apis/meta and of source-controller.
const (
	// InvalidDefinitionReason: the definition breaks a rule of the API; a new revision will help,
	// retrying will not.
	InvalidDefinitionReason = "InvalidDefinition"

	// MalformedFileReason: a file cannot be read as definitions.
	MalformedFileReason = "MalformedFile"

	// ConflictReason: another tenant held the host, namespace, address or name first.
	ConflictReason = "Conflict"

	// ReservedFieldReason: a facility's own file sets a field that is for the platform to set.
	ReservedFieldReason = "ReservedField"

	// RetainedReason: the tenant's namespace was kept when a tenant was removed, and nobody has approved yet that it
	// is taken into use again.
	RetainedReason = "Retained"

	// NotOwnedReason: an object or namespace of that name exists and was not created by Korthweb
	// for this tenant.
	NotOwnedReason = "NotOwned"

	// RenderFailedReason: the bundle cannot be rendered from this definition.
	RenderFailedReason = "RenderFailed"

	// PublishFailedReason: the artifact cannot be stored.
	PublishFailedReason = "PublishFailed"

	// EmitFailedReason: the apiserver refused an emitted object or could not be reached.
	EmitFailedReason = "EmitFailed"

	// InvalidSecretReason: a Secret that the definition names is missing, lacks a key, or cannot be used.
	InvalidSecretReason = "InvalidSecret"

	// FeatureGateDisabledReason: a Flux controller runs without the ExternalArtifact feature gate.
	FeatureGateDisabledReason = "FeatureGateDisabled"

	// FluxNotInstalledReason: a custom resource definition of Flux is missing from the cluster.
	FluxNotInstalledReason = "FluxNotInstalled"

	// PathNotFoundReason: spec.path is not a directory of the revision, or it holds no tenant.
	PathNotFoundReason = "PathNotFound"

	// DeletionBudgetExceededReason: the revision removes more tenants than spec.deletionBudget.
	DeletionBudgetExceededReason = "DeletionBudgetExceeded"

	// TenantsNotReadyReason: the definitions are taken over and not all tenants are healthy.
	TenantsNotReadyReason = "TenantsNotReady"

	// ProblemsFoundReason: some files or tenants of the revision were refused; see status.problems.
	ProblemsFoundReason = "ProblemsFound"

	// RemovingReason: the tenant is being taken down.
	RemovingReason = "Removing"
)
