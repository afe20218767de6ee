// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
)

// A Release is what a file says of one release.
type Release struct {
	Name string
	Kind attestation.Kind
	// NotBefore and NotAfter are from and until when it is accepted, both
	// included; zero if the file has no such time.
	NotBefore, NotAfter time.Time
	// Pins are one or more: the registers of the release fit one of them.
	Pins []Pins
}

// Pins are the registers that documents have together.
type Pins struct {
	// Registers has for each register the values of which a document has one, none
	// for a register that counts for nothing.
	Registers [pcr.Count][]pcr.Digest
	// Required are registers that are there with any value.
	Required []pcr.Index
}

// Releases returns the releases in the order of the file.
func (s *Set) Releases() []Release {
	out := make([]Release, len(s.releases))
	for i := range s.releases {
		r := &s.releases[i]
		out[i] = Release{Name: r.name, Kind: r.kind, NotBefore: r.notBefore, NotAfter: r.notAfter}
		if len(r.sets) == 0 {
			out[i].Pins = []Pins{r.pins(&pcr.Set{})}
		}
		for n := range r.sets {
			out[i].Pins = append(out[i].Pins, r.pins(&r.sets[n]))
		}
	}
	return out
}

// pins are those of one set of the release, together with what all sets have.
func (r *release) pins(set *pcr.Set) (p Pins) {
	for i, allowed := range r.allowed {
		p.Registers[i] = append([]pcr.Digest(nil), allowed...)
	}
	for i, d := range set.All() {
		p.Registers[i] = []pcr.Digest{d} // it is in no member beside sets
	}
	p.Required = append(p.Required, r.required...)
	return p
}
