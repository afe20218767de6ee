// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// RuleRelease is the rule that a document which matches no release breaks.
const RuleRelease = "expect.release"

// A Match is what a comparison found.
type Match struct {
	// Release is the name of the first release in the file that matches, empty
	// if none does.
	Release string
	// Pinned are the registers of that release that were compared.
	Pinned pcr.Set
	// NotAfter is the end of that release's validity, zero if it has none.
	NotAfter time.Time
	// Releases are, if none matches, all of the file, closest first.
	Releases []Comparison
}

// A Comparison says how a document differs from a release.
type Comparison struct {
	Name string `json:"name"`
	// Differs is never empty.
	Differs []Difference `json:"differs"`
}

// A Difference is one thing that is not as a release wants it.
type Difference struct {
	// What is a register such as "PCR2", or "kind", "not_before", "not_after".
	What string `json:"what"`
	// Want are the values of which one is wanted. It is empty for a register
	// that must be there with any value.
	Want []string `json:"want,omitempty"`
	// Got is the value found; empty if there was none.
	Got string `json:"got,omitempty"`
}

// Match finds the release of a verified document at the time of its check: now,
// the one that was given, or, if the document was verified as of its own time
// ([attestation.Expectation].AllowDocumentTime), its Timestamp. A release that has
// ended since is still the one of an archived document. A document of no release is
// refused by a [*reason.Error] of class mismatch and rule [RuleRelease]; the
// Match has the comparisons then.
func (s *Set) Match(d *attestation.Document, at time.Time) (Match, error) {
	if d == nil {
		return Match{}, errors.New("reference: there is no document")
	}
	return s.Compare(d.Kind, &d.PCRs, at)
}

// Compare is [Set.Match] for what a document claims, verified or not. Only use
// it to explain: registers that nobody vouches for belong to no release.
func (s *Set) Compare(kind attestation.Kind, pcrs *pcr.Set, at time.Time) (Match, error) {
	var m Match
	for i := range s.releases {
		r := &s.releases[i]
		differs := r.compare(kind, pcrs, at)
		if len(differs) == 0 {
			return Match{Release: r.name, Pinned: r.pinned(pcrs), NotAfter: r.notAfter}, nil
		}
		m.Releases = append(m.Releases, Comparison{Name: r.name, Differs: differs})
	}
	slices.SortStableFunc(m.Releases, func(a, b Comparison) int {
		return cmp.Or(cmp.Compare(len(a.Differs), len(b.Differs)), cmp.Compare(a.registers(), b.registers()))
	})
	return m, reason.New(reason.Mismatch, RuleRelease, "matches none of %d %s; closest is %q: %s",
		len(s.releases), plural(len(s.releases)), m.Releases[0].Name, m.Releases[0].summary())
}

func plural(n int) string {
	if n == 1 {
		return "release"
	}
	return "releases"
}

// registers counts the registers that differ: a release of other dates is closer
// than one of another image.
func (c Comparison) registers() (n int) {
	for _, d := range c.Differs {
		if strings.HasPrefix(d.What, "PCR") {
			n++
		}
	}
	return n
}

// summary names what differs without the values.
func (c Comparison) summary() string {
	var names, rest []string
	for _, d := range c.Differs {
		switch d.What {
		case "not_before":
			rest = append(rest, "not valid before "+d.Want[0])
		case "not_after":
			rest = append(rest, "not valid after "+d.Want[0])
		default:
			names = append(names, d.What)
		}
	}
	switch len(names) {
	case 0:
	case 1:
		rest = slices.Insert(rest, 0, names[0]+" differs")
	default:
		last := len(names) - 1
		rest = slices.Insert(rest, 0, strings.Join(names[:last], ", ")+" and "+names[last]+" differ")
	}
	return strings.Join(rest, ", ")
}

// compare returns what differs, for the set that is closest.
func (r *release) compare(kind attestation.Kind, pcrs *pcr.Set, at time.Time) []Difference {
	var fixed []Difference
	if kind != r.kind {
		fixed = append(fixed, Difference{What: "kind", Want: []string{r.kind.String()}, Got: kindName(kind)})
	}
	if at.Before(r.notBefore) {
		fixed = append(fixed, dateDifference("not_before", r.notBefore, at))
	}
	if !r.notAfter.IsZero() && at.After(r.notAfter) {
		fixed = append(fixed, dateDifference("not_after", r.notAfter, at))
	}
	sets := r.sets
	if len(sets) == 0 {
		sets = []pcr.Set{{}}
	}
	var closest []Difference
	for i := range sets {
		differs := r.compareRegisters(&sets[i], pcrs)
		if i == 0 || len(differs) < len(closest) {
			closest = differs
		}
	}
	return append(fixed, closest...)
}

func (r *release) compareRegisters(set, pcrs *pcr.Set) []Difference {
	var differs []Difference
	for i := range pcr.Index(pcr.Count) {
		allowed := r.allowed[i]
		if d, ok := set.Get(i); ok {
			allowed = []pcr.Digest{d}
		}
		got, there := pcrs.Get(i)
		if there && (len(allowed) == 0 || slices.Contains(allowed, got)) || len(allowed) == 0 && !slices.Contains(r.required, i) {
			continue
		}
		d := Difference{What: i.String()}
		for _, want := range allowed {
			d.Want = append(d.Want, want.String())
		}
		if there {
			d.Got = got.String()
		}
		differs = append(differs, d)
	}
	return differs
}

// pinned are the registers of a document that matches r which r has values of.
func (r *release) pinned(pcrs *pcr.Set) pcr.Set {
	var out pcr.Set
	put := func(i pcr.Index) {
		if d, ok := pcrs.Get(i); ok {
			out.Put(i, d)
		}
	}
	for i := range pcr.Index(pcr.Count) {
		if len(r.allowed[i]) > 0 {
			put(i)
		}
	}
	for n := range r.sets {
		if len(r.compareRegisters(&r.sets[n], pcrs)) == 0 {
			for i := range r.sets[n].All() {
				put(i)
			}
			break
		}
	}
	return out
}

func kindName(k attestation.Kind) string {
	if k == 0 {
		return ""
	}
	return k.String()
}

func dateDifference(what string, want, at time.Time) Difference {
	return Difference{What: what, Want: []string{want.Format(time.RFC3339)}, Got: at.UTC().Format(time.RFC3339)}
}

// String says what differs for a person, with values shortened.
func (d Difference) String() string {
	want := "any value"
	if len(d.Want) > 0 {
		want = short(d.Want[0])
	}
	if n := len(d.Want); n > 1 {
		want += fmt.Sprintf(" or one of %d more", n-1)
	}
	got := "absent"
	if d.Got != "" {
		got = "got " + short(d.Got)
	}
	return fmt.Sprintf("%s wanted %s, %s", d.What, want, got)
}

func short(s string) string {
	if d, err := pcr.ParseDigest(s); err == nil {
		return d.Short()
	}
	return s
}
