// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package stack

import "syscall"

// sysProcAttr gives each program a process group of its own, so that a Ctrl-C at
// the terminal reaches only the parent, which then stops them in order. There is
// no parent-death signal here: a killed parent leaves its programs running.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
