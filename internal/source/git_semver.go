// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/fluxcd/pkg/version"
)

var errNoTagMatches = errors.New("no tag matches")

func (r *remote) validateSemVer() error {
	if _, err := semver.NewConstraint(r.ref.SemVer); err != nil {
		return r.refInvalid("semver", r.ref.SemVer, "a range of versions such as >=1.0.0 <2.0.0")
	}
	return nil
}

// resolveSemVer asks the remote for its tags and returns the highest version in the range. gogit
// itself would clone all tags each time to find out. Of versions that differ in their build metadata
// only, which semver does not order, the last in the order of the alphabet is taken.
func (r *remote) resolveSemVer(ctx context.Context) (string, error) {
	constraint, err := semver.NewConstraint(r.ref.SemVer)
	if err != nil {
		return "", err
	}
	refs, err := r.list(ctx)
	if err != nil {
		return "", err
	}

	var highest *semver.Version
	for _, ref := range refs {
		if !ref.Name().IsTag() {
			continue
		}
		v, err := version.ParseVersion(ref.Name().Short())
		if err != nil || !constraint.Check(v) {
			continue
		}
		if highest == nil || v.GreaterThan(highest) ||
			(v.Equal(highest) && strings.Compare(v.Original(), highest.Original()) > 0) {
			highest = v
		}
	}
	if highest == nil {
		return "", errNoTagMatches
	}
	return highest.Original(), nil
}
