// SPDX-License-Identifier: Apache-2.0

// Package reference reads files of reference values: the releases whose
// documents are accepted, as data. Matched with a document, a [Set] names the
// release it belongs to or, for each release, what differs. The format is
// described in docs/reference-values.md.
package reference

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
)

// Schema is the value of the member "schema" of a file.
const Schema = "cretula.reference.v1"

//go:embed reference.schema.json
var jsonSchema []byte

// JSONSchema returns the JSON Schema (draft 2020-12) of a file, for editors. It
// says less than [Parse] does: what a release must pin is not in it.
func JSONSchema() []byte { return slices.Clone(jsonSchema) }

// Limits of a file.
const (
	// MaxSize is the greatest size of a file in bytes.
	MaxSize = 1 << 20
	// MaxReleases is the greatest number of releases.
	MaxReleases = 1024
	// maxValues is the greatest number of values of one list.
	maxValues = 256
	maxName   = 128
)

// A Set is the content of a file. It does not change and may be used by many
// goroutines at once.
type Set struct{ releases []release }

// A release is one member of "releases".
type release struct {
	name                string
	kind                attestation.Kind
	notBefore, notAfter time.Time // zero: none
	// allowed are the values of which a register must have one.
	allowed [pcr.Count][]pcr.Digest
	// sets, if there are any, are such that one of them must match as a whole.
	sets []pcr.Set
	// required are registers that must be there with any value.
	required []pcr.Index
}

// Parse reads a file. It is strict: unknown members, members, names and values
// that are there twice, empty lists, and releases that pin too little to tell an
// image are refused with a [*reason.Error] of class malformed that
// names the place.
func Parse(data []byte) (*Set, error) {
	if len(data) > MaxSize {
		return nil, refuse("size", "", "%d bytes, of at most %d", len(data), MaxSize)
	}
	tree, err := decode(data)
	if err != nil {
		return nil, err
	}
	file, err := object(tree, "", "schema", "releases")
	if err != nil {
		return nil, err
	}
	if file["schema"] != Schema {
		return nil, refuse("schema", "schema", "want %q", Schema)
	}
	list, err := array(file["releases"], "releases", MaxReleases)
	if err != nil {
		return nil, err
	}
	s := &Set{releases: make([]release, len(list))}
	names := map[string]bool{}
	for i, item := range list {
		path := fmt.Sprintf("releases[%d]", i)
		r := &s.releases[i]
		if err := r.parse(item, path); err != nil {
			return nil, err
		}
		if names[r.name] {
			return nil, refuse("duplicate", path+".name", "an earlier release has the name %q", r.name)
		}
		names[r.name] = true
	}
	return s, nil
}

func (r *release) parse(v any, path string) error {
	o, err := object(v, path, "name", "kind", "not_before", "not_after", "pcrs", "sets", "required",
		"role_arns", "instance_ids", "certificates")
	if err != nil {
		return err
	}
	if r.name, err = text(o["name"], path+".name"); err != nil {
		return err
	}
	if !goodName(r.name) {
		return refuse("value", path+".name", "want 1 to %d printable characters", maxName)
	}
	r.kind = attestation.KindEnclave
	if kind, given := o["kind"]; given {
		switch kind {
		case "enclave":
		case "nitrotpm":
			r.kind = attestation.KindNitroTPM
		default:
			return refuse("value", path+".kind", "want enclave or nitrotpm")
		}
	}
	if err := r.parseDates(o, path); err != nil {
		return err
	}
	if err := r.parseRegisters(o, path); err != nil {
		return err
	}
	return r.checkPinned(path)
}

func goodName(s string) bool {
	return s != "" && len(s) <= maxName && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

func (r *release) parseDates(o map[string]any, path string) (err error) {
	if v, given := o["not_before"]; given {
		if r.notBefore, err = date(v, path+".not_before"); err != nil {
			return err
		}
	}
	if v, given := o["not_after"]; given {
		if r.notAfter, err = date(v, path+".not_after"); err != nil {
			return err
		}
		if r.notAfter.Before(r.notBefore) {
			return refuse("validity", path, "not_after is before not_before")
		}
	}
	return nil
}

// registers is the number of registers of a kind: 24 of a TPM.
func (r *release) registers() pcr.Index {
	if r.kind == attestation.KindNitroTPM {
		return 24
	}
	return pcr.Count
}

func (r *release) register(name, path string) (pcr.Index, error) {
	i, err := pcr.ParseIndex(name)
	if err != nil || name != i.String() || i >= r.registers() {
		return 0, refuse("value", path, "%.40q is no register: want PCR0 to PCR%d", name, r.registers()-1)
	}
	return i, nil
}

// checkPinned refuses a release, or one of its sets, that any customer of AWS
// could match with an image of their own.
func (r *release) checkPinned(path string) error {
	if len(r.sets) == 0 {
		return r.checkPins(&pcr.Set{}, path)
	}
	for i := range r.sets {
		if err := r.checkPins(&r.sets[i], fmt.Sprintf("%s.sets[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) checkPins(set *pcr.Set, path string) error {
	pins := func(i pcr.Index) bool {
		d, inSet := set.Get(i)
		return inSet && !d.IsZero() || len(r.allowed[i]) > 0 && !slices.Contains(r.allowed[i], pcr.Digest{})
	}
	switch {
	case r.kind == attestation.KindNitroTPM:
		if !pins(4) {
			return refuse("empty", path, "no image is pinned: a release of kind nitrotpm has values other than zero of PCR4")
		}
	// PCR2 alone says nothing of the kernel and init below the application: who
	// builds an image of their own kernel and the same application has it too.
	case !pins(0) && !(pins(1) && pins(2)) && !(pins(8) && pins(3)):
		return refuse("empty", path, "no image is pinned: a release has values of PCR0, of both PCR1 and PCR2, or of both PCR8 and PCR3 that are not zero")
	}
	return nil
}
