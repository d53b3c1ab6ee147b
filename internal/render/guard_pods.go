// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"
	sigsyaml "sigs.k8s.io/yaml"
)

// comparePods returns an error that names what a patch of a Deployment weakens in its pods: Pod Security, by
// Kubernetes' own code, and what that does not look at. A container may be added; what it runs as must be restricted
// too.
func comparePods(before, after *yaml.Node) error {
	was, err := readPods(before)
	if err != nil {
		return err
	}
	now, err := readPods(after)
	if err != nil {
		return err
	}
	if err := checkRestricted(now); err != nil {
		return err
	}
	for _, list := range []struct {
		path     string
		was, now []corev1.Container
	}{
		{"spec.template.spec.containers", was.Spec.Containers, now.Spec.Containers},
		{"spec.template.spec.initContainers", was.Spec.InitContainers, now.Spec.InitContainers},
	} {
		for _, c := range list.was {
			at := fmt.Sprintf("%s[%s]", list.path, c.Name)
			i := indexOf(list.now, c.Name, func(c corev1.Container) string { return c.Name })
			if i < 0 {
				return fmt.Errorf("%s: a patch may not remove this container", at)
			}
			if err := compareContainer(c, list.now[i]); err != nil {
				return fmt.Errorf("%s.%w", at, err)
			}
		}
	}
	return compareVolumes(was.Spec.Volumes, now.Spec.Volumes)
}

func readPods(n *yaml.Node) (*corev1.PodTemplateSpec, error) {
	data, err := sigsyaml.YAMLToJSON(appendDocument(nil, n))
	if err != nil {
		return nil, err
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, err
	}
	// As the apiserver reads it: names in their own letters, and none that it does not know.
	var d appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(content, &d, true); err != nil {
		return nil, fmt.Errorf("is not a Deployment that Kubernetes could read: %w", err)
	}
	return &d.Spec.Template, nil
}

var podSecurity = sync.OnceValues(func() (policy.Evaluator, error) { return policy.NewEvaluator(policy.DefaultChecks(), nil) })

// checkRestricted asks what the namespace of the tenant asks of its pods.
func checkRestricted(pods *corev1.PodTemplateSpec) error {
	evaluator, err := podSecurity()
	if err != nil {
		return err
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	if result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pods.ObjectMeta, &pods.Spec)); !result.Allowed {
		return fmt.Errorf("spec.template: a patch may not take the pods out of Pod Security level restricted: %s", result.ForbiddenDetail())
	}
	return nil
}

func compareContainer(was, now corev1.Container) error {
	readOnly := func(c corev1.Container) bool {
		return c.SecurityContext != nil && ptr.Deref(c.SecurityContext.ReadOnlyRootFilesystem, false)
	}
	if readOnly(was) && !readOnly(now) {
		return errors.New("securityContext.readOnlyRootFilesystem: a patch may not make the root filesystem writable")
	}
	handler := func(p *corev1.Probe) *corev1.ProbeHandler {
		if p == nil {
			return nil
		}
		return &p.ProbeHandler
	}
	for _, f := range []struct {
		name     string
		was, now any
	}{
		{"command", was.Command, now.Command},
		{"args", was.Args, now.Args},
		{"envFrom", was.EnvFrom, now.EnvFrom},
		{"startupProbe", handler(was.StartupProbe), handler(now.StartupProbe)},
		{"livenessProbe", handler(was.LivenessProbe), handler(now.LivenessProbe)},
		{"readinessProbe", handler(was.ReadinessProbe), handler(now.ReadinessProbe)},
	} {
		if !equality.Semantic.DeepEqual(f.was, f.now) {
			return fmt.Errorf("%s: a patch may not change what this does, nor remove it", f.name)
		}
	}
	if err := compareEnv(was.Env, now.Env); err != nil {
		return err
	}
	return compareMounts(was.VolumeMounts, now.VolumeMounts)
}

