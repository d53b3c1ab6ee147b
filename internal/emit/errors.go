// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// NotOwnedError says that an object of the name that Korthweb needs exists and was not created for this
// tenant.
type NotOwnedError struct {
	// Object as Kind/namespace/name.
	Object string

	// Tenant that needs it, as namespace/name.
	Tenant string

	// Owner is the tenant that the object was created for, as namespace/name; empty where it was not
	// created by Korthweb.
	Owner string
}

// Error names the object and says what to do. A namespace may hold images, so nobody is told to remove one.
func (e *NotOwnedError) Error() string {
	instead := fmt.Sprintf("give tenant %s another name or namespace", e.Tenant)
	switch namespace := strings.HasPrefix(e.Object, "Namespace/"); {
	case namespace && e.Owner != "":
		return fmt.Sprintf("%s exists, belongs to tenant %s and may hold its images; leave it: %s", e.Object, e.Owner, instead)
	case namespace:
		return fmt.Sprintf("%s exists and was not created by Korthweb; it is left as it is: %s", e.Object, instead)
	case e.Owner != "":
		return fmt.Sprintf("%s exists and belongs to tenant %s; it is left as it is: remove it, or %s", e.Object, e.Owner, instead)
	}
	return fmt.Sprintf("%s exists and was not created by Korthweb; it is left as it is: remove it, or %s", e.Object, instead)
}

// TerminatingError says that an object is being deleted and has to be gone before it can be created
// again.
type TerminatingError struct {
	// Object as Kind/namespace/name.
	Object string
}

// Error names the object.
func (e *TerminatingError) Error() string {
	return e.Object + " is being deleted; it is created again once it is gone"
}

// RetainedError says that the tenant's namespace was kept when its tenant was removed, and that nobody has approved that
// it is taken into use again.
type RetainedError struct {
	// Namespace that was kept.
	Namespace string

	// Revision that removed its tenant.
	Revision string

	// Tenant that would take it into use.
	Tenant *v1alpha1.Tenant

	// Approval is the value of v1alpha1.ApproveAdoptionAnnotation on the Tenant that approves it.
	Approval string
}

// Error says what is in the way and has the command that approves.
func (e *RetainedError) Error() string {
	by := e.Revision
	if by == byHand {
		by = "its Tenant was deleted by hand"
	}
	return fmt.Sprintf("Namespace/%s was kept with its data when its tenant was removed (%s); nothing is applied. "+
		"If the images are another facility's, give this tenant another name instead. To take it into use again: "+
		"kubectl -n %s annotate --overwrite tenants.%s %s %s=%s",
		e.Namespace, by, e.Tenant.Namespace, v1alpha1.GroupVersion.Group, e.Tenant.Name, v1alpha1.ApproveAdoptionAnnotation, e.Approval)
}

// FluxNotInstalledError says that the cluster does not serve a kind of Flux.
type FluxNotInstalledError struct {
	// Kind that is missing, with its group and version.
	Kind string

	// Err is the client's error.
	Err error
}

// Error names the kind and what to install.
func (e *FluxNotInstalledError) Error() string {
	return fmt.Sprintf("the cluster does not serve %s: install Flux 2.9 or later with source-controller, kustomize-controller and helm-controller", e.Kind)
}

// Unwrap returns the client's error.
func (e *FluxNotInstalledError) Unwrap() error { return e.Err }

// Reason returns the condition reason of an error of Apply or Remove: NotOwned, Retained, FluxNotInstalled,
// InvalidSecret or EmitFailed. All of them are worth a retry: the cause lies in the cluster, not in the definition.
func Reason(err error) string {
	if e := new(NotOwnedError); errors.As(err, &e) {
		return v1alpha1.NotOwnedReason
	}
	if e := new(RetainedError); errors.As(err, &e) {
		return v1alpha1.RetainedReason
	}
	if e := new(FluxNotInstalledError); errors.As(err, &e) {
		return v1alpha1.FluxNotInstalledReason
	}
	if e := new(SecretError); errors.As(err, &e) {
		return v1alpha1.InvalidSecretReason
	}
	return v1alpha1.EmitFailedReason
}

// explain names the object that an error of the client is about, and types the errors that say more
// than the client does.
func explain(err error, o client.Object) error {
	gvk := o.GetObjectKind().GroupVersionKind()
	if unserved(err) && strings.HasSuffix(gvk.Group, ".toolkit.fluxcd.io") {
		return &FluxNotInstalledError{Kind: gvk.GroupVersion().String() + " " + gvk.Kind, Err: err}
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return &TerminatingError{Object: "Namespace/" + o.GetNamespace()}
	}
	return fmt.Errorf("%s: %w", name(o), err)
}

// unserved says whether an error means that the cluster does not serve the object's kind. A kind that was served when the
// client looked last and is not any more is a 404 without a cause in the API.
func unserved(err error) bool {
	return meta.IsNoMatchError(err) ||
		apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// mayChange says whether live, which has the name of desired, was created for the tenant and stays.
func mayChange(tenant *v1alpha1.Tenant, desired, live client.Object) error {
	if !ownedBy(tenant, live) {
		e := &NotOwnedError{Object: name(desired), Tenant: tenant.Namespace + "/" + tenant.Name}
		if labels := live.GetLabels(); labels[v1alpha1.ManagedByLabel] == v1alpha1.FieldManager && labels[v1alpha1.TenantLabel] != "" {
			e.Owner = labels[v1alpha1.TenantNamespaceLabel] + "/" + labels[v1alpha1.TenantLabel]
		}
		return e
	}
	if live.GetDeletionTimestamp() != nil {
		return &TerminatingError{Object: name(desired)}
	}
	return nil
}

func ownedBy(tenant *v1alpha1.Tenant, live client.Object) bool {
	labels := live.GetLabels()
	for key, value := range ownerLabels(tenant) {
		if labels[key] != value {
			return false
		}
	}
	return true
}
