// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// orthancMistakes are of Orthanc itself and of its pods.
var orthancMistakes = []mistake{
	{
		name: "admin:orthanc in a ConfigMap and in the probes",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.objects() {
				l.unless(!contains(o, "admin:orthanc") && !contains(o, "registeredusers"), "%s holds users", title(o))
			}
			c := b.orthanc()
			for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
				l.unless(p == nil || p.HTTPGet == nil || len(p.HTTPGet.HTTPHeaders) == 0, "a probe carries credentials")
			}
			secret := ""
			for _, v := range b.deployment().Spec.Template.Spec.Volumes {
				if v.Name == "users" && v.Secret != nil {
					secret = v.Secret.SecretName
				}
			}
			l.unless(secret == b.tenant.Spec.Orthanc.UsersSecretRef.Name, "users come from Secret %q", secret)
			return l
		},
		again: []func(*bundle) bool{
			in("ConfigMap", "orthanc-config", `{"RegisteredUsers": {"admin": "orthanc"}}`, "data", "users.json"),
			ctr(map[string]any{"httpGet": map[string]any{"path": "/system", "port": "http", "httpHeaders": []any{
				map[string]any{"name": "Authorization", "value": "Basic YWRtaW46b3J0aGFuYw=="},
			}}}, "readinessProbe"),
			pod([]any{}, "volumes"),
		},
	},
	{
		name:  "a password as text",
		check: literalPasswords,
		again: []func(*bundle) bool{
			ctr(map[string]any{"name": "PGPASSWORD", "value": "orthanc"}, "env", 0),
			in("HelmRelease", "postgres", "x", "spec", "values", "postgresql", "password"),
			inConfig("postgresql://orthanc:orthanc@postgres/orthanc", "PostgreSQL", "ConnectionUri"),
		},
	},
	{
		name: "probes on a static page",
		check: func(b *bundle) []string {
			var l list
			c := b.orthanc()
			for name, p := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe} {
				ok := p != nil && p.Exec != nil && slices.Equal(p.Exec.Command, []string{"/probes/test-aliveness.py"})
				l.unless(ok, "%s does not ask Orthanc whether its database answers", name)
			}
			l.unless(c.LivenessProbe != nil && c.LivenessProbe.TCPSocket != nil, "liveness depends on more than the process")
			return l
		},
		again: []func(*bundle) bool{
			ctr(map[string]any{"httpGet": map[string]any{"path": "/app/explorer.html", "port": "http"}}, "readinessProbe"),
			ctr(map[string]any{"exec": map[string]any{"command": []any{"/probes/test-aliveness.py"}}}, "livenessProbe"),
			ctr(nil, "startupProbe"),
		},
	},
	{
		// Identities of workloads are tokens that a webhook mounts below /var/run/secrets, which is /run/secrets in most
		// images. No directory for them can be made in a read-only volume: the pod does not start then
		// (https://github.com/kubernetes/kubernetes/issues/65835).
		name: "mounts over /run/secrets",
		check: func(b *bundle) []string {
			var l list
			for _, o := range b.objects() {
				for _, kind := range []string{"initContainers", "containers"} {
					containers, _ := get(o.Object, "spec", "template", "spec", kind).([]any)
					for _, c := range containers {
						mounts, _ := get(c, "volumeMounts").([]any)
						for _, m := range mounts {
							at, _ := get(m, "mountPath").(string)
							for _, secrets := range []string{"/run/secrets/", "/var/run/secrets/"} {
								l.unless(!strings.HasPrefix(secrets, strings.TrimSuffix(path.Clean(at), "/")+"/"), "%s mounts %v over %s", title(o), get(m, "name"), secrets)
							}
						}
					}
				}
			}
			return l
		},
		again: []func(*bundle) bool{
			ctr("/run/secrets", "volumeMounts", 1, "mountPath"), ctr("/var/run/secrets/", "volumeMounts", 1, "mountPath"),
			ctr("/run", "volumeMounts", 1, "mountPath"), ctr("/var/run", "volumeMounts", 1, "mountPath"),
			pod([]any{map[string]any{"name": "init", "volumeMounts": []any{map[string]any{"name": "users", "mountPath": "/run/secrets"}}}}, "initContainers"),
		},
	},
	{
		name: "128Mi memory limit",
		check: func(b *bundle) []string {
			var l list
			r := b.orthanc().Resources
			l.unless(r.Limits.Memory().Cmp(resource.MustParse("2Gi")) >= 0, "the limit is %s", r.Limits.Memory())
			l.unless(r.Requests.Memory().Cmp(resource.MustParse("512Mi")) >= 0, "the request is %s", r.Requests.Memory())
			return l
		},
		again: []func(*bundle) bool{ctr("128Mi", "resources", "limits", "memory"), ctr(nil, "resources")},
	},
	{
		name: "autoscaler and fixed replicas fighting at each apply",
		check: func(b *bundle) []string {
			var l list
			d := b.deployment()
			scaled := len(b.all("HorizontalPodAutoscaler")) > 0
			l.unless(scaled == (b.tenant.Spec.Orthanc.Autoscaling != nil), "an autoscaler: %t", scaled)
			l.unless(scaled == (d.Spec.Replicas == nil), "replicas %v and an autoscaler: %t", d.Spec.Replicas, scaled)
			return l
		},
		again: []func(*bundle) bool{
			func(b *bundle) bool {
				return len(b.all("HorizontalPodAutoscaler")) > 0 && in("Deployment", "orthanc", int64(2), "spec", "replicas")(b)
			},
			without("HorizontalPodAutoscaler", "orthanc"),
		},
	},
	{
		name: "an image digest without sha256:",
		check: func(b *bundle) []string {
			var l list
			for _, c := range b.deployment().Spec.Template.Spec.Containers {
				l.unless(imageReference.MatchString(c.Image), "image %s", c.Image)
			}
			return l
		},
		again: []func(*bundle) bool{
			ctr("orthancteam/orthanc@0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "image"),
			ctr("orthancteam/orthanc", "image"),
			ctr("orthancteam/orthanc:latest", "image"),
		},
	},
	{
		name: "root with DAC_OVERRIDE, no read-only root",
		check: func(b *bundle) []string {
			var l list
			template := b.deployment().Spec.Template
			for _, c := range template.Spec.Containers {
				readOnly := c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem
				l.unless(readOnly, "the root filesystem of %s can be written", c.Name)
			}
			l.unless(restricted(&template) == "", "%s", restricted(&template))
			for _, o := range b.all("HelmRelease") {
				if o.GetName() != "postgres" { // whose chart is restricted by itself
					nonRoot := get(o.Object, "spec", "values", "securityContext", "runAsNonRoot")
					if nonRoot == nil {
						nonRoot = get(o.Object, "spec", "values", "podSecurityContext", "runAsNonRoot")
					}
					l.unless(nonRoot == true, "%s may be root", title(o))
				}
			}
			return l
		},
		again: []func(*bundle) bool{
			ctr([]any{"DAC_OVERRIDE"}, "securityContext", "capabilities", "add"),
			ctr(nil, "securityContext", "readOnlyRootFilesystem"),
			pod(int64(0), "securityContext", "runAsUser"),
			in("HelmRelease", "istio-ingress", nil, "spec", "values", "securityContext"),
			in("HelmRelease", "traefik", nil, "spec", "values", "podSecurityContext"),
		},
	},
	{
		name: "no PodDisruptionBudget",
		check: func(b *bundle) []string {
			var l list
			got := get(b.find("PodDisruptionBudget", "orthanc").Object, "spec", "selector", "matchLabels")
			l.unless(reflect.DeepEqual(got, get(b.find("Deployment", "orthanc").Object, "spec", "selector", "matchLabels")), "it is for %v", got)
			return l
		},
		again: []func(*bundle) bool{without("PodDisruptionBudget", "")},
	},
	{
		name: "no quota",
		check: func(b *bundle) []string {
			var l list
			l.unless(get(b.find("ResourceQuota", "tenant").Object, "spec", "hard", "pods") != nil, "no ResourceQuota bounds the pods")
			l.unless(get(b.find("LimitRange", "tenant").Object, "spec", "limits", 0, "defaultRequest") != nil, "no LimitRange gives containers requests")
			return l
		},
		again: []func(*bundle) bool{without("ResourceQuota", ""), without("LimitRange", "")},
	},
	{
		name: "no Pod Security labels",
		check: func(b *bundle) []string {
			var l list
			got := b.namespace["pod-security.kubernetes.io/enforce"]
			l.unless(got == "restricted", "the namespace enforces %q", got)
			return l
		},
		again: []func(*bundle) bool{func(b *bundle) bool {
			delete(b.namespace, "pod-security.kubernetes.io/enforce")
			return true
		}},
	},
	{
		name: "no topology spread",
		check: func(b *bundle) []string {
			var l list
			d := b.deployment()
			l.unless(len(d.Spec.Template.Spec.TopologySpreadConstraints) > 0, "no topologySpreadConstraints")
			for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
				l.unless(reflect.DeepEqual(c.LabelSelector, d.Spec.Selector), "one spreads other pods")
			}
			return l
		},
		again: []func(*bundle) bool{
			pod(nil, "topologySpreadConstraints"),
			pod(map[string]any{"matchLabels": map[string]any{"app": "orthanc"}}, "topologySpreadConstraints", 0, "labelSelector"),
		},
	},
	{
		name: "no own ServiceAccount",
		check: func(b *bundle) []string {
			var l list
			spec := b.deployment().Spec.Template.Spec
			account := b.find("ServiceAccount", spec.ServiceAccountName)
			l.unless(spec.ServiceAccountName != "" && account.GetName() != "", "pods run as %q", spec.ServiceAccountName)
			l.unless(get(account.Object, "automountServiceAccountToken") == false, "the account mounts a token")
			l.unless(spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken, "pods mount a token")
			return l
		},
		again: []func(*bundle) bool{
			pod(nil, "serviceAccountName"), without("ServiceAccount", "orthanc"),
			in("ServiceAccount", "orthanc", nil, "automountServiceAccountToken"), pod(true, "automountServiceAccountToken"),
		},
	},
	{
		name: "no AE title",
		check: func(b *bundle) []string {
			var l list
			l.unless(b.config()["DicomAet"] == string(b.tenant.Spec.Orthanc.AETitle), "the AE title is %v", b.config()["DicomAet"])
			return l
		},
		again: []func(*bundle) bool{inConfig("", "DicomAet")},
	},
	{
		name:  "no modalities",
		check: modalities,
		again: []func(*bundle) bool{
			inConfig(map[string]any{}, "DicomModalities"),
			inConfig(true, "DicomModalities", "us-1", "AllowStore"),
			inConfig(true, "DicomModalitiesInDatabase"),
		},
	},
	{
		name: "called AE unchecked",
		check: func(b *bundle) []string {
			var l list
			config := b.config()
			l.unless(config["DicomCheckCalledAet"] == true, "DicomCheckCalledAet is %v", config["DicomCheckCalledAet"])
			for _, service := range []string{"Echo", "Find", "FindWorklist", "Get", "Move", "Store"} {
				l.unless(config["DicomAlwaysAllow"+service] == false, "DicomAlwaysAllow%s is %v", service, config["DicomAlwaysAllow"+service])
			}
			return l
		},
		again: []func(*bundle) bool{inConfig(false, "DicomCheckCalledAet"), inConfig(true, "DicomAlwaysAllowStore")},
	},
	{
		name: "same name for every tenant",
		check: func(b *bundle) []string {
			var l list
			l.unless(b.config()["Name"] == b.tenant.Spec.DisplayName, "the name is %v", b.config()["Name"])
			return l
		},
		again: []func(*bundle) bool{inConfig("Orthanc", "Name")},
	},
	{
		name: "container port 4242 missing",
		check: func(b *bundle) []string {
			var l list
			ports := map[string]int32{}
			for _, p := range b.orthanc().Ports {
				ports[p.Name] = p.ContainerPort
			}
			l.unless(ports["tcp-dicom"] == 4242 && ports["http"] == 8042, "the container has ports %v", ports)
			l.unless(b.config()["DicomPort"] == float64(4242), "Orthanc listens on %v", b.config()["DicomPort"])
			service := convert[corev1.Service](b.find("Service", "orthweb"))
			for _, p := range service.Spec.Ports {
				l.unless(ports[p.TargetPort.StrVal] == p.Port, "port %s of the Service goes to %s", p.Name, p.TargetPort.String())
			}
			l.unless(len(service.Spec.Ports) == 2, "the Service has %d ports", len(service.Spec.Ports))
			return l
		},
		again: []func(*bundle) bool{ctr([]any{map[string]any{"name": "http", "containerPort": int64(8042)}}, "ports"), inConfig(int64(104), "DicomPort")},
	},
}

