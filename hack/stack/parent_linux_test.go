// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
)

// A parent that is killed cannot clean up; the kernel does it.
func TestKilledParentLeavesNoProcess(t *testing.T) {
	g := NewWithT(t)
	self, err := os.Executable()
	g.Expect(err).NotTo(HaveOccurred())
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), helperEnv+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(parent.Start()).To(Succeed())

	var pids []int
	for scanner := bufio.NewScanner(out); scanner.Scan() && scanner.Text() != "ready"; {
		pid, err := strconv.Atoi(scanner.Text())
		g.Expect(err).NotTo(HaveOccurred(), scanner.Text())
		pids = append(pids, pid)
	}
	g.Expect(parent.Process.Kill()).To(Succeed())
	g.Expect(parent.Wait()).NotTo(Succeed())

	g.Expect(pids).To(HaveLen(2))
	for _, pid := range pids {
		g.Eventually(func() error { return syscall.Kill(pid, 0) }, "10s", "50ms").Should(MatchError(syscall.ESRCH))
	}
}
