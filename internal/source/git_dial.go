// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/net/proxy"
)

// go-git connects and shakes hands over ssh with no context, so a server that accepts and says
// nothing would hold a fetch for ever. It takes a proxy, though: this "proxy" connects directly (or
// through the proxy of the environment), under the context of the fetch, hangs up when that ends, and has
// its meter count what is received.
const contextScheme = "korthweb-context"

var (
	dialContexts  sync.Map // of uint64 to context.Context
	dialContextID atomic.Uint64
)

func init() {
	proxy.RegisterDialerType(contextScheme, func(u *url.URL, _ proxy.Dialer) (proxy.Dialer, error) {
		id, err := strconv.ParseUint(u.Host, 10, 64)
		if err != nil {
			return nil, err
		}
		ctx, ok := dialContexts.Load(id)
		if !ok {
			return nil, context.Canceled
		}
		return &contextDialer{ctx: ctx.(context.Context)}, nil
	})
}

// dialWithContext returns the URL of a proxy whose connections end with ctx. Call done after use.
func dialWithContext(ctx context.Context) (proxyURL string, done func()) {
	id := dialContextID.Add(1)
	dialContexts.Store(id, ctx)
	return contextScheme + "://" + strconv.FormatUint(id, 10), func() { dialContexts.Delete(id) }
}

type contextDialer struct{ ctx context.Context }

func (d *contextDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(d.ctx, network, address)
}

// DialContext implements proxy.ContextDialer. The context that go-git passes never ends.
func (d *contextDialer) DialContext(_ context.Context, network, address string) (net.Conn, error) {
	conn, err := proxy.Dial(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	return &countedConn{Conn: conn, counted: countedReader{next: conn, take: meterOf(d.ctx).take}}, nil
}

// countedConn is a connection that bounds what is received.
type countedConn struct {
	net.Conn
	counted countedReader
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) { return c.counted.Read(p) }
