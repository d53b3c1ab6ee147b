// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"testing"
	"testing/fstest"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/render"
)

// TestForEach shows that a component is made once for each item, with the item's, the tenant's and the layer's common
// values.
func TestForEach(t *testing.T) {
	g := NewWithT(t)
	bundle := fstest.MapFS{
		"bundle.yaml":               {Data: []byte("layers: [{name: l, base: base, common: common, components: [{path: item, forEach: spec.orthanc.modalities}]}]")},
		"base/kustomization.yaml":   {Data: []byte("resources: [c.yaml]")},
		"base/c.yaml":               {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")},
		"common/kustomization.yaml": {Data: []byte("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnamespace: placeholder\n")},
		"common/replacements.yaml":  {Data: []byte("- source: {kind: Tenant, fieldPath: spec.namespace}\n  targets: [{select: {}, fieldPaths: [metadata.namespace]}]\n")},
		"item/kustomization.yaml":   {Data: []byte("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [modality.yaml]\n")},
		"item/modality.yaml":        {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: placeholder}\ndata: {tenant: placeholder, port: placeholder}\n")},
		"item/replacements.yaml":    {Data: []byte("- source: {kind: ConfigMap, name: item, fieldPath: data.name}\n  targets: [{select: {name: placeholder}, fieldPaths: [metadata.name]}]\n- source: {kind: ConfigMap, name: item, fieldPath: data.port}\n  targets: [{select: {name: placeholder}, fieldPaths: [data.port]}]\n- source: {kind: Tenant, fieldPath: metadata.name}\n  targets: [{select: {name: placeholder}, fieldPaths: [data.tenant]}]\n")},
	}
	r, err := render.New(bundle)
	g.Expect(err).NotTo(HaveOccurred())
	tenant := &v1alpha1.Tenant{}
	g.Expect(yaml.UnmarshalStrict([]byte(`
metadata: {name: bhs}
spec:
  domain: bhs.example.org
  orthanc:
    modalities:
    - {name: ct-1, aeTitle: CT1, host: ct-1.example.org, port: 104}
    - {name: mr-1, aeTitle: MR1, host: mr-1.example.org, port: 105}
`), tenant)).To(Succeed())
	tenant.SetDefaults()
	names := func() (names []string) {
		b, err := r.Render(tenant)
		g.Expect(err).NotTo(HaveOccurred())
		for _, o := range b.Layers[0].Objects {
			g.Expect(o.Namespace).To(Equal("bhs-orthweb"))
			names = append(names, o.Name)
			if o.Name == "mr-1" {
				g.Expect(decode(t, o.YAML())).To(HaveKeyWithValue("data", map[string]any{"tenant": "bhs", "port": "105"}))
			}
		}
		return names
	}
	g.Expect(names()).To(Equal([]string{"c", "ct-1", "mr-1"}))

	tenant.Spec.Orthanc.Modalities = tenant.Spec.Orthanc.Modalities[:1]
	g.Expect(names()).To(Equal([]string{"c", "ct-1"}))

	tenant.Spec.Orthanc.Modalities = nil
	g.Expect(names()).To(Equal([]string{"c"}))

	tenant.Spec.Orthanc.Modalities = []v1alpha1.Modality{{Name: "ct-1"}, {Name: "ct-1"}}
	_, err = r.Render(tenant)
	g.Expect(err).To(HaveOccurred(), "two objects of one name")
}

func TestRequirements(t *testing.T) {
	tenant := readTenant(t, "minimal")
	tenant.Spec.Orthanc.Config = nil
	for name, tc := range map[string]struct {
		when string
		want bool
	}{
		"set":                         {"{fieldPath: spec.domain, operator: Exists}", true},
		"not set":                     {"{fieldPath: spec.orthanc.storage.className, operator: Exists}", false},
		"no such field":               {"{fieldPath: spec.a.b, operator: Exists}", false},
		"does not exist":              {"{fieldPath: spec.orthanc.config, operator: DoesNotExist}", true},
		"exists":                      {"{fieldPath: spec.domain, operator: DoesNotExist}", false},
		"value":                       {"{fieldPath: spec.ingress.provider, operator: In, values: [Traefik, Istio]}", true},
		"another value":               {"{fieldPath: spec.ingress.provider, operator: In, values: [Traefik]}", false},
		"a number":                    {"{fieldPath: spec.orthanc.replicas, operator: In, values: ['1']}", true},
		"not among":                   {"{fieldPath: spec.orthanc.replicas, operator: NotIn, values: ['2']}", true},
		"among":                       {"{fieldPath: spec.orthanc.replicas, operator: NotIn, values: ['1']}", false},
		"not set is among none":       {"{fieldPath: spec.orthanc.autoscaling.maxReplicas, operator: NotIn, values: ['1']}", true},
		"not set is none of them":     {"{fieldPath: spec.orthanc.autoscaling.maxReplicas, operator: In, values: ['1']}", false},
		"an item":                     {"{fieldPath: spec.orthanc.plugins, operator: In, values: [ohif, dicom-web]}", true},
		"no item":                     {"{fieldPath: spec.orthanc.plugins, operator: In, values: [ohif]}", false},
		"no item, and none is":        {"{fieldPath: spec.orthanc.plugins, operator: NotIn, values: [ohif]}", true},
		"all hold":                    {"{fieldPath: spec.domain, operator: Exists}, {fieldPath: spec.orthanc.plugins, operator: Exists}", true},
		"one of two does not":         {"{fieldPath: spec.domain, operator: Exists}, {fieldPath: spec.suspend, operator: In, values: ['true']}", false},
		"an empty list is not set":    {"{fieldPath: spec.orthanc.modalities, operator: Exists}", false},
		"an empty map does not exist": {"{fieldPath: spec.ingress.service.annotations, operator: DoesNotExist}", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r, err := render.New(fstest.MapFS{
				"bundle.yaml":             {Data: []byte("layers: [{name: l, base: base, components: [{path: c, when: [" + tc.when + "]}]}]")},
				"base/kustomization.yaml": {Data: []byte("resources: [o.yaml]")},
				"base/o.yaml":             {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: o}\n")},
				"c/kustomization.yaml":    {Data: []byte("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [c.yaml]\n")},
				"c/c.yaml":                {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")},
			})
			g.Expect(err).NotTo(HaveOccurred())
			b, err := r.Render(tenant)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(len(b.Layers[0].Objects) == 2).To(Equal(tc.want))
		})
	}
}

// TestPeers shows which outside endpoints follow from a definition.
func TestPeers(t *testing.T) {
	for name, tc := range map[string]struct {
		spec             string
		hosts, addresses []string
	}{
		"none": {spec: "suspend: false"},
		"modalities by name and by address": {
			spec:      "orthanc: {modalities: [{name: ct-1, aeTitle: CT1, host: CT-1.example.org, port: 104}, {name: mr-1, aeTitle: MR1, host: 10.1.2.3, port: 104}, {name: us-1, aeTitle: US1, host: 'fd00::1', port: 104}]}",
			hosts:     []string{"modality-ct-1 ct-1.example.org:104/TCP"},
			addresses: []string{"modality-mr-1 10.1.2.3/32:104/TCP", "modality-us-1 fd00::1/128:104/TCP"},
		},
		"two modalities at one address": {
			spec:  "orthanc: {modalities: [{name: a, aeTitle: A, host: x.example.org, port: 104}, {name: b, aeTitle: B, host: x.example.org, port: 104}]}",
			hosts: []string{"modality-a x.example.org:104/TCP"},
		},
		"AWS with keys": {
			spec:  "orthanc: {storage: {type: S3, s3: {bucket: images, region: eu-central-1, secretRef: {name: s3}}}}",
			hosts: []string{"s3 images.s3.eu-central-1.amazonaws.com:443/TLS"},
		},
		"AWS with an identity": {
			spec:  "orthanc: {storage: {type: S3, s3: {bucket: images, region: eu-central-1, virtualAddressing: false}}}",
			hosts: []string{"s3 s3.eu-central-1.amazonaws.com:443/TLS", "sts sts.eu-central-1.amazonaws.com:443/TLS"},
		},
		"another S3": {
			spec:  "orthanc: {storage: {type: S3, s3: {bucket: images, region: local, endpoint: 'https://minio.example.org:9000'}}}",
			hosts: []string{"s3 minio.example.org:9000/TLS"},
		},
		"external database": {
			spec:      "postgres: {provider: External, external: {host: 10.9.8.7, secretRef: {name: db}}}",
			addresses: []string{"postgres 10.9.8.7/32:5432/TCP"},
		},
		"egress hosts": {
			spec:  "ingress: {egress: {hosts: [{host: pacs.example.org, port: 443}, {host: pacs.example.org, port: 11112, protocol: TCP}]}}",
			hosts: []string{"egress-0ac80b2de862ad3b pacs.example.org:443/TLS", "egress-9866ee022c11df63 pacs.example.org:11112/TCP"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			tenant := &v1alpha1.Tenant{}
			g.Expect(yaml.UnmarshalStrict([]byte("metadata: {name: bhs}\nspec:\n  domain: bhs.example.org\n  "+tc.spec), tenant)).To(Succeed())
			tenant.SetDefaults()
			hosts, addresses := render.Peers(tenant)
			g.Expect(hosts).To(Equal(tc.hosts))
			g.Expect(addresses).To(Equal(tc.addresses))
		})
	}
}
