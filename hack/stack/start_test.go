// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"bytes"
	"context"
	"os"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	. "github.com/onsi/gomega"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/digihunch/korthweb/hack/stack"
)

// cancelOn cancels when a line that contains text is written to it.
type cancelOn struct {
	text   string
	cancel context.CancelFunc
}

func (c cancelOn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.text)) {
		c.cancel()
	}
	return len(p), nil
}

func TestStartFails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		opts   stack.Options
		cancel string // cancel when this program is ready
		want   string
	}{
		{
			name: "a program that is not built",
			opts: stack.Options{Programs: t.TempDir()},
			want: "program etcd is not built, run `make stack`",
		},
		{
			name: "Flux without its CRDs",
			opts: stack.Options{Flux: true, WithoutFluxCRDs: true},
			want: "do not start without their CRDs",
		},
		{
			name: "a program that ends at once, with the end of its log",
			opts: stack.Options{ExtraArgs: map[string][]string{stack.APIServer: {"--no-such-flag"}}},
			want: "unknown flag: --no-such-flag",
		},
		{
			name:   "an interrupt half-way",
			cancel: stack.Etcd,
			want:   "context canceled",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			tc.opts.Dir = t.TempDir()
			if tc.cancel != "" {
				tc.opts.Progress = cancelOn{text: tc.cancel, cancel: cancel}
			}
			_, err := stack.Start(ctx, tc.opts)
			g.Expect(err).To(MatchError(ContainSubstring(tc.want)))
			g.Expect(processesOf(g, tc.opts.Dir)).To(BeEmpty())
		})
	}
}

func TestFluxCRDsMissing(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	s, err := stack.Start(ctx, stack.Options{WithoutFluxCRDs: true})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(s.Stop()).To(Succeed()) })

	list := &kustomizev1.KustomizationList{}
	err = newClient(g, s.RESTConfig()).List(ctx, list)
	g.Expect(apimeta.IsNoMatchError(err)).To(BeTrue(), "%v", err)

	g.Expect(s.InstallFluxCRDs(ctx)).To(Succeed())
	g.Expect(newClient(g, s.RESTConfig()).List(ctx, list)).To(Succeed())

	g.Expect(s.Stop()).To(Succeed())
	g.Expect(os.Stat(s.Dir())).Error().To(MatchError(os.ErrNotExist), "a directory that Start made")
}
