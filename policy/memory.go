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

// empty forgets the lists, and keeps their memory.
func (m *memory) empty() {
	empty(&m.policies)
	empty(&m.statements)
	empty(&m.conditions)
	empty(&m.failed)
	empty(&m.by)
}

func empty[E any](list *[]E) {
	if cap(*list) > maxKept {
		*list = nil
		return
	}
	clear(*list)
	*list = (*list)[:0]
}

// atLeast returns the list with room for n more. It is not nil.
func atLeast[S ~[]E, E any](list S, n int) S {
	if list == nil {
		return make(S, 0, n)
	}
	return slices.Grow(list, n)
}
