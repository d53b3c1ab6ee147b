// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/test/variants"
)

var databaseFieldAttempts = []attempt{
	{name: "as it is", object: "Cluster"},
	{name: "as the bundle has it", object: "Cluster", change: `spec: {bootstrap: {initdb: {database: orthanc, owner: orthanc, dataChecksums: true, postInitApplicationSQL: [CREATE EXTENSION IF NOT EXISTS pg_trgm]}},
		plugins: [{name: barman-cloud.cloudnative-pg.io, isWALArchiver: true, parameters: {barmanObjectName: postgres}}], postgresql: {pg_hba: [hostnossl all all all reject], parameters: {max_connections: "200"},
		syncReplicaElectionConstraint: {enabled: false}},
		monitoring: {customQueriesConfigMap: [{name: q, key: q}]}}`},
	{name: "another's backup", object: "Cluster", change: `spec: {bootstrap: {recovery: {source: x}}}`, denied: "spec.bootstrap.recovery: expected none by what Flux applies"},
	{name: "another's database", object: "Cluster", change: `spec: {bootstrap: {initdb: {import: {type: microservice, databases: [orthanc], source: {externalCluster: x}}}}}`, denied: "spec.bootstrap.initdb.import"},
	{name: "another's server", object: "Cluster", change: `spec: {externalClusters: [{name: x, barmanObjectStore: {destinationPath: "s3://mhr-backups/x", s3Credentials: {inheritFromIAMRole: true}}}]}`, denied: "spec.externalClusters: expected none"},
	{name: "backups of the old kind", object: "Cluster", change: `spec: {backup: {barmanObjectStore: {destinationPath: "s3://mhr-backups/x", s3Credentials: {inheritFromIAMRole: true}}}}`, denied: "spec.backup"},
	{name: "variables of its pods", object: "Cluster", change: `spec: {env: [{name: AWS_CA_BUNDLE, value: x}]}`, denied: "spec.env"},
	{name: "an identity in the cloud", object: "Cluster", change: `spec: {serviceAccountTemplate: {metadata: {annotations: {}}}}`, denied: "spec.serviceAccountTemplate"},
	{name: "metrics from elsewhere", object: "Cluster", change: `spec: {monitoring: {podMonitorRelabelings: [{targetLabel: __address__, replacement: x}]}}`, denied: "spec.monitoring.podMonitorRelabelings"},
	{name: "a directory of others", object: "Cluster", change: `spec: {postgresql: {ldap: {server: evil.example.org}}}`, denied: "spec.postgresql.ldap"},
	{name: "another plugin", object: "Cluster", change: `spec: {plugins: [{name: evil.example.org}]}`, denied: "spec.plugins: expected those that the platform lists"},
	{name: "another server's backups", object: "Cluster", change: `spec: {plugins: [{name: barman-cloud.cloudnative-pg.io, parameters: {barmanObjectName: postgres, serverName: mhr}}]}`, denied: "spec.plugins"},
	{name: "a restore by a person", user: person, object: "Cluster", change: `spec: {bootstrap: {recovery: {source: x}}, externalClusters: [{name: x, plugin: {name: barman-cloud.cloudnative-pg.io, parameters: {barmanObjectName: postgres}}}]}`},

	{name: "as the bundle has it", object: "ObjectStore", change: `spec: {configuration: {wal: {compression: gzip}}}`},
	{name: "another's backups", object: "ObjectStore", change: `spec: {configuration: {destinationPath: "s3://backups/mhr.example.com"}}`, denied: "spec.configuration.destinationPath: expected where the tenant's own backups go"},
	{name: "all backups", object: "ObjectStore", change: `spec: {configuration: {destinationPath: "s3://backups"}}`, denied: "spec.configuration.destinationPath"},
	{name: "a path before Korthweb wrote whose it is", namespace: earlierNamespace, object: "ObjectStore"},
	{name: "another path by a person", user: person, object: "ObjectStore", change: `spec: {configuration: {destinationPath: "s3://backups/old"}}`},
}

