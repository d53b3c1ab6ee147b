// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"testing"

	. "github.com/onsi/gomega"
	networkingv1 "k8s.io/api/networking/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/digihunch/korthweb/internal/addresses"
)

// TestClosedAddresses holds that each NetworkPolicy that opens a port to everywhere excepts the addresses that a
// definition may not name.
func TestClosedAddresses(t *testing.T) {
	g := NewWithT(t)
	g.Expect(renderAll()).To(Succeed())
	v4, v6 := addresses.Exceptions()
	policies := map[string]bool{}
	for _, b := range allBundles {
		for _, o := range b.all("NetworkPolicy") {
			p := &networkingv1.NetworkPolicy{}
			g.Expect(apiruntime.DefaultUnstructuredConverter.FromUnstructured(o.Object, p)).To(Succeed())
			for _, rule := range p.Spec.Egress {
				for _, to := range rule.To {
					switch {
					case to.IPBlock == nil:
					case to.IPBlock.CIDR == "0.0.0.0/0":
						policies[p.Name] = true
						g.Expect(to.IPBlock.Except).To(Equal(v4), "%s: %s", b.variant, p.Name)
					case to.IPBlock.CIDR == "::/0":
						g.Expect(to.IPBlock.Except).To(Equal(v6), "%s: %s", b.variant, p.Name)
					default:
						g.Expect(to.IPBlock.Except).To(BeEmpty(), "%s: %s", b.variant, p.Name)
					}
				}
			}
		}
	}
	g.Expect(policies).To(And(HaveKey("postgres"), HaveKey("traefik"), HaveKey(HavePrefix("peer-")), HaveKey(HavePrefix("egress-"))))
}
