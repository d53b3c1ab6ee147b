// SPDX-License-Identifier: Apache-2.0

// Package tenant turns the files of one revision into tenants: it reads them, resolves classes, judges
// each definition as the cluster would and settles who may have a name, host, namespace or address.
// It is pure, so that the controller and the command line give one verdict: it knows no cluster, no
// network and no clock, and the same input gives the same result.
package tenant

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// Options of [Load].
type Options struct {
	// Path of the directory of the tenant files within the file system; "" and "." are its root.
	Path string

	// Namespace that the tenants are for, the TenantRepository's. A file that names another is a
	// problem. Where it is empty (offline), files may name any one namespace, the same in all.
	Namespace string

	// Repository is the name of the TenantRepository. A tenant that is held and does not carry it in
	// its label belongs to somebody else and is not taken over. Where it is empty, that is not asked.
	Repository string

	// DependsOn of the TenantRepository. It comes before each tenant's own.
	DependsOn []v1alpha1.DependencyReference

	// CommonMetadata of the TenantRepository. A tenant's own keys are put over it.
	CommonMetadata *kustomizev1.CommonMetadata

	// PlatformNamespaces are namespaces of the platform beside those that Korthweb knows. They are no tenant's.
	PlatformNamespaces []string

	// Held are the tenants that exist, those of other repositories and hand-made ones included. What
	// they claim is theirs; see [Conflicts].
	Held []v1alpha1.Tenant
}

// Definition is a tenant that is accepted.
type Definition struct {
	// Tenant with its class resolved, its defaults set, and valid.
	Tenant *v1alpha1.Tenant

	// File that defines it, relative to the root of the file system: tenants/bhs.yaml.
	File string

	// Line of the document's first field in File, from 1.
	Line int
}

// Result of [Load].
type Result struct {
	// Definitions that are accepted, sorted by name.
	Definitions []Definition

	// Problems in order of file and line.
	Problems []v1alpha1.Problem

	problems []located
	seen     map[string]string // tenant that a document defines, acceptable or not → file:line
}

// located is a problem with its place, before file and line are put together.
type located struct {
	v1alpha1.Problem
	file string
	line int // 0 where none
}

// loader gathers the result of one revision.
type loader struct {
	fsys     fs.FS
	opts     Options
	held     map[string]*v1alpha1.Tenant // those of opts.Namespace
	classes  map[string]*class
	problems []located
}

// Load reads all tenants below a directory. What is wrong with one file or tenant is one or more
// problems in the result and holds back nobody else. An error means that the directory itself is
// missing (it then wraps [fs.ErrNotExist]), unreadable or no directory, so that nothing can be said.
//
// Files are those named *.yaml or *.yml, in directories below too; names that begin with a dot are
// left out. A file may hold several documents of the kinds Tenant and TenantClass. kustomize's own
// kind Kustomization is passed over, so that a directory may also be built with kustomize; any other
// kind is a problem.
func Load(fsys fs.FS, opts Options) (*Result, error) {
	root := path.Clean(opts.Path)
	if err := directory(fsys, root); err != nil {
		return nil, err
	}
	l := &loader{fsys: fsys, opts: opts, classes: map[string]*class{}}
	files, err := l.list(root)
	if err != nil {
		return nil, err
	}
	var tenants, classes []*document
	total := 0
	for i, file := range files {
		if total >= maxAllDocuments {
			l.unread(root, fmt.Sprintf("holds more than %d documents: %s and the %d files after it are not read; use several TenantRepositories", maxAllDocuments, file, len(files)-i-1))
			break
		}
		docs := l.read(file)
		total += len(docs)
		for i := range docs {
			switch l.kind(&docs[i]) {
			case v1alpha1.TenantKind:
				tenants = append(tenants, &docs[i])
			case v1alpha1.TenantClassKind:
				classes = append(classes, &docs[i])
			}
		}
	}
	l.settleNamespace(tenants)
	l.held = map[string]*v1alpha1.Tenant{}
	for i := range opts.Held {
		if h := &opts.Held[i]; l.opts.Namespace == "" || h.Namespace == l.opts.Namespace {
			l.held[h.Name] = h
		}
	}
	for _, doc := range classes {
		l.addClass(doc)
	}
	var candidates []*candidate
	seen := map[string]string{}
	for _, doc := range l.unique(tenants) {
		seen[doc.name()] = doc.place()
		if c := l.resolve(doc); c != nil {
			candidates = append(candidates, c)
		}
	}
	definitions := l.settleClaims(candidates)
	return l.result(definitions, seen), nil
}

