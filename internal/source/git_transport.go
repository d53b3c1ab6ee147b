// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/client"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
)

// go-git reads the page of an HTTP error and the list of references whole, however long they are. It
// takes other transports, though: these bound what is received, by the meter of the fetch.
func init() {
	client.InstallProtocol("http", httpTransport{})
	client.InstallProtocol("https", httpTransport{})
	client.InstallProtocol("ssh", sshTransport{ssh.DefaultClient})
}

type httpTransport struct{}

// NewUploadPackSession implements transport.Transport.
func (httpTransport) NewUploadPackSession(ep *transport.Endpoint, auth transport.AuthMethod) (transport.UploadPackSession, error) {
	connections := newTransport()
	if err := trust(connections, ep.CaBundle, ep.ClientCert, ep.ClientKey); err != nil {
		return nil, err
	}
	c := &http.Client{
		Transport: &bounded{next: connections, take: func(req *http.Request, n int) error {
			return meterOf(req.Context()).take(n)
		}},
		CheckRedirect: checkRedirect(auth != nil || len(ep.ClientCert) > 0),
	}
	// go-git would want to set these on an http.Transport of its own.
	rest := *ep
	rest.CaBundle, rest.ClientCert, rest.ClientKey = nil, nil, nil
	s, err := githttp.NewClient(c).NewUploadPackSession(&rest, auth)
	if err != nil {
		return nil, err
	}
	return &session{UploadPackSession: s, done: connections.CloseIdleConnections}, nil
}

// NewReceivePackSession implements transport.Transport: nothing is ever pushed.
func (httpTransport) NewReceivePackSession(*transport.Endpoint, transport.AuthMethod) (transport.ReceivePackSession, error) {
	return nil, errors.New("only fetching is supported")
}

// sshTransport has its connections counted by contextDialer.
type sshTransport struct{ transport.Transport }

// NewUploadPackSession implements transport.Transport.
func (t sshTransport) NewUploadPackSession(ep *transport.Endpoint, auth transport.AuthMethod) (transport.UploadPackSession, error) {
	s, err := t.Transport.NewUploadPackSession(ep, auth)
	if err != nil {
		return nil, err
	}
	return &session{UploadPackSession: s, done: func() {}}, nil
}

// session tells the meter what the server is about to say.
type session struct {
	transport.UploadPackSession
	done func()
}

// AdvertisedReferences implements transport.UploadPackSession.
func (s *session) AdvertisedReferences() (*packp.AdvRefs, error) {
	return s.AdvertisedReferencesContext(context.Background())
}

// AdvertisedReferencesContext implements transport.UploadPackSession.
func (s *session) AdvertisedReferencesContext(ctx context.Context) (*packp.AdvRefs, error) {
	meterOf(ctx).enter(advertisement)
	return s.UploadPackSession.AdvertisedReferencesContext(ctx)
}

// UploadPack implements transport.UploadPackSession. The pack is read from what it returns.
func (s *session) UploadPack(ctx context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	m := meterOf(ctx)
	m.enter(answer)
	resp, err := s.UploadPackSession.UploadPack(ctx, req)
	m.enter(pack)
	return resp, err
}

// Close implements transport.UploadPackSession.
func (s *session) Close() error {
	defer s.done()
	return s.UploadPackSession.Close()
}
