// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/render"
	"github.com/digihunch/korthweb/test/variants"
)

// guarded is a patch of one object, and what is said of it where it is refused.
type guarded struct {
	name, kind, object string
	operations         string
	message            string
}

func (p guarded) patch() v1alpha1.Patch {
	return v1alpha1.Patch{Patch: p.operations, Target: &v1alpha1.PatchTarget{Kind: v1alpha1.PatchPattern(p.kind), Name: v1alpha1.PatchPattern(p.object)}}
}

// pods returns an operation on Orthanc's pods.
func pods(name, op, path, value, message string) guarded {
	return guarded{name, "Deployment", "orthanc", operation(op, "/spec/template/spec"+path, value), message}
}

// container returns an operation on Orthanc's container.
func container(name, op, path, value, message string) guarded {
	return pods(name, op, "/containers/0"+path, value, message)
}

func operation(op, path, value string) string {
	if op == "remove" {
		return fmt.Sprintf(`[{"op":"remove","path":%q}]`, path)
	}
	return fmt.Sprintf(`[{"op":%q,"path":%q,"value":%s}]`, op, path, value)
}

// weakening are patches that take a security setting away, of the default: Istio and CloudNativePG.
var weakening = []guarded{
	// Pods.
	pods("may be root", "remove", "/securityContext/runAsNonRoot", "", "Pod Security level restricted: runAsNonRoot != true"),
	pods("root", "replace", "/securityContext/runAsUser", "0", "must not set runAsUser=0"),
	pods("no seccomp", "replace", "/securityContext/seccompProfile/type", `"Unconfined"`, "seccompProfile"),
	pods("no security context", "remove", "/securityContext", "", "runAsNonRoot"),
	pods("sysctls", "add", "/securityContext/sysctls", `[{"name":"kernel.msgmax","value":"1"}]`, "Deployment/orthanc: spec.template.spec.securityContext.sysctls[kernel.msgmax].name: a patch may not change this"),
	pods("a token", "replace", "/automountServiceAccountToken", "true", "Deployment/orthanc: spec.template.spec.automountServiceAccountToken: a patch may not change this"),
	pods("a token by default", "remove", "/automountServiceAccountToken", "", "Deployment/orthanc: spec.template.spec.automountServiceAccountToken: a patch may not change this"),
	{"a token of the account", "ServiceAccount", "orthanc", operation("remove", "/automountServiceAccountToken", ""), "ServiceAccount/orthanc: automountServiceAccountToken: a patch may not change this"},
	pods("a projected token", "add", "/volumes/-", `{"name":"x","projected":{"sources":[{"serviceAccountToken":{"path":"x"}}]}}`, "Deployment/orthanc: spec.template.spec.volumes[x].projected.sources[0].serviceAccountToken.path: a patch may not change this"),
	pods("the CA's key", "add", "/volumes/-", `{"name":"x","secret":{"secretName":"tenant-ca"}}`, "Deployment/orthanc: spec.template.spec.volumes[x].secret.secretName: a patch may not name tenant-ca, the key of the tenant's CA"),
	container("the CA's key as a variable", "add", "/env/-", `{"name":"X","valueFrom":{"secretKeyRef":{"name":"tenant-ca","key":"tls.key"}}}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].env[X].name: a patch may add the variables"),
	pods("another configuration", "replace", "/volumes", `[]`, "spec.template.spec.volumes["),
	pods("a container that is root", "add", "/containers/-", `{"name":"x","image":"x:1","securityContext":{"runAsUser":0}}`, "Pod Security level restricted"),
	pods("a first container that may be root", "add", "/initContainers", `[{"name":"x","image":"x:1"}]`, "Pod Security level restricted"),
	pods("no container", "replace", "/containers", `[{"name":"x","image":"x:1","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]`, "Deployment/orthanc: spec.template.spec.containers[orthanc].env[DATABASE_SERVER_IDENTIFIER].name: a patch may not change this"),
	pods("a field in other letters", "add", "/SecurityContext", "{}", "Deployment/orthanc: spec.template.spec.SecurityContext: a patch may not change this"),
	// Orthanc's container.
	container("privileged", "add", "/securityContext/privileged", "true", "privileged"),
	container("escalation", "replace", "/securityContext/allowPrivilegeEscalation", "true", "Deployment/orthanc: spec.template.spec.containers[orthanc].securityContext.allowPrivilegeEscalation: a patch may not change this"),
	container("escalation by default", "remove", "/securityContext/allowPrivilegeEscalation", "", "Deployment/orthanc: spec.template.spec.containers[orthanc].securityContext.allowPrivilegeEscalation: a patch may not change this"),
	container("root filesystem", "replace", "/securityContext/readOnlyRootFilesystem", "false", "Deployment/orthanc: spec.template.spec.containers[orthanc].securityContext.readOnlyRootFilesystem: a patch may not change this"),
	container("root filesystem by default", "remove", "/securityContext/readOnlyRootFilesystem", "", "readOnlyRootFilesystem"),
	container("a capability", "add", "/securityContext/capabilities/add", `["DAC_OVERRIDE"]`, "Deployment/orthanc: spec.template.spec.containers[orthanc].securityContext.capabilities.add[0]: a patch may not change this"),
	container("capabilities by default", "remove", "/securityContext/capabilities", "", "Deployment/orthanc: spec.template.spec.containers[orthanc].securityContext.capabilities.drop[0]: a patch may not change this"),
	container("proc", "add", "/securityContext/procMount", `"Unmasked"`, "procMount"),
	container("no security context of its own", "remove", "/securityContext", "", "Deployment/orthanc: spec.template.spec.containers[orthanc].securityContext.allowPrivilegeEscalation: a patch may not change this"),
	container("a port of the node", "add", "/ports/0/hostPort", "80", "hostPort"),
	container("another program", "add", "/command", `["sh"]`, "Deployment/orthanc: spec.template.spec.containers[orthanc].command[0]: a patch may not change this"),
	container("another configuration directory", "replace", "/args", `["/tmp"]`, "Deployment/orthanc: spec.template.spec.containers[orthanc].args[0]: a patch may not change this: use spec.orthanc.config"),
	container("variables from elsewhere", "add", "/envFrom", `[{"configMapRef":{"name":"x"}}]`, "containers[orthanc].envFrom"),
	container("an option", "add", "/env/-", `{"name":"ORTHANC__AUTHENTICATION_ENABLED","value":"false"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].env[ORTHANC__AUTHENTICATION_ENABLED].name: a patch may add the variables"),
	container("all options", "add", "/env/-", `{"name":"ORTHANC_JSON","value":"{}"}`, "spec.orthanc.config"),
	container("a plugin", "add", "/env/-", `{"name":"AUTHORIZATION_PLUGIN_ENABLED","value":"true"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].env[AUTHORIZATION_PLUGIN_ENABLED].name: a patch may add the variables"),
	container("a variable of the database", "add", "/env/-", `{"name":"PGOPTIONS","value":"x"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].env[PGOPTIONS].name: a patch may add the variables"),
	container("no variables", "replace", "/env", `[]`, "Deployment/orthanc: spec.template.spec.containers[orthanc].env[DATABASE_SERVER_IDENTIFIER].name: a patch may not change this"),
	container("no readiness", "remove", "/readinessProbe", "", "containers[orthanc].readinessProbe"),
	container("another liveness", "replace", "/livenessProbe", `{"httpGet":{"port":8042,"path":"/"}}`, "containers[orthanc].livenessProbe"),
	container("no mounts", "remove", "/volumeMounts", "", "volumeMounts["),
	container("a mount in the configuration", "add", "/volumeMounts/-", `{"name":"tmp","mountPath":"/etc/orthanc/x"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].volumeMounts[/etc/orthanc/x].mountPath: a patch may mount below /mnt, /srv, /etc/ssl/certs and /usr/local/share/ca-certificates"),
	container("a mount over it", "add", "/volumeMounts/-", `{"name":"tmp","mountPath":"/etc"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].volumeMounts[/etc].mountPath: a patch may mount below /mnt, /srv, /etc/ssl/certs and /usr/local/share/ca-certificates"),
	container("a mount beside the users", "add", "/volumeMounts/-", `{"name":"tmp","mountPath":"/run/secrets/more.json"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].volumeMounts[/run/secrets/more.json].mountPath: a patch may mount below /mnt, /srv, /etc/ssl/certs and /usr/local/share/ca-certificates"),
	container("a mount there by another name", "add", "/volumeMounts/-", `{"name":"tmp","mountPath":"/var/run/./secrets/x"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].volumeMounts[/var/run/./secrets/x].mountPath: a patch may mount below /mnt, /srv, /etc/ssl/certs and /usr/local/share/ca-certificates"),
	container("a mount of its link", "add", "/volumeMounts/-", `{"name":"tmp","mountPath":"/var/run"}`, "Deployment/orthanc: spec.template.spec.containers[orthanc].volumeMounts[/var/run].mountPath: a patch may mount below /mnt, /srv, /etc/ssl/certs and /usr/local/share/ca-certificates"),
	{"another number of pods", "Deployment", "orthanc", "kind: Deployment\nmetadata: {name: orthanc}\nspec: {replicas: 4}\n", "Deployment/orthanc: spec.replicas: a patch may not change this: use spec.orthanc.replicas"},
	{"old pods beside new ones", "Deployment", "orthanc", operation("replace", "/spec/strategy", `{"type":"RollingUpdate"}`), "spec.strategy"},
	{"fewer connections", "Cluster", "postgres", operation("replace", "/spec/postgresql/parameters/max_connections", `"10"`), "max_connections: a patch may not"},
	{"a smaller database", "Cluster", "postgres", operation("replace", "/spec/storage/size", `"1Gi"`), "spec.storage.size: a patch may not"},
	{"another volume", "PersistentVolumeClaim", "orthanc-storage", operation("replace", "/spec/accessModes", `["ReadWriteOnce"]`), "spec.accessModes"},
	{"out of the mesh", "Deployment", "orthanc", operation("add", "/spec/template/metadata/labels/sidecar.istio.io~1inject", `"false"`), "Deployment/orthanc: spec.template.metadata.labels.sidecar.istio.io/inject: a patch may not change this"},
	{"a port out of the mesh", "Deployment", "orthanc", operation("add", "/spec/template/metadata/annotations/traffic.sidecar.istio.io~1excludeInboundPorts", `"8042"`), "Deployment/orthanc: spec.template.metadata.annotations.traffic.sidecar.istio.io/excludeInboundPorts: a patch may not change this"},
	// Services.
	{"Orthanc without TLS", "Service", "orthweb", operation("add", "/spec/type", `"LoadBalancer"`), "Service/orthweb: spec.type: a patch may not change this: use spec.ingress.service.type"},
	{"another pod behind the service", "Service", "orthweb", operation("replace", "/spec/selector", `{"app":"x"}`), "Service/orthweb: spec.selector.app: a patch may not change this"},
	// The gateway.
	{"no client certificates", "Gateway", "dcm-gw", operation("replace", "/spec/servers/0/tls/mode", `"SIMPLE"`), "Gateway/dcm-gw: spec.servers[0].tls.mode: a patch may not change this: use spec.ingress"},
	{"old TLS", "Gateway", "web-gw", operation("replace", "/spec/servers/0/tls/minProtocolVersion", `"TLSV1_0"`), "Gateway/web-gw: spec.servers[0].tls.minProtocolVersion: a patch may not change this: use spec.ingress"},
	{"no TLS", "Gateway", "web-gw", operation("remove", "/spec/servers/0", ""), "Gateway/web-gw: spec.servers[0].port.name: a patch may not change this: use spec.ingress"},
	{"no servers", "Gateway", "web-gw", operation("remove", "/spec/servers", ""), "Gateway/web-gw: spec.servers[0].hosts[0]: a patch may not change this: use spec.ingress"},
	{"other headers", "VirtualService", "web-vs", operation("add", "/spec/http/0/headers", `{"response":{"remove":["strict-transport-security"]}}`), "VirtualService/web-vs: spec.http[0].headers.response.remove[0]: a patch may not change this"},
	{"any host outside", "Sidecar", "default", operation("add", "/spec/outboundTrafficPolicy", `{"mode":"ALLOW_ANY"}`), "Sidecar/default: a patch may not touch any Sidecar: choose a target that does not match it; use spec.ingress.egress.hosts for hosts to reach"},
	{"only some sidecars", "Sidecar", "default", operation("add", "/spec/workloadSelector", `{"labels":{"a":"b"}}`), "Sidecar/default: a patch may not touch any Sidecar: choose a target that does not match it; use spec.ingress.egress.hosts for hosts to reach"},
	{"a gateway that is root", "HelmRelease", "istio-ingress", operation("replace", "/spec/values/securityContext/runAsNonRoot", "false"), "HelmRelease/istio-ingress: spec.values.securityContext.runAsNonRoot: a patch may not change this"},
	{"a gateway without security context", "HelmRelease", "istio-ingress", operation("remove", "/spec/values/securityContext", ""), "HelmRelease/istio-ingress: spec.values.securityContext.runAsNonRoot: a patch may not change this"},
	{"security context of its container", "HelmRelease", "istio-ingress", operation("add", "/spec/values/containerSecurityContext", `{"runAsUser":0}`), "spec.values.containerSecurityContext.runAsUser"},
	{"rights of the gateway", "HelmRelease", "istio-ingress", operation("add", "/spec/values/rbac", `{"enabled":true}`), "spec.values.rbac.enabled"},
	{"arguments", "HelmRelease", "istio-ingress", operation("add", "/spec/values/additionalArguments", `["--x"]`), "spec.values.additionalArguments"},
	{"more objects", "HelmRelease", "istio-ingress", operation("add", "/spec/values/extraObjects", `[{}]`), "spec.values.extraObjects"},
	{"more containers", "HelmRelease", "istio-ingress", operation("add", "/spec/values/additionalContainers", `[{}]`), "spec.values.additionalContainers"},
	{"a sidecar of Traefik's chart", "HelmRelease", "istio-ingress", operation("add", "/spec/values/deployment", `{"additionalContainers":[{}]}`), "spec.values.deployment.additionalContainers"},
	{"variables of the gateway", "HelmRelease", "istio-ingress", operation("add", "/spec/values/env", `{"A":"b"}`), "spec.values.env.A"},
	{"ports of the gateway", "HelmRelease", "istio-ingress", operation("remove", "/spec/values/service/ports/0", ""), "HelmRelease/istio-ingress: spec.values.service.ports[status-port].name: a patch may not change this"},
	{"type of the gateway's service", "HelmRelease", "istio-ingress", operation("replace", "/spec/values/service/type", `"NodePort"`), "HelmRelease/istio-ingress: spec.values.service.type: a patch may not change this: use spec.ingress.service.type"},
	{"no values", "HelmRelease", "istio-ingress", operation("remove", "/spec/values", ""), "HelmRelease/istio-ingress: spec.values.labels.istio: a patch may not change this"},
	{"text for values", "HelmRelease", "istio-ingress", operation("replace", "/spec/values", `"x"`), "HelmRelease/istio-ingress: spec.values: a patch may not change this"},
	{"no templates of the injector", "HelmRelease", "istio-ingress", operation("add", "/spec/values/podAnnotations", `{"inject.istio.io/templates":"x"}`), "HelmRelease/istio-ingress: spec.values.podAnnotations.inject.istio.io/templates: a patch may not change this"},
	{"registry without TLS", "OCIRepository", "istio-ingress", operation("add", "/spec/insecure", "true"), "OCIRepository/istio-ingress: spec.insecure: a patch may not change this: use chart.insecure of the Tenant"},
	// Certificates.
	{"usages", "Certificate", "web-tls", operation("replace", "/spec/usages", `["cert sign"]`), "Certificate/web-tls: spec.usages[0]: a patch may not change this"},
	{"a CA", "Certificate", "dicom-tls", operation("add", "/spec/isCA", "true"), "Certificate/dicom-tls: spec.isCA: a patch may not change this"},
	{"a name of nobody", "Certificate", "web-tls", operation("add", "/spec/dnsNames/-", `"elsewhere.example.org"`), "Certificate/web-tls: spec.dnsNames[1]: a patch may not change this"},
	{"another CA", "Certificate", "web-tls", operation("replace", "/spec/issuerRef/name", `"self-signed"`), "Certificate/web-tls: spec.issuerRef.name"},
	{"a CA with another key each time", "Certificate", "tenant-ca", operation("replace", "/spec/privateKey/rotationPolicy", `"Always"`), "Certificate/tenant-ca: spec.privateKey.rotationPolicy"},
	{"another secret", "Certificate", "web-tls", operation("replace", "/spec/secretName", `"tenant-ca"`), "Certificate/web-tls: spec.secretName"},
	{"a secret that is copied", "Certificate", "tenant-ca", operation("add", "/spec/secretTemplate", `{"annotations":{"example.org/copy":"true"}}`), "Certificate/tenant-ca: spec.secretTemplate"},
	{"the issuer", "Issuer", "tenant-ca", operation("replace", "/spec/ca/secretName", `"web-tls"`), "Issuer/tenant-ca: spec.ca.secretName"},
	// The database.
	{"a superuser", "Cluster", "postgres", operation("replace", "/spec/enableSuperuserAccess", "true"), "Cluster/postgres: spec.enableSuperuserAccess: a patch may not change this"},
	{"an identity in the cloud", "Cluster", "postgres", operation("add", "/spec/serviceAccountTemplate", `{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"arn:x"}}}`),
		"Cluster/postgres: spec.serviceAccountTemplate.metadata.annotations.eks.amazonaws.com/role-arn: a patch may not change this: use the ServiceAccount postgres"},
	{"an image that admission cannot judge", "Cluster", "postgres", operation("add", "/spec/imageCatalogRef", `{"kind":"ImageCatalog","name":"x","major":18}`),
		"Cluster/postgres: spec.imageCatalogRef.kind: a patch may not change this: use spec.imageName"},
	{"a number for an annotation", "Issuer", "tenant-ca", operation("add", "/metadata/annotations", `{"room":4}`), "Issuer/tenant-ca: metadata.annotations.room: a label or annotation is text"},
	{"a mapping for an annotation", "Issuer", "tenant-ca", operation("add", "/metadata/annotations", `{"room":{"number":"4"}}`), "Issuer/tenant-ca: metadata.annotations.room.number: a patch may not change this"},
	{"text for labels", "Issuer", "tenant-ca", operation("replace", "/metadata/labels", `"x"`), "Issuer/tenant-ca: metadata.labels: a patch may not change this"},
	{"text for annotations", "Issuer", "tenant-ca", operation("add", "/metadata/annotations", `"x"`), "Issuer/tenant-ca: metadata.annotations: a patch may not change this"},
	{"an image that the gateway's chart refuses", "HelmRelease", "istio-ingress", operation("add", "/spec/values/image", `{"repository":"registry.example.com/proxyv2"}`), "HelmRelease/istio-ingress: spec.values.image.repository: a patch may not change this"},
	{"a value of another chart", "HelmRelease", "istio-ingress", operation("add", "/spec/values/deployment", `{"replicas":2}`), "HelmRelease/istio-ingress: spec.values.deployment.replicas: a patch may not change this"},
	{"a superuser's password", "Cluster", "postgres", operation("add", "/spec/superuserSecret", `{"name":"x"}`), "Cluster/postgres: spec.superuserSecret.name"},
	{"who may log in", "Cluster", "postgres", operation("add", "/spec/postgresql/pg_hba", `["host all all all trust"]`), "Cluster/postgres: spec.postgresql.pg_hba"},
	{"another owner", "Cluster", "postgres", operation("replace", "/spec/bootstrap/initdb/owner", `"postgres"`), "Cluster/postgres: spec.bootstrap.initdb.owner"},
	{"roles", "Cluster", "postgres", operation("add", "/spec/managed", `{"roles":[{"name":"x","superuser":true}]}`), "Cluster/postgres: spec.managed.roles"},
	{"certificates of the database", "Cluster", "postgres", operation("add", "/spec/certificates", `{"serverCASecret":"x"}`), "Cluster/postgres: spec.certificates.serverCASecret"},
	{"a database in the mesh", "Cluster", "postgres", operation("replace", "/spec/inheritedMetadata/labels/sidecar.istio.io~1inject", `"true"`), "Cluster/postgres: spec.inheritedMetadata.labels.sidecar.istio.io/inject: a patch may not change this"},
	// Kinds that are closed.
	{"Orthanc's configuration", "ConfigMap", "orthanc-config", operation("add", "/data/local.json", `"{}"`), "ConfigMap/orthanc-config: a patch may not touch any ConfigMap: choose a target that does not match it; use spec.orthanc.config for Orthanc's options"},
	{"the quota", "ResourceQuota", "", operation("remove", "/spec/hard", ""), "ResourceQuota/tenant: a patch may not touch any ResourceQuota: choose a target that does not match it; use spec.quota.hard"},
	{"the limits", "LimitRange", "", operation("remove", "/spec/limits", ""), "LimitRange/tenant: a patch may not touch any LimitRange: choose a target that does not match it; use spec.quota.containers"},
}

// weakeningTraefik are patches that take a security setting away, of a tenant that is reached through Traefik.
var weakeningTraefik = []guarded{
	{"no client certificates", "TLSOption", "dicom", operation("remove", "/spec/clientAuth", ""), "TLSOption/dicom: a patch may not touch any TLSOption: choose a target that does not match it; use spec.ingress.dicom.clientCertificates"},
	{"the redirect", "Middleware", "", operation("remove", "/spec", ""), "a patch may not touch any Middleware"},
	{"DICOM without TLS", "IngressRouteTCP", "", operation("remove", "/spec/tls", ""), ": spec.tls"},
	{"TLS passed through", "IngressRouteTCP", "", operation("add", "/spec/tls/passthrough", "true"), "IngressRouteTCP/dicom: spec.tls.passthrough: a patch may not change this"},
	{"the web without TLS", "IngressRoute", "", operation("add", "/spec/entryPoints", `["web"]`), "IngressRoute/web: spec.entryPoints[0]: a patch may not change this"},
	{"another route", "IngressRoute", "", operation("add", "/spec/routes", `[]`), "IngressRoute/web: spec.routes[0].kind: a patch may not change this"},
	{"a template that reads a Secret", "HelmRelease", "traefik", operation("add", "/spec/values/deployment/podAnnotations",
		`{"x":"{{ lookup 'v1' 'Secret' .Release.Namespace 'postgres-app' }}"}`), "HelmRelease/traefik: spec.values.deployment.podAnnotations.x: a patch may not change this"},
	{"a template in a key", "HelmRelease", "traefik", operation("add", "/spec/values/deployment/podAnnotations", `{"{{ .Values }}":"x"}`),
		"HelmRelease/traefik: spec.values.deployment.podAnnotations.{{ .Values }}: a patch may not change this: \"{{ .Values }}\" names or reaches something else"},
	{"a template in a list", "HelmRelease", "traefik", operation("add", "/spec/values/topologySpreadConstraints/0/matchLabelKeys", `["{{ .Values }}"]`),
		"HelmRelease/traefik: spec.values.topologySpreadConstraints[0].matchLabelKeys[0]: a value of a chart is"},
	{"arguments", "HelmRelease", "traefik", operation("add", "/spec/values/additionalArguments", `["--api.insecure"]`), "HelmRelease/traefik: spec.values.additionalArguments[0]: a patch may not change this"},
}

// weakeningDatabase are patches that take a security setting of Bitnami's chart away.
var weakeningDatabase = []guarded{
	{"a database without TLS", "HelmRelease", "postgres", operation("replace", "/spec/values/postgresql/tls/enabled", "false"), "HelmRelease/postgres: spec.values.postgresql.tls.enabled: a patch may not change this"},
	{"passwords of its own", "HelmRelease", "postgres", operation("remove", "/spec/values/postgresql/existingSecret", ""), "HelmRelease/postgres: spec.values.postgresql.existingSecret: a patch may not change this"},
	{"another number of instances", "HelmRelease", "postgres", operation("replace", "/spec/values/postgresql/replicaCount", "3"), "HelmRelease/postgres: spec.values.postgresql.replicaCount: a patch may not change this: use spec.postgres.instances"},
	{"a password as text", "HelmRelease", "postgres", operation("add", "/spec/values/pgpool/adminPassword", `"x"`), "HelmRelease/postgres: spec.values.pgpool.adminPassword: a patch may not change this"},
	{"the superuser", "HelmRelease", "postgres", operation("replace", "/spec/values/postgresql/username", `"postgres"`), "HelmRelease/postgres: spec.values.postgresql.username: a patch may not change this"},
	{"a script", "HelmRelease", "postgres", operation("add", "/spec/values/postgresql/initdbScripts/x.sh", `"id"`), "HelmRelease/postgres: spec.values.postgresql.initdbScripts.x.sh: a patch may not change this"},
	{"a sidecar of the database", "HelmRelease", "postgres", operation("add", "/spec/values/postgresql/sidecars", `[{}]`), "HelmRelease/postgres: spec.values.postgresql.sidecars[0]: a patch may not change this"},
	{"a policy of the chart's own", "HelmRelease", "postgres", operation("replace", "/spec/values/postgresql/networkPolicy/enabled", "true"), "HelmRelease/postgres: spec.values.postgresql.networkPolicy.enabled: a patch may not change this"},
}

// weakeningBackup are patches of where backups go.
var weakeningBackup = []guarded{
	{"another tenant's backups", "ObjectStore", "", operation("replace", "/spec/configuration/destinationPath", `"s3://backups/bhs"`), "ObjectStore/postgres: spec.configuration.destinationPath: a patch may not change this"},
	{"no archive", "Cluster", "postgres", operation("replace", "/spec/plugins", `[]`), "Cluster/postgres: spec.plugins[barman-cloud.cloudnative-pg.io].isWALArchiver: a patch may not change this"},
}

// weakeningEgress are patches of what leaves the mesh.
var weakeningEgress = []guarded{
	{"a host to reach", "ServiceEntry", "", operation("add", "/spec/hosts/-", `"elsewhere.example.org"`), "ServiceEntry/peer-modality-ct-1: a patch may not touch any ServiceEntry: choose a target that does not match it; use spec.ingress.egress.hosts for hosts to reach"},
	{"no mutual TLS to the gateway", "DestinationRule", "", operation("replace", "/spec/subsets", `[]`), "DestinationRule/egress-modality-ct-1: spec.subsets[peer-modality-ct-1].name: a patch may not change this"},
	{"a certificate of the client's", "DestinationRule", "", operation("add", "/spec/trafficPolicy", `{"tls":{"mode":"DISABLE"}}`), "DestinationRule/egress-modality-ct-1: spec.trafficPolicy.tls.mode: a patch may not change this"},
}

// weakeningOf are the patches by the variant that they are tried on.
var weakeningOf = map[string][]guarded{
	"default": weakening, "traefik": weakeningTraefik, "bitnami": weakeningDatabase, "backup": weakeningBackup,
	"egress-gateway+peers": weakeningEgress,
}

func TestWeakeningRefused(t *testing.T) {
	r := newRenderer(t)
	var names []string
	for _, v := range variants.All() {
		names = append(names, v.Name)
		for _, tc := range weakeningOf[v.Name] {
			t.Run(v.Name+"/"+tc.name, func(t *testing.T) {
				g := NewWithT(t)
				tenant := v.Tenant("mhr")
				tenant.Spec.Patches = []v1alpha1.Patch{tc.patch()}
				_, err := r.Render(tenant)
				g.Expect(err).To(MatchError(ContainSubstring(tc.message)))
				var mendable *render.Error
				g.Expect(errors.As(err, &mendable)).To(BeTrue(), "%T: %v", err, err)
				g.Expect(mendable.Field).To(Equal("spec.patches[0]"))
			})
		}
	}
	NewWithT(t).Expect(names).To(ContainElements(slices.Collect(maps.Keys(weakeningOf))))
}

// TestTuningAllowed shows what is left to patches where security settings are near.
func TestTuningAllowed(t *testing.T) {
	restricted := `"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}`
	cases := []guarded{
		pods("a stricter seccomp profile", "replace", "/securityContext/seccompProfile", `{"type":"Localhost","localhostProfile":"orthanc.json"}`, ""),
		pods("another user", "replace", "/securityContext/runAsUser", "1000", ""),
		pods("a sidecar", "add", "/containers/-", `{"name":"x","image":"x:1",`+restricted+`}`, ""),
		pods("a first container", "add", "/initContainers", `[{"name":"x","image":"x:1",`+restricted+`}]`, ""),
		pods("a CA of the site", "add", "/volumes/-", `{"name":"site-ca","configMap":{"name":"site-ca"}}`, ""),
		pods("tolerations", "add", "/tolerations", `[{"key":"imaging","operator":"Exists"}]`, ""),
		container("more time to start", "replace", "/startupProbe/failureThreshold", "600", ""),
		container("a variable", "add", "/env/-", `{"name":"TZ","value":"America/Toronto"}`, ""),
		container("a mount", "add", "/volumeMounts/-", `{"name":"scratch","mountPath":"/usr/local/share/ca-certificates"}`, ""),
		{"scratch space", "Deployment", "orthanc", "kind: Deployment\nmetadata: {name: orthanc}\nspec: {template: {spec: {volumes: [{name: scratch, emptyDir: {sizeLimit: 90Gi}}]}}}\n", ""},
		{"the size of the proxy", "Deployment", "orthanc", operation("add", "/spec/template/metadata/annotations/sidecar.istio.io~1proxyMemory", `"256Mi"`), ""},
		{"workload identity", "ServiceAccount", "orthanc", operation("add", "/metadata/annotations", `{"eks.amazonaws.com/role-arn":"arn:aws:iam::1:role/x"}`), ""},
		{"the gateway's resources", "HelmRelease", "istio-ingress", operation("replace", "/spec/values/resources/limits/memory", `"2Gi"`), ""},
		{"the gateway's place", "HelmRelease", "istio-ingress", operation("add", "/spec/values/tolerations", `[{"key":"imaging","operator":"Exists"}]`), ""},
		{"values of nothing yet", "HelmRelease", "istio-ingress", operation("add", "/spec/values/nodeSelector", `{"disk":"ssd"}`), ""},
		{"the size of the gateway's proxy", "HelmRelease", "istio-ingress", operation("add", "/spec/values/podAnnotations/sidecar.istio.io~1logLevel", `"debug"`), ""},
		{"a shorter certificate", "Certificate", "web-tls", operation("replace", "/spec/duration", `"720h"`), ""},
		{"a larger key", "Certificate", "web-tls", operation("replace", "/spec/privateKey/size", "384"), ""},
		{"an annotation of the issuer", "Issuer", "tenant-ca", operation("add", "/metadata/annotations", `{"owner":"x"}`), ""},
		{"a parameter of the database", "Cluster", "postgres", operation("replace", "/spec/postgresql/parameters/shared_buffers", `"1GB"`), ""},
		{"the database's image", "Cluster", "postgres", operation("add", "/spec/imageName", `"registry.example.com/postgresql:17"`), ""},
		{"sticky sessions", "Service", "orthweb", operation("add", "/spec/sessionAffinity", `"ClientIP"`), ""},
		{"a time limit", "VirtualService", "web-vs", operation("add", "/spec/http/0/timeout", `"60s"`), ""},
	}
	r := newRenderer(t)
	plain := readTenant(t, "minimal")
	before := renderFiles(t, r, plain)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := plain.DeepCopy()
			tenant.Spec.Patches = []v1alpha1.Patch{tc.patch()}
			g.Expect(renderFiles(t, r, tenant)).NotTo(Equal(before))
		})
	}
}
