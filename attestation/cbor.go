// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Limits of the walker. Genuine documents nest three deep and have maps of at
// most 32 entries.
const (
	maxDepth    = 16
	maxKeyDepth = 2
	maxEntries  = 64
)

// Major types of CBOR, RFC 8949 §3.1.
const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// Additional information of a head, RFC 8949 §3.
const (
	infoNull       = 22
	infoIndefinite = 31
)

var majorNames = [...]string{
	"an unsigned integer", "a negative integer", "a byte string", "a text string",
	"an array", "a map", "a tag", "a simple value",
}

// A walker reads CBOR from front to back. It understands every well-formed
// encoding (RFC 8949 §5.3.1), reports those that are not the preferred one of
// §4.1 as findings and goes on; what is not well-formed stops it. It allocates
// only for strings in chunks and for keys that are not in their preferred
// encoding, never more than a few times the input's length, and descends at most
// maxDepth levels.
type walker struct {
	data []byte
	off  int
	// base is the offset of data in the document.
	base int
	// joined, if not nil, is what data was joined from: encoded chunks, the
	// first of which begins at base.
	joined []byte
	// f is nil where nothing is to be reported.
	f *findings
	// odd counts what makes two encodings of one value differ.
	odd int
}

// A fault is why a walker stopped, and where in the document.
type fault struct {
	rule    ruleID
	message string
	at      int
}

func (e *fault) Error() string { return e.message }

// A head is the beginning of one item: its offset in the walker's data, its type
// and argument. For a definite string, array or map arg is the length; nothing
// may be allocated by it.
type head struct {
	at    int
	major byte
	info  byte
	arg   uint64
}

func (h head) indefinite() bool { return h.info == infoIndefinite }
func (h head) isNull() bool     { return h.major == majorSimple && h.info == infoNull }

func (h head) String() string {
	if h.isNull() {
		return "null"
	}
	return majorNames[h.major]
}

// where returns the offset in the document of a byte of the walker's data.
func (w *walker) where(off int) int {
	if w.joined == nil {
		return w.base + off
	}
	c := &walker{data: w.joined}
	for {
		h, err := c.next()
		if err != nil || h.major == majorSimple {
			return w.base + h.at
		}
		if uint64(off) < h.arg {
			return w.base + c.off + off
		}
		off -= int(h.arg)
		c.off += int(h.arg)
	}
}

// inside returns a walker of the content of a string that w has just read.
func (w *walker) inside(h head, content []byte) walker {
	inner := walker{data: content, f: w.f}
	if h.indefinite() {
		inner.base = w.where(h.at + 1)
		inner.joined = w.data[h.at+1 : w.off]
	} else {
		inner.base = w.where(w.off - len(content))
	}
	return inner
}

func (w *walker) stop(rule ruleID, at int, format string, args ...any) error {
	return &fault{rule, fmt.Sprintf(format, args...), w.where(at)}
}

func (w *walker) flag(rule ruleID, at int, format string, args ...any) {
	if rule == ruleMinimal || rule == ruleIndefinite {
		w.odd++
	}
	if !w.f.full(rule) {
		w.f.addAt(rule, w.where(at), format, args...)
	}
}

// next reads one head. A break (RFC 8949 §3.2.1) is a simple value whose info
// is infoIndefinite.
func (w *walker) next() (head, error) {
	if w.off >= len(w.data) {
		return head{}, w.stop(ruleCBOR, w.off, "the data ends where an item should begin")
	}
	first := w.data[w.off]
	h := head{at: w.off, major: first >> 5, info: first & 31}
	w.off++
	switch {
	case h.info < 24:
		h.arg = uint64(h.info)
	case h.info <= 27:
		n := 1 << (h.info - 24)
		rest := w.data[w.off:]
		if len(rest) < n {
			return head{}, w.stop(ruleCBOR, h.at, "the data ends within the head of an item")
		}
		switch n {
		case 1:
			h.arg = uint64(rest[0])
		case 2:
			h.arg = uint64(binary.BigEndian.Uint16(rest))
		case 4:
			h.arg = uint64(binary.BigEndian.Uint32(rest))
		default:
			h.arg = binary.BigEndian.Uint64(rest)
		}
		w.off += n
		return h, w.checkWidth(h, n)
	case h.info == infoIndefinite && h.major != majorUint && h.major != majorNegative && h.major != majorTag:
	default:
		return head{}, w.stop(ruleCBOR, h.at, "0x%02x begins no item", first)
	}
	return h, nil
}

// checkWidth reports an argument of n bytes that has a shorter form, RFC 8949
// §4.1.
func (w *walker) checkWidth(h head, n int) error {
	if h.major == majorSimple && n > 1 {
		w.odd++ // a number has up to three of these forms
	}
	shorter := false
	switch {
	case h.major != majorSimple && n == 1:
		shorter = h.arg < 24
	case h.major != majorSimple:
		shorter = h.arg>>(4*n) == 0
	case n == 1 && h.arg < 32:
		return w.stop(ruleCBOR, h.at, "simple value %d is not well-formed", h.arg)
	case n == 4:
		shorter = fitsHalf(math.Float32frombits(uint32(h.arg)))
	case n == 8:
		f := math.Float64frombits(h.arg)
		shorter = math.IsNaN(f) || float64(float32(f)) == f
	}
	if shorter {
		w.flag(ruleMinimal, h.at, "a number is written in %d bytes where fewer would do", n)
	}
	return nil
}

