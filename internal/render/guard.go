// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/exposure"
)

// guard finds in an object what decides whom it belongs to and what it reaches, so that a patched object can be
// compared with the unpatched one. What only the cluster can decide is left to Kubernetes: both Flux controllers
// act as the tenant's own ServiceAccounts.
type guard struct {
	// namespace of the tenant.
	namespace string
	// hosts of the tenant, which are its own alone.
	hosts []string
	// allowed tells whether the tenant may have an annotation.
	allowed func(key, value string) bool
}

func newGuard(t *v1alpha1.Tenant) guard {
	return guard{
		namespace: t.Spec.Namespace,
		hosts:     []string{string(t.Spec.Ingress.Web.Host), string(t.Spec.Ingress.DICOM.Host)},
		allowed:   func(key, value string) bool { return exposure.Allowed(key, value, t) },
	}
}

// fact is a value at a path, without the indexes of lists.
type fact struct {
	path, value string
}

// quote returns the value after a word, in parentheses, unless it is many lines.
func (f fact) quote(word string) string {
	if strings.Contains(f.value, "\n") {
		return ""
	}
	return fmt.Sprintf(" (%s%q)", word, f.value)
}

// facts are what guard finds in an object.
type facts struct {
	// fixed may be neither added, changed nor removed.
	fixed map[fact]bool
	// foreign names something outside the tenant's namespace, cluster-scoped or another tenant's, and may not be added.
	foreign map[fact]bool
}

// foreignText finds namespaces in text: of an Istio identity, of a Service's DNS name, of a gateway's credential.
var foreignText = []*regexp.Regexp{
	regexp.MustCompile(`(?:^|/)ns/([^/]*)`),
	regexp.MustCompile(`[A-Za-z0-9*-]+\.([A-Za-z0-9*-]+)\.svc(?:[^A-Za-z0-9-]|$)`),
	regexp.MustCompile(`kubernetes(?:-gateway)?://([^/]*)/`),
}

func (g guard) facts(kind string, n *yaml.Node) facts {
	f := facts{fixed: map[fact]bool{}, foreign: map[fact]bool{}}
	g.walk(n, kind, "", f)
	return f
}

func (g guard) walk(n *yaml.Node, kind, path string, f facts) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, n.Content[i+1]
			below := strings.TrimPrefix(path+"."+key, ".")
			if isFixed(kind, key, below, value) || isTemplate(kind, key) {
				f.fixed[fact{below, text(value)}] = true
				continue
			}
			if !g.allowed(key, text(value)) {
				f.foreign[fact{below, text(value)}] = true
			}
			g.field(strings.ToLower(key), value, below, f)
			g.walk(value, kind, below, f)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			g.walk(item, kind, path, f)
		}
	case yaml.ScalarNode:
		if isTemplate(kind, n.Value) {
			f.fixed[fact{path, n.Value}] = true
		}
		for _, pattern := range foreignText {
			for _, match := range pattern.FindAllStringSubmatch(n.Value, -1) {
				if match[1] != g.namespace {
					f.foreign[fact{path, n.Value}] = true
				}
			}
		}
	}
}

// field finds what a field means by its name, in lower case.
func (g guard) field(name string, value *yaml.Node, path string, f facts) {
	var own func(string) bool
	switch {
	case strings.Contains(name, "namespace"):
		own = func(s string) bool { return s == g.namespace || s == "" }
	case name == "kind":
		// Only of a reference: an object's own kind is compared elsewhere. Cluster is CloudNativePG's.
		own = func(s string) bool { return s == "Cluster" || !strings.HasPrefix(s, "Cluster") }
	case name == "volumename":
		own = func(s string) bool { return s == "" }
	case name == "hosts" && !strings.Contains(path, "egress"):
		// Of a route or listener, not of a Sidecar: a host that is nobody's claim could be another tenant's.
		own = func(s string) bool {
			namespace, host, qualified := strings.Cut(s, "/")
			if !qualified {
				namespace, host = ".", s
			}
			return (namespace == "." || namespace == g.namespace) && slices.Contains(g.hosts, host)
		}
	case name == "hosts" || name == "gateways":
		own = func(s string) bool {
			if s == "mesh" { // every sidecar, as the gateway of one rule of a route
				return false
			}
			namespace, _, qualified := strings.Cut(s, "/")
			return !qualified || namespace == "." || namespace == "~" || namespace == g.namespace
		}
	default:
		return
	}
	items := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		items = value.Content
	}
	for _, item := range items {
		// A map, such as a namespaceSelector, cannot be told to be the tenant's own.
		isMap := item.Kind == yaml.MappingNode && strings.Contains(name, "namespace")
		if isMap || item.Kind == yaml.ScalarNode && !own(item.Value) {
			f.foreign[fact{path, text(item)}] = true
		}
	}
}

// text returns a value on one line.
func text(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	return strings.TrimSuffix(string(appendDocument(nil, n)), "\n")
}

// compare returns an error that names the first thing that a patch may not do.
func (g guard) compare(before, after facts) error {
	for _, f := range sorted(after.fixed) {
		if !before.fixed[f] {
			return fmt.Errorf("%s: a patch may not set this%s", f.path, f.quote("to "))
		}
	}
	for _, f := range sorted(before.fixed) {
		if !after.fixed[f] {
			return fmt.Errorf("%s: a patch may not remove this%s", f.path, f.quote(""))
		}
	}
	for _, f := range sorted(after.foreign) {
		if !before.foreign[f] {
			return fmt.Errorf("%s: a patch may not reach outside the tenant's namespace %s and hosts %s (%q)", f.path, g.namespace, strings.Join(g.hosts, ", "), f.value)
		}
	}
	return nil
}

func sorted(m map[fact]bool) []fact {
	return slices.SortedFunc(maps.Keys(m), func(a, b fact) int {
		return strings.Compare(a.path+"\x00"+a.value, b.path+"\x00"+b.value)
	})
}
