// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/opencontainers/go-digest"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// MaxStateSize is the largest state of a tenant that is kept in the cluster, in bytes of JSON. An ordinary one has some
// 20 kB. etcd refuses more than 1.5 MB.
const MaxStateSize = 512 << 10

const (
	definitionUIDAnnotation = v1alpha1.LabelPrefix + "definition-uid"
	suspendedAnnotation     = v1alpha1.LabelPrefix + "suspended"
)

// State is what was last published of a tenant: enough to serve it, and to put its Tenant back.
type State struct {
	// Artifact as it was announced.
	Artifact meta.Artifact `json:"artifact"`

	// Spec, Labels and Annotations of the Tenant that it was made from.
	Spec        v1alpha1.TenantSpec `json:"spec"`
	Labels      map[string]string   `json:"labels,omitempty"`
	Annotations map[string]string   `json:"annotations,omitempty"`

	// Archive is the published tar.gz.
	Archive []byte `json:"archive,omitempty"`

	// kept is the name of the ControllerRevision that it was read from.
	kept string
}

// passing annotations are questions and answers of the moment, and not a Tenant's own.
var passing = []string{
	v1alpha1.RemoveAnnotation, v1alpha1.ApproveAdoptionAnnotation, meta.ReconcileRequestAnnotation,
}

// NewState returns the state of a tenant whose bundle is published as artifact, without the archive.
func NewState(tenant *v1alpha1.Tenant, artifact *meta.Artifact) *State {
	annotations := maps.Clone(tenant.Annotations)
	for _, key := range passing {
		delete(annotations, key)
	}
	return &State{Artifact: *artifact.DeepCopy(), Spec: *tenant.Spec.DeepCopy(), Labels: maps.Clone(tenant.Labels), Annotations: annotations}
}

func (s *State) copy() *State {
	c := *s
	c.Artifact, c.Spec = *s.Artifact.DeepCopy(), *s.Spec.DeepCopy()
	c.Labels, c.Annotations = maps.Clone(s.Labels), maps.Clone(s.Annotations)
	return &c
}

// name of the ControllerRevision that holds the state, by the archive's digest and by that of the rest.
func (s *State) name(tenant string) string {
	if s.kept != "" {
		return s.kept
	}
	content, err := json.Marshal(struct {
		Revision            string
		Spec                v1alpha1.TenantSpec
		Labels, Annotations map[string]string
	}{s.Artifact.Revision, s.Spec, s.Labels, s.Annotations})
	if err != nil {
		panic(err) // the spec came out of JSON, so it goes back into it
	}
	return prefix(tenant, s.Artifact.Digest) + digest.FromBytes(content).Encoded()[:8]
}

func prefix(tenant, artifactDigest string) string {
	_, hex, _ := strings.Cut(artifactDigest, ":")
	return tenant + "-" + hex[:min(8, len(hex))] + "-"
}

// Notes stand on a kept state and may change.
type Notes struct {
	// DefinitionUID is the UID of the CustomResourceDefinition of Tenants that the Tenant was an object of.
	DefinitionUID string

	// Suspended says that the Tenant was suspended after it was published.
	Suspended bool
}

func (n Notes) annotations() map[string]string {
	return map[string]string{definitionUIDAnnotation: n.DefinitionUID, suspendedAnnotation: strconv.FormatBool(n.Suspended)}
}

// TooLargeError says that a tenant's state is too large to be kept.
type TooLargeError struct {
	// Size of the state in bytes.
	Size int
}

// Error gives the size, the bound and what makes a state large.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the bundle and the definition have %d kB; at most %d are kept in the cluster: shorten spec.patches and spec.orthanc.config",
		e.Size>>10, MaxStateSize>>10)
}

// record is a kept state as the index has it.
type record struct {
	name    string
	created metav1.Time
	notes   Notes
}

