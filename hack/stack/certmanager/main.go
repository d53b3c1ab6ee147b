// SPDX-License-Identifier: Apache-2.0

// Command certmanager is cert-manager's controller as far as Korthweb's bundles need
// it: Certificates, CertificateRequests and their approval, Issuers and ClusterIssuers
// of the kinds selfSigned and ca. Each of these is cert-manager's own code.
//
// cert-manager's own command is not part of its module, hence this one. Left out are ACME, Vault and Venafi, which
// need a server to talk to, and the webhook, so what only that would refuse is accepted.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	// Controllers and issuers register themselves.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

// workers is how many objects each controller works on at once; cert-manager's default.
const workers = 5

func main() {
	opts := controller.ContextOptions{}
	flag.StringVar(&opts.Kubeconfig, "kubeconfig", "", "path of the kubeconfig to use")
	flag.StringVar(&opts.ClusterResourceNamespace, "cluster-resource-namespace", "cert-manager", "namespace of the Secrets of ClusterIssuers")
	healthAddr := flag.String("health-addr", "127.0.0.1:9403", "host:port of /readyz")
	klog.InitFlags(nil)
	flag.Parse()

	// As in cert-manager: an hour after a refused request, and twice as long each time.
	opts.CertificateRequestMinimumBackoffDuration = time.Hour
	opts.CertificateRequestMaximumBackoffDuration = 32 * time.Hour
	// Used only for apiservers that do not limit their clients by themselves.
	opts.KubernetesAPIQPS, opts.KubernetesAPIBurst = 500, 1000

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts, *healthAddr); err != nil {
		fmt.Fprintln(os.Stderr, "cert-manager:", err)
		os.Exit(1)
	}
}

// run runs every registered controller until ctx ends or one of them fails.
func run(ctx context.Context, opts controller.ContextOptions, healthAddr string) error {
	group, ctx := errgroup.WithContext(logf.NewContext(ctx, logf.Log))
	ready, err := serveReadiness(ctx, healthAddr)
	if err != nil {
		return err
	}
	factory, err := controller.NewContextFactory(ctx, opts)
	if err != nil {
		return err
	}
	known := controller.Known()
	controllers := make(map[string]controller.Interface, len(known))
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if controllers[name], err = known[name](factory); err != nil {
			return fmt.Errorf("controller %s: %w", name, err)
		}
	}
	// The informers that the controllers have asked for by now are in these factories.
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())

	for name, c := range controllers {
		group.Go(func() error {
			if err := c.Run(workers, ctx); err != nil {
				return fmt.Errorf("controller %s: %w", name, err)
			}
			return nil
		})
	}
	shared.SharedInformerFactory.WaitForCacheSync(ctx.Done())
	shared.KubeSharedInformerFactory.WaitForCacheSync(ctx.Done())
	ready.Store(true)
	return group.Wait()
}

// serveReadiness answers /readyz with 200 once the returned value is true.
func serveReadiness(ctx context.Context, addr string) (*atomic.Bool, error) {
	ready := &atomic.Bool{}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "the caches are not filled", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return ready, nil
}
