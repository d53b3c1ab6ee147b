// SPDX-License-Identifier: Apache-2.0

// Package crd embeds the CustomResourceDefinitions, so that the very schema that a cluster judges
// definitions with judges them offline too.
package crd

import "embed"

// Bases holds the CustomResourceDefinitions as generated from api/v1alpha1, under bases/.
//
//go:embed bases/*.yaml
var Bases embed.FS

// TenantRepositoryFile is the path of TenantRepository's CustomResourceDefinition in Bases.
const TenantRepositoryFile = "bases/korthweb.digihunch.com_tenantrepositories.yaml"

// TenantFile is the path of Tenant's CustomResourceDefinition in Bases.
const TenantFile = "bases/korthweb.digihunch.com_tenants.yaml"
