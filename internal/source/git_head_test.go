// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"testing"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/source"
)

// The HEAD of a new bare repository names master, whether or not there will be such a branch.
func TestFetchWithDanglingHEAD(t *testing.T) {
	temporaryDir(t)
	server := newServer(t)
	r := newRepo(t, server, "tenants.git")
	first := r.commit("main", map[string]entry{"v": file("1")})
	r.setRef("refs/tags/v1.0.0", first)
	r.setRef("refs/pull/1/head", r.commit("pull", map[string]entry{"v": file("2")}, first))
	g := NewWithT(t)
	g.Expect(r.Storer.RemoveReference("refs/heads/pull")).To(Succeed())
	url := startHTTP(t, server) + "/tenants.git"

	for name, c := range map[string]struct {
		ref     sourcev1.GitRepositoryRef
		content string
	}{
		"branch":             {sourcev1.GitRepositoryRef{Branch: "main"}, "1"},
		"tag":                {sourcev1.GitRepositoryRef{Tag: "v1.0.0"}, "1"},
		"semver":             {sourcev1.GitRepositoryRef{SemVer: "*"}, "1"},
		"commit of a branch": {sourcev1.GitRepositoryRef{Branch: "main", Commit: first.String()}, "1"},
		"pull request":       {sourcev1.GitRepositoryRef{Name: "refs/pull/1/head"}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s, err := (&source.Git{URL: url, AllowHTTP: true, Ref: &c.ref}).Fetch(t.Context(), "")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(read(g, s, "v")).To(Equal(c.content))
			g.Expect(s.Close()).To(Succeed())

			_, err = (&source.Git{URL: url, AllowHTTP: true, Ref: &c.ref}).Fetch(t.Context(), s.Revision)
			g.Expect(err).To(MatchError(source.ErrUnchanged))
		})
	}

	_, err := (&source.Git{URL: url, AllowHTTP: true, Ref: &sourcev1.GitRepositoryRef{Name: "refs/pull/2/head"}}).Fetch(t.Context(), "")
	expectError(g, err, sourcev1.GitOperationFailedReason, "reference refs/pull/2/head not found in "+url)
	_, err = (&source.Git{URL: url, AllowHTTP: true, Ref: &sourcev1.GitRepositoryRef{Commit: first.String()}}).Fetch(t.Context(), "")
	expectError(g, err, sourcev1.GitOperationFailedReason, "HEAD names no branch: set ref.branch to the branch of the commit")
}
