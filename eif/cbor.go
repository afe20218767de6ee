// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"encoding/binary"

	"github.com/cretula/cretula/reason"
)

// CBOR major types (RFC 8949 §3.1) that a signature section uses.
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
)

// A walker reads CBOR with definite lengths and shortest integers, the only
// form that AWS writes, and keeps the first error. Everything it returns after
// an error is zero.
type walker struct {
	data []byte
	pos  int
	// base is the file offset of data[0], or of the outermost data where this
	// is nested in an array of integers and has no offset of its own.
	base  int64
	exact bool
	err   error
}

func (w *walker) fail(format string, args ...any) {
	if w.err != nil {
		return
	}
	at := w.base
	if w.exact {
		at += int64(w.pos)
	}
	w.err = reason.New(reason.Malformed, "eif.signature.cbor", "offset %d: "+format, append([]any{at}, args...)...)
}

// head reads the first bytes of an item of that major type and returns its
// argument.
func (w *walker) head(major byte, what string) uint64 {
	if w.err != nil {
		return 0
	}
	if w.pos >= len(w.data) {
		w.fail("%s is missing", what)
		return 0
	}
	first := w.data[w.pos]
	if first>>5 != major {
		w.fail("%s is of CBOR type %d, not %d", what, first>>5, major)
		return 0
	}
	info := first & 31
	if info < 24 {
		w.pos++
		return uint64(info)
	}
	if info > 27 {
		w.fail("%s has an indefinite or reserved length", what)
		return 0
	}
	width := 1 << (info - 24)
	if len(w.data)-w.pos-1 < width {
		w.fail("%s is cut off", what)
		return 0
	}
	var wide [8]byte
	copy(wide[8-width:], w.data[w.pos+1:])
	value := binary.BigEndian.Uint64(wide[:])
	// The least value that needs this width: 24, 2^8, 2^16, 2^32.
	if least := [...]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]; value < least {
		w.fail("%s is not written in the shortest form", what)
		return 0
	}
	w.pos += 1 + width
	return value
}

// count reads the head of an array or map, which must have n entries.
func (w *walker) count(major byte, n uint64, what string) {
	if got := w.head(major, what); w.err == nil && got != n {
		w.fail("%s has %d entries, not %d", what, got, n)
	}
}

// str reads a byte or text string without copying it.
func (w *walker) str(major byte, what string) []byte {
	n := w.head(major, what)
	if w.err != nil {
		return nil
	}
	if n > uint64(len(w.data)-w.pos) {
		w.fail("%s is cut off", what)
		return nil
	}
	s := w.data[w.pos : w.pos+int(n)]
	w.pos += int(n)
	return s
}

// key reads a map key, which must be this one.
func (w *walker) key(want string) {
	if got := w.str(majorText, "the key "+want); w.err == nil && string(got) != want {
		w.fail("a key is %.40q, not %q", got, want)
	}
}

// octets reads an array of unsigned integers below 256, which is how AWS's
// builder writes bytes here. Each takes at least one byte of the data, so that
// no more is allocated than there is.
func (w *walker) octets(what string) []byte {
	n := w.head(majorArray, what)
	if w.err != nil {
		return nil
	}
	if n > uint64(len(w.data)-w.pos) {
		w.fail("%s is cut off", what)
		return nil
	}
	out := make([]byte, 0, n)
	for range n {
		v := w.head(majorUint, what)
		if w.err == nil && v > 255 {
			w.fail("%s holds %d, which is no octet", what, v)
		}
		if w.err != nil {
			return nil
		}
		out = append(out, byte(v))
	}
	return out
}

// end refuses whatever is left.
func (w *walker) end(what string) {
	if w.err == nil && w.pos != len(w.data) {
		w.fail("%d bytes after %s", len(w.data)-w.pos, what)
	}
}
