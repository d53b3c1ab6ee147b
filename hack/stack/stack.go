// SPDX-License-Identifier: Apache-2.0

// Package stack runs a real Kubernetes control plane with the Flux controllers
// as plain processes on loopback.
//
// Korthweb's tests and its demo need the apiserver's own verdicts and the Flux
// controllers' own behaviour, on a machine that has Go, git and make and no
// container engine. Only what would need real machines is simulated, by kwok:
// see the comments in stages/.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
	"github.com/digihunch/korthweb/hack/stack/internal/pki"
)

// The programs of a stack, as named in bin/stack and in the process methods of Stack.
const (
	Etcd                = "etcd"
	APIServer           = "kube-apiserver"
	ControllerManager   = "kube-controller-manager"
	Scheduler           = "kube-scheduler"
	Kwok                = "kwok"
	SourceController    = "source-controller"
	KustomizeController = "kustomize-controller"
	HelmController      = "helm-controller"
	CertManager         = "cert-manager-controller"
	// Traefik is not started by Start: a test that needs it runs it by Run.
	Traefik = "traefik"
)

// FluxNamespace is where the Flux controllers' ServiceAccounts are, and where
// Korthweb's platform objects belong. It exists in every stack.
const FluxNamespace = "flux-system"

// Options say which parts of a stack run. The zero value is etcd and an apiserver
// with every CRD installed, which is what a test of one reconciler needs.
type Options struct {
	// Dir holds data, certificates, kubeconfigs and logs. Empty means a new
	// temporary directory, which Stop removes.
	Dir string

	// Programs is the directory of the built programs. Empty means bin/stack of
	// this repository.
	Programs string

	// Workloads adds kube-controller-manager, kube-scheduler and kwok with its
	// nodes, so that Deployments become Available, claims are bound and deleted
	// namespaces go away.
	Workloads bool

	// Flux adds source-, kustomize- and helm-controller.
	Flux bool

	// CertManager adds cert-manager's controller, which issues real certificates.
	// Without it kwok answers for cert-manager and makes no Secret, which costs
	// nothing where a test has many tenants.
	CertManager bool

	// WithoutFluxCRDs leaves Flux's CRDs out. InstallFluxCRDs adds them later.
	WithoutFluxCRDs bool

	// WithoutExternalArtifact starts the Flux controllers as a plain Flux install
	// does, with the ExternalArtifact feature gate off.
	WithoutExternalArtifact bool

	// ExtraArgs are flags appended to a program's own, by program name. The last
	// value of a flag wins.
	ExtraArgs map[string][]string

	// Progress, when set, gets one line for each step of Start.
	Progress io.Writer
}

// Stack is a running control plane. Its methods may be called from several goroutines.
type Stack struct {
	opts      Options
	dir       string
	ownsDir   bool
	authority *pki.Authority
	apiURL    string
	admin     *rest.Config

	mu    sync.Mutex
	procs []*process // in the order of their start
}

