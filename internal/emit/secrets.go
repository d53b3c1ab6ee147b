// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// SecretReaderRole is the ClusterRole that allows to read Secrets, and the RoleBinding to it in the namespace of a
// tenant whose definition names Secrets. Korthweb binds it to itself there and nowhere else.
const SecretReaderRole = "korthweb-secret-reader"

// SecretError says that a Secret which a tenant's definition names is missing or not as it must be.
type SecretError struct {
	// Field of the Tenant that names it.
	Field string

	// Secret as namespace/name.
	Secret string

	// Problem is what is wrong and what to do. It holds nothing of the Secret's content.
	Problem string
}

// Error names the field, the Secret and what to do.
func (e *SecretError) Error() string {
	return fmt.Sprintf("%s: Secret %s %s", e.Field, e.Secret, e.Problem)
}

// secretReader builds the binding by which Korthweb reads the Secrets that the definition names.
func secretReader(tenant *v1alpha1.Tenant, self rbacv1.Subject) *rbacv1.RoleBinding {
	b := RoleBinding(tenant, SecretReaderRole, SecretReaderRole, "", "")
	b.Subjects = []rbacv1.Subject{self}
	return b
}

// checkSecrets looks whether the Secrets that the definition names are there and have their keys.
func (a *apply) checkSecrets(ctx context.Context) error {
	binding := secretReader(a.tenant, a.self)
	refs := slices.DeleteFunc(a.tenant.Spec.SecretRefs(), func(r v1alpha1.SecretRef) bool { return len(r.Keys) == 0 })
	if len(refs) == 0 {
		return a.dropSecretReader(ctx, binding)
	}
	setDigest(binding)
	if _, err := a.ensure(ctx, binding); err != nil {
		return err
	}
	a.list(binding)
	for _, ref := range refs {
		if err := a.checkSecret(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// dropSecretReader removes the binding where the definition named Secrets before and does not any more. It is looked
// for in the cache.
func (a *apply) dropSecretReader(ctx context.Context, binding *rbacv1.RoleBinding) error {
	err := a.client.Get(ctx, client.ObjectKeyFromObject(binding), &rbacv1.RoleBinding{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		a.result.Writes++
		_, err = a.remove(ctx, a.tenant, binding)
	}
	if err != nil {
		return explain(err, binding)
	}
	return nil
}

// bindingDelay is how long the apiserver may take to know of a binding that was just made. It watches them. Of one that
// is there longer it knows.
const bindingDelay = 5 * time.Second

func (a *apply) checkSecret(ctx context.Context, ref v1alpha1.SecretRef) error {
	key := types.NamespacedName{Namespace: a.tenant.Spec.Namespace, Name: ref.Name}
	problem := func(format string, args ...any) error {
		return &SecretError{Field: ref.Field, Secret: key.String(), Problem: fmt.Sprintf(format, args...)}
	}
	secret := &corev1.Secret{}
	justBound := slices.Contains(a.result.Changed, name(secretReader(a.tenant, a.self)))
	var err error
	_ = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, bindingDelay, true, func(context.Context) (bool, error) {
		err = a.uncached.Get(ctx, key, secret)
		return !apierrors.IsForbidden(err) || !justBound, nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return problem("does not exist: create it with %s", keys(ref.Keys))
	case err != nil:
		return fmt.Errorf("%s: Secret %s: %w", ref.Field, key, err)
	}
	for _, k := range ref.Keys {
		if len(secret.Data[k]) == 0 {
			return problem("has no key %s, or it is empty: it needs %s", k, keys(ref.Keys))
		}
	}
	if slices.Contains(ref.Keys, v1alpha1.UsersKey) {
		if what := checkUsers(secret.Data[v1alpha1.UsersKey]); what != "" {
			return problem("%s: %s", v1alpha1.UsersKey, what)
		}
	}
	return nil
}

// checkUsers says what is wrong with a file of users, or "". It becomes a part of Orthanc's configuration, so it may
// hold nothing else. Orthanc's image puts environment variables into the text in the place of $NAME, and Orthanc into
// what it has read in the place of ${NAME}.
func checkUsers(data []byte) string {
	const expected = `must be {"RegisteredUsers": {"name": "password", …}} and nothing else`
	// By the exact key: Go's decoder of structs ignores the case of letters, Orthanc does not.
	var file map[string]map[string]string
	if err := json.Unmarshal(data, &file); err != nil || len(file) != 1 || file["RegisteredUsers"] == nil {
		return expected
	}
	users := file["RegisteredUsers"]
	if len(users) == 0 {
		return "names no user: Orthanc does not start without one"
	}
	for _, name := range slices.Sorted(maps.Keys(users)) {
		password := users[name]
		if name == "" || password == "" {
			return "has a user without a name or a password"
		}
		if strings.Contains(name+"\n"+password, "${") {
			return "has ${ in a name or password, in whose place Orthanc would put an environment variable: choose another"
		}
	}
	if bytes.ContainsRune(data, '$') {
		return `has a $, which Orthanc's image takes for an environment variable: write it as \u0024`
	}
	return ""
}

func keys(names []string) string {
	if len(names) == 1 {
		return "the key " + names[0]
	}
	return "the keys " + strings.Join(names, " and ")
}
