// SPDX-License-Identifier: Apache-2.0

package variants

import (
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// value is one of an axis.
type value struct {
	name string
	set  func(*v1alpha1.TenantSpec)
	// objects tells that it changes which objects there are.
	objects bool
	// not names values of other axes that it does not go with.
	not map[string]bool
}

// axes are the options and their values. The first value of each is the default and sets nothing.
var axes = [][]value{
	{
		{name: "istio"},
		{name: "egress-gateway", objects: true, set: func(s *v1alpha1.TenantSpec) { s.Ingress.Egress.Gateway = true }},
		{name: "traefik", objects: true, set: func(s *v1alpha1.TenantSpec) { s.Ingress.Provider = v1alpha1.TraefikIngress }},
	},
	{
		{name: "cloudnative-pg"},
		{name: "backup", objects: true, set: func(s *v1alpha1.TenantSpec) {
			s.Postgres.Backup = &v1alpha1.BackupSpec{DestinationPath: "s3://backups/" + s.Domain, SecretRef: secret("backup-s3")}
		}},
		{name: "bitnami", objects: true, set: func(s *v1alpha1.TenantSpec) { s.Postgres.Provider = v1alpha1.BitnamiPostgres }},
		{name: "external", objects: true, set: external("db.example.org", v1alpha1.TLSVerifyFull, secret("db-ca"))},
		{name: "three-instances", set: func(s *v1alpha1.TenantSpec) {
			s.Postgres.Instances = ptr.To[int32](3)
			s.Postgres.Storage = v1alpha1.StorageSpec{Size: size("20Gi"), ClassName: "fast"}
			s.Postgres.Resources = &v1alpha1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("4Gi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("4Gi")},
			}
		}},
		{name: "backup-by-identity", set: func(s *v1alpha1.TenantSpec) {
			s.Postgres.Backup = &v1alpha1.BackupSpec{
				DestinationPath: "s3://backups/" + s.Domain, Endpoint: "https://minio.example.org:9000",
				Schedule: "0 30 1 * * *", RetentionPolicy: "8w",
			}
			s.Postgres.Instances = ptr.To[int32](3)
		}},
		{name: "bitnami-chart", set: func(s *v1alpha1.TenantSpec) {
			s.Postgres = v1alpha1.PostgresSpec{
				Provider: v1alpha1.BitnamiPostgres, Instances: ptr.To[int32](3),
				Storage: v1alpha1.StorageSpec{Size: size("20Gi"), ClassName: "fast"},
				Chart: v1alpha1.ChartSpec{
					URL: "oci://registry.example.org/charts/postgresql-ha", Version: "16.3.2", Insecure: true, SecretRef: secret("registry"),
				},
			}
		}},
		{name: "external-verify-ca", set: external("192.0.2.10", "verify-ca", secret("db-ca"))},
		{name: "external-verify-full", set: external("db.example.org", v1alpha1.TLSVerifyFull, nil)},
		{name: "external-require", set: external("db.example.org", "require", nil)},
		{name: "external-disable", set: external("2001:db8::10", "disable", nil)},
	},
	{
		{name: "volume"},
		{name: "s3", objects: true, set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Storage = v1alpha1.OrthancStorageSpec{Type: v1alpha1.S3Storage, S3: &v1alpha1.S3Spec{Bucket: "dicom", Region: "eu-central-1"}}
		}},
		{name: "database-storage", objects: true, set: func(s *v1alpha1.TenantSpec) { s.Orthanc.Storage.Type = v1alpha1.DatabaseStorage }},
		{name: "volume-class", set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Storage.StorageSpec = v1alpha1.StorageSpec{Size: size("2Ti"), ClassName: "shared"}
		}},
		{name: "read-write-once", not: set("several", "autoscaling"), set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Storage.AccessMode = corev1.ReadWriteOnce
		}},
		{name: "s3-endpoint", set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Storage = v1alpha1.OrthancStorageSpec{Type: v1alpha1.S3Storage, S3: &v1alpha1.S3Spec{
				Bucket: "dicom", Region: "us-east-1", Endpoint: "https://minio.example.org:9000", RootPath: "orthanc", SecretRef: secret("dicom-s3"),
			}}
		}},
	},
	{
		{name: "one-replica"},
		{name: "several", objects: true, set: func(s *v1alpha1.TenantSpec) { s.Orthanc.Replicas = ptr.To[int32](3) }},
		{name: "autoscaling", objects: true, set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: ptr.To[int32](2), MaxReplicas: 5}
		}},
	},
	{
		{name: "client-certificates"},
		{name: "no-client-certificates", objects: true, set: func(s *v1alpha1.TenantSpec) {
			s.Ingress.DICOM.ClientCertificates = v1alpha1.ClientCertificatesNone
		}},
	},
	{
		{name: "no-peers"},
		{name: "peers", objects: true, set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Modalities = []v1alpha1.Modality{
				{Name: "ct-1", AETitle: "CT1", Host: "ct-1.example.org", Port: 104},
				{Name: "mr-1", AETitle: "MR 1", Host: "192.0.2.20", Port: 11112, Permissions: []v1alpha1.Permission{
					v1alpha1.EchoPermission, v1alpha1.StorePermission, v1alpha1.FindPermission, v1alpha1.FindWorklistPermission,
					v1alpha1.GetPermission, v1alpha1.MovePermission, v1alpha1.StorageCommitmentPermission,
				}},
				{Name: "us-1", AETitle: "US1", Host: "2001:db8::20", Port: 104, Permissions: []v1alpha1.Permission{v1alpha1.EchoPermission}},
			}
			s.Ingress.Egress.Hosts = []v1alpha1.EgressHost{
				{Host: "pacs.example.org", Port: 443}, {Host: "198.51.100.7", Port: 2575, Protocol: "TCP"},
			}
		}},
	},
	{
		{name: "no-monitoring"},
		{name: "monitoring", objects: true, set: func(s *v1alpha1.TenantSpec) { s.Monitoring.Provider = v1alpha1.PrometheusOperator }},
	},
	{
		{name: "own-ca"},
		{name: "cluster-issuer", set: func(s *v1alpha1.TenantSpec) {
			s.Certificates.IssuerRef = &v1alpha1.IssuerReference{Name: "acme"}
		}},
		{name: "issuer", set: func(s *v1alpha1.TenantSpec) {
			s.Certificates.IssuerRef = &v1alpha1.IssuerReference{Kind: "Issuer", Name: "acme"}
		}},
	},
	{
		{name: "load-balancer"},
		{name: "load-balancer-options", set: func(s *v1alpha1.TenantSpec) {
			s.Ingress.Service = v1alpha1.GatewayService{
				LoadBalancerClass: "example.org/lb", LoadBalancerIP: "192.0.2.1",
				Annotations: map[string]string{"example.org/scheme": "internal"},
			}
			s.Ingress.DICOM.Port = 104
		}},
		{name: "node-port", set: func(s *v1alpha1.TenantSpec) { s.Ingress.Service.Type = corev1.ServiceTypeNodePort }},
		{name: "cluster-ip", set: func(s *v1alpha1.TenantSpec) { s.Ingress.Service.Type = corev1.ServiceTypeClusterIP }},
	},
	{
		{name: "default-chart"},
		{name: "own-chart", set: func(s *v1alpha1.TenantSpec) {
			s.Ingress.Chart = v1alpha1.ChartSpec{URL: "oci://registry.example.org/charts/gateway", Version: "1.31.1", Insecure: true, SecretRef: secret("registry")}
		}},
	},
	{
		{name: "default-quota"},
		{name: "quota", set: func(s *v1alpha1.TenantSpec) {
			s.Quota.Hard = map[corev1.ResourceName]resource.Quantity{
				corev1.ResourceRequestsCPU: resource.MustParse("50"), corev1.ResourceRequestsStorage: resource.MustParse("5Ti"),
			}
			s.Quota.Containers = v1alpha1.ContainerLimits{
				Default: map[corev1.ResourceName]resource.Quantity{corev1.ResourceMemory: resource.MustParse("512Mi")},
				Max:     map[corev1.ResourceName]resource.Quantity{corev1.ResourceMemory: resource.MustParse("16Gi")},
			}
		}},
	},
	{
		{name: "default-plugins"},
		{name: "no-plugins", set: func(s *v1alpha1.TenantSpec) { s.Orthanc.Plugins = []v1alpha1.Plugin{} }},
		{name: "viewers", set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Plugins = []v1alpha1.Plugin{v1alpha1.DICOMwebPlugin, v1alpha1.OrthancExplorer2Plugin, "ohif", "stone-web-viewer", "volview"}
		}},
		{name: "tools", set: func(s *v1alpha1.TenantSpec) {
			s.Orthanc.Plugins = []v1alpha1.Plugin{"gdcm", "transfers", "neuro", "stl", "wsi"}
		}},
	},
	{
		{name: "plain"},
		{name: "own-words", set: func(s *v1alpha1.TenantSpec) {
			s.DisplayName = `St. "Ann's" $HOME <Clinic> {é}`
			s.DeletionPolicy = v1alpha1.DeleteData
			s.CommonMetadata = &kustomizev1.CommonMetadata{
				Labels: map[string]string{"example.org/cost-centre": "42"}, Annotations: map[string]string{"example.org/owner": "imaging"},
			}
			s.Orthanc.Image = "registry.example.org/orthanc@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
			s.Orthanc.AETitle = "ST ANN'S"
			s.Orthanc.UsersSecretRef = secret("own-users")
			s.Orthanc.Config = &apiextensionsv1.JSON{Raw: []byte(`{"StableAge": 120, "DicomScpTimeout": 60}`)}
		}},
	},
}

func external(host string, mode v1alpha1.TLSMode, ca *meta.LocalObjectReference) func(*v1alpha1.TenantSpec) {
	return func(s *v1alpha1.TenantSpec) {
		s.Postgres = v1alpha1.PostgresSpec{Provider: v1alpha1.ExternalPostgres, External: &v1alpha1.ExternalPostgresSpec{
			Host: host, SecretRef: meta.LocalObjectReference{Name: "db"}, TLSMode: mode, CASecretRef: ca,
		}}
	}
}

func secret(name string) *meta.LocalObjectReference { return &meta.LocalObjectReference{Name: name} }

func size(s string) *resource.Quantity { return ptr.To(resource.MustParse(s)) }

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, name := range names {
		m[name] = true
	}
	return m
}
