// SPDX-License-Identifier: Apache-2.0

package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/fluxcd/pkg/git"
	"github.com/fluxcd/pkg/ssh/knownhosts"
	"golang.org/x/crypto/ssh"
)

// httpKeys are the keys of a Secret that http and https know.
var httpKeys = []string{"username", "password", "bearerToken", "ca.crt", "caFile", "tls.crt", "tls.key"}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The text of url.Parse's error repeats the URL, which may hold a password.
		return nil, urlInvalid("the URL of the git repository cannot be parsed")
	}
	switch git.TransportType(u.Scheme) {
	case git.HTTP, git.HTTPS, git.SSH:
	default:
		return nil, urlInvalid("the URL of the git repository has the scheme %q, expected http, https or ssh", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, urlInvalid("the URL of the git repository names no host")
	}
	_, password := u.User.Password()
	if password || (u.User != nil && u.Scheme != string(git.SSH)) {
		return nil, urlInvalid("the URL of the git repository at %s holds credentials, which belong in a Secret", u.Host)
	}
	return u, nil
}

// authOptions are git.NewAuthOptions with the checks that would otherwise fail late, or not at all.
func authOptions(u *url.URL, secret map[string][]byte) (*git.AuthOptions, error) {
	options, err := git.NewAuthOptions(*u, secret)
	if err != nil {
		return nil, authFailed("the Secret for %s: %w", u, err)
	}
	if options.Transport == git.SSH {
		err = checkSSH(options)
	} else {
		err = checkHTTP(options, secret)
	}
	if err != nil {
		return nil, authFailed("the Secret for %s: %w", u, err)
	}
	return options, nil
}

func checkHTTP(options *git.AuthOptions, secret map[string][]byte) error {
	has := func(key string) bool { return len(secret[key]) > 0 }

	switch {
	case len(secret) > 0 && !slices.ContainsFunc(httpKeys, has):
		return fmt.Errorf("has none of the keys %q", httpKeys)
	case has("bearerToken") && (has("username") || has("password")):
		return errors.New("has both bearerToken and username or password, expected one of them")
	case has("username") && !has("password"):
		return errors.New("has username but no password")
	case has("tls.crt") != has("tls.key"):
		return errors.New("has one of tls.crt and tls.key, expected both")
	}
	if len(options.CAFile) > 0 && !x509.NewCertPool().AppendCertsFromPEM(options.CAFile) {
		return errors.New("ca.crt holds no PEM certificate")
	}
	if has("tls.crt") {
		// The error is not shown, for it is about the key.
		if _, err := tls.X509KeyPair(options.ClientCert, options.ClientKey); err != nil {
			return errors.New("tls.crt and tls.key are not a certificate and its key")
		}
	}
	if options.Transport == git.HTTP && (options.Username != "" || options.BearerToken != "") {
		return errors.New("credentials are not sent over plain http, use an https URL")
	}
	return nil
}

func checkSSH(options *git.AuthOptions) error {
	var err error
	if options.Password != "" {
		_, err = ssh.ParsePrivateKeyWithPassphrase(options.Identity, []byte(options.Password))
	} else {
		_, err = ssh.ParsePrivateKey(options.Identity)
	}
	var encrypted *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &encrypted):
		return errors.New("identity is encrypted and password is not set")
	case errors.Is(err, x509.IncorrectPasswordError):
		return errors.New("identity cannot be decrypted with password")
	case err != nil && options.Password != "":
		return errors.New("identity is not a private key that password decrypts")
	case err != nil:
		return errors.New("identity is not a private key in PEM format")
	}
	if _, _, err := knownhosts.New(options.KnownHosts); err != nil {
		return fmt.Errorf("known_hosts cannot be parsed: %w", err)
	}
	return nil
}
