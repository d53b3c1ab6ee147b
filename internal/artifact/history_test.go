// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
)

// cluster counts what is asked of it.
type cluster struct {
	client.Client
	gets, lists, writes int
}

func newCluster() *cluster {
	c := &cluster{}
	c.Client = interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			c.gets++
			return next.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, next client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			c.lists++
			return next.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			c.writes++
			return next.Create(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, next client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			c.writes++
			return next.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			c.writes++
			return next.Delete(ctx, o, opts...)
		},
	})
	return c
}

var (
	bhs   = types.NamespacedName{Namespace: "flux-system", Name: "bhs"}
	notes = artifact.Notes{DefinitionUID: "1234"}
)

func state(domain string, archive []byte) (*artifact.State, func() ([]byte, error)) {
	t := tenant("bhs")
	t.Spec.Domain = domain
	t.Annotations = map[string]string{v1alpha1.PathAnnotation: "tenants/bhs.yaml", v1alpha1.RemoveAnnotation: "r2", "reconcile.fluxcd.io/requestedAt": "now"}
	d := digest.FromBytes(archive)
	return artifact.NewState(t, &meta.Artifact{Digest: d.String(), Revision: "main@" + d.String()}), func() ([]byte, error) { return archive, nil }
}

func TestHistory(t *testing.T) {
	g := NewWithT(t)
	ctx := context.Background()
	c := newCluster()
	h := artifact.NewHistory(c, c)
	g.Expect(h.Load(ctx)).To(Succeed())

	first, archive := state("bhs.example.com", []byte("first"))
	g.Expect(first.Annotations).To(HaveLen(1), "what passes is not the Tenant's own")
	for range 2 {
		g.Expect(h.Save(ctx, bhs, first, notes, archive)).To(Succeed())
		g.Expect(h.Prune(ctx, bhs, first, first.Artifact.Digest)).To(Succeed())
	}
	g.Expect(c.writes).To(Equal(1), "the same again costs nothing")

	second, archive := state("bhs.example.org", []byte("second"))
	g.Expect(h.Save(ctx, bhs, second, notes, archive)).To(Succeed())
	g.Expect(h.Prune(ctx, bhs, second, first.Artifact.Digest)).To(Succeed())
	g.Expect(c.writes).To(Equal(2), "what is announced stays until the new one is")

	// A new process knows both by their names, and reads the one that was announced, once.
	h = artifact.NewHistory(c, c)
	g.Expect(h.Load(ctx)).To(Succeed())
	g.Expect(h.Tenants()).To(ConsistOf(bhs))
	g.Expect(c.gets).To(BeZero())
	for range 2 {
		last, noted, err := h.Last(ctx, bhs, first.Artifact.Digest)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(last.Spec.Domain).To(Equal("bhs.example.com"))
		g.Expect(last.Archive).To(BeNil())
		g.Expect(noted).To(Equal(notes))
	}
	g.Expect(c.gets).To(Equal(1))
	data, err := h.Archive(ctx, bhs, first)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(data).To(Equal([]byte("first")))

	g.Expect(h.Save(ctx, bhs, second, notes, archive)).To(Succeed())
	g.Expect(h.Prune(ctx, bhs, second, second.Artifact.Digest)).To(Succeed())
	g.Expect(c.writes).To(Equal(3), "the old one is deleted, the new one is there")

	suspended := artifact.Notes{DefinitionUID: "1234", Suspended: true}
	for range 2 {
		g.Expect(h.Note(ctx, bhs, second, suspended)).To(Succeed())
	}
	g.Expect(c.writes).To(Equal(4))
	_, noted, err := h.Last(ctx, bhs, "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(noted).To(Equal(suspended))

	g.Expect(h.Remove(ctx, bhs)).To(Succeed())
	list := &appsv1.ControllerRevisionList{}
	g.Expect(c.List(ctx, list)).To(Succeed())
	g.Expect(list.Items).To(BeEmpty())
	found, err := h.Find(ctx, bhs)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).To(BeFalse())
}

