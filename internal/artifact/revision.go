// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// SourceRevisionKey is the key of an artifact's metadata under which Flux looks for the revision that
// an artifact was made from; kustomize-controller copies it to status.lastAppliedOriginRevision.
const SourceRevisionKey = "org.opencontainers.image.revision"

// localName stands for the source of a Tenant that was made by hand.
const localName = "local"

// shortLength is how much of a commit is shown: git's own abbreviation of a large repository.
const shortLength = 12

// Revision returns the revision of a bundle, <name>/<short>@<digest>: the branch, tag or ref of the
// source, the first 12 characters of its commit or digest, and the digest of the archive. So a person
// finds the commit, and the revision changes whenever the content does.
//
//	main@sha1:1a2b3c4d5e6f…   main/1a2b3c4d5e6f@sha256:…
//	sha1:1a2b3c4d5e6f…        1a2b3c4d5e6f@sha256:…        (a source without a name)
//	6.1.0                     6.1.0@sha256:…               (a source without a digest)
//	                          local@sha256:…               (a Tenant made by hand)
func Revision(sourceRevision string, d digest.Digest) string {
	name, checksum := "", sourceRevision
	if i := strings.LastIndexByte(sourceRevision, '@'); i >= 0 {
		name, checksum = sourceRevision[:i], sourceRevision[i+1:]
	}
	algorithm, hex, ok := strings.Cut(checksum, ":")
	if !ok || algorithm == "" || hex == "" {
		name, hex = sourceRevision, ""
	}
	parts := make([]string, 0, 2)
	if name != "" {
		parts = append(parts, name)
	}
	if hex != "" {
		parts = append(parts, hex[:min(shortLength, len(hex))])
	}
	if len(parts) == 0 {
		parts = append(parts, localName)
	}
	return strings.Join(parts, "/") + "@" + d.String()
}
