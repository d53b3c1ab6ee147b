// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// imitate adds what a cluster's controllers make of the objects. Istio looks at little of it: labels, ports, addresses
// and the names of Secrets. The real controllers have proofs of their own.
func (c *cluster) imitate() {
	c.t.Helper()
	// For cert-manager.
	for _, obj := range c.of("Certificate") {
		secret, _, _ := unstructured.NestedString(obj.Object, "spec", "secretName")
		key, cert := certificate(c.t, obj.GetNamespace()+"/"+secret)
		c.put("v1", "Secret", &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: secret},
			Type:       corev1.SecretTypeTLS,
			Data:       map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": cert},
		})
	}
	// For CloudNativePG.
	for _, obj := range c.of("Cluster") {
		c.database(obj)
	}
	// For the Deployments' controller and the scheduler.
	for _, obj := range c.of("Deployment") {
		template := c.injected(obj)
		c.run(metav1.ObjectMeta{
			Namespace: obj.GetNamespace(), Name: obj.GetName() + "-0",
			Labels: template.Labels, Annotations: template.Annotations,
		}, template.Spec)
	}
	// For the Services' and EndpointSlices' controllers.
	for _, obj := range c.of("Service") {
		c.serve(obj)
	}
}

// database adds the Services and the first instance of a CloudNativePG Cluster.
func (c *cluster) database(obj *unstructured.Unstructured) {
	c.t.Helper()
	inherited, _, _ := unstructured.NestedStringMap(obj.Object, "spec", "inheritedMetadata", "annotations")
	metadata := func(name string) metav1.ObjectMeta {
		own, _, _ := unstructured.NestedStringMap(obj.Object, "spec", "inheritedMetadata", "labels")
		all := map[string]string{"cnpg.io/cluster": obj.GetName(), "role": "primary"}
		for k, v := range own {
			all[k] = v
		}
		return metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetName() + "-" + name, Labels: all, Annotations: inherited}
	}
	for _, role := range []string{"rw", "ro", "r"} {
		c.put("v1", "Service", &corev1.Service{
			ObjectMeta: metadata(role),
			Spec: corev1.ServiceSpec{
				Selector: map[string]string{"cnpg.io/cluster": obj.GetName()},
				Ports:    []corev1.ServicePort{{Name: "postgres", Protocol: corev1.ProtocolTCP, Port: 5432, TargetPort: intstr.FromInt32(5432)}},
			},
		})
	}
	c.run(metadata("1"), corev1.PodSpec{ServiceAccountName: obj.GetName(), Containers: []corev1.Container{{Name: "postgres", Image: "postgres"}}})
}

// run adds a running pod.
func (c *cluster) run(metadata metav1.ObjectMeta, spec corev1.PodSpec) {
	c.hosts++
	c.put("v1", "Pod", &corev1.Pod{
		ObjectMeta: metadata,
		Spec:       spec,
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			PodIP:      fmt.Sprintf("10.1.0.%d", c.hosts),
			PodIPs:     []corev1.PodIP{{IP: fmt.Sprintf("10.1.0.%d", c.hosts)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	})
}

// serve gives a Service an address, and the pods that it selects as its endpoints.
func (c *cluster) serve(obj *unstructured.Unstructured) {
	c.t.Helper()
	service := as[corev1.Service](c.t, obj)
	if service.Spec.ClusterIP == "" {
		c.hosts++
		if err := unstructured.SetNestedField(obj.Object, fmt.Sprintf("10.2.0.%d", c.hosts), "spec", "clusterIP"); err != nil {
			c.t.Fatal(err)
		}
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: service.Namespace, Name: service.Name,
			Labels: map[string]string{discoveryv1.LabelServiceName: service.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, obj := range c.of("Pod") {
		pod := as[corev1.Pod](c.t, obj)
		if pod.Namespace != service.Namespace || !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			continue
		}
		ready := true
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{pod.Status.PodIP},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name},
		})
		slice.Ports = endpointPorts(service, pod)
	}
	c.put("discovery.k8s.io/v1", "EndpointSlice", slice)
}

// endpointPorts are a Service's target ports, those with names looked up in a pod.
func endpointPorts(service *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	for _, port := range service.Spec.Ports {
		number := port.TargetPort.IntVal
		for _, container := range pod.Spec.Containers {
			for _, named := range container.Ports {
				if named.Name == port.TargetPort.StrVal {
					number = named.ContainerPort
				}
			}
		}
		ports = append(ports, discoveryv1.EndpointPort{Name: &port.Name, Protocol: &port.Protocol, Port: &number})
	}
	return ports
}

// certificate makes a key and a certificate that says whose it is.
func certificate(t *testing.T, name string) (key, cert []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