// fitsHalf tells whether f is exactly a number of IEEE 754 binary16.
func fitsHalf(f float32) bool {
	wide := float64(f)
	if math.IsNaN(wide) || math.IsInf(wide, 0) {
		return true
	}
	const step = 1 << 24
	return math.Float32bits(f)&0x1fff == 0 && math.Abs(wide) <= 65504 && wide*step == math.Trunc(wide*step)
}

// content returns the bytes of a string whose head was read. Chunks, which the
// preferred encoding has not, are reported and joined.
func (w *walker) content(h head) (content []byte, err error) {
	content = []byte{}
	err = w.chunks(h, func(chunk []byte) {
		if h.indefinite() {
			content = append(content, chunk...)
		} else {
			content = chunk
		}
	})
	if err != nil {
		return nil, err
	}
	return content, nil
}

// chunks calls use with each chunk of a string whose head was read, once if it
// is whole.
func (w *walker) chunks(h head, use func([]byte)) error {
	if !h.indefinite() {
		content, err := w.chunk(h)
		if err != nil {
			return err
		}
		if h.major == majorText && !utf8.Valid(content) {
			w.flag(ruleUTF8, h.at, "a text string is not UTF-8")
		}
		use(content)
		return nil
	}
	w.flag(ruleIndefinite, h.at, "%v comes in chunks of indefinite number", h)
	for {
		c, err := w.next()
		if err != nil {
			return err
		}
		if c.major == majorSimple && c.indefinite() {
			return nil
		}
		if c.major != h.major || c.indefinite() {
			return w.stop(ruleCBOR, c.at, "%v within the chunks of %v", c, h)
		}
		if err := w.chunks(c, use); err != nil {
			return err
		}
	}
}

func (w *walker) chunk(h head) ([]byte, error) {
	if h.arg > uint64(len(w.data)-w.off) {
		return nil, w.stop(ruleCBOR, h.at, "%v claims %d bytes, %d are left", h, h.arg, len(w.data)-w.off)
	}
	end := w.off + int(h.arg)
	content := w.data[w.off:end:end]
	w.off = end
	return content, nil
}

// done tells whether the i-th member of an array or map is beyond its end. It
// takes the break off an indefinite one.
func (w *walker) done(h head, i int) bool {
	if !h.indefinite() {
		return uint64(i) >= h.arg
	}
	if w.off < len(w.data) && w.data[w.off] == majorSimple<<5|infoIndefinite {
		w.off++
		return true
	}
	return false
}

// elements calls element at each member of an array whose head was read;
// element must read exactly one item.
func (w *walker) elements(h head, element func(i int) error) error {
	if h.indefinite() {
		w.flag(ruleIndefinite, h.at, "an array has indefinite length")
	}
	for i := 0; !w.done(h, i); i++ {
		if err := element(i); err != nil {
			return err
		}
	}
	return nil
}

// entries calls entry with the key of each pair of a map whose head was read, in
// its preferred encoding; entry must read exactly one item, the value. A repeated
// key, in whatever encodings, is reported wherever the map stands. An indefinite
// length is the caller's to judge.
func (w *walker) entries(h head, depth int, entry func(key []byte, at int) error) error {
	var keys [maxEntries][]byte
	ascending := true // so far, which spares the search for a key among the earlier
	// What is within a key is nested less deep, so that the cost of comparing
	// keys is bounded.
	depth = max(depth, maxDepth-maxKeyDepth) + 1
	for i := 0; !w.done(h, i); i++ {
		if i == maxEntries {
			return w.stop(ruleLimit, h.at, "a map has more than %d entries", maxEntries)
		}
		at, odd := w.off, w.odd
		if err := w.skip(depth); err != nil {
			return err
		}
		keys[i] = w.data[at:w.off:w.off]
		if w.odd > odd {
			keys[i] = canonical(keys[i])
		}
		ascending = ascending && (i == 0 || bytes.Compare(keys[i-1], keys[i]) < 0)
		if !ascending && slices.ContainsFunc(keys[:i], func(earlier []byte) bool { return bytes.Equal(earlier, keys[i]) }) {
			w.flag(ruleDuplicate, at, "a map has the same key twice")
		}
		if err := entry(keys[i], at); err != nil {
			return err
		}
	}
	return nil
}

// skip reads one item of any type, checking it as it goes.
func (w *walker) skip(depth int) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	return w.rest(h, depth)
}

// rest reads what is left of an item whose head was read.
func (w *walker) rest(h head, depth int) error {
	if depth > maxDepth {
		return w.stop(ruleDepth, h.at, "items nest more than %d deep", maxDepth)
	}
	switch h.major {
	case majorBytes, majorText:
		return w.chunks(h, func([]byte) {})
	case majorArray:
		return w.elements(h, func(int) error { return w.skip(depth + 1) })
	case majorMap:
		w.odd++ // its pairs can stand in any order
		if h.indefinite() {
			w.flag(ruleIndefinite, h.at, "a map has indefinite length")
		}
		return w.entries(h, depth, func([]byte, int) error { return w.skip(depth + 1) })
	case majorTag:
		return w.skip(depth + 1)
	case majorSimple:
		if h.indefinite() {
			return w.stop(ruleCBOR, h.at, "a break where an item should begin")
		}
	}
	return nil
}
