// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// maxDepth is the deepest nesting a request may have, unknown members included.
// The deepest shape of the service needs five levels.
const maxDepth = 32

// A lexer walks over one JSON text (RFC 8259) in place. It is stricter than
// encoding/json where leniency would let two readers see different requests:
// member names are compared exactly, a repeated name is an error, strings must
// be valid UTF-8 without lone surrogates. It allocates only for values that are
// asked for.
type lexer struct {
	data  []byte
	pos   int
	depth int
}

func (l *lexer) fault(format string, args ...any) error {
	return fmt.Errorf("%s at byte %d", fmt.Sprintf(format, args...), l.pos)
}

// next skips white space and returns the byte there, or 0 at the end.
func (l *lexer) next() byte {
	for l.pos < len(l.data) {
		switch c := l.data[l.pos]; c {
		case ' ', '\t', '\r', '\n':
			l.pos++
		default:
			return c
		}
	}
	return 0
}

func (l *lexer) expect(c byte) error {
	if l.next() != c {
		return l.fault("no %q", c)
	}
	l.pos++
	return nil
}

// end checks that nothing but white space is left.
func (l *lexer) end() error {
	if l.next() != 0 || l.pos < len(l.data) {
		return l.fault("bytes after the value")
	}
	return nil
}

// object calls member for each member; member must consume the value.
func (l *lexer) object(member func(name string) error) error {
	var seen names
	return l.sequence('{', '}', func() error {
		name, err := l.text()
		if err != nil {
			return err
		}
		if !seen.add(name) {
			return l.fault("a member name is repeated")
		}
		if err := l.expect(':'); err != nil {
			return err
		}
		return member(name)
	})
}

// names are the member names of one object. The first ones are looked through, the
// others in a map.
type names struct {
	few  [8]string
	n    int
	many map[string]bool
}

// add tells whether the name is new.
func (s *names) add(name string) bool {
	for _, seen := range s.few[:min(s.n, len(s.few))] {
		if seen == name {
			return false
		}
	}
	switch {
	case s.n < len(s.few):
		s.few[s.n] = name
	case s.many[name]:
		return false
	case s.many == nil:
		s.many = map[string]bool{name: true}
	default:
		s.many[name] = true
	}
	s.n++
	return true
}

// array calls element for each element; element must consume the value.
func (l *lexer) array(element func() error) error {
	return l.sequence('[', ']', element)
}

func (l *lexer) sequence(open, closing byte, item func() error) error {
	if err := l.expect(open); err != nil {
		return err
	}
	if l.depth++; l.depth > maxDepth {
		return l.fault("nested deeper than %d levels", maxDepth)
	}
	if l.next() == closing {
		l.pos++
		l.depth--
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if l.next() == closing {
			l.pos++
			l.depth--
			return nil
		}
		if err := l.expect(','); err != nil {
			return err
		}
	}
}

// raw returns the bytes of the string at the cursor with its quotes, checked
// but not unescaped, and whether it holds escapes.
func (l *lexer) raw() (quoted []byte, escaped bool, err error) {
	if l.next() != '"' {
		return nil, false, l.fault("no string")
	}
	for i := l.pos + 1; i < len(l.data); i++ {
		switch c := l.data[i]; {
		case c == '"':
			quoted = l.data[l.pos : i+1]
			if !utf8.Valid(quoted) {
				return nil, false, l.fault("a string is not UTF-8")
			}
			l.pos = i + 1
			return quoted, escaped, nil
		case c == '\\':
			escaped = true
			i++
		case c < 0x20:
			return nil, false, l.fault("a control character in a string")
		}
	}
	return nil, false, l.fault("a string has no end")
}

// text returns the string at the cursor.
func (l *lexer) text() (string, error) {
	quoted, escaped, err := l.raw()
	if err != nil {
		return "", err
	}
	if !escaped {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "", l.fault("a string has a bad escape")
	}
	if loneSurrogate(quoted) {
		return "", l.fault("a string has a lone surrogate")
	}
	return s, nil
}

// loneSurrogate tells whether a checked JSON string has a \u escape of one half
// of a surrogate pair without the other (RFC 8259 §8.2), which encoding/json
// would silently replace.
func loneSurrogate(quoted []byte) bool {
	high := false
	for i := 1; i < len(quoted)-1; i++ {
		isHigh, isLow := false, false
		if quoted[i] == '\\' {
			i++
			if quoted[i] == 'u' {
				isHigh, isLow = surrogate(quoted[i+1], quoted[i+2])
				i += 4
			}
		}
		if isLow != high {
			return true
		}
		high = isHigh
	}
	return high
}

// surrogate tells from the first two digits of a \u escape which half it is.
func surrogate(first, second byte) (high, low bool) {
	if first|0x20 != 'd' {
		return false, false
	}
	switch second | 0x20 {
	case '8', '9', 'a', 'b':
		return true, false
	case 'c', 'd', 'e', 'f':
		return false, true
	}
	return false, false
}

// number returns the digits of the number at the cursor.
func (l *lexer) number() ([]byte, error) {
	l.next()
	end := l.pos
	for end < len(l.data) && (l.data[end] >= '0' && l.data[end] <= '9' || l.data[end] == '-' || l.data[end] == '+' ||
		l.data[end] == '.' || l.data[end] == 'e' || l.data[end] == 'E') {
		end++
	}
	digits := l.data[l.pos:end]
	if !json.Valid(digits) {
		return nil, l.fault("no number")
	}
	l.pos = end
	return digits, nil
}

// literal consumes true, false or null if it is at the cursor.
func (l *lexer) literal(word string) bool {
	l.next()
	if len(l.data)-l.pos < len(word) || string(l.data[l.pos:l.pos+len(word)]) != word {
		return false
	}
	l.pos += len(word)
	return true
}

// skip consumes any value and checks it.
func (l *lexer) skip() error {
	switch l.next() {
	case '{':
		return l.object(func(string) error { return l.skip() })
	case '[':
		return l.array(l.skip)
	case '"':
		_, err := l.text()
		return err
	}
	if l.literal("true") || l.literal("false") || l.literal("null") {
		return nil
	}
	_, err := l.number()
	return err
}

// kind names the type of the value at the cursor as AWS's messages do; "" if none
// begins there.
func (l *lexer) kind() string {
	switch l.next() {
	case '{':
		return "START_OBJECT"
	case '[':
		return "START_ARRAY"
	case '"':
		return "STRING_VALUE"
	case 't':
		return "TRUE_VALUE"
	case 'f':
		return "FALSE_VALUE"
	case 'n':
		return "NULL_VALUE"
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return "NUMBER_VALUE"
	}
	return ""
}
