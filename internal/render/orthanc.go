// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// orthancConfig is the part of Orthanc's configuration that comes from the Tenant. Names are Orthanc's.
type orthancConfig struct {
	Name            string
	DicomAet        string
	DicomModalities map[string]orthancModality `json:",omitempty"`
}

// orthancModality is an entry of DicomModalities. What a modality may do is said in full, as Orthanc's defaults
// have changed between its versions.
type orthancModality struct {
	AET                    string
	Host                   string
	Port                   int32
	AllowEcho              bool
	AllowStore             bool
	AllowFind              bool
	AllowFindWorklist      bool
	AllowGet               bool
	AllowMove              bool
	AllowStorageCommitment bool
	AllowTranscoding       bool
}

// orthancJSON returns Orthanc's configuration of a tenant, spec.orthanc.config included.
//
// Both Orthanc and its image put environment variables, credentials among them, into the text of the configuration
// before they read it: Orthanc ${VAR}, the image $VAR too. So a value with ${ is refused, and any other $ is written
// as an escape, which neither takes for a variable.
func orthancJSON(t *v1alpha1.Tenant) (string, error) {
	o := &t.Spec.Orthanc
	c := orthancConfig{Name: t.Spec.DisplayName, DicomAet: string(o.AETitle)}
	if err := checkVariables("spec.displayName", c.Name); err != nil {
		return "", err
	}
	if err := checkVariables("spec.orthanc.aeTitle", c.DicomAet); err != nil {
		return "", err
	}
	if len(o.Modalities) > 0 {
		c.DicomModalities = make(map[string]orthancModality, len(o.Modalities))
	}
	for i, m := range o.Modalities {
		if err := checkVariables(fmt.Sprintf("spec.orthanc.modalities[%d].aeTitle", i), string(m.AETitle)); err != nil {
			return "", err
		}
		allow := func(p v1alpha1.Permission) bool { return slices.Contains(m.Permissions, p) }
		c.DicomModalities[m.Name] = orthancModality{
			AET: string(m.AETitle), Host: m.Host, Port: m.Port,
			AllowEcho:              allow(v1alpha1.EchoPermission),
			AllowStore:             allow(v1alpha1.StorePermission),
			AllowFind:              allow(v1alpha1.FindPermission),
			AllowFindWorklist:      allow(v1alpha1.FindWorklistPermission),
			AllowGet:               allow(v1alpha1.GetPermission),
			AllowMove:              allow(v1alpha1.MovePermission),
			AllowStorageCommitment: allow(v1alpha1.StorageCommitmentPermission),
			AllowTranscoding:       true,
		}
	}
	text, err := encode(c)
	if err == nil && o.Config != nil {
		text, err = addConfig(c, o.Config.Raw)
	}
	if err != nil {
		return "", fmt.Errorf("orthanc's configuration of tenant %s: %w", t.Name, err)
	}
	return strings.ReplaceAll(text, "$", `\u0024`), nil
}

// addConfig returns the configuration with the options of spec.orthanc.config beside Korthweb's own, which it cannot
// replace.
func addConfig(c orthancConfig, config []byte) (string, error) {
	if err := checkVariables("spec.orthanc.config", string(config)); err != nil {
		return "", err
	}
	merged := map[string]any{}
	for _, data := range []func() ([]byte, error){
		func() ([]byte, error) { return config, nil },
		func() ([]byte, error) { return json.Marshal(c) },
	} {
		text, err := data()
		if err != nil {
			return "", err
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&merged); err != nil {
			return "", &Error{Field: "spec.orthanc.config", Err: fmt.Errorf("must be a JSON object: %w", err)}
		}
	}
	return encode(merged)
}

func encode(value any) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(value)
	return out.String(), err
}

func checkVariables(field, value string) error {
	if strings.Contains(value, "${") {
		return &Error{Field: field, Err: errors.New("${ cannot be used here: Orthanc would put an environment variable in its place")}
	}
	return nil
}
