// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	helmregistry "helm.sh/helm/v4/pkg/registry"

	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
)

const (
	istioModule        = "istio.io/istio"
	istioAPIModule     = "istio.io/api"
	traefikChartModule = "github.com/traefik/traefik-helm-chart"
)

// Chart is where a chart of a ChartRegistry is.
type Chart struct {
	// URL as an OCIRepository names it, without the tag: oci://127.0.0.1:PORT/charts/gateway.
	URL string
	// Version is the chart's version and its tag.
	Version string
}

// ChartRegistry is an OCI registry on loopback, over plain HTTP and in memory, that
// holds the charts that Korthweb's bundles install.
type ChartRegistry struct {
	// Gateway is Istio's gateway chart.
	Gateway Chart
	// Traefik is Traefik's chart, which is also for newer versions of Traefik than the
	// one in bin/stack. Its CRDs are in the cluster already.
	Traefik Chart

	addr    string
	handler http.Handler

	mu     sync.Mutex
	server *http.Server
}

// StartChartRegistry starts a registry and puts the charts into it.
//
// Istio's gateway chart is the one in the module istio.io/istio, where it carries a
// placeholder version that Istio's release process replaces. That is done here too,
// with the version of istio.io/api that the CRDs come from.
func StartChartRegistry(ctx context.Context) (*ChartRegistry, error) {
	addr, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	r := &ChartRegistry{
		addr:    addr,
		handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
	}
	if err := r.Start(); err != nil {
		return nil, err
	}
	if err := r.pushCharts(ctx); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return r, nil
}

// Host is the registry as the URLs of its charts name it: 127.0.0.1:PORT.
func (r *ChartRegistry) Host() string { return r.addr }

// Start serves again after Stop, on the same port and with the same content.
func (r *ChartRegistry) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		return nil
	}
	l, err := r.listen()
	if err != nil {
		return fmt.Errorf("stack: chart registry: %w", err)
	}
	server := &http.Server{Handler: r.handler, ReadHeaderTimeout: 10 * time.Second}
	r.server = server
	go func() { _ = server.Serve(l) }() // ends with Close
	return nil
}

// listen tries for a second: a program that was forked while the listener of FreeAddress was open holds
// the port until it is executed.
func (r *ChartRegistry) listen() (l net.Listener, err error) {
	for range 20 {
		if l, err = net.Listen("tcp", r.addr); err == nil {
			return l, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// Stop stops serving. It may be called more than once.
func (r *ChartRegistry) Stop() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return nil
	}
	err := r.server.Close()
	r.server = nil
	return err
}

func (r *ChartRegistry) pushCharts(ctx context.Context) error {
	modules, err := gomod.Download(ctx, gomod.Assets, istioModule, istioAPIModule, traefikChartModule)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	gateway, err := loader.LoadDir(filepath.Join(modules[istioModule].Dir, "manifests", "charts", "gateway"))
	if err != nil {
		return fmt.Errorf("stack: Istio's gateway chart: %w", err)
	}
	version := strings.TrimPrefix(modules[istioAPIModule].Version, "v")
	gateway.Metadata.Version, gateway.Metadata.AppVersion = version, version
	traefik, err := loader.LoadDir(filepath.Join(modules[traefikChartModule].Dir, "traefik"))
	if err != nil {
		return fmt.Errorf("stack: Traefik's chart: %w", err)
	}

	dir, err := os.MkdirTemp("", "korthweb-chart-")
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	defer os.RemoveAll(dir)
	client, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard),
		// Not the user's own: no credential of theirs belongs here.
		helmregistry.ClientOptCredentialsFile(filepath.Join(dir, "credentials.json")))
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	if r.Gateway, err = r.push(client, gateway, dir); err != nil {
		return err
	}
	r.Traefik, err = r.push(client, traefik, dir)
	return err
}

// push packages c in dir and pushes it.
func (r *ChartRegistry) push(client *helmregistry.Client, c *chart.Chart, dir string) (Chart, error) {
	archive, err := chartutil.Save(c, dir)
	if err != nil {
		return Chart{}, fmt.Errorf("stack: packaging the chart %s: %w", c.Metadata.Name, err)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		return Chart{}, fmt.Errorf("stack: %w", err)
	}
	repository := r.addr + "/charts/" + c.Metadata.Name
	if _, err := client.Push(data, repository+":"+c.Metadata.Version); err != nil {
		return Chart{}, fmt.Errorf("stack: pushing %s: %w", repository, err)
	}
	return Chart{URL: "oci://" + repository, Version: c.Metadata.Version}, nil
}
