// SPDX-License-Identifier: Apache-2.0

package render

import (
	"regexp"
	"slices"
)

// openTo are the kinds that patches may touch, and the places that they may change there, beside labels and annotations
// without a prefix. A chart has its own, by the kind and the release's name: those that its schema knows. Not listed is
// what decides whom an object belongs to, what it reaches, what it keeps, and who is let in: identities, selectors,
// volumes, policies, TLS and authentication. [] is an item that is there, [+] one that a patch adds. Whatever is listed
// must pass admission, which a test of config/policy tries.
var openTo = map[string][]string{
	"Deployment": {
		"spec.minReadySeconds", "spec.progressDeadlineSeconds", "spec.revisionHistoryLimit",
		"spec.template.metadata.annotations.sidecar.istio.io/proxyCPU", "spec.template.metadata.annotations.sidecar.istio.io/proxyCPULimit",
		"spec.template.metadata.annotations.sidecar.istio.io/proxyMemory", "spec.template.metadata.annotations.sidecar.istio.io/proxyMemoryLimit",
		"spec.template.metadata.annotations.sidecar.istio.io/logLevel", "spec.template.metadata.annotations.sidecar.istio.io/componentLogLevel",
		"spec.template.metadata.labels.azure.workload.identity/use",
		"spec.template.spec.affinity", "spec.template.spec.imagePullSecrets", "spec.template.spec.nodeSelector",
		"spec.template.spec.priorityClassName", "spec.template.spec.terminationGracePeriodSeconds",
		"spec.template.spec.securityContext.fsGroup", "spec.template.spec.securityContext.fsGroupChangePolicy",
		"spec.template.spec.securityContext.runAsGroup", "spec.template.spec.securityContext.runAsNonRoot",
		"spec.template.spec.securityContext.runAsUser", "spec.template.spec.securityContext.seccompProfile",
		"spec.template.spec.securityContext.supplementalGroups",
		"spec.template.spec.tolerations", "spec.template.spec.topologySpreadConstraints",
		"spec.template.spec.containers[].image", "spec.template.spec.containers[].imagePullPolicy",
		"spec.template.spec.containers[].resources", "spec.template.spec.containers[].env[+]",
		"spec.template.spec.containers[].volumeMounts[+]",
		"spec.template.spec.containers[].startupProbe.failureThreshold", "spec.template.spec.containers[].startupProbe.periodSeconds",
		"spec.template.spec.containers[].livenessProbe.failureThreshold", "spec.template.spec.containers[].livenessProbe.timeoutSeconds",
		"spec.template.spec.containers[].readinessProbe.failureThreshold", "spec.template.spec.containers[].readinessProbe.timeoutSeconds",
		"spec.template.spec.containers[+]", "spec.template.spec.initContainers[+]",
		"spec.template.spec.volumes[].emptyDir.sizeLimit", "spec.template.spec.volumes[+].name",
		"spec.template.spec.volumes[+].configMap", "spec.template.spec.volumes[+].secret",
		"spec.template.spec.volumes[+].emptyDir", "spec.template.spec.volumes[+].persistentVolumeClaim",
	},
	"HorizontalPodAutoscaler": {"spec.behavior"},
	"PodDisruptionBudget":     {"spec.maxUnavailable", "spec.minAvailable", "spec.unhealthyPodEvictionPolicy"},
	"PersistentVolumeClaim":   nil,
	"Service": {
		"spec.externalTrafficPolicy", "spec.internalTrafficPolicy", "spec.ipFamilies", "spec.ipFamilyPolicy",
		"spec.loadBalancerSourceRanges", "spec.sessionAffinity", "spec.sessionAffinityConfig", "spec.trafficDistribution",
	},
	"ServiceAccount": {
		"imagePullSecrets",
		"metadata.annotations.eks.amazonaws.com/role-arn", "metadata.annotations.iam.gke.io/gcp-service-account",
		"metadata.annotations.azure.workload.identity/client-id", "metadata.annotations.azure.workload.identity/tenant-id",
	},
	"HelmRelease":               {"spec.interval", "spec.timeout", "spec.maxHistory"},
	"HelmRelease/istio-ingress": istioGateway,
	"HelmRelease/istio-egress":  istioGateway,
	"HelmRelease/traefik": {
		"spec.values.accessLog", "spec.values.affinity", "spec.values.autoscaling", "spec.values.deployment.imagePullSecrets",
		"spec.values.deployment.minReadySeconds", "spec.values.deployment.replicas", "spec.values.deployment.terminationGracePeriodSeconds",
		"spec.values.image", "spec.values.log", "spec.values.nodeSelector", "spec.values.podDisruptionBudget", "spec.values.priorityClassName",
		"spec.values.resources", "spec.values.tolerations", "spec.values.topologySpreadConstraints", "spec.values.updateStrategy",
	},
	"HelmRelease/postgres": {
		"spec.values.global.imagePullSecrets", "spec.values.global.imageRegistry", "spec.values.global.security.allowInsecureImages",
		"spec.values.metrics.image", "spec.values.metrics.resources", "spec.values.volumePermissions.image",
		"spec.values.postgresql.affinity", "spec.values.postgresql.image", "spec.values.postgresql.nodeSelector",
		"spec.values.postgresql.priorityClassName", "spec.values.postgresql.terminationGracePeriodSeconds",
		"spec.values.postgresql.tolerations", "spec.values.postgresql.topologySpreadConstraints", "spec.values.postgresql.updateStrategy",
		"spec.values.pgpool.affinity", "spec.values.pgpool.image", "spec.values.pgpool.nodeSelector",
		"spec.values.pgpool.priorityClassName", "spec.values.pgpool.replicaCount", "spec.values.pgpool.resources",
		"spec.values.pgpool.terminationGracePeriodSeconds", "spec.values.pgpool.tolerations",
		"spec.values.pgpool.topologySpreadConstraints", "spec.values.pgpool.updateStrategy",
	},
	"OCIRepository": {"spec.interval", "spec.timeout"},
	"Certificate": {
		"spec.revisionHistoryLimit", "spec.duration", "spec.renewBefore", "spec.renewBeforePercentage",
		"spec.privateKey.algorithm", "spec.privateKey.encoding", "spec.privateKey.size",
	},
	"Issuer": nil,
	"Cluster": {
		"spec.affinity", "spec.description", "spec.ephemeralVolumesSizeLimit", "spec.failoverDelay",
		"spec.imageName", "spec.imagePullPolicy", "spec.imagePullSecrets", "spec.logLevel", "spec.maxSyncReplicas",
		"spec.minSyncReplicas", "spec.monitoring.customQueriesConfigMap", "spec.nodeMaintenanceWindow",
		"spec.postgresql.parameters", "spec.postgresql.shared_preload_libraries", "spec.postgresql.synchronous",
		"spec.primaryUpdateMethod", "spec.primaryUpdateStrategy", "spec.priorityClassName", "spec.probes",
		"spec.smartShutdownTimeout", "spec.startDelay", "spec.stopDelay", "spec.switchoverDelay",
		"spec.topologySpreadConstraints",
	},
	"ScheduledBackup": nil,
	"ObjectStore":     {"spec.configuration.data", "spec.configuration.wal", "spec.instanceSidecarConfiguration.resources"},
	"Gateway":         nil,
	"VirtualService":  {"spec.http[].timeout", "spec.http[].retries"},
	"DestinationRule": {
		"spec.trafficPolicy.connectionPool", "spec.trafficPolicy.loadBalancer", "spec.trafficPolicy.outlierDetection",
	},
	"IngressRoute":    nil,
	"IngressRouteTCP": nil,
	"PodMonitor":      {"spec.podMetricsEndpoints[].interval", "spec.podMetricsEndpoints[].scrapeTimeout"},
}

