// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// The keys of the Secrets that a Tenant refers to.
const (
	// UsersKey holds Orthanc's option RegisteredUsers as JSON.
	UsersKey = "users.json"

	// AccessKeyKey and SecretKeyKey are the keys of a Flux Bucket's Secret too.
	AccessKeyKey = "accesskey"
	SecretKeyKey = "secretkey"

	// UsernameKey and PasswordKey are those of the type kubernetes.io/basic-auth.
	UsernameKey = "username"
	PasswordKey = "password"

	// CAKey is cert-manager's and Flux's.
	CAKey = "ca.crt"
)

// SecretRef is a reference to a Secret in the tenant's namespace.
//
// +kubebuilder:object:generate=false
type SecretRef struct {
	// Field of the Tenant that refers to it: spec.orthanc.usersSecretRef.
	Field string
	// Name of the Secret.
	Name string
	// Keys that it must have; none where that is Flux's to judge.
	Keys []string
}

// SecretRefs lists the Secrets that the spec refers to and that somebody else must make, in the order of the fields.
// Defaults must be set. The Secret of generated users is not among them.
func (s *TenantSpec) SecretRefs() []SecretRef {
	var refs []SecretRef
	if u := s.Orthanc.UsersSecretRef; u != nil && u.Name != DefaultUsersSecret {
		refs = append(refs, SecretRef{"spec.orthanc.usersSecretRef", u.Name, []string{UsersKey}})
	}
	if s3 := s.Orthanc.Storage.S3; s3 != nil && s3.SecretRef != nil {
		refs = append(refs, SecretRef{"spec.orthanc.storage.s3.secretRef", s3.SecretRef.Name, []string{AccessKeyKey, SecretKeyKey}})
	}
	if b := s.Postgres.Backup; b != nil && b.SecretRef != nil {
		refs = append(refs, SecretRef{"spec.postgres.backup.secretRef", b.SecretRef.Name, []string{AccessKeyKey, SecretKeyKey}})
	}
	if e := s.Postgres.External; e != nil {
		refs = append(refs, SecretRef{"spec.postgres.external.secretRef", e.SecretRef.Name, []string{UsernameKey, PasswordKey}})
		if ca := e.CASecretRef; ca != nil {
			refs = append(refs, SecretRef{"spec.postgres.external.caSecretRef", ca.Name, []string{CAKey}})
		}
	}
	if c := s.Postgres.Chart.SecretRef; c != nil {
		refs = append(refs, SecretRef{Field: "spec.postgres.chart.secretRef", Name: c.Name})
	}
	if c := s.Ingress.Chart.SecretRef; c != nil {
		refs = append(refs, SecretRef{Field: "spec.ingress.chart.secretRef", Name: c.Name})
	}
	return refs
}
