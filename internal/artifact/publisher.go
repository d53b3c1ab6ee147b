// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/artifact/storage"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// suffix of an archive's file name. Every other file of a tenant's directory is left over from a kill.
const suffix = ".tar.gz"

// Publisher keeps the archives of tenants in a Flux artifact storage, one directory a tenant:
// externalartifact/<namespace>/<name>/<sha256 in hex>.tar.gz. It may be used from several goroutines
// for different tenants.
type Publisher struct {
	storage *storage.Storage
}

// NewPublisher returns a Publisher on a storage, which holds the path, the advertised host and the
// retention (--storage-path, --storage-adv-addr, --artifact-retention-ttl, --artifact-retention-records).
func NewPublisher(s *storage.Storage) *Publisher { return &Publisher{storage: s} }

// Publish packs files, stores the archive unless it is there undamaged, throws away the tenant's older
// archives that the storage's retention allows to, and returns the artifact to announce.
//
// sourceRevision is the revision of the definitions that last changed the tenant, empty for a Tenant
// made by hand. When digest, URL and revision are those of tenant.status.artifact, the result equals
// it, last update time included, so that announcing it again changes nothing. The archive named in
// tenant.status.artifact is never thrown away: Flux may be about to fetch it.
//
// Errors are those of the bundle's files, of the file system, or of ctx; nothing half-written is left.
func (p *Publisher) Publish(ctx context.Context, tenant *v1alpha1.Tenant, files []File, sourceRevision string) (*meta.Artifact, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, d, err := Archive(files)
	if err != nil {
		return nil, fmt.Errorf("archiving the bundle of tenant %s/%s: %w", tenant.Namespace, tenant.Name, err)
	}

	artifact := p.storage.NewArtifactFor(sourcev1.ExternalArtifactKind, tenant, Revision(sourceRevision, d), d.Encoded()+suffix)
	artifact.Digest = d.String()
	if p.storage.VerifyArtifact(artifact) != nil {
		if err := p.store(&artifact, data); err != nil {
			return nil, fmt.Errorf("storing the bundle of tenant %s/%s: %w", tenant.Namespace, tenant.Name, err)
		}
	}
	size := int64(len(data))
	artifact.Digest = d.String()
	artifact.Size = &size
	if sourceRevision != "" {
		artifact.Metadata = map[string]string{SourceRevisionKey: sourceRevision}
	}

	previous := tenant.Status.Artifact
	if previous != nil && previous.Digest == artifact.Digest && previous.URL == artifact.URL && previous.Revision == artifact.Revision {
		artifact.LastUpdateTime = previous.LastUpdateTime
	} else {
		artifact.LastUpdateTime = metav1.Now().Rfc3339Copy()
	}

	if err := p.collect(artifact, previous); err != nil {
		return nil, fmt.Errorf("throwing away old bundles of tenant %s/%s: %w", tenant.Namespace, tenant.Name, err)
	}
	return &artifact, nil
}

// Read returns the stored archive of an artifact that Publish or Restore returned.
func (p *Publisher) Read(artifact *meta.Artifact) ([]byte, error) {
	data, err := os.ReadFile(p.storage.LocalPath(*artifact))
	if err != nil {
		return nil, fmt.Errorf("reading a stored bundle: %w", err)
	}
	return data, nil
}

// Restore stores an archive that was published before under its digest, unless it is there undamaged, and returns the
// artifact to announce, with this storage's URL. The archive is asked for only where it is needed.
func (p *Publisher) Restore(tenant *v1alpha1.Tenant, published meta.Artifact, archive func() ([]byte, error)) (*meta.Artifact, error) {
	d, err := digest.Parse(published.Digest)
	if err != nil {
		return nil, fmt.Errorf("the digest %q of a published bundle of tenant %s/%s: %w", published.Digest, tenant.Namespace, tenant.Name, err)
	}
	artifact := p.storage.NewArtifactFor(sourcev1.ExternalArtifactKind, tenant, published.Revision, d.Encoded()+suffix)
	artifact.Digest, artifact.Size, artifact.Metadata = published.Digest, published.Size, published.Metadata
	artifact.LastUpdateTime = published.LastUpdateTime
	if p.storage.VerifyArtifact(artifact) == nil {
		return &artifact, nil
	}
	data, err := archive()
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(data); got != d {
		return nil, fmt.Errorf("the kept bundle of tenant %s/%s has digest %s in place of %s", tenant.Namespace, tenant.Name, got, d)
	}
	stored := artifact
	if err := p.store(&stored, data); err != nil {
		return nil, fmt.Errorf("storing the bundle of tenant %s/%s: %w", tenant.Namespace, tenant.Name, err)
	}
	return &artifact, nil
}

func (p *Publisher) store(artifact *meta.Artifact, data []byte) error {
	if err := p.storage.MkdirAll(*artifact); err != nil {
		return err
	}
	return p.storage.AtomicWriteFile(artifact, bytes.NewReader(data), fileMode)
}

// collect removes what the retention of the storage gives up, but for the archive still announced.
// Storage.GarbageCollect is not used because it spares only one archive.
func (p *Publisher) collect(current meta.Artifact, announced *meta.Artifact) error {
	garbage, err := p.storage.GetGarbageFiles(current, storage.GarbageCountLimit,
		p.storage.ArtifactRetentionRecords, p.storage.ArtifactRetentionTTL)
	if err != nil {
		return err
	}
	spared := ""
	if announced != nil {
		spared = p.storage.LocalPath(*announced)
	}
	var errs []error
	for _, file := range garbage {
		if file == spared {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Remove throws away all archives of a tenant. That there are none is no error.
func (p *Publisher) Remove(tenant *v1alpha1.Tenant) error {
	artifact := p.storage.NewArtifactFor(sourcev1.ExternalArtifactKind, tenant, "", "none")
	if _, err := p.storage.RemoveAll(artifact); err != nil {
		return fmt.Errorf("removing the bundles of tenant %s/%s: %w", tenant.Namespace, tenant.Name, err)
	}
	return nil
}

// Sweep removes the directories of tenants that keep refuses, and in the others the files that a
// killed write left. It must not run beside Publish: call it once, before the first reconciliation,
// with a keep that knows every Tenant in the cluster. It goes on after an error and returns them all.
func (p *Publisher) Sweep(ctx context.Context, keep func(namespace, name string) bool) error {
	root := filepath.Join(p.storage.BasePath, strings.ToLower(sourcev1.ExternalArtifactKind))
	var errs []error
	for _, namespace := range directories(root, &errs) {
		for _, name := range directories(filepath.Join(root, namespace), &errs) {
			if err := ctx.Err(); err != nil {
				return errors.Join(append(errs, err)...)
			}
			dir := filepath.Join(root, namespace, name)
			if !keep(namespace, name) {
				errs = append(errs, os.RemoveAll(dir))
				continue
			}
			errs = append(errs, removeHalfWritten(dir))
		}
		// A namespace directory that has become empty goes too; that it is not empty is no error.
		_ = os.Remove(filepath.Join(root, namespace))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweeping the artifact storage %s: %w", p.storage.BasePath, err)
	}
	return nil
}

func directories(dir string, errs *[]error) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		*errs = append(*errs, err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

func removeHalfWritten(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), suffix) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return errors.Join(errs...)
}