// kind tells what a document is, and reports one that is nothing that belongs here.
func (l *loader) kind(doc *document) string {
	if doc.root.index == nil {
		l.reportFindings(doc, "")
		return ""
	}
	apiVersion, kind := doc.root.str("apiVersion"), doc.root.str("kind")
	group, _, _ := strings.Cut(apiVersion, "/")
	ours := kind == v1alpha1.TenantKind || kind == v1alpha1.TenantClassKind
	if apiVersion == v1alpha1.GroupVersion.String() && ours {
		return kind
	}
	if group == "kustomize.config.k8s.io" && kind == "Kustomization" {
		return ""
	}
	name, at, message := "", "kind", ""
	switch {
	case apiVersion == "" || kind == "":
		at = "apiVersion"
		if kind == "" {
			at = "kind"
		}
		message = fmt.Sprintf("the document has no %s: expected apiVersion %s and kind %s or %s",
			at, v1alpha1.GroupVersion, v1alpha1.TenantKind, v1alpha1.TenantClassKind)
	case ours && group == v1alpha1.GroupVersion.Group:
		at = "apiVersion"
		message = fmt.Sprintf("found apiVersion %s, expected %s", abbreviate(apiVersion), v1alpha1.GroupVersion)
	default:
		message = fmt.Sprintf("another kind in the path: found %s of %s, expected only %s and %s of %s: move it out of %s",
			abbreviate(kind), abbreviate(apiVersion), v1alpha1.TenantKind, v1alpha1.TenantClassKind, v1alpha1.GroupVersion, path.Clean(l.opts.Path))
	}
	if kind == v1alpha1.TenantKind {
		name = doc.name()
	}
	line, _, _ := doc.root.find(at)
	l.report(doc.file, max(line, doc.line), name, at, v1alpha1.InvalidDefinitionReason, message)
	return ""
}

// settleNamespace decides on the namespace where none was given: the first that a file names.
func (l *loader) settleNamespace(tenants []*document) {
	for _, doc := range tenants {
		if l.opts.Namespace == "" {
			l.opts.Namespace = doc.root.get("metadata").str("namespace")
		}
	}
}

// unique reports the documents that define one tenant again, and returns the others. The one in the
// file that the tenant came from stays, otherwise the first. A document without a name is kept here,
// for its mistake to be told.
func (l *loader) unique(tenants []*document) []*document {
	keepers := map[string]*document{}
	for _, doc := range tenants {
		name := doc.name()
		keeper, twice := keepers[name]
		if !twice || (keeper.file != l.origin(name) && doc.file == l.origin(name)) {
			keepers[name] = doc
		}
	}
	var unique []*document
	for _, doc := range tenants {
		name := doc.name()
		keeper := keepers[name]
		if name == "" || doc == keeper {
			unique = append(unique, doc)
			continue
		}
		line, _, _ := doc.root.find("metadata.name")
		l.report(doc.file, line, name, "metadata.name", v1alpha1.ConflictReason, fmt.Sprintf(
			"tenant %s is defined at %s and again at %s:%d: only the former counts, remove or rename one", name, keeper.place(), doc.file, line))
	}
	return unique
}

// origin returns the file that a tenant came from.
func (l *loader) origin(name string) string {
	if h := l.held[name]; h != nil {
		return h.Annotations[v1alpha1.PathAnnotation]
	}
	return ""
}

// result sorts what was gathered.
func (l *loader) result(definitions []Definition, seen map[string]string) *Result {
	slices.SortStableFunc(l.problems, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.Tenant, b.Tenant),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	r := &Result{Definitions: definitions, problems: l.problems, seen: seen}
	slices.SortFunc(r.Definitions, func(a, b Definition) int { return cmp.Compare(a.Tenant.Name, b.Tenant.Name) })
	for _, p := range l.problems {
		r.Problems = append(r.Problems, p.Problem)
	}
	return r
}

func (l *loader) report(file string, line int, tenant, field, reason, message string) {
	l.problems = append(l.problems, located{
		Problem: Bounded(v1alpha1.Problem{File: place(file, line), Tenant: tenant, Field: field, Reason: reason, Message: message}),
		file:    file,
		line:    line,
	})
}

// unread reports a file whose content is not known.
func (l *loader) unread(file, message string) {
	l.report(file, 0, "", "", v1alpha1.MalformedFileReason, file+" "+message)
}

// malformed reports a file whose text is known and makes no definitions.
func (l *loader) malformed(file string, line int, message string) {
	l.report(file, line, "", "", v1alpha1.MalformedFileReason, message)
}

// reportFindings reports what is wrong with a document as YAML.
func (l *loader) reportFindings(doc *document, tenant string) {
	for _, f := range doc.findings {
		l.report(doc.file, f.line, tenant, f.field, v1alpha1.MalformedFileReason, f.message)
	}
}

// name of the tenant or class that a document defines, "" where it has none.
func (d *document) name() string { return d.root.get("metadata").str("name") }

func (d *document) place() string { return place(d.file, d.line) }

func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}
