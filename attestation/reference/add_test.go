// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"errors"
	"strings"
	"testing"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

func derived(seed byte, indices ...pcr.Index) pcr.Set {
	var set pcr.Set
	for _, i := range indices {
		set.Put(i, pcr.Sum([]byte{seed, byte(i)}))
	}
	return set
}

func TestAdd(t *testing.T) {
	a, b := derived(1, 0, 1, 2), derived(2, 0, 1, 2, 8)
	one, err := Add(nil, Image{"a", []pcr.Set{a}})
	if err != nil {
		t.Fatal(err)
	}
	// What others wrote stays: members, their order, and what HTML would escape.
	old := []byte(`{"releases":[{"pcrs":{"PCR0":"` + strings.Repeat("ab", 48) + `"},"not_after":"2030-01-01T00:00:00Z","name":"<old> & é","required":["PCR16"]}],"schema":"cretula.reference.v1"}`)
	two, err := Add(old, Image{"a", []pcr.Set{a}}, Image{"both", []pcr.Set{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := Parse(two)
	if err != nil || len(set.releases) != 3 {
		t.Fatalf("%v: %s", err, two)
	}
	if r := set.releases[0]; r.name != "<old> & é" || r.notAfter.IsZero() || len(r.required) != 1 || !strings.Contains(string(two), "<old> & é") {
		t.Errorf("the old release is %+v now", r)
	}
	if r := set.releases[1]; r.name != "a" || len(r.allowed[2]) != 1 || len(r.sets) != 0 {
		t.Errorf("%+v", r)
	}
	if r := set.releases[2]; r.name != "both" || len(r.sets) != 2 || r.sets[1] != b {
		t.Errorf("%+v", r)
	}
	if again, err := Add(two, Image{"both", []pcr.Set{a, b}}, Image{"a", []pcr.Set{a}}); err != nil || string(again) != string(two) {
		t.Errorf("added again: %v, %s", err, again)
	}
	for _, c := range []struct {
		name   string
		file   []byte
		images []Image
		rule   string // "" for ErrExists
	}{
		{"other registers under the name", one, []Image{{"a", []pcr.Set{b}}}, ""},
		{"one set more under the name", one, []Image{{"a", []pcr.Set{a, b}}}, ""},
		{"two of a name at once", nil, []Image{{"a", []pcr.Set{a}}, {"a", []pcr.Set{b}}}, ""},
		{"no name", nil, []Image{{"", []pcr.Set{a}}}, "reference.value"},
		{"control character", nil, []Image{{"a\n", []pcr.Set{a}}}, "reference.value"},
		{"no image", nil, []Image{{"a", nil}}, "reference.empty"},
		{"nothing pinned", nil, []Image{{"a", []pcr.Set{derived(1, 1)}}}, "reference.empty"},
		{"same image twice", nil, []Image{{"a", []pcr.Set{a, a}}}, "reference.duplicate"},
		{"debug mode", nil, []Image{{"a", []pcr.Set{zero()}}}, "reference.zero"},
		{"no release", nil, nil, "reference.type"},
		{"no file of this kind", []byte("{}"), []Image{{"a", []pcr.Set{a}}}, "reference.schema"},
		{"unknown member", []byte(strings.Replace(string(one), `"name"`, `"nmae"`, 1)), []Image{{"b", []pcr.Set{b}}}, "reference.member"},
	} {
		out, err := Add(c.file, c.images...)
		if out != nil || err == nil {
			t.Errorf("%s: %s", c.name, out)
			continue
		}
		refusal, ok := errors.AsType[*reason.Error](err)
		if c.rule == "" && !errors.Is(err, ErrExists) || c.rule != "" && (!ok || refusal.Rule() != c.rule) {
			t.Errorf("%s: %v, want %q", c.name, err, c.rule)
		}
	}
}

func zero() pcr.Set {
	var set pcr.Set
	set.Put(0, pcr.Digest{})
	return set
}
