// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
)

// reservedFields are values that would be fine in a class, by the field that a facility's own file may not set. Each
// is one or more lines below spec, in the order of the file.
var reservedFields = map[string][]string{
	"spec.certificates.issuerRef":     {"certificates:", "  issuerRef: {name: authors}"},
	"spec.commonMetadata":             {"commonMetadata: {labels: {region: north}}"},
	"spec.deletionPolicy":             {"deletionPolicy: Delete"},
	"spec.dependsOn":                  {"dependsOn: [{name: authors-one-dependency}]"},
	"spec.ingress.chart":              {"ingress:", "  chart: {version: 9.9.9}"},
	"spec.ingress.service":            {"ingress:", "  service: {type: ClusterIP}"},
	"spec.namespace":                  {"namespace: authors-elsewhere"},
	"spec.orthanc.image":              {"orthanc:", "  image: orthancteam/orthanc:26.8.0"},
	"spec.orthanc.storage.className":  {"orthanc:", "  storage:", "    className: fast"},
	"spec.postgres.storage.className": {"postgres:", "  storage:", "    className: fast"},
	"spec.patches":                    {"patches:", "- patch: '{apiVersion: v1, kind: Service, metadata: {name: orthweb, labels: {note: patched}}}'"},
	"spec.postgres.chart":             {"postgres:", "  chart: null"},
	"spec.quota":                      {"quota: {hard: {configmaps: 100}}"},
}

// reserved lists the paths of the fields of a type that are marked as reserved, and of fields without a mark: the
// first on each way down.
func reserved(t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || !strings.HasPrefix(t.PkgPath(), "github.com/digihunch/korthweb/") {
		return nil
	}
	var found []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		at := path
		if name != "" {
			at += "." + name
		}
		if f.Tag.Get("facility") == "allowed" {
			found = append(found, reserved(f.Type, at)...)
		} else {
			found = append(found, at)
		}
	}
	return found
}

// What is the platform's to say is refused in a facility's own file, with file, line and field, and the facility runs
// on as it was; a class may say it, and so may the file once the platform allows it.
func TestFacilityFields(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const name = "authors-one"
	fields := reserved(reflect.TypeFor[v1alpha1.TenantSpec](), "spec")
	g.Expect(fields).NotTo(BeEmpty())
	for _, field := range fields {
		g.Expect(reservedFields).To(HaveKey(field), "a reserved field that this test does not try")
	}
	f := newFacilities(t, shared, "authors", map[string]string{name + ".yaml": tenantFile(name)})
	g.Eventually(f.ready(name)).Should(Succeed())
	before, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())

	type attempt struct{ field, file string }
	var attempts []attempt
	for field, lines := range reservedFields {
		attempts = append(attempts, attempt{field, tenantFile(name, lines...)})
	}
	plain := tenantFile(name)
	attempts = append(attempts,
		attempt{"metadata.labels", strings.Replace(plain, "metadata:\n", "metadata:\n  labels: {sharding.fluxcd.io/key: mine}\n", 1)},
		attempt{"spec.quota", tenantFile(name, "quota: null")},
		attempt{"spec.orthanc", tenantFile(name, "orthanc: null")}, // what stands for all below it, reserved fields too
	)
	for _, try := range attempts {
		t.Run(try.field, func(t *testing.T) {
			g := gomega(t)
			revision := f.push(map[string]string{name + ".yaml": try.file})
			g.Eventually(f.takenOver(revision)).Should(Succeed())
			repository, err := f.repository()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(repository.Status.Problems).To(HaveLen(1))
			problem := repository.Status.Problems[0]
			g.Expect(problem.Reason).To(Equal(v1alpha1.ReservedFieldReason), problem.Message)
			g.Expect(problem.Tenant).To(Equal(name))
			g.Expect(problem.Field).To(HavePrefix(try.field))
			g.Expect(problem.File).To(Equal(fmt.Sprintf("tenants/%s.yaml:%d", name, lineOf(try.file, try.field))))
			g.Expect(problem.Message).To(ContainSubstring("spec.facilityFields.allow"))
			if try.field != "spec.namespace" { // which no class has either
				g.Expect(problem.Message).To(ContainSubstring("a class below tenants/classes"))
			}
			expectRefused(t, f, name, problem, before)
		})
	}

	// Once the file is right again, nothing is held against it.
	revision := f.push(map[string]string{name + ".yaml": tenantFile(name, "displayName: Mended")})
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())
	g.Eventually(func(g Gomega) {
		obj, err := f.get(name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.IsTrue(obj, v1alpha1.DefinitionAcceptedCondition)).To(BeTrue())
	}).Should(Succeed())

	t.Run("in a class", func(t *testing.T) { testReservedFieldsOfClass(t, f) })
	t.Run("amended", func(t *testing.T) { testFacilityFieldsAmended(t, f, name) })
}

