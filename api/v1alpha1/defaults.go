// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"net/url"
	"strconv"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
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

	// DefaultTraefikChartURL is where Traefik publishes its chart.
	DefaultTraefikChartURL = "oci://ghcr.io/traefik/helm/traefik"

	// DefaultTraefikChartVersion is the version of that chart.
	DefaultTraefikChartVersion = "41.6.0"

	// DefaultPostgresChartURL is where Bitnami publishes its chart postgresql-ha.
	DefaultPostgresChartURL = "oci://registry-1.docker.io/bitnamicharts/postgresql-ha"

	// DefaultPostgresChartVersion is the version of that chart.
	DefaultPostgresChartVersion = "16.3.2"

	// DefaultPostgresPort is PostgreSQL's own.
	DefaultPostgresPort int32 = 5432

	// DefaultDatabase is the name of the database and, where Korthweb makes it, of its owner.
	DefaultDatabase = "orthanc"

	// DefaultBackupSchedule is at two every night.
	DefaultBackupSchedule = "0 0 2 * * *"

	// DefaultRetentionPolicy of backups.
	DefaultRetentionPolicy = "30d"

	// DefaultUsersSecret is the Secret of generated users.
	DefaultUsersSecret = "orthanc-users"

	// DefaultClientDuration of a modality's certificate is a year.
	DefaultClientDuration = 8760 * time.Hour

	// DefaultClientRenewBefore is 90 days, the time to bring a new one to the modality.
	DefaultClientRenewBefore = 2160 * time.Hour

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
	s.Orthanc.setDefaults()
	s.Postgres.setDefaults()
	if s.Postgres.Resources == nil && s.Postgres.Provider != ExternalPostgres {
		s.Postgres.Resources = &ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("250m"),
				corev1.ResourceMemory: s.databaseMemory(),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: s.databaseMemory()},
		}
	}
	s.Certificates.setDefaults()
	s.Ingress.setDefaults(s.Domain)
	s.Quota.setDefaults()
	setDefault(&s.Monitoring.Provider, NoMonitoring)
}

func (o *OrthancSpec) setDefaults() {
	if o.Plugins == nil {
		o.Plugins = []Plugin{DICOMwebPlugin, OrthancExplorer2Plugin, GDCMPlugin}
	}
	for i := range o.Modalities {
		if m := &o.Modalities[i]; m.Permissions == nil {
			m.Permissions = []Permission{EchoPermission, StorePermission}
		}
	}
	setDefault(&o.UsersSecretRef, &meta.LocalObjectReference{Name: DefaultUsersSecret})
	setDefault(&o.Storage.Type, VolumeStorage)
	if o.Storage.Type == VolumeStorage {
		setDefault(&o.Storage.Size, ptr.To(resource.MustParse("100Gi")))
		setDefault(&o.Storage.AccessMode, corev1.ReadWriteMany)
	}
	if s3 := o.Storage.S3; s3 != nil {
		setDefault(&s3.VirtualAddressing, ptr.To(s3.Endpoint == ""))
	}
}

func (p *PostgresSpec) setDefaults() {
	setDefault(&p.Provider, CloudNativePG)
	if e := p.External; e != nil {
		setDefault(&e.Port, DefaultPostgresPort)
		setDefault(&e.Database, DefaultDatabase)
		setDefault(&e.TLSMode, TLSVerifyFull)
	}
	if p.Provider == ExternalPostgres {
		return
	}
	setDefault(&p.Instances, ptr.To[int32](1))
	setDefault(&p.Storage.Size, ptr.To(resource.MustParse("10Gi")))
	if p.Provider == BitnamiPostgres {
		setDefault(&p.Chart.URL, DefaultPostgresChartURL)
		setDefault(&p.Chart.Version, DefaultPostgresChartVersion)
	}
	if b := p.Backup; b != nil {
		setDefault(&b.Schedule, DefaultBackupSchedule)
		setDefault(&b.RetentionPolicy, DefaultRetentionPolicy)
	}
}

func (c *CertificatesSpec) setDefaults() {
	setDefault(&c.Duration, &metav1.Duration{Duration: DefaultCertificateDuration})
	setDefault(&c.RenewBefore, &metav1.Duration{Duration: min(DefaultCertificateRenewBefore, c.Duration.Duration/3)})
	setDefault(&c.Clients.Duration, &metav1.Duration{Duration: DefaultClientDuration})
	setDefault(&c.Clients.RenewBefore, &metav1.Duration{Duration: min(DefaultClientRenewBefore, c.Clients.Duration.Duration/3)})
	if i := c.IssuerRef; i != nil {
		setDefault(&i.Group, "cert-manager.io")
		setDefault(&i.Kind, "ClusterIssuer")
	}
}

