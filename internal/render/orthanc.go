// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
	AET        string
	Host       string
	Port       int32
	AllowEcho  bool
	AllowFind  bool
	AllowGet   bool
	AllowMove  bool
	AllowStore bool
}

// orthancJSON returns Orthanc's configuration of a tenant.
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
		c.DicomModalities[m.Name] = orthancModality{
			AET: string(m.AETitle), Host: m.Host, Port: m.Port,
			AllowEcho: true, AllowFind: true, AllowGet: true, AllowMove: true, AllowStore: true,
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c); err != nil {
		return "", fmt.Errorf("orthanc's configuration of tenant %s: %w", t.Name, err)
	}
	return strings.ReplaceAll(out.String(), "$", `\u0024`), nil
}

func checkVariables(field, value string) error {
	if strings.Contains(value, "${") {
		return &Error{Field: field, Err: errors.New("${ cannot be used here: Orthanc would put an environment variable in its place")}
	}
	return nil
}
