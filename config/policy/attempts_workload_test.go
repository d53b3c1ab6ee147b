// SPDX-License-Identifier: Apache-2.0

package policy_test

import "strings"

var identityAttempts = []attempt{
	{name: "Helm's own", user: helmApplier, object: "Secret", change: `type: helm.sh/release.v1`, creation: true},
	{name: "a token without an end", user: helmApplier, object: "Secret", change: `type: kubernetes.io/service-account-token`, creation: true, denied: "type: expected no kubernetes.io/service-account-token"},
	{name: "a token without an end by kustomize-controller", object: "Secret", change: `type: kubernetes.io/service-account-token`, creation: true, denied: "type: expected no"},
	{name: "a token by an account that a chart made", user: ownAccount, object: "Secret", change: `type: kubernetes.io/service-account-token`, creation: true, denied: "type: expected no"},
	{name: "everybody by an account that a chart made", user: ownAccount, object: "RoleBinding", change: `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:authenticated"}]`, denied: "subjects: expected"},
	{name: "a pod by an account that a chart made", user: ownAccount, object: "Pod", denied: "pods: a tenant's applier"},
	{name: "a token by a person", user: person, object: "Secret", change: `type: kubernetes.io/service-account-token`, creation: true},
	{name: "as the chart has it", user: helmApplier, object: "RoleBinding"},
	{name: "with the namespace in words", user: helmApplier, object: "RoleBinding", change: `subjects: [{kind: ServiceAccount, namespace: bhs-orthweb, name: traefik}]`},
	{name: "everybody", user: helmApplier, object: "RoleBinding", change: `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:authenticated"}]`, denied: "subjects: expected ServiceAccounts"},
	{name: "nobody in particular", user: helmApplier, object: "RoleBinding", change: `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]`, denied: "subjects"},
	{name: "an account in words of a user", user: helmApplier, object: "RoleBinding", change: `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:serviceaccount:mhr-orthweb:helm-applier"}]`, denied: "subjects"},
	{name: "another tenant's", user: helmApplier, object: "RoleBinding", change: `subjects: [{kind: ServiceAccount, namespace: mhr-orthweb, name: default}]`, denied: "subjects"},
	{name: "another beside its own", user: helmApplier, object: "RoleBinding", change: `subjects: [{kind: ServiceAccount, name: traefik}, {kind: ServiceAccount, namespace: flux-system, name: helm-controller}]`, denied: "subjects"},
	{name: "a role of the cluster", user: helmApplier, object: "RoleBinding", change: `roleRef: {kind: ClusterRole, name: edit}`, creation: true, denied: "roleRef.kind: expected Role"},
	{name: "by a person", user: person, object: "RoleBinding", change: `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: joe}]`},
	{name: "by an applier", object: "Pod", denied: "pods: a tenant's applier makes workloads"},
	{name: "by a chart", user: helmApplier, object: "ReplicaSet", denied: "replicasets: a tenant's applier makes workloads"},
	{name: "another's pods behind its Service", object: "EndpointSlice", denied: "endpointslices: a tenant's applier"},
	{name: "another's pods behind its Service", user: helmApplier, object: "Endpoints", denied: "endpoints: a tenant's applier"},
	{name: "what pods are made of", object: "ControllerRevision", denied: "controllerrevisions: a tenant's applier"},
	{name: "by a chart", user: helmApplier, object: "DaemonSet", denied: "daemonsets: a tenant's applier"},
}