// istioGateway are the places of Istio's gateway chart. Its image is that of the injector, and so none of them.
var istioGateway = []string{
	"spec.values.affinity", "spec.values.autoscaling", "spec.values.imagePullPolicy", "spec.values.imagePullSecrets",
	"spec.values.nodeSelector", "spec.values.podDisruptionBudget", "spec.values.priorityClassName", "spec.values.replicaCount",
	"spec.values.resources", "spec.values.terminationGracePeriodSeconds", "spec.values.tolerations", "spec.values.topologySpreadConstraints",
	"spec.values.podAnnotations.sidecar.istio.io/proxyCPU", "spec.values.podAnnotations.sidecar.istio.io/proxyCPULimit",
	"spec.values.podAnnotations.sidecar.istio.io/proxyMemory", "spec.values.podAnnotations.sidecar.istio.io/proxyMemoryLimit",
	"spec.values.podAnnotations.sidecar.istio.io/logLevel", "spec.values.podAnnotations.sidecar.istio.io/componentLogLevel",
	"spec.values.service.externalTrafficPolicy", "spec.values.service.ipFamilies", "spec.values.service.ipFamilyPolicy",
	"spec.values.service.loadBalancerSourceRanges",
}

// insteadOf is what to use in place of a patch, by kind and place, mostly a field of the Tenant. "" is the whole kind.
var insteadOf = map[string]map[string]string{
	"ConfigMap":     {"": "spec.orthanc.config for Orthanc's options"},
	"LimitRange":    {"": "spec.quota.containers"},
	"ResourceQuota": {"": "spec.quota.hard"},
	"ServiceEntry":  {"": "spec.ingress.egress.hosts for hosts to reach"},
	"Sidecar":       {"": "spec.ingress.egress.hosts for hosts to reach"},
	"TLSOption":     {"": "spec.ingress.dicom.clientCertificates"},
	"Deployment":    {"spec.replicas": "spec.orthanc.replicas", "spec.template.spec.containers[].args": "spec.orthanc.config"},
	"HorizontalPodAutoscaler": {
		"spec.minReplicas": "spec.orthanc.autoscaling", "spec.maxReplicas": "spec.orthanc.autoscaling", "spec.metrics": "spec.orthanc.autoscaling",
	},
	"PersistentVolumeClaim": {"spec": "spec.orthanc.storage"},
	"Service": {
		"metadata.annotations": "spec.ingress.service.annotations", "spec.type": "spec.ingress.service.type",
		"spec.loadBalancerIP": "spec.ingress.service.loadBalancerIP", "spec.loadBalancerClass": "spec.ingress.service.loadBalancerClass",
	},
	"HelmRelease": {
		"spec.chart": "the Tenant's chart", "spec.chartRef": "the Tenant's chart",
		"spec.values.service.annotations":       "spec.ingress.service.annotations",
		"spec.values.service.type":              "spec.ingress.service.type",
		"spec.values.service.loadBalancerIP":    "spec.ingress.service.loadBalancerIP",
		"spec.values.service.loadBalancerClass": "spec.ingress.service.loadBalancerClass",
		"spec.values.postgresql.replicaCount":   "spec.postgres.instances",
		"spec.values.postgresql.resources":      "spec.postgres.resources",
	},
	"OCIRepository": {
		"spec.url": "chart.url of the Tenant", "spec.ref": "chart.version of the Tenant", "spec.insecure": "chart.insecure of the Tenant",
		"spec.secretRef": "chart.secretRef of the Tenant",
	},
	"Certificate": {"spec.issuerRef": "spec.certificates.issuerRef"},
	"Cluster": {
		"spec.imageCatalogRef":        "spec.imageName, whose registry admission can judge",
		"spec.serviceAccountTemplate": "the ServiceAccount postgres, to which the platform gives an identity in the cloud",
		"spec.instances":              "spec.postgres.instances", "spec.storage": "spec.postgres.storage", "spec.resources": "spec.postgres.resources",
		"spec.postgresql.parameters.max_connections": "spec.orthanc.replicas, which it follows from",
	},
	"ScheduledBackup": {"spec": "spec.postgres.backup"},
	"Gateway":         {"spec.servers": "spec.ingress"},
}