var claimAttempts = []attempt{
	{name: "as the bundle has it", object: "PersistentVolumeClaim"},
	{name: "of a class", object: "PersistentVolumeClaim", change: `spec: {storageClassName: fast, volumeMode: Filesystem}`, creation: true},
	{name: "another's volume", object: "PersistentVolumeClaim", change: `spec: {volumeName: pv-of-mhr}`, denied: "spec.volumeName: expected none in a claim of a tenant"},
	{name: "another's volume by a chart", user: helmApplier, object: "PersistentVolumeClaim", change: `spec: {volumeName: pv-of-mhr}`, denied: "spec.volumeName"},
	{name: "another's volume by its labels", object: "PersistentVolumeClaim", change: `spec: {selector: {matchLabels: {tenant: mhr}}}`, creation: true, denied: "spec.selector: expected none"},
	{name: "a snapshot of its own", object: "PersistentVolumeClaim", change: `spec: {dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: x}}`, creation: true},
	{name: "bound by Kubernetes", user: person, object: "PersistentVolumeClaim", change: `spec: {volumeName: pv-1}`},
	{name: "bound before", object: "bound claim", change: `metadata: {labels: {a: b}}`, onlyChange: true},
	{name: "without one", user: helmApplier, object: "StatefulSet", change: `spec: {volumeClaimTemplates: [{metadata: {name: d}, spec: {storageClassName: fast, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}`, creation: true},
	{name: "another's volume", user: helmApplier, object: "StatefulSet", change: `spec: {volumeClaimTemplates: [{metadata: {name: d}, spec: {volumeName: pv-of-mhr, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}`, creation: true,
		denied: "spec.volumeName: expected none in a claim"},
}

var annotationAttempts = []attempt{
	{name: "as the bundle has it", object: "Service", change: `metadata: {annotations: {networking.istio.io/exportTo: ., example.org/owner: imaging, example.org/scheme: internal, note: x}}`},
	{name: "Helm's own", user: helmApplier, object: "Service", change: `metadata: {annotations: {meta.helm.sh/release-name: x, meta.helm.sh/release-namespace: bhs-orthweb}}`},
	{name: "what GKE puts on each", user: helmApplier, object: "Service", change: `metadata: {annotations: {cloud.google.com/neg: '{"ingress":true}'}}`},
	{name: "another's balancer of OpenStack", user: helmApplier, object: "Service", change: `metadata: {annotations: {loadbalancer.openstack.org/load-balancer-id: x}}`, denied: "metadata.annotations: loadbalancer.openstack.org/load-balancer-id is not one that the platform lists or the tenant's definition has"},
	{name: "another's address of AWS", object: "Service", change: `metadata: {annotations: {service.beta.kubernetes.io/aws-load-balancer-eip-allocations: eipalloc-1}}`, denied: "name it in the tenant's ingress.service.annotations"},
	{name: "another's name in DNS", user: ownAccount, object: "Service", change: `metadata: {annotations: {dns.alpha.kubernetes.io/external: mhr.example.org}}`, denied: "metadata.annotations: dns.alpha.kubernetes.io/external"},
	{name: "another's target in DNS", user: helmApplier, object: "Service", change: `metadata: {annotations: {external-dns.alpha.kubernetes.io/target: 198.51.100.1}}`, denied: "metadata.annotations: external-dns.alpha.kubernetes.io/target"},
	{name: "a cloud's own", user: person, object: "Service", change: `metadata: {annotations: {loadbalancer.openstack.org/load-balancer-id: x}}`},
	{name: "before Korthweb wrote whose they are", namespace: earlierNamespace, object: "Service", change: `metadata: {annotations: {loadbalancer.openstack.org/load-balancer-id: x}}`},
	{name: "beside a cloud's own", object: "Service of a cloud", change: `metadata: {annotations: {networking.istio.io/exportTo: .}}`, onlyChange: true},
	{name: "instead of a cloud's own", object: "Service of a cloud", change: `metadata: {annotations: {loadbalancer.openstack.org/load-balancer-id: another}}`, onlyChange: true, denied: "metadata.annotations: loadbalancer.openstack.org/load-balancer-id"},

	{name: "as the bundle has it", object: "ServiceAccount", change: `metadata: {annotations: {example.org/owner: imaging, kustomize.toolkit.fluxcd.io/prune: disabled}}`},
	{name: "an identity that a class gives", object: "ServiceAccount", change: `metadata: {annotations: {eks.amazonaws.com/role-arn: "arn:x"}}`},
	{name: "an identity that a chart gives", user: helmApplier, object: "ServiceAccount", change: `metadata: {annotations: {eks.amazonaws.com/role-arn: "arn:x"}}`, denied: "metadata.annotations: eks.amazonaws.com/role-arn is not one"},
	{name: "an identity by an account that a chart made", user: ownAccount, object: "ServiceAccount", change: `metadata: {annotations: {iam.gke.io/gcp-service-account: x}}`, denied: "metadata.annotations: iam.gke.io"},
	{name: "an identity of another kind", object: "ServiceAccount", change: `metadata: {annotations: {vault.hashicorp.com/role: x}}`, denied: "metadata.annotations: vault.hashicorp.com/role"},
	{name: "Helm's own", user: helmApplier, object: "ServiceAccount", change: `metadata: {annotations: {meta.helm.sh/release-name: x}}`},

	{name: "another namespace's", user: helmApplier, object: "plain Secret", change: `metadata: {annotations: {replicator.v1.mittwald.de/replicate-from: mhr-orthweb/orthanc-users}}`, denied: "metadata.annotations: replicator.v1.mittwald.de/replicate-from"},
	{name: "another namespace's", object: "ConfigMap", change: `metadata: {annotations: {reflector.v1.k8s.emberstack.com/reflects: mhr-orthweb/x}}`, denied: "metadata.annotations: reflector"},
	{name: "a note", object: "ConfigMap", change: `metadata: {annotations: {note: x}}`},

	{name: "another pod", object: "Cluster", change: `metadata: {annotations: {cnpg.io/podPatch: '[]'}}`, denied: "metadata.annotations: cnpg.io/podPatch"},
	{name: "what is tried out", object: "Cluster", change: `metadata: {annotations: {alpha.cnpg.io/x: "1"}}`, denied: "metadata.annotations: alpha.cnpg.io/x"},
	{name: "as the bundle has it", object: "Cluster", change: `metadata: {annotations: {kustomize.toolkit.fluxcd.io/prune: disabled, example.org/owner: imaging}}`},
	{name: "a restart by a person", user: person, object: "Cluster", change: `metadata: {annotations: {kubectl.kubernetes.io/restartedAt: "2026-11-24T12:00:00Z"}}`},
}

