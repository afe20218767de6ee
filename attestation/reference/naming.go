// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"slices"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
)

// Naming returns the names of the releases, in the order of the file, that these values
// of registers stand for, such as those which a key policy wants: none of the values
// that a release has is left out altogether, and the registers that both have values of
// tell which image it is. Dates and required registers count for nothing. Only use it
// to explain: it lets nothing in.
func (s *Set) Naming(kind attestation.Kind, values *[pcr.Count][]pcr.Digest) []string {
	var names []string
	for i := range s.releases {
		r := &s.releases[i]
		sets := r.sets
		if len(sets) == 0 {
			sets = []pcr.Set{{}}
		}
		named := func(set pcr.Set) bool { return r.named(&set, values) }
		if r.kind == kind && slices.ContainsFunc(sets, named) {
			names = append(names, r.name)
		}
	}
	return names
}

// named tells whether the values stand for the release with this one of its sets.
func (r *release) named(set *pcr.Set, values *[pcr.Count][]pcr.Digest) bool {
	common := release{kind: r.kind}
	pins := r.pins(set)
	for i, allowed := range pins.Registers {
		if len(allowed) == 0 || len(values[i]) == 0 {
			continue
		}
		other := func(d pcr.Digest) bool { return !slices.Contains(values[i], d) }
		if common.allowed[i] = slices.DeleteFunc(allowed, other); len(common.allowed[i]) == 0 {
			return false
		}
	}
	return common.checkPins(&pcr.Set{}, "") == nil
}