// lineOf is the line of a field's last part in a file.
func lineOf(file, field string) int {
	key := field[strings.LastIndexByte(field, '.')+1:] + ":"
	line := 0
	for i, text := range strings.Split(file, "\n") {
		if strings.HasPrefix(strings.TrimLeft(text, " "), key) {
			line = i + 1
		}
	}
	return line
}

// expectRefused expects that a Tenant says what is wrong with its newest definition, in a condition and an event, and
// that it is otherwise as it was.
func expectRefused(t *testing.T, f *facilities, name string, problem v1alpha1.Problem, before *v1alpha1.Tenant) {
	t.Helper()
	g := gomega(t)
	g.Eventually(func(g Gomega) {
		obj, err := f.get(name)
		g.Expect(err).NotTo(HaveOccurred())
		accepted := conditions.Get(obj, v1alpha1.DefinitionAcceptedCondition)
		g.Expect(accepted).NotTo(BeNil())
		g.Expect(accepted.Status).To(Equal(metav1.ConditionFalse))
		g.Expect(accepted.Reason).To(Equal(problem.Reason))
		g.Expect(accepted.Message).To(And(ContainSubstring(problem.File), ContainSubstring(problem.Message)))
		events := &corev1.EventList{}
		g.Expect(f.env.client.List(t.Context(), events, client.InNamespace(stack.FluxNamespace),
			client.MatchingFields{"involvedObject.uid": string(obj.UID), "reason": problem.Reason})).To(Succeed())
		g.Expect(events.Items).To(ContainElement(And(
			HaveField("Type", corev1.EventTypeWarning), HaveField("Message", ContainSubstring(problem.File)))))
	}).Should(Succeed())
	obj, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(f.ready(name)()).To(Succeed())
	g.Expect(obj.UID).To(Equal(before.UID))
	g.Expect(obj.Generation).To(Equal(before.Generation))
	g.Expect(obj.Labels).To(Equal(before.Labels))
	g.Expect(obj.Status.Artifact).To(Equal(before.Status.Artifact))
}

// The same in a class, and it is seen in the cluster.
func testReservedFieldsOfClass(t *testing.T, f *facilities) {
	g := gomega(t)
	const name, ns = "authors-classy", "authors-classy-orthweb"
	create(t, shared, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": map[string]any{"name": "authors"},
		"spec": map[string]any{"selfSigned": map[string]any{}},
	}})
	class := fmt.Sprintf(`apiVersion: korthweb.digihunch.com/v1alpha1
kind: TenantClass
metadata:
  name: classy
tenantLabels: {ring: canary}
spec:
  ingress:
    chart: {url: %q, version: %q, insecure: true}
    service: {type: ClusterIP}
  orthanc:
    image: orthancteam/orthanc:26.8.0
`, shared.charts.Gateway.URL, shared.charts.Gateway.Version)
	for field, lines := range reservedFields {
		switch field {
		case "spec.ingress.chart", "spec.ingress.service", "spec.orthanc.image": // above
		case "spec.namespace", "spec.postgres.chart": // a tenant's own; nothing installs that chart here
		case "spec.orthanc.storage.className", "spec.postgres.storage.className": // there is no such class here
		default:
			class += indentLines(lines)
		}
	}
	revision := f.push(map[string]string{"classes/classy.yaml": class, name + ".yaml": tenantOfClass(name, "classy")})
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())

	obj, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(obj.Labels).To(HaveKeyWithValue("ring", "canary"))
	g.Expect(obj.Spec.DeletionPolicy).To(Equal(v1alpha1.DeleteData))
	g.Expect(obj.Spec.DependsOn).To(HaveLen(1))
	deployment, service, quota := &appsv1.Deployment{}, &corev1.Service{}, &corev1.ResourceQuota{}
	for key, o := range map[string]client.Object{"orthanc": deployment, "orthweb": service, "tenant": quota} {
		g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: key}, o)).To(Succeed())
		g.Expect(o.GetLabels()).To(HaveKeyWithValue("region", "north"))
	}
	g.Expect(deployment.Spec.Template.Spec.Containers[0].Image).To(Equal("orthancteam/orthanc:26.8.0"))
	g.Expect(service.Labels).To(HaveKeyWithValue("note", "patched"))
	g.Expect(quota.Spec.Hard).To(HaveKey(corev1.ResourceConfigMaps))
	gateway := &corev1.Service{}
	g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "istio-ingress"}, gateway)).To(Succeed())
	g.Expect(gateway.Spec.Type).To(Equal(corev1.ServiceTypeClusterIP))
	certificate := certificate(name, "web-tls")
	g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(certificate), certificate)).To(Succeed())
	issuer, _, _ := unstructured.NestedString(certificate.Object, "spec", "issuerRef", "name")
	g.Expect(issuer).To(Equal("authors"))
}

