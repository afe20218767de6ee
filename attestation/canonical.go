// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// canonical returns an encoding of a well-formed item that is the same for all
// encodings of one value: the preferred one of RFC 8949 §4.1, maps in bytewise
// order, but every floating-point number as a double. Numbers of different types
// are different values (§5.6.1).
func canonical(item []byte) []byte {
	w := &walker{data: item}
	return w.canonical(make([]byte, 0, len(item)))
}

// canonical appends the next item. It was read before, so nothing can be wrong
// with it. What has a length comes first and gets its head afterwards.
func (w *walker) canonical(dst []byte) []byte {
	h, err := w.next()
	if err != nil {
		return dst
	}
	start := len(dst)
	n := 0
	switch h.major {
	case majorBytes, majorText:
		w.chunks(h, func(chunk []byte) { dst = append(dst, chunk...) })
		n = len(dst) - start
	case majorArray:
		for ; !w.done(h, n); n++ {
			dst = w.canonical(dst)
		}
	case majorMap:
		var ends [maxEntries]int
		for ; n < maxEntries && !w.done(h, n); n++ {
			dst = w.canonical(w.canonical(dst))
			ends[n] = len(dst) - start
		}
		sortPairs(dst[start:], ends[:n])
	case majorTag:
		return w.canonical(appendHead(dst, h.major, h.arg))
	case majorSimple:
		return appendSimple(dst, h)
	default:
		return appendHead(dst, h.major, h.arg)
	}
	var buf [9]byte
	return slices.Insert(dst, start, appendHead(buf[:0], h.major, uint64(n))...)
}

// sortPairs sorts the pairs that end at ends, in bytewise order.
func sortPairs(pairs []byte, ends []int) {
	var list [maxEntries][]byte
	from := 0
	for i, end := range ends {
		list[i] = pairs[from:end]
		from = end
	}
	slices.SortFunc(list[:len(ends)], bytes.Compare)
	copy(pairs, bytes.Join(list[:len(ends)], nil))
}

func appendSimple(dst []byte, h head) []byte {
	var f float64
	switch h.info {
	case 25:
		f = halfValue(uint16(h.arg))
	case 26:
		f = float64(math.Float32frombits(uint32(h.arg)))
	case 27:
		f = math.Float64frombits(h.arg)
	default:
		return appendHead(dst, h.major, h.arg)
	}
	if math.IsNaN(f) {
		f = math.NaN()
	}
	return binary.BigEndian.AppendUint64(append(dst, majorSimple<<5|27), math.Float64bits(f))
}

// halfValue is the number that an IEEE 754 binary16 stands for.
func halfValue(bits uint16) float64 {
	exponent, mantissa := int(bits>>10&31), float64(bits&1023)
	value := math.Ldexp(mantissa, -24)
	switch {
	case exponent == 31 && mantissa > 0:
		return math.NaN()
	case exponent == 31:
		value = math.Inf(1)
	case exponent > 0:
		value = math.Ldexp(1024+mantissa, exponent-25)
	}
	if bits>>15 == 1 {
		value = math.Copysign(value, -1)
	}
	return value
}

// appendHead appends the preferred head of an item with that argument.
func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}
