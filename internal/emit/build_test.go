// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/emit"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func newTenant(name string) *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: name},
		Spec:       v1alpha1.TenantSpec{Domain: name + ".orthweb.com"},
	}
	t.SetDefaults()
	return t
}

func TestObjects(t *testing.T) {
	plain := newTenant("bhs")

	full := newTenant("mhr")
	full.Spec.Namespace = "clinic"
	full.Spec.Suspend = true
	full.Spec.DependsOn = []v1alpha1.DependencyReference{{Name: "infrastructure"}, {Namespace: "platform", Name: "observability"}}
	full.Spec.CommonMetadata = &kustomizev1.CommonMetadata{
		Labels:      map[string]string{"team": "imaging", v1alpha1.ManagedByLabel: "someone-else"},
		Annotations: map[string]string{"contact": "imaging@example.com"},
	}

	for _, tenant := range []*v1alpha1.Tenant{plain, full} {
		t.Run(tenant.Name, func(t *testing.T) {
			g := NewWithT(t)
			var out bytes.Buffer
			for _, o := range emit.Objects(tenant) {
				data, err := yaml.Marshal(o)
				g.Expect(err).NotTo(HaveOccurred())
				out.WriteString("---\n")
				out.Write(data)
			}
			golden := "testdata/" + tenant.Name + ".yaml"
			if *update {
				g.Expect(os.WriteFile(golden, out.Bytes(), 0o644)).To(Succeed())
			}
			want, err := os.ReadFile(golden)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(out.String()).To(Equal(string(want)), "run the test with -update if that is meant")
		})
	}
}

func TestOwnership(t *testing.T) {
	g := NewWithT(t)
	tenant := newTenant("bhs")
	for _, o := range emit.Objects(tenant) {
		kind := o.GetObjectKind().GroupVersionKind().Kind
		g.Expect(o.GetLabels()).To(And(
			HaveKeyWithValue(v1alpha1.ManagedByLabel, v1alpha1.FieldManager),
			HaveKeyWithValue(v1alpha1.TenantLabel, "bhs"),
			HaveKeyWithValue(v1alpha1.TenantNamespaceLabel, "flux-system")), kind)
		g.Expect(o.GetOwnerReferences()).To(BeEmpty(), "%s: the garbage collector would remove it past Remove's order", kind)
	}
}

func TestDigestFollowsContent(t *testing.T) {
	g := NewWithT(t)
	digests := func(change func(*v1alpha1.Tenant)) (list []string) {
		tenant := newTenant("bhs")
		change(tenant)
		for _, o := range emit.Objects(tenant) {
			list = append(list, o.GetAnnotations()[v1alpha1.DigestAnnotation])
		}
		return list
	}
	base := digests(func(*v1alpha1.Tenant) {})
	g.Expect(digests(func(t *v1alpha1.Tenant) { t.Spec.Orthanc.AETitle = "OTHER" })).To(Equal(base), "what is rendered is not emitted")

	suspended := digests(func(t *v1alpha1.Tenant) { t.Spec.Suspend = true })
	g.Expect(suspended[:6]).To(Equal(base[:6]))
	g.Expect(suspended[6]).NotTo(Equal(base[6]))
	g.Expect(suspended[7]).NotTo(Equal(base[7]))
}

