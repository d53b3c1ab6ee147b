// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// What a PostgreSQL server takes at least: its shared buffers, as the bundle sets them, and for each connection its
// default work_mem (https://www.postgresql.org/docs/current/runtime-config-resource.html).
const (
	sharedBuffers       = 256 << 20
	memoryPerConnection = 4 << 20
)

// checkPostgres judges whether the database can bear as many connections as Orthanc's replicas open.
func checkPostgres(s *v1alpha1.TenantSpec, at *field.Path) field.ErrorList {
	p := &s.Postgres
	if e := p.External; e != nil {
		errs := checkHost(e.Host, at.Child("external", "host"))
		needed := s.Orthanc.MaxReplicas() * v1alpha1.ConnectionsPerReplica
		if e.MaxConnections != nil && needed > *e.MaxConnections {
			errs = append(errs, field.Invalid(at.Child("external", "maxConnections"), *e.MaxConnections, fmt.Sprintf(
				"%d replicas of Orthanc open %d connections, %d each: allow more, or have fewer replicas", s.Orthanc.MaxReplicas(), needed, v1alpha1.ConnectionsPerReplica)))
		}
		return errs
	}
	if p.Resources == nil {
		return nil
	}
	errs := checkResources(p.Resources, at.Child("resources"))
	limit, limited := p.Resources.Limits[corev1.ResourceMemory]
	needed := resource.NewQuantity(sharedBuffers+int64(s.MaxConnections())*memoryPerConnection, resource.BinarySI)
	if limited && limit.Cmp(*needed) < 0 {
		errs = append(errs, field.Invalid(at.Child("resources", "limits").Key("memory"), limit.String(), fmt.Sprintf(
			"%d connections, as %d replicas of Orthanc need, take %s of memory: allow that, or have fewer replicas",
			s.MaxConnections(), s.Orthanc.MaxReplicas(), needed.String())))
	}
	return errs
}
