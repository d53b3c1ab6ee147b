// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	kubejson "sigs.k8s.io/json"
)

// The guard catches accidents of who writes patches, a platform engineer: what a patch changes in an object has to be
// listed for its kind in guard_fields.go. What holds against everybody are the rights of the accounts that Flux acts
// by, and Kubernetes' admission.

// change is a difference between an object before and after patches.
type change struct {
	// path of the field; [] is an item of a list and [+] one that was not there.
	path []string
	// names of the items on the path.
	names []string
	// before and after are nil where there is nothing.
	before, after any
}

// String is the path for people: spec.template.spec.containers[orthanc].image.
func (c change) String() string {
	path, names := "", c.names
	for _, segment := range c.path {
		if isItem(segment) {
			path, names = path+"["+names[0]+"]", names[1:]
		} else {
			path += "." + segment
		}
	}
	return strings.TrimPrefix(path, ".")
}

func isItem(segment string) bool { return segment == "[]" || segment == "[+]" }

// leaves calls f with what is changed, as deep down as it can be told.
func (c change) leaves(f func(change) error) error {
	if reflect.DeepEqual(c.before, c.after) {
		return nil
	}
	was, isMap := asMap(c.before)
	now, isMapNow := asMap(c.after)
	list := false
	if !isMap || !isMapNow {
		was, isMap = itemsByName(c.before)
		now, isMapNow = itemsByName(c.after)
		list = true
	}
	if !isMap || !isMapNow || len(was)+len(now) == 0 {
		return f(c)
	}
	names := maps.Clone(was)
	maps.Copy(names, now)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		below := change{path: append(slices.Clip(c.path), name), names: c.names, before: was[name], after: now[name]}
		if list {
			below.path[len(c.path)], below.names = "[]", append(slices.Clip(c.names), name)
			if _, ok := was[name]; !ok {
				below.path[len(c.path)] = "[+]"
			}
		}
		if err := below.leaves(f); err != nil {
			return err
		}
	}
	return nil
}

