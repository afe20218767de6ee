// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// hashAlgorithm is the debug print that nitro-cli has always written; see
// [Measurements].
const hashAlgorithm = "Sha384 { ... }"

// Measurements are the registers of an image, in the JSON of AWS's nitro-cli:
//
//	{"HashAlgorithm": "Sha384 { ... }", "PCR0": "…", "PCR1": "…", "PCR2": "…", "PCR8": "…"}
//
// PCR8 is there for a signed image only. HashAlgorithm is text for people: it is
// written as nitro-cli writes it and never read.
type Measurements struct {
	Set
}

// MarshalJSON implements [json.Marshaler].
func (m Measurements) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"HashAlgorithm":%q`, hashAlgorithm)
	for i, d := range m.All() {
		fmt.Fprintf(&b, `,"%v":"%v"`, i, d)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON implements [json.Unmarshaler]. Members that are no register are
// ignored, as the text of HashAlgorithm is; a register named twice, and a name
// like "pcr0" or "PCR32" that is none, is refused.
func (m *Measurements) UnmarshalJSON(data []byte) error {
	set, err := decodeSet(data)
	if err != nil {
		return err
	}
	*m = Measurements{Set: set}
	return nil
}

// ParseMeasurements reads the registers out of any JSON that nitro-cli or this
// module prints: the output of building, signing or describing an image (an
// object with a member "Measurements"), or the bare map. A file without a
// register is refused.
func ParseMeasurements(data []byte) (Measurements, error) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		return Measurements{}, fmt.Errorf("pcr: measurements: %w", err)
	}
	if inner, ok := whole["Measurements"]; ok {
		data = inner
	}
	var m Measurements
	if err := json.Unmarshal(data, &m); err != nil {
		return Measurements{}, fmt.Errorf("pcr: measurements: %w", err)
	}
	if m.Len() == 0 {
		return Measurements{}, errors.New("pcr: measurements: no register in the file")
	}
	return m, nil
}

// MarshalJSON writes the set as an object {"PCR0": "…", …} in ascending order.
func (s Set) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.Grow(2 + s.Len()*(len(`"PCR31":"",`)+2*Size))
	b.WriteByte('{')
	for i, d := range s.All() {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + i.String() + `":"` + d.String() + `"`)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object {"PCR0": "…", …}. Members that are no register
// are ignored; a register named twice, and a name like "pcr0" or "PCR32" that is
// none, is refused.
func (s *Set) UnmarshalJSON(data []byte) error {
	set, err := decodeSet(data)
	if err != nil {
		return err
	}
	*s = set
	return nil
}

// looksLikeRegister matches names that were meant for a register's. To pass over
// one that is misspelt would be to expect less than was asked for.
var looksLikeRegister = regexp.MustCompile(`^(?i:pcr)[ _-]?[0-9]+$`)

func decodeSet(data []byte) (Set, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return Set{}, errors.New("want a JSON object of registers")
	}
	var set Set
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return Set{}, err
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return Set{}, err
		}
		name := tok.(string)
		index, err := ParseIndex(name)
		if err != nil || name != index.String() {
			if looksLikeRegister.MatchString(name) {
				return Set{}, fmt.Errorf("%.40q is no register: want PCR0 to PCR%d", name, Count-1)
			}
			continue
		}
		text, ok := value.(string)
		if !ok {
			return Set{}, fmt.Errorf("%v is no string", index)
		}
		digest, err := ParseDigest(text)
		if err != nil {
			return Set{}, fmt.Errorf("%v: %w", index, err)
		}
		if _, twice := set.Get(index); twice {
			return Set{}, fmt.Errorf("%v is there twice", index)
		}
		set.Put(index, digest)
	}
	return set, nil
}
