// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/internal/tenant"
)

// TestSchedulesRest holds that backups and renewals leave time between them, that a schedule is one, and that what a
// number bounds is bounded.
func TestSchedulesRest(t *testing.T) {
	const backup = "postgres: {backup: {destinationPath: 's3://b1b/x', schedule: '%s'}}"
	for name, tc := range map[string]struct{ spec, field, text string }{
		"every second":                   {fmt.Sprintf(backup, "* * * * * *"), "spec.postgres.backup.schedule", "once an hour"},
		"every minute":                   {fmt.Sprintf(backup, "0 * * * * *"), "spec.postgres.backup.schedule", "once an hour"},
		"every five minutes":             {fmt.Sprintf(backup, "0 */5 * * * *"), "spec.postgres.backup.schedule", "once an hour"},
		"twice an hour":                  {fmt.Sprintf(backup, "0 0,30 2 * * *"), "spec.postgres.backup.schedule", "once an hour"},
		"each minute of an hour":         {fmt.Sprintf(backup, "0 0-59 2 * * *"), "spec.postgres.backup.schedule", "once an hour"},
		"each second of a minute":        {fmt.Sprintf(backup, "? 0 2 * * *"), "spec.postgres.backup.schedule", "once an hour"},
		"a descriptor":                   {fmt.Sprintf(backup, "@every 1s"), "spec.postgres.backup.schedule", "six fields"},
		"another time zone":              {fmt.Sprintf(backup, "TZ=UTC 0 0 2 * *"), "spec.postgres.backup.schedule", "six fields"},
		"no such minute":                 {fmt.Sprintf(backup, "0 60 2 * * *"), "spec.postgres.backup.schedule", "is no schedule"},
		"no such hour":                   {fmt.Sprintf(backup, "0 0 24 * * *"), "spec.postgres.backup.schedule", "is no schedule"},
		"no such month":                  {fmt.Sprintf(backup, "0 0 2 * ABC *"), "spec.postgres.backup.schedule", "is no schedule"},
		"never":                          {fmt.Sprintf(backup, "0 0 2 30 2 *"), "spec.postgres.backup.schedule", "never fires"},
		"kept for ever":                  {"postgres: {backup: {destinationPath: 's3://b1b/x', retentionPolicy: 99999m}}", "spec.postgres.backup.retentionPolicy", "5"},
		"a certificate of an hour":       {"certificates: {duration: 1h}", "spec.certificates.duration", "at least 24h"},
		"renewed at once":                {"certificates: {duration: 24h, renewBefore: 23h59m}", "spec.certificates.renewBefore", "two thirds"},
		"renewed before its default":     {"certificates: {renewBefore: 2159h}", "spec.certificates.renewBefore", "two thirds"},
		"clients renewed at once":        {"certificates: {clients: {duration: 720h, renewBefore: 719h}}", "spec.certificates.clients.renewBefore", "two thirds"},
		"clients before their default":   {"certificates: {clients: {renewBefore: 8000h}}", "spec.certificates.clients.renewBefore", "two thirds"},
		"beyond all time":                {"certificates: {duration: 2562047h, renewBefore: 24h}", "spec.certificates.duration", "at most 43800h"},
		"a volume of an exbibyte":        {"orthanc: {storage: {size: 1Ei}}", "spec.orthanc.storage.size", "at most 100Ti"},
		"a database of an exbibyte":      {"postgres: {storage: {size: 1Ei}}", "spec.postgres.storage.size", "at most 100Ti"},
		"a volume of nothing":            {"orthanc: {storage: {size: 0}}", "spec.orthanc.storage.size", "above zero"},
		"more pods than nodes":           {"orthanc: {replicas: 51}", "spec.orthanc.replicas", "50"},
		"more processors than there are": {"orthanc: {resources: {requests: {cpu: 1000000}}}", "spec.orthanc.resources.requests[cpu]", "at most 128"},
		"no processor":                   {"orthanc: {resources: {requests: {cpu: 0}}}", "spec.orthanc.resources.requests[cpu]", "above zero"},
		"no processor at most":           {"postgres: {resources: {limits: {cpu: 0}}}", "spec.postgres.resources.limits[cpu]", "above zero"},
		"memory for nothing":             {"orthanc: {resources: {limits: {memory: 63Mi}}}", "spec.orthanc.resources.limits[memory]", "at least 64Mi"},
		"more memory than there is":      {"postgres: {resources: {requests: {memory: 1Ei}}}", "spec.postgres.resources.requests[memory]", "at most 1Ti"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			for author, f := range map[string]files{
				"facility": {"tenants/x.yaml": simple("x", tc.spec)},
				"class":    {"tenants/x.yaml": simple("x", "className: c"), "tenants/classes/c.yaml": class("c", tc.spec)},
			} {
				r := load(t, f)
				g.Expect(r.Definitions).To(BeEmpty(), author)
				g.Expect(problemFields(r)).To(ContainElement(tc.field), author)
				if author == "facility" {
					g.Expect(r.Problems).To(HaveLen(1))
					g.Expect(r.Problems[0].Message).To(ContainSubstring(tc.text))
				}
			}
		})
	}
	for _, spec := range []string{
		fmt.Sprintf(backup, "0 0 2 * * *"), fmt.Sprintf(backup, "0 30 * * * *"), fmt.Sprintf(backup, "15 59 1-5/2 * * MON-FRI"), fmt.Sprintf(backup, "0 0 2 29 2 ?"),
		"certificates: {duration: 24h, renewBefore: 16h}", "certificates: {duration: 24h}", "orthanc: {storage: {size: 100Ti}}", "orthanc: {resources: {requests: {cpu: 128, memory: 1Ti}}}",
	} {
		NewWithT(t).Expect(load(t, files{"tenants/x.yaml": simple("x", spec)}).Problems).To(BeEmpty(), spec)
	}
}

// TestCheckSpecRests holds the same of a Tenant that is made by hand, whose defaults the apiserver's schema does not see.
func TestCheckSpecRests(t *testing.T) {
	g := NewWithT(t)
	x := held("x", "", 1)
	x.Spec.Certificates.RenewBefore.Duration = x.Spec.Certificates.Duration.Duration - 1
	x.Spec.Certificates.Clients.RenewBefore.Duration = x.Spec.Certificates.Clients.Duration.Duration - 1
	g.Expect(errorFields(tenant.CheckSpec(&x))).To(Equal([]string{"spec.certificates.clients.renewBefore", "spec.certificates.renewBefore"}))
}
