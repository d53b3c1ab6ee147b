// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/test/variants"
)

// openExamples are values in YAML for the places that patches may change: by kind, and name, and place; or else by the
// last field of the place.
var openExamples = map[string]string{
	"note": `x`, "proxyCPU": `200m`, "proxyCPULimit": `"1"`, "proxyMemory": `256Mi`, "proxyMemoryLimit": `1Gi`, "logLevel": `debug`,
	"componentLogLevel": `misc:error`, "use": `"true"`, "role-arn": `arn:aws:iam::1:role/x`, "gcp-service-account": `x@y.iam.gserviceaccount.com`,
	"client-id": `x`, "tenant-id": `x`,

	"affinity":         `{nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}}}`,
	"imagePullSecrets": `[{name: registry}]`, "nodeSelector": `{disk: ssd}`, "priorityClassName": `imaging`, "terminationGracePeriodSeconds": `120`,
	"tolerations": `[{key: imaging, operator: Exists}]`, "topologySpreadConstraints": `[{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]`,
	"imagePullPolicy": `Always`, "resources": `{limits: {memory: 4Gi}}`, "minReadySeconds": `5`, "progressDeadlineSeconds": `900`,
	"revisionHistoryLimit": `5`, "replicas": `2`, "replicaCount": `2`, "updateStrategy": `{type: RollingUpdate}`,
	"autoscaling": `{maxReplicas: 7}`, "podDisruptionBudget": `{maxUnavailable: 2}`,

	"fsGroup": `1000`, "fsGroupChangePolicy": `Always`, "runAsGroup": `1000`, "runAsNonRoot": `true`, "runAsUser": `1000`,
	"seccompProfile": `{type: Localhost, localhostProfile: orthanc.json}`, "supplementalGroups": `[1000]`,
	"failureThreshold": `600`, "periodSeconds": `5`, "timeoutSeconds": `9`,
	"Deployment spec.template.spec.containers[].image":           `orthancteam/orthanc:26.8.1`,
	"Deployment spec.template.spec.containers[].env[+]":          `{name: TZ, value: America/Toronto}`,
	"Deployment spec.template.spec.containers[].volumeMounts[+]": `{name: tmp, mountPath: /mnt/x}`,
	"Deployment spec.template.spec.containers[+]":                `{name: x, image: orthancteam/orthanc, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}`,
	"Deployment spec.template.spec.initContainers[+]":            `{name: x, image: orthancteam/orthanc, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}`,
	"Deployment spec.template.spec.volumes[+].name":              `x`,
	"sizeLimit": `90Gi`, "configMap": `{name: site-ca}`, "secret": `{secretName: site}`, "emptyDir": `{}`, "persistentVolumeClaim": `{claimName: x}`,

	"behavior": `{scaleDown: {stabilizationWindowSeconds: 600}}`, "maxUnavailable": `2`, "unhealthyPodEvictionPolicy": `AlwaysAllow`,
	"PodDisruptionBudget spec.minAvailable": `1`,
	"externalTrafficPolicy":                 `Cluster`, "internalTrafficPolicy": `Local`, "ipFamilies": `[IPv4]`, "ipFamilyPolicy": `SingleStack`,
	"loadBalancerSourceRanges": `[198.51.100.0/24]`, "sessionAffinity": `ClientIP`, "trafficDistribution": `PreferClose`,
	"sessionAffinityConfig": `{clientIP: {timeoutSeconds: 60}}`,

	"interval": `10m`, "timeout": `9m`, "maxHistory": `3`, "accessLog": `{enabled: false}`, "log": `{level: DEBUG}`,
	"HelmRelease/traefik spec.values.image": `{registry: docker.io, repository: library/traefik}`, "imageRegistry": `registry.example.com`,
	"allowInsecureImages": `true`, "image": `{repository: bitnamilegacy/x}`,

	"algorithm": `RSA`, "encoding": `PKCS8`, "size": `4096`,

	"Cluster spec.affinity": `{nodeSelector: {disk: ssd}, tolerations: [{key: imaging, operator: Exists}]}`, "description": `x`,
	"ephemeralVolumesSizeLimit": `{shm: 1Gi}`, "failoverDelay": `5`, "imageName": `ghcr.io/cloudnative-pg/postgresql:18.4-system-trixie`,
	"maxSyncReplicas": `1`, "minSyncReplicas": `1`, "customQueriesConfigMap": `[{name: q, key: q}]`, "nodeMaintenanceWindow": `{inProgress: true}`,
	"parameters": `{work_mem: 8MB}`, "shared_preload_libraries": `[pg_stat_statements]`, "synchronous": `{method: any, number: 1}`,
	"primaryUpdateMethod": `switchover`, "primaryUpdateStrategy": `supervised`, "probes": `{startup: {failureThreshold: 60}}`,
	"smartShutdownTimeout": `60`, "startDelay": `600`, "stopDelay": `600`, "switchoverDelay": `600`,
	"data": `{compression: gzip}`, "wal": `{compression: gzip}`,

	"VirtualService spec.http[].timeout": `60s`, "retries": `{attempts: 2}`, "connectionPool": `{tcp: {maxConnections: 10}}`,
	"loadBalancer": `{simple: ROUND_ROBIN}`, "outlierDetection": `{consecutive5xxErrors: 5}`, "scrapeTimeout": `5s`,
}

