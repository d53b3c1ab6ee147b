// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/fluxcd/pkg/ssh"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/hack/stack"
	"github.com/digihunch/korthweb/hack/stack/gitserver"
)

const refused = "the password of nobody"

// onlyRetries makes a TenantRepository look at its source when asked to, and again every second only
// while that fails.
func onlyRetries(r *v1alpha1.TenantRepository) {
	r.Spec.Interval = metav1.Duration{Duration: time.Hour}
	r.Spec.RetryInterval = &metav1.Duration{Duration: time.Second}
	r.Spec.Timeout = &metav1.Duration{Duration: 3 * time.Second}
}

// sourceFault is a way in which a source fails.
type sourceFault struct {
	name string
	// happen makes it fail, mend makes it work again.
	happen, mend func() error
	reason       string
	messages     []string
}

// A repository over https with credentials and an authority of its own is read, and whatever then
// becomes of it, its tenant stays.
func TestGitOverHTTPS(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	env := withGit(t, gitserver.Options{TLS: true, Username: "platform", Password: "s3cret"})
	secret := newSecret(t, env, "https-credentials", map[string]string{
		"username": "platform", "password": "s3cret", "ca.crt": string(env.git.CA),
	})
	one := func(displayName string) map[string]string {
		return map[string]string{"https-one.yaml": tenantFile("https-one", "displayName: "+displayName), classFile: class(env)}
	}
	f := newFacilities(t, env, "https", one("Seed"), onlyRetries, func(r *v1alpha1.TenantRepository) {
		r.Spec.Git.SecretRef = &meta.LocalObjectReference{Name: secret.Name}
	})
	g.Eventually(f.ready("https-one")).Should(Succeed())
	url := f.repo.URL()

	setPassword := func(password string) func() error {
		return func() error {
			secret.StringData = map[string]string{"password": password}
			return env.client.Update(t.Context(), secret)
		}
	}
	commit := func(files map[string]string, remove ...string) func() error {
		return func() error {
			_, err := f.repo.Commit(files, remove, "Break it")
			return err
		}
	}
	testSourceFaults(t, f, "https-one", one, []sourceFault{
		{
			name:     "empty path",
			happen:   commit(map[string]string{"tenants/README.md": "None yet."}, "tenants/https-one.yaml", "tenants/"+classFile),
			reason:   v1alpha1.PathNotFoundReason,
			messages: []string{"no tenant is defined under ./tenants", "nothing was removed"},
		},
		{
			name:     "path gone",
			happen:   commit(map[string]string{"README.md": "Moved."}, "tenants"),
			reason:   v1alpha1.PathNotFoundReason,
			messages: []string{`path "tenants" is not in the source`},
		},
		{
			name:     "branch deleted",
			happen:   func() error { return f.repo.DeleteBranch(gitserver.Branch) },
			reason:   sourcev1.GitOperationFailedReason,
			messages: []string{"branch main not found in " + url},
		},
		{
			name:     "server down",
			happen:   func() error { env.git.Stop(); return nil },
			mend:     env.git.Start,
			reason:   sourcev1.GitOperationFailedReason,
			messages: []string{url, "connection refused"},
		},
		{
			name:     "server hangs",
			happen:   func() error { env.git.Hang(); return nil },
			mend:     env.git.Start,
			reason:   sourcev1.GitOperationFailedReason,
			messages: []string{"no complete answer from " + url + " within 3s"},
		},
		{
			name:     "credentials refused",
			happen:   setPassword(refused),
			mend:     setPassword("s3cret"),
			reason:   sourcev1.AuthenticationFailedReason,
			messages: []string{url + " refused the credentials of the Secret"},
		},
	})

	t.Run("history rewritten", func(t *testing.T) {
		g := gomega(t)
		files := map[string]string{"tenants/https-one.yaml": tenantFile("https-one", "displayName: Rewritten")}
		sha, err := f.repo.Rewrite(files, "Begin anew")
		g.Expect(err).NotTo(HaveOccurred())
		f.request(t)
		g.Eventually(f.readyAt(gitserver.Branch+"@sha1:"+sha, "https-one")).Should(Succeed())
	})
}

