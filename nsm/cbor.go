// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/cretula/cretula/reason"
)

// The major types of RFC 8949 section 3.1 that the protocol has.
const (
	majorUint   = 0
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorSimple = 7
)

const (
	simpleFalse = 0xf4
	simpleTrue  = 0xf5
	simpleNull  = 0xf6
	breakByte   = 0xff
)

// A decoder reads one message front to back. It never allocates more than the
// message is long and never recurses: there is no place in the protocol for a
// value of unknown shape.
type decoder struct {
	data []byte
	off  int
	// side is "request" or "response", the second part of a rule id.
	side string
	// cause is what errors wrap, if anything.
	cause ErrorCode
	// strict wants lengths definite and numbers in their shortest form.
	strict bool
}

func (d *decoder) fail(rule, format string, args ...any) error {
	text := fmt.Sprintf("NSM %s, byte %d: ", d.side, d.off) + fmt.Sprintf(format, args...)
	rule = "nsm." + d.side + "." + rule
	if d.cause == Success {
		return reason.New(reason.Malformed, rule, "%s", text)
	}
	return reason.New(reason.Malformed, rule, "%s: %w", text, d.cause)
}

// head reads the initial byte and argument of a data item (RFC 8949 section 3).
// For an indefinite length, which only a map may have, n is math.MaxUint64.
func (d *decoder) head() (major byte, n uint64, err error) {
	if d.off >= len(d.data) {
		return 0, 0, d.fail("cbor", "ends too early")
	}
	initial := d.data[d.off]
	major, info := initial>>5, initial&0x1f
	switch {
	case info < 24:
		d.off++
		return major, uint64(info), nil
	case info == 31 && major == majorMap && !d.strict:
		d.off++
		return major, math.MaxUint64, nil
	case info > 27:
		return 0, 0, d.fail("cbor", "0x%02x starts no value that is allowed here", initial)
	}
	size := 1 << (info - 24)
	if len(d.data)-d.off-1 < size {
		return 0, 0, d.fail("cbor", "ends in the middle of a number")
	}
	for _, b := range d.data[d.off+1 : d.off+1+size] {
		n = n<<8 | uint64(b)
	}
	if n == math.MaxUint64 { // stands for an indefinite length from here on
		return 0, 0, d.fail("cbor", "a length or number of 2^64-1")
	}
	if d.strict && len(appendHead(nil, major, n)) != 1+size {
		return 0, 0, d.fail("cbor", "a number is not in its shortest form")
	}
	d.off += 1 + size
	return major, n, nil
}

// take returns the next n bytes of the message, not copied.
func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.data)-d.off) {
		return nil, d.fail("cbor", "a length of %d runs over the end", n)
	}
	taken := d.data[d.off : d.off+int(n)]
	d.off += int(n)
	return taken, nil
}

func (d *decoder) uint16() (uint16, error) {
	major, n, err := d.head()
	if err != nil {
		return 0, err
	}
	if major != majorUint || n > math.MaxUint16 {
		return 0, d.fail("field", "want a number of 0 to 65535")
	}
	return uint16(n), nil
}

func (d *decoder) bool() (bool, error) {
	if d.off < len(d.data) {
		switch d.data[d.off] {
		case simpleFalse, simpleTrue:
			d.off++
			return d.data[d.off-1] == simpleTrue, nil
		}
	}
	return false, d.fail("field", "want true or false")
}

// null tells whether the next value is null, and passes over it if so.
func (d *decoder) null() bool {
	if d.off < len(d.data) && d.data[d.off] == simpleNull {
		d.off++
		return true
	}
	return false
}

func (d *decoder) text() (string, error) {
	major, n, err := d.head()
	if err != nil {
		return "", err
	}
	if major != majorText {
		return "", d.fail("field", "want a text string")
	}
	return d.textOf(n)
}

func (d *decoder) textOf(n uint64) (string, error) {
	raw, err := d.take(n)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(raw) {
		return "", d.fail("cbor", "a text string is no UTF-8")
	}
	return string(raw), nil
}

// bytes reads a byte string into memory of its own; it is not nil even if empty.
// Where textToo says so a text string will do.
func (d *decoder) bytes(textToo bool) ([]byte, error) {
	major, n, err := d.head()
	if err != nil {
		return nil, err
	}
	if major == majorText && textToo {
		s, err := d.textOf(n)
		if err != nil {
			return nil, err
		}
		return append([]byte{}, s...), nil
	}
	if major != majorBytes {
		return nil, d.fail("field", "want a byte string")
	}
	raw, err := d.take(n)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, raw...), nil
}

// variant reads what Rust's serde makes of an enumeration: a bare text string
// for a variant without fields, else a map of one entry, variant to fields. The
// message must end there.
func (d *decoder) variant(body func(name string, bare bool) error) error {
	major, n, err := d.head()
	if err != nil {
		return err
	}
	var name string
	switch {
	case major == majorText:
		name, err = d.textOf(n)
	case major == majorMap && (n == 1 || n == math.MaxUint64):
		name, err = d.text()
	default:
		err = d.fail("command", "want a text string or a map of one entry")
	}
	if err != nil {
		return err
	}
	if err := body(name, major == majorText); err != nil {
		return err
	}
	if n == math.MaxUint64 && !d.pastBreak() {
		return d.fail("command", "want a map of one entry")
	}
	if d.off != len(d.data) {
		return d.fail("trailing", "%d bytes follow the value", len(d.data)-d.off)
	}
	return nil
}

func (d *decoder) pastBreak() bool {
	if d.off < len(d.data) && d.data[d.off] == breakByte {
		d.off++
		return true
	}
	return false
}

// fields reads a map in any order. Its keys must be among names, each at most
// once; read is called at the value of each. All of the first required names
// must be there.
func (d *decoder) fields(names []string, required int, read func(name string) error) error {
	major, n, err := d.head()
	if err != nil {
		return err
	}
	if major != majorMap {
		return d.fail("field", "want a map")
	}
	if n != math.MaxUint64 && n > uint64(len(names)) {
		return d.fail("field", "a map of %d entries, of at most %d", n, len(names))
	}
	seen := make([]bool, len(names))
	for ; n > 0; n-- {
		if n > uint64(len(names)) && d.pastBreak() {
			break
		}
		key, err := d.text()
		if err != nil {
			return err
		}
		i := slices.Index(names, key)
		if i < 0 {
			return d.fail("field", "no field of this command is called %.40q", key)
		}
		if seen[i] {
			return d.fail("field", "%s is there twice", key)
		}
		seen[i] = true
		if err := read(key); err != nil {
			return err
		}
	}
	for i, name := range names[:required] {
		if !seen[i] {
			return d.fail("field", "%s is missing", name)
		}
	}
	return nil
}

// appendHead appends the shortest initial bytes of a data item.
func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return append(b, major|25, byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return append(b, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, major|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32),
		byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendUint(b []byte, n uint16) []byte { return appendHead(b, majorUint, uint64(n)) }

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(s))), s...)
}

// appendOptional writes null for nil, and an empty byte string for an empty one.
func appendOptional(b, s []byte) []byte {
	if s == nil {
		return append(b, simpleNull)
	}
	return appendBytes(b, s)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, simpleTrue)
	}
	return append(b, simpleFalse)
}

// appendVariant opens a map of one entry whose value is a map of n fields.
func appendVariant(b []byte, name string, n uint64) []byte {
	return appendHead(appendText(appendHead(b, majorMap, 1), name), majorMap, n)
}
