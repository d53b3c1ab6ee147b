// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// attempt is to write an object.
type attempt struct {
	name string

	// user is the tenant's kustomize applier, unless set.
	user string

	// object names the base, in bases, which is accepted as it is.
	object string

	// change is a merge patch of the base, in YAML.
	change string

	// namespace is the tenant's, unless set.
	namespace string

	// creation says that Kubernetes itself lets nobody change this later.
	creation bool

	// onlyChange says that nothing is created: the attempt is about what stands.
	onlyChange bool

	// denied is what the refusal says. Empty means that the object is accepted.
	denied string
}

// bases are objects that are accepted in a tenant's namespace.
var bases = map[string]string{
	"Service": `{apiVersion: v1, kind: Service, spec: {selector: {app.kubernetes.io/name: orthanc}, ports: [{name: http, port: 80}]}}`,
	"Deployment": `{apiVersion: apps/v1, kind: Deployment, spec: {selector: {matchLabels: {app: a}}, template: {
		metadata: {labels: {app: a}}, spec: {automountServiceAccountToken: false, containers: [{name: a, image: orthancteam/orthanc}]}}}}`,
	"StatefulSet": `{apiVersion: apps/v1, kind: StatefulSet, spec: {serviceName: a, selector: {matchLabels: {app: a}}, template: {
		metadata: {labels: {app: a}}, spec: {automountServiceAccountToken: false, containers: [{name: a, image: orthancteam/orthanc}]}}}}`,
	"DaemonSet": `{apiVersion: apps/v1, kind: DaemonSet, spec: {selector: {matchLabels: {app: a}}, template: {
		metadata: {labels: {app: a}}, spec: {automountServiceAccountToken: false, containers: [{name: a, image: orthancteam/orthanc}]}}}}`,
	"ReplicaSet": `{apiVersion: apps/v1, kind: ReplicaSet, spec: {selector: {matchLabels: {app: a}}, template: {
		metadata: {labels: {app: a}}, spec: {automountServiceAccountToken: false, containers: [{name: a, image: orthancteam/orthanc}]}}}}`,
	"ReplicationController": `{apiVersion: v1, kind: ReplicationController, spec: {selector: {app: a}, template: {
		metadata: {labels: {app: a}}, spec: {automountServiceAccountToken: false, containers: [{name: a, image: orthancteam/orthanc}]}}}}`,
	"Job": `{apiVersion: batch/v1, kind: Job, spec: {template: {
		spec: {restartPolicy: Never, automountServiceAccountToken: false, containers: [{name: a, image: orthancteam/orthanc}]}}}}`,
	"CronJob": `{apiVersion: batch/v1, kind: CronJob, spec: {schedule: "0 0 * * *", jobTemplate: {spec: {template: {
		spec: {restartPolicy: Never, automountServiceAccountToken: false, containers: [{name: a, image: orthancteam/orthanc}]}}}}}}`,
	"Pod": `{apiVersion: v1, kind: Pod, spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}},
		containers: [{name: a, image: anything/at-all, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}`,
	"NetworkPolicy": `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: peer-attempt}, spec: {podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]}}`,
	"gateway's NetworkPolicy": `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: istio-ingress},
		spec: {podSelector: {matchLabels: {istio: bhs-orthweb}}, policyTypes: [Ingress]}}`,
	"default-deny": `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: default-deny},
		spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}`,
	"allow-dns": `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: allow-dns},
		spec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}],
		to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}, {ipBlock: {cidr: 169.254.20.10/32}}]}]}}`,
	"Endpoints":     `{apiVersion: v1, kind: Endpoints, subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]}`,
	"EndpointSlice": `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}]}`,
	"Secret":        `{apiVersion: v1, kind: Secret, metadata: {annotations: {kubernetes.io/service-account.name: default}}}`,
	"RoleBinding": `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, subjects: [{kind: ServiceAccount, name: istio-ingress}],
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: istio-ingress}}`,
	"Gateway": `{apiVersion: networking.istio.io/v1, kind: Gateway, spec: {selector: {istio: bhs-orthweb},
		servers: [{port: {name: https, number: 443, protocol: HTTPS}, hosts: [bhs.example.org], tls: {mode: SIMPLE, credentialName: web-tls}}]}}`,
	"VirtualService": `{apiVersion: networking.istio.io/v1, kind: VirtualService, spec: {exportTo: [.], hosts: [bhs.example.org], gateways: [web-gw],
		http: [{route: [{destination: {host: orthweb}}]}]}}`,
	"DestinationRule": `{apiVersion: networking.istio.io/v1, kind: DestinationRule, spec: {exportTo: [.], host: istio-egress}}`,
	"ServiceEntry": `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, spec: {exportTo: [.], hosts: [pacs.example.net], resolution: DNS,
		ports: [{name: tcp, number: 104, protocol: TCP}]}}`,
	"Certificate":     `{apiVersion: cert-manager.io/v1, kind: Certificate, spec: {secretName: web-tls, dnsNames: [bhs.example.org], issuerRef: {kind: ClusterIssuer, name: acme}}}`,
	"PodMonitor":      `{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, spec: {selector: {matchLabels: {app: a}}, podMetricsEndpoints: [{port: metrics}]}}`,
	"IngressRoute":    "{apiVersion: traefik.io/v1alpha1, kind: IngressRoute, spec: {routes: [{kind: Rule, match: Host(`bhs.example.org`), services: [{name: orthweb, port: 80}]}]}}",
	"IngressRouteTCP": "{apiVersion: traefik.io/v1alpha1, kind: IngressRouteTCP, spec: {routes: [{match: HostSNI(`*`), services: [{name: orthweb, port: 4242}]}]}}",
	"Cluster":         `{apiVersion: postgresql.cnpg.io/v1, kind: Cluster, spec: {instances: 1, storage: {size: 1Gi}}}`,
	"ObjectStore": `{apiVersion: barmancloud.cnpg.io/v1, kind: ObjectStore, spec: {configuration: {destinationPath: "s3://backups/bhs.example.com",
		s3Credentials: {inheritFromIAMRole: true}}}}`,
	"ServiceAccount":        `{apiVersion: v1, kind: ServiceAccount}`,
	"ConfigMap":             `{apiVersion: v1, kind: ConfigMap}`,
	"PersistentVolumeClaim": `{apiVersion: v1, kind: PersistentVolumeClaim, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`,
	"bound claim": `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: bound}, spec: {volumeName: pv-1, accessModes: [ReadWriteOnce],
		resources: {requests: {storage: 1Gi}}}}`,
	"Service of a cloud": `{apiVersion: v1, kind: Service, metadata: {annotations: {loadbalancer.openstack.org/load-balancer-id: own}}, spec: {ports: [{port: 80}]}}`,
	"HelmRelease": `{apiVersion: helm.toolkit.fluxcd.io/v2, kind: HelmRelease, spec: {interval: 1h, serviceAccountName: helm-applier,
		chartRef: {kind: OCIRepository, name: istio-ingress}}}`,
	"OCIRepository": `{apiVersion: source.toolkit.fluxcd.io/v1, kind: OCIRepository, spec: {interval: 1h, url: "oci://ghcr.io/istio/release/charts/gateway"}}`,
	"layer": `{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {labels: {korthweb.digihunch.com/tenant: bhs}},
		spec: {interval: 1h, prune: true, serviceAccountName: bhs-applier, sourceRef: {kind: ExternalArtifact, name: bhs}, path: ./dependency, wait: true}}`,
	"binding": `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {labels: {korthweb.digihunch.com/tenant: bhs}},
		subjects: [{kind: ServiceAccount, namespace: flux-system, name: bhs-applier}],
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: korthweb-kustomize-applier}}`,
	"Namespace": `{apiVersion: v1, kind: Namespace, metadata: {labels: {korthweb.digihunch.com/tenant: new,
		app.kubernetes.io/managed-by: korthweb, pod-security.kubernetes.io/enforce: restricted}}}`,
	"plain Namespace": `{apiVersion: v1, kind: Namespace, metadata: {labels: {team: radiology}}}`,
	"plain Secret":    `{apiVersion: v1, kind: Secret}`,
	"Tenant":          `{apiVersion: korthweb.digihunch.com/v1alpha1, kind: Tenant, spec: {domain: attempt.example.org}}`,
	"held Tenant": `{apiVersion: korthweb.digihunch.com/v1alpha1, kind: Tenant, metadata: {finalizers: [korthweb.digihunch.com/finalizer],
		annotations: {korthweb.digihunch.com/remove: main@sha1:1}}, spec: {domain: attempt.example.org}}`,
	"ControllerRevision": `{apiVersion: apps/v1, kind: ControllerRevision, metadata: {labels: {app: a}}, revision: 1, data: {a: b}}`,
	"last good state":    `{apiVersion: apps/v1, kind: ControllerRevision, metadata: {labels: {korthweb.digihunch.com/tenant: bhs}}, revision: 1, data: {a: b}}`,
}