// History keeps the last good state of each tenant as a ControllerRevision, Kubernetes' own record of what was rolled out,
// beside the Tenant. What one holds never changes. It carries Korthweb's labels only, so that no workload controller
// adopts it, and no ownerReference, so that it outlives its Tenant.
//
// It knows the names of all and reads the content of one only when it is asked for. It may be used from several
// goroutines, for one tenant too: whoever is late finds a state gone or kept already, which is no error.
//
// Other instances keep states as well, those of their tenants. What they do after Load is seen when it is looked for: see
// Find and Meet.
type History struct {
	// Namespace that the tenants are in; empty for all. It is set before Load.
	Namespace string

	client   client.Client
	uncached client.Reader

	loading sync.Mutex
	loaded  bool

	mu      sync.Mutex
	records map[types.NamespacedName][]record // oldest first
	read    map[types.NamespacedName]*State   // the last one that was read, without its archive, by tenant
	looked  map[types.NamespacedName]bool     // what Find has looked for
}

// NewHistory returns a History that writes through c and reads through uncached.
func NewHistory(c client.Client, uncached client.Reader) *History {
	return &History{client: c, uncached: uncached, records: map[types.NamespacedName][]record{}, read: map[types.NamespacedName]*State{},
		looked: map[types.NamespacedName]bool{}}
}

// Load learns, once, which states are kept, by their metadata alone.
func (h *History) Load(ctx context.Context) error {
	h.loading.Lock()
	defer h.loading.Unlock()
	if h.loaded {
		return nil
	}
	found, err := h.list(ctx, client.InNamespace(h.Namespace), client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.FieldManager})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records, h.loaded = found, true
	return nil
}

// Tenants returns the tenants of which a state is kept, as far as is known.
func (h *History) Tenants() []types.NamespacedName {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.records))
}

// Has says whether a state of a tenant is kept, as far as is known.
func (h *History) Has(tenant types.NamespacedName) bool { return len(h.all(tenant)) > 0 }

