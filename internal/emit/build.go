// SPDX-License-Identifier: Apache-2.0

// Package emit holds what Korthweb itself puts into the cluster for a tenant: builders, which are pure,
// and one Applier, which brings the built objects into the cluster without ever taking over what
// Korthweb did not create.
package emit

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Objects returns everything that is emitted for a tenant but its credentials, in the order in which it
// is applied. The tenant must have its defaults.
func Objects(tenant *v1alpha1.Tenant) []client.Object { return nil }
