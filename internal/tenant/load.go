// SPDX-License-Identifier: Apache-2.0

// Package tenant turns the files of one revision into tenants: it reads them, resolves classes, judges
// each definition as the cluster would and settles who may have a name, host, namespace or address.
// It is pure, so that the controller and the command line give one verdict: it knows no cluster, no
// network and no clock, and the same input gives the same result.
package tenant

import (
	"cmp"
	"errors"
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

	// ClassPath of the directory of the class files within the file system, the [ClassDirectory] below Path where it
	// is empty. It may be outside of Path; then both are read.
	ClassPath string

	// Rules of the platform; nil for those of a TenantRepository that says nothing.
	Rules *Rules

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

	// Orphans are the held tenants whose TenantRepository is gone, by name, with the command that approves that Repository
	// takes one over.
	Orphans map[string]string
}

// ClassDirectory is where classes are, below the path, where nothing else is said.
const ClassDirectory = "classes"

// Classes returns the directory of the class files within the file system.
func (o *Options) Classes() string {
	if o.ClassPath != "" {
		return path.Clean(o.ClassPath)
	}
	return path.Join(o.Path, ClassDirectory)
}

// Definition is a tenant that is accepted.
type Definition struct {
	// Tenant with its class resolved, its defaults set, and valid.
	Tenant *v1alpha1.Tenant

	// File that defines it, relative to the root of the file system: tenants/bhs.yaml.
	File string

	// Line of the document's first field in File, from 1.
	Line int

	// ClassFile is the file that defines the tenant's class, "" where it has none.
	ClassFile string
}

// Result of [Load].
type Result struct {
	// Definitions that are accepted, sorted by name.
	Definitions []Definition

	// Problems in order of file and line.
	Problems []v1alpha1.Problem

	problems  []located
	classPath string
	seen      map[string]string          // tenant that a document defines, acceptable or not → file:line
	mentions  map[string]map[string]bool // file with a problem → existing tenants whose names stand in it
	existing  map[string]bool            // names of the tenants that exist
	nameless  map[string]bool            // files with a document beside others that has no name
}

// located is a problem with its place, before file and line are put together.
type located struct {
	v1alpha1.Problem
	file   string
	line   int  // 0 where none
	unread bool // nothing is known of what file holds
}

// loader gathers the result of one revision.
type loader struct {
	fsys      fs.FS
	opts      Options
	root      string
	classPath string
	held      map[string]*v1alpha1.Tenant // those of opts.Namespace
	classes   map[string]*class
	problems  []located
	mentions  map[string]map[string]bool
	existing  map[string]bool
	nameless  map[string]bool
}

