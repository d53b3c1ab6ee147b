// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// startControlPlane starts etcd, then the apiserver, and makes the administrator's kubeconfig.
func (s *Stack) startControlPlane(ctx context.Context) error {
	if err := s.createIdentities(); err != nil {
		return err
	}
	var err error
	ports := make([]int, 3)
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	etcdURL, peerURL := "http://"+address(ports[0]), "http://"+address(ports[1])
	data := filepath.Join(s.dir, "etcd")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	err = s.runOwn(ctx, Etcd, etcdURL+"/readyz",
		"--name=stack",
		"--data-dir="+data,
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+peerURL, "--initial-advertise-peer-urls="+peerURL,
		"--initial-cluster=stack="+peerURL,
		// Nothing here survives a power failure, and a killed process keeps what it
		// has written without fsync.
		"--unsafe-no-fsync",
		"--log-level=warn",
	)
	if err != nil {
		return err
	}

	s.apiURL = "https://" + address(ports[2])
	err = s.runOwn(ctx, APIServer, s.apiURL+"/readyz",
		"--etcd-servers="+etcdURL,
		"--bind-address="+loopback, fmt.Sprintf("--secure-port=%d", ports[2]),
		"--advertise-address="+loopback,
		// The API refuses loopback addresses in endpoints, and no pod would use them.
		"--endpoint-reconciler-type=none",
		"--tls-cert-file="+s.pkiPath("apiserver.crt"), "--tls-private-key-file="+s.pkiPath("apiserver.key"),
		"--client-ca-file="+s.pkiPath("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file="+s.pkiPath("sa.key"),
		"--service-account-key-file="+s.pkiPath("sa.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		"--profiling=false",
	)
	if err != nil {
		return err
	}
	if s.admin, err = s.clientConfig(adminUser, adminGroup); err != nil {
		return err
	}
	// No client of a local test server should wait for its own rate limiter.
	s.admin.QPS = -1
	_, err = s.writeKubeconfig(s.admin, adminUser)
	return err
}

// startWorkloads starts what makes pods run and claims bind.
func (s *Stack) startWorkloads(ctx context.Context) error {
	_, cmConfig, err := s.UserConfig("system:kube-controller-manager")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	err = s.runOwn(ctx, ControllerManager, "https://"+address(port)+"/healthz",
		"--kubeconfig="+cmConfig, "--authentication-kubeconfig="+cmConfig, "--authorization-kubeconfig="+cmConfig,
		"--bind-address="+loopback, fmt.Sprintf("--secure-port=%d", port), "--cert-dir="+s.pkiPath(ControllerManager),
		"--leader-elect=false",
		"--use-service-account-credentials",
		// kwok's nodes report every ten minutes and have no leases, which keeps the
		// apiserver quiet. By default they would be NotReady after 50 s, and with them
		// every pod, also when a test stops the apiserver or the machine is busy.
		"--node-monitor-grace-period=1h",
		"--service-account-private-key-file="+s.pkiPath("sa.key"),
		"--root-ca-file="+s.pkiPath("ca.crt"),
		"--service-cluster-ip-range=10.96.0.0/16",
	)
	if err != nil {
		return err
	}

	_, schedConfig, err := s.UserConfig("system:kube-scheduler")
	if err != nil {
		return err
	}
	if port, err = freePort(); err != nil {
		return err
	}
	err = s.runOwn(ctx, Scheduler, "https://"+address(port)+"/readyz",
		"--kubeconfig="+schedConfig, "--authentication-kubeconfig="+schedConfig, "--authorization-kubeconfig="+schedConfig,
		"--bind-address="+loopback, fmt.Sprintf("--secure-port=%d", port), "--cert-dir="+s.pkiPath(Scheduler),
		"--leader-elect=false",
	)
	if err != nil {
		return err
	}
	return s.startKwok(ctx)
}

// runOwn runs one of the stack's own programs, with the caller's extra flags last.
func (s *Stack) runOwn(ctx context.Context, name, readyURL string, args ...string) error {
	return s.Run(ctx, Program{
		Name:     name,
		Path:     s.ProgramPath(name),
		Args:     append(args, s.opts.ExtraArgs[name]...),
		ReadyURL: readyURL,
	})
}
