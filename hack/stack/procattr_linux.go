// SPDX-License-Identifier: Apache-2.0

package stack

import "syscall"

// sysProcAttr gives each program a process group of its own, so that a Ctrl-C at
// the terminal reaches only the parent, which then stops them in order; and has
// the kernel end it when the parent dies without having done so.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