func (i *IngressSpec) setDefaults(domain string) {
	setDefault(&i.Provider, IstioIngress)
	setDefault(&i.Web.Host, Hostname(domain))
	setDefault(&i.DICOM.Host, Hostname("dicom."+domain))
	setDefault(&i.DICOM.Port, DefaultDICOMPort)
	setDefault(&i.DICOM.ClientCertificates, ClientCertificatesRequired)
	setDefault(&i.Service.Type, corev1.ServiceTypeLoadBalancer)
	for n := range i.Egress.Hosts {
		setDefault(&i.Egress.Hosts[n].Protocol, "TLS")
	}
	switch i.Provider {
	case TraefikIngress:
		setDefault(&i.Chart.URL, DefaultTraefikChartURL)
		setDefault(&i.Chart.Version, DefaultTraefikChartVersion)
	default:
		setDefault(&i.Chart.URL, DefaultGatewayChartURL)
		setDefault(&i.Chart.Version, DefaultGatewayChartVersion)
	}
}

// defaultQuota bounds the numbers of objects: more than any bundle needs, and little enough that a mistake in one
// namespace stays one tenant's. What a tenant may use of the cluster's CPU, memory and storage is for the platform
// to say.
var defaultQuota = map[corev1.ResourceName]string{
	corev1.ResourcePods:                   "200",
	corev1.ResourceServices:               "30",
	corev1.ResourceServicesLoadBalancers:  "2", // one, and the other while the ingress provider changes
	corev1.ResourcePersistentVolumeClaims: "30",
	corev1.ResourceConfigMaps:             "100",
	corev1.ResourceSecrets:                "600", // a client certificate for each of 200 modalities among them
}

func (q *QuotaSpec) setDefaults() {
	setDefaults(&q.Hard, defaultQuota)
	setDefaults(&q.Containers.DefaultRequest, map[corev1.ResourceName]string{corev1.ResourceCPU: "100m", corev1.ResourceMemory: "128Mi"})
}

// setDefaults adds the entries that a list of resources lacks.
func setDefaults(list *map[corev1.ResourceName]resource.Quantity, defaults map[corev1.ResourceName]string) {
	if *list == nil {
		*list = map[corev1.ResourceName]resource.Quantity{}
	}
	for name, value := range defaults {
		if _, ok := (*list)[name]; !ok {
			(*list)[name] = resource.MustParse(value)
		}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// HostPort returns the host and the port of an endpoint, 443 where it names none, as https does. Both are empty where
// there is no endpoint.
func (e EndpointURL) HostPort() (host string, port int) {
	u, err := url.Parse(string(e))
	if err != nil || u.Host == "" {
		return "", 0
	}
	port = 443
	if n, err := strconv.Atoi(u.Port()); err == nil {
		port = n
	}
	return u.Hostname(), port
}

// IndexConnections is how many connections each Orthanc pod keeps to the index in its database: IndexConnectionsCount
// of its PostgreSQL plugin, whose own default, 50, would need a server for 50 connections per pod.
const IndexConnections = 8

// ConnectionsPerReplica is how many connections each Orthanc pod opens to its database: those of the index, and one
// more where the images are in the database too.
func (s *TenantSpec) ConnectionsPerReplica() int32 {
	if s.Orthanc.Storage.Type == DatabaseStorage {
		return IndexConnections + 1
	}
	return IndexConnections
}

// MaxReplicas is the most Orthanc pods that there may be at once.
func (o *OrthancSpec) MaxReplicas() int32 {
	if o.Autoscaling != nil {
		return o.Autoscaling.MaxReplicas
	}
	return ptr.Deref(o.Replicas, 1)
}

// OrthancConnections is how many connections the most Orthanc pods open to their database.
func (s *TenantSpec) OrthancConnections() int32 {
	return s.Orthanc.MaxReplicas() * s.ConnectionsPerReplica()
}

// MaxConnections is the number of connections that the tenant's database must bear: those of Orthanc's pods and 20
// for the operator, replicas, backups and people, rounded up to whole hundreds so that scaling rarely changes it, as
// PostgreSQL restarts for that. PostgreSQL's own default is 100.
func (s *TenantSpec) MaxConnections() int32 {
	const spare, step = 20, 100
	return (s.OrthancConnections() + spare + step - 1) / step * step
}

// ConnectionMemory is what a connection in use takes of a PostgreSQL server's memory, in bytes: some 6 MB with warm
// caches, and 4 MB of work_mem, PostgreSQL's default.
const ConnectionMemory = 10 << 20

// databaseMemory is the memory of a PostgreSQL server by default: 512Mi and four thirds of what the connections of
// Orthanc take, which leaves a quarter for shared_buffers, in steps of 512Mi from 1Gi on.
func (s *TenantSpec) databaseMemory() resource.Quantity {
	const step = 512 << 20
	needed := step + int64(s.OrthancConnections())*ConnectionMemory*4/3
	return *resource.NewQuantity(max(2, (needed+step-1)/step)*step, resource.BinarySI)
}
