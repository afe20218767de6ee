// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

// memory is what the lists of a decision are in, those of all statements one behind the
// other.
type memory struct {
	policies   []PolicyTrace
	statements []StatementTrace
	conditions []ConditionTrace
	failed     []Element
	by         []StatementRef
}

// maxKept is how many entries of each list are kept for the next decision.
const maxKept = 64

// emptied returns no lists, in the memory of these.
func (m *memory) emptied() memory {
	return memory{emptied(m.policies), emptied(m.statements), emptied(m.conditions), emptied(m.failed), emptied(m.by)}
}

func emptied[S ~[]E, E any](list S) S {
	if cap(list) > maxKept {
		return nil
	}
	clear(list)
	return list[:0]
}

// atLeast returns the list with room for n more. It is not nil.
func atLeast[S ~[]E, E any](list S, n int) S {
	if list == nil {
		return make(S, 0, n)
	}
	return slices.Grow(list, n)
}
