// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/internal/emit"
)

// clusterPatience is how long controllers may take for what they do in seconds on an idle machine.
const clusterPatience = 5 * time.Minute

// cluster is an apiserver with cert-manager and Flux's controllers, and a registry with the charts of the bundle.
//
// There is no kubelet, no scheduler and no controller-manager, so no pod is made. The test plays them for what it
// needs: processes for the pods of Orthanc and Traefik, and the EndpointSlices of Services.
type cluster struct {
	*stack.Stack
	admin  client.Client
	charts *stack.ChartRegistry
}

func startCluster(t *testing.T) *cluster {
	g := NewWithT(t)
	ctx, cancel := context.WithTimeout(t.Context(), clusterPatience)
	defer cancel()
	s, err := stack.Start(ctx, stack.Options{Flux: true, CertManager: true})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(s.Stop()).To(Succeed()) })
	charts, err := stack.StartChartRegistry(ctx)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(charts.Stop()).To(Succeed()) })
	g.Expect(s.InstallKorthwebRBAC(ctx, charts.Host())).To(Succeed())
	c := &cluster{Stack: s, charts: charts}
	c.admin = c.client(t, s.RESTConfig())
	return c
}

func (c *cluster) client(t *testing.T, config *rest.Config) client.Client {
	k, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return k
}

// install makes the tenant's namespace and accounts, as Korthweb does, and applies the bundle.
func (c *cluster) install(t *testing.T, r *rendered) {
	g := NewWithT(t)
	for _, o := range emit.Objects(r.tenant) {
		switch o.(type) {
		case *corev1.Namespace, *corev1.ServiceAccount, *rbacv1.RoleBinding:
			g.Expect(c.admin.Create(t.Context(), o)).To(Succeed())
		}
	}
	c.apply(t, r)
}

// apply applies all objects of the bundle, with the rights with which Flux's kustomize-controller does.
func (c *cluster) apply(t *testing.T, r *rendered) {
	g := NewWithT(t)
	config := c.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + r.tenant.Namespace + ":" + emit.ApplierName(r.tenant),
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + r.tenant.Namespace, "system:authenticated"},
	}
	applier := c.client(t, config)
	for _, layer := range r.bundle.Layers {
		for _, o := range layer.Objects {
			var object unstructured.Unstructured
			g.Expect(yaml.Unmarshal(o.YAML(), &object.Object)).To(Succeed())
			g.Expect(applier.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(&object),
				client.FieldOwner("kustomize-controller"), client.ForceOwnership)).To(Succeed(), "%s/%s", o.Kind, o.Name)
		}
	}
}

// certificate waits for a Secret that cert-manager makes, and writes it into files of its own.
func (c *cluster) certificate(t *testing.T, r *rendered, name string) certificate {
	g := NewWithT(t)
	var secret corev1.Secret
	g.Eventually(func() error {
		return c.admin.Get(t.Context(), client.ObjectKey{Namespace: r.tenant.Spec.Namespace, Name: name}, &secret)
	}).WithTimeout(clusterPatience).WithPolling(poll).Should(Succeed(), "Secret %s of %s", name, r.tenant.Name)
	files := certificate{dir: newDir(t)}
	for file, key := range map[string]string{
		files.ca(): "ca.crt", files.cert(): corev1.TLSCertKey, files.key(): corev1.TLSPrivateKeyKey,
	} {
		g.Expect(secret.Data).To(HaveKey(key), "Secret %s of %s", name, r.tenant.Name)
		g.Expect(os.WriteFile(file, secret.Data[key], 0o600)).To(Succeed())
	}
	return files
}

// certificate is a Secret of cert-manager as files.
type certificate struct{ dir string }

func (c certificate) ca() string   { return filepath.Join(c.dir, "ca.crt") }
func (c certificate) cert() string { return filepath.Join(c.dir, "tls.crt") }
func (c certificate) key() string  { return filepath.Join(c.dir, "tls.key") }

// traefik is a pod of the Deployment that helm-controller makes of the tenant's HelmRelease, with its process.
type traefik struct {
	*rendered
	service   corev1.Service
	container corev1.Container
	ports     map[int32]int // by the port in the container, the one on loopback
	running   *process
}

// entryPoint is the argument that gives an entry point its address.
var entryPoint = regexp.MustCompile(`^(--entryPoints\.[a-z]+\.address=):([0-9]+)(/tcp)$`)