func TestHistoryIsBounded(t *testing.T) {
	g := NewWithT(t)
	c := newCluster()
	h := artifact.NewHistory(c, c)
	large := make([]byte, artifact.MaxStateSize*3/4)
	_, err := rand.Read(large)
	g.Expect(err).NotTo(HaveOccurred())
	s, archive := state("bhs.example.com", large)
	err = h.Save(context.Background(), bhs, s, notes, archive)
	g.Expect(errors.As(err, new(*artifact.TooLargeError))).To(BeTrue())
	g.Expect(err).To(MatchError(ContainSubstring("at most 512 are kept in the cluster: shorten spec.patches")))
	g.Expect(c.writes).To(BeZero())
}

func TestRestoreArchive(t *testing.T) {
	g := NewWithT(t)
	ctx := context.Background()
	published, err := newPublisher(g, t.TempDir(), "korthweb").Publish(ctx, tenant("bhs"), content("a"), source)
	g.Expect(err).NotTo(HaveOccurred())
	data, _, err := artifact.Archive(content("a"))
	g.Expect(err).NotTo(HaveOccurred())

	dir := t.TempDir()
	p := newPublisher(g, dir, "korthweb")
	asked := 0
	archive := func() ([]byte, error) { asked++; return data, nil }
	for range 2 {
		restored, err := p.Restore(tenant("bhs"), *published, archive)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(restored).To(Equal(published))
		stored, err := p.Read(restored)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(bytes.Equal(stored, data)).To(BeTrue())
	}
	g.Expect(asked).To(Equal(1), "only where it is not there")

	g.Expect(os.Remove(filepath.Join(dir, published.Path))).To(Succeed())
	_, err = p.Restore(tenant("bhs"), *published, func() ([]byte, error) { return []byte("another"), nil })
	g.Expect(err).To(MatchError(ContainSubstring("has digest")))
	g.Expect(archives(g, dir, "bhs")).To(BeEmpty())
}

// What another instance has kept since is found: when a tenant moves here, its records are learnt anew.
func TestHistoryOfAnotherInstance(t *testing.T) {
	g := NewWithT(t)
	ctx := context.Background()
	c := newCluster()
	theirs, ours := artifact.NewHistory(c, c), artifact.NewHistory(c, c)
	for _, h := range []*artifact.History{theirs, ours} {
		g.Expect(h.Load(ctx)).To(Succeed())
	}
	first, archive := state("bhs.example.com", []byte("first"))
	g.Expect(theirs.Save(ctx, bhs, first, notes, archive)).To(Succeed())

	last, _, err := ours.Last(ctx, bhs, first.Artifact.Digest)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(last).NotTo(BeNil(), "it is looked for where none is known")

	// It goes back, is published anew there, and comes here for good.
	ours.Forget(bhs)
	second, archive := state("bhs.example.org", []byte("second"))
	g.Expect(theirs.Save(ctx, bhs, second, notes, archive)).To(Succeed())
	g.Expect(theirs.Prune(ctx, bhs, second, second.Artifact.Digest)).To(Succeed())
	last, _, err = ours.Last(ctx, bhs, second.Artifact.Digest)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(last.Spec.Domain).To(Equal("bhs.example.org"))

	// What is known is gone since.
	ours = artifact.NewHistory(c, c)
	g.Expect(ours.Load(ctx)).To(Succeed())
	fourth, archive := state("bhs.example.edu", []byte("fourth"))
	g.Expect(theirs.Save(ctx, bhs, fourth, notes, archive)).To(Succeed())
	g.Expect(theirs.Prune(ctx, bhs, fourth, fourth.Artifact.Digest)).To(Succeed())
	last, _, err = ours.Last(ctx, bhs, fourth.Artifact.Digest)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(last.Spec.Domain).To(Equal("bhs.example.edu"))

	// Published here, nothing of theirs is left.
	ours.Forget(bhs)
	third, archive := state("bhs.example.net", []byte("third"))
	g.Expect(ours.Meet(ctx, bhs)).To(Succeed())
	g.Expect(ours.Save(ctx, bhs, third, notes, archive)).To(Succeed())
	g.Expect(ours.Prune(ctx, bhs, third, third.Artifact.Digest)).To(Succeed())
	list := &appsv1.ControllerRevisionList{}
	g.Expect(c.List(ctx, list)).To(Succeed())
	g.Expect(list.Items).To(HaveLen(1))
}