func TestCredentials(t *testing.T) {
	g := NewWithT(t)
	password, err := emit.NewPassword(bytes.NewReader(make([]byte, 24)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(password).To(Equal(strings.Repeat("A", 32)))
	_, err = emit.NewPassword(bytes.NewReader(make([]byte, 23)))
	g.Expect(err).To(MatchError(ContainSubstring("randomness")))

	secret := emit.Credentials(newTenant("bhs"), `quo"te`)
	g.Expect(*secret.Immutable).To(BeTrue())
	g.Expect(secret.Namespace).To(Equal("bhs-orthweb"))
	g.Expect(secret.Annotations).To(BeEmpty())
	var users struct{ RegisteredUsers map[string]string }
	g.Expect(json.Unmarshal(secret.Data["users.json"], &users)).To(Succeed())
	g.Expect(users.RegisteredUsers).To(Equal(map[string]string{"admin": `quo"te`}))
	g.Expect(string(secret.Data["username"])).To(Equal("admin"))
	g.Expect(string(secret.Data["password"])).To(Equal(`quo"te`))
}

func TestHealthChecks(t *testing.T) {
	checks := map[string]kustomize.HealthCheckExpressions{}
	for _, check := range emit.Kustomization(newTenant("bhs"), v1alpha1.DependencyLayer).Spec.HealthCheckExprs {
		checks[check.Kind] = check.HealthCheckExpressions
	}
	for name, tc := range map[string]struct {
		reason, kind, object string
		want                 status.Status
		wantErr              bool
	}{
		"certificate without status": {kind: "Certificate", object: `{metadata: {generation: 1}}`, wantErr: true,
			reason: "Flux takes an error for unknown, and waits"},
		"certificate with an empty status": {kind: "Certificate", object: `{metadata: {generation: 1}, status: {}}`, want: status.InProgressStatus},
		"certificate without a Ready condition": {kind: "Certificate", want: status.InProgressStatus,
			object: `{metadata: {generation: 1}, status: {conditions: [{type: Issuing, status: "True", reason: DoesNotExist}]}}`},
		"certificate issued": {kind: "Certificate", want: status.CurrentStatus,
			object: `{metadata: {generation: 2}, status: {conditions: [{type: Ready, status: "True", observedGeneration: 2}]}}`},
		"certificate issued before the last change": {kind: "Certificate", want: status.InProgressStatus,
			object: `{metadata: {generation: 2}, status: {conditions: [{type: Ready, status: "True", observedGeneration: 1}]}}`},
		"certificate issued, generation not said": {kind: "Certificate", want: status.CurrentStatus,
			object: `{metadata: {generation: 2}, status: {conditions: [{type: Ready, status: "True"}]}}`},
		"certificate failed": {kind: "Certificate", want: status.FailedStatus,
			object: `{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "False"}, {type: Issuing, status: "False", reason: Failed}]}}`},
		"certificate tried again": {kind: "Certificate", want: status.InProgressStatus,
			object: `{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "False"}, {type: Issuing, status: "True", reason: Failed}]}}`},
		"certificate whose renewal failed": {kind: "Certificate", want: status.CurrentStatus, reason: "it still serves",
			object: `{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "True"}, {type: Issuing, status: "False", reason: Failed}]}}`},
		"issuer ready": {kind: "Issuer", want: status.CurrentStatus,
			object: `{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "True", observedGeneration: 1}]}}`},
		"issuer before its CA": {kind: "Issuer", want: status.InProgressStatus,
			object: `{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "False", reason: ErrGetKeyPair}]}}`},
		"cluster without status": {kind: "Cluster", object: `{metadata: {generation: 1}}`, wantErr: true},
		"cluster being set up": {kind: "Cluster", want: status.InProgressStatus,
			object: `{metadata: {generation: 1}, status: {phase: Setting up primary, conditions: [{type: Ready, status: "False"}]}}`},
		"cluster healthy": {kind: "Cluster", want: status.CurrentStatus,
			object: `{metadata: {generation: 1}, status: {phase: Cluster in healthy state, conditions: [{type: Ready, status: "True"}]}}`},
		"cluster beyond repair": {kind: "Cluster", want: status.FailedStatus,
			object: `{metadata: {generation: 1}, status: {phase: Cluster is unrecoverable and needs manual intervention}}`},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			check := checks[tc.kind]
			evaluator, err := cel.NewStatusEvaluator(&check)
			g.Expect(err).NotTo(HaveOccurred())
			content := map[string]any{}
			g.Expect(yaml.Unmarshal([]byte(tc.object), &content)).To(Succeed())
			data, err := json.Marshal(content)
			g.Expect(err).NotTo(HaveOccurred())
			o := &unstructured.Unstructured{}
			// Through unstructured's own decoder, so that integers are integers.
			g.Expect(o.UnmarshalJSON(append([]byte(`{"apiVersion":"v1","kind":"X",`), data[1:]...))).To(Succeed())
			result, err := evaluator.Evaluate(context.Background(), o)
			if tc.wantErr {
				g.Expect(err).To(HaveOccurred(), tc.reason)
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(result.Status).To(Equal(tc.want), tc.reason)
		})
	}
}
