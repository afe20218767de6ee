// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// quote returns s in quotes, cut to a length that fits into a message.
func quote(s string) string {
	const limit = 80
	if len(s) <= limit {
		return strconv.Quote(s)
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "…"
}

// string reads a string; the reader stands on its opening quote.
func (r *reader) string() (string, error) {
	start := r.off
	r.off++
	var b strings.Builder
	for r.off < len(r.doc) {
		switch c := r.doc[r.off]; {
		case c == '"':
			r.off++
			return b.String(), nil
		case c < ' ':
			return "", r.fault("policy.json.syntax", "a control character in a string: write it as an escape")
		case c == '\\':
			if err := r.escape(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
			r.off++
		}
	}
	return "", fault(r.doc, start, "policy.json.syntax", "a string without an end")
}

const (
	escapeLetters = `"\/bfnrt`
	escapeValues  = "\"\\/\b\f\n\r\t"
)

func (r *reader) escape(b *strings.Builder) error {
	start := r.off
	r.off++
	if r.off == len(r.doc) {
		return r.fault("policy.json.syntax", "the policy ends too early")
	}
	c := r.doc[r.off]
	r.off++
	if i := strings.IndexByte(escapeLetters, c); i >= 0 {
		b.WriteByte(escapeValues[i])
		return nil
	}
	if c != 'u' {
		return fault(r.doc, start, "policy.json.syntax", "an unknown escape")
	}
	unit, ok := r.hex4()
	if ok && utf16.IsSurrogate(unit) {
		ok = r.off+2 <= len(r.doc) && r.doc[r.off] == '\\' && r.doc[r.off+1] == 'u'
		if ok {
			r.off += 2
			var low rune
			low, ok = r.hex4()
			unit = utf16.DecodeRune(unit, low)
			ok = ok && unit != utf8.RuneError
		}
	}
	if !ok {
		return fault(r.doc, start, "policy.json.escape", "an escape that is no character")
	}
	b.WriteRune(unit)
	return nil
}

func (r *reader) hex4() (rune, bool) {
	if r.off+4 > len(r.doc) {
		return 0, false
	}
	var unit rune
	for _, c := range r.doc[r.off : r.off+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(c)
	}
	r.off += 4
	return unit, true
}

// appendString writes s as a JSON string of characters that Parse takes.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range s {
		if i := strings.IndexRune(escapeValues, c); i >= 0 && c != '/' {
			b = append(b, '\\', escapeLetters[i])
			continue
		}
		if c >= ' ' && c <= 0xFF {
			b = utf8.AppendRune(b, c)
			continue
		}
		units := utf16.AppendRune(nil, c)
		for _, u := range units {
			const digits = "0123456789abcdef"
			b = append(b, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
		}
	}
	return append(b, '"')
}