// Where there is nothing to find it is looked for once.
func TestHistoryLooksOnce(t *testing.T) {
	g := NewWithT(t)
	ctx := context.Background()
	c := newCluster()
	h := artifact.NewHistory(c, c)
	g.Expect(h.Load(ctx)).To(Succeed())
	before := c.lists
	for range 3 {
		last, _, err := h.Last(ctx, bhs, "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(last).To(BeNil())
	}
	g.Expect(c.lists - before).To(Equal(1))
}

// A ControllerRevision that somebody deleted is made again, whatever was to be noted on it.
func TestHistoryDeleted(t *testing.T) {
	g := NewWithT(t)
	ctx := context.Background()
	c := newCluster()
	h := artifact.NewHistory(c, c)
	first, archive := state("bhs.example.com", []byte("first"))
	g.Expect(h.Save(ctx, bhs, first, notes, archive)).To(Succeed())
	deleteAll := func() {
		g.Expect(c.DeleteAllOf(ctx, &appsv1.ControllerRevision{}, client.InNamespace(bhs.Namespace))).To(Succeed())
	}
	deleteAll()
	g.Expect(h.Save(ctx, bhs, first, artifact.Notes{DefinitionUID: "5678"}, archive)).To(Succeed())
	list := &appsv1.ControllerRevisionList{}
	g.Expect(c.List(ctx, list)).To(Succeed())
	g.Expect(list.Items).To(HaveLen(1))

	deleteAll()
	g.Expect(h.Note(ctx, bhs, first, notes)).To(Succeed(), "there is nothing to note it on")
	g.Expect(h.Has(bhs)).To(BeFalse())
}

// What Last returns is the caller's to change.
func TestHistoryLastIsACopy(t *testing.T) {
	g := NewWithT(t)
	ctx := context.Background()
	c := newCluster()
	h := artifact.NewHistory(c, c)
	first, archive := state("bhs.example.com", []byte("first"))
	g.Expect(h.Save(ctx, bhs, first, notes, archive)).To(Succeed())
	for range 2 {
		last, _, err := h.Last(ctx, bhs, "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(last.Annotations).To(HaveLen(1))
		last.Annotations["added"] = "x"
		last.Spec.Domain = "changed"
		g.Expect(h.Archive(ctx, bhs, last)).To(Equal([]byte("first")), "it still names what it was read from")
	}
	last, _, err := h.Last(ctx, bhs, "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(last.Spec.Domain).To(Equal("bhs.example.com"))
}

// One that is told its namespace asks for nothing beyond.
func TestHistoryOfOneNamespace(t *testing.T) {
	g := NewWithT(t)
	ctx := context.Background()
	c := newCluster()
	first, archive := state("bhs.example.com", []byte("first"))
	elsewhere := types.NamespacedName{Namespace: "team-a", Name: "bhs"}
	for _, tenant := range []types.NamespacedName{bhs, elsewhere} {
		g.Expect(artifact.NewHistory(c, c).Save(ctx, tenant, first, notes, archive)).To(Succeed())
	}
	h := artifact.NewHistory(c, c)
	h.Namespace = bhs.Namespace
	g.Expect(h.Load(ctx)).To(Succeed())
	g.Expect(h.Tenants()).To(ConsistOf(bhs))
}
