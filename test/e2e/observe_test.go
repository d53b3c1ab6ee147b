// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/digihunch/korthweb/hack/stack"
)

// auditPolicy has the apiserver note each answered request of Korthweb, and of nobody else.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
# A question in the form of an object that is created: who am I?
- level: None
  resources: [{group: authentication.k8s.io, resources: [selfsubjectreviews]}]
- level: Metadata
  users: ["system:serviceaccount:flux-system:korthweb"]
- level: None
`

// audit is an apiserver's own account of what Korthweb asked of it.
type audit struct {
	dir string
}

func newAudit(t *testing.T) *audit {
	t.Helper()
	a := &audit{dir: t.TempDir()}
	if err := os.WriteFile(a.policy(), []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *audit) policy() string { return filepath.Join(a.dir, "policy.yaml") }
func (a *audit) log() string    { return filepath.Join(a.dir, "audit.log") }

// args are for stack.Options.ExtraArgs.
func (a *audit) args() map[string][]string {
	return map[string][]string{stack.APIServer: {"--audit-policy-file=" + a.policy(), "--audit-log-path=" + a.log()}}
}

// mark is the present end of the log, for writes and requests to begin at.
func (a *audit) mark(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(a.log())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// requests lists what was asked since mark: verb, resource, object. Leases and events are left out.
func (a *audit) requests(t *testing.T, mark int64) []string {
	t.Helper()
	file, err := os.Open(a.log())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Seek(mark, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var requests []string
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return requests // a last line without its end is still being written
		}
		var event struct {
			Verb      string `json:"verb"`
			ObjectRef *struct {
				Resource, Subresource, Namespace, Name string
			} `json:"objectRef"`
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("audit log: %v: %s", err, line)
		}
		ref := event.ObjectRef
		if ref == nil || ref.Resource == "leases" || ref.Resource == "events" {
			continue
		}
		resource := ref.Resource
		if ref.Subresource != "" {
			resource += "/" + ref.Subresource
		}
		requests = append(requests, fmt.Sprintf("%s %s %s/%s", event.Verb, resource, ref.Namespace, ref.Name))
	}
}

// writes are the requests since mark that would change something.
func (a *audit) writes(t *testing.T, mark int64) []string {
	t.Helper()
	return slices.DeleteFunc(a.requests(t, mark), func(request string) bool {
		verb, _, _ := strings.Cut(request, " ")
		return !slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, verb)
	})
}

// waitQuiet returns when Korthweb has written nothing for three seconds.
func (a *audit) waitQuiet(t *testing.T) {
	t.Helper()
	const quiet = 3 * time.Second
	last, since := a.mark(t), time.Now()
	for deadline := time.Now().Add(slowTimeout); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if len(a.writes(t, last)) > 0 {
			last, since = a.mark(t), time.Now()
		}
		if time.Since(since) > quiet {
			return
		}
	}
	t.Fatal("Korthweb does not stop writing")
}

// apiVersions of what Korthweb writes.
var apiVersions = map[string]string{
	"Tenant":             "korthweb.digihunch.com/v1alpha1",
	"TenantRepository":   "korthweb.digihunch.com/v1alpha1",
	"ExternalArtifact":   "source.toolkit.fluxcd.io/v1",
	"ControllerRevision": "apps/v1",
	"Kustomization":      "kustomize.toolkit.fluxcd.io/v1",
	"Namespace":          "v1",
	"ServiceAccount":     "v1",
	"Secret":             "v1",
	"RoleBinding":        "rbac.authorization.k8s.io/v1",
}

// list returns the objects of a kind, of those that others have too only Korthweb's.
func (r *restarts) list(t *testing.T, g *WithT, apiVersion, kind string) []metav1.PartialObjectMetadata {
	t.Helper()
	list := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: kind + "List"}}
	var options []client.ListOption
	if !strings.HasPrefix(kind, "Tenant") {
		options = append(options, client.MatchingLabels{"app.kubernetes.io/managed-by": "korthweb"})
	}
	g.Expect(r.env.client.List(t.Context(), list, options...)).To(Succeed())
	// What a bundle holds carries the same labels, and a layer's.
	return slices.DeleteFunc(list.Items, func(o metav1.PartialObjectMetadata) bool {
		return kind != "Kustomization" && o.Labels["korthweb.digihunch.com/layer"] != ""
	})
}

// versions are the resourceVersions of all that Korthweb writes.
func (r *restarts) versions(t *testing.T, g *WithT) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for kind, apiVersion := range apiVersions {
		for _, o := range r.list(t, g, apiVersion, kind) {
			versions[kind+" "+o.Namespace+"/"+o.Name] = o.ResourceVersion
		}
	}
	g.Expect(len(versions)).To(BeNumerically(">", len(apiVersions)))
	return versions
}

// metricLines returns the lines of a metrics endpoint that begin with prefix.
func metricLines(address, prefix string) ([]string, error) {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Split(string(body), "\n"), func(line string) bool {
		return !strings.HasPrefix(line, prefix)
	}), nil
}

// reconciledObjects counts the objects of a kind that the process behind a metrics endpoint has
// reconciled since its start.
func reconciledObjects(address, kind string) (int, error) {
	lines, err := metricLines(address, "gotk_reconcile_duration_seconds_count{")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, line := range lines {
		if !strings.Contains(line, `kind="`+kind+`"`) {
			continue
		}
		count, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		if count > 0 {
			n++
		}
	}
	return n, nil
}

func fileDigest(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(data)), nil
}

// entries counts what is in a directory, which need not be there yet.
func entries(dir string) int {
	found, _ := os.ReadDir(dir)
	return len(found)
}

// wipe removes all that is in a directory.
func wipe(dir string) error {
	found, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range found {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
