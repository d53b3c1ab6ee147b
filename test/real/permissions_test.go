// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"fmt"
	"slices"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// TestModalityMayDoWhatItIsPermitted has modalities with each one permission, and each try each DICOM service.
func TestModalityMayDoWhatItIsPermitted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	permitted := map[string][]v1alpha1.Permission{
		"DEFAULT": nil,
		"ECHO":    {v1alpha1.EchoPermission},
		"STORE":   {v1alpha1.StorePermission},
		"FIND":    {v1alpha1.FindPermission},
		"GET":     {v1alpha1.GetPermission},
		"MOVE":    {v1alpha1.MovePermission},
		"READER":  {v1alpha1.EchoPermission, v1alpha1.FindPermission, v1alpha1.GetPermission, v1alpha1.MovePermission},
	}
	spec := v1alpha1.TenantSpec{}
	for aeTitle, permissions := range permitted {
		spec.Orthanc.Modalities = append(spec.Orthanc.Modalities, modality(t, fmt.Sprintf("m-%d", len(spec.Orthanc.Modalities)), aeTitle, permissions...))
	}
	tenant := renderTenant(t, "hospital", spec)
	o := tenant.startOrthanc(t, "a", newDir(t), tenant.startDatabase(t))
	there := newStudy(t, 2)
	g.Expect(o.caller("DEFAULT").store(t, there)).To(Succeed())

	services := map[v1alpha1.Permission]func(*testing.T, v1alpha1.Modality, caller) error{
		v1alpha1.EchoPermission: func(t *testing.T, _ v1alpha1.Modality, c caller) error { return c.echo(t) },
		v1alpha1.StorePermission: func(t *testing.T, _ v1alpha1.Modality, c caller) error {
			s := newStudy(t, 1)
			err := c.store(t, s)
			arrived := o.instances(t, s)
			if err == nil {
				NewWithT(t).Expect(arrived).To(Equal(s.instances))
			} else {
				NewWithT(t).Expect(arrived).To(BeEmpty())
			}
			return err
		},
		v1alpha1.FindPermission: func(t *testing.T, _ v1alpha1.Modality, c caller) error {
			return expectCount(1)(c.find(t, there))
		},
		v1alpha1.GetPermission: func(t *testing.T, _ v1alpha1.Modality, c caller) error {
			return expectCount(2)(c.get(t, there))
		},
		v1alpha1.MovePermission: func(t *testing.T, m v1alpha1.Modality, c caller) error {
			return expectCount(2)(c.move(t, there, m.Port))
		},
	}
	for _, m := range spec.Orthanc.Modalities {
		may := permitted[string(m.AETitle)]
		if may == nil {
			may = []v1alpha1.Permission{v1alpha1.EchoPermission, v1alpha1.StorePermission}
		}
		for service, try := range services {
			verb := "may not"
			if slices.Contains(may, service) {
				verb = "may"
			}
			t.Run(fmt.Sprintf("%s %s %s", m.AETitle, verb, service), func(t *testing.T) {
				g := NewWithT(t)
				err := try(t, m, o.caller(string(m.AETitle)))
				if verb == "may" {
					g.Expect(err).NotTo(HaveOccurred(), o.running.tail)
				} else {
					g.Expect(err).To(HaveOccurred())
				}
			})
		}
	}
}

// expectCount turns the outcome of a query into an error unless so many answers arrived.
func expectCount(want int) func(int, error) error {
	return func(got int, err error) error {
		if err == nil && got != want {
			return fmt.Errorf("%d arrived, not %d", got, want)
		}
		return err
	}
}
