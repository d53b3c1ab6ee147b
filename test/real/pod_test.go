// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"
)

// pod is what a kubelet makes of a Deployment's template before it starts the one container: files and environment.
type pod struct {
	*rendered
	name, node  string
	uid         string // of the object
	spec        corev1.PodSpec
	container   corev1.Container
	root        string // the directory that stands for the root of the container's filesystem
	env         map[string]string
	user, group uint32
}

// identityToken is where the webhook of a workload identity, which is not here, has a token mounted that Orthanc needs for
// S3 without keys. The image's /var/run leads to /run (github.com/aws/amazon-eks-pod-identity-webhook, --mount-path).
const identityToken = "/run/secrets/eks.amazonaws.com/serviceaccount"

// newPod makes the files and the environment of a pod of a Deployment. claims are the directories that stand for the
// volumes of PersistentVolumeClaims.
func (r *rendered) newPod(t *testing.T, deployment, suffix string, claims map[string]string) *pod {
	g := NewWithT(t)
	var d appsv1.Deployment
	r.get(t, "Deployment", deployment, &d)
	spec := d.Spec.Template.Spec
	g.Expect(spec.Containers).To(HaveLen(1))
	p := &pod{
		rendered: r, name: deployment + "-" + suffix, node: "node-" + suffix, uid: string(uuid.NewUUID()), spec: spec, container: spec.Containers[0],
		root: newDir(t), env: map[string]string{},
	}
	g.Expect(spec.SecurityContext).NotTo(BeNil())
	p.user, p.group = uint32(ptr.Deref(spec.SecurityContext.RunAsUser, 0)), uint32(ptr.Deref(spec.SecurityContext.FSGroup, 0))
	g.Expect(p.user).NotTo(BeZero(), "the container would run as root")
	for _, mount := range p.container.VolumeMounts {
		p.mount(t, mount, claims)
	}
	g.Expect(p.mounted(identityToken)).To(BeFalse(), "no runtime could make the mount point %s in another volume", identityToken)
	for _, e := range p.container.Env {
		p.env[e.Name] = p.value(t, e)
	}
	return p
}

// value is that of an environment variable.
func (p *pod) value(t *testing.T, e corev1.EnvVar) string {
	from := e.ValueFrom
	switch {
	case from == nil:
		return os.Expand(strings.ReplaceAll(strings.ReplaceAll(e.Value, "$(", "${"), ")", "}"), func(name string) string { return p.env[name] })
	case from.SecretKeyRef != nil:
		return string(p.secret(t, from.SecretKeyRef.Name, from.SecretKeyRef.Key))
	case from.FieldRef != nil:
		return p.field(t, from.FieldRef)
	}
	t.Fatalf("variable %s: the test does not know how a kubelet sets it: %v", e.Name, from)
	return ""
}

// field is one of the pod's own.
func (p *pod) field(t *testing.T, ref *corev1.ObjectFieldSelector) string {
	value, ok := map[string]string{
		"metadata.name": p.name, "metadata.namespace": p.tenant.Spec.Namespace, "metadata.uid": p.uid, "spec.nodeName": p.node,
	}[ref.FieldPath]
	if !ok {
		t.Fatalf("the test does not know field %s of a pod", ref.FieldPath)
	}
	return value
}

// mount makes a volume's files where the container mounts it.
func (p *pod) mount(t *testing.T, mount corev1.VolumeMount, claims map[string]string) {
	g := NewWithT(t)
	path := p.path(mount.MountPath)
	for _, v := range p.spec.Volumes {
		if v.Name != mount.Name {
			continue
		}
		g.Expect(os.MkdirAll(filepath.Dir(path), 0o755)).To(Succeed())
		if pvc := v.PersistentVolumeClaim; pvc != nil {
			dir := claims[pvc.ClaimName]
			g.Expect(dir).NotTo(BeEmpty(), "the test has no volume for claim %s", pvc.ClaimName)
			p.own(t, dir)
			g.Expect(os.Symlink(dir, path)).To(Succeed())
			return
		}
		if mount.SubPath != "" {
			data, ok := p.files(t, v)[mount.SubPath]
			g.Expect(ok).To(BeTrue(), "volume %s has no file %s", v.Name, mount.SubPath)
			p.write(t, path, data)
			return
		}
		g.Expect(os.MkdirAll(path, 0o755)).To(Succeed())
		if v.EmptyDir != nil {
			p.own(t, path)
			return
		}
		for name, data := range p.files(t, v) {
			p.write(t, filepath.Join(path, name), data)
		}
		return
	}
	t.Fatalf("the pod has no volume %q", mount.Name)
}

// files of a volume that holds objects.
func (p *pod) files(t *testing.T, v corev1.Volume) map[string][]byte {
	switch {
	case v.Secret != nil:
		return p.selected(t, "Secret", v.Secret.SecretName, v.Secret.Items)
	case v.ConfigMap != nil:
		return p.selected(t, "ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items)
	case v.DownwardAPI != nil:
		all := map[string][]byte{}
		for _, item := range v.DownwardAPI.Items {
			all[item.Path] = []byte(p.field(t, item.FieldRef))
		}
		return all
	case v.Projected != nil:
		all := map[string][]byte{}
		for _, source := range v.Projected.Sources {
			switch {
			case source.Secret != nil:
				maps.Copy(all, p.selected(t, "Secret", source.Secret.Name, source.Secret.Items))
			case source.ConfigMap != nil:
				maps.Copy(all, p.selected(t, "ConfigMap", source.ConfigMap.Name, source.ConfigMap.Items))
			default:
				t.Fatalf("volume %s: the test does not know how a kubelet makes it: %v", v.Name, source)
			}
		}
		return all
	}
	t.Fatalf("volume %s: the test does not know how a kubelet makes it: %v", v.Name, v.VolumeSource)
	return nil
}

// selected are the files of an object in a volume: all of its keys, or items.
func (p *pod) selected(t *testing.T, kind, name string, items []corev1.KeyToPath) map[string][]byte {
	all := map[string][]byte{}
	if kind == "Secret" {
		if p.secrets[name] == nil {
			t.Fatalf("nobody makes Secret %q in this test", name)
		}
		maps.Copy(all, p.secrets[name])
	} else {
		var object corev1.ConfigMap
		p.get(t, kind, name, &object)
		for key, value := range object.Data {
			all[key] = []byte(value)
		}
	}
	if items == nil {
		return all
	}
	chosen := map[string][]byte{}
	for _, item := range items {
		data, ok := all[item.Key]
		if !ok {
			t.Fatalf("%s %s has no key %q", kind, name, item.Key)
		}
		chosen[item.Path] = data
	}
	return chosen
}

// path is where a path of the container is on this machine.
func (p *pod) path(path string) string { return filepath.Join(p.root, path) }

// mounted says whether a path of the container is in one of its volumes.
func (p *pod) mounted(path string) bool {
	for _, m := range p.container.VolumeMounts {
		if path == m.MountPath || strings.HasPrefix(path, m.MountPath+"/") {
			return true
		}
	}
	return false
}

// write makes a file that the container's user may read and nobody else.
func (p *pod) write(t *testing.T, path string, data []byte) {
	NewWithT(t).Expect(os.WriteFile(path, data, 0o400)).To(Succeed())
	p.own(t, path)
}

// own gives a file to the container's user.
func (p *pod) own(t *testing.T, path string) {
	if os.Geteuid() == 0 {
		NewWithT(t).Expect(os.Chown(path, int(p.user), int(p.group))).To(Succeed())
	}
}
