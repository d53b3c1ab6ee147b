// SPDX-License-Identifier: Apache-2.0

// Package manager_test holds the manifests of this directory against each other and against the program.
package manager_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/cli"
)

type manifests struct {
	deployment appsv1.Deployment
	service    corev1.Service
	policy     networkingv1.NetworkPolicy
}

// build runs kustomize on a directory that has one object of each kind.
func build(g *WithT, dir string) *manifests {
	g.THelper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	g.Expect(err).NotTo(HaveOccurred())
	m := &manifests{}
	into := map[string]any{"Deployment": &m.deployment, "Service": &m.service, "NetworkPolicy": &m.policy}
	g.Expect(built.Resources()).To(HaveLen(len(into)))
	for _, r := range built.Resources() {
		data, err := r.AsYAML()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(into).To(HaveKey(r.GetKind()))
		g.Expect(yaml.UnmarshalStrict(data, into[r.GetKind()])).To(Succeed())
	}
	return m
}

// overlay writes a kustomization on this directory, and returns its own.
func overlay(t *testing.T, kustomization string) string {
	t.Helper()
	g := NewWithT(t)
	dir := t.TempDir()
	g.Expect(os.CopyFS(filepath.Join(dir, "manager"), os.DirFS("."))).To(Succeed())
	g.Expect(os.Mkdir(filepath.Join(dir, "overlay"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(dir, "overlay", "kustomization.yaml"), []byte(kustomization), 0o644)).To(Succeed())
	return filepath.Join(dir, "overlay")
}

// documented returns the example of docs/install.md that begins with a text, to its end.
func documented(t *testing.T, beginning string) string {
	t.Helper()
	g := NewWithT(t)
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "install.md"))
	g.Expect(err).NotTo(HaveOccurred())
	_, rest, found := strings.Cut(string(doc), beginning)
	g.Expect(found).To(BeTrue(), beginning)
	example, _, found := strings.Cut(beginning+rest, "```")
	g.Expect(found).To(BeTrue())
	return example
}

// An instance, and one beside it, are reached by kustomize-controller and Prometheus, and by no other pod.
func TestNetworkPolicy(t *testing.T) {
	for name, dir := range map[string]string{"config/manager": ".", "a shard": overlay(t, documented(t, "# config/shard1/kustomization.yaml\n"))} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			m := build(g, dir)
			pod := m.deployment.Spec.Template
			g.Expect(m.policy.Namespace).To(Equal(m.deployment.Namespace))
			g.Expect(selects(g, &m.policy.Spec.PodSelector, pod.Labels)).To(BeTrue(), "the policy is that of the pod")
			g.Expect(labels.SelectorFromSet(m.service.Spec.Selector).Matches(labels.Set(pod.Labels))).To(BeTrue(), "the Service is that of the pod")
			g.Expect(m.policy.Spec.PolicyTypes).To(Equal([]networkingv1.PolicyType{networkingv1.PolicyTypeIngress}))

			ports := map[string]int32{}
			for _, p := range pod.Spec.Containers[0].Ports {
				ports[p.Name] = p.ContainerPort
			}
			g.Expect(m.policy.Spec.Ingress).To(HaveLen(2))
			for i, c := range []struct {
				port string
				from networkingv1.NetworkPolicyPeer
			}{
				{"http", networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: "app.kubernetes.io/component", Operator: metav1.LabelSelectorOpIn, Values: []string{"kustomize-controller"}}}}}},
				{"http-prom", networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{
					corev1.LabelMetadataName: "monitoring"}}}},
			} {
				rule := m.policy.Spec.Ingress[i]
				g.Expect(rule.From).To(Equal([]networkingv1.NetworkPolicyPeer{c.from}), c.port)
				g.Expect(rule.Ports).To(HaveLen(1), c.port)
				g.Expect(*rule.Ports[0].Protocol).To(Equal(corev1.ProtocolTCP), c.port)
				g.Expect(ports).To(HaveKeyWithValue(c.port, rule.Ports[0].Port.IntVal))
			}
			g.Expect(m.service.Spec.Ports).To(HaveLen(1), "metrics have no Service")
			g.Expect(m.service.Spec.Ports[0].TargetPort.String()).To(Equal("http"))
		})
	}
}

func selects(g *WithT, s *metav1.LabelSelector, of map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	g.Expect(err).NotTo(HaveOccurred())
	return !selector.Empty() && selector.Matches(labels.Set(of))
}

func TestDeployment(t *testing.T) {
	g := NewWithT(t)
	container := build(g, ".").deployment.Spec.Template.Spec.Containers[0]
	g.Expect(container.ReadinessProbe.HTTPGet.Path).To(Equal(artifact.ReadyPath))
	g.Expect(container.ReadinessProbe.HTTPGet.Port.String()).To(Equal("http"), "ready is who serves artifacts")

	var stdout, stderr bytes.Buffer
	g.Expect(cli.Run(append(container.Args, "--help"), &stdout, &stderr)).To(Equal(0), "a flag is unknown: "+stderr.String())
	for _, arg := range container.Args {
		g.Expect(arg).NotTo(Or(HavePrefix("--watch-all-namespaces"), HavePrefix("--insecure-"), HavePrefix("--pprof-addr")),
			"what loosens a default is the platform's decision")
	}
}

func TestNetworkPolicyOfAnotherPrometheus(t *testing.T) {
	g := NewWithT(t)
	patches := documented(t, "  patches:\n    - target:\n        kind: NetworkPolicy\n")
	dir := overlay(t, "resources: [../manager]\n"+strings.ReplaceAll("\n"+patches, "\n  ", "\n"))
	g.Expect(build(g, dir).policy.Spec.Ingress[1].From[0].NamespaceSelector.MatchLabels).To(Equal(map[string]string{corev1.LabelMetadataName: "observability"}))
}