// Find looks past what is known whether a state of a tenant is kept.
func (h *History) Find(ctx context.Context, tenant types.NamespacedName) (bool, error) {
	found, err := h.list(ctx, client.InNamespace(tenant.Namespace), client.MatchingLabels(stateLabels(tenant)))
	if err != nil {
		return false, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(tenant, found[tenant])
	h.looked[tenant] = true
	return len(found[tenant]) > 0, nil
}

// Meet looks past what is known, once, where no state of a tenant is known though it was published: another instance may
// have kept one.
func (h *History) Meet(ctx context.Context, tenant types.NamespacedName) error {
	h.mu.Lock()
	known := len(h.records[tenant]) > 0 || h.looked[tenant]
	h.mu.Unlock()
	if known {
		return nil
	}
	_, err := h.Find(ctx, tenant)
	return err
}

// Forget drops what is known of a tenant that is another instance's, which goes on without telling.
func (h *History) Forget(tenant types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(tenant, nil)
	delete(h.looked, tenant)
}

// pageSize is how many objects are asked for at a time.
const pageSize = 500

func (h *History) list(ctx context.Context, opts ...client.ListOption) (map[types.NamespacedName][]record, error) {
	found := map[types.NamespacedName][]record{}
	list := &metav1.PartialObjectMetadataList{}
	for {
		list.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ControllerRevisionList"))
		if err := h.uncached.List(ctx, list, append(opts, client.Limit(pageSize), client.Continue(list.Continue))...); err != nil {
			return nil, fmt.Errorf("listing the last good states of tenants: %w", err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			tenant := types.NamespacedName{Namespace: o.Labels[v1alpha1.TenantNamespaceLabel], Name: o.Labels[v1alpha1.TenantLabel]}
			if tenant.Name == "" || tenant.Namespace != o.Namespace {
				continue
			}
			found[tenant] = append(found[tenant], record{name: o.Name, created: o.CreationTimestamp, notes: Notes{
				DefinitionUID: o.Annotations[definitionUIDAnnotation], Suspended: o.Annotations[suspendedAnnotation] == "true",
			}})
		}
		if list.Continue == "" {
			break
		}
	}
	for _, records := range found {
		slices.SortStableFunc(records, func(a, b record) int {
			return cmp.Or(a.created.Compare(b.created.Time), strings.Compare(a.name, b.name))
		})
	}
	return found, nil
}

// Save keeps a state, unless it is kept already, with notes on it. The archive is asked for only where it is written. What
// was kept before stays until Prune. It costs no request where nothing has changed.
//
// Errors: TooLargeError, that of archive, or the apiserver's.
func (h *History) Save(ctx context.Context, tenant types.NamespacedName, state *State, notes Notes, archive func() ([]byte, error)) error {
	name := state.name(tenant.Name)
	if known := h.record(tenant, name); known != nil {
		if noted, err := h.note(ctx, tenant, *known, notes); noted || err != nil {
			return err
		}
	}
	full := *state
	var err error
	if full.Archive, err = archive(); err != nil {
		return err
	}
	data, err := json.Marshal(full)
	if err != nil {
		return fmt.Errorf("writing down the state of tenant %s: %w", tenant, err)
	}
	if len(data) > MaxStateSize {
		return &TooLargeError{Size: len(data)}
	}
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: name, Labels: stateLabels(tenant), Annotations: notes.annotations()},
		Data:       runtime.RawExtension{Raw: data},
		Revision:   1,
	}
	err = h.client.Create(ctx, revision, client.FieldOwner(v1alpha1.FieldManager))
	if apierrors.IsAlreadyExists(err) {
		// It is known from now on, unless it is somebody else's.
		if found, err := h.Find(ctx, tenant); err != nil || found && h.record(tenant, name) != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("keeping the state of tenant %s as ControllerRevision %s: %w", tenant, name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(tenant, append(slices.Clone(h.records[tenant]), record{name: name, created: revision.CreationTimestamp, notes: notes}))
	return nil
}

// Prune throws away the states of a tenant but the given one and, where announced is not the digest of that one's
// archive, those whose archive has the digest announced. It costs no request where there are none.
func (h *History) Prune(ctx context.Context, tenant types.NamespacedName, state *State, announced string) error {
	current := state.name(tenant.Name)
	for _, r := range h.all(tenant) {
		if r.name == current || announced != state.Artifact.Digest && strings.HasPrefix(r.name, prefix(tenant.Name, announced)) {
			continue
		}
		if err := h.delete(ctx, tenant, r.name); err != nil {
			return err
		}
	}
	return nil
}

// Remove throws away all states of a tenant, those too that are not known.
func (h *History) Remove(ctx context.Context, tenant types.NamespacedName) error {
	if _, err := h.Find(ctx, tenant); err != nil {
		return err
	}
	for _, r := range h.all(tenant) {
		if err := h.delete(ctx, tenant, r.name); err != nil {
			return err
		}
	}
	return nil
}

// Last returns the last good state of a tenant and the notes on it, without the archive: of those that are kept the newest
// whose archive has the digest announced, or else the newest. It is nil where none is kept. What was read is remembered.
// Where none is known it looks for one, once. What it returns is the caller's.
func (h *History) Last(ctx context.Context, tenant types.NamespacedName, announced string) (*State, Notes, error) {
	if err := h.Meet(ctx, tenant); err != nil {
		return nil, Notes{}, err
	}
	state, notes, err := h.readLast(ctx, tenant, announced)
	if err != nil || state != nil {
		return state, notes, err
	}
	// What was known of may be gone, and another instance have kept another since.
	if err := h.Meet(ctx, tenant); err != nil {
		return nil, Notes{}, err
	}
	return h.readLast(ctx, tenant, announced)
}

func (h *History) readLast(ctx context.Context, tenant types.NamespacedName, announced string) (*State, Notes, error) {
	r := h.last(tenant, announced)
	if r == nil {
		return nil, Notes{}, nil
	}
	h.mu.Lock()
	known := h.read[tenant]
	h.mu.Unlock()
	if known != nil && known.name(tenant.Name) == r.name {
		return known.copy(), r.notes, nil
	}
	state, err := h.get(ctx, tenant, r.name)
	if err != nil || state == nil {
		return nil, Notes{}, err
	}
	state.Archive = nil
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read[tenant] = state
	return state.copy(), r.notes, nil
}

// Archive returns the archive of a state that Last returned.
func (h *History) Archive(ctx context.Context, tenant types.NamespacedName, state *State) ([]byte, error) {
	full, err := h.get(ctx, tenant, state.name(tenant.Name))
	if err != nil {
		return nil, err
	}
	if full == nil {
		return nil, fmt.Errorf("ControllerRevision %s/%s is gone", tenant.Namespace, state.name(tenant.Name))
	}
	return full.Archive, nil
}

// Note changes the notes on a state that Last returned.
func (h *History) Note(ctx context.Context, tenant types.NamespacedName, state *State, notes Notes) error {
	if r := h.record(tenant, state.name(tenant.Name)); r != nil {
		_, err := h.note(ctx, tenant, *r, notes)
		return err
	}
	return nil
}

// note says whether there is something to note it on.
func (h *History) note(ctx context.Context, tenant types.NamespacedName, r record, notes Notes) (bool, error) {
	if r.notes == notes {
		return true, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": notes.annotations()}})
	if err != nil {
		return false, err
	}
	revision := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: r.name}}
	err = h.client.Patch(ctx, revision, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.FieldManager))
	if apierrors.IsNotFound(err) {
		h.forget(tenant, r.name)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("noting on ControllerRevision %s/%s: %w", tenant.Namespace, r.name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	records := slices.Clone(h.records[tenant])
	for i := range records {
		if records[i].name == r.name {
			records[i].notes = notes
		}
	}
	h.set(tenant, records)
	return true, nil
}

func (h *History) get(ctx context.Context, tenant types.NamespacedName, name string) (*State, error) {
	revision := &appsv1.ControllerRevision{}
	err := h.uncached.Get(ctx, types.NamespacedName{Namespace: tenant.Namespace, Name: name}, revision)
	if apierrors.IsNotFound(err) {
		h.Forget(tenant)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ControllerRevision %s/%s: %w", tenant.Namespace, name, err)
	}
	state := &State{kept: name}
	if err := json.Unmarshal(revision.Data.Raw, state); err != nil {
		return nil, fmt.Errorf("reading ControllerRevision %s/%s: %w", tenant.Namespace, name, err)
	}
	return state, nil
}

func (h *History) delete(ctx context.Context, tenant types.NamespacedName, name string) error {
	revision := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: name}}
	if err := h.client.Delete(ctx, revision); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting ControllerRevision %s/%s: %w", tenant.Namespace, name, err)
	}
	h.forget(tenant, name)
	return nil
}

