// SPDX-License-Identifier: Apache-2.0

package variants

// Missing returns the pairs of values that go together and are in no variant.
func Missing() []string {
	have := map[pair]bool{}
	for _, r := range append(product(), pairs()...) {
		for i := range axes {
			for j := i + 1; j < len(axes); j++ {
				have[pair{i, r[i], j, r[j]}] = true
			}
		}
	}
	var missing []string
	for i := range axes {
		for j := i + 1; j < len(axes); j++ {
			for a := range axes[i] {
				for b := range axes[j] {
					r := make(row, len(axes))
					r[i], r[j] = a, b
					if r.valid() && !have[pair{i, a, j, b}] {
						missing = append(missing, axes[i][a].name+"+"+axes[j][b].name)
					}
				}
			}
		}
	}
	return missing
}
