// SPDX-License-Identifier: Apache-2.0

package policy_test

const platformNamespace = "flux-system"

var accountAttempts = []attempt{
	{name: "as Korthweb makes it", user: korthweb, namespace: platformNamespace, object: "layer"},
	{name: "orphaned and suspended", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {deletionPolicy: Orphan, suspend: true, dependsOn: [{name: x}]}`},
	{name: "without an account", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {serviceAccountName: null}`, denied: "spec.serviceAccountName: expected the applier of the tenant"},
	{name: "as Flux", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {serviceAccountName: kustomize-controller}`, denied: "spec.serviceAccountName"},
	{name: "as another tenant", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {serviceAccountName: mhr-applier}`, denied: "spec.serviceAccountName"},
	{name: "of no tenant", user: korthweb, namespace: platformNamespace, object: "layer", change: `metadata: {labels: null}, spec: {serviceAccountName: -applier}`, denied: "spec.serviceAccountName"},
	{name: "on another cluster", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {kubeConfig: {secretRef: {name: x}}}`, denied: "spec.kubeConfig: Korthweb sets no such field"},
	{name: "in another namespace", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {targetNamespace: kube-system}`, denied: "spec.targetNamespace: Korthweb sets no such field"},
	{name: "decrypted", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {decryption: {provider: sops}}`, denied: "spec.decryption"},
	{name: "substituted", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {postBuild: {substituteFrom: [{kind: Secret, name: x}]}}`, denied: "spec.postBuild"},
	{name: "patched", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {patches: [{patch: "a: b"}]}`, denied: "spec.patches"},
	{name: "from git", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {sourceRef: {kind: GitRepository}}`, denied: "spec.sourceRef: expected the tenant's ExternalArtifact"},
	{name: "from elsewhere", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {sourceRef: {namespace: mhr-orthweb}}`, denied: "spec.sourceRef"},
	{name: "another tenant's bundle", user: korthweb, namespace: platformNamespace, object: "layer", change: `spec: {sourceRef: {name: mhr}}`, denied: "spec.sourceRef"},
	{name: "a person's own", user: person, namespace: platformNamespace, object: "layer", change: `spec: {serviceAccountName: null, sourceRef: {kind: GitRepository}}`},

	{name: "as Korthweb makes it", user: korthweb, object: "binding"},
	{name: "administrator", user: korthweb, object: "binding", change: `roleRef: {name: cluster-admin}`, creation: true, denied: "roleRef: expected the ClusterRole korthweb-kustomize-applier"},
	{name: "a role that somebody made", user: korthweb, object: "binding", change: `roleRef: {kind: Role, name: korthweb-helm-applier}`, creation: true, denied: "roleRef"},
	{name: "in the platform's namespace", user: korthweb, namespace: platformNamespace, object: "binding", creation: true, denied: "metadata.namespace: expected the namespace of the tenant"},
	{name: "in another tenant's", user: korthweb, namespace: earlierNamespace, object: "binding", creation: true, denied: "metadata.namespace"},
	{name: "everybody", user: korthweb, object: "binding", change: `subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:authenticated"}]`, denied: "subjects: expected the tenant's appliers"},
	{name: "another tenant's applier", user: korthweb, object: "binding", change: `subjects: [{kind: ServiceAccount, namespace: flux-system, name: mhr-applier}]`, denied: "subjects"},
	{name: "Helm's as Korthweb makes it", user: korthweb, object: "binding", change: `roleRef: {name: korthweb-helm-applier}, subjects: [{kind: ServiceAccount, namespace: bhs-orthweb, name: helm-applier}]`, creation: true},
	{name: "Helm's of another", user: korthweb, object: "binding", change: `roleRef: {name: korthweb-helm-applier}, subjects: [{kind: ServiceAccount, namespace: mhr-orthweb, name: helm-applier}]`, creation: true, denied: "subjects"},
	{name: "itself to read Secrets", user: korthweb, object: "binding", change: `roleRef: {name: korthweb-secret-reader}, subjects: [{kind: ServiceAccount, namespace: flux-system, name: korthweb}]`, creation: true},
	{name: "another to read Secrets", user: korthweb, object: "binding", change: `roleRef: {name: korthweb-secret-reader}`, creation: true, denied: "subjects"},

	{name: "as Korthweb makes it", user: korthweb, object: "Namespace"},
	{name: "without its label", user: korthweb, object: "Namespace", change: `metadata: {labels: {korthweb.digihunch.com/tenant: null}}`, creation: true, denied: "metadata.labels: expected korthweb.digihunch.com/tenant"},
	{name: "without who manages it", user: korthweb, object: "Namespace", change: `metadata: {labels: {app.kubernetes.io/managed-by: null}}`, creation: true, denied: "metadata.labels: expected korthweb"},
	{name: "without restriction", user: korthweb, object: "Namespace", change: `metadata: {labels: {pod-security.kubernetes.io/enforce: privileged}}`, denied: "metadata.labels: expected pod-security.kubernetes.io/enforce"},
	{name: "somebody's made its own", user: korthweb, object: "plain Namespace", change: `metadata: {labels: {team: other}}`, denied: "metadata.labels: expected korthweb"},
	{name: "passwords", user: korthweb, object: "plain Secret"},
	{name: "a token", user: korthweb, object: "Secret", change: `type: kubernetes.io/service-account-token`, creation: true, denied: "type: expected Opaque"},
}

var objectAttempts = []attempt{
	{name: "by a person", user: person, namespace: platformNamespace, object: "Tenant"},
	{name: "by Flux", user: applier, namespace: platformNamespace, object: "Tenant", change: `metadata: {annotations: {team: a}}`},
	{name: "marked", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {annotations: {korthweb.digihunch.com/remove: main@sha1:1}}`, denied: "metadata.annotations: only Korthweb may set, change or remove"},
	{name: "marked by an administrator", user: administrator, namespace: platformNamespace, object: "Tenant", change: `metadata: {annotations: {korthweb.digihunch.com/remove: main@sha1:1}}`, denied: "metadata.annotations"},
	{name: "marked by Korthweb", user: korthweb, namespace: platformNamespace, object: "Tenant", change: `metadata: {annotations: {korthweb.digihunch.com/remove: main@sha1:1}, finalizers: [korthweb.digihunch.com/finalizer]}`},
	{name: "held", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {finalizers: [korthweb.digihunch.com/finalizer]}`, denied: "metadata.finalizers: only Korthweb may"},
	{name: "held by somebody else", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {finalizers: [example.org/mine]}`},
	{name: "of another file", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {annotations: {korthweb.digihunch.com/path: tenants/mhr.yaml}}`, denied: "metadata.annotations"},
	{name: "of a repository", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {labels: {korthweb.digihunch.com/repository: facilities}}`, denied: "metadata.labels: only Korthweb may"},
	{name: "with a label of the platform's", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {labels: {ring: canary}}`},
	{name: "let go", user: person, namespace: platformNamespace, object: "held Tenant", change: `metadata: {finalizers: null}`, onlyChange: true, denied: "metadata.finalizers: only Korthweb may"},
	{name: "let go by an administrator", user: administrator, namespace: platformNamespace, object: "held Tenant", change: `metadata: {finalizers: null}`, onlyChange: true, denied: "metadata.finalizers"},
	{name: "mark taken off", user: person, namespace: platformNamespace, object: "held Tenant", change: `metadata: {annotations: null}`, onlyChange: true, denied: "metadata.annotations: only Korthweb may"},
	{name: "mark taken off by Korthweb", user: korthweb, namespace: platformNamespace, object: "held Tenant", change: `metadata: {annotations: null, finalizers: null}`, onlyChange: true},
	{name: "adoption approved", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {annotations: {korthweb.digihunch.com/approve-adoption: x}}`},
	{name: "reconciled", user: person, namespace: platformNamespace, object: "Tenant", change: `metadata: {annotations: {reconcile.fluxcd.io/requestedAt: x}}`},

	{name: "by a person", user: person, namespace: platformNamespace, object: "ControllerRevision"},
	{name: "made one of ours", user: person, namespace: platformNamespace, object: "ControllerRevision", change: `metadata: {labels: {korthweb.digihunch.com/tenant: bhs}}`, denied: "metadata.labels: only Korthweb may create or change"},
	{name: "by Korthweb", user: korthweb, namespace: platformNamespace, object: "last good state", change: `revision: 2`},
	{name: "by a person", user: person, namespace: platformNamespace, object: "last good state", change: `revision: 2`, denied: "metadata.labels: only Korthweb may create or change"},
	{name: "made no longer ours", user: person, namespace: platformNamespace, object: "last good state", change: `metadata: {labels: null}`, onlyChange: true, denied: "metadata.labels: only Korthweb may create or change"},
	{name: "by an administrator", user: administrator, namespace: platformNamespace, object: "last good state", change: `revision: 2`, denied: "metadata.labels"},
	{name: "of a StatefulSet of the database's chart", user: person, object: "last good state", creation: true},
}
