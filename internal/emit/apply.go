// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"context"
	"crypto/rand"
	"errors"
	"io"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Applier brings what is emitted for a tenant into the cluster, and takes it down again.
type Applier struct {
	client   client.Client
	uncached client.Reader
	random   io.Reader
}

// NewApplier returns an Applier that writes through c and reads Namespaces, ServiceAccounts,
// RoleBindings, ExternalArtifacts and Kustomizations from c's cache. Such a cache may hold only
// objects labelled app.kubernetes.io/managed-by=korthweb: what is not in it is looked for through
// uncached before anything is concluded. c must not cache unstructured objects (controller-runtime's
// default).
func NewApplier(c client.Client, uncached client.Reader) *Applier {
	return &Applier{client: c, uncached: uncached, random: rand.Reader}
}

// Result says what Apply did.
type Result struct {
	// Inventory lists everything emitted, in the order in which it is applied, changed or not.
	Inventory *kustomizev1.ResourceInventory

	// Changed names the objects that were created or changed: Kustomization/flux-system/bhs-application.
	Changed []string

	// Writes counts the create, update and patch requests that were sent, dry runs left out.
	Writes int
}

// Apply makes the cluster hold what is emitted for tenant, with artifact announced in the status of its
// ExternalArtifact. Where everything is as it should be it sends no write, and one read: the metadata of
// the credentials' Secret, which is never cached.
//
// Errors: NotOwnedError, TerminatingError, FluxNotInstalledError, or the apiserver's, naming the object.
// See Reason. Result speaks of what was done before the error. Objects already applied stay; calling
// again goes on.
func (a *Applier) Apply(ctx context.Context, tenant *v1alpha1.Tenant, artifact *meta.Artifact) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// Remove takes down what was emitted for tenant, one step a call, in the order in which nothing is
// needed any more: the application's Kustomization, the dependency's, the ExternalArtifact; then under
// deletionPolicy Delete the namespace, or under Retain what the appliers act by. It returns true when
// all is gone, or else what it waits for: Kustomization/flux-system/bhs-application. It can be called
// again at any point, and deletes only what carries this tenant's labels.
func (a *Applier) Remove(ctx context.Context, tenant *v1alpha1.Tenant) (done bool, waitingFor string, err error) {
	return false, "", errors.ErrUnsupported
}