var podSecurity = sync.OnceValues(func() (policy.Evaluator, error) { return policy.NewEvaluator(policy.DefaultChecks(), nil) })

// restricted returns why pods do not meet Pod Security's level restricted, or "".
func restricted(template *corev1.PodTemplateSpec) string {
	evaluator, err := podSecurity()
	if err != nil {
		return err.Error()
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec))
	if result.Allowed {
		return ""
	}
	return result.ForbiddenDetail()
}

// imageReference is a tag other than latest, or a digest.
var imageReference = regexp.MustCompile(`^[^@]+(:([^:@/l]|l[^:@/a])[^:@/]*|@sha256:[0-9a-f]{64})$`)

// credential are names of fields and variables that hold one.
var credential = regexp.MustCompile(`(?i)(password|passwd|secretkey|accesskey|secretaccesskey|token|registeredusers)$`)

// literalPasswords finds text where a reference to a Secret belongs.
func literalPasswords(b *bundle) []string {
	var l list
	l.unless(len(b.all("Secret")) == 0, "a Secret is in the bundle")
	for _, o := range b.objects() {
		l = append(l, remember("passwords", o, func() list {
			var l list
			texts(o.Object, title(o), func(path, text string) {
				l.unless(!credential.MatchString(path) || text == "", "%s is text", path)
				l.unless(!urlPassword.MatchString(text), "%s holds a URL with a password", path)
			})
			return l
		})...)
	}
	for _, c := range b.deployment().Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			l.unless(!credential.MatchString(strings.ReplaceAll(e.Name, "_", "")) || e.Value == "", "variable %s is text", e.Name)
		}
	}
	for key := range b.config() {
		l.unless(!credential.MatchString(key), "option %s", key)
	}
	return l
}

