// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

const (
	// CredentialsName is the Secret in a tenant's namespace that holds Orthanc's users.
	CredentialsName = "orthanc-users"

	// CredentialsFile is the key of the Secret with the part of Orthanc's configuration that defines its
	// users: {"RegisteredUsers":{"admin":"…"}}. The keys username and password hold the same for people.
	CredentialsFile = "users.json"

	// CredentialsUser is the one user that is generated.
	CredentialsUser = "admin"

	// passwordBytes of randomness are 192 bits and encode to 32 characters without padding.
	passwordBytes = 24
)

// NewPassword reads 24 bytes from random, which should be crypto/rand.Reader, and returns them as 32
// characters of URL-safe base64: nothing in it needs quoting in JSON, a shell or a URL.
func NewPassword(random io.Reader) (string, error) {
	b := make([]byte, passwordBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("reading randomness for a password: %w", err)
	}
	return base64.URLEncoding.EncodeToString(b), nil
}

// Credentials builds the Secret of the tenant's generated credentials. It is immutable: new credentials
// come from deleting it. It carries no digest of its content, which would help to guess a password.
func Credentials(tenant *v1alpha1.Tenant, password string) *corev1.Secret {
	users, err := json.Marshal(map[string]map[string]string{"RegisteredUsers": {CredentialsUser: password}})
	if err != nil {
		panic(err) // strings always marshal
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Secret"},
		ObjectMeta: objectMeta(tenant, tenant.Spec.Namespace, CredentialsName),
		Immutable:  ptr.To(true),
		Type:       corev1.SecretTypeOpaque,
		Data: map[string][]byte{
			CredentialsFile: users,
			"username":      []byte(CredentialsUser),
			"password":      []byte(password),
		},
	}
}