// templateAttempts are each tried for every workload.
var templateAttempts = ofEveryWorkload([]attempt{
	{name: "as it is"},
	{name: "chosen node", change: `spec: {nodeName: control-plane}`, denied: "spec.template.spec.nodeName: expected none"},
	{name: "control plane", change: `spec: {tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]}`, denied: "spec.template.spec.tolerations: expected keys that the platform lists"},
	{name: "control plane of old", change: `spec: {tolerations: [{key: node-role.kubernetes.io/master, effect: NoSchedule}]}`, denied: "spec.template.spec.tolerations"},
	{name: "every taint", change: `spec: {tolerations: [{operator: Exists}]}`, denied: "spec.template.spec.tolerations"},
	{name: "another's nodes", change: `spec: {tolerations: [{key: tenant, value: mhr}], nodeSelector: {tenant: mhr}}`, denied: "spec.template.spec.tolerations: expected keys that the platform lists"},
	{name: "what every node may have", change: `spec: {tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}]}`},
	{name: "a taint that the platform lists", change: `spec: {tolerations: [{key: imaging, operator: Exists}]}`},
	{name: "before the node's own", change: `spec: {priorityClassName: system-node-critical}`, denied: "spec.template.spec.priorityClassName: expected one that the platform lists"},
	{name: "before the cluster's own", change: `spec: {priorityClassName: system-cluster-critical}`, denied: "spec.template.spec.priorityClassName"},
	{name: "before others of the platform's", change: `spec: {priorityClassName: platform-critical}`, denied: "spec.template.spec.priorityClassName: expected one that the platform lists"},
	{name: "a priority that the platform lists", change: `spec: {priorityClassName: imaging}`},
	{name: "a runtime that keeps nothing in", change: `spec: {runtimeClassName: runc-unconfined}`, denied: "spec.template.spec.runtimeClassName: expected one that the platform lists"},
	{name: "a runtime that the platform lists", change: `spec: {runtimeClassName: imaging}`},
	{name: "apart from all pods", change: `spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{namespaceSelector: {}, labelSelector: {}, topologyKey: kubernetes.io/os}]}}}`,
		denied: "spec.template.spec.affinity: expected no namespaceSelector"},
	{name: "beside another tenant's pods", change: `spec: {affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {namespaces: [mhr-orthweb], labelSelector: {}, topologyKey: kubernetes.io/hostname}}]}}}`,
		denied: "spec.template.spec.affinity"},
	{name: "apart from another tenant's pods, if possible", change: `spec: {affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {namespaceSelector: {matchLabels: {a: b}}, labelSelector: {}, topologyKey: kubernetes.io/hostname}}]}}}`,
		denied: "spec.template.spec.affinity"},
	{name: "apart from its own pods", change: `spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{namespaces: [bhs-orthweb], labelSelector: {matchLabels: {app: b}}, topologyKey: kubernetes.io/hostname}]},
		podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: a}}, topologyKey: kubernetes.io/hostname}],
		preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {labelSelector: {matchLabels: {app: a}}, topologyKey: zone}}]}}}`},
	{name: "inline CSI", change: `spec: {volumes: [{name: v, csi: {driver: secrets-store.csi.k8s.io}}]}`, denied: "spec.template.spec.volumes: expected configMap"},
	{name: "ephemeral", change: `spec: {volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {storageClassName: fast, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]}`, denied: "spec.template.spec.volumes"},
	{name: "ephemeral without a class", change: `spec: {volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]}`, denied: "spec.template.spec.volumes"},
	{name: "path of the node", change: `spec: {volumes: [{name: v, hostPath: {path: /}}]}`, denied: "spec.template.spec.volumes"},
	{name: "another's NFS", change: `spec: {volumes: [{name: v, nfs: {server: 10.0.0.1, path: /}}]}`, denied: "spec.template.spec.volumes"},
	{name: "volumes of the bundle", change: `spec: {volumes: [{name: a, configMap: {name: a}}, {name: b, secret: {secretName: b}}, {name: c, emptyDir: {}}, {name: d, persistentVolumeClaim: {claimName: d}},
		{name: e, downwardAPI: {items: [{path: hostid, fieldRef: {fieldPath: metadata.uid}}]}}]}`},
	{name: "token of its own making", change: `spec: {volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, audience: vault}}]}}]}`, denied: "spec.template.spec.volumes[].projected.sources: expected configMap"},
	{name: "token of the gateway", change: `spec: {serviceAccountName: istio-ingress, volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, audience: istio-ca}}]}}]}`},
	{name: "projected without a token", change: `spec: {volumes: [{name: v, projected: {sources: [{configMap: {name: a}}, {secret: {name: b}}]}}]}`},
	{name: "token by default", change: `spec: {automountServiceAccountToken: null}`, denied: "spec.template.spec.automountServiceAccountToken: expected false"},
	{name: "token by wish", change: `spec: {serviceAccountName: helm-applier, automountServiceAccountToken: true}`, denied: "spec.template.spec.automountServiceAccountToken"},
	{name: "Traefik's token", change: `spec: {serviceAccountName: traefik, automountServiceAccountToken: true}`},
	{name: "the database's token", change: `spec: {serviceAccountName: postgres, automountServiceAccountToken: null}`},
	{name: "Multus", change: `metadata: {annotations: {k8s.v1.cni.cncf.io/networks: kube-system/host}}`, denied: "spec.template.metadata.annotations: k8s.v1.cni.cncf.io/networks is not one that the platform lists"},
	{name: "Kube-OVN", change: `metadata: {annotations: {ovn.kubernetes.io/ip_address: 10.0.0.9}}`, denied: "spec.template.metadata.annotations: ovn.kubernetes.io/ip_address"},
	{name: "Calico", change: `metadata: {annotations: {cni.projectcalico.org/ipAddrs: '["10.0.0.9"]'}}`, denied: "spec.template.metadata.annotations"},
	{name: "kube2iam", change: `metadata: {annotations: {iam.amazonaws.com/role: admin}}`, denied: "spec.template.metadata.annotations: iam.amazonaws.com/role"},
	{name: "Vault", change: `metadata: {annotations: {vault.hashicorp.com/agent-inject: "true"}}`, denied: "spec.template.metadata.annotations"},
	{name: "another proxy", change: `metadata: {annotations: {sidecar.istio.io/proxyImage: evil.example.org/proxy}}`, denied: "spec.template.metadata.annotations"},
	{name: "volumes by the injector", change: `metadata: {annotations: {sidecar.istio.io/userVolume: '{}'}}`, denied: "spec.template.metadata.annotations"},
	{name: "nobody knows what", change: `metadata: {annotations: {example.org/new: x}}`, denied: "spec.template.metadata.annotations"},
	{name: "annotations of bundles and charts", change: `metadata: {annotations: {korthweb.digihunch.com/config-digest: x, proxy.istio.io/config: '{}', inject.istio.io/templates: gateway,
		sidecar.istio.io/proxyCPU: 100m, sidecar.istio.io/logLevel: debug, prometheus.io/scrape: "true", checksum/config: x, kubectl.kubernetes.io/restartedAt: "2026-11-24T12:00:00Z"}}`},
	{name: "another's gateway", change: `metadata: {labels: {istio: mhr-orthweb}}`, denied: "spec.template.metadata.labels.istio: expected the namespace's name"},
	{name: "Istio's gateway", change: `metadata: {labels: {istio: ingressgateway}}`, denied: "spec.template.metadata.labels.istio"},
	{name: "own gateway", change: `metadata: {labels: {istio: bhs-orthweb}}`},
	{name: "another's egress", change: `metadata: {labels: {istio: egress, korthweb.digihunch.com/egress: mhr-orthweb}}`, denied: "spec.template.metadata.labels"},
	{name: "an egress that is nobody's", change: `metadata: {labels: {istio: egress}}`, denied: "spec.template.metadata.labels.istio"},
	{name: "own egress", change: `metadata: {labels: {istio: egress, korthweb.digihunch.com/egress: bhs-orthweb}}`},
	{name: "another tenant", change: `metadata: {labels: {korthweb.digihunch.com/tenant: mhr}}`, denied: "spec.template.metadata.labels: expected the namespace's name"},
	{name: "own tenant", change: `metadata: {labels: {korthweb.digihunch.com/tenant: bhs}}`},
	{name: "a thousand containers", change: `spec: {containers: [` + containers(1000, "orthancteam/orthanc:1") + `]}`},
	{name: "a thousand containers and one", change: `spec: {containers: [` + containers(1000, "orthancteam/orthanc:1") + `, {name: last, image: evil.example.org/x}]}`,
		denied: "image, spec.url: evil.example.org/x is in no registry"},
})

