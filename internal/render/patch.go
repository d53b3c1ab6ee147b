// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// patch applies the tenant's own patches.
func (b *Bundle) patch(t *v1alpha1.Tenant) error {
	return &Error{Field: "spec.patches[0]", Err: errors.New("not yet implemented")}
}
