// SPDX-License-Identifier: Apache-2.0

package variants_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/tenant"
	"github.com/digihunch/korthweb/test/variants"
)

// TestValid shows that every variant is a Tenant that Korthweb and the apiserver accept.
func TestValid(t *testing.T) {
	g := NewWithT(t)
	all := variants.All()
	t.Logf("%d variants", len(all))
	g.Expect(all[0].Name).To(Equal("default"))
	for _, v := range all {
		one := v.Tenant("one")
		g.Expect(tenant.Validate(one)).To(BeEmpty(), v.Name)
		g.Expect(tenant.CheckSpec(one)).To(BeEmpty(), v.Name)
	}
}

// TestPairs shows that the options that are not combined in full meet each other.
func TestPairs(t *testing.T) {
	g := NewWithT(t)
	names := map[string]bool{}
	for _, v := range variants.All() {
		names[v.Name] = true
	}
	g.Expect(names).To(HaveKey("traefik+external+s3+autoscaling+no-client-certificates+peers+monitoring"), "in full")
	g.Expect(variants.Missing()).To(BeEmpty())
}