// The same over ssh, where a changed host key may mean that somebody is in between.
func TestGitOverSSH(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	env := withGit(t, gitserver.Options{SSH: true})
	pair, err := ssh.NewEd25519Generator().Generate()
	g.Expect(err).NotTo(HaveOccurred())
	knownHosts, err := env.git.KnownHosts()
	g.Expect(err).NotTo(HaveOccurred())
	secret := newSecret(t, env, "ssh-identity", map[string]string{
		"identity": string(pair.PrivateKey), "known_hosts": knownHosts,
	})
	one := func(displayName string) map[string]string {
		return map[string]string{"ssh-one.yaml": tenantFile("ssh-one", "displayName: "+displayName)}
	}
	f := newFacilities(t, env, "ssh", one("Seed"), onlyRetries, func(r *v1alpha1.TenantRepository) {
		r.Spec.Git.SecretRef = &meta.LocalObjectReference{Name: secret.Name}
		r.Spec.Git.URL = env.git.SSHURL() + "/ssh.git"
	})
	g.Eventually(f.ready("ssh-one")).Should(Succeed())

	testSourceFaults(t, f, "ssh-one", one, []sourceFault{
		{
			name:     "server hangs",
			happen:   func() error { env.git.Hang(); return nil },
			mend:     env.git.Start,
			reason:   sourcev1.GitOperationFailedReason,
			messages: []string{"no complete answer from ssh://", "within 3s"},
		},
		{
			name:   "host key changed",
			happen: env.git.ChangeHostKey,
			mend: func() error {
				line, err := env.git.KnownHosts()
				if err != nil {
					return err
				}
				secret.StringData = map[string]string{"known_hosts": line}
				return env.client.Update(t.Context(), secret)
			},
			reason:   sourcev1.AuthenticationFailedReason,
			messages: []string{"host key", "changed", "known_hosts"},
		},
	})
}

// testSourceFaults lets each fault happen, and asserts that the TenantRepository says what is wrong, that
// the tenant stays as it is, and that a commit arrives by itself once the fault is mended.
func testSourceFaults(t *testing.T, f *facilities, name string, files func(displayName string) map[string]string, faults []sourceFault) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			g := gomega(t)
			before, err := f.get(name)
			g.Expect(err).NotTo(HaveOccurred())
			applied, err := f.repository()
			g.Expect(err).NotTo(HaveOccurred())

			g.Expect(fault.happen()).To(Succeed())
			f.request(t)
			g.Eventually(func(g Gomega) {
				r, err := f.repository()
				g.Expect(err).NotTo(HaveOccurred())
				ready := conditions.Get(r, meta.ReadyCondition)
				g.Expect(ready).NotTo(BeNil())
				g.Expect(ready.Reason).To(Equal(fault.reason), ready.Message)
				for _, text := range fault.messages {
					g.Expect(ready.Message).To(ContainSubstring(text))
				}
				g.Expect(ready.Status).To(Equal(metav1.ConditionFalse))
				g.Expect(conditions.GetReason(r, meta.ReconcilingCondition)).To(Equal(meta.ProgressingWithRetryReason))
				g.Expect(r.Status.LastAppliedRevision).To(Equal(applied.Status.LastAppliedRevision))
				g.Expect(r.Status.Tenants).To(Equal(v1alpha1.TenantCounts{Total: 1, Ready: 1}))
				g.Expect(fmt.Sprint(r.Status)).NotTo(ContainSubstring(refused))
			}).Should(Succeed())
			after, err := f.get(name)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(after.UID).To(Equal(before.UID))
			g.Expect(after.DeletionTimestamp).To(BeNil())
			g.Expect(after.Spec).To(Equal(before.Spec))
			g.Expect(f.ready(name)()).To(Succeed())

			// Nobody asks now: it is spec.retryInterval that finds the commit.
			revision := f.push(files("After " + fault.name))
			if fault.mend != nil {
				g.Expect(fault.mend()).To(Succeed())
			}
			g.Eventually(f.takenOver(revision)).Should(Succeed())
			g.Eventually(f.readyAt(revision, name)).Should(Succeed())
		})
	}
}

