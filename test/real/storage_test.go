// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"os"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// TestPodReplaced has another pod take over a volume and a database, as an update does.
func TestPodReplaced(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tenant := renderTenant(t, "clinic", scanner(t))
	database, storage := tenant.startDatabase(t), newDir(t)
	a := tenant.startOrthanc(t, "a", storage, database)
	sent := newStudy(t, 2)
	g.Expect(a.caller("CT1").store(t, sent)).To(Succeed())
	a.stop(t)
	g.Expect(a.probe(a.container.LivenessProbe)).NotTo(Succeed())

	b := tenant.startOrthanc(t, "b", storage, database)
	g.Expect(b.config["DatabaseServerIdentifier"]).To(Equal(a.config["DatabaseServerIdentifier"]), "it is the same server to its database")
	g.Expect(b.instances(t, sent)).To(Equal(sent.instances))
	b.expectPixels(t, sent)
	g.Expect(b.caller("CT1").store(t, newStudy(t, 1))).To(Succeed())
}

// TestImagesInDatabase replaces a pod that has no volume.
func TestImagesInDatabase(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	spec := scanner(t)
	spec.Orthanc.Storage.Type = v1alpha1.DatabaseStorage
	tenant := renderTenant(t, "trial", spec)
	database := tenant.startDatabase(t)
	sent := newStudy(t, 2)
	a := tenant.startOrthanc(t, "a", "", database)
	g.Expect(a.caller("CT1").store(t, sent)).To(Succeed())
	a.expectPixels(t, sent)
	g.Expect(database.connections(t)).To(BeNumerically("==", tenant.tenant.Spec.OrthancConnections()))
	g.Expect(stored(t, a.config["StorageDirectory"].(string))).To(BeEmpty())
	a.stop(t)

	b := tenant.startOrthanc(t, "b", "", database)
	g.Expect(b.instances(t, sent)).To(Equal(sent.instances))
	b.expectPixels(t, sent)
}

// TestVolumeNotWritable has no place for an image, as when the volume is full or read-only.
func TestVolumeNotWritable(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tenant := renderTenant(t, "clinic", scanner(t))
	storage := newDir(t)
	o := tenant.startOrthanc(t, "a", storage, tenant.startDatabase(t))
	before, after := newStudy(t, 1), newStudy(t, 1)
	g.Expect(o.caller("CT1").store(t, before)).To(Succeed())
	g.Expect(os.Chmod(storage, 0o500)).To(Succeed())
	g.Expect(o.caller("CT1").store(t, after)).NotTo(Succeed(), "what cannot be kept must not be acknowledged")
	g.Expect(o.instances(t, after)).To(BeEmpty())
	g.Expect(o.instances(t, before)).To(Equal(before.instances))

	g.Expect(os.Chmod(storage, 0o700)).To(Succeed())
	g.Expect(o.caller("CT1").store(t, after)).To(Succeed())
	g.Expect(o.instances(t, after)).To(Equal(after.instances))
}

// expectPixels reads each instance of a study and compares its pixels, which are at the end of a file.
func (o *orthanc) expectPixels(t *testing.T, s study) {
	g := NewWithT(t)
	for _, uid := range s.instances {
		want, err := os.ReadFile(s.file(uid))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(o.file(t, uid)).To(HaveSuffix(string(want[len(want)-pixels:])), uid)
	}
}
