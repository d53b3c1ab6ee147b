// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	. "github.com/onsi/gomega"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/controllers/ipallocate"
	"istio.io/istio/pilot/pkg/model"
	v3 "istio.io/istio/pilot/pkg/xds/v3"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pilot/test/xdstest"
	"istio.io/istio/pkg/config/schema/gvr"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/kclient/clienttest"
	"istio.io/istio/pkg/spiffe"
	"istio.io/istio/pkg/util/sets"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"
)

// istiod is an istiod in this process that has read a cluster.
type istiod struct {
	*xds.FakeDiscoveryServer
	cluster *cluster
}

// read are the kinds of Kubernetes itself that istiod reads. Those of Istio it has from the cluster's other objects.
var read = []string{"Namespace", "Pod", "Service", "EndpointSlice", "Secret", "ServiceAccount"}

func newIstiod(t *testing.T, c *cluster) *istiod {
	t.Helper()
	var kubernetes []runtime.Object
	var configs []*unstructured.Unstructured
	for _, obj := range c.objects {
		switch group := obj.GroupVersionKind().Group; {
		case strings.HasSuffix(group, ".istio.io"):
			configs = append(configs, obj)
		case slices.Contains(read, obj.GetKind()):
			typed, err := scheme.Scheme.New(obj.GroupVersionKind())
			if err != nil {
				t.Fatal(err)
			}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, typed); err != nil {
				t.Fatal(err)
			}
			kubernetes = append(kubernetes, typed)
		}
	}
	inputs, _, err := crd.ParseInputs(stream(t, configs))
	if err != nil {
		t.Fatal(err)
	}
	for i := range inputs {
		inputs[i].Domain = "cluster.local"
	}
	return &istiod{cluster: c, FakeDiscoveryServer: xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
		KubernetesObjects:  kubernetes,
		Configs:            inputs,
		MeshConfig:         c.mesh,
		KubeClientModifier: c.authorize,
	})}
}

// authorize stands in for the apiserver, which istiod asks whether a gateway may read the Secrets that it wants: one
// may where the chart's Role says so.
func (c *cluster) authorize(client kube.Client) {
	client.Kube().(*fake.Clientset).PrependReactor("create", "subjectaccessreviews",
		func(action clienttesting.Action) (bool, runtime.Object, error) {
			review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
			asked := review.Spec.ResourceAttributes
			for _, obj := range c.of("RoleBinding") {
				binding := as[rbacv1.RoleBinding](c.t, obj)
				if binding.Namespace != asked.Namespace || binding.RoleRef.Kind != "Role" {
					continue
				}
				role := as[rbacv1.Role](c.t, c.get("Role", binding.Namespace, binding.RoleRef.Name))
				for _, subject := range binding.Subjects {
					user := "system:serviceaccount:" + binding.Namespace + ":" + subject.Name
					review.Status.Allowed = review.Status.Allowed || user == review.Spec.User && slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
						return slices.Contains(r.Resources, asked.Resource) && slices.Contains(r.Verbs, asked.Verb)
					})
				}
			}
			return true, review, nil
		})
}

// allocate runs istiod's controller that gives each ServiceEntry an address, and takes what it writes.
func (c *cluster) allocate() {
	c.t.Helper()
	g := NewWithT(c.t)
	client := kube.NewFakeClient()
	clienttest.MakeCRD(c.t, client, gvr.ServiceEntry)
	stop := make(chan struct{})
	defer close(stop)
	entries := c.of("ServiceEntry")
	for _, obj := range entries {
		entry := &networkingv1.ServiceEntry{}
		data, err := json.Marshal(obj.Object)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(json.Unmarshal(data, entry)).To(Succeed())
		_, err = client.Istio().NetworkingV1().ServiceEntries(obj.GetNamespace()).Create(context.Background(), entry, metav1.CreateOptions{})
		g.Expect(err).NotTo(HaveOccurred())
	}
	allocator := ipallocate.NewIPAllocator(stop, client)
	go allocator.Run(stop)
	client.RunAndWait(stop)
	g.Eventually(allocator.HasSynced, time.Minute, time.Millisecond).Should(BeTrue())
	for _, obj := range entries {
		if own, _, _ := unstructured.NestedStringSlice(obj.Object, "spec", "addresses"); len(own) > 0 {
			continue
		}
		g.Eventually(func(g Gomega) {
			entry, err := client.Istio().NetworkingV1().ServiceEntries(obj.GetNamespace()).Get(context.Background(), obj.GetName(), metav1.GetOptions{})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(entry.Status.Addresses).NotTo(BeEmpty())
			var addresses []any
			for _, a := range entry.Status.Addresses {
				addresses = append(addresses, map[string]any{"host": a.Host, "value": a.Value})
			}
			obj.Object["status"] = map[string]any{"addresses": addresses}
		}, time.Minute, time.Millisecond).Should(Succeed())
	}
}

// configuration is what istiod sends to a proxy.
type configuration struct {
	listeners []*listenerv3.Listener
	routes    []*routev3.RouteConfiguration
	clusters  []*clusterv3.Cluster
	endpoints []*endpointv3.ClusterLoadAssignment
	secrets   []*tlsv3.Secret
	dump      string // all of it as text
}

