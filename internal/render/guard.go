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
	// place is where, as guard_fields.go has it: [] is an item of a list and [+] one that was not there.
	place string
	// parent is the place of what it is a field or an item of.
	parent string
	// path is place for people, with the names of items: spec.template.spec.containers[orthanc].image.
	path string
	// item is the name of the innermost item.
	item string
	// foreign is a field on the path that is not plain, or reaches another namespace.
	foreign string
	// before and after are nil where there is nothing.
	before, after any
}

// leaves calls f with what is changed, as deep down as it can be told.
func (c change) leaves(f func(change) error) error {
	if reflect.DeepEqual(c.before, c.after) {
		return nil
	}
	was, isParted := parts(c.before)
	now, isPartedNow := parts(c.after)
	if !isParted || !isPartedNow || len(was)+len(now) == 0 {
		return f(c)
	}
	all := maps.Clone(was)
	maps.Copy(all, now)
	for _, part := range slices.Sorted(maps.Keys(all)) {
		below := change{
			place: strings.TrimPrefix(c.place+part, "."), parent: c.place, path: strings.TrimPrefix(c.path+part, "."),
			item: c.item, foreign: c.foreign, before: was[part], after: now[part],
		}
		if field, isField := strings.CutPrefix(part, "."); !isField {
			below.place, below.item = c.place+"[]", part[1:len(part)-1]
			if _, ok := was[part]; !ok {
				below.place = c.place + "[+]"
			}
		} else if !plainName.MatchString(field) || strings.Contains(strings.ToLower(field), "namespace") {
			below.foreign = field
		}
		if err := below.leaves(f); err != nil {
			return err
		}
	}
	return nil
}

// parts returns the fields of a map, as .field, or the items of a list, as [name]: by the path of a mount or the name of
// a container, variable or volume, or by number where they have none, or not one each. Nothing has no parts.
func parts(value any) (all map[string]any, ok bool) {
	all = map[string]any{}
	switch value := value.(type) {
	case nil:
	case map[string]any:
		for field, below := range value {
			all["."+field] = below
		}
	case []any:
		named := map[string]any{}
		for i, item := range value {
			all["["+strconv.Itoa(i)+"]"] = item
			fields, _ := item.(map[string]any)
			for _, field := range []string{"mountPath", "name"} {
				if name, _ := fields[field].(string); name != "" {
					named["["+name+"]"] = item
					break
				}
			}
		}
		if len(named) == len(value) {
			return named, true
		}
	default:
		return nil, false
	}
	return all, true
}

// isIn tells whether the change is at or below one of some places.
func (c change) isIn(places ...string) bool {
	return slices.ContainsFunc(places, func(place string) bool {
		rest, ok := strings.CutPrefix(c.place, place)
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
func checkChange(o *Object, before, after map[string]any) error {
	if err := (change{before: before, after: after}).leaves(func(c change) error { return c.check(o) }); err != nil {
		return err
	}
	if o.Kind == "Deployment" {
		return checkRestricted(after)
	}
	return nil
}

// check judges one change.
func (c change) check(o *Object) error {
	for place, instead := range insteadOf[o.Kind] {
		if c.isIn(place) {
			return fmt.Errorf("%s: a patch may not change this: use %s", c.path, instead)
		}
	}
	text, isText := c.after.(string)
	switch {
	case c.foreign != "":
		return fmt.Errorf("%s: a patch may not change this: %q names or reaches something else", c.path, c.foreign)
	case !c.isIn(openTo[o.Kind]...) && !c.isIn(openTo[o.Kind+"/"+o.Name]...) && !c.isNewKey():
		return fmt.Errorf("%s: a patch may not change this: docs/spec/v1alpha1/tenants.md lists under Patches what it may change in kind %s", c.path, o.Kind)
	case !isText && c.after != nil && keyed.MatchString(c.parent):
		return fmt.Errorf("%s: a label or annotation is text: write the value in quotes", c.path)
	case text == caSecret:
		return fmt.Errorf("%s: a patch may not name %s, the key of the tenant's CA", c.path, caSecret)
	case isText && o.Kind == "HelmRelease" && !plainValue.MatchString(text):
		return fmt.Errorf("%s: a value of a chart is letters, digits and ._/:@=+%%- in a patch, on one line and without spaces: "+
			"charts print some as they are, and run some as templates", c.path)
	case c.isIn("spec.template.spec.containers[].env[+]") && !slices.Contains(openVariables, c.item):
		return fmt.Errorf("%s: a patch may add the variables %s: Orthanc's options go into spec.orthanc.config, plugins into spec.orthanc.plugins",
			c.path, strings.Join(openVariables, ", "))
	case c.isIn("spec.template.spec.containers[].volumeMounts[+]") && !openMounts.MatchString(c.item):
		return fmt.Errorf("%s: a patch may mount below /mnt, /srv, /etc/ssl/certs and /usr/local/share/ca-certificates", c.path)
	}
	return nil
}

// isNewKey tells whether the change is a label or annotation that the object does not have, without a prefix: by
// Kubernetes' own rule it is private to its user and instructs nobody.
func (c change) isNewKey() bool {
	return (c.parent == "metadata.labels" || c.parent == "metadata.annotations") && c.before == nil && !strings.Contains(c.place, "/")
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