// Load reads all tenants below a directory. What is wrong with one file or tenant is one or more
// problems in the result and holds back nobody else. An error means that the directory itself is
// missing (it then wraps [fs.ErrNotExist]), unreadable or no directory, so that nothing can be said.
//
// Files are those named *.yaml or *.yml, in directories below too; names that begin with a dot are
// left out. A file outside of the class path defines the one tenant that it is named after. Those below the class path
// hold documents of kind TenantClass, as many as you like. kustomize's own kind Kustomization is passed over, so that a
// directory may also be built with kustomize; any other kind is a problem.
func Load(fsys fs.FS, opts Options) (*Result, error) {
	l := &loader{fsys: fsys, opts: opts, root: path.Clean(opts.Path), classes: map[string]*class{},
		mentions: map[string]map[string]bool{}, existing: map[string]bool{}, nameless: map[string]bool{}}
	if l.opts.Rules == nil {
		l.opts.Rules = defaultRules()
	}
	for i := range opts.Held {
		l.existing[opts.Held[i].Name] = true
	}
	files, err := l.files()
	if err != nil {
		return nil, err
	}
	var tenants, classes []*document
	total := 0
	for i, file := range files {
		if total >= maxAllDocuments {
			l.unread(l.root, fmt.Sprintf("holds more than %d documents: %s and the %d files after it are not read; use several TenantRepositories", maxAllDocuments, file, len(files)-i-1))
			break
		}
		docs := l.read(file)
		total += len(docs)
		for i := range docs {
			if len(docs) > 1 && docs[i].name() == "" && !Within(l.classPath, file) {
				l.nameless[file] = true
			}
			switch l.kind(&docs[i]) {
			case v1alpha1.TenantKind:
				tenants = append(tenants, &docs[i])
			case v1alpha1.TenantClassKind:
				classes = append(classes, &docs[i])
			}
		}
	}
	tenants = l.named(tenants)
	l.settleNamespace(tenants)
	l.held = map[string]*v1alpha1.Tenant{}
	for i := range opts.Held {
		if h := &opts.Held[i]; l.opts.Namespace == "" || h.Namespace == l.opts.Namespace {
			l.held[h.Name] = h
		}
	}
	l.addClasses(classes)
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

// files lists what is to be read: the files below the path, and those below the class path.
func (l *loader) files() ([]string, error) {
	if err := directory(l.fsys, l.root); err != nil {
		return nil, err
	}
	l.classPath = l.opts.Classes()
	if Within(l.classPath, l.root) {
		return nil, fmt.Errorf("class path %q %s", l.classPath, roomForTenants)
	}
	files, err := l.list(l.root)
	if err != nil || Within(l.root, l.classPath) {
		return files, err
	}
	// Where there is no such directory there are no classes, which each tenant that names one is told.
	if missing := directory(l.fsys, l.classPath); missing == nil {
		classes, err := l.list(l.classPath)
		return append(files, classes...), err
	} else if !errors.Is(missing, fs.ErrNotExist) {
		l.unread(l.classPath, "is no class path: "+missing.Error())
	}
	return files, nil
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
		return l.inPlace(doc, kind)
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

// inPlace reports a Tenant below the class path and a TenantClass elsewhere, and returns the kind of others.
func (l *loader) inPlace(doc *document, kind string) string {
	line, _, _ := doc.root.find("kind")
	isClass := kind == v1alpha1.TenantClassKind
	switch below := Within(l.classPath, doc.file); {
	case isClass == below:
		return kind
	case isClass:
		l.report(doc.file, line, "", "kind", v1alpha1.InvalidDefinitionReason, fmt.Sprintf(
			"a %s counts only below %s: move it to a file there", kind, l.classPath))
	default:
		l.report(doc.file, line, doc.name(), "kind", v1alpha1.InvalidDefinitionReason, fmt.Sprintf(
			"a %s below %s, where classes are, defines nothing: move it to a file of its name in %s", kind, l.classPath, l.root))
	}
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

// stem is the name of the tenant that a file may define: tenants/east/bhs.yaml defines bhs.
func stem(file string) string {
	return strings.TrimSuffix(path.Base(file), path.Ext(file))
}

// named reports the documents that define another tenant than the one that their file is named after, and returns the
// others. A document without a name is kept here, for its mistake to be told.
func (l *loader) named(tenants []*document) []*document {
	var named []*document
	for _, doc := range tenants {
		name := doc.name()
		if name == "" || name == stem(doc.file) {
			named = append(named, doc)
			continue
		}
		line, _, _ := doc.root.find("metadata.name")
		l.report(doc.file, line, name, "metadata.name", v1alpha1.InvalidDefinitionReason, fmt.Sprintf(
			"a file defines only the tenant that it is named after, and this is tenant %s in %s: move it to a file %s.yaml, or correct the name",
			abbreviate(name), path.Base(doc.file), shorten(name, maxName)))
	}
	return named
}

// maxName bounds the names that a message proposes.
const maxName = 63

// unique reports the documents that define one tenant again, and returns the others. The one in the
// file that the tenant came from counts as long as that file is there, readable or not, otherwise the first. A document
// without a name is kept here, for its mistake to be told.
func (l *loader) unique(tenants []*document) []*document {
	keepers := map[string]*document{}
	for _, doc := range tenants {
		if name := doc.name(); keepers[name] == nil && (l.origin(name) == "" || doc.file == l.origin(name)) {
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
		if keeper == nil {
			l.report(doc.file, line, name, "metadata.name", v1alpha1.ConflictReason, fmt.Sprintf(
				"tenant %s comes from %s, which is still there: correct that file, or remove it", name, l.origin(name)))
			continue
		}
		l.report(doc.file, line, name, "metadata.name", v1alpha1.ConflictReason, fmt.Sprintf(
			"tenant %s is defined at %s and again at %s:%d: only the former counts, remove one", name, keeper.place(), doc.file, line))
	}
	return unique
}

// origin returns the file that a tenant came from where that may still define it: it is named after the tenant, in the
// path and there.
func (l *loader) origin(name string) string {
	h := l.held[name]
	if h == nil {
		return ""
	}
	file := path.Clean(h.Annotations[v1alpha1.PathAnnotation])
	if stem(file) != name || !Within(l.root, file) || Within(l.classPath, file) || !isYAML(file) || !fs.ValidPath(file) {
		return ""
	}
	if _, err := fs.Lstat(l.fsys, file); err != nil {
		return ""
	}
	return file
}

// Refused returns, of each tenant that no definition was accepted of, its first problem. That of a file as a whole is the
// problem of the tenant that the file is named after.
func (r *Result) Refused() map[string]v1alpha1.Problem {
	refused := map[string]v1alpha1.Problem{}
	for _, p := range r.problems {
		name := p.Tenant
		if name == "" && !Within(r.classPath, p.file) {
			name = stem(p.file)
		}
		if _, known := refused[name]; !known && name != "" && !r.defines(name) {
			refused[name] = p.Problem
		}
	}
	return refused
}

// defines tells whether a tenant has an accepted definition.
func (r *Result) defines(name string) bool {
	_, found := slices.BinarySearchFunc(r.Definitions, name, func(d Definition, name string) int {
		return cmp.Compare(d.Tenant.Name, name)
	})
	return found
}

// result sorts what was gathered.
func (l *loader) result(definitions []Definition, seen map[string]string) *Result {
	slices.SortStableFunc(l.problems, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.Tenant, b.Tenant),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	r := &Result{Definitions: definitions, problems: l.problems, classPath: l.classPath, seen: seen, mentions: l.mentions, existing: l.existing, nameless: l.nameless}
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
	l.report(file, 0, "", "", v1alpha1.MalformedFileReason, message)
	l.problems[len(l.problems)-1].unread = true
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
