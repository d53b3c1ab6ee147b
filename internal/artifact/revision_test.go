// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/digihunch/korthweb/internal/artifact"
)

func TestRevision(t *testing.T) {
	d := digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat("ab", 32))
	commit := "1a2b3c4d5e6f" + strings.Repeat("0", 28)
	checksum := "9f8e7d6c5b4a" + strings.Repeat("0", 52)
	for name, tc := range map[string]struct{ source, want string }{
		"branch":                       {"main@sha1:" + commit, "main/1a2b3c4d5e6f@"},
		"branch with a slash":          {"feature/x@sha1:" + commit, "feature/x/1a2b3c4d5e6f@"},
		"branch with an at sign":       {"a@b@sha1:" + commit, "a@b/1a2b3c4d5e6f@"},
		"tag":                          {"v1.2.3@sha1:" + commit, "v1.2.3/1a2b3c4d5e6f@"},
		"ref":                          {"refs/pull/7/head@sha1:" + commit, "refs/pull/7/head/1a2b3c4d5e6f@"},
		"commit alone":                 {"sha1:" + commit, "1a2b3c4d5e6f@"},
		"sha256 repository":            {"main@sha256:" + checksum, "main/9f8e7d6c5b4a@"},
		"OCI":                          {"latest@sha256:" + checksum, "latest/9f8e7d6c5b4a@"},
		"Bucket":                       {"sha256:" + checksum, "9f8e7d6c5b4a@"},
		"Helm chart":                   {"6.1.0", "6.1.0@"},
		"short checksum":               {"main@sha1:1a2b", "main/1a2b@"},
		"name before nothing":          {"main@", "main@@"},
		"nothing before a checksum":    {"@sha1:" + commit, "1a2b3c4d5e6f@"},
		"Tenant that was made by hand": {"", "local@"},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(artifact.Revision(tc.source, d)).To(Equal(tc.want + d.String()))
		})
	}
}
