// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

// everything is a spec that sets each field of the API but those that exclude others of it: autoscaling, S3, an external
// database and Bitnami's chart.
const everything = `className: ""
displayName: Beaverdale Health Services
domain: bhs.orthweb.com
namespace: bhs-orthweb
suspend: true
deletionPolicy: Delete
dependsOn: [{name: infrastructure, namespace: flux-system}]
commonMetadata: {labels: {team: imaging}, annotations: {example.com/contact: pacs@example.com}}
orthanc:
  image: orthancteam/orthanc:26.8.1
  replicas: 2
  resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 4Gi}}
  aeTitle: BHS
  modalities:
  - {name: ct-1, aeTitle: CT1, host: 10.1.2.3, port: 104, permissions: [Echo, Store, Find]}
  plugins: [dicom-web, ohif]
  storage: {type: Volume, size: 500Gi, className: fast, accessMode: ReadWriteMany}
  usersSecretRef: {name: users}
  config: {StableAge: 60, DicomWeb: {StudiesMetadata: MainDicomTags}}
postgres:
  provider: CloudNativePG
  instances: 3
  storage: {size: 20Gi, className: fast}
  resources: {requests: {cpu: 1, memory: 2Gi}, limits: {memory: 2Gi}}
  backup:
    schedule: 0 0 2 * * *
    retentionPolicy: 30d
    destinationPath: s3://backups/bhs
    endpoint: https://minio.example.com:9000
    secretRef: {name: backup}
certificates:
  duration: 2160h
  renewBefore: 720h
  clients: {duration: 8760h, renewBefore: 2160h}
  issuerRef: {group: cert-manager.io, kind: ClusterIssuer, name: acme}
ingress:
  provider: Istio
  web: {host: www.bhs.orthweb.com}
  dicom: {host: dcm.bhs.orthweb.com, port: 2762, clientCertificates: Required}
  egress: {gateway: true, hosts: [{host: pacs.example.com, port: 443, protocol: TLS}]}
  service:
    type: LoadBalancer
    annotations: {example.com/scheme: internal}
    loadBalancerClass: example.com/nlb
    loadBalancerIP: 10.0.0.5
  chart: {url: "oci://registry.example.com/gateway", version: 1.31.1, insecure: true, secretRef: {name: registry}}
quota:
  hard: {pods: 50}
  containers: {default: {memory: 1Gi}, defaultRequest: {memory: 128Mi}, max: {memory: 8Gi}}
monitoring: {provider: PrometheusOperator}
patches:
- patch: |
    - {op: add, path: /metadata/labels/x, value: "y"}
  target: {group: "", version: v1, kind: Service, namespace: bhs-orthweb, name: orthweb, labelSelector: app.kubernetes.io/name=orthanc, annotationSelector: example.com/x}
`

func sorted(set map[string]bool) []string {
	var out []string
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// problemFields are the fields that the problems of a result name.
func problemFields(r *tenant.Result) []string {
	set := map[string]bool{}
	for _, p := range r.Problems {
		set[p.Field] = true
	}
	return sorted(set)
}

func errorFields(errs field.ErrorList) []string {
	set := map[string]bool{}
	for _, err := range errs {
		set[err.Field] = true
	}
	return sorted(set)
}

// representable tells whether the Go type holds a document as it is: it drops fields that are
// explicitly empty, and adds required ones that are missing.
func representable(t *testing.T, typed *v1alpha1.Tenant, object map[string]any) bool {
	t.Helper()
	back, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		t.Fatal(err)
	}
	return sameShape(object["spec"], back["spec"])
}

// sameShape tells whether two JSON values have the same fields, items and texts, whatever these say.
func sameShape(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, _ := b.(map[string]any)
		for key := range a {
			if _, has := b[key]; !has || !sameShape(a[key], b[key]) {
				return false
			}
		}
		return len(a) == len(b)
	case []any:
		b, _ := b.([]any)
		for i := range a {
			if len(a) != len(b) || !sameShape(a[i], b[i]) {
				return false
			}
		}
	default:
		_, text := a.(string)
		_, stillText := b.(string)
		return text == stillText
	}
	return true
}
