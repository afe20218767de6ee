// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
)

func (r *release) parseRegisters(o map[string]any, path string) error {
	if v, given := o["pcrs"]; given {
		if err := r.parseAllowed(v, path+".pcrs"); err != nil {
			return err
		}
	}
	// How AWS fills PCR3, PCR4 and PCR8 of an enclave: Nitro Enclaves User
	// Guide, "Where to get an enclave's measurements".
	for _, m := range []struct {
		name    string
		index   pcr.Index
		measure func(string) (pcr.Digest, error)
	}{
		{"role_arns", 3, pcr.Role},
		{"instance_ids", 4, pcr.Instance},
		{"certificates", 8, certificate},
	} {
		if v, given := o[m.name]; given {
			if err := r.parseMeasured(v, path+"."+m.name, m.index, m.measure); err != nil {
				return err
			}
		}
	}
	if v, given := o["sets"]; given {
		if err := r.parseSets(v, path+".sets"); err != nil {
			return err
		}
	}
	if v, given := o["required"]; given {
		return r.parseRequired(v, path+".required")
	}
	return nil
}

// parseAllowed reads an object of registers, each with a value or a list.
func (r *release) parseAllowed(v any, path string) error {
	registers, ok := v.(map[string]any)
	if !ok {
		return refuse("type", path, "want an object")
	}
	if len(registers) == 0 {
		return refuse("empty", path, "the object is empty")
	}
	for _, name := range slices.Sorted(maps.Keys(registers)) {
		at := member(path, name)
		i, err := r.register(name, at)
		if err != nil {
			return err
		}
		values := []string{}
		if one, single := registers[name].(string); single {
			values = append(values, one)
		} else if values, err = texts(registers[name], at); err != nil {
			return err
		}
		for _, value := range values {
			d, err := r.digest(i, value, at)
			if err != nil {
				return err
			}
			if err := r.allow(i, d, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *release) allow(i pcr.Index, d pcr.Digest, path string) error {
	if slices.Contains(r.allowed[i], d) {
		return refuse("duplicate", path, "%v has this value twice", i)
	}
	r.allowed[i] = append(r.allowed[i], d)
	return nil
}

// digest reads a value. Zero in PCR0, PCR1 or PCR2 is that of every enclave in
// debug mode, whatever its image.
func (r *release) digest(i pcr.Index, s, path string) (pcr.Digest, error) {
	d, err := pcr.ParseDigest(s)
	if err != nil {
		return pcr.Digest{}, refuse("value", path, "%w", err)
	}
	if i <= 2 && d.IsZero() {
		return pcr.Digest{}, refuse("zero", path, "%v is zero in debug mode, in which the image is not measured", i)
	}
	return d, nil
}

// parseMeasured reads a list out of which the values of a register follow.
func (r *release) parseMeasured(v any, path string, i pcr.Index, measure func(string) (pcr.Digest, error)) error {
	if r.kind != attestation.KindEnclave {
		return refuse("member", path, "only an enclave has this in %v", i)
	}
	if len(r.allowed[i]) > 0 {
		return refuse("duplicate", path, "%v is given under pcrs too", i)
	}
	values, err := texts(v, path)
	if err != nil {
		return err
	}
	for n, value := range values {
		at := fmt.Sprintf("%s[%d]", path, n)
		d, err := measure(value)
		if err != nil {
			return refuse("value", at, "%w", err)
		}
		if err := r.allow(i, d, at); err != nil {
			return err
		}
	}
	return nil
}

// certificate reads a signing certificate in PEM, or the PCR8 it makes.
func certificate(s string) (pcr.Digest, error) {
	if d, err := pcr.ParseDigest(s); err == nil && !d.IsZero() {
		return d, nil
	}
	d, err := pcr.CertificatePEM([]byte(s))
	if err != nil {
		return pcr.Digest{}, fmt.Errorf("neither a certificate in PEM nor the value of PCR8: %w", err)
	}
	return d, nil
}

func (r *release) parseSets(v any, path string) error {
	list, err := array(v, path, maxValues)
	if err != nil {
		return err
	}
	for n, item := range list {
		at := fmt.Sprintf("%s[%d]", path, n)
		registers, ok := item.(map[string]any)
		if !ok {
			return refuse("type", at, "want an object")
		}
		if len(registers) == 0 {
			return refuse("empty", at, "the object is empty")
		}
		var set pcr.Set
		for _, name := range slices.Sorted(maps.Keys(registers)) {
			if err := r.putInSet(&set, name, registers[name], member(at, name)); err != nil {
				return err
			}
		}
		if slices.Contains(r.sets, set) {
			return refuse("duplicate", at, "an earlier set is the same")
		}
		r.sets = append(r.sets, set)
	}
	return nil
}

func (r *release) putInSet(set *pcr.Set, name string, v any, path string) error {
	i, err := r.register(name, path)
	if err != nil {
		return err
	}
	if len(r.allowed[i]) > 0 {
		return refuse("duplicate", path, "%v is given outside of sets too", i)
	}
	value, err := text(v, path)
	if err != nil {
		return err
	}
	d, err := r.digest(i, value, path)
	if err != nil {
		return err
	}
	set.Put(i, d)
	return nil
}

func (r *release) parseRequired(v any, path string) error {
	names, err := texts(v, path)
	if err != nil {
		return err
	}
	for n, name := range names {
		at := fmt.Sprintf("%s[%d]", path, n)
		i, err := r.register(name, at)
		if err != nil {
			return err
		}
		if slices.Contains(r.required, i) {
			return refuse("duplicate", at, "%v is there twice", i)
		}
		r.required = append(r.required, i)
	}
	slices.Sort(r.required)
	return nil
}
