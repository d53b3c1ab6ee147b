// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// openKinds are those that a patch may touch. Any other kind is closed: it keeps others out of the tenant's namespace,
// gives rights in it, or is made of what the Tenant has fields for.
var openKinds = []string{
	"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "PersistentVolumeClaim", "Service", "ServiceAccount",
	"HelmRelease", "OCIRepository", "Certificate", "Issuer", "Cluster", "ScheduledBackup", "ObjectStore",
	"Gateway", "VirtualService", "DestinationRule", "Sidecar", "IngressRoute", "IngressRouteTCP",
	"PodMonitor", "ServiceMonitor", "PrometheusRule",
}

// insteadOf says, for a closed kind, which field of the Tenant is meant for the purpose.
var insteadOf = map[string]string{
	"ConfigMap":     "Orthanc's options go into spec.orthanc.config",
	"LimitRange":    "its bounds are those of spec.quota.containers",
	"ResourceQuota": "its limits are those of spec.quota.hard",
	"ServiceEntry":  "hosts to reach go into spec.ingress.egress.hosts",
	"TLSOption":     "spec.ingress.dicom.clientCertificates says who must show a certificate",
}

// fixedFields are the fields, in lower case, that a patch may not touch: the identity to act as (without one, a
// Flux controller acts as itself) and its token, who may see a service or route, the label by which an Istio Gateway
// finds its pods, which is not bound to a namespace, addresses and names that could be another's, the node, and "<<",
// by which YAML says a field without its name.
var fixedFields = []string{
	"serviceaccountname", "serviceaccount", "automountserviceaccounttoken", "kubeconfig", "exportto", "istio",
	"externalips", "externalname", "loadbalancerip", "delegate",
	"hostpath", "hostnetwork", "hostpid", "hostipc", "<<",
}

// fixedPaths are the places, in lower case, that a patch may not touch in an object of a kind: where a chart comes
// from and what happens to it, which is the Tenant's to say, the gateways of a route, which is every sidecar's without
// them, the headers of its answers, and what a sidecar lets out and in. So are the number of Orthanc's pods and how they
// are replaced, on which their identifiers and the database's connections depend, and the volumes, which cannot change.
var fixedPaths = map[string][]string{
	"Deployment":              {"spec.replicas", "spec.strategy"},
	"HorizontalPodAutoscaler": {"spec.minreplicas", "spec.maxreplicas", "spec.scaletargetref"},
	"PersistentVolumeClaim":   {"spec.accessmodes", "spec.storageclassname", "spec.resources"},
	"Cluster": {
		"spec.postgresql.parameters.max_connections", "spec.storage.size", "spec.storage.storageclass",
	},
	"HelmRelease": {
		"spec.chart", "spec.chartref", "spec.valuesfrom", "spec.postrenderers", "spec.install.crds", "spec.upgrade.crds",
	},
	"OCIRepository": {
		"spec.url", "spec.insecure", "spec.provider", "spec.secretref", "spec.certsecretref", "spec.proxysecretref",
	},
	"VirtualService": {"spec.gateways", "spec.http.headers", "spec.http.route.headers"},
	"Sidecar":        {"spec.outboundtrafficpolicy", "spec.workloadselector", "spec.ingress"},
}