// allowImaging lists what a platform has for imaging, where nothing is listed, as docs/admission.md says.
func allowImaging(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	admin := newClient(g, config, administrator)
	for name, variables := range map[string][]string{
		"korthweb-pod-templates": {"priorityClasses", "tolerationKeys", "runtimeClasses"},
		"korthweb-databases":     {"priorityClasses", "tolerationKeys"},
	} {
		policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
		g.Expect(admin.Get(t.Context(), client.ObjectKey{Name: name}, policy)).To(Succeed())
		for _, variable := range variables {
			found := false
			for i := range policy.Spec.Variables {
				if v := &policy.Spec.Variables[i]; v.Name == variable {
					g.Expect(v.Expression).To(Equal("[]"), name+" "+variable)
					v.Expression, found = "['imaging']", true
				}
			}
			g.Expect(found).To(BeTrue(), name+" "+variable)
		}
		g.Expect(admin.Update(t.Context(), policy)).To(Succeed())
	}
	c := newClient(g, config, applier)
	for object, change := range map[string]string{
		"Deployment": `spec: {template: {spec: {priorityClassName: imaging}}}`,
		"Cluster":    `spec: {priorityClassName: imaging}`,
	} {
		g.Eventually(func() error {
			u, _ := attempt{change: change}.changed(g, fresh(g, object))
			return c.Create(t.Context(), u, client.DryRunAll)
		}, 30*time.Second, 200*time.Millisecond).Should(Succeed())
	}
}

// testRenderedBundles applies the bundles of variants in which each two values of any two options meet, as
// kustomize-controller does, to namespaces as Korthweb makes them.
func testRenderedBundles(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	admin := newClient(g, config, administrator)
	list := &corev1.ConfigMap{}
	g.Expect(admin.Get(t.Context(), client.ObjectKey{Namespace: platformNamespace, Name: "allowed-registries"}, list)).To(Succeed())
	setRegistries(t, config, list.Data["registries"]+"\nregistry.example.org")
	defer setRegistries(t, config, list.Data["registries"])
	r, err := render.New(bundles.FS)
	g.Expect(err).NotTo(HaveOccurred())
	tried := map[string]bool{}
	for _, v := range variants.Pairwise() {
		t.Run(v.Name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := v.Tenant("rendered")
			tenant.Spec.Namespace = ""
			tenant.SetDefaults()
			ns := emit.Namespace(tenant)
			ns.Name, ns.GenerateName = "", "rendered-"
			g.Expect(admin.Create(t.Context(), ns)).To(Succeed())
			tenant.Spec.Namespace = ns.Name
			bundle, err := r.Render(tenant)
			g.Expect(err).NotTo(HaveOccurred())
			c := newClient(g, config, "system:serviceaccount:flux-system:rendered-applier")
			for _, layer := range bundle.Layers {
				for _, o := range layer.Objects {
					u := &unstructured.Unstructured{}
					g.Expect(yaml.Unmarshal(o.YAML(), &u.Object)).To(Succeed())
					if key := strings.ReplaceAll(string(o.YAML()), ns.Name, ""); tried[key] && o.Kind != "ObjectStore" {
						continue
					} else {
						tried[key] = true
					}
					err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("kustomize-controller"), client.ForceOwnership, client.DryRunAll)
					g.Expect(err).NotTo(HaveOccurred(), o.Kind+"/"+o.Name)
				}
			}
		})
	}
	g.Expect(len(tried)).To(BeNumerically(">", 100))
}
