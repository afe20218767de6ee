// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"slices"
	"strings"

	"github.com/cretula/cretula/policy"
)

// Wanted is what one statement wants of the registers of a document.
type Wanted struct {
	// TPM says that the registers are those of a NitroTPM.
	TPM bool
	// Registers has by number the values of which a register must have one: 96
	// lower-case hex digits. None are left where conditions contradict each other.
	Registers map[int][]string
}

// Wanted returns what the statements that bear on a denial want of a document, in
// their order, those that want no whole values left out: an Allow that its conditions
// alone kept from applying, or a Deny that let through nothing but these values. It
// has nothing for what was allowed.
func (e Explanation) Wanted() []Wanted {
	d := e.decision
	if d.Allowed {
		return nil
	}
	var all []Wanted
	for s := range statements(d, lacking[d.Cause]...) {
		if !relevant(d, s) {
			continue
		}
		// Of a document there is one kind of registers only.
		kinds := [2]Wanted{{Registers: map[int][]string{}}, {TPM: true, Registers: map[int][]string{}}}
		for _, c := range s.Conditions {
			name, _ := registerName(c.Key)
			if name == "" || !strings.Contains(c.Operator, "String") || c.Negated != (s.Effect == policy.Deny) {
				continue
			}
			r := register{name: name}
			w := &kinds[0]
			if r.tpm() {
				w = &kinds[1]
			}
			w.add(r.number(), c.Wanted)
		}
		for _, w := range kinds {
			if len(w.Registers) > 0 {
				all = append(all, w)
			}
		}
	}
	return all
}

// add notes a condition on a register, beside others on it.
func (w *Wanted) add(number int, values []string) {
	const digits = 96
	var whole []string
	for _, v := range values {
		v = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(v)), "0x")
		if len(v) == digits && strings.Trim(v, "0123456789abcdef") == "" {
			whole = append(whole, v)
		}
	}
	before, again := w.Registers[number]
	switch {
	case len(whole) == 0:
	case again:
		w.Registers[number] = slices.DeleteFunc(before, func(v string) bool { return !slices.Contains(whole, v) })
	default:
		w.Registers[number] = whole
	}
}