// openWith are further operations, without which Kubernetes refuses a value whatever the policies say.
var openWith = map[string]map[string]any{
	"sessionAffinityConfig": {"op": "add", "path": "/spec/sessionAffinity", "value": "ClientIP"},
	"minAvailable":          {"op": "remove", "path": "/spec/maxUnavailable"},
}

// facility is a tenant of a variant, and its bundle.
type facility struct {
	tenant *v1alpha1.Tenant
	bundle *render.Bundle
}

// testOpenPlaces holds that what the renderer lets patches change passes admission: in the bundle, and in a workload such
// as the charts make of their values.
func testOpenPlaces(t *testing.T, config *rest.Config) {
	g := NewWithT(t)
	r, err := render.New(bundles.FS)
	g.Expect(err).NotTo(HaveOccurred())
	var facilities []facility
	for _, v := range variants.All() {
		switch v.Name {
		case "default", "traefik", "bitnami", "backup", "autoscaling", "several", "monitoring", "egress-gateway+peers":
			tenant := v.Tenant("bhs")
			tenant.Spec.Domain, tenant.Spec.Ingress.Web.Host, tenant.Spec.Ingress.DICOM.Host = "bhs.example.org", "bhs.example.org", "dicom.bhs.example.org"
			bundle, err := r.Render(tenant)
			g.Expect(err).NotTo(HaveOccurred())
			facilities = append(facilities, facility{tenant, bundle})
		}
	}
	g.Expect(facilities).To(HaveLen(8))
	used := map[string]bool{}
	open := render.OpenToPatches()
	for _, kind := range slices.Sorted(maps.Keys(open)) {
		places := open[kind]
		if !strings.Contains(kind, "/") {
			places = append(places, "metadata.labels.note")
			if kind != "Service" {
				places = append(places, "metadata.annotations.note")
			}
		}
		for _, place := range places {
			t.Run(kind+"/"+place, func(t *testing.T) {
				g := NewWithT(t)
				segments := splitPlace(place)
				last := segments[len(segments)-1]
				example := kind + " " + place
				if _, ok := openExamples[example]; !ok {
					example = last[strings.LastIndex(last, "/")+1:]
				}
				used[example] = true
				text, ok := openExamples[example]
				g.Expect(ok).To(BeTrue(), "openExamples needs a value for %s", example)
				var value any
				g.Expect(yaml.Unmarshal([]byte(text), &value)).To(Succeed())
				apply := func(user string, u *unstructured.Unstructured) error {
					applied := client.ApplyConfigurationFromUnstructured(u)
					return newClient(g, config, user).Apply(t.Context(), applied, client.FieldOwner("x"), client.ForceOwnership, client.DryRunAll)
				}
				// What Kubernetes itself has against it, such as a field of a load balancer elsewhere, another object may take.
				var others error
				accepted := slices.ContainsFunc(patched(g, r, facilities, kind, segments, value), func(u *unstructured.Unstructured) bool {
					err := apply(applier, u)
					g.Expect(apierrors.IsForbidden(err)).To(BeFalse(), "%v", err)
					others = errors.Join(others, err)
					return err == nil
				})
				g.Expect(accepted).To(BeTrue(), "no object takes it: %v", others)
				if strings.HasPrefix(kind, "HelmRelease/") {
					expect(g, apply(helmApplier, ofChart(g, last, value)), "")
				}
			})
		}
	}
	g.Expect(slices.Sorted(maps.Keys(used))).To(Equal(slices.Sorted(maps.Keys(openExamples))), "examples of places that are open")
}

