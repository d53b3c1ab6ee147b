// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Defaults of a Tenant. Those of versions are what the bundle was tested with.
const (
	// DefaultOrthancImage is orthancteam's image of Orthanc 1.13.0.
	DefaultOrthancImage = "orthancteam/orthanc:26.8.1"

	// DefaultAETitle is Orthanc's own default.
	DefaultAETitle AETitle = "ORTHANC"

	// DefaultDICOMPort is registered for DICOM with IANA.
	DefaultDICOMPort int32 = 11112

	// DefaultGatewayChartURL is where Istio publishes its gateway chart.
	DefaultGatewayChartURL = "oci://ghcr.io/istio/release/charts/gateway"

	// DefaultGatewayChartVersion is the version of that chart.
	DefaultGatewayChartVersion = "1.31.1"

	// DefaultCertificateDuration is cert-manager's own default, 90 days.
	DefaultCertificateDuration = 2160 * time.Hour

	// DefaultCertificateRenewBefore is a third of that, 30 days.
	DefaultCertificateRenewBefore = 720 * time.Hour
)

// SetDefaults fills every field of the spec that has a default and is not set, those that follow
// from the name and the domain included. It is idempotent.
func (in *Tenant) SetDefaults() {
	s := &in.Spec
	setDefault(&s.DisplayName, in.Name)
	setDefault(&s.Namespace, in.Name+"-orthweb")
	setDefault(&s.DeletionPolicy, RetainData)

	setDefault(&s.Orthanc.Image, DefaultOrthancImage)
	setDefault(&s.Orthanc.AETitle, DefaultAETitle)
	if s.Orthanc.Replicas == nil && s.Orthanc.Autoscaling == nil {
		s.Orthanc.Replicas = ptr.To[int32](1)
	}
	if a := s.Orthanc.Autoscaling; a != nil {
		setDefault(&a.MinReplicas, ptr.To[int32](1))
		setDefault(&a.TargetCPUUtilizationPercentage, ptr.To[int32](80))
	}
	if s.Orthanc.Resources == nil {
		// One 100 MB C-STORE peaks at about 360 MB in Orthanc, so a limit of 2Gi bears five at once.
		s.Orthanc.Resources = &ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("250m"),
				corev1.ResourceMemory: resource.MustParse("512Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi")},
		}
	}
	setDefault(&s.Orthanc.Storage.Size, ptr.To(resource.MustParse("100Gi")))

	setDefault(&s.Postgres.Instances, ptr.To[int32](1))
	setDefault(&s.Postgres.Storage.Size, ptr.To(resource.MustParse("10Gi")))

	setDefault(&s.Certificates.Duration, &metav1.Duration{Duration: DefaultCertificateDuration})
	setDefault(&s.Certificates.RenewBefore, &metav1.Duration{Duration: min(DefaultCertificateRenewBefore, s.Certificates.Duration.Duration/3)})

	setDefault(&s.Ingress.Web.Host, Hostname(s.Domain))
	setDefault(&s.Ingress.DICOM.Host, Hostname("dicom."+s.Domain))
	setDefault(&s.Ingress.DICOM.Port, DefaultDICOMPort)
	setDefault(&s.Ingress.Service.Type, corev1.ServiceTypeLoadBalancer)
	setDefault(&s.Ingress.Chart.URL, DefaultGatewayChartURL)
	setDefault(&s.Ingress.Chart.Version, DefaultGatewayChartVersion)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
