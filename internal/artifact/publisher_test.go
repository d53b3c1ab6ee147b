// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/artifact/config"
	"github.com/fluxcd/pkg/artifact/storage"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/artifact"
)

const source = "main@sha1:1a2b3c4d5e6f7a8b9c0d1a2b3c4d5e6f7a8b9c0d"

func newPublisher(g *WithT, dir, address string) *artifact.Publisher {
	s, err := storage.New(&config.Options{
		StoragePath: dir, StorageAdvAddress: address,
		ArtifactRetentionTTL: time.Hour, ArtifactRetentionRecords: 2,
	})
	g.Expect(err).NotTo(HaveOccurred())
	return artifact.NewPublisher(s)
}

func tenant(name string) *v1alpha1.Tenant {
	return &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: name}}
}

func content(text string) []artifact.File {
	return []artifact.File{{Path: "application/kustomization.yaml", Data: []byte(text)}}
}

func archives(g *WithT, dir, name string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, "externalartifact", "flux-system", name, "*"))
	g.Expect(err).NotTo(HaveOccurred())
	return paths
}

func TestPublish(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	p := newPublisher(g, dir, "korthweb.flux-system.svc")
	bhs := tenant("bhs")

	a, err := p.Publish(context.Background(), bhs, content("a"), source)
	g.Expect(err).NotTo(HaveOccurred())
	_, d, err := artifact.Archive(content("a"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.Digest).To(Equal(d.String()))
	g.Expect(a.Path).To(Equal("externalartifact/flux-system/bhs/" + d.Encoded() + ".tar.gz"))
	g.Expect(a.URL).To(Equal("http://korthweb.flux-system.svc/" + a.Path))
	g.Expect(a.Revision).To(Equal("main/1a2b3c4d5e6f@" + d.String()))
	g.Expect(a.Metadata).To(Equal(map[string]string{"org.opencontainers.image.revision": source}))
	file, err := os.Stat(filepath.Join(dir, a.Path))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(*a.Size).To(Equal(file.Size()))
}

func TestPublishAgain(t *testing.T) {
	long := metav1.NewTime(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	for name, tc := range map[string]struct {
		reason  string
		damage  func(path string) error
		source  string
		address string
		same    bool
		written bool
	}{
		"nothing changed":    {reason: "a steady state writes neither file nor time", same: true},
		"file is gone":       {reason: "the volume may be ephemeral", damage: os.Remove, same: true, written: true},
		"file is cut short":  {reason: "power may fail within a write", damage: func(p string) error { return os.Truncate(p, 10) }, same: true, written: true},
		"file is altered":    {reason: "the digest decides, not the size", damage: flipByte, same: true, written: true},
		"source moved on":    {reason: "the revision changes with the commit", source: "main@sha1:ffffffffffffffffffffffffffffffffffffffff"},
		"address is another": {reason: "Flux must be told the new URL", address: "elsewhere.svc"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			dir := t.TempDir()
			bhs := tenant("bhs")
			first, err := newPublisher(g, dir, "a.svc").Publish(context.Background(), bhs, content("a"), source)
			g.Expect(err).NotTo(HaveOccurred())
			first.LastUpdateTime = long
			bhs.Status.Artifact = first.DeepCopy()
			path := filepath.Join(dir, first.Path)
			g.Expect(os.Chtimes(path, long.Time, long.Time)).To(Succeed())
			if tc.damage != nil {
				g.Expect(tc.damage(path)).To(Succeed())
			}

			second, err := newPublisher(g, dir, or(tc.address, "a.svc")).Publish(context.Background(), bhs, content("a"), or(tc.source, source))
			g.Expect(err).NotTo(HaveOccurred())
			if tc.same {
				g.Expect(second).To(Equal(first), tc.reason)
			} else {
				g.Expect(second.LastUpdateTime.Time).To(BeTemporally("~", time.Now(), 5*time.Second), tc.reason)
				g.Expect(second.Digest).To(Equal(first.Digest))
			}
			info, err := os.Stat(path)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(info.ModTime().After(long.Time)).To(Equal(tc.written), tc.reason)
			g.Expect(*second.Size).To(Equal(info.Size()))
		})
	}
}

func flipByte(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	return os.WriteFile(path, data, 0o600)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestRetention(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	p := newPublisher(g, dir, "a.svc")
	bhs := tenant("bhs")
	publish := func(text string) *meta.Artifact {
		a, err := p.Publish(context.Background(), bhs, content(text), source)
		g.Expect(err).NotTo(HaveOccurred())
		return a
	}
	age := func(a *meta.Artifact, hours int) {
		when := time.Now().Add(-time.Duration(hours) * time.Hour)
		g.Expect(os.Chtimes(filepath.Join(dir, a.Path), when, when)).To(Succeed())
	}
	paths := func(artifacts ...*meta.Artifact) (list []any) {
		for _, a := range artifacts {
			list = append(list, filepath.Join(dir, a.Path))
		}
		return list
	}

	one := publish("1")
	age(one, 30)
	bhs.Status.Artifact = one
	two := publish("2")
	age(two, 20)
	g.Expect(archives(g, dir, "bhs")).To(ConsistOf(paths(one, two)...), "the announced archive stays although it has expired")

	three := publish("3")
	g.Expect(archives(g, dir, "bhs")).To(ConsistOf(paths(one, three)...), "what was never announced goes once it has expired")

	bhs.Status.Artifact = three
	publish("3")
	g.Expect(archives(g, dir, "bhs")).To(ConsistOf(paths(three)...))
}

func TestRemoveAndSweep(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	p := newPublisher(g, dir, "a.svc")
	for _, name := range []string{"bhs", "mhr", "gone"} {
		_, err := p.Publish(context.Background(), tenant(name), content(name), source)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(p.Remove(tenant("mhr"))).To(Succeed())
	g.Expect(p.Remove(tenant("mhr"))).To(Succeed(), "twice is no error")
	g.Expect(archives(g, dir, "mhr")).To(BeEmpty())

	kept := archives(g, dir, "bhs")
	for _, leftover := range []string{kept[0] + "123456", filepath.Join(filepath.Dir(kept[0]), "x.lock")} {
		g.Expect(os.WriteFile(leftover, []byte("half"), 0o600)).To(Succeed())
	}
	other := filepath.Join(dir, "lost+found")
	g.Expect(os.MkdirAll(other, 0o700)).To(Succeed())

	g.Expect(p.Sweep(context.Background(), func(namespace, name string) bool {
		return namespace == "flux-system" && name == "bhs"
	})).To(Succeed())
	g.Expect(archives(g, dir, "bhs")).To(Equal(kept))
	g.Expect(archives(g, dir, "gone")).To(BeEmpty())
	g.Expect(other).To(BeADirectory(), "what is not an artifact is not ours")
}

func TestSweepOfNothing(t *testing.T) {
	g := NewWithT(t)
	p := newPublisher(g, t.TempDir(), "a.svc")
	g.Expect(p.Sweep(context.Background(), func(string, string) bool { return false })).To(Succeed())
}

func TestPublishErrors(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	p := newPublisher(g, dir, "a.svc")

	_, err := p.Publish(context.Background(), tenant("bhs"), []artifact.File{{Path: "../x"}}, source)
	g.Expect(err).To(MatchError(And(ContainSubstring("tenant flux-system/bhs"), ContainSubstring(`"../x"`))))

	g.Expect(os.WriteFile(filepath.Join(dir, "externalartifact"), nil, 0o600)).To(Succeed())
	_, err = p.Publish(context.Background(), tenant("bhs"), content("a"), source)
	g.Expect(err).To(MatchError(ContainSubstring("storing the bundle of tenant flux-system/bhs")))

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Publish(ctx, tenant("bhs"), content("a"), source)
	g.Expect(err).To(MatchError(context.Canceled))
}