// ofEveryWorkload puts changes of a pod's template into what has one. Only appliers write what appliers may.
func ofEveryWorkload(changes []attempt) (attempts []attempt) {
	for _, kind := range []string{"Deployment", "StatefulSet", "CronJob", "DaemonSet", "Job", "ReplicaSet", "ReplicationController"} {
		for _, a := range changes {
			a.object = kind
			switch kind {
			case "CronJob":
				a.change = "spec: {jobTemplate: {spec: {template: {" + a.change + "}}}}"
			default:
				a.change = "spec: {template: {" + a.change + "}}"
			}
			a.creation = kind == "Job"
			if kind == "DaemonSet" || kind == "ReplicaSet" || kind == "ReplicationController" {
				a.user = person
			}
			attempts = append(attempts, a)
		}
	}
	return attempts
}

// containers returns some in YAML.
func containers(count int, image string) string {
	var all []string
	for i := range count {
		all = append(all, "{name: c"+strings.Repeat("x", i%7)+"-"+string(rune('a'+i/676%26))+string(rune('a'+i/26%26))+string(rune('a'+i%26))+", image: "+image+"}")
	}
	return strings.Join(all, ", ")
}

// Pods are made by controllers, which here are somebody who is no applier.
var podAttempts = asPerson([]attempt{
	{name: "as it is", object: "Pod"},
	{name: "chosen node", object: "Pod", change: `spec: {nodeName: control-plane}`, creation: true, denied: "spec.nodeName: expected none"},
	{name: "control plane", object: "Pod", change: `spec: {tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]}`, creation: true, denied: "spec.tolerations: expected a key"},
	{name: "every taint", object: "Pod", change: `spec: {tolerations: [{operator: Exists, effect: NoExecute}]}`, creation: true, denied: "spec.tolerations"},
	{name: "taints that Kubernetes tolerates by itself", object: "Pod", change: `spec: {tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists}]}`, creation: true},
	{name: "before the node's own", object: "Pod", change: `spec: {priorityClassName: system-node-critical}`, creation: true, denied: "spec.priorityClassName: expected none of system-"},
	{name: "apart from all pods", object: "Pod", change: `spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{namespaceSelector: {}, labelSelector: {}, topologyKey: kubernetes.io/os}]}}}`, creation: true,
		denied: "spec.affinity: expected no namespaceSelector"},
	{name: "apart from its own pods", object: "Pod", change: `spec: {affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {labelSelector: {matchLabels: {app: a}}, topologyKey: zone}}]}}}`, creation: true},
	{name: "inline CSI", object: "Pod", change: `spec: {volumes: [{name: v, csi: {driver: secrets-store.csi.k8s.io}}]}`, creation: true, denied: "spec.volumes: expected csi"},
	{name: "ephemeral", object: "Pod", change: `spec: {volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]}`, creation: true, denied: "spec.volumes"},
	{name: "what Istio injects", object: "Pod", change: `metadata: {annotations: {sidecar.istio.io/status: '{}', k8s.v1.cni.cncf.io/network-status: '[]'}}, spec: {volumes: [{name: istio-token, projected: {sources: [{serviceAccountToken: {path: t, audience: istio-ca}}]}}]}`, creation: true},
	{name: "what EKS injects", object: "Pod", change: `spec: {volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t, audience: sts.amazonaws.com}}]}}]}`, creation: true},
	{name: "Multus", object: "Pod", change: `metadata: {annotations: {k8s.v1.cni.cncf.io/networks: kube-system/host}}`, creation: true, denied: "metadata.annotations: expected none that asks Multus"},
	{name: "Multus instead of the cluster's", object: "Pod", change: `metadata: {annotations: {v1.multus-cni.io/default-network: kube-system/host}}`, creation: true, denied: "metadata.annotations"},
	{name: "Kube-OVN", object: "Pod", change: `metadata: {annotations: {ovn.kubernetes.io/logical_switch: mhr}}`, creation: true, denied: "metadata.annotations"},
	{name: "Kube-OVN on a second network", object: "Pod", change: `metadata: {annotations: {net.default.ovn.kubernetes.io/ip_address: 10.0.0.9}}`, creation: true, denied: "metadata.annotations"},
	{name: "Calico", object: "Pod", change: `metadata: {annotations: {cni.projectcalico.org/ipAddrs: '["10.0.0.9"]'}}`, creation: true, denied: "metadata.annotations"},
	{name: "kube2iam", object: "Pod", change: `metadata: {annotations: {iam.amazonaws.com/role: admin}}`, creation: true, denied: "metadata.annotations"},
	{name: "another's gateway", object: "Pod", change: `metadata: {labels: {istio: mhr-orthweb}}`, denied: "metadata.labels.istio: expected the namespace's name"},
	{name: "own gateway", object: "Pod", change: `metadata: {labels: {istio: bhs-orthweb}}`},
	{name: "another's egress", object: "Pod", change: `metadata: {labels: {korthweb.digihunch.com/egress: mhr-orthweb}}`, denied: "metadata.labels: expected the namespace's name"},
	{name: "another tenant", object: "Pod", change: `metadata: {labels: {korthweb.digihunch.com/tenant: mhr}}`, denied: "metadata.labels: expected the namespace's name"},
})

