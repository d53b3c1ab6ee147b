// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Main runs the tests of a package beside an apiserver and ends the program. The tests get the server, the scheme of all
// kinds on it and a client that may do everything by begin.
func Main(ctx context.Context, m *testing.M, begin func(*Server, *kruntime.Scheme, client.Client) error) {
	code, err := run(ctx, m, begin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, m *testing.M, begin func(*Server, *kruntime.Scheme, client.Client) error) (code int, err error) {
	scheme := kruntime.NewScheme()
	for _, add := range []func(*kruntime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme, helmv2.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return 1, err
		}
	}
	server, err := Start(ctx)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	admin, err := client.New(server.Admin, client.Options{Scheme: scheme})
	if err != nil {
		return 1, err
	}
	if err := begin(server, scheme, admin); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
