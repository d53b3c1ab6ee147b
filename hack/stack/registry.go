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
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	helmregistry "helm.sh/helm/v4/pkg/registry"

	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
)

const (
	istioModule    = "istio.io/istio"
	istioAPIModule = "istio.io/api"
)

// ChartRegistry is an OCI registry on loopback, over plain HTTP and in memory, that
// holds Istio's gateway chart.
type ChartRegistry struct {
	// URL of the chart, as an OCIRepository names it: oci://127.0.0.1:PORT/charts/gateway.
	URL string
	// Version is the chart's version and its tag.
	Version string

	addr    string
	handler http.Handler

	mu     sync.Mutex
	server *http.Server
}

// StartChartRegistry starts a registry and puts Istio's gateway chart into it.
//
// The chart is the one in the module istio.io/istio, where it carries a placeholder
// version that Istio's release process replaces. That is done here too, with the
// version of istio.io/api that the CRDs come from.
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
	if err := r.pushGateway(ctx); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return r, nil
}

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

func (r *ChartRegistry) pushGateway(ctx context.Context) error {
	modules, err := gomod.Download(ctx, gomod.Assets, istioModule, istioAPIModule)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	chart, err := loader.LoadDir(filepath.Join(modules[istioModule].Dir, "manifests", "charts", "gateway"))
	if err != nil {
		return fmt.Errorf("stack: Istio's gateway chart: %w", err)
	}
	r.Version = modules[istioAPIModule].Version[1:]
	chart.Metadata.Version, chart.Metadata.AppVersion = r.Version, r.Version

	dir, err := os.MkdirTemp("", "korthweb-chart-")
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	defer os.RemoveAll(dir)
	archive, err := chartutil.Save(chart, dir)
	if err != nil {
		return fmt.Errorf("stack: packaging Istio's gateway chart: %w", err)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	client, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard),
		// Not the user's own: no credential of theirs belongs here.
		helmregistry.ClientOptCredentialsFile(filepath.Join(dir, "credentials.json")))
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	repository := r.addr + "/charts/" + chart.Metadata.Name
	if _, err := client.Push(data, repository+":"+r.Version); err != nil {
		return fmt.Errorf("stack: pushing %s: %w", repository, err)
	}
	r.URL = "oci://" + repository
	return nil
}
