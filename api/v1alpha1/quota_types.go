// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// QuotaSpec bounds what the tenant's namespace may hold.
type QuotaSpec struct {
	// Hard are the limits of a ResourceQuota. They are put over the defaults, which bound the numbers of objects.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Hard map[corev1.ResourceName]resource.Quantity `json:"hard,omitempty" facility:"reserved"`

	// Containers are the defaults and the bounds of containers that say nothing themselves, by a LimitRange.
	// +optional
	Containers ContainerLimits `json:"containers,omitempty,omitzero" facility:"reserved"`
}

// ContainerLimits is the part of a LimitRange that is about containers.
type ContainerLimits struct {
	// Default limits of a container that has none.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Default map[corev1.ResourceName]resource.Quantity `json:"default,omitempty" facility:"reserved"`

	// DefaultRequest of a container that has none.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	DefaultRequest map[corev1.ResourceName]resource.Quantity `json:"defaultRequest,omitempty" facility:"reserved"`

	// Max that a container may have.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Max map[corev1.ResourceName]resource.Quantity `json:"max,omitempty" facility:"reserved"`
}

// MonitoringProvider says who collects metrics.
// +kubebuilder:validation:Enum=None;PrometheusOperator
type MonitoringProvider string

const (
	// NoMonitoring renders no monitor.
	NoMonitoring MonitoringProvider = "None"

	// PrometheusOperator renders the monitors that Prometheus Operator reads.
	PrometheusOperator MonitoringProvider = "PrometheusOperator"
)

// MonitoringSpec says who collects the tenant's metrics.
type MonitoringSpec struct {
	// Provider of the monitoring: None (the default) or PrometheusOperator, whose CRDs must then be installed.
	// +optional
	Provider MonitoringProvider `json:"provider,omitempty" facility:"allowed"`
}