// Start starts the parts that opts name and returns when all of them are ready.
// When it fails, or ctx ends first, nothing of it keeps running, and the error
// carries the last lines of the log of the program that failed.
//
// ctx bounds the start only: a started stack runs until Stop.
func Start(ctx context.Context, opts Options) (_ *Stack, err error) {
	if opts.Flux && opts.WithoutFluxCRDs {
		return nil, errors.New("stack: the Flux controllers do not start without their CRDs")
	}
	if opts.Programs == "" {
		root, err := gomod.Root()
		if err != nil {
			return nil, fmt.Errorf("stack: %w", err)
		}
		opts.Programs = filepath.Join(root, "bin", "stack")
	}
	s := &Stack{opts: opts, dir: opts.Dir}
	if err := s.checkPrograms(); err != nil {
		return nil, err
	}
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "korthweb-stack-"); err != nil {
			return nil, fmt.Errorf("stack: %w", err)
		}
		s.ownsDir = true
	} else if s.dir, err = filepath.Abs(s.dir); err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}

	defer func() {
		if err != nil {
			// The error already holds the end of the log that matters.
			err = errors.Join(err, s.Stop())
		}
	}()
	if err := s.startControlPlane(ctx); err != nil {
		return nil, err
	}
	if err := s.prepareCluster(ctx); err != nil {
		return nil, err
	}
	if opts.Workloads {
		if err := s.startWorkloads(ctx); err != nil {
			return nil, err
		}
	}
	if opts.CertManager {
		if err := s.startCertManager(ctx); err != nil {
			return nil, err
		}
	}
	if opts.Flux {
		if err := s.startFlux(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// programs lists what opts make necessary.
func (o Options) programs() []string {
	names := []string{Etcd, APIServer}
	if o.Workloads {
		names = append(names, ControllerManager, Scheduler, Kwok)
	}
	if o.Flux {
		names = append(names, SourceController, KustomizeController, HelmController)
	}
	if o.CertManager {
		names = append(names, CertManager)
	}
	return names
}

func (s *Stack) checkPrograms() error {
	for _, name := range s.opts.programs() {
		if _, err := os.Stat(s.ProgramPath(name)); err != nil {
			return fmt.Errorf("stack: program %s is not built, run `make stack`: %w", name, err)
		}
	}
	return nil
}

// ProgramPath is where the built program of that name is, also of those that Start does
// not start: the flux command, and Traefik, which only `go run ./hack/stack/build --all` builds.
func (s *Stack) ProgramPath(name string) string { return filepath.Join(s.opts.Programs, name) }

// Dir is the directory of the stack's data, kubeconfigs and logs.
func (s *Stack) Dir() string { return s.dir }

// Kubeconfig is the path of a kubeconfig for an administrator (group system:masters).
func (s *Stack) Kubeconfig() string { return filepath.Join(s.dir, "admin.kubeconfig") }

// RESTConfig is a copy of the administrator's client configuration.
func (s *Stack) RESTConfig() *rest.Config { return rest.CopyConfig(s.admin) }

// LogFile is where the output of a process goes, restarts included.
func (s *Stack) LogFile(name string) string { return filepath.Join(s.dir, "logs", name+".log") }

// PIDs are the process ids of what runs now, by name.
func (s *Stack) PIDs() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := map[string]int{}
	for _, p := range s.procs {
		if pid, ok := p.pid(); ok {
			pids[p.spec.Name] = pid
		}
	}
	return pids
}

// Run adds a program to the stack and starts it, so that it is stopped with the
// stack, and in time before the apiserver. It returns when p is ready.
func (s *Stack) Run(ctx context.Context, p Program) error {
	if p.Name == "" || p.Path == "" {
		return errors.New("stack: a program needs a name and a path")
	}
	s.mu.Lock()
	if slices.ContainsFunc(s.procs, func(o *process) bool { return o.spec.Name == p.Name }) {
		s.mu.Unlock()
		return fmt.Errorf("stack: there is already a program %s, use StartProcess to start it again", p.Name)
	}
	proc := newProcess(p, s.LogFile(p.Name))
	s.procs = append(s.procs, proc)
	s.mu.Unlock()
	return s.launch(ctx, proc)
}

func (s *Stack) launch(ctx context.Context, p *process) error {
	begin := time.Now()
	if err := p.start(ctx); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	s.progressf("%-24s ready after %.1fs", p.spec.Name, time.Since(begin).Seconds())
	return nil
}

// StartProcess starts a stopped or killed program again, on the same port and the
// same data, and returns when it is ready. extraArgs are appended to its flags
// from now on.
func (s *Stack) StartProcess(ctx context.Context, name string, extraArgs ...string) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	return s.launch(ctx, p.withArgs(extraArgs))
}

// StopProcess ends a program with SIGTERM, after a grace period with SIGKILL, and
// returns when it is gone. A program that does not run is no error.
func (s *Stack) StopProcess(name string) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	p.stop(stopGrace)
	return nil
}

// Kill ends a program with SIGKILL and returns when it is gone.
func (s *Stack) Kill(name string) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	p.stop(0)
	return nil
}

func (s *Stack) process(name string) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		if p.spec.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("stack: no program %s in this stack", name)
}

// Stop ends every program of the stack and waits for each: first what uses the
// apiserver, then the apiserver, then etcd. It removes the directory when Start
// made it. It may be called more than once.
func (s *Stack) Stop() error {
	s.mu.Lock()
	procs := slices.Clone(s.procs)
	s.mu.Unlock()

	var clients sync.WaitGroup
	for _, p := range procs {
		if p.spec.Name != Etcd && p.spec.Name != APIServer {
			clients.Go(func() { p.stop(stopGrace) })
		}
	}
	clients.Wait()
	for _, name := range []string{APIServer, Etcd} {
		for _, p := range procs {
			if p.spec.Name == name {
				p.stop(stopGrace)
			}
		}
	}
	if s.ownsDir {
		if err := os.RemoveAll(s.dir); err != nil {
			return fmt.Errorf("stack: removing its directory: %w", err)
		}
	}
	return nil
}

func (s *Stack) progressf(format string, args ...any) {
	if s.opts.Progress != nil {
		_, _ = fmt.Fprintf(s.opts.Progress, format+"\n", args...)
	}
}
