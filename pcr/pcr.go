// SPDX-License-Identifier: Apache-2.0

// Package pcr has the platform configuration registers of Nitro Enclaves: the
// digests in them, sets of registers, the values that AWS documents for a role,
// an instance and a signing certificate, and a comparison that names every
// register that differs.
//
// All digests are SHA-384, the only algorithm of the platform. H below stands
// for SHA-384 and Z for 48 zero bytes, the initial value of every register.
package pcr

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"iter"
	"math/bits"
	"strconv"
	"strings"
)

// Size is the length of a register in bytes.
const Size = sha512.Size384

// Count is the number of registers of a Nitro Security Module. A NitroTPM has
// 24, so every set of either kind fits.
const Count = 32

// A Digest is the value of one register.
type Digest [Size]byte

// ParseDigest reads 96 hexadecimal digits of either case, without a prefix.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*Size {
		return Digest{}, fmt.Errorf("pcr: a digest has %d hex digits, not %d", 2*Size, len(s))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("pcr: digest: %w", err)
	}
	return d, nil
}

// Sum returns H(data), which is not yet a register's value: see [Digest.Extend].
func Sum(data []byte) Digest { return sha512.Sum384(data) }

// Extend returns H(d ‖ data), the value of a register that was d after data of
// any length has been extended into it.
func (d Digest) Extend(data []byte) Digest {
	h := sha512.New384()
	h.Write(d[:])
	h.Write(data)
	return Digest(h.Sum(nil))
}

// IsZero tells whether every byte is zero: a register nothing was extended into.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns 96 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first eight and the last two hexadecimal digits, enough for
// a person to recognise a value by. It is for messages only.
func (d Digest) Short() string {
	s := d.String()
	return s[:8] + "…" + s[len(s)-2:]
}

// MarshalText implements [encoding.TextMarshaler] with [Digest.String].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with [ParseDigest].
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// An Index is the number of a register, 0 to 31.
type Index uint8

// String returns "PCR" and the number, as in AWS's condition keys.
func (i Index) String() string { return "PCR" + strconv.Itoa(int(i)) }

// ParseIndex reads "PCR3" or "3". Anything but digits 0 to 31 without leading
// zeros is refused.
func ParseIndex(s string) (Index, error) {
	digits := strings.TrimPrefix(s, "PCR")
	n, err := strconv.ParseUint(digits, 10, 8)
	if err != nil || n >= Count || strconv.FormatUint(n, 10) != digits {
		return 0, fmt.Errorf("pcr: %q is no register: want 0 to %d", s, Count-1)
	}
	return Index(n), nil
}

// A Set holds the values of some of the registers. The zero Set is empty. Sets
// are values: assigning one copies it, and == compares two.
type Set struct {
	present uint32
	values  [Count]Digest
}

// Put gives register i the value d. It panics if i is not below [Count].
func (s *Set) Put(i Index, d Digest) {
	s.values[i] = d
	s.present |= 1 << i
}

// Remove takes register i out of the set.
func (s *Set) Remove(i Index) {
	if i < Count {
		s.values[i] = Digest{}
		s.present &^= 1 << i
	}
}

// Get returns the value of register i and whether it is in the set. A register
// that is absent is not the same as one whose value is zero.
func (s *Set) Get(i Index) (Digest, bool) {
	if i >= Count || s.present&(1<<i) == 0 {
		return Digest{}, false
	}
	return s.values[i], true
}

// Len returns the number of registers in the set.
func (s *Set) Len() int { return bits.OnesCount32(s.present) }

// All iterates over the registers in the set in ascending order.
func (s *Set) All() iter.Seq2[Index, Digest] {
	return func(yield func(Index, Digest) bool) {
		for i := range Index(Count) {
			if s.present&(1<<i) != 0 && !yield(i, s.values[i]) {
				return
			}
		}
	}
}

// Debug tells whether the set is that of an enclave in debug mode: any of PCR0,
// PCR1 and PCR2 is present and zero. PCR4 never is zero there, so "all zero"
// would not do.
func (s *Set) Debug() bool {
	for i := range Index(3) {
		if d, ok := s.Get(i); ok && d.IsZero() {
			return true
		}
	}
	return false
}

// A Difference is one register for which a reference value was not met.
type Difference struct {
	Index Index
	// Want is the reference value.
	Want Digest
	// Got is what was found; zero if Missing.
	Got Digest
	// Missing says that the register was not there at all.
	Missing bool
}

// String names the register with both values, shortened.
func (d Difference) String() string {
	if d.Missing {
		return fmt.Sprintf("%v wanted %s, absent", d.Index, d.Want.Short())
	}
	return fmt.Sprintf("%v wanted %s, got %s", d.Index, d.Want.Short(), d.Got.Short())
}

// Compare returns a Difference, in ascending order, for each register of want
// that got has not or has with another value. Registers only in got count for
// nothing. An empty want therefore differs from nothing: callers that take
// reference values must refuse an empty one themselves.
func Compare(want, got *Set) []Difference {
	var diffs []Difference
	for i, w := range want.All() {
		if g, ok := got.Get(i); !ok || g != w {
			diffs = append(diffs, Difference{Index: i, Want: w, Got: g, Missing: !ok})
		}
	}
	return diffs
}
