// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// checkPostgres judges whether the database can bear as many connections as Orthanc's replicas open.
func checkPostgres(s *v1alpha1.TenantSpec, at *field.Path) field.ErrorList {
	p := &s.Postgres
	if e := p.External; e != nil {
		errs := checkHost(e.Host, at.Child("external", "host"))
		needed := s.OrthancConnections()
		if e.MaxConnections != nil && needed > *e.MaxConnections {
			errs = append(errs, field.Invalid(at.Child("external", "maxConnections"), *e.MaxConnections, fmt.Sprintf(
				"%d replicas of Orthanc open %d connections, %d each: allow more, or have fewer replicas", s.Orthanc.MaxReplicas(), needed, s.ConnectionsPerReplica())))
		}
		return errs
	}
	if p.Resources == nil {
		return nil
	}
	errs := checkResources(p.Resources, at.Child("resources"))
	limit, limited := p.Resources.Limits[corev1.ResourceMemory]
	// The bundle gives shared_buffers a quarter of the memory.
	room := limit.Value() * 3 / 4
	if needed := int64(s.OrthancConnections()) * v1alpha1.ConnectionMemory; limited && room < needed {
		errs = append(errs, field.Invalid(at.Child("resources", "limits").Key("memory"), limit.String(), fmt.Sprintf(
			"%d replicas of Orthanc open %d connections, which take %s beside the quarter of it for shared_buffers: allow more, or have fewer replicas",
			s.Orthanc.MaxReplicas(), s.OrthancConnections(), resource.NewQuantity(needed, resource.BinarySI))))
	}
	return errs
}
