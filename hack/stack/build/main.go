// SPDX-License-Identifier: Apache-2.0

// Command build builds the programs of the stack into bin/stack. What is there
// and current stays as it is, so it can run before every test. Programs that only
// tests use are built with --all.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
)

// program is one program to build.
type program struct {
	name    string
	pkg     string
	pin     string // nested module that pins its version
	ldflags string
	// tests says that only tests use it.
	tests bool
	// source prepares the directory to build in; nil means that of pin.
	source func(ctx context.Context) (dir string, cleanup func() error, err error)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all := flag.Bool("all", false, "build also what only tests use")
	flag.Parse()
	if err := run(ctx, os.Stdout, *all); err != nil {
		fmt.Fprintln(os.Stderr, "stack:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, all bool) error {
	root, err := gomod.Root()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, "bin", "stack")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	list, err := programs(ctx)
	if err != nil {
		return err
	}
	stamps := map[string]string{}
	var stale []program
	for _, p := range list {
		if p.tests && !all {
			continue
		}
		if stamps[p.name], err = stamp(root, p); err != nil {
			return err
		}
		if !current(bin, p.name, stamps[p.name]) {
			stale = append(stale, p)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	fmt.Fprintln(out, "Building the stack's programs into bin/stack. The first time, all of them take about a quarter of an hour on two cores; later Go's build cache makes it short.")
	for i, p := range stale {
		fmt.Fprintf(out, "[%d/%d] %-24s ", i+1, len(stale), p.name)
		begin := time.Now()
		stopDots := dots(out)
		err := build(ctx, root, bin, p, stamps[p.name])
		stopDots()
		if err != nil {
			fmt.Fprintln(out, "failed")
			return err
		}
		fmt.Fprintf(out, " %.0fs\n", time.Since(begin).Seconds())
	}
	return nil
}

// programs lists what a stack needs. Versions come from the nested modules only.
func programs(ctx context.Context) ([]program, error) {
	const kubernetes, flux = "k8s.io/kubernetes", "github.com/fluxcd/flux2/v2"
	pinned, err := gomod.Download(ctx, gomod.Programs, kubernetes)
	if err != nil {
		return nil, err
	}
	assets, err := gomod.Download(ctx, gomod.Assets, flux)
	if err != nil {
		return nil, err
	}
	// Clients cannot parse the version of an apiserver that was linked without one.
	version := pinned[kubernetes].Version
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("%s has version %q, expected vMAJOR.MINOR.PATCH", kubernetes, version)
	}
	const base = "k8s.io/component-base/version."
	kube := fmt.Sprintf("-X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=%[3]s -X %[1]sgitMinor=%[4]s", base, version, parts[0], parts[1])

	list := []program{
		{name: "etcd", pkg: "go.etcd.io/etcd/server/v3"},
		{name: "kube-apiserver", pkg: kubernetes + "/cmd/kube-apiserver", ldflags: kube},
		{name: "kube-controller-manager", pkg: kubernetes + "/cmd/kube-controller-manager", ldflags: kube},
		{name: "kube-scheduler", pkg: kubernetes + "/cmd/kube-scheduler", ldflags: kube},
		{name: "source-controller", pkg: "github.com/fluxcd/source-controller"},
		{name: "kustomize-controller", pkg: "github.com/fluxcd/kustomize-controller"},
		{name: "helm-controller", pkg: "github.com/fluxcd/helm-controller"},
		{name: "kwok", pkg: "sigs.k8s.io/kwok/cmd/kwok"},
	}
	for i := range list {
		list[i].pin = gomod.Programs
	}
	return append(list,
		program{name: "cert-manager-controller", pkg: ".", pin: gomod.CertManager},
		program{
			name: "flux", pkg: "./cmd/flux", pin: gomod.Assets,
			ldflags: "-X main.VERSION=" + strings.TrimPrefix(assets[flux].Version, "v"),
			source: func(context.Context) (string, func() error, error) {
				return fluxSource(assets[flux].Dir)
			},
		},
		// Without a version it is a development build, which asks nobody for a newer one.
		program{name: "traefik", pkg: "github.com/traefik/traefik/v3/cmd/traefik", pin: gomod.Traefik, tests: true},
	), nil
}

// fluxSource copies the flux command's module, since what it embeds (the manifests
// that `flux install` applies) is made at release time and not part of the module,
// and Go accepts no overlay inside its module cache. A stack never installs Flux, so
// one empty file stands in for them.
func fluxSource(module string) (dir string, cleanup func() error, err error) {
	dir, err = os.MkdirTemp("", "korthweb-flux-")
	if err != nil {
		return "", nil, err
	}
	cleanup = func() error { return os.RemoveAll(dir) }
	if err := os.CopyFS(dir, os.DirFS(module)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("copying the flux command's source: %w", err), cleanup())
	}
	placeholder := filepath.Join(dir, "cmd", "flux", "manifests", "placeholder.yaml")
	if err := os.MkdirAll(filepath.Dir(placeholder), 0o755); err != nil {
		return "", nil, errors.Join(err, cleanup())
	}
	if err := os.WriteFile(placeholder, []byte("# Not in the module; see hack/stack/build.\n"), 0o644); err != nil {
		return "", nil, errors.Join(err, cleanup())
	}
	return dir, cleanup, nil
}

// build builds p beside its place and renames it there, so that an interrupted
// build leaves the previous program or none, and never half of one.
func build(ctx context.Context, root, bin string, p program, stamp string) (err error) {
	dir := filepath.Join(root, p.pin)
	if p.source != nil {
		var cleanup func() error
		if dir, cleanup, err = p.source(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cleanup()) }()
	}
	tmp := filepath.Join(bin, fmt.Sprintf(".%s.%d", p.name, os.Getpid()))
	defer os.Remove(tmp)

	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags(p), "-o", tmp, p.pkg)
	cmd.Dir = dir
	cmd.Env = gomod.Env("CGO_ENABLED=0")
	// An interrupt lets the Go command end its compilers and remove its work files.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return fmt.Errorf("building %s: %w\n%s", p.name, err, output.String())
	}
	// The stamp comes last: without it the program counts as stale.
	if err := os.Remove(stampFile(bin, p.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(bin, p.name)); err != nil {
		return err
	}
	return os.WriteFile(stampFile(bin, p.name), []byte(stamp), 0o644)
}

func flags(p program) string { return strings.TrimSpace("-s -w " + p.ldflags) }

func stampFile(bin, name string) string { return filepath.Join(bin, "."+name+".stamp") }

// stamp is a digest of all that decides what p's build gives.
func stamp(root string, p program) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, p.pkg, flags(p))
	files, err := filepath.Glob(filepath.Join(root, p.pin, "*.go"))
	if err != nil {
		return "", err
	}
	for _, file := range append([]string{filepath.Join(root, p.pin, "go.mod"), filepath.Join(root, p.pin, "go.sum")}, files...) {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, len(data))
		h.Write(data)
	}
	return fmt.Sprintf("%x\n", h.Sum(nil)), nil
}

func current(bin, name, stamp string) bool {
	if info, err := os.Stat(filepath.Join(bin, name)); err != nil || !info.Mode().IsRegular() {
		return false
	}
	data, err := os.ReadFile(stampFile(bin, name))
	return err == nil && string(data) == stamp
}

// dots shows that something goes on, until the returned function is called.
func dots(out io.Writer) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(5 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprint(out, ".")
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}