// tunable are the only places, in lower case, that a patch may touch below a root in an object of a kind. The rest
// there is TLS, certificates, access to the database, or a door to more: a chart can be told to run anything.
// An image may be changed, for registries of one's own: who may patch chooses Orthanc's image and the chart anyway.
var tunable = map[string]struct {
	root  string
	paths []string
}{
	"HelmRelease": {"spec.values", append(slices.Concat(
		chartValues(""), chartValues("postgresql."), chartValues("pgpool."), chartValues("deployment.")),
		"spec.values.log", "spec.values.accesslog", "spec.values.deployment.replicas", "spec.values.deployment.minreadyseconds",
		"spec.values.metrics.image", "spec.values.metrics.resources", "spec.values.volumepermissions.image",
		"spec.values.global.imageregistry", "spec.values.global.imagepullsecrets", "spec.values.global.security.allowinsecureimages",
		"spec.values.service.annotations", "spec.values.service.loadbalancersourceranges",
		"spec.values.service.externaltrafficpolicy", "spec.values.service.ipfamilies", "spec.values.service.ipfamilypolicy",
	)},
	"Certificate": {"spec", []string{
		"spec.duration", "spec.renewbefore", "spec.renewbeforepercentage", "spec.revisionhistorylimit",
		"spec.privatekey.algorithm", "spec.privatekey.size", "spec.privatekey.encoding",
	}},
	"Cluster": {"spec", []string{
		"spec.affinity", "spec.description", "spec.ephemeralvolumessizelimit", "spec.failoverdelay", "spec.imagecatalogref",
		"spec.imagename", "spec.imagepullpolicy", "spec.imagepullsecrets", "spec.inheritedmetadata", "spec.instances",
		"spec.livenessprobetimeout", "spec.loglevel", "spec.maxsyncreplicas", "spec.minsyncreplicas", "spec.monitoring",
		"spec.nodemaintenancewindow", "spec.postgresql.parameters", "spec.postgresql.shared_preload_libraries",
		"spec.postgresql.synchronous", "spec.primaryupdatemethod", "spec.primaryupdatestrategy", "spec.priorityclassname",
		"spec.probes", "spec.resources", "spec.schedulername", "spec.serviceaccounttemplate", "spec.smartshutdowntimeout",
		"spec.startdelay", "spec.stopdelay", "spec.storage", "spec.switchoverdelay", "spec.topologyspreadconstraints",
		"spec.walstorage",
	}},
	"ObjectStore": {"spec", []string{
		"spec.configuration.data", "spec.configuration.wal", "spec.instancesidecarconfiguration.resources",
	}},
	"Service": {"spec", []string{
		"spec.externaltrafficpolicy", "spec.internaltrafficpolicy", "spec.ipfamilies", "spec.ipfamilypolicy",
		"spec.loadbalancersourceranges", "spec.sessionaffinity", "spec.sessionaffinityconfig", "spec.trafficdistribution",
	}},
	"DestinationRule": {"spec", []string{
		"spec.trafficpolicy.connectionpool", "spec.trafficpolicy.loadbalancer", "spec.trafficpolicy.outlierdetection",
	}},
	"Issuer":          {"spec", nil},
	"Gateway":         {"spec", nil},
	"IngressRoute":    {"spec", nil},
	"IngressRouteTCP": {"spec", nil},
}

// chartValues are the values of a chart, or of a part of it, that say how its pods are sized, placed and pulled.
func chartValues(part string) []string {
	values := []string{
		"affinity", "autoscaling", "image", "imagepullpolicy", "imagepullsecrets", "nodeselector", "podannotations",
		"poddisruptionbudget", "priorityclassname", "replicacount", "resources", "terminationgraceperiodseconds",
		"tolerations", "topologyspreadconstraints", "updatestrategy",
	}
	for i, v := range values {
		values[i] = "spec.values." + part + v
	}
	return values
}

// fixedPrefixes begin the labels and annotations that a patch may not touch: those that Korthweb, and those that
// kustomize, Flux and Istio, take instructions from. Some let a pod, or a port of it, out of the mesh.
var fixedPrefixes = []string{
	v1alpha1.LabelPrefix, "config.kubernetes.io/", "internal.config.kubernetes.io/", "kustomize.config.k8s.io/",
	"kustomize.toolkit.fluxcd.io/", "networking.istio.io/exportTo", "sidecar.istio.io/", "traffic.sidecar.istio.io/",
	"inject.istio.io/", "proxy.istio.io/", "ambient.istio.io/", "istio.io/",
}

// sizePrefixes begin the annotations of Istio that only say how large its proxies are and how much they log.
var sizePrefixes = []string{
	"sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyMemory", "sidecar.istio.io/logLevel", "sidecar.istio.io/componentLogLevel",
}

// caSecret holds the key of the tenant's CA. It is cert-manager's alone: a patch may not name it anywhere.
const caSecret = "tenant-ca"

// isTemplate tells whether text may be a template of Helm. Charts run some of their values as templates (Traefik's:
// annotations and affinity of its pods), with the rights of the tenant's helm-applier, who reads every Secret there.
func isTemplate(kind, text string) bool { return kind == "HelmRelease" && strings.Contains(text, "{{") }

// isFixed tells whether a patch may not touch a field, by its name, its path or what it holds.
func isFixed(kind, key, path string, value *yaml.Node) bool {
	hasPrefix := func(prefix string) bool { return strings.HasPrefix(key, prefix) }
	path = strings.ToLower(path)
	return slices.Contains(fixedFields, strings.ToLower(key)) ||
		slices.ContainsFunc(fixedPrefixes, hasPrefix) && !slices.ContainsFunc(sizePrefixes, hasPrefix) ||
		slices.Contains(fixedPaths[kind], path) ||
		value.Value == caSecret ||
		!isTunable(kind, path) && (value.Kind != yaml.MappingNode || len(value.Content) == 0)
}

// isTunable tells whether a patch may touch a path in lower case, as far as tunable says.
func isTunable(kind, path string) bool {
	t, ok := tunable[kind]
	return !ok || !isWithin(path, t.root) ||
		slices.ContainsFunc(t.paths, func(open string) bool { return isWithin(path, open) })
}

// isWithin tells whether a path is another or below it.
func isWithin(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (rest == "" || rest[0] == '.')
}