func asPerson(attempts []attempt) []attempt {
	for i := range attempts {
		attempts[i].user = person
	}
	return attempts
}

var databaseAttempts = []attempt{
	{name: "as it is", object: "Cluster"},
	{name: "as the bundle has it", object: "Cluster", change: `spec: {inheritedMetadata: {labels: {sidecar.istio.io/inject: "false", korthweb.digihunch.com/tenant: bhs}, annotations: {networking.istio.io/exportTo: .}}}`},
	{name: "Multus on its pods", object: "Cluster", change: `spec: {inheritedMetadata: {annotations: {k8s.v1.cni.cncf.io/networks: x}}}`, denied: "spec.inheritedMetadata.annotations: expected keys that the platform lists"},
	{name: "a gateway's label on its pods", object: "Cluster", change: `spec: {inheritedMetadata: {labels: {istio: mhr-orthweb}}}`, denied: "spec.inheritedMetadata.labels: expected no label of a gateway"},
	{name: "another tenant's pods", object: "Cluster", change: `spec: {inheritedMetadata: {labels: {korthweb.digihunch.com/tenant: mhr}}}`, denied: "spec.inheritedMetadata.labels"},
	{name: "an identity in the cloud", user: person, object: "Cluster", change: `spec: {serviceAccountTemplate: {metadata: {annotations: {eks.amazonaws.com/role-arn: "arn:x"}}}}`, denied: "spec.serviceAccountTemplate.metadata.annotations: expected none"},
	{name: "a token", user: person, object: "Cluster", change: `spec: {projectedVolumeTemplate: {sources: [{serviceAccountToken: {path: t, audience: vault}}]}}`, denied: "spec.projectedVolumeTemplate.sources: expected configMap"},
	{name: "a file", user: person, object: "Cluster", change: `spec: {projectedVolumeTemplate: {sources: [{configMap: {name: a}}]}}`},
	{name: "ephemeral volumes", user: person, object: "Cluster", change: `spec: {ephemeralVolumeSource: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], storageClassName: fast}}}}`, denied: "spec.ephemeralVolumeSource: expected none"},
	{name: "control plane", object: "Cluster", change: `spec: {affinity: {tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]}}`, denied: "spec.affinity.tolerations: expected keys that the platform lists"},
	{name: "every taint", object: "Cluster", change: `spec: {affinity: {tolerations: [{operator: Exists}]}}`, denied: "spec.affinity.tolerations"},
	{name: "before the node's own", object: "Cluster", change: `spec: {priorityClassName: system-node-critical}`, denied: "spec.priorityClassName: expected one that the platform lists"},
	{name: "before others of the platform's", object: "Cluster", change: `spec: {priorityClassName: platform-critical}`, denied: "spec.priorityClassName: expected one that the platform lists"},
	{name: "nodes and a priority that the platform lists", object: "Cluster", change: `spec: {priorityClassName: imaging, affinity: {tolerations: [{key: imaging, operator: Exists}]}}`},
	{name: "apart from all pods", user: person, object: "Cluster", change: `spec: {affinity: {additionalPodAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{namespaceSelector: {}, labelSelector: {}, topologyKey: kubernetes.io/os}]}}}`,
		denied: "spec.affinity: expected no namespaceSelector"},
	{name: "beside another tenant's pods", object: "Cluster", change: `spec: {affinity: {additionalPodAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {namespaces: [mhr-orthweb], labelSelector: {}, topologyKey: zone}}]}}}`,
		denied: "spec.affinity"},
	{name: "apart from its own pods", object: "Cluster", change: `spec: {affinity: {additionalPodAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: a}}, topologyKey: zone}]}}}`},
	{name: "an extension of another registry's", user: person, object: "Cluster", change: `spec: {postgresql: {extensions: [{name: x, image: {reference: "evil.example.org/x:1"}}]}}`, denied: "evil.example.org/x is in no registry"},
	{name: "an extension", object: "Cluster", change: `spec: {postgresql: {extensions: [{name: x, image: {reference: "ghcr.io/cloudnative-pg/pgvector:1"}}]}}`},
	{name: "a Service to the outside", user: person, object: "Cluster", change: `spec: {managed: {services: {additional: [{selectorType: rw, serviceTemplate: {metadata: {name: out}, spec: {type: LoadBalancer}}}]}}}`, denied: "spec.managed.services.additional[].serviceTemplate.spec: expected type ClusterIP"},
	{name: "a Service with external addresses", user: person, object: "Cluster", change: `spec: {managed: {services: {additional: [{selectorType: rw, serviceTemplate: {metadata: {name: out}, spec: {externalIPs: [192.0.2.9]}}}]}}}`, denied: "spec.managed.services"},
}

