// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

const loopback = "127.0.0.1"

// freePort finds a loopback port outside the range that kernels hand out for
// outgoing connections (from 32768 on Linux, 49152 elsewhere), so that nothing
// takes it while its program is stopped for a moment.
func freePort() (int, error) {
	for range 200 {
		port := 10000 + rand.IntN(20000)
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("stack: releasing port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, errors.New("stack: no free port on " + loopback)
}

// FreeAddress returns a loopback host:port that nothing listens on, for a program
// that a caller runs beside the stack.
func FreeAddress() (string, error) {
	port, err := freePort()
	return address(port), err
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
