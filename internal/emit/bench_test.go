// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"testing"

	"github.com/digihunch/korthweb/internal/emit"
)

func BenchmarkObjects(b *testing.B) {
	tenant := newTenant("bhs")
	b.ReportAllocs()
	for b.Loop() {
		if len(emit.Objects(tenant)) == 0 {
			b.Fatal("nothing is emitted")
		}
	}
}
