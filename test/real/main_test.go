// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package real tests what is rendered for a tenant with the programs that it is rendered for: Debian's Orthanc on
// Debian's PostgreSQL, asked by the DICOM tools of dcmtk (hack/packages.sh installs them all).
//
// There is no kubelet and no operator here. The test plays them: it makes the files, the environment and the
// processes that the rendered objects ask for, and runs their probes. What is not as in a pod of the real image is
// listed in differences_test.go.
package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

const (
	// patience is how long a program may take for what it does at once on an idle machine.
	patience = time.Minute
	// poll is how often a test looks whether it has.
	poll = 100 * time.Millisecond
)

func TestMain(m *testing.M) {
	if err := findPrograms(); err != nil {
		fmt.Fprintf(os.Stderr, "real: %v\nRun hack/packages.sh, which installs Debian's packages of them.\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// programs are the paths of the programs that the tests run.
var programs = map[string]string{}

func findPrograms() error {
	// The newest of PostgreSQL's versions, which Debian keeps out of PATH.
	servers, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return err
	}
	slices.Sort(servers)
	slices.Reverse(servers)
	dirs := append(servers, filepath.SplitList(os.Getenv("PATH"))...)
	dirs = append(dirs, "/usr/sbin")
	var missing []string
	for _, name := range []string{
		"initdb", "postgres", "psql", "Orthanc",
		"echoscu", "storescu", "findscu", "getscu", "movescu",
	} {
		for _, dir := range dirs {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				programs[name] = path
				break
			}
		}
		if programs[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not found: %s", strings.Join(missing, ", "))
	}
	return nil
}

// newDir returns a directory that other users of the machine can reach, since programs run as users of their own,
// and that is gone when the test is over.
func newDir(t *testing.T) string {
	g := NewWithT(t)
	dir, err := os.MkdirTemp("", "korthweb-real-")
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(os.RemoveAll(dir)).To(Succeed()) })
	g.Expect(os.Chmod(dir, 0o755)).To(Succeed())
	return dir
}

// process is one run of a program.
type process struct {
	name string
	pid  int
	log  string        // file that its output is appended to
	done chan struct{} // closed when it has ended
	err  error         // how it ended
}

// startProcess runs cmd until the test is over, as uid and gid where this process may choose.
func startProcess(t *testing.T, cmd *exec.Cmd, log string, uid, gid uint32) *process {
	g := NewWithT(t)
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	g.Expect(err).NotTo(HaveOccurred())
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	// It must not outlive the test, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: credential(uid, gid)}
	p := &process{name: filepath.Base(cmd.Path), log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal of the parent's death when the starting thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	g.Expect(<-started).To(Succeed(), p.name)
	t.Cleanup(func() { _ = p.end(syscall.SIGKILL) })
	return p
}

func credential(uid, gid uint32) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: uid, Gid: gid}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end sends a signal and waits until the process is gone, which is killed where that takes too long.
func (p *process) end(signal syscall.Signal) error {
	if p.ended() {
		return nil
	}
	// Its group's id is its own until it has been waited for.
	if err := syscall.Kill(-p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("%s did not end within %s of %s:\n%s", p.name, patience, signal, p.tail())
	}
}

// tail returns the end of the process's log.
func (p *process) tail() string {
	const size = 4 << 10
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-size):])
}

// run runs a program to its end and returns its output.
func run(t *testing.T, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, programs[name], args...).CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", name, ctx.Err())
	}
	return string(out), err
}
