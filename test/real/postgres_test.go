// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/internal/emit"
)

// databaseSpec is what an operator makes a PostgreSQL server from.
type databaseSpec struct {
	// hosts are the DNS names in the server's certificate.
	hosts []string
	// parameters of postgresql.conf.
	parameters map[string]string
	// database with its owner, who is no superuser.
	database, owner string
	// password of the owner. Where it is empty, one is generated.
	password string
	// sql is run in the database by the superuser.
	sql []string
}

// postgres is a PostgreSQL server on loopback that takes nothing but TLS with a password.
type postgres struct {
	databaseSpec
	port     int
	ca       []byte // PEM
	dir      string
	uid, gid uint32
	running  *process
}

const (
	serverCert = "server.crt"
	serverKey  = "server.key"
)

// startPostgres makes a server and runs it until the test is over.
func startPostgres(t *testing.T, spec databaseSpec) *postgres {
	g := NewWithT(t)
	p := &postgres{databaseSpec: spec, port: freePort(t), dir: newDir(t)}
	if p.password == "" {
		var err error
		p.password, err = emit.NewPassword(rand.Reader)
		g.Expect(err).NotTo(HaveOccurred())
	}
	if os.Geteuid() == 0 {
		// PostgreSQL does not run as root.
		account, err := user.Lookup("postgres")
		g.Expect(err).NotTo(HaveOccurred())
		p.uid, p.gid = number(t, account.Uid), number(t, account.Gid)
		g.Expect(os.Chown(p.dir, int(p.uid), int(p.gid))).To(Succeed())
	}
	initdb := p.command("initdb", "--pgdata", p.dir+"/data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	out, err := initdb.CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(out))

	ca, cert, key := serverCertificate(t, spec.hosts)
	p.ca = ca
	p.write(t, serverCert, cert)
	p.write(t, serverKey, key)
	// The superuser comes through the socket, as CloudNativePG's own instance manager does.
	p.write(t, "data/pg_hba.conf", []byte("local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"))
	settings := maps.Clone(spec.parameters)
	if settings == nil {
		settings = map[string]string{}
	}
	maps.Copy(settings, map[string]string{
		"listen_addresses": "127.0.0.1", "port": strconv.Itoa(p.port), "unix_socket_directories": p.dir,
		"ssl": "on", "ssl_cert_file": "../" + serverCert, "ssl_key_file": "../" + serverKey,
		// The test does not outlive a crash of the machine.
		"fsync": "off",
	})
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = %s\n", name, quoted(settings[name]))
	}
	p.write(t, "data/postgresql.conf", []byte(conf.String()))

	p.start(t)
	p.query(t, "postgres", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD %s", spec.owner, quoted(p.password)))
	p.query(t, "postgres", fmt.Sprintf("CREATE DATABASE %s OWNER %s", spec.database, spec.owner))
	for _, statement := range spec.sql {
		p.query(t, spec.database, statement)
	}
	return p
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// start runs the server and returns when it answers.
func (p *postgres) start(t *testing.T) {
	g := NewWithT(t)
	p.running = startProcess(t, p.command("postgres", "-D", p.dir+"/data"), filepath.Join(p.dir, "log"), p.uid, p.gid)
	g.Eventually(func() error {
		if p.running.ended() {
			return StopTrying("PostgreSQL ended").Wrap(p.running.err)
		}
		_, err := p.psql(t.Context(), "postgres", "SELECT 1")
		return err
	}).WithTimeout(patience).WithPolling(poll).Should(Succeed(), p.running.tail)
}

// stop ends the server and every connection to it.
func (p *postgres) stop(t *testing.T) {
	NewWithT(t).Expect(p.running.end(syscall.SIGINT)).To(Succeed())
}

// useCertificate has the server show another certificate.
func (p *postgres) useCertificate(t *testing.T, cert, key []byte) {
	p.stop(t)
	p.write(t, serverCert, cert)
	p.write(t, serverKey, key)
	p.start(t)
}

// query runs SQL as the superuser and returns the rows as lines, with | between the columns.
func (p *postgres) query(t *testing.T, database, sql string) []string {
	out, err := p.psql(t.Context(), database, sql)
	NewWithT(t).Expect(err).NotTo(HaveOccurred(), out)
	return strings.Fields(out)
}

// connections is how many clients are connected by TCP.
func (p *postgres) connections(t *testing.T) int {
	return int(number(t, p.query(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL")[0]))
}

func (p *postgres) psql(ctx context.Context, database, sql string) (string, error) {
	cmd := exec.CommandContext(ctx, programs["psql"], "--no-psqlrc", "--no-align", "--tuples-only", "--quiet",
		"--host", p.dir, "--port", strconv.Itoa(p.port), "--username=postgres", "--dbname", database, "--command", sql)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// command runs a program as the user that owns the server's files.
func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(programs[name], args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(p.uid, p.gid)}
	return cmd
}

func (p *postgres) write(t *testing.T, name string, data []byte) {
	g := NewWithT(t)
	path := filepath.Join(p.dir, name)
	g.Expect(os.WriteFile(path, data, 0o600)).To(Succeed())
	if os.Geteuid() == 0 {
		g.Expect(os.Chown(path, int(p.uid), int(p.gid))).To(Succeed())
	}
}

// serverCertificate returns a CA's certificate, and a certificate and key that it issued for DNS names, all as PEM.
func serverCertificate(t *testing.T, names []string) (ca, cert, key []byte) {
	g := NewWithT(t)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.Expect(err).NotTo(HaveOccurred())
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	root := template(1, "postgres CA")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)
	g.Expect(err).NotTo(HaveOccurred())

	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.Expect(err).NotTo(HaveOccurred())
	leaf := template(2, names[0])
	leaf.DNSNames, leaf.ExtKeyUsage = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), caKey)
	g.Expect(err).NotTo(HaveOccurred())
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	g.Expect(err).NotTo(HaveOccurred())
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return encode("CERTIFICATE", caDER), encode("CERTIFICATE", leafDER), encode("PRIVATE KEY", keyDER)
}

// freePort returns a port of loopback on which nothing listens.
func freePort(t *testing.T) int {
	g := NewWithT(t)
	address, err := stack.FreeAddress()
	g.Expect(err).NotTo(HaveOccurred())
	_, port, err := net.SplitHostPort(address)
	g.Expect(err).NotTo(HaveOccurred())
	return int(number(t, port))
}

func number(t *testing.T, s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return uint32(n)
}
