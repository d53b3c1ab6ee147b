// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// FacilityConfig judges the free configuration of Orthanc as a facility's own file sets it: a JSON value, before the
// class's is under it. Options in the list for facilities may be set, and set to null to leave out the class's. Where the
// platform opens spec.orthanc.config to facilities, this is not asked, and what [CheckSpec] says remains.
func FacilityConfig(value any, at *field.Path) field.ErrorList {
	config, err := decodeConfig(json.Marshal(value))
	if err != nil {
		return field.ErrorList{field.Invalid(at, field.OmitValueType{}, err.Error())}
	}
	return facilityOptions.judge(config, at.Key, true, func(option string) string {
		if classOptions.has(option) {
			return "is the platform's to set: move it to a TenantClass, or ask the platform to allow spec.orthanc.config"
		}
		return elsewhere(option)
	})
}

// decodeConfig returns the options of a configuration.
func decodeConfig(data []byte, err error) (config map[string]any, _ error) {
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil || config == nil {
		return nil, errors.New("must be an object of Orthanc's options")
	}
	return config, nil
}

func elsewhere(option string) string {
	if said := saidElsewhere[option]; said != "" {
		return said + ": remove it here"
	}
	return ""
}

// checkConfig refuses the options that Orthanc does not have and those that Korthweb owns, and values that would take
// data away or read the pod's environment.
func checkConfig(o *v1alpha1.OrthancSpec, at *field.Path) field.ErrorList {
	raw := o.Config.Raw
	if len(raw) > maxConfigBytes {
		return field.ErrorList{field.TooLong(at, "", maxConfigBytes)}
	}
	config, err := decodeConfig(raw, nil)
	if err != nil {
		return field.ErrorList{field.Invalid(at, field.OmitValueType{}, err.Error())}
	}
	errs := classOptions.judge(config, at.Key, false, elsewhere)
	for _, section := range slices.Sorted(maps.Keys(sectionPlugins)) {
		plugin := sectionPlugins[section]
		if _, set := config[section]; set && !slices.Contains(o.Plugins, plugin) {
			errs = append(errs, field.Forbidden(at.Key(section), fmt.Sprintf(
				"is the section of the plugin %s: list that in spec.orthanc.plugins, or remove this", plugin)))
		}
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
