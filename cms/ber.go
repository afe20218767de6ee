// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"fmt"

	"github.com/cretula/cretula/reason"
)

// A reader walks over one envelope from left to right. It knows which element
// must come next, so it needs no recursion and no tree, and it allocates
// nothing. The first fault sticks; every later call does nothing.
type reader struct {
	data []byte
	pos  int
	end  int // of the innermost element of definite length
	err  *reason.Error
}

// A scope is a constructed element that was entered and must be left.
type scope struct {
	name       string
	indefinite bool
	end        int // its own end, if definite
	outer      int // the end to go back to
}

// fail records the first fault, with the offset at which it lies.
func (r *reader) fail(at int, why reason.Reason, rule, format string, args ...any) {
	if r.err == nil {
		r.err = reason.New(why, rule, "envelope: %s, at offset %d", fmt.Sprintf(format, args...), at)
	}
}

// peek returns the next tag, or 0 at the end of the innermost element.
func (r *reader) peek() byte {
	if r.err != nil || r.pos >= r.end {
		return 0
	}
	return r.data[r.pos]
}

// more reports whether the element of s has further contents.
func (r *reader) more(s scope) bool {
	if r.err != nil {
		return false
	}
	return r.pos < r.end && !(s.indefinite && r.data[r.pos] == 0)
}

// header reads a tag, which must be the given one, and a length, which is -1
// if it is indefinite. Lengths are minimal and at most two octets long: more
// than MaxEnvelope allows cannot be meant.
func (r *reader) header(tag byte, name string) (length int) {
	if r.err != nil {
		return 0
	}
	start := r.pos
	if r.end-r.pos < 2 {
		r.fail(start, reason.Malformed, "cms.ber.cut", "%s is cut off", name)
		return 0
	}
	if got := r.data[r.pos]; got != tag {
		r.fail(start, reason.Malformed, "cms.ber.tag", "%s has tag 0x%02x, not 0x%02x", name, got, tag)
		return 0
	}
	first := r.data[r.pos+1]
	r.pos += 2
	switch {
	case first < 0x80:
		length = int(first)
	case first == 0x80:
		return -1
	case first <= 0x82:
		n := int(first & 0x7f)
		if r.end-r.pos < n {
			r.fail(start, reason.Malformed, "cms.ber.cut", "%s is cut off", name)
			return 0
		}
		for _, b := range r.data[r.pos : r.pos+n] {
			length = length<<8 | int(b)
		}
		r.pos += n
		if length < 0x80 || n == 2 && length < 0x100 {
			r.fail(start, reason.Malformed, "cms.ber.length", "%s has a length that is not minimal", name)
			return 0
		}
	default:
		r.fail(start, reason.Malformed, "cms.ber.length", "%s has a length of more than two octets", name)
		return 0
	}
	if length > r.end-r.pos {
		r.fail(start, reason.Malformed, "cms.ber.cut", "%s of %d bytes has only %d left", name, length, r.end-r.pos)
		return 0
	}
	return length
}

// enter reads the header of a constructed element of either length.
func (r *reader) enter(tag byte, name string) scope {
	s := scope{name: name, outer: r.end}
	length := r.header(tag, name)
	if r.err != nil {
		return s
	}
	if length < 0 {
		s.indefinite = true
		return s
	}
	s.end = r.pos + length
	r.end = s.end
	return s
}

// enterDefinite is enter for the elements that have a definite length in every
// form that is read.
func (r *reader) enterDefinite(tag byte, name string) scope {
	start := r.pos
	s := r.enter(tag, name)
	if s.indefinite {
		r.fail(start, reason.Malformed, "cms.ber.length", "%s has an indefinite length", name)
	}
	return s
}

// leave checks that the element ends here: at its length, or with the
// end-of-contents octets (X.690 §8.1.5).
func (r *reader) leave(s scope) {
	switch {
	case r.err != nil:
	case !s.indefinite:
		if r.pos != s.end {
			r.fail(r.pos, reason.Malformed, "cms.ber.extra", "%s has more in it than it should", s.name)
		}
		r.end = s.outer
	case r.end-r.pos < 2:
		r.fail(r.pos, reason.Malformed, "cms.ber.cut", "%s has no end", s.name)
	case r.data[r.pos] != 0 || r.data[r.pos+1] != 0:
		r.fail(r.pos, reason.Malformed, "cms.ber.extra", "%s has more in it than it should", s.name)
	default:
		r.pos += 2
	}
}

// primitive reads a primitive element and returns its contents, a part of data.
func (r *reader) primitive(tag byte, name string) []byte {
	start := r.pos
	length := r.header(tag, name)
	if length < 0 {
		r.fail(start, reason.Malformed, "cms.ber.length", "%s has an indefinite length", name)
	}
	if r.err != nil {
		return nil
	}
	value := r.data[r.pos : r.pos+length : r.pos+length]
	r.pos += length
	return value
}

// oid reads an object identifier, which must be the given one.
func (r *reader) oid(want []byte, why reason.Reason, rule, name, wanted string) {
	start := r.pos
	got := r.primitive(tagOID, name)
	if r.err == nil && !bytes.Equal(got, want) {
		r.fail(start, why, rule, "%s is not %s", name, wanted)
	}
}

// integer reads an INTEGER of one octet: every version of RFC 5652 is one.
func (r *reader) integer(name string) byte {
	start := r.pos
	value := r.primitive(tagInteger, name)
	if r.err == nil && (len(value) != 1 || value[0] > 0x7f) {
		r.fail(start, reason.Malformed, "cms.version", "%s is not a number from 0 to 127", name)
	}
	if r.err != nil {
		return 0
	}
	return value[0]
}
