// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/utils/ptr"
)

// TestReplicasShare has two Orthancs on one database and one volume take a study each in several associations, and
// one study together.
func TestReplicasShare(t *testing.T) {
	t.Parallel()
	const associations, each = 4, 50
	g := NewWithT(t)
	spec := scanner(t)
	spec.Orthanc.Replicas = ptr.To[int32](2)
	tenant := renderTenant(t, "hospital", spec)
	database := tenant.startDatabase(t)
	storage := newDir(t)
	replicas := []*orthanc{
		tenant.startOrthanc(t, "a", storage, database),
		tenant.startOrthanc(t, "b", storage, database),
	}
	g.Expect(database.connections(t)).To(BeNumerically("==", tenant.tenant.Spec.OrthancConnections()))
	identities := []any{}
	for _, o := range replicas {
		identities = append(identities, o.config["DatabaseServerIdentifier"])
	}
	g.Expect(identities).To(HaveLen(2))
	g.Expect(identities[0]).NotTo(BeEmpty())
	g.Expect(identities[0]).NotTo(Equal(identities[1]), "DatabaseServerIdentifier")

	// The associations of one study go to both replicas.
	var sent, parts []study
	for range associations / 2 {
		s := newStudy(t, 2*each)
		sent = append(sent, s)
		for half := range 2 {
			parts = append(parts, s.part(t, s.instances[half*each:(half+1)*each]))
		}
	}
	var done sync.WaitGroup
	errs := make([]error, len(parts))
	for i, part := range parts {
		done.Go(func() { errs[i] = replicas[i%2].caller("CT1").storeAll(t, part) })
	}
	done.Wait()
	for _, err := range errs {
		g.Expect(err).NotTo(HaveOccurred())
	}

	for _, o := range replicas {
		for _, s := range sent {
			g.Expect(o.instances(t, s)).To(Equal(s.instances), "seen by %s", o.name)
		}
		var statistics struct{ CountStudies, CountSeries, CountInstances int }
		o.ask(t, http.MethodGet, "/statistics", "", &statistics)
		g.Expect(statistics.CountInstances).To(Equal(associations * each))
		g.Expect(statistics.CountSeries).To(Equal(len(sent)))
		g.Expect(statistics.CountStudies).To(Equal(len(sent)))
	}
	// Every instance can be read through the replica that did not take it.
	for i, part := range parts {
		replicas[(i+1)%2].expectPixels(t, part)
	}
	g.Expect(stored(t, storage)).To(HaveLen(associations * each))

	// One of them ends, and the other goes on.
	replicas[0].stop(t)
	g.Expect(replicas[1].instances(t, sent[0])).To(Equal(sent[0].instances))
	g.Expect(replicas[1].caller("CT1").store(t, newStudy(t, 1))).To(Succeed())
}

// part is a study with some of its instances, in a directory of its own.
func (s study) part(t *testing.T, instances []string) study {
	g := NewWithT(t)
	p := study{uid: s.uid, dir: newDir(t), instances: slices.Clone(instances)}
	for _, uid := range instances {
		g.Expect(os.Link(s.file(uid), p.file(uid))).To(Succeed())
	}
	return p
}

// file returns an instance as Orthanc has it.
func (o *orthanc) file(t *testing.T, uid string) []byte {
	var found []string
	o.ask(t, http.MethodPost, "/tools/find", fmt.Sprintf(`{"Level": "Instance", "Query": {"SOPInstanceUID": %q}}`, uid), &found)
	NewWithT(t).Expect(found).To(HaveLen(1), uid)
	return o.fetch(t, http.MethodGet, "/instances/"+found[0]+"/file", "")
}
