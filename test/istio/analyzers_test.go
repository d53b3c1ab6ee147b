// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/local"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// analyze returns what istiod's analyzers, which `istioctl analyze` runs too, say of the cluster.
func analyze(t *testing.T, c *cluster) []string {
	t.Helper()
	g := NewWithT(t)
	analyzer := local.NewSourceAnalyzer(analyzers.AllCombined(), "", istioNamespace, nil)
	g.Expect(analyzer.AddTestReaderKubeSource([]local.ReaderSource{{Name: "cluster", Reader: strings.NewReader(stream(t, c.objects))}})).To(Succeed())
	stop := make(chan struct{})
	defer close(stop)
	result, err := analyzer.Analyze(stop)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result.SkippedAnalyzers).To(BeEmpty())
	var messages []string
	for _, m := range result.Messages {
		messages = append(messages, m.String())
	}
	return messages
}

// accepted are messages on what others make of the rendered objects, with the reason why they stand.
var accepted = []struct{ message, reason string }{
	{
		`^Info \[IST0118\] \(Service [a-z]+-orthweb/postgres-(rw|ro|r) .*\) Port name postgres `,
		"CloudNativePG names the port so. The database is outside of the mesh: TCP is what Istio takes it for.",
	},
	{
		`^Warning \[IST0107\] \(Pod [a-z]+-orthweb/postgres-1 .*\) Misplaced annotation: networking.istio.io/exportTo `,
		"It is for the Services. CloudNativePG puts annotations on all that it makes, and Istio ignores it on a pod.",
	},
}

func TestAnalyzersReportNothing(t *testing.T) {
	c := newCluster(t, nil, names(facilities)...)
	used := map[string]bool{}
	for _, message := range analyze(t, c) {
		at := slices.IndexFunc(accepted, func(a struct{ message, reason string }) bool {
			return regexp.MustCompile(a.message).MatchString(message)
		})
		if at == -1 {
			t.Error(message)
			continue
		}
		used[accepted[at].message] = true
	}
	for _, a := range accepted {
		if !used[a.message] {
			t.Errorf("nothing says %s any more: take it off the list", a.message)
		}
	}
}

// The analyzers do see what is wrong: a Gateway that selects no pod, and a route to a Service that does not exist.
func TestAnalyzersSeeMistakes(t *testing.T) {
	g := NewWithT(t)
	c := newCluster(t, func(obj *unstructured.Unstructured) {
		switch obj.GetKind() + "/" + obj.GetName() {
		case "Gateway/dcm-gw":
			g.Expect(unstructured.SetNestedStringMap(obj.Object, map[string]string{"istio": "other"}, "spec", "selector")).To(Succeed())
		case "Service/orthweb":
			obj.SetName("elsewhere")
		}
	}, "alderbrook")
	g.Expect(analyze(t, c)).To(And(
		ContainElement(ContainSubstring("IST0101] (Gateway alderbrook-orthweb/dcm-gw ")),
		ContainElement(ContainSubstring("IST0101] (VirtualService alderbrook-orthweb/dcm-vs ")),
	))
}
