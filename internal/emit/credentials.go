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
	// CredentialsFile is the key of the Secret of users with the part of Orthanc's configuration that defines
	// them: {"RegisteredUsers":{"admin":"…"}}. The keys username and password hold the same for people.
	CredentialsFile = v1alpha1.UsersKey

	// CredentialsUser is the one user that is generated.
	CredentialsUser = "admin"

	// PostgresCredentialsName is the Secret in a tenant's namespace that holds the passwords of a database of
	// Bitnami's chart, by the chart's names. CloudNativePG makes its own.
	PostgresCredentialsName = "postgres-credentials"

	// passwordBytes of randomness are 192 bits and encode to 32 characters without padding.
	passwordBytes = 24
)

// postgresPasswords are the keys of PostgresCredentialsName beside username: those of the database's owner, of the
// superuser, of replication, and of Pgpool's administrator and health check.
var postgresPasswords = []string{v1alpha1.PasswordKey, "postgres-password", "repmgr-password", "admin-password", "sr-check-password"}

// generated lists the Secrets that Korthweb fills for a tenant: Orthanc's users unless the definition names others,
// and a database's passwords where nobody else makes them.
func generated(tenant *v1alpha1.Tenant) []string {
	var names []string
	if u := tenant.Spec.Orthanc.UsersSecretRef; u == nil || u.Name == v1alpha1.DefaultUsersSecret {
		names = append(names, v1alpha1.DefaultUsersSecret)
	}
	if tenant.Spec.Postgres.Provider == v1alpha1.BitnamiPostgres {
		names = append(names, PostgresCredentialsName)
	}
	return names
}

// NewPassword reads 24 bytes from random, which should be crypto/rand.Reader, and returns them as 32
// characters of URL-safe base64: nothing in it needs quoting in JSON, a shell or a URL.
func NewPassword(random io.Reader) (string, error) {
	b := make([]byte, passwordBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("reading randomness for a password: %w", err)
	}
	return base64.URLEncoding.EncodeToString(b), nil
}

// Credentials builds the Secret of Orthanc's generated user. It is immutable: new credentials come from deleting it.
// It carries no digest of its content, which would help to guess a password.
func Credentials(tenant *v1alpha1.Tenant, password string) *corev1.Secret {
	users, err := json.Marshal(map[string]map[string]string{"RegisteredUsers": {CredentialsUser: password}})
	if err != nil {
		panic(err) // strings always marshal
	}
	return credentials(tenant, v1alpha1.DefaultUsersSecret, map[string][]byte{
		CredentialsFile:      users,
		v1alpha1.UsernameKey: []byte(CredentialsUser),
		v1alpha1.PasswordKey: []byte(password),
	})
}

// PostgresCredentials builds the Secret of a database's generated passwords, one for each of postgresPasswords. It is
// immutable, as the database keeps those that it was made with.
func PostgresCredentials(tenant *v1alpha1.Tenant, passwords []string) *corev1.Secret {
	data := map[string][]byte{v1alpha1.UsernameKey: []byte(v1alpha1.DefaultDatabase)}
	for i, password := range passwords {
		data[postgresPasswords[i]] = []byte(password)
	}
	return credentials(tenant, PostgresCredentialsName, data)
}

func credentials(tenant *v1alpha1.Tenant, name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Secret"},
		ObjectMeta: objectMeta(tenant, tenant.Spec.Namespace, name),
		Immutable:  ptr.To(true),
		Type:       corev1.SecretTypeOpaque,
		Data:       data,
	}
}
