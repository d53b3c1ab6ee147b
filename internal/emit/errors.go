// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// NotOwnedError: an object of the name that Korthweb needs exists and was not created for this tenant.
type NotOwnedError struct {
	// Object as Kind/namespace/name.
	Object string
	// Tenant that needs it, as namespace/name.
	Tenant string
	// Owner is the tenant that the object was created for, as namespace/name; empty where it was not
	// created by Korthweb.
	Owner string
}

// Error names the object and says what to do.
func (e *NotOwnedError) Error() string {
	whose := "was not created by Korthweb"
	if e.Owner != "" {
		whose = "belongs to tenant " + e.Owner
	}
	return fmt.Sprintf("%s exists and %s: it is left as it is; remove it or give tenant %s another name or namespace", e.Object, whose, e.Tenant)
}

// TerminatingError: an object is being deleted and has to be gone before it can be created again.
type TerminatingError struct {
	// Object as Kind/namespace/name.
	Object string
}

// Error names the object.
func (e *TerminatingError) Error() string {
	return e.Object + " is being deleted: it is created again once it is gone"
}

// FluxNotInstalledError: the cluster does not serve a kind of Flux.
type FluxNotInstalledError struct {
	// Kind that is missing, with group and version.
	Kind string
	// Err is the client's error.
	Err error
}

// Error names the kind and what to install.
func (e *FluxNotInstalledError) Error() string {
	return fmt.Sprintf("the cluster does not know %s: install Flux 2.9 or later with source-controller, kustomize-controller and helm-controller (flux install)", e.Kind)
}

// Unwrap returns the client's error.
func (e *FluxNotInstalledError) Unwrap() error { return e.Err }

// Reason returns the condition reason of an error of Apply or Remove: NotOwned, FluxNotInstalled, or
// EmitFailed. All of them are worth a retry: the cause lies in the cluster, not in the definition.
func Reason(err error) string {
	if e := new(NotOwnedError); errors.As(err, &e) {
		return v1alpha1.NotOwnedReason
	}
	if e := new(FluxNotInstalledError); errors.As(err, &e) || meta.IsNoMatchError(err) {
		return v1alpha1.FluxNotInstalledReason
	}
	return v1alpha1.EmitFailedReason
}
