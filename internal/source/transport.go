// SPDX-License-Identifier: Apache-2.0

package source

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// maxErrorBody is what is read of a response that is no success: enough for a message. The whole
	// status is reported either way.
	maxErrorBody = 4 << 10

	// maxHeader bounds the header of a response.
	maxHeader = 64 << 10

	// maxRedirects is more than a repository that was renamed, and renamed again, needs.
	maxRedirects = 5
)

// newTransport connects to one server for one fetch. Beside its own limits, the deadline of the fetch
// bounds how long a server may take to answer. Close its idle connections after use.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		// What is counted are the bytes that were sent: a response is not unpacked behind the back of its limit.
		DisableCompression: true,
	}
}

// trust makes t use a client certificate, and trust an authority beside those of the system. Both may
// be empty.
func trust(t *http.Transport, ca, cert, key []byte) error {
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if len(cert) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return err
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	if len(ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return err
		}
		pool.AppendCertsFromPEM(ca)
		t.TLSClientConfig.RootCAs = pool
	}
	return nil
}

// bounded is an http.RoundTripper that cuts the body of an error short, and counts every other one.
type bounded struct {
	next http.RoundTripper
	// take is called with the request and the bytes of a body that were read.
	take func(*http.Request, int) error
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		resp.Body = &body{Reader: io.LimitReader(resp.Body, maxErrorBody), Closer: resp.Body}
		return resp, nil
	}
	counted := &countedReader{next: resp.Body, take: func(n int) error { return b.take(req, n) }}
	resp.Body = &body{Reader: counted, Closer: resp.Body}
	return resp, nil
}

type body struct {
	io.Reader
	io.Closer
}

// countedReader fails with the error of take.
type countedReader struct {
	next io.Reader
	take func(int) error
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.next.Read(p)
	if failed := r.take(n); failed != nil {
		return 0, failed
	}
	return n, err
}

// redirectError says why a redirect is not followed.
type redirectError struct{ from, to, reason string }

func (e *redirectError) Error() string {
	return fmt.Sprintf("%s redirects to %s, which is not followed: %s", e.from, e.to, e.reason)
}

// checkRedirect returns an http.Client.CheckRedirect that never leaves https, and with credentials
// never the server that they are meant for.
func checkRedirect(credentials bool) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		from := via[0].URL
		refuse := func(reason string) error {
			return &redirectError{from: from.Scheme + "://" + from.Host, to: req.URL.Scheme + "://" + req.URL.Host, reason: reason}
		}
		switch {
		case req.URL.Scheme != "https" && req.URL.Scheme != from.Scheme:
			return refuse("a redirect from https must lead to https")
		case credentials && (req.URL.Scheme != from.Scheme || req.URL.Host != from.Host):
			return refuse("the credentials are for the first of them; if the second is right, give its URL")
		case len(via) > maxRedirects:
			return refuse(fmt.Sprintf("more than %d redirects", maxRedirects))
		}
		return nil
	}
}
