// SPDX-License-Identifier: Apache-2.0

// Package gitserver serves git repositories on loopback, for the tests and the
// demo: a place to push tenant definitions to that can also fail in the ways that
// a real one does.
package gitserver

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fluxcd/pkg/gittestserver"

	"github.com/digihunch/korthweb/hack/stack/internal/pki"
)

// Options of a server. The zero value serves plain HTTP to everybody.
type Options struct {
	// Username and Password are asked for over http and https.
	Username, Password string
	// Token is taken as a bearer token instead of them. It needs them to be set.
	Token string
	// TLS serves https, with a certificate of an authority of its own.
	TLS bool
	// SSH serves ssh too. Every client key is accepted.
	SSH bool
}

// Server serves the bare repositories under one directory, over http or https and,
// if asked to, ssh. It keeps its addresses while it is stopped.
type Server struct {
	// CA is the PEM certificate that clients must trust, with Options.TLS.
	CA []byte

	opts Options
	root string
	web  *front
	ssh  *front

	webServer, sshServer *gittestserver.GitServer
	keys                 int // generation of the ssh host key
}

// New starts a server of the repositories in dir, a new directory.
func New(dir string, opts Options) (_ *Server, err error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("git server: %w", err)
	}
	s := &Server{opts: opts, root: root, web: &front{}, ssh: &front{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.MkdirAll(s.repositories(), 0o700); err != nil {
		return nil, fmt.Errorf("git server: %w", err)
	}
	if err := s.startWeb(); err != nil {
		return nil, fmt.Errorf("git server: %w", err)
	}
	if opts.SSH {
		if err := s.startSSH(); err != nil {
			return nil, fmt.Errorf("git server: ssh: %w", err)
		}
	}
	return s, s.Start()
}

func (s *Server) repositories() string { return filepath.Join(s.root, "repositories") }

func (s *Server) startWeb() error {
	srv := gittestserver.NewGitServer(s.repositories())
	s.webServer = srv
	if s.opts.Username != "" {
		srv.Auth(s.opts.Username, s.opts.Password)
	}
	if s.opts.Token != "" {
		srv.AddHTTPMiddlewares(s.acceptToken)
	}
	if !s.opts.TLS {
		if err := srv.StartHTTP(); err != nil {
			return err
		}
	} else {
		authority, err := pki.New()
		if err != nil {
			return err
		}
		pair, err := authority.Server()
		if err != nil {
			return err
		}
		s.CA = authority.CA
		if err := srv.StartHTTPS(pair.Cert, pair.Key, authority.CA, "localhost"); err != nil {
			return err
		}
	}
	return s.web.setBackend(srv.HTTPAddress())
}

// acceptToken turns the right bearer token into the credentials that the server
// behind it knows.
func (s *Server) acceptToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+s.opts.Token {
			r.SetBasicAuth(s.opts.Username, s.opts.Password)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) startSSH() error {
	s.keys++
	srv := gittestserver.NewGitServer(s.repositories()).
		KeyDir(filepath.Join(s.root, "hostkeys", strconv.Itoa(s.keys))).
		Auth("git", "")
	if err := srv.ListenSSH(); err != nil {
		return err
	}
	go func() { _ = srv.StartSSH() }() // ends with StopSSH
	s.sshServer = srv
	return s.ssh.setBackend(srv.SSHAddress())
}

// URL is the address under which the repositories are, with no credentials in it.
func (s *Server) URL() string {
	scheme := "http"
	if s.opts.TLS {
		scheme = "https"
	}
	return scheme + "://" + s.web.addr
}

// SSHURL is the same over ssh. It is empty without Options.SSH.
func (s *Server) SSHURL() string {
	if s.ssh.addr == "" {
		return ""
	}
	return "ssh://git@" + s.ssh.addr
}

// KnownHosts is the known_hosts line of the ssh server's present host key.
func (s *Server) KnownHosts() (string, error) {
	files, err := filepath.Glob(filepath.Join(s.root, "hostkeys", strconv.Itoa(s.keys), "*.pub"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("git server: expected one public host key, found %d", len(files))
	}
	key, err := os.ReadFile(files[0])
	if err != nil {
		return "", fmt.Errorf("git server: %w", err)
	}
	host, port, _ := strings.Cut(s.ssh.addr, ":")
	return fmt.Sprintf("[%s]:%s %s", host, port, key), nil
}

// ChangeHostKey gives the ssh server, at its old address, another host key.
func (s *Server) ChangeHostKey() error {
	old := s.sshServer
	if old == nil {
		return errors.New("git server: it does not serve ssh")
	}
	if err := s.startSSH(); err != nil {
		return fmt.Errorf("git server: ssh: %w", err)
	}
	return old.StopSSH()
}

// Start serves again after Stop, at the same addresses. It also ends Hang.
func (s *Server) Start() error {
	if err := s.web.start(); err != nil {
		return fmt.Errorf("git server: %w", err)
	}
	if s.sshServer == nil {
		return nil
	}
	if err := s.ssh.start(); err != nil {
		return fmt.Errorf("git server: ssh: %w", err)
	}
	return nil
}

// Stop refuses connections from now on and cuts those that are open.
func (s *Server) Stop() {
	s.web.stop()
	s.ssh.stop()
}

// Hang accepts connections from now on and answers nothing.
func (s *Server) Hang() {
	s.web.hang()
	s.ssh.hang()
}

// Close stops the server for good. The repositories stay where they are.
func (s *Server) Close() error {
	s.Stop()
	if s.webServer != nil {
		s.webServer.StopHTTP()
	}
	if s.sshServer != nil {
		return s.sshServer.StopSSH()
	}
	return nil
}

// hostPort is the host:port of a URL.
func hostPort(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return u.Host, nil
}