var digests = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

var urlPassword = regexp.MustCompile(`://[^/\s:@]+:[^/\s@]+@`)

// modalities compares Orthanc's modalities with the tenant's. What each may ask for has to be said in full: what Orthanc
// allows by default changed between its versions.
func modalities(b *bundle) []string {
	var l list
	config := b.config()
	l.unless(config["DicomModalitiesInDatabase"] == false, "modalities are in the database")
	got, _ := config["DicomModalities"].(map[string]any)
	l.unless(len(got) == len(b.tenant.Spec.Orthanc.Modalities), "there are %d modalities", len(got))
	for _, m := range b.tenant.Spec.Orthanc.Modalities {
		l.unless(get(got, m.Name, "AET") == string(m.AETitle), "AET of %s is %v", m.Name, get(got, m.Name, "AET"))
		l.unless(get(got, m.Name, "Host") == m.Host, "host of %s is %v", m.Name, get(got, m.Name, "Host"))
		l.unless(get(got, m.Name, "Port") == float64(m.Port), "port of %s is %v", m.Name, get(got, m.Name, "Port"))
		for _, p := range []v1alpha1.Permission{
			v1alpha1.EchoPermission, v1alpha1.StorePermission, v1alpha1.FindPermission, v1alpha1.FindWorklistPermission,
			v1alpha1.GetPermission, v1alpha1.MovePermission, v1alpha1.StorageCommitmentPermission,
		} {
			allowed := get(got, m.Name, "Allow"+string(p))
			l.unless(allowed == slices.Contains(m.Permissions, p), "Allow%s of %s is %v", p, m.Name, allowed)
		}
	}
	return l
}