// base returns an object of bases, with a name.
func base(g Gomega, key, namespace string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	g.Expect(bases).To(HaveKey(key))
	g.Expect(yaml.Unmarshal([]byte(bases[key]), &u.Object)).To(Succeed())
	if u.GetName() == "" {
		u.SetName(strings.ReplaceAll(strings.ToLower(key), " ", "-") + "-attempt")
	}
	if u.GetKind() != "Namespace" {
		u.SetNamespace(namespace)
	}
	return u
}

// changed returns the object with the attempt's change, and the change as JSON.
func (a attempt) changed(g Gomega, u *unstructured.Unstructured) (*unstructured.Unstructured, []byte) {
	change, err := yaml.YAMLToJSON([]byte("{" + a.change + "}"))
	g.Expect(err).NotTo(HaveOccurred())
	out, fields := u.DeepCopy(), map[string]any{}
	g.Expect(json.Unmarshal(change, &fields)).To(Succeed())
	merge(out.Object, fields)
	return out, change
}

// merge changes an object as a merge patch does.
func merge(object, change map[string]any) {
	for key, value := range change {
		inner, isObject := value.(map[string]any)
		switch {
		case value == nil:
			delete(object, key)
		case isObject:
			if _, ok := object[key].(map[string]any); !ok {
				object[key] = map[string]any{}
			}
			merge(object[key].(map[string]any), inner)
		default:
			object[key] = value
		}
	}
}

