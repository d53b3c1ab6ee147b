// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// stopGrace is how long a program may take to end by itself.
	stopGrace = 15 * time.Second
	// readyTimeout is generous: a machine that also compiles is slow.
	readyTimeout = 2 * time.Minute
	readyPoll    = 50 * time.Millisecond
	// logTail is how much of a log an error shows.
	logTail = 4 << 10
)

// Program is a program to run beside the stack's own.
type Program struct {
	// Name identifies it in the process methods of Stack and names its log file.
	Name string
	// Path of the executable.
	Path string
	Args []string
	// Env is added to the environment of this process.
	Env []string
	// ReadyURL is polled until it answers 200. Empty means ready at once.
	ReadyURL string
}

// process is one program with at most one running instance.
type process struct {
	spec    Program
	logPath string

	mu      sync.Mutex // held while starting or stopping
	running *instance
}

// instance is one run of a program. done is closed when it has been waited for.
type instance struct {
	pid  int
	done chan struct{}
	err  error // valid after done
}

func newProcess(spec Program, logPath string) *process {
	return &process{spec: spec, logPath: logPath}
}

func (p *process) withArgs(extra []string) *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spec.Args = append(p.spec.Args[:len(p.spec.Args):len(p.spec.Args)], extra...)
	return p
}

func (p *process) pid() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil || p.running.ended() {
		return 0, false
	}
	return p.running.pid, true
}

func (i *instance) ended() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// start runs the program and returns when it is ready. On failure it is gone.
func (p *process) start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil && !p.running.ended() {
		return fmt.Errorf("%s runs already", p.spec.Name)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("starting %s: %w", p.spec.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(p.logPath), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	offset, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(err, log.Close())
	}

	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	cmd.Env = append(os.Environ(), p.spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr()
	inst, err := spawn(cmd)
	// The child has its own descriptor by now.
	if closeErr := log.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.spec.Name, err)
	}
	p.running = inst
	if err := inst.waitReady(ctx, p.spec.ReadyURL); err != nil {
		inst.end(0)
		return fmt.Errorf("%s: %w\n%s", p.spec.Name, err, tail(p.logPath, offset))
	}
	return nil
}

// spawn starts cmd and waits for it on a thread of its own. The parent-death
// signal is sent when the starting *thread* ends, so that thread must live as
// long as the child does.
func spawn(cmd *exec.Cmd) (*instance, error) {
	inst := &instance{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			inst.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			inst.err = cmd.Wait()
			close(inst.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return inst, nil
}

func (i *instance) waitReady(ctx context.Context, url string) error {
	if url == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	// Readiness carries no secret, and the certificate may be one that the program
	// made for itself, so the server's identity is not checked here.
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, //nolint:gosec // see above
	}
	last := errors.New("no answer yet")
	for {
		if err := probe(ctx, client, url); err == nil {
			return nil
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-i.done:
			return fmt.Errorf("ended before it was ready: %w", exitError(i.err))
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w, last answer: %w", ctx.Err(), last)
		case <-time.After(readyPoll):
		}
	}
}

func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

func probe(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// stop ends the running instance, if any, and waits for it.
func (p *process) stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		p.running.end(grace)
	}
}

// end signals the whole process group. The group's id cannot be in use by others
// while the child has not been waited for, and is not signalled after that.
func (i *instance) end(grace time.Duration) {
	if i.ended() {
		return
	}
	if grace > 0 {
		_ = syscall.Kill(-i.pid, syscall.SIGTERM)
		select {
		case <-i.done:
			return
		case <-time.After(grace):
		}
	}
	_ = syscall.Kill(-i.pid, syscall.SIGKILL)
	<-i.done
}

// tail returns the last lines that a log got since offset.
func tail(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size()-logTail > offset {
		offset = info.Size() - logTail
	}
	var b bytes.Buffer
	if _, err := f.Seek(offset, io.SeekStart); err == nil {
		_, _ = io.Copy(&b, f)
	}
	return strings.TrimSpace(b.String())
}
