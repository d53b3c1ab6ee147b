// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/robfig/cron/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// schedules are read as CloudNativePG reads those of a ScheduledBackup, with seconds.
var schedules = cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// checkSchedule refuses a schedule of backups that cannot be read, that fires more than once an hour, or that never does.
func checkSchedule(text string, at *field.Path) field.ErrorList {
	schedule, err := schedules.Parse(text)
	if err != nil {
		return field.ErrorList{field.Invalid(at, text, "is no schedule: "+err.Error())}
	}
	// One second of one minute is once an hour at most.
	if s, ok := schedule.(*cron.SpecSchedule); !ok || bits.OnesCount64(s.Second) != 1 || bits.OnesCount64(s.Minute) != 1 {
		return field.ErrorList{field.Invalid(at, text, "fires more often than once an hour: name one second and one minute, such as 0 30 1 * * *")}
	}
	if schedule.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return field.ErrorList{field.Invalid(at, text, "never fires: there is no such day")}
	}
	return nil
}

// checkPostgres judges the schedule of backups, and whether the database can bear as many connections as Orthanc's replicas open.
func checkPostgres(s *v1alpha1.TenantSpec, at *field.Path) field.ErrorList {
	p := &s.Postgres
	var errs field.ErrorList
	if p.Backup != nil {
		errs = checkSchedule(p.Backup.Schedule, at.Child("backup", "schedule"))
	}
	if e := p.External; e != nil {
		errs = append(errs, checkHost(e.Host, at.Child("external", "host"))...)
		needed := s.OrthancConnections()
		if e.MaxConnections != nil && needed > *e.MaxConnections {
			errs = append(errs, field.Invalid(at.Child("external", "maxConnections"), *e.MaxConnections, fmt.Sprintf(
				"%d replicas of Orthanc open %d connections, %d each: allow more, or have fewer replicas", s.Orthanc.MaxReplicas(), needed, s.ConnectionsPerReplica())))
		}
		return errs
	}
	if p.Resources == nil {
		return errs
	}
	errs = append(errs, checkResources(p.Resources, at.Child("resources"))...)
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