// asMap returns a map, which nothing is too, without entries.
func asMap(value any) (map[string]any, bool) {
	m, ok := value.(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m, ok || value == nil
}

// itemsByName returns the items of a list by their name: the path of a mount, the name of a container, variable or
// volume; or by their number where they have none, or not one each. Nothing is a list too, without items.
func itemsByName(value any) (map[string]any, bool) {
	list, ok := value.([]any)
	byName, byNumber := make(map[string]any, len(list)), make(map[string]any, len(list))
	for i, item := range list {
		byNumber[strconv.Itoa(i)] = item
		m, _ := item.(map[string]any)
		for _, field := range []string{"mountPath", "name"} {
			if name, _ := m[field].(string); name != "" {
				byName[name] = item
				break
			}
		}
	}
	if len(byName) < len(list) {
		return byNumber, ok || value == nil
	}
	return byName, ok || value == nil
}

// isIn tells whether the change is at or below one of some places, such as spec.template.spec.containers[].image.
func (c change) isIn(places ...string) bool {
	path := strings.ReplaceAll(strings.Join(c.path, "."), ".[", "[")
	return slices.ContainsFunc(places, func(place string) bool {
		rest, ok := strings.CutPrefix(path, place)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// checkKind refuses to touch an object of a kind that has nothing for patches.
func checkKind(o *Object) error {
	if _, ok := openTo[o.Kind]; ok {
		return nil
	}
	err := fmt.Errorf("%s/%s: a patch may not touch any %s: choose a target that does not match it", o.Kind, o.Name, o.Kind)
	if instead := insteadOf[o.Kind][""]; instead != "" {
		err = fmt.Errorf("%w; use %s", err, instead)
	}
	return err
}

// checkChange returns an error that names the first thing that patches may not do to an object.
func checkChange(kind string, before, after map[string]any) error {
	if err := (change{before: before, after: after}).leaves(func(c change) error { return c.check(kind) }); err != nil {
		return err
	}
	if kind == "Deployment" {
		return checkRestricted(after)
	}
	return nil
}

// check judges one change.
func (c change) check(kind string) error {
	for place, instead := range insteadOf[kind] {
		if c.isIn(place) {
			return fmt.Errorf("%s: a patch may not change this: use %s", c, instead)
		}
	}
	for _, segment := range c.path {
		if !isItem(segment) && !plainName.MatchString(segment) || strings.Contains(strings.ToLower(segment), "namespace") {
			return fmt.Errorf("%s: a patch may not change this: %q names or reaches something else", c, segment)
		}
	}
	if !c.isIn(openTo[kind]...) && !c.isOpenKey(kind) {
		return fmt.Errorf("%s: a patch may not change this: docs/spec/v1alpha1/tenants.md lists under Patches what it may change in kind %s", c, kind)
	}
	value, isText := c.after.(string)
	switch name := c.lastName(); {
	case value == caSecret:
		return fmt.Errorf("%s: a patch may not name %s, the key of the tenant's CA", c, caSecret)
	case isText && kind == "HelmRelease" && !plainValue.MatchString(value):
		return fmt.Errorf("%s: a value of a chart is letters, digits and ._/:@=+%%- in a patch, on one line and without spaces: "+
			"charts print some as they are, and run some as templates", c)
	case kind == "Cluster" && c.isIn("spec.postgresql.parameters") && !slices.Contains(openParameters, c.path[len(c.path)-1]):
		return fmt.Errorf("%s: a patch may not change this: docs/spec/v1alpha1/tenants.md lists under Parameters of PostgreSQL what it may tune", c)
	case kind == "Cluster" && c.isIn("spec.postgresql.shared_preload_libraries") && c.after != nil && !slices.Contains(openLibraries, value):
		return fmt.Errorf("%s: a patch may load the libraries %s", c, strings.Join(openLibraries, ", "))
	case c.isIn("spec.template.spec.containers[].env[+]") && !slices.Contains(openVariables, name):
		return fmt.Errorf("%s: a patch may add the variables %s: Orthanc's options go into spec.orthanc.config, plugins into spec.orthanc.plugins",
			c, strings.Join(openVariables, ", "))
	case c.isIn("spec.template.spec.containers[].volumeMounts[+]") && !openMounts.MatchString(name):
		return fmt.Errorf("%s: a patch may mount below /mnt, /srv, /etc/ssl/certs and /usr/local/share/ca-certificates", c)
	}
	return nil
}

// lastName is the name of the innermost item on the path.
func (c change) lastName() string {
	if len(c.names) == 0 {
		return ""
	}
	return c.names[len(c.names)-1]
}

// isOpenKey tells whether the change is of a label or annotation that is open: one that is listed, or one without a
// prefix that the object does not have, which by Kubernetes' own rule is private to its user and instructs nobody.
func (c change) isOpenKey(kind string) bool {
	if len(c.path) < 2 {
		return false
	}
	if _, isText := c.after.(string); !isText && c.after != nil {
		return false
	}
	at, key := c.path[:len(c.path)-1], c.path[len(c.path)-1]
	place := strings.Join(at, ".")
	if slices.Contains(openKeys[kind][place], key) {
		return true
	}
	return (place == "metadata.labels" || place == "metadata.annotations") && c.before == nil && !strings.Contains(key, "/")
}

var podSecurity = sync.OnceValues(func() (policy.Evaluator, error) { return policy.NewEvaluator(policy.DefaultChecks(), nil) })

// checkRestricted asks of a Deployment what its namespace asks of the pods: such a pod would never start.
func checkRestricted(object map[string]any) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var d appsv1.Deployment
	// As the apiserver reads it: names in their own letters, and none that it does not know.
	if strict, err := kubejson.UnmarshalStrict(data, &d); err != nil || len(strict) > 0 {
		return fmt.Errorf("is not a Deployment that Kubernetes could read: %w", errors.Join(append(strict, err)...))
	}
	evaluator, err := podSecurity()
	if err != nil {
		return err
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	results := evaluator.EvaluatePod(level, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec)
	if result := policy.AggregateCheckResults(results); !result.Allowed {
		return fmt.Errorf("spec.template: a patch may not take the pods out of Pod Security level restricted: %s", result.ForbiddenDetail())
	}
	return nil
}