// compareEnv keeps the way to the database, and Orthanc's options and plugins, which the image takes from the
// environment too, before it looks at the configuration.
func compareEnv(was, now []corev1.EnvVar) error {
	name := func(e corev1.EnvVar) string { return e.Name }
	for _, e := range was {
		if i := indexOf(now, e.Name, name); i < 0 || !equality.Semantic.DeepEqual(now[i], e) {
			return fmt.Errorf("env[%s]: a patch may not change or remove this variable", e.Name)
		}
	}
	seen := map[string]bool{}
	for _, e := range now {
		switch upper := strings.ToUpper(e.Name); {
		case seen[e.Name]:
			return fmt.Errorf("env[%s]: is set twice", e.Name)
		case indexOf(was, e.Name, name) >= 0:
		case strings.HasSuffix(upper, "_PLUGIN_ENABLED"):
			return fmt.Errorf("env[%s]: plugins are spec.orthanc.plugins' to say", e.Name)
		case strings.HasPrefix(upper, "ORTHANC"):
			return fmt.Errorf("env[%s]: Orthanc's options go into spec.orthanc.config", e.Name)
		case strings.HasPrefix(upper, "PG"):
			return fmt.Errorf("env[%s]: the database is spec.postgres' to say", e.Name)
		}
		seen[e.Name] = true
	}
	return nil
}

// configurationDirectories are where Orthanc's image looks for configuration, whatever is mounted there.
var configurationDirectories = []string{"/etc/orthanc", "/run/secrets"}

// mountPoint is where a path is in the container, ending in a slash. In the images /var/run is a link to /run.
func mountPoint(file string) string {
	file = strings.TrimSuffix(path.Clean("/"+file), "/") + "/"
	if rest, ok := strings.CutPrefix(file, "/var/run/"); ok {
		return "/run/" + rest
	}
	return file
}

// compareMounts keeps what is mounted, and the configuration and credentials from being hidden by something else or
// added to.
func compareMounts(was, now []corev1.VolumeMount) error {
	at := func(m corev1.VolumeMount) string { return m.MountPath }
	closed := slices.Clone(configurationDirectories)
	for _, m := range was {
		closed = append(closed, m.MountPath)
		if i := indexOf(now, m.MountPath, at); i < 0 || !equality.Semantic.DeepEqual(now[i], m) {
			return fmt.Errorf("volumeMounts[%s]: a patch may not change or remove this mount", m.MountPath)
		}
	}
	for _, m := range now {
		if indexOf(was, m.MountPath, at) >= 0 {
			continue
		}
		for _, old := range closed {
			new, old := mountPoint(m.MountPath), mountPoint(old)
			if strings.HasPrefix(new, old) || strings.HasPrefix(old, new) {
				return fmt.Errorf("volumeMounts[%s]: a patch may not mount over or into %s", m.MountPath, old)
			}
		}
	}
	return nil
}

// compareVolumes keeps the volumes, all but the size of a scratch volume.
func compareVolumes(was, now []corev1.Volume) error {
	name := func(v corev1.Volume) string { return v.Name }
	for _, v := range was {
		i := indexOf(now, v.Name, name)
		if i < 0 {
			return fmt.Errorf("spec.template.spec.volumes[%s]: a patch may not remove this volume", v.Name)
		}
		a, b := v.DeepCopy(), now[i].DeepCopy()
		if a.EmptyDir != nil && b.EmptyDir != nil {
			a.EmptyDir.SizeLimit, b.EmptyDir.SizeLimit = nil, nil
		}
		if !equality.Semantic.DeepEqual(a, b) {
			return fmt.Errorf("spec.template.spec.volumes[%s]: a patch may not change this volume", v.Name)
		}
	}
	for _, v := range now {
		if v.Projected != nil && indexOf(was, v.Name, name) < 0 {
			return fmt.Errorf("spec.template.spec.volumes[%s]: a patch may not add a projected volume, which can hold a token of the pod's account", v.Name)
		}
	}
	return nil
}

// indexOf returns where in a list the item with that name is, or -1.
func indexOf[T any](list []T, name string, of func(T) string) int {
	for i, item := range list {
		if of(item) == name {
			return i
		}
	}
	return -1
}
