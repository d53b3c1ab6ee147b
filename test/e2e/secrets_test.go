// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// A Secret that the definition names and that is missing, or lacks a key, is told by name before anything is applied,
// and its coming is noticed.
func TestSecretThatIsNotThere(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	f := newFacilities(t, shared, "secrets", map[string]string{"secrets-a.yaml": tenantFile("secrets-a",
		"orthanc: {storage: {type: S3, s3: {bucket: secrets-a, region: eu-central-1, secretRef: {name: bucket}}}}")})
	says := func(text string) func() error {
		return func() error {
			obj, err := f.get("secrets-a")
			if err != nil {
				return err
			}
			ready := conditions.Get(obj, meta.ReadyCondition)
			if ready == nil || ready.Reason != v1alpha1.InvalidSecretReason {
				return fmt.Errorf("Ready is %v", ready)
			}
			if want := "spec.orthanc.storage.s3.secretRef: Secret secrets-a-orthweb/bucket " + text; ready.Message != want {
				return fmt.Errorf("the message is %q, not %q", ready.Message, want)
			}
			return nil
		}
	}
	g.Eventually(says("does not exist: create it with the keys accesskey and secretkey")).Should(Succeed())
	_, err := f.layer("secrets-a", v1alpha1.DependencyLayer)
	g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "a layer is there already")

	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "secrets-a-orthweb", Name: "bucket"},
		StringData: map[string]string{"accesskey": "AKIA"},
	}
	create(t, shared, secret)
	g.Eventually(says("has no key secretkey, or it is empty: it needs the keys accesskey and secretkey")).Should(Succeed())
	secret.StringData = map[string]string{"secretkey": "hunter2"}
	g.Expect(shared.client.Update(t.Context(), secret)).To(Succeed())
	g.Eventually(f.ready("secrets-a")).Should(Succeed())
}

// A change that would leave the images of a living tenant behind is refused in git and at the apiserver, and the tenant
// stays as it is.
func TestChangeThatLeavesDataBehind(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	f := newFacilities(t, shared, "left-behind", map[string]string{"left-behind-a.yaml": tenantFile("left-behind-a")})
	g.Eventually(f.ready("left-behind-a")).Should(Succeed())
	before, err := f.get("left-behind-a")
	g.Expect(err).NotTo(HaveOccurred())

	revision := f.push(map[string]string{"left-behind-a.yaml": tenantFile("left-behind-a", "orthanc: {storage: {type: Database}}")})
	g.Eventually(f.takenOver(revision)).Should(Succeed())
	repository, err := f.repository()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(repository.Status.Problems).To(HaveLen(1))
	problem := repository.Status.Problems[0]
	g.Expect(problem.Field).To(Equal("spec.orthanc.storage.type"))
	g.Expect(problem.Message).To(ContainSubstring("the images that are stored would be left behind"))

	after, err := f.get("left-behind-a")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after.Spec).To(Equal(before.Spec))
	g.Expect(after.Status.Artifact).To(Equal(before.Status.Artifact))
	g.Expect(conditions.IsReady(after)).To(BeTrue())

	after.Spec.Postgres.Provider = v1alpha1.BitnamiPostgres
	err = shared.client.Update(t.Context(), after)
	g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
	g.Expect(err).To(MatchError(ContainSubstring("postgres.provider is immutable")))
}
