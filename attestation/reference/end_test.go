// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

func moment(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestEnd(t *testing.T) {
	image := `"pcrs":{"PCR0":"` + strings.Repeat("ab", 48) + `"}`
	file := func(releases ...string) []byte {
		return []byte(`{"schema":"cretula.reference.v1","releases":[` + strings.Join(releases, ",") + `]}`)
	}
	compact := func(b []byte) string {
		return strings.NewReplacer("\n", "", "  ", "", `": `, `":`).Replace(string(b))
	}
	other := `{"name":"<other> & é",` + image + `,"required":["PCR16"]}`
	for _, c := range []struct{ name, release, at, want string }{
		{"no end yet", `{` + image + `,"name":"a","required":["PCR16"]}`, "2026-11-21T10:00:00.9Z",
			`{` + image + `,"name":"a","not_after":"2026-11-21T10:00:00Z","required":["PCR16"]}`},
		{"an earlier end", `{"not_after":"2027-01-01T00:00:00Z","name":"a",` + image + `}`, "2026-11-21T11:00:00+01:00",
			`{"not_after":"2026-11-21T10:00:00Z","name":"a",` + image + `}`},
		{"the same end", `{"name":"a","not_after":"2026-11-21T11:00:00+01:00",` + image + `}`, "2026-11-21T10:00:00Z",
			`{"name":"a","not_after":"2026-11-21T10:00:00Z",` + image + `}`},
		{"on its first day", `{"name":"a","not_before":"2026-11-21T10:00:00Z",` + image + `}`, "2026-11-21T10:00:00Z",
			`{"name":"a","not_after":"2026-11-21T10:00:00Z","not_before":"2026-11-21T10:00:00Z",` + image + `}`},
	} {
		out, err := End(file(other, c.release), "a", moment(t, c.at))
		if err != nil || compact(out) != string(file(other, c.want)) {
			t.Errorf("%s: %v: %s", c.name, err, out)
			continue
		}
		set, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		pcrs := derived(1, 16)
		pcrs.Put(0, set.releases[1].allowed[0][0])
		end := moment(t, c.at).Truncate(time.Second)
		if m, _ := set.Compare(attestation.KindEnclave, &pcrs, end.Add(time.Second)); m.Release != "<other> & é" {
			t.Errorf("%s: afterwards it is %q", c.name, m.Release)
		}
		set.releases = set.releases[1:]
		if m, err := set.Compare(attestation.KindEnclave, &pcrs, end); m.Release != "a" || !m.NotAfter.Equal(end) {
			t.Errorf("%s: at the end: %v, %+v", c.name, err, m)
		}
		if m, err := set.Compare(attestation.KindEnclave, &pcrs, end.Add(time.Nanosecond)); err == nil {
			t.Errorf("%s: after the end it is %q", c.name, m.Release)
		}
	}
	one := file(`{"name":"a","not_before":"2026-02-01T00:00:00Z","not_after":"2026-03-01T00:00:00Z",` + image + `}`)
	for _, c := range []struct {
		name, release, at string
		file              []byte
		is                error  // or
		rule              string // the one that is broken
	}{
		{"of another name", "A", "2026-02-02T00:00:00Z", one, ErrUnknown, ""},
		{"no name", "", "2026-02-02T00:00:00Z", one, ErrUnknown, ""},
		{"a later end", "a", "2026-03-01T00:00:01Z", one, ErrEnded, ""},
		{"before its beginning", "a", "2026-01-31T23:59:59Z", one, nil, "reference.validity"},
		{"a year of five digits", "a", "9999-12-31T23:59:59-01:00", file(`{"name":"a",` + image + `}`), nil, "reference.value"},
		{"no file", "a", "2026-02-02T00:00:00Z", nil, nil, "reference.json"},
		{"unknown member", "a", "2026-02-02T00:00:00Z", file(`{"name":"a","Not_after":"2026-03-01T00:00:00Z",` + image + `}`), nil, "reference.member"},
		{"two of a name", "a", "2026-02-02T00:00:00Z", file(`{"name":"a",`+image+`}`, `{"name":"a",`+image+`}`), nil, "reference.duplicate"},
	} {
		out, err := End(c.file, c.release, moment(t, c.at))
		refusal, ok := errors.AsType[*reason.Error](err)
		if out != nil || err == nil || c.is != nil && !errors.Is(err, c.is) || c.rule != "" && (!ok || refusal.Rule() != c.rule) {
			t.Errorf("%s: %v, %s", c.name, err, out)
		}
	}
}

// TestReleases: what a file says, as data, and nobody can change the set by it.
func TestReleases(t *testing.T) {
	a, b, c := strings.Repeat("ab", 48), strings.Repeat("bc", 48), strings.Repeat("cd", 48)
	set, err := Parse([]byte(`{"schema":"cretula.reference.v1","releases":[
		{"name":"lists","not_before":"2026-01-01T00:00:00Z","not_after":"2027-01-01T00:00:00Z","pcrs":{"PCR0":["` + a + `","` + b + `"]},"certificates":["` + c + `"],"required":["PCR17","PCR16"]},
		{"name":"sets","sets":[{"PCR0":"` + a + `","PCR2":"` + b + `"},{"PCR0":"` + b + `"}],"pcrs":{"PCR1":"` + c + `"}},
		{"name":"tpm","kind":"nitrotpm","pcrs":{"PCR4":"` + a + `"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	text := func(p Pins) string {
		var out []string
		for i, digests := range p.Registers {
			for _, d := range digests {
				out = append(out, pcr.Index(i).String()+"="+d.String()[:2])
			}
		}
		for _, i := range p.Required {
			out = append(out, i.String())
		}
		return strings.Join(out, " ")
	}
	for range 2 {
		releases := set.Releases()
		var got []string
		for _, r := range releases {
			for _, p := range r.Pins {
				got = append(got, r.Name+": "+text(p))
			}
		}
		want := []string{"lists: PCR0=ab PCR0=bc PCR8=cd PCR16 PCR17", "sets: PCR0=ab PCR1=cd PCR2=bc", "sets: PCR0=bc PCR1=cd", "tpm: PCR4=ab"}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		if r := releases[0]; r.Kind != attestation.KindEnclave || !r.NotBefore.Equal(moment(t, "2026-01-01T00:00:00Z")) || !r.NotAfter.Equal(moment(t, "2027-01-01T00:00:00Z")) {
			t.Errorf("%+v", r)
		}
		if r := releases[2]; r.Kind != attestation.KindNitroTPM || !r.NotBefore.IsZero() || !r.NotAfter.IsZero() {
			t.Errorf("%+v", r)
		}
		releases[0].Pins[0].Registers[0][0], releases[0].Pins[0].Required[0] = pcr.Digest{}, 0
		releases[1].Pins[0].Registers[1][0] = pcr.Digest{}
	}
}