func (h *History) all(tenant types.NamespacedName) []record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.records[tenant]
}

func (h *History) record(tenant types.NamespacedName, name string) *record {
	for _, r := range h.all(tenant) {
		if r.name == name {
			return &r
		}
	}
	return nil
}

func (h *History) last(tenant types.NamespacedName, announced string) *record {
	records := h.all(tenant)
	for _, r := range slices.Backward(records) {
		if announced != "" && strings.HasPrefix(r.name, prefix(tenant.Name, announced)) {
			return &r
		}
	}
	if len(records) == 0 {
		return nil
	}
	return &records[len(records)-1]
}

func (h *History) forget(tenant types.NamespacedName, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(tenant, slices.DeleteFunc(slices.Clone(h.records[tenant]), func(r record) bool { return r.name == name }))
}

// set replaces the records of a tenant; h.mu is held. A slice that was handed out never changes.
func (h *History) set(tenant types.NamespacedName, records []record) {
	if len(records) == 0 {
		delete(h.records, tenant)
		delete(h.read, tenant)
		return
	}
	h.records[tenant] = records
}

func stateLabels(tenant types.NamespacedName) map[string]string {
	return map[string]string{
		v1alpha1.ManagedByLabel:       v1alpha1.FieldManager,
		v1alpha1.TenantLabel:          tenant.Name,
		v1alpha1.TenantNamespaceLabel: tenant.Namespace,
	}
}
