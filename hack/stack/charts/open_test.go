// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/render"
)

// TestOpenValuesAreKnown holds that patches may change no value that the chart's schema refuses.
func TestOpenValuesAreKnown(t *testing.T) {
	h := newHarness(t)
	for name, c := range h.charts {
		places := render.OpenToPatches()["HelmRelease/"+name]
		NewWithT(t).Expect(len(places)).To(BeNumerically(">", 10), name)
		var schema map[string]any
		NewWithT(t).Expect(json.Unmarshal(c.Schema, &schema)).To(Succeed())
		if defs, ok := schema["$defs"].(map[string]any); ok && defs["values"] != nil {
			schema = defs["values"].(map[string]any)
		}
		for _, place := range places {
			t.Run(name+"/"+place, func(t *testing.T) {
				g := NewWithT(t)
				place, _, _ = strings.Cut(place, ".sidecar.istio.io/")
				below := schema
				g.Expect(below["properties"]).NotTo(BeEmpty())
				for field := range strings.SplitSeq(strings.TrimPrefix(place, "spec.values."), ".") {
					known, ok := below["properties"].(map[string]any)
					if !ok {
						break // The schema leaves it open.
					}
					g.Expect(known).To(HaveKey(field))
					below = known[field].(map[string]any)
				}
			})
		}
	}
}