// The platform allows one field and reserves another, in its TenantRepository.
func testFacilityFieldsAmended(t *testing.T, f *facilities, name string) {
	g := gomega(t)
	amend := func(fields string) {
		r := &v1alpha1.TenantRepository{ObjectMeta: objectMeta(stack.FluxNamespace, f.name)}
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"facilityFields":`+fields+`}}`))
		g.Expect(shared.client.Patch(t.Context(), r, patch)).To(Succeed())
	}
	amend(`{"allow":["spec.quota"],"reserve":["spec.orthanc.replicas"]}`)
	revision := f.push(map[string]string{name + ".yaml": tenantFile(name, reservedFields["spec.quota"]...)})
	g.Eventually(f.readyAt(revision, name)).Should(Succeed())
	before, err := f.get(name)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(before.Spec.Quota.Hard).To(HaveKey(corev1.ResourceConfigMaps))

	revision = f.push(map[string]string{name + ".yaml": tenantFile(name, "orthanc: {replicas: 2}")})
	g.Eventually(f.takenOver(revision)).Should(Succeed())
	r, err := f.repository()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.Status.Problems).To(ConsistOf(And(
		HaveField("Field", "spec.orthanc.replicas"), HaveField("Reason", v1alpha1.ReservedFieldReason))))

	amend(`{"allow":["spec.quotas"]}`)
	g.Eventually(func(g Gomega) {
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.IsStalled(r)).To(BeTrue())
		g.Expect(conditions.GetMessage(r, meta.ReadyCondition)).To(ContainSubstring("spec.quotas"))
	}).Should(Succeed())
	g.Expect(f.ready(name)()).To(Succeed())
}

// A file defines only the tenant that it is named after: whatever becomes of that tenant's own file.
func TestTakeoverByAnotherFile(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const mine, theirs = "takeover-mine", "takeover-theirs"
	rogue := tenantFile(mine) + "---\n" + tenantFile(theirs, "displayName: Taken over", "orthanc: {replicas: 3}")
	f := newFacilities(t, shared, "takeover", map[string]string{mine + ".yaml": tenantFile(mine), theirs + ".yaml": tenantFile(theirs)})
	g.Eventually(f.ready(mine, theirs)).Should(Succeed())
	before, err := f.get(theirs)
	g.Expect(err).NotTo(HaveOccurred())

	for _, tc := range []struct {
		name   string
		files  map[string]string
		remove []string
		file   string // where the problem is
	}{
		{
			name:  "beside its own file",
			files: map[string]string{mine + ".yaml": rogue},
			file:  "tenants/" + mine + ".yaml",
		},
		{
			name:  "its own file broken",
			files: map[string]string{mine + ".yaml": rogue, theirs + ".yaml": tenantFile(theirs) + "  orthanc: {replicas: [\n"},
			file:  "tenants/" + mine + ".yaml",
		},
		{
			name:   "its own file moved to another directory",
			files:  map[string]string{mine + ".yaml": rogue, "north/" + theirs + ".yaml": tenantFile(theirs)},
			remove: []string{theirs + ".yaml"},
			file:   "tenants/" + mine + ".yaml",
		},
		{
			name:  "another file of its name",
			files: map[string]string{mine + ".yaml": tenantFile(mine), "north/" + theirs + ".yaml": tenantFile(theirs), "a/" + theirs + ".yaml": tenantFile(theirs, "displayName: Taken over")},
			file:  "tenants/a/" + theirs + ".yaml",
		},
		{
			// It may have been moved there by somebody who means well: it is not taken down either.
			name:   "its own file removed",
			files:  map[string]string{mine + ".yaml": rogue},
			remove: []string{"a", "north"},
			file:   "tenants/" + mine + ".yaml",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := gomega(t)
			revision := f.push(tc.files, tc.remove...)
			g.Eventually(f.takenOver(revision)).Should(Succeed())
			r, err := f.repository()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Status.Problems).To(ContainElement(And(HaveField("File", HavePrefix(tc.file+":")), HaveField("Tenant", theirs))))
			after, err := f.get(theirs)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(after.UID).To(Equal(before.UID))
			g.Expect(after.DeletionTimestamp).To(BeNil())
			g.Expect(after.Spec).To(Equal(before.Spec))
			g.Expect(after.Status.Artifact.Digest).To(Equal(before.Status.Artifact.Digest))
			g.Expect(f.ready(mine, theirs)()).To(Succeed())
		})
	}

	// Removed, it is offline with its data kept, and neither back nor anybody else's.
	f.push(map[string]string{mine + ".yaml": tenantFile(mine)})
	tenant := &v1alpha1.Tenant{ObjectMeta: objectMeta(stack.FluxNamespace, theirs)}
	g.Eventually(f.gone(tenant)).Should(Succeed())
	revision := f.push(map[string]string{mine + ".yaml": rogue})
	g.Eventually(f.takenOver(revision)).Should(Succeed())
	g.Expect(f.gone(tenant)()).To(Succeed())
	namespace := &corev1.Namespace{}
	g.Expect(shared.client.Get(t.Context(), client.ObjectKey{Name: theirs + "-orthweb"}, namespace)).To(Succeed())
	g.Expect(namespace.Annotations).To(HaveKey(v1alpha1.RetainedAnnotation))
	g.Expect(f.ready(mine)()).To(Succeed())
}

// One domain is one tenant's, with everything below it; and no tenant has one outside of the platform's.
func TestDomains(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	const one, two = "domains-one", "domains-two"
	ofDomain := func(class, domain string, spec ...string) string {
		return strings.Replace(tenantOfClass(two, class, spec...), two+".example.com", domain, 1)
	}
	f := newFacilities(t, shared, "domains", map[string]string{one + ".yaml": tenantFile(one), two + ".yaml": tenantFile(two)},
		func(r *v1alpha1.TenantRepository) { r.Spec.Domains = []v1alpha1.Hostname{"example.com"} })
	g.Eventually(f.ready(one, two)).Should(Succeed())
	before, err := f.get(two)
	g.Expect(err).NotTo(HaveOccurred())

	for _, tc := range []struct{ name, file, field, message string }{
		{"another's domain", ofDomain("e2e", one+".example.com"), "spec.domain", one},
		{"below another's domain", ofDomain("e2e", "ward."+one+".example.com"), "spec.domain", one},
		{"the platform's own domain", ofDomain("e2e", "example.com"), "spec.domain", "example.com"},
		{"web host below another's domain", tenantFile(two, "ingress: {web: {host: pacs."+one+".example.com}}"), "spec.ingress.web.host", one},
		{"DICOM host below another's domain", tenantFile(two, "ingress: {dicom: {host: pacs."+one+".example.com}}"), "spec.ingress.dicom.host", one},
		{"outside of the platform's domains", ofDomain("e2e", two+".example.net"), "spec.domain", "example.com"},
		{"name inside the cluster", tenantFile(two, "ingress: {web: {host: orthweb."+one+"-orthweb.svc}}"), "spec.ingress.web.host", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := gomega(t)
			revision := f.push(map[string]string{two + ".yaml": tc.file})
			g.Eventually(f.takenOver(revision)).Should(Succeed())
			r, err := f.repository()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Status.Problems).To(ContainElement(And(
				HaveField("File", HavePrefix("tenants/"+two+".yaml:")), HaveField("Tenant", two),
				HaveField("Field", tc.field), HaveField("Message", ContainSubstring(tc.message)))))
			after, err := f.get(two)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(after.Spec).To(Equal(before.Spec))
			g.Expect(f.ready(one, two)()).To(Succeed())
		})
	}
}
