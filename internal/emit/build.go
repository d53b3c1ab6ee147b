// SPDX-License-Identifier: Apache-2.0

// Package emit holds what Korthweb itself puts into the cluster for a tenant: builders, which are pure,
// and one Applier, which brings the built objects into the cluster without ever taking over what
// Korthweb did not create.
package emit

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

const (
	// KustomizeApplierRole is the ClusterRole that allows what a bundle's objects are.
	KustomizeApplierRole = "korthweb-kustomize-applier"

	// HelmApplierRole is the ClusterRole that allows what the gateway's chart creates.
	HelmApplierRole = "korthweb-helm-applier"

	// KustomizeApplierBinding is the RoleBinding to KustomizeApplierRole in a tenant's namespace.
	KustomizeApplierBinding = "kustomize-applier"

	// HelmApplierName is the ServiceAccount in a tenant's namespace that helm-controller acts as, and
	// the RoleBinding to HelmApplierRole.
	HelmApplierName = "helm-applier"
)

// ApplierName returns the name of the ServiceAccount that kustomize-controller acts as for a tenant. It
// lives beside the Tenant.
func ApplierName(tenant *v1alpha1.Tenant) string { return tenant.Name + "-applier" }

// Objects returns everything that is emitted for a tenant but its credentials, in the order in which it
// is applied: namespace, accounts, bindings, source, layers. Each carries the digest of its content in
// v1alpha1.DigestAnnotation. The tenant must have its defaults.
func Objects(tenant *v1alpha1.Tenant) []client.Object {
	objects := []client.Object{Namespace(tenant)}
	objects = append(objects, appliers(tenant)...)
	objects = append(objects,
		ExternalArtifact(tenant),
		Kustomization(tenant, v1alpha1.DependencyLayer),
		Kustomization(tenant, v1alpha1.ApplicationLayer))
	for _, object := range objects {
		setDigest(object)
	}
	return objects
}

// appliers are what Flux acts by, for kustomize-controller and for helm-controller.
func appliers(tenant *v1alpha1.Tenant) []client.Object {
	return []client.Object{
		ServiceAccount(tenant, tenant.Namespace, ApplierName(tenant)),
		ServiceAccount(tenant, tenant.Spec.Namespace, HelmApplierName),
		RoleBinding(tenant, KustomizeApplierBinding, KustomizeApplierRole, tenant.Namespace, ApplierName(tenant)),
		RoleBinding(tenant, HelmApplierName, HelmApplierRole, tenant.Spec.Namespace, HelmApplierName),
	}
}

// Namespace builds the namespace of the tenant's workload.
//
// Pods have to meet the strictest Pod Security level, restricted: Orthanc, the gateway and PostgreSQL
// do. So do the sidecars, where the mesh runs with Istio's CNI plugin; without it the injected init
// container needs NET_ADMIN, which even the level baseline refuses, so a weaker level would not help.
//
// Labels and annotations of a Namespace decide what may run and be reached in it, so it has no common metadata. Admission
// policies compare what is created in it with the hosts, the address and more that its annotations say are the tenant's.
func Namespace(tenant *v1alpha1.Tenant) *corev1.Namespace {
	ingress := tenant.Spec.Ingress
	hosts := []string{tenant.Spec.Domain, string(ingress.Web.Host), string(ingress.DICOM.Host)}
	slices.Sort(hosts)
	common, backups := map[string]string{}, ""
	if m := tenant.Spec.CommonMetadata; m != nil {
		common = m.Annotations
	}
	if b := tenant.Spec.Postgres.Backup; b != nil {
		backups = b.DestinationPath
	}
	ns := &corev1.Namespace{
		TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{
			Name:   tenant.Spec.Namespace,
			Labels: ownerLabels(tenant),
			Annotations: map[string]string{
				v1alpha1.HostsAnnotation:              strings.Join(slices.Compact(hosts), ","),
				v1alpha1.LoadBalancerIPAnnotation:     ingress.Service.LoadBalancerIP,
				v1alpha1.LoadBalancerClassAnnotation:  ingress.Service.LoadBalancerClass,
				v1alpha1.ServiceAnnotationsAnnotation: annotationKeys(ingress.Service.Annotations),
				v1alpha1.CommonAnnotationsAnnotation:  annotationKeys(common),
				v1alpha1.BackupPathAnnotation:         backups,
			},
		},
	}
	if tenant.Spec.Ingress.Provider == v1alpha1.IstioIngress {
		ns.Labels["istio-injection"] = "enabled"
	}
	maps.Copy(ns.Labels, map[string]string{
		"pod-security.kubernetes.io/enforce":         "restricted",
		"pod-security.kubernetes.io/enforce-version": "latest",
		"pod-security.kubernetes.io/warn":            "restricted",
		"pod-security.kubernetes.io/warn-version":    "latest",
	})
	return ns
}

// annotationKeys returns the keys in order, with commas between them.
func annotationKeys(m map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ",")
}

// ServiceAccount builds an account that a Flux controller acts as. No pod runs as it, so no token is
// mounted.
func ServiceAccount(tenant *v1alpha1.Tenant, namespace, name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:                     metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ServiceAccount"},
		ObjectMeta:                   objectMeta(tenant, namespace, name),
		AutomountServiceAccountToken: ptr.To(false),
	}
}

// RoleBinding builds a binding in the tenant's namespace of a ClusterRole to a ServiceAccount.
func RoleBinding(tenant *v1alpha1.Tenant, name, clusterRole, accountNamespace, account string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: objectMeta(tenant, tenant.Spec.Namespace, name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRole},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: accountNamespace, Name: account}},
	}
}

// objectMeta returns the metadata that every emitted object but the Namespace has. The tenant's common metadata cannot
// replace what Korthweb knows its objects by.
//
// There is no ownerReference, not even on what is beside the Tenant: a foreground deletion of the Tenant
// would have the garbage collector delete the layers, the artifact and the account all at once, past
// Remove's order, and a Tenant that disappears by accident would take them with it.
func objectMeta(tenant *v1alpha1.Tenant, namespace, name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{}}
	if common := tenant.Spec.CommonMetadata; common != nil {
		maps.Copy(m.Labels, common.Labels)
		maps.Copy(m.Annotations, common.Annotations)
	}
	maps.Copy(m.Labels, ownerLabels(tenant))
	return m
}

// ownerLabels are how Korthweb tells what it created for a tenant.
func ownerLabels(tenant *v1alpha1.Tenant) map[string]string {
	return map[string]string{
		v1alpha1.ManagedByLabel:       v1alpha1.FieldManager,
		v1alpha1.TenantLabel:          tenant.Name,
		v1alpha1.TenantNamespaceLabel: tenant.Namespace,
	}
}

func setDigest(object client.Object) {
	data, err := json.Marshal(fields(object))
	if err != nil {
		panic(fmt.Sprintf("a built %T does not marshal: %v", object, err))
	}
	annotations := object.GetAnnotations()
	annotations[v1alpha1.DigestAnnotation] = digest.FromBytes(data).String()
	object.SetAnnotations(annotations)
}

// fields returns what an object sets: its JSON without the status and without the empty values that
// Go's types put there by themselves.
func fields(object client.Object) map[string]any {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		panic(fmt.Sprintf("a %T does not convert: %v", object, err))
	}
	delete(content, "status")
	if m, ok := content["metadata"].(map[string]any); ok {
		delete(m, "creationTimestamp")
	}
	return content
}
