// SPDX-License-Identifier: Apache-2.0

package gitserver

import (
	"io"
	"net"
	"sync"
)

// front forwards connections to a server whose port changes whenever it starts,
// so that clients keep one address over all faults.
type front struct {
	addr string // fixed by the first start

	mu       sync.Mutex
	backend  string
	hanging  bool
	listener net.Listener
	conns    map[net.Conn]struct{}
}

func (f *front) setBackend(url string) error {
	addr, err := hostPort(url)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.backend = addr
	return err
}

func (f *front) start() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hanging = false
	if f.listener != nil {
		return nil
	}
	addr := f.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	f.addr, f.listener, f.conns = l.Addr().String(), l, map[net.Conn]struct{}{}
	go f.accept(l)
	return nil
}

func (f *front) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed by stop
		}
		if f.track(l, conn) {
			go f.forward(conn)
		}
	}
}

// track registers conn, to be cut by stop. It reports whether to serve it.
func (f *front) track(l net.Listener, conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener != l {
		_ = conn.Close()
		return false
	}
	f.conns[conn] = struct{}{}
	return !f.hanging
}

func (f *front) forward(conn net.Conn) {
	f.mu.Lock()
	addr := f.backend
	f.mu.Unlock()
	defer f.untrack(conn)
	back, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = back.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(back, conn)
		// The client may have sent all and still wait for the answer.
		_ = back.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(conn, back)
	_ = conn.Close()
	<-done
}

func (f *front) untrack(conn net.Conn) {
	_ = conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, conn)
}

func (f *front) hang() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hanging = true
	f.cut()
}

func (f *front) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener == nil {
		return
	}
	_ = f.listener.Close()
	f.listener = nil
	f.cut()
}

// cut closes every open connection. f.mu is held.
func (f *front) cut() {
	for conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = map[net.Conn]struct{}{}
}
