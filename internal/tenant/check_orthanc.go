// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
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
		errs = append(errs, checkConfig(o, at.Child("config"))...)
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
	"ServeFolders":                    servesFiles,
	"OrthancPeers":                    "their passwords would be in git",
	"OrthancPeersInDatabase":          "peers are nowhere to be declared",
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
}

const (
	ownedByKorthweb = "Korthweb sets it"
	runsCode        = "a configuration may not bring code into Orthanc"
	servesFiles     = "it would serve files of the pod, credentials among them"
	writesFiles     = "nobody may write files from outside"
)

// ownedNested are options within a plugin's section.
var ownedNested = map[string]string{
	"DicomWeb.Servers":           "their passwords would be in git",
	"DicomWeb.ServersInDatabase": "servers are nowhere to be declared",
	"DicomWeb.Enable":            "it is spec.orthanc.plugins",
	"OrthancExplorer2.Enable":    "it is spec.orthanc.plugins",
	"OrthancExplorer2.Keycloak":  "users are in the Secret that spec.orthanc.usersSecretRef names",
}

// pluginSections are the sections that the plugins of Orthanc's image read. The image switches a plugin on by its
// section, so one is only for a plugin that spec.orthanc.plugins lists, and for none where that cannot list it.
var pluginSections = map[string]v1alpha1.Plugin{
	"DicomWeb": v1alpha1.DICOMwebPlugin, "OrthancExplorer2": v1alpha1.OrthancExplorer2Plugin, "OHIF": "ohif",
	"StoneWebViewer": "stone-web-viewer", "VolView": "volview", "Gdcm": v1alpha1.GDCMPlugin, "Transfers": "transfers",
	"Neuro": "neuro", "STL": "stl", "WholeSlideImaging": "wsi",
	"Authorization": "", "MultitenantDicom": "", "Education": "", "Housekeeper": "", "DelayedDeletion": "", "Worklists": "",
	"ConnectivityChecks": "", "Indexer": "", "TCIA": "", "WebViewer": "", "Java": "",
}

// closedDirectories are where the pod has credentials: its environment, its Secrets, and the configuration that is
// put together of them. Several plugins serve a file whose path an option gives, such as a style sheet.
var closedDirectories = []string{"/proc", "/run", "/var/run", "/etc", "/tmp", "/dev", "/sys", "/root"}

// checkConfig refuses the options that Korthweb owns, and those that would give away the pod's credentials.
func checkConfig(o *v1alpha1.OrthancSpec, at *field.Path) field.ErrorList {
	raw := o.Config.Raw
	if len(raw) > maxConfigBytes {
		return field.ErrorList{field.TooLong(at, "", maxConfigBytes)}
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		return field.ErrorList{field.Invalid(at, "config", "must be an object of Orthanc's options")}
	}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(config)) {
		if why := owned(name); why != "" {
			errs = append(errs, field.Forbidden(at.Key(name), why+": remove it here"))
			continue
		}
		errs = append(errs, checkSection(o.Plugins, name, config[name], at.Key(name))...)
		errs = append(errs, checkPaths(config[name], at.Key(name))...)
	}
	for _, name := range []string{"MaximumStorageSize", "MaximumPatientCount"} {
		if bound, set := config[name]; set && bound != float64(0) && config["MaximumStorageMode"] != "Reject" {
			errs = append(errs, field.Forbidden(at.Key(name), "Orthanc would delete the patients that were not looked at for longest: "+
				`set MaximumStorageMode to "Reject", which refuses new images instead, or remove this`))
		}
	}
	// Orthanc and its image put the values of environment variables, credentials among them, in the place of ${…}.
	if strings.Contains(string(raw), "${") {
		errs = append(errs, field.Forbidden(at, "${ cannot be used here: Orthanc would put an environment variable in its place"))
	}
	return errs
}

// checkSection judges the section of a plugin.
func checkSection(plugins []v1alpha1.Plugin, name string, value any, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for section, plugin := range pluginSections {
		switch {
		case !strings.EqualFold(name, section) || slices.Contains(plugins, plugin):
		case plugin == "":
			errs = append(errs, field.Forbidden(at, "is the section of a plugin that spec.orthanc.plugins does not know: remove it"))
		default:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("is the section of the plugin %s: list that in spec.orthanc.plugins, or remove this", plugin)))
		}
	}
	options, _ := value.(map[string]any)
	for _, option := range slices.Sorted(maps.Keys(options)) {
		for nested, why := range ownedNested {
			if strings.EqualFold(name+"."+option, nested) {
				errs = append(errs, field.Forbidden(at.Child(option), why+": remove it here"))
			}
		}
	}
	return errs
}

// checkPaths refuses a text that is the path of a file in closedDirectories, wherever a relative one begins.
func checkPaths(value any, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			errs = append(errs, checkPaths(v[name], at.Child(name))...)
		}
	case []any:
		for i := range v {
			errs = append(errs, checkPaths(v[i], at.Index(i))...)
		}
	case string:
		file := path.Clean("/" + strings.TrimPrefix(v, "file://"))
		if !strings.Contains(v, "/") || strings.HasPrefix(file, "/etc/ssl/certs/") {
			return nil // a word, such as dev, or certificates of public CAs
		}
		for _, directory := range closedDirectories {
			if file == directory || strings.HasPrefix(file, directory+"/") {
				errs = append(errs, field.Forbidden(at, "names a file in "+directory+" of the pod, where its credentials are: "+
					"an option that has Orthanc serve it would give them away"))
			}
		}
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