// startTraefik runs a pod of the tenant's Traefik, as a kubelet would, and returns when it is ready.
//
// It is the Traefik of hack/stack with the arguments, the environment and the user of the Deployment. What differs:
// its ports, since all pods share this machine's loopback; and that it finds the apiserver and its ServiceAccount's
// token by a kubeconfig, since nothing is mounted into it.
func (c *cluster) startTraefik(t *testing.T, r *rendered) *traefik {
	g := NewWithT(t)
	ns := r.tenant.Spec.Namespace
	key := client.ObjectKey{Namespace: ns, Name: "traefik"}
	var d appsv1.Deployment
	g.Eventually(func() error { return c.admin.Get(t.Context(), key, &d) }).
		WithTimeout(clusterPatience).WithPolling(poll).Should(Succeed(), func() string { return c.release(t, key) })
	tr := &traefik{rendered: r, container: d.Spec.Template.Spec.Containers[0], ports: map[int32]int{}}
	g.Expect(c.admin.Get(t.Context(), key, &tr.service)).To(Succeed())

	var args []string
	for _, arg := range tr.container.Args {
		if m := entryPoint.FindStringSubmatch(arg); m != nil {
			port := freePort(t)
			tr.ports[int32(number(t, m[2]))] = port
			arg = fmt.Sprintf("%s127.0.0.1:%d%s", m[1], port, m[3])
		}
		args = append(args, arg)
	}
	account := d.Spec.Template.Spec.ServiceAccountName
	g.Expect(c.admin.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: account}, &corev1.ServiceAccount{})).To(Succeed())
	_, path, err := c.ServiceAccountConfig(t.Context(), ns, account)
	g.Expect(err).NotTo(HaveOccurred())
	uid := uint32(ptr.Deref(d.Spec.Template.Spec.SecurityContext.RunAsUser, 0))
	g.Expect(uid).NotTo(BeZero(), "the container would run as root")
	dir := newDir(t)
	kubeconfig := filepath.Join(dir, "kubeconfig")
	data, err := os.ReadFile(path)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.WriteFile(kubeconfig, data, 0o600)).To(Succeed())
	if os.Geteuid() == 0 {
		g.Expect(os.Chown(kubeconfig, int(uid), int(uid))).To(Succeed())
	}

	cmd := exec.Command(c.ProgramPath(stack.Traefik), args...)
	cmd.Dir = dir
	cmd.Env = []string{"KUBECONFIG=" + kubeconfig}
	for _, e := range tr.container.Env {
		if e.ValueFrom == nil {
			cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
		}
	}
	tr.running = startProcess(t, cmd, filepath.Join(dir, "log"), uid, uid)
	probe := tr.container.ReadinessProbe.HTTPGet
	g.Eventually(func() error {
		if tr.running.ended() {
			return StopTrying("Traefik ended").Wrap(tr.running.err)
		}
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", tr.ports[probe.Port.IntVal], probe.Path))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("the readiness probe gets %s", resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	}).WithTimeout(patience).WithPolling(poll).Should(Succeed(), tr.running.tail)
	return tr
}

// release returns what helm-controller says of a HelmRelease.
func (c *cluster) release(t *testing.T, key client.ObjectKey) string {
	var text string
	for _, kind := range []string{"source.toolkit.fluxcd.io/v1/OCIRepository", "helm.toolkit.fluxcd.io/v2/HelmRelease"} {
		var object unstructured.Unstructured
		object.SetAPIVersion(filepath.Dir(kind))
		object.SetKind(filepath.Base(kind))
		if err := c.admin.Get(t.Context(), key, &object); err != nil {
			text += err.Error() + "\n"
			continue
		}
		text += fmt.Sprintf("%s: %v\n", kind, object.Object["status"])
	}
	return text
}

// address is where clients reach a port of the Service in front of Traefik.
func (tr *traefik) address(t *testing.T, port int32) string {
	for _, p := range tr.service.Spec.Ports {
		for _, c := range tr.container.Ports {
			if p.Port == port && p.TargetPort.StrVal == c.Name {
				return net.JoinHostPort("127.0.0.1", strconv.Itoa(tr.ports[c.ContainerPort]))
			}
		}
	}
	t.Fatalf("Service %s/%s leads from port %d to no port of the pod", tr.service.Namespace, tr.service.Name, port)
	return ""
}

// serve plays the endpoint slice controller: it says that Orthanc's process is behind Service orthweb.
func (c *cluster) serve(t *testing.T, o *orthanc) {
	g := NewWithT(t)
	ns := o.tenant.Spec.Namespace
	var service corev1.Service
	g.Expect(c.admin.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "orthweb"}, &service)).To(Succeed())
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: service.Name + "-test", Labels: map[string]string{discoveryv1.LabelServiceName: service.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{machineAddress(t)}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		}},
	}
	for _, p := range service.Spec.Ports {
		port, err := o.port(p.TargetPort)
		g.Expect(err).NotTo(HaveOccurred())
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: ptr.To(int32(port)), Protocol: &p.Protocol})
	}
	g.Expect(c.admin.Create(t.Context(), slice)).To(Succeed())
}

// machineAddress is one of this machine's addresses that is not loopback's, which Kubernetes takes for no endpoint.
// Orthanc 1.10 listens on all of them.
func machineAddress(t *testing.T) string {
	addresses, err := net.InterfaceAddrs()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has no IPv4 address but loopback's, and an EndpointSlice may not name that")
	return ""
}
