// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// Limits of the walker. Genuine documents nest three deep and have maps of at
// most 32 entries.
const (
	maxDepth   = 16
	maxEntries = 64
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
// only for strings in chunks, never more than the input is long, and descends
// at most maxDepth levels.
type walker struct {
	data []byte
	off  int
	// base is the offset of data in the document, for messages.
	base int
	f    *findings
}

// A fault is why a walker stopped.
type fault struct {
	rule    ruleID
	message string
}

func (e *fault) Error() string { return e.message }

// A head is the beginning of one item: its type and argument. For a definite
// string, array or map arg is the length; nothing may be allocated by it.
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

// pos is the offset of the next byte in the document.
func (w *walker) pos() int { return w.base + w.off }

func (w *walker) stop(rule ruleID, at int, format string, args ...any) error {
	return &fault{rule, fmt.Sprintf(format, args...) + fmt.Sprintf(", at byte %d", at)}
}

func (w *walker) flag(rule ruleID, at int, format string, args ...any) {
	if w.f.full(rule) {
		return
	}
	w.f.add(rule, "%s, at byte %d", fmt.Sprintf(format, args...), at)
}

// next reads one head. A break (RFC 8949 §3.2.1) is a simple value whose info
// is infoIndefinite.
func (w *walker) next() (head, error) {
	if w.off >= len(w.data) {
		return head{}, w.stop(ruleCBOR, w.pos(), "the data ends where an item should begin")
	}
	first := w.data[w.off]
	h := head{at: w.pos(), major: first >> 5, info: first & 31}
	w.off++
	switch {
	case h.info < 24:
		h.arg = uint64(h.info)
	case h.info <= 27:
		n := 1 << (h.info - 24)
		if len(w.data)-w.off < n {
			return head{}, w.stop(ruleCBOR, h.at, "the data ends within the head of an item")
		}
		var wide [8]byte
		copy(wide[8-n:], w.data[w.off:w.off+n])
		h.arg = binary.BigEndian.Uint64(wide[:])
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
func (w *walker) content(h head) ([]byte, error) {
	if !h.indefinite() {
		content, err := w.chunk(h)
		if err == nil && h.major == majorText && !utf8.Valid(content) {
			w.flag(ruleUTF8, h.at, "a text string is not UTF-8")
		}
		return content, err
	}
	w.flag(ruleIndefinite, h.at, "%v comes in chunks of indefinite number", h)
	joined := []byte{}
	for {
		c, err := w.next()
		if err != nil {
			return nil, err
		}
		if c.major == majorSimple && c.indefinite() {
			break
		}
		if c.major != h.major || c.indefinite() {
			return nil, w.stop(ruleCBOR, c.at, "%v within the chunks of %v", c, h)
		}
		part, err := w.content(c)
		if err != nil {
			return nil, err
		}
		joined = append(joined, part...)
	}
	return joined, nil
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

// entries calls entry with the encoded key of each pair of a map whose head was
// read; entry must read exactly one item, the value. A repeated key is reported
// wherever the map stands. An indefinite length is the caller's to judge.
func (w *walker) entries(h head, depth int, entry func(key []byte, at int) error) error {
	var keys [maxEntries][]byte
	for i := 0; !w.done(h, i); i++ {
		if i == maxEntries {
			return w.stop(ruleLimit, h.at, "a map has more than %d entries", maxEntries)
		}
		at, from := w.pos(), w.off
		if err := w.skip(depth + 1); err != nil {
			return err
		}
		keys[i] = w.data[from:w.off]
		for _, earlier := range keys[:i] {
			if bytes.Equal(earlier, keys[i]) {
				w.flag(ruleDuplicate, at, "a map has the same key twice")
				break
			}
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
		_, err := w.content(h)
		return err
	case majorArray:
		return w.elements(h, func(int) error { return w.skip(depth + 1) })
	case majorMap:
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
