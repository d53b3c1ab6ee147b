// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"maps"
	"slices"
)

// FacilityOptions are the names of the options that a facility may set, and ClassOptions of those that a class may
// beyond them.
func FacilityOptions() []string { return facilityOptions.names("") }

// ClassOptions see FacilityOptions.
func ClassOptions() []string {
	return slices.DeleteFunc(classOptions.names(""), func(name string) bool { return facilityOptions.has(name) && name != "IngestTranscoding" })
}

func (o options) names(prefix string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if inner := o[key].options; inner != nil {
			out = append(out, inner.names(prefix+key+".")...)
		} else {
			out = append(out, prefix+key)
		}
	}
	return out
}
