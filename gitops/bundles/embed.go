// SPDX-License-Identifier: Apache-2.0

// Package bundles holds the kustomize bases and components that a tenant's bundle is rendered from, so that the
// binary and the manifests in it are always of one version. bundle.yaml says what they are for.
package bundles

import "embed"

// FS holds bundle.yaml and the directories that it names.
//
//go:embed bundle.yaml all:dependency all:application
var FS embed.FS