// A Flux source serves as well: first a GitRepository that source-controller reads, then an
// ExternalArtifact of which only the status says where it is.
func TestSourceRef(t *testing.T) {
	t.Parallel()
	g := gomega(t)
	one := func(displayName string) map[string]string {
		return map[string]string{"sourceref-one.yaml": tenantFile("sourceref-one", "displayName: "+displayName)}
	}
	source := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "sourceref"}}
	f := newFacilities(t, shared, "sourceref", one("Seed"), func(r *v1alpha1.TenantRepository) {
		source.Spec = sourcev1.GitRepositorySpec{
			URL:       r.Spec.Git.URL,
			Reference: r.Spec.Git.Reference,
			Interval:  metav1.Duration{Duration: time.Second},
		}
		r.Spec.Git = nil
		r.Spec.SourceRef = &v1alpha1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: "sourceref"}
		// A source's news does not wait for the interval.
		r.Spec.Interval = metav1.Duration{Duration: time.Hour}
	})
	g.Eventually(func(g Gomega) {
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.GetReason(r, meta.ReadyCondition)).To(Equal(meta.ArtifactFailedReason))
		g.Expect(conditions.GetMessage(r, meta.ReadyCondition)).To(Equal("GitRepository flux-system/sourceref of spec.sourceRef does not exist"))
	}).Should(Succeed())

	create(t, shared, source)
	g.Eventually(f.ready("sourceref-one")).Should(Succeed())
	revision := f.push(one("Second"))
	g.Eventually(f.readyAt(revision, "sourceref-one")).Should(Succeed())

	external := &sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: "sourceref-definitions"}}
	create(t, shared, external)
	patch := fmt.Sprintf(`{"spec":{"sourceRef":{"kind":%q,"name":%q}}}`, sourcev1.ExternalArtifactKind, external.Name)
	r := &v1alpha1.TenantRepository{ObjectMeta: objectMeta(stack.FluxNamespace, f.name)}
	g.Expect(shared.client.Patch(t.Context(), r, client.RawPatch(types.MergePatchType, []byte(patch)))).To(Succeed())
	g.Eventually(func(g Gomega) {
		r, err := f.repository()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(conditions.GetMessage(r, meta.ReadyCondition)).To(Equal("ExternalArtifact flux-system/sourceref-definitions of spec.sourceRef has no artifact yet"))
	}).Should(Succeed())

	revision = f.push(one("Third"))
	g.Eventually(func(g Gomega) {
		g.Expect(shared.client.Get(t.Context(), client.ObjectKeyFromObject(source), source)).To(Succeed())
		g.Expect(source.Status.Artifact.Revision).To(Equal(revision))
	}).Should(Succeed())
	obj, err := f.get("sourceref-one")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(obj.Spec.DisplayName).To(Equal("Second"))
	external.Status.Artifact = source.Status.Artifact
	g.Expect(shared.client.Status().Update(t.Context(), external)).To(Succeed())
	g.Eventually(f.readyAt(revision, "sourceref-one")).Should(Succeed())
}

// withGit is the shared environment with a git server of the test's own, which it may stop.
func withGit(t *testing.T, opts gitserver.Options) *environment {
	t.Helper()
	dir, err := os.MkdirTemp("", "korthweb-e2e-git-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	env := *shared
	if env.git, err = gitserver.New(filepath.Join(dir, "git"), opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.git.Close(); err != nil {
			t.Errorf("git server: %v", err)
		}
	})
	return &env
}

func newSecret(t *testing.T, env *environment, name string, data map[string]string) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.FluxNamespace, Name: name},
		StringData: data,
	}
	create(t, env, secret)
	return secret
}
