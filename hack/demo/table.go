// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

var gitRef = sourcev1.GitRepositoryRef{Branch: gitserver.Branch}

// watchUntilReady shows the tenants and their layers as they change, until the named tenants are ready.
func watchUntilReady(ctx context.Context, c client.Client, out *os.File, names ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready after %s: %s", readyTimeout, strings.Join(names, ", ")))
	defer cancel()
	screen := &screen{out: out, live: isTerminal(out)}
	if screen.live {
		// A row that wraps is two lines, and the next table is not drawn over the whole of it.
		fmt.Fprint(out, "\x1b[?7l")
		defer fmt.Fprint(out, "\x1b[?7h")
	}
	for {
		table, ready, err := snapshot(ctx, c, names)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			screen.show(table)
		}
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// snapshot renders the present state as a table, and says whether the named tenants are ready.
func snapshot(ctx context.Context, c client.Client, names []string) (string, bool, error) {
	tenants := &v1alpha1.TenantList{}
	if err := c.List(ctx, tenants, client.InNamespace(stack.FluxNamespace)); err != nil {
		return "", false, err
	}
	layers := &kustomizev1.KustomizationList{}
	if err := c.List(ctx, layers, client.InNamespace(stack.FluxNamespace)); err != nil {
		return "", false, err
	}
	var buf bytes.Buffer
	w := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tREVISION\tSUSPENDED\tREADY\tMESSAGE")
	ready := 0
	for i := range tenants.Items {
		t := &tenants.Items[i]
		row(w, "tenant/"+t.Name, t.Status.LastAppliedRevision, t.Spec.Suspend, t)
		for _, layer := range []string{v1alpha1.DependencyLayer, v1alpha1.ApplicationLayer} {
			for j := range layers.Items {
				if k := &layers.Items[j]; k.Name == t.LayerName(layer) {
					row(w, "  kustomization/"+k.Name, k.Status.LastAppliedRevision, k.Spec.Suspend, k)
				}
			}
		}
		if slices.Contains(names, t.Name) && conditions.IsReady(t) && t.Status.ObservedGeneration == t.Generation {
			ready++
		}
	}
	if err := w.Flush(); err != nil {
		return "", false, err
	}
	return buf.String(), ready == len(names), nil
}

func row(w io.Writer, name, revision string, suspended bool, obj conditions.Getter) {
	status, message := "Unknown", "waiting to be reconciled"
	if c := conditions.Get(obj, meta.ReadyCondition); c != nil {
		status, message = string(c.Status), c.Message
	}
	title := map[bool]string{true: "True", false: "False"}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, shorten(revision), title[suspended], status, cut(shorten(message), 90))
}

var longHex = regexp.MustCompile(`[0-9a-f]{40,}`)

// shorten cuts digests to eight digits, as the flux command does.
func shorten(text string) string {
	return longHex.ReplaceAllStringFunc(text, func(hex string) string { return hex[:8] })
}

func cut(text string, length int) string {
	if r := []rune(text); len(r) > length {
		return string(r[:length-1]) + "…"
	}
	return text
}

// screen shows a table that changes: in place on a terminal; elsewhere the rows that are new.
type screen struct {
	out  *os.File
	live bool
	last []string
}

func (s *screen) show(table string) {
	rows := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if slices.Equal(rows, s.last) {
		return
	}
	if s.live && len(s.last) > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", len(s.last))
	}
	for _, row := range rows {
		if s.live || !slices.ContainsFunc(s.last, func(old string) bool { return sameRow(old, row) }) {
			fmt.Fprintln(s.out, row)
		}
	}
	s.last = rows
}

// sameRow compares rows of tables whose columns may differ in width.
func sameRow(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
