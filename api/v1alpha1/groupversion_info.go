// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the Korthweb API: TenantRepository and Tenant, which live in the cluster, and
// TenantClass, which lives only in files beside the tenants.
//
// +kubebuilder:object:generate=true
// +groupName=korthweb.digihunch.com
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of every kind in this package.
	GroupVersion = schema.GroupVersion{Group: "korthweb.digihunch.com", Version: "v1alpha1"}

	// SchemeBuilder registers this package's kinds.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds this package's kinds to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&TenantRepository{}, &TenantRepositoryList{},
		&Tenant{}, &TenantList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