// splitPlace returns the fields of a place, and [] and [+]. A label or annotation is one.
func splitPlace(place string) (segments []string) {
	place = strings.ReplaceAll(place, "[", ".[")
	for place != "" {
		field, rest, _ := strings.Cut(place, ".")
		segments, place = append(segments, field), rest
		if field == "labels" || field == "annotations" || field == "podAnnotations" {
			return append(segments, rest)
		}
	}
	return segments
}

// patched returns the objects of the kind, and name, that have the place, with the value there by a patch.
func patched(g Gomega, r *render.Renderer, facilities []facility, kind string, segments []string, value any) (all []*unstructured.Unstructured) {
	kind, name, _ := strings.Cut(kind, "/")
	for _, f := range facilities {
		for i, layer := range f.bundle.Layers {
			for j, o := range layer.Objects {
				if o.Kind != kind || name != "" && o.Name != name {
					continue
				}
				object := map[string]any{}
				g.Expect(yaml.Unmarshal(o.YAML(), &object)).To(Succeed())
				path, put, ok := addition(object, segments, value)
				if !ok {
					continue
				}
				operations := []any{map[string]any{"op": "add", "path": path, "value": put}}
				if with, ok := openWith[segments[len(segments)-1]]; ok {
					operations = append(operations, with)
				}
				text, err := json.Marshal(operations)
				g.Expect(err).NotTo(HaveOccurred())
				tenant := f.tenant.DeepCopy()
				tenant.Spec.Patches = []v1alpha1.Patch{{Patch: string(text), Target: &v1alpha1.PatchTarget{Kind: v1alpha1.PatchPattern(kind), Name: v1alpha1.PatchPattern(o.Name)}}}
				after, err := r.Render(tenant)
				g.Expect(err).NotTo(HaveOccurred())
				u := &unstructured.Unstructured{}
				g.Expect(yaml.Unmarshal(after.Layers[i].Objects[j].YAML(), &u.Object)).To(Succeed())
				g.Expect(u.GetNamespace()).To(Equal(tenantNamespace))
				all = append(all, u)
			}
		}
	}
	return all
}

// addition returns where in an object something is put so that the value stands at the place, and what: the value in the
// fields that are not there yet. It returns false where the place is in an item of a list that is not there.
func addition(object any, segments []string, value any) (path string, put any, ok bool) {
	for i, segment := range segments {
		items, _ := object.([]any)
		fields, _ := object.(map[string]any)
		switch next, exists := fields[segment]; {
		case segment == "[]":
			item := slices.IndexFunc(items, func(item any) bool { _, ok := item.(map[string]any)[segments[i+1]]; return ok })
			if item < 0 && len(items) > 0 && segments[i+1] != "emptyDir" {
				item = 0
			}
			if item < 0 {
				return "", nil, false
			}
			path, object = path+"/"+strconv.Itoa(item), items[item]
		case segment == "[+]":
			return path + "/-", nest(segments[i+1:], value), true
		case !exists:
			if slices.Contains(segments[i:], "[]") {
				return "", nil, false
			}
			return path + "/" + strings.ReplaceAll(segment, "/", "~1"), nest(segments[i+1:], value), true
		default:
			path, object = path+"/"+strings.ReplaceAll(segment, "/", "~1"), next
			was, isMap := next.(map[string]any)
			more, isMore := value.(map[string]any)
			if i == len(segments)-1 && isMap && isMore {
				all := maps.Clone(was)
				maps.Copy(all, more)
				value = all
			}
		}
	}
	return path, value, true
}

// nest returns the value in the fields and lists of the segments. A new volume has a name and a type.
func nest(segments []string, value any) any {
	for _, segment := range slices.Backward(segments) {
		switch segment {
		case "[+]":
			value = []any{value}
		case "configMap", "secret", "emptyDir", "persistentVolumeClaim":
			value = map[string]any{segment: value, "name": "x"}
		case "name":
			value = map[string]any{segment: value, "emptyDir": map[string]any{}}
		default:
			value = map[string]any{segment: value}
		}
	}
	return value
}

// ofChart returns a workload with a value that charts put into the template of one under the same name.
func ofChart(g Gomega, field string, value any) *unstructured.Unstructured {
	u := base(g, "Deployment", tenantNamespace)
	switch {
	case strings.Contains(field, "/"):
		g.Expect(unstructured.SetNestedField(u.Object, value, "spec", "template", "metadata", "annotations", field)).To(Succeed())
	case slices.Contains([]string{"affinity", "imagePullSecrets", "nodeSelector", "priorityClassName", "terminationGracePeriodSeconds",
		"tolerations", "topologySpreadConstraints"}, field):
		u.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)[field] = value
	}
	return u
}