// configure makes the configuration for the proxy of a pod.
func (i *istiod) configure(t *testing.T, namespace, pod string) *configuration {
	t.Helper()
	g := NewWithT(t)
	proxy := i.proxy(t, as[corev1.Pod](t, i.cluster.get("Pod", namespace, pod)))
	c := &configuration{listeners: i.Listeners(proxy), clusters: i.Clusters(proxy)}
	xdstest.ValidateListeners(t, c.listeners)
	xdstest.ValidateClusters(t, c.clusters)
	c.routes = i.RoutesFromListeners(proxy, c.listeners)
	xdstest.ValidateRouteConfigurations(t, c.routes)
	c.endpoints = i.Endpoints(proxy)

	wanted := sets.New[string]()
	for _, l := range c.listeners {
		wanted.InsertAll(xdstest.ExtractListenerSecretResources(t, l)...)
	}
	for _, cl := range c.clusters {
		if cl.TransportSocket != nil || len(cl.TransportSocketMatches) > 0 {
			wanted.InsertAll(tlsSecrets(t, cl)...)
		}
	}
	wanted.Delete("")
	// Of the mesh itself: the agent beside Envoy has them from istiod's CA.
	wanted.DeleteAll("default", "ROOTCA")
	if len(wanted) > 0 {
		resources, _, err := i.Discovery.Generators[v3.SecretType].Generate(proxy,
			&model.WatchedResource{TypeUrl: v3.SecretType, ResourceNames: wanted}, &model.PushRequest{Push: i.PushContext(), Forced: true})
		g.Expect(err).NotTo(HaveOccurred())
		for _, r := range resources {
			secret := &tlsv3.Secret{}
			g.Expect(r.Resource.UnmarshalTo(secret)).To(Succeed())
			c.secrets = append(c.secrets, secret)
		}
		slices.SortFunc(c.secrets, func(a, b *tlsv3.Secret) int { return strings.Compare(a.Name, b.Name) })
		g.Expect(c.secrets).To(HaveLen(len(wanted)), "istiod serves each Secret that the proxy is told to ask for: %v", wanted)
	}
	c.dump = strings.Join(slices.Concat(
		xdstest.DumpList(t, c.listeners), xdstest.DumpList(t, c.routes), xdstest.DumpList(t, c.clusters),
		xdstest.DumpList(t, c.endpoints), xdstest.DumpList(t, c.secrets)), "\n")
	return c
}

// tlsSecrets are the names of the Secrets that a cluster's TLS asks for.
func tlsSecrets(t *testing.T, c *clusterv3.Cluster) []string {
	t.Helper()
	sockets := []string{}
	for _, match := range c.TransportSocketMatches {
		if match.GetTransportSocket().GetTypedConfig().MessageIs(&tlsv3.UpstreamTlsContext{}) {
			sockets = append(sockets, xdstest.ExtractClusterSecretResources(t, &clusterv3.Cluster{TransportSocketMatches: []*clusterv3.Cluster_TransportSocketMatch{match}})...)
		}
	}
	if c.GetTransportSocket().GetTypedConfig().MessageIs(&tlsv3.UpstreamTlsContext{}) {
		sockets = append(sockets, xdstest.ExtractClusterSecretResources(t, &clusterv3.Cluster{TransportSocket: c.TransportSocket})...)
	}
	return sockets
}

// proxy is what the agent in an injected pod tells istiod of itself.
func (i *istiod) proxy(t *testing.T, pod *corev1.Pod) *model.Proxy {
	t.Helper()
	g := NewWithT(t)
	metadata := map[string]any{
		"LABELS": pod.Labels, "NAMESPACE": pod.Namespace, "SERVICE_ACCOUNT": pod.Spec.ServiceAccountName,
		"ISTIO_VERSION": "1.31.0",
	}
	kind := model.SidecarProxy
	containers := slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers)
	at := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == "istio-proxy" })
	g.Expect(at).NotTo(Equal(-1), "pod %s/%s has no istio-proxy: the injector left it out", pod.Namespace, pod.Name)
	if slices.Contains(containers[at].Args, "router") {
		kind = model.Router
	}
	for _, env := range containers[at].Env {
		if name, ok := strings.CutPrefix(env.Name, "ISTIO_META_"); ok && env.Value != "" {
			metadata[name] = env.Value
		}
	}
	data, err := json.Marshal(metadata)
	g.Expect(err).NotTo(HaveOccurred())
	parsed := &model.NodeMetadata{}
	g.Expect(json.Unmarshal(data, parsed)).To(Succeed())
	return i.SetupProxy(&model.Proxy{
		Type: kind, ID: pod.Name + "." + pod.Namespace, ConfigNamespace: pod.Namespace,
		Labels: pod.Labels, Metadata: parsed, IPAddresses: []string{pod.Status.PodIP},
		VerifiedIdentity: &spiffe.Identity{TrustDomain: "cluster.local", Namespace: pod.Namespace, ServiceAccount: pod.Spec.ServiceAccountName},
	})
}
