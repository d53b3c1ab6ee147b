// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/object"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/ssa"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Applier brings what is emitted for a tenant into the cluster, and takes it down again. It may be used
// from several goroutines for different tenants.
type Applier struct {
	client   client.Client
	uncached client.Reader
	self     rbacv1.Subject
	random   io.Reader
}

// NewApplier returns an Applier that writes through c and reads Namespaces, ServiceAccounts,
// RoleBindings, ExternalArtifacts and Kustomizations from c's cache. That cache may hold only objects
// labelled app.kubernetes.io/managed-by=korthweb, and may drop managed fields: what is not in it is
// looked for through uncached before anything is concluded. self is who the clients are, to be allowed to read the
// Secrets that a tenant's definition names.
func NewApplier(c client.Client, uncached client.Reader, self rbacv1.Subject) *Applier {
	return &Applier{client: c, uncached: uncached, self: self, random: rand.Reader}
}

// Result says what Apply did.
type Result struct {
	// Inventory lists everything emitted, in the order in which it is applied, changed or not.
	Inventory *kustomizev1.ResourceInventory

	// Changed names the objects that were created or changed: Kustomization/flux-system/bhs-application.
	Changed []string

	// Writes counts the create and patch requests that were sent.
	Writes int
}

// Apply makes the cluster hold what is emitted for tenant, with artifact announced in the status of its
// ExternalArtifact. Where everything is as it should be it sends no write, and one read for each Secret of
// generated credentials, of its metadata, which is never cached. That read is the price of noticing that
// somebody deleted one without a watch on Secrets. Secrets that the definition names are read too, each time: a layer is
// not given a bundle whose pods could not start.
//
// A new object is created, which fails when the name is taken, so that no other's object is ever taken
// over, not even one that appears in that very moment. An object that is there is changed with
// server-side apply.
//
// A namespace that a removal kept is not taken into use again, nor is anything else written, until the Tenant's
// ApproveAdoptionAnnotation says so.
//
// Errors: NotOwnedError, RetainedError, TerminatingError, FluxNotInstalledError, SecretError, or the apiserver's, naming the object.
// See Reason. Result speaks of what was done before the error, so its inventory is then incomplete.
// Objects already applied stay; calling again goes on.
func (a *Applier) Apply(ctx context.Context, tenant *v1alpha1.Tenant, artifact *meta.Artifact) (Result, error) {
	return a.run(ctx, &apply{Applier: a, tenant: tenant}, artifact)
}

// Restore does what Apply does for the objects that are gone, and changes none that is there.
func (a *Applier) Restore(ctx context.Context, tenant *v1alpha1.Tenant, artifact *meta.Artifact) (Result, error) {
	return a.run(ctx, &apply{Applier: a, tenant: tenant, missingOnly: true}, artifact)
}

func (a *Applier) run(ctx context.Context, run *apply, artifact *meta.Artifact) (Result, error) {
	tenant := run.tenant
	run.result.Inventory = &kustomizev1.ResourceInventory{}
	if err := run.adopt(ctx); err != nil {
		return run.result, err
	}
	for _, desired := range Objects(tenant) {
		if desired.GetObjectKind().GroupVersionKind().Kind == sourcev1.ExternalArtifactKind {
			// The layers need the Secrets and the artifact: both come before them.
			if err := run.credentials(ctx); err != nil {
				return run.result, err
			}
			if !run.missingOnly {
				if err := run.checkSecrets(ctx); err != nil {
					return run.result, err
				}
			}
			desired.GetAnnotations()[namespaceUIDAnnotation] = string(run.namespaceUID)
			setDigest(desired)
		}
		live, err := run.ensure(ctx, desired)
		if err != nil {
			return run.result, err
		}
		if isNamespace(desired) {
			run.namespaceUID = live.GetUID()
		}
		run.list(desired)
		if ea, ok := live.(*sourcev1.ExternalArtifact); ok && artifact != nil {
			if err := run.announce(ctx, ea, artifact); err != nil {
				return run.result, err
			}
		}
	}
	return run.result, nil
}

