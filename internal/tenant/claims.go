// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"slices"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Claims names what a tenant claims for itself, sorted: "host bhs.orthweb.com", "namespace bhs-orthweb".
// Tenants that share one of these are in conflict, so it serves as an index of whom to ask Conflicts about.
func Claims(t *v1alpha1.Tenant) []string {
	var names []string
	for c := range claims(t) {
		names = append(names, c.kind+" "+c.value)
	}
	slices.Sort(names)
	return names
}
