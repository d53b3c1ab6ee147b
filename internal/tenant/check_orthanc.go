// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// checkOrthanc judges the modalities and the free configuration.
func checkOrthanc(o *v1alpha1.OrthancSpec, at *field.Path) field.ErrorList {
	errs := checkModalities(o.Modalities, at.Child("modalities"))
	if o.Config != nil {
		errs = append(errs, checkConfig(o.Config.Raw, at.Child("config"))...)
	}
	return errs
}

// checkModalities refuses an AE title that two modalities have: Orthanc takes who calls by it for one of them, with that
// one's permissions. Spaces around a title do not count (DICOM PS3.5, section 6.2), nor does its case to Orthanc, unless
// its option StrictAetComparison is set.
func checkModalities(modalities []v1alpha1.Modality, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	holders := map[string]string{}
	for i, m := range modalities {
		title := strings.ToUpper(strings.TrimSpace(string(m.AETitle)))
		if holder, taken := holders[title]; taken {
			errs = append(errs, field.Invalid(at.Index(i).Child("aeTitle"), string(m.AETitle), fmt.Sprintf(
				"is the AE title of modality %s too: Orthanc knows who is calling by it, so give each modality its own", holder)))
		} else {
			holders[title] = m.Name
		}
		errs = append(errs, checkHost(m.Host, at.Index(i).Child("host"))...)
		// The schema says so too, but has not always: a Tenant may be older than it.
		for _, reason := range validation.IsDNS1123Label(m.Name) {
			errs = append(errs, field.Invalid(at.Index(i).Child("name"), m.Name, reason))
		}
	}
	return errs
}

// checkHost refuses addresses that are not those of another machine: a pod's own, and the link-local ones, where
// clouds serve credentials to whoever asks.
func checkHost(host string, at *field.Path) field.ErrorList {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if host := strings.ToLower(host); host == "localhost" || strings.HasSuffix(host, ".localhost") {
			return field.ErrorList{field.Invalid(at, host, "is the pod itself: name the other machine")}
		}
		return nil
	}
	if ip = ip.Unmap(); ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return field.ErrorList{field.Invalid(at, host, "is a loopback, link-local, multicast or unspecified address: name the other machine")}
	}
	return nil
}

// maxConfigBytes is the most that spec.orthanc.config may have: with it a ConfigMap stays far below the megabyte that
// Kubernetes allows.
const maxConfigBytes = 64 << 10

// ownedOptions are the options of Orthanc's configuration that Korthweb sets, in the bundle's files or for the tenant,
// and those that would undo what it sets, with where to say it instead. One that ends in "*" stands for all that begin
// with it. Orthanc tells options apart by their case; here it does not count, so that nobody believes to have set one.
var ownedOptions = map[string]string{
	"Name":                            "it is spec.displayName",
	"DicomAet":                        "it is spec.orthanc.aeTitle",
	"DicomModalities":                 "they are spec.orthanc.modalities",
	"DicomModalitiesInDatabase":       "modalities are declared in spec.orthanc.modalities, and nowhere else",
	"RegisteredUsers":                 "users are in the Secret that spec.orthanc.usersSecretRef names",
	"AuthenticationEnabled":           "nobody may come in without a password",
	"RemoteAccessAllowed":             ownedByKorthweb,
	"HttpServerEnabled":               ownedByKorthweb,
	"DicomServerEnabled":              ownedByKorthweb,
	"HttpPort":                        ownedByKorthweb,
	"DicomPort":                       ownedByKorthweb,
	"HttpBindAddresses":               ownedByKorthweb,
	"DicomAlwaysAllow*":               "who may do what is spec.orthanc.modalities[].permissions",
	"DicomCheckCalledAet":             "who calls another AE title is refused",
	"DicomCheckModalityHost":          "modalities come through the gateway, which hides their addresses",
	"DicomTls*":                       "the gateway speaks TLS, by spec.ingress.dicom",
	"Ssl*":                            "the gateway speaks TLS",
	"ExecuteLuaEnabled":               runsCode,
	"LuaScripts":                      runsCode,
	"LuaHeartBeatPeriod":              runsCode,
	"PythonScript":                    runsCode,
	"PythonVerbose":                   runsCode,
	"Python":                          runsCode,
	"RestApiWriteToFileSystemEnabled": writesFiles,
	"WebDavEnabled":                   writesFiles,
	"WebDavDeleteAllowed":             writesFiles,
	"WebDavUploadAllowed":             writesFiles,
	"ServeFolders":                    "it would serve files of the pod, credentials among them",
	"OrthancExplorerEnabled":          "the page for people is the plugin orthanc-explorer-2",
	"HttpsVerifyPeers":                ownedByKorthweb,
	"Plugins":                         "they are spec.orthanc.plugins",
	"StorageDirectory":                "it is spec.orthanc.storage",
	"IndexDirectory":                  "it is spec.orthanc.storage",
	"TemporaryDirectory":              ownedByKorthweb,
	"AwsS3Storage":                    "it is spec.orthanc.storage.s3",
	"AzureBlobStorage":                "images are in spec.orthanc.storage",
	"GoogleCloudStorage":              "images are in spec.orthanc.storage",
	"AdvancedStorage":                 "images are in spec.orthanc.storage",
	"PostgreSQL":                      "it is spec.postgres",
	"MySQL":                           "the database is spec.postgres",
	"ODBC":                            "the database is spec.postgres",
	"DatabaseServerIdentifier":        ownedByKorthweb,
	"SaveJobs":                        "replicas share a database and must not take each other's jobs",
	"LimitFindInstances":              ownedByKorthweb,
	"LimitFindResults":                ownedByKorthweb,
	"StorageAccessOnFind":             ownedByKorthweb,
	"StandardErrorLogLevel":           ownedByKorthweb,
}

const (
	ownedByKorthweb = "Korthweb sets it"
	runsCode        = "a configuration may not bring code into Orthanc"
	writesFiles     = "nobody may write files from outside"
)

// checkConfig refuses the options that Korthweb owns.
func checkConfig(raw []byte, at *field.Path) field.ErrorList {
	if len(raw) > maxConfigBytes {
		return field.ErrorList{field.TooLong(at, "", maxConfigBytes)}
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(raw, &config); err != nil {
		return field.ErrorList{field.Invalid(at, "config", "must be an object of Orthanc's options")}
	}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(config)) {
		if why := owned(name); why != "" {
			errs = append(errs, field.Forbidden(at.Key(name), why+": remove it here"))
		}
	}
	// Orthanc and its image put the values of environment variables, credentials among them, in the place of ${…}.
	if strings.Contains(string(raw), "${") {
		errs = append(errs, field.Forbidden(at, "${ cannot be used here: Orthanc would put an environment variable in its place"))
	}
	return errs
}

// owned says why an option of Orthanc is not for spec.orthanc.config, or "".
func owned(option string) string {
	for name, why := range ownedOptions {
		prefix, isPrefix := strings.CutSuffix(name, "*")
		if strings.EqualFold(option, name) || isPrefix && len(option) >= len(prefix) && strings.EqualFold(option[:len(prefix)], prefix) {
			return why
		}
	}
	return ""
}
