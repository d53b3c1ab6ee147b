// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"encoding/json"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func jsonPatch(patches []ssa.JSONPatch) (client.Patch, error) {
	data, err := json.Marshal(patches)
	if err != nil {
		return nil, err
	}
	return client.RawPatch(types.JSONPatchType, data), nil
}

func fromUnstructured(u *unstructured.Unstructured, o client.Object) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o)
}
