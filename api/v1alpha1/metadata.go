// SPDX-License-Identifier: Apache-2.0

package v1alpha1

const (
	// FieldManager is the server-side apply field owner of all that Korthweb writes, and the value
	// of ManagedByLabel on it.
	FieldManager = "korthweb"

	// ManagedByLabel is Kubernetes' recommended label for the tool that manages an object. Its value is
	// FieldManager on everything that Korthweb emits.
	ManagedByLabel = "app.kubernetes.io/managed-by"

	// Finalizer is held by a Tenant that is marked for removal until what was emitted for it is gone, in order. A Tenant
	// that is not marked has none: when it disappears, nothing that runs goes with it.
	Finalizer = LabelPrefix + "finalizer"

	// LabelPrefix is the domain of Korthweb's own labels and annotations. Nobody else may set keys
	// in it: they are how Korthweb tells what it created.
	LabelPrefix = "korthweb.digihunch.com/"

	// TenantLabel names the Tenant that an object was created for.
	TenantLabel = LabelPrefix + "tenant"

	// TenantNamespaceLabel names the (platform) namespace of the Tenant that an object was created for.
	TenantNamespaceLabel = LabelPrefix + "tenant-namespace"

	// LayerLabel names the layer (dependency, application) that an object belongs to.
	LayerLabel = LabelPrefix + "layer"

	// RepositoryLabel names, on a Tenant, the TenantRepository that it comes from.
	RepositoryLabel = LabelPrefix + "repository"

	// ShardingLabel is Flux's label for the controller instance that an object belongs to. A
	// TenantRepository's Tenants carry its value.
	ShardingLabel = "sharding.fluxcd.io/key"

	// RevisionAnnotation is, on a Tenant, the source revision that last changed it.
	RevisionAnnotation = LabelPrefix + "revision"

	// PathAnnotation is, on a Tenant, the file that defines it, relative to the repository's root.
	PathAnnotation = LabelPrefix + "path"

	// DigestAnnotation is the digest of an object's desired content when it was last applied: of
	// the resolved definition on a Tenant, of the whole object on what is emitted for one.
	DigestAnnotation = LabelPrefix + "digest"

	// ClassPathAnnotation is, on a Tenant that has a class, the file that the class was defined in. Of two files that
	// define one class, that one counts.
	ClassPathAnnotation = LabelPrefix + "class-path"

	// RemoveAnnotation marks a Tenant for removal; its value is the revision that removes it. Only Korthweb may set it.
	RemoveAnnotation = LabelPrefix + "remove"

	// HostsAnnotation is, on a tenant's namespace, the hosts that are the tenant's own, with commas between them. Admission
	// policies compare what is created there with it.
	HostsAnnotation = LabelPrefix + "hosts"

	// LoadBalancerIPAnnotation is, on a tenant's namespace, the address of the load balancer that is the tenant's own,
	// empty where it has asked for none. Admission policies compare what is created there with it.
	LoadBalancerIPAnnotation = LabelPrefix + "load-balancer-ip"

	// ServiceAnnotationsAnnotation is, on a tenant's namespace, the keys of the annotations that the tenant's definition puts
	// on its gateway's Service, with commas between them. Admission policies compare what is created there with it.
	ServiceAnnotationsAnnotation = LabelPrefix + "service-annotations"

	// CommonAnnotationsAnnotation is, on a tenant's namespace, the keys of the annotations that are put on all that is
	// rendered for the tenant, with commas between them. Admission policies compare what is created there with it.
	CommonAnnotationsAnnotation = LabelPrefix + "common-annotations"

	// LoadBalancerClassAnnotation is, on a tenant's namespace, the class of the load balancer that is the tenant's own,
	// empty where it has asked for none. Admission policies compare what is created there with it.
	LoadBalancerClassAnnotation = LabelPrefix + "load-balancer-class"

	// BackupPathAnnotation is, on a tenant's namespace, where the tenant's own backups go, empty where it has none.
	// Admission policies compare what is created there with it.
	BackupPathAnnotation = LabelPrefix + "backup-path"

	// RetainedAnnotation is, on a namespace that was kept when its tenant was removed, the revision that removed it.
	RetainedAnnotation = LabelPrefix + "retained"

	// ApproveAdoptionAnnotation approves, on a Tenant, that a namespace that was kept is taken into use again, or that a
	// TenantRepository takes it over from one that is gone. Its value is in the message that asks for it: of the Ready
	// condition, or of the TenantRepository's problem.
	ApproveAdoptionAnnotation = LabelPrefix + "approve-adoption"

	// AllowDeletionAnnotation allows, with the value true on a CustomResourceDefinition that facilities need or on a
	// tenant's namespace, that somebody deletes it.
	AllowDeletionAnnotation = LabelPrefix + "allow-deletion"

	// ApproveDeletionsAnnotation approves, on a TenantRepository, removals beyond the deletion budget.
	// Its value is in the message that refuses them: the revision, and what stands for the Tenants.
	ApproveDeletionsAnnotation = LabelPrefix + "approve-deletions"
)

// The layers of a tenant's bundle, in the order in which they are applied.
const (
	// DependencyLayer holds what Orthanc needs: certificates, the gateway, the database.
	DependencyLayer = "dependency"

	// ApplicationLayer holds Orthanc and the routes to it.
	ApplicationLayer = "application"
)