// openVariables are those that a patch may add to a container of the bundle. Orthanc's image takes options, plugins and
// scripts from others, and its database's library takes where to connect to.
var openVariables = []string{
	"TZ", "LANG", "LC_ALL", "MALLOC_ARENA_MAX", "LOGS_THREADNAMES_IN_CONTEXT", "SSL_CERT_DIR", "SSL_CERT_FILE", "AWS_REGION",
}

// caSecret holds the key of the tenant's CA, which is cert-manager's alone.
const caSecret = "tenant-ca"

var (
	// openMounts are where a patch may mount something in a container of the bundle.
	openMounts = regexp.MustCompile(`^/(mnt|srv|etc/ssl/certs|usr/local/share/ca-certificates)(/[A-Za-z0-9][-A-Za-z0-9._]*)*$`)
	// plainName is a field, or the key of a label or annotation.
	plainName = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9_./]*$`)
	// keyed are places whose fields are labels or annotations.
	keyed = regexp.MustCompile(`(^|\.)(metadata\.labels|metadata\.annotations|podAnnotations)(\.|$)`)
	// plainValue is text that is one scalar wherever a chart prints it.
	plainValue = regexp.MustCompile(`^([A-Za-z0-9_/]([-A-Za-z0-9._/:@=+%]*[-A-Za-z0-9._/@=+%])?)?$`)
)

// OpenToPatches returns the places that patches may change, by kind, or kind and name. It is a copy.
func OpenToPatches() map[string][]string {
	all := map[string][]string{}
	for kind, places := range openTo {
		all[kind] = slices.Clone(places)
	}
	return all
}
