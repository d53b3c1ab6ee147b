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
	gets, writes int
}

func newCluster() *cluster {
	c := &cluster{}
	c.Client = interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			c.gets++
			return next.Get(ctx, key, o, opts...)
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
