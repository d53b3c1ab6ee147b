// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/local"
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

func TestAnalyzersReportNothing(t *testing.T) {
	g := NewWithT(t)
	c := newCluster(t, nil, "alderbrook", "birchwood")
	g.Expect(analyze(t, c)).To(BeEmpty())
}
