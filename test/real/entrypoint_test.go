// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// entryPoint plays that of the image orthancteam/orthanc, which is not here: it returns the configuration that the
// container's files and environment come to (github.com/orthanc-server/orthanc-builder, docker/orthanc,
// generateConfiguration.py and configurator.py). The image's own defaults are left out.
//
// It puts the environment into the text of the files of two directories and merges them, in no particular order, so
// none may set what another sets. Then come variables that are named after options.
func (p *pod) entryPoint(t *testing.T) map[string]any {
	g := NewWithT(t)
	g.Expect(p.container.Command).To(BeEmpty(), "not the image's entry point")
	g.Expect(p.container.Args).To(BeEmpty(), "not the image's entry point")
	merged := map[string]any{}
	for _, dir := range []string{"/etc/orthanc", "/run/secrets"} {
		files, err := filepath.Glob(filepath.Join(p.path(dir), "*.json"))
		g.Expect(err).NotTo(HaveOccurred())
		for _, file := range files {
			data, err := os.ReadFile(file)
			g.Expect(err).NotTo(HaveOccurred())
			text := os.Expand(string(data), func(name string) string {
				value, ok := p.env[name]
				g.Expect(ok).To(BeTrue(), "%s uses the variable %q, which the container does not have", file, name)
				return value
			})
			config := map[string]any{}
			g.Expect(json.Unmarshal([]byte(text), &config)).To(Succeed(), file)
			g.Expect(merge(merged, config)).To(Succeed(), file)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		if path := optionPath(name); path != nil {
			set(merged, path, p.env[name])
		}
	}
	return merged
}

func merge(into, from map[string]any) error {
	for key, value := range from {
		old, there := into[key]
		oldMap, isMap := old.(map[string]any)
		newMap, both := value.(map[string]any)
		switch {
		case !there:
			into[key] = value
		case isMap && both:
			if err := merge(oldMap, newMap); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		default:
			return fmt.Errorf("%s is set in two files", key)
		}
	}
	return nil
}

// optionPath is where the image puts a variable's value: ORTHANC__DICOM_WEB__SSL at Ssl in DicomWeb. It is nil for
// variables that do not name an option.
func optionPath(variable string) []string {
	rest, ok := strings.CutPrefix(variable, "ORTHANC__")
	if !ok {
		return nil
	}
	path := strings.Split(rest, "__")
	for i, option := range path {
		if i == 0 && (option == "POSTGRESQL" || option == "OHIF") {
			path[i] = map[string]string{"POSTGRESQL": "PostgreSQL", "OHIF": "OHIF"}[option]
			continue
		}
		path[i] = ""
		for word := range strings.SplitSeq(option, "_") {
			path[i] += word[:1] + strings.ToLower(word[1:])
		}
	}
	return path
}

// set sets an option to what a text is as JSON, or else to the text.
func set(config map[string]any, path []string, text string) {
	for _, section := range path[:len(path)-1] {
		inner, ok := config[section].(map[string]any)
		if !ok {
			inner = map[string]any{}
			config[section] = inner
		}
		config = inner
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		value = text
	}
	config[path[len(path)-1]] = value
}