// tryAll tries each attempt as a creation, as a change by patch, and as server-side apply over what stands.
func tryAll(t *testing.T, config *rest.Config, attempts []attempt) {
	admin := newClient(NewWithT(t), config, "")
	standing := map[string]*unstructured.Unstructured{}
	for _, a := range attempts {
		t.Run(a.object+"/"+a.name, func(t *testing.T) {
			g := NewWithT(t)
			if a.user == "" {
				a.user = applier
			}
			if a.namespace == "" {
				a.namespace = tenantNamespace
			}
			c := newClient(g, config, a.user)
			before := base(g, a.object, a.namespace)
			after, change := a.changed(g, before)
			created := after.DeepCopy()
			if created.GetKind() != "NetworkPolicy" {
				created.SetGenerateName(created.GetName() + "-")
				created.SetName("")
			}
			if !a.onlyChange {
				if err := c.Create(t.Context(), created, client.DryRunAll); a.creation || !apierrors.IsAlreadyExists(err) {
					expect(g, err, a.denied)
				}
			}
			if a.creation {
				return
			}
			key := a.object + "/" + a.namespace
			if standing[key] == nil {
				stood := before.DeepCopy()
				creator := admin
				if before.GetKind() == "Tenant" || before.GetKind() == "ControllerRevision" {
					creator = newClient(g, config, korthweb)
				}
				if err := creator.Create(t.Context(), stood); !apierrors.IsAlreadyExists(err) {
					g.Expect(err).NotTo(HaveOccurred())
				}
				standing[key] = stood
			}
			err := c.Patch(t.Context(), standing[key].DeepCopy(), client.RawPatch(types.MergePatchType, change), client.DryRunAll)
			expect(g, err, a.denied)
			// Server-side apply takes nothing out that another applied.
			if strings.Contains(a.change, "null") {
				return
			}
			applied := after.DeepCopy()
			err = c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(applied), client.FieldOwner("kustomize-controller"), client.ForceOwnership, client.DryRunAll)
			expect(g, err, a.denied)
		})
	}
}

// awaitPolicies returns when each policy has denied something.
func awaitPolicies(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	for _, probe := range []attempt{
		{object: "HelmRelease", change: `spec: {serviceAccountName: x}`},
		{object: "Namespace", user: person},
		{object: "Service", change: `spec: {externalIPs: [192.0.2.9]}`},
		{object: "Gateway", change: `spec: {selector: {istio: x}}`},
		{object: "Secret", change: `type: kubernetes.io/service-account-token`},
		{object: "NetworkPolicy", user: helmApplier},
		{object: "Deployment", change: `spec: {template: {spec: {nodeName: x}}}`},
		{object: "Deployment", change: `spec: {template: {spec: {containers: [{name: a, image: x}]}}}`},
		{object: "Job", change: `spec: {template: {spec: {containers: [{name: a, image: x}]}}}`},
		{object: "Pod", change: `spec: {nodeName: x}`, user: person},
		{object: "Cluster", change: `spec: {priorityClassName: system-node-critical}`},
		{object: "Cluster", change: `spec: {externalClusters: [{name: x}]}`},
		{object: "PersistentVolumeClaim", change: `spec: {volumeName: x}`},
		{object: "ConfigMap", change: `metadata: {annotations: {example.org/x: x}}`},
		{object: "layer", change: `spec: {serviceAccountName: x}`, user: korthweb},
		{object: "held Tenant", user: person},
		{object: "last good state", user: person, namespace: otherNamespace},
	} {
		if probe.user == "" {
			probe.user = applier
		}
		if probe.namespace == "" {
			probe.namespace = tenantNamespace
		}
		c := newClient(g, config, probe.user)
		g.Eventually(func() error {
			u, _ := probe.changed(g, base(g, probe.object, probe.namespace))
			return c.Create(t.Context(), u, client.DryRunAll)
		}, 30*time.Second, 200*time.Millisecond).Should(MatchError(ContainSubstring("ValidatingAdmissionPolicy")), fmt.Sprint(probe))
	}
}