var chartAttempts = []attempt{
	{name: "as the bundle has it", object: "HelmRelease"},
	{name: "by an account that a chart made", user: ownAccount, object: "HelmRelease", change: `spec: {serviceAccountName: null}`, denied: "spec.serviceAccountName: expected helm-applier"},
	{name: "a repository that no rule sees", object: "HelmRelease", change: `spec: {chartRef: null, chart: {spec: {chart: x, sourceRef: {kind: HelmRepository, name: x}}}}`, denied: "spec.chart, spec.chartRef: expected a chartRef"},
	{name: "another's chart", object: "HelmRelease", change: `spec: {chartRef: {namespace: mhr-orthweb}}`, denied: "spec.chart, spec.chartRef"},
	{name: "a chart of another kind", object: "HelmRelease", change: `spec: {chartRef: {kind: HelmChart}}`, denied: "spec.chart, spec.chartRef"},
	{name: "as the bundle has it", object: "OCIRepository"},
	{name: "source-controller's identity", object: "OCIRepository", change: `spec: {provider: aws}`, denied: "spec.provider, spec.serviceAccountName: expected the provider generic"},
	{name: "an account", object: "OCIRepository", change: `spec: {serviceAccountName: default}`, denied: "spec.provider, spec.serviceAccountName"},
}
