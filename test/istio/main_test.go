// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"istio.io/istio/pkg/log"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// binaryVariable names a korthweb that is built already.
const binaryVariable = "KORTHWEB"

// tenants are what the tests look at, rendered once: name to objects.
var tenants = map[string][]*unstructured.Unstructured{}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	binary := os.Getenv(binaryVariable)
	if binary == "" {
		dir, err := os.MkdirTemp("", "korthweb-istio-")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "korthweb")
		build := exec.Command("go", "build", "-o", binary, ".")
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("building korthweb: %w\n%s", err, out)
		}
	}
	files, err := filepath.Glob("testdata/tenants/*.yaml")
	if err != nil {
		return 1, err
	}
	for _, file := range files {
		name := filepath.Base(file[:len(file)-len(".yaml")])
		var stderr bytes.Buffer
		render := exec.Command(binary, "render", "testdata/tenants", "--tenant", name)
		render.Stderr = &stderr
		out, err := render.Output()
		if err != nil {
			return 1, fmt.Errorf("rendering tenant %s: %w\n%s", name, err, &stderr)
		}
		if tenants[name], err = parse(out); err != nil {
			return 1, fmt.Errorf("what was rendered for tenant %s: %w", name, err)
		}
	}
	// The tests look at what istiod makes, not at what it logs on the way.
	options := log.DefaultOptions()
	options.SetDefaultOutputLevel(log.OverrideScopeName, log.NoneLevel)
	if err := log.Configure(options); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// parse reads the objects of a YAML stream.
func parse(stream []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		obj := &unstructured.Unstructured{}
		if err := decoder.Decode(obj); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(obj.Object) > 0 {
			objects = append(objects, obj)
		}
	}
}
