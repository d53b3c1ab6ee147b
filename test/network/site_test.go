// SPDX-License-Identifier: Apache-2.0

package network

import (
	"maps"
	"net/url"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/render"
)

// site is a tenant with its pods. Orthanc's labels are as rendered. Those of others are as what makes them labels them:
// Istio's chart (its own test is with the real one), Traefik's, Bitnami's, and CloudNativePG 1.30.
type site struct {
	tenant                     *v1alpha1.Tenant
	orthanc, gateway, database end
	others                     []end // an egress gateway, PostgreSQL behind Pgpool, and a pod that nobody knows
	public                     []int32
	monitors                   []monitor
}

// monitor is what is read of a PodMonitor.
type monitor struct {
	Spec struct {
		Selector            metav1.LabelSelector
		PodMetricsEndpoints []struct{ Port string }
	}
}

// release is what is read of a HelmRelease of Istio's chart.
type release struct {
	Spec struct {
		ReleaseName string
		Values      struct{ Labels map[string]string }
	}
}

// pod has the labels that the chart gives: app and istio, unless they are set, and what is set.
func (r release) pod(name, namespace string) end {
	set := map[string]string{"app": r.Spec.ReleaseName, "istio": strings.TrimPrefix(r.Spec.ReleaseName, "istio-")}
	maps.Copy(set, r.Spec.Values.Labels)
	return end{name: name, namespace: namespace, labels: set}
}

func newSite(t *testing.T, n network, r *render.Renderer, tenant *v1alpha1.Tenant) site {
	t.Helper()
	g := NewWithT(t)
	ns := tenant.Spec.Namespace
	bundle, err := r.Render(tenant)
	g.Expect(err).NotTo(HaveOccurred())
	s := site{tenant: tenant, others: []end{{name: "unknown", namespace: ns}}}
	releases := map[string]release{}
	for _, l := range bundle.Layers {
		for _, o := range l.Objects {
			switch o.Kind {
			case "NetworkPolicy":
				p := networkingv1.NetworkPolicy{}
				g.Expect(yaml.UnmarshalStrict(o.YAML(), &p)).To(Succeed())
				n[ns] = append(n[ns], p)
			case "Deployment":
				d := appsv1.Deployment{}
				g.Expect(yaml.Unmarshal(o.YAML(), &d)).To(Succeed())
				s.orthanc = end{name: o.Name, namespace: ns, labels: d.Spec.Template.Labels}
			case "PodMonitor":
				m := monitor{}
				g.Expect(yaml.Unmarshal(o.YAML(), &m)).To(Succeed())
				s.monitors = append(s.monitors, m)
			case "HelmRelease":
				if strings.HasPrefix(o.Name, "istio-") {
					r := release{}
					g.Expect(yaml.Unmarshal(o.YAML(), &r)).To(Succeed())
					releases[o.Name] = r
				}
			}
		}
	}
	const name, component = "app.kubernetes.io/name", "app.kubernetes.io/component"
	s.gateway = releases["istio-ingress"].pod("gateway", ns)
	s.public = []int32{80, 443, 15021, tenant.Spec.Ingress.DICOM.Port}
	if tenant.Spec.Ingress.Provider == v1alpha1.TraefikIngress {
		s.gateway.labels = map[string]string{name: "traefik"}
		s.public = []int32{8000, 8443, 11112} // the ports of the pods
	}
	if tenant.Spec.Ingress.Egress.Gateway {
		s.others = append(s.others, releases["istio-egress"].pod("egress", ns))
	}
	switch tenant.Spec.Postgres.Provider {
	case v1alpha1.CloudNativePG:
		s.database = end{name: "database", namespace: ns, labels: map[string]string{"cnpg.io/cluster": "postgres", "cnpg.io/podRole": "instance"}}
	case v1alpha1.BitnamiPostgres:
		s.database = end{name: "pgpool", namespace: ns, labels: map[string]string{name: "postgresql-ha", component: "pgpool"}}
		s.others = append(s.others, end{name: "postgresql", namespace: ns, labels: map[string]string{name: "postgresql-ha", component: "postgresql"}})
	}
	return s
}

func (s site) pods() []end {
	all := append([]end{s.orthanc, s.gateway}, s.others...)
	if s.database.name != "" {
		all = append(all, s.database)
	}
	return all
}

// cloudNativePG tells whether the operator runs the database.
func (s site) cloudNativePG() bool { return s.tenant.Spec.Postgres.Provider == v1alpha1.CloudNativePG }

// usesAPI tells whether a pod is a client of the Kubernetes API: Traefik, and CloudNativePG's instances.
func (s site) usesAPI(p end) bool {
	return p.name == "gateway" && s.tenant.Spec.Ingress.Provider == v1alpha1.TraefikIngress || p.name == "database"
}

// metricsPort returns what a PodMonitor names: by Istio's injection template, Traefik's chart, CloudNativePG, or Bitnami's
// exporter.
func metricsPort(g *WithT, p end, name string) int32 {
	if name == "metrics" {
		return map[bool]int32{true: 9100, false: 9187}[p.name == "gateway"]
	}
	g.Expect(name).To(Equal("http-envoy-prom"))
	return 15090
}

// scraped returns for each pod, by its name, the ports that monitors have Prometheus read.
func (s site) scraped(g *WithT) map[string][]int32 {
	out := map[string][]int32{}
	for _, m := range s.monitors {
		selected := false
		for _, p := range s.pods() {
			if matches(g, &m.Spec.Selector, p.labels) {
				selected = true
				for _, e := range m.Spec.PodMetricsEndpoints {
					out[p.name] = append(out[p.name], metricsPort(g, p, e.Port))
				}
			}
		}
		g.Expect(selected).To(BeTrue(), "a PodMonitor selects no pod: %v", m.Spec.Selector)
	}
	return out
}

// destination is what a tenant's Orthanc reaches outside of its namespace. A name may be that of something in the cluster.
type destination struct {
	what, host string
	port       int32
}

// destinations lists them from the definition, and does not ask the renderer, which may forget some.
func (s site) destinations(g *WithT) []destination {
	var out []destination
	spec := s.tenant.Spec
	for _, m := range spec.Orthanc.Modalities {
		out = append(out, destination{"modality " + m.Name, m.Host, m.Port})
	}
	for _, h := range spec.Ingress.Egress.Hosts {
		out = append(out, destination{"egress host", h.Host, h.Port})
	}
	if e := spec.Postgres.External; e != nil {
		out = append(out, destination{"external database", e.Host, e.Port})
	}
	if s3 := spec.Orthanc.Storage.S3; s3 != nil {
		out = append(out, destination{"object store", "s3.amazonaws.com", httpsPort(g, string(s3.Endpoint))})
		if s3.SecretRef == nil {
			out = append(out, destination{"token service", "sts.amazonaws.com", 443})
		}
	}
	return out
}

func httpsPort(g *WithT, endpoint string) int32 {
	u, err := url.Parse(endpoint)
	g.Expect(err).NotTo(HaveOccurred())
	if u.Port() == "" {
		return 443
	}
	port, err := strconv.ParseInt(u.Port(), 10, 32)
	g.Expect(err).NotTo(HaveOccurred())
	return int32(port)
}