// Suspend makes the layers of a tenant suspended, and touches nothing else that is emitted for it: what runs must go on
// as it does, whatever the definition says by now. Errors are those of Apply.
func (a *Applier) Suspend(ctx context.Context, tenant *v1alpha1.Tenant) error {
	for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
		k := Kustomization(tenant, layer)
		live := &kustomizev1.Kustomization{}
		err := a.uncached.Get(ctx, client.ObjectKeyFromObject(k), live)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return explain(err, k)
		}
		if err := mayChange(tenant, k, live); err != nil {
			return err
		}
		if live.Spec.Suspend {
			continue
		}
		// With the digest of what is suspended, the next Apply sees that the layer is not as it should be.
		setDigest(k)
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}},"spec":{"suspend":true}}`,
			v1alpha1.DigestAnnotation, k.Annotations[v1alpha1.DigestAnnotation]))
		if err := a.client.Patch(ctx, live, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
			return explain(err, k)
		}
	}
	return nil
}

// apply is one run of Apply.
type apply struct {
	*Applier
	tenant      *v1alpha1.Tenant
	missingOnly bool
	result      Result

	// namespaceUID is that of the tenant's namespace as it is now, namespaceMade that this run made it.
	namespaceUID  types.UID
	namespaceMade bool
}

// forgetLayers removes the layers of a namespace that is gone, before it is made again. They go on saying that all is
// applied and healthy, and kustomize-controller looks again only after their interval; made anew, they say what is so.
func (a *apply) forgetLayers(ctx context.Context) error {
	for _, layer := range []string{v1alpha1.ApplicationLayer, v1alpha1.DependencyLayer} {
		k := Kustomization(a.tenant, layer)
		err := a.client.Get(ctx, client.ObjectKeyFromObject(k), &kustomizev1.Kustomization{})
		if apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err) {
			continue // a tenant that is new costs no look past the cache
		}
		if err != nil {
			return explain(err, k)
		}
		ns := Namespace(a.tenant)
		if live, err := a.metadata(ctx, ns); err != nil {
			return explain(err, ns)
		} else if live != nil { // the cache is behind
			return nil
		}
		gone, err := a.remove(ctx, a.tenant, k)
		if err != nil {
			return explain(err, k)
		}
		if !gone {
			return &TerminatingError{Object: name(k)}
		}
	}
	return nil
}

// namespaceUIDAnnotation is, on an ExternalArtifact, the UID of the tenant's namespace that has its credentials.
const namespaceUIDAnnotation = v1alpha1.LabelPrefix + "namespace-uid"

// adopt refuses a namespace that a removal kept, until it is approved, and then takes the mark off it. Whoever is new
// asks past the cache, which may not know of the mark yet.
func (a *apply) adopt(ctx context.Context) error {
	ns := Namespace(a.tenant)
	live := &corev1.Namespace{}
	err := a.client.Get(ctx, client.ObjectKeyFromObject(ns), live)
	if err == nil && a.tenant.Status.Inventory == nil {
		err = a.uncached.Get(ctx, client.ObjectKeyFromObject(ns), live)
	}
	if apierrors.IsNotFound(err) {
		return a.forgetLayers(ctx)
	}
	if err != nil {
		return explain(err, ns)
	}
	revision := live.Annotations[v1alpha1.RetainedAnnotation]
	if revision == "" || !ownedBy(a.tenant, live) {
		return nil
	}
	approval := live.Name + "/" + string(live.UID)[:8]
	if a.tenant.Annotations[v1alpha1.ApproveAdoptionAnnotation] != approval {
		return &RetainedError{Namespace: live.Name, Revision: revision, Tenant: a.tenant, Approval: approval}
	}
	a.result.Writes++
	if err := a.annotate(ctx, live, v1alpha1.RetainedAnnotation, nil); err != nil {
		return explain(err, ns)
	}
	return nil
}

// ensure makes one object as desired and returns it as the apiserver or the cache has it.
func (a *apply) ensure(ctx context.Context, desired client.Object) (client.Object, error) {
	live, err := a.emptyOf(desired)
	if err != nil {
		return nil, err
	}
	err = a.client.Get(ctx, client.ObjectKeyFromObject(desired), live)
	if apierrors.IsNotFound(err) {
		created := desired.DeepCopyObject().(client.Object)
		a.result.Writes++
		err = a.client.Create(ctx, created, client.FieldOwner(v1alpha1.FieldManager))
		if err == nil {
			a.changed(desired)
			a.namespaceMade = a.namespaceMade || isNamespace(desired)
			// Typed objects lose their kind on the way through a client.
			created.GetObjectKind().SetGroupVersionKind(desired.GetObjectKind().GroupVersionKind())
			return created, nil
		}
		if apierrors.IsAlreadyExists(err) {
			err = a.uncached.Get(ctx, client.ObjectKeyFromObject(desired), live)
		}
	}
	if err != nil {
		return nil, explain(err, desired)
	}
	if err := mayChange(a.tenant, desired, live); err != nil {
		return nil, err
	}
	live.GetObjectKind().SetGroupVersionKind(desired.GetObjectKind().GroupVersionKind())
	if a.missingOnly {
		return live, nil
	}
	if live.GetAnnotations()[v1alpha1.DigestAnnotation] == desired.GetAnnotations()[v1alpha1.DigestAnnotation] &&
		Subset(fields(desired), fields(live)) == "" && len(added(desired, fields(live))) == 0 {
		return live, nil
	}
	return a.change(ctx, desired)
}

// change applies an object that is there. It reads it again: the cache may be old, and may have dropped
// the managed fields.
func (a *apply) change(ctx context.Context, desired client.Object) (client.Object, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(desired.GetObjectKind().GroupVersionKind())
	if err := a.uncached.Get(ctx, client.ObjectKeyFromObject(desired), live); err != nil {
		return nil, explain(err, desired)
	}
	if err := mayChange(a.tenant, desired, live); err != nil {
		return nil, err
	}
	if err := a.takeCreated(ctx, live); err != nil {
		return nil, explain(err, desired)
	}

	if err := a.removeAdded(ctx, desired, live); err != nil {
		return nil, explain(err, desired)
	}

	config := &unstructured.Unstructured{Object: fields(desired)}
	// The apiserver refuses to apply to another object than the one whose labels were just read.
	config.SetUID(live.GetUID())
	a.result.Writes++
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(config),
		client.FieldOwner(v1alpha1.FieldManager), client.ForceOwnership); err != nil {
		return nil, explain(err, desired)
	}
	a.changed(desired)

	applied, err := a.emptyOf(desired)
	if err != nil {
		return nil, err
	}
	if err := fromUnstructured(config, applied); err != nil {
		return nil, explain(err, desired)
	}
	return applied, nil
}

// takeCreated makes the fields that were set by creating the object ours by server-side apply too. Else
// a field that is no longer wanted would stay, held by the creation.
func (a *apply) takeCreated(ctx context.Context, live *unstructured.Unstructured) error {
	created := ssa.FieldManager{Name: v1alpha1.FieldManager, ExactMatch: true, OperationType: metav1.ManagedFieldsOperationUpdate}
	patches, err := ssa.PatchReplaceFieldsManagers(live, []ssa.FieldManager{created}, v1alpha1.FieldManager)
	if err != nil || len(patches) == 0 {
		return err
	}
	patch, err := jsonPatch(patches)
	if err != nil {
		return err
	}
	a.result.Writes++
	return a.client.Patch(ctx, live, patch, client.FieldOwner(v1alpha1.FieldManager))
}

// removeAdded takes out of the spec what others put into it, which server-side apply leaves to them.
func (a *apply) removeAdded(ctx context.Context, desired client.Object, live *unstructured.Unstructured) error {
	var patches []ssa.JSONPatch
	for _, field := range added(desired, live.Object) {
		patches = append(patches, ssa.JSONPatch{Operation: "remove", Path: "/spec/" + field})
	}
	if len(patches) == 0 {
		return nil
	}
	patch, err := jsonPatch(patches)
	if err != nil {
		return err
	}
	a.result.Writes++
	return a.client.Patch(ctx, live, patch, client.FieldOwner(v1alpha1.FieldManager))
}

// added is Added for the kinds of Flux, whose specs are Korthweb's alone. What is in the spec of a
// Namespace is Kubernetes' own.
func added(desired client.Object, live map[string]any) []string {
	if !strings.HasSuffix(desired.GetObjectKind().GroupVersionKind().Group, ".toolkit.fluxcd.io") {
		return nil
	}
	return Added(fields(desired), live)
}

// announce writes where the artifact is into the status of the ExternalArtifact, unless it is there. The
// condition's time is the artifact's, so that writing it twice writes the same.
func (a *apply) announce(ctx context.Context, ea *sourcev1.ExternalArtifact, artifact *meta.Artifact) error {
	wanted := ea.DeepCopy()
	wanted.Status.Artifact = artifact.DeepCopy()
	apimeta.SetStatusCondition(&wanted.Status.Conditions, metav1.Condition{
		Type:               meta.ReadyCondition,
		Status:             metav1.ConditionTrue,
		Reason:             meta.SucceededReason,
		Message:            "stored artifact for revision " + artifact.Revision,
		ObservedGeneration: ea.Generation,
		LastTransitionTime: artifact.LastUpdateTime,
	})
	if equality.Semantic.DeepEqual(ea.Status, wanted.Status) {
		return nil
	}
	a.result.Writes++
	err := a.client.Status().Patch(ctx, wanted, client.MergeFrom(ea), client.FieldOwner(v1alpha1.FieldManager))
	if err != nil {
		return fmt.Errorf("announcing the bundle: %w", explain(err, ea))
	}
	if !slices.Contains(a.result.Changed, name(ea)) {
		a.changed(ea)
	}
	return nil
}

// credentials creates the Secrets of generated credentials that are not there. Their content is never read. Which of
// the two requests comes first is a matter of which will do alone.
func (a *apply) credentials(ctx context.Context) error {
	for _, secretName := range generated(a.tenant) {
		secret := credentials(a.tenant, secretName, nil)
		inventory := a.tenant.Status.Inventory
		known := inventory != nil && slices.ContainsFunc(inventory.Entries, func(r kustomizev1.ResourceRef) bool { return r.ID == id(secret) })
		if !known {
			if err := a.createCredentials(ctx, secretName); !apierrors.IsAlreadyExists(err) {
				if err != nil {
					return err
				}
				continue
			}
		}
		live := &metav1.PartialObjectMetadata{TypeMeta: secret.TypeMeta}
		err := a.uncached.Get(ctx, client.ObjectKeyFromObject(secret), live)
		if apierrors.IsNotFound(err) {
			if secretName == PostgresCredentialsName {
				// Unless the namespace, and the database in it, was gone too.
				if anew, err := a.namespaceIsNew(ctx); err != nil {
					return err
				} else if anew {
					if err := a.createCredentials(ctx, secretName); err != nil {
						return err
					}
					continue
				}
				return &SecretError{Field: "spec.postgres", Secret: name(secret)[len("Secret/"):], Problem: "is gone, and the database " +
					"keeps the passwords that were in it: restore it from a backup, or set the database's to those of a new one"}
			}
			if err := a.createCredentials(ctx, secretName); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return explain(err, secret)
		}
		if err := mayChange(a.tenant, secret, live); err != nil {
			return err
		}
		a.list(secret)
	}
	return nil
}

// namespaceIsNew says whether the tenant's namespace is another than that which had the credentials last. A run that made
// it may have failed before it made the credentials.
func (a *apply) namespaceIsNew(ctx context.Context) (bool, error) {
	if a.namespaceMade {
		return true, nil
	}
	ea := ExternalArtifact(a.tenant)
	live := &sourcev1.ExternalArtifact{}
	if err := a.client.Get(ctx, client.ObjectKeyFromObject(ea), live); apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, explain(err, ea)
	}
	known := live.Annotations[namespaceUIDAnnotation]
	return known != "" && known != string(a.namespaceUID), nil
}

func (a *apply) createCredentials(ctx context.Context, secretName string) error {
	count := 1
	if secretName == PostgresCredentialsName {
		count = len(postgresPasswords)
	}
	passwords := make([]string, count)
	for i := range passwords {
		var err error
		if passwords[i], err = NewPassword(a.random); err != nil {
			return err
		}
	}
	secret := Credentials(a.tenant, passwords[0])
	if secretName == PostgresCredentialsName {
		secret = PostgresCredentials(a.tenant, passwords)
	}
	a.result.Writes++
	if err := a.client.Create(ctx, secret.DeepCopy(), client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return explain(err, secret)
	}
	a.changed(secret)
	a.list(secret)
	return nil
}

func (a *apply) changed(o client.Object) { a.result.Changed = append(a.result.Changed, name(o)) }

func (a *apply) list(o client.Object) {
	inventory := a.result.Inventory
	inventory.Entries = append(inventory.Entries, kustomizev1.ResourceRef{ID: id(o), Version: o.GetObjectKind().GroupVersionKind().Version})
}

func (a *Applier) emptyOf(o client.Object) (client.Object, error) {
	empty, err := a.client.Scheme().New(o.GetObjectKind().GroupVersionKind())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name(o), err)
	}
	return empty.(client.Object), nil
}

func isNamespace(o client.Object) bool {
	_, ok := o.(*corev1.Namespace)
	return ok
}

// id names an object as Flux's inventories do: namespace_name_group_kind.
func id(o client.Object) string {
	return object.ObjMetadata{
		Namespace: o.GetNamespace(),
		Name:      o.GetName(),
		GroupKind: o.GetObjectKind().GroupVersionKind().GroupKind(),
	}.String()
}

// name names an object for people: Kind/namespace/name.
func name(o client.Object) string {
	parts := []string{o.GetObjectKind().GroupVersionKind().Kind}
	if o.GetNamespace() != "" {
		parts = append(parts, o.GetNamespace())
	}
	return strings.Join(append(parts, o.GetName()), "/")
}
