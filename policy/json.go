// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"unicode/utf8"

	"github.com/cretula/cretula/reason"
)

// maxDepth bounds nesting. A policy needs seven levels.
const maxDepth = 10

type nodeKind uint8

const (
	object nodeKind = iota + 1
	array
	text
	number
	boolean
	null
)

var nodeNames = [...]string{
	object: "an object", array: "an array", text: "a string",
	number: "a number", boolean: "a boolean", null: "null",
}

// A node is one JSON value and where it begins.
type node struct {
	kind    nodeKind
	off     int
	text    string // of a string, decoded; of a number or boolean, as written
	members []member
	items   []*node
}

type member struct {
	name  string
	off   int
	value *node
}

// fault returns a refusal whose message begins with the position: lines from 1,
// columns from 1 in characters.
func fault(doc []byte, off int, rule, format string, args ...any) error {
	line, column := position(doc, off)
	return reason.New(reason.Malformed, rule, "line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
}

func position(doc []byte, off int) (line, column int) {
	line, start := 1, 0
	off = min(off, len(doc))
	for i, c := range doc[:off] {
		if c == '\n' {
			line, start = line+1, i+1
		}
	}
	return line, utf8.RuneCount(doc[start:off]) + 1
}

// A reader reads one JSON text (RFC 8259) of the characters that AWS takes in a
// policy: U+0009, U+000A, U+000D and U+0020 to U+00FF. Duplicate names, and
// escapes that are no character, are refused.
type reader struct {
	doc []byte
	off int
}

func (r *reader) fault(rule, format string, args ...any) error {
	return fault(r.doc, r.off, rule, format, args...)
}

func (r *reader) document() (*node, error) {
	for off := 0; off < len(r.doc); {
		c, n := utf8.DecodeRune(r.doc[off:])
		if c > 0xFF || c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == utf8.RuneError {
			return nil, fault(r.doc, off, "policy.json.character", "a character that a policy cannot hold")
		}
		off += n
	}
	n, err := r.value(1)
	if err != nil {
		return nil, err
	}
	if r.space(); r.off < len(r.doc) {
		return nil, r.fault("policy.json.syntax", "text after the end of the policy")
	}
	return n, nil
}

func (r *reader) space() {
	for r.off < len(r.doc) {
		switch r.doc[r.off] {
		case ' ', '\t', '\n', '\r':
			r.off++
		default:
			return
		}
	}
}

// peek skips space and returns the next byte, 0 at the end.
func (r *reader) peek() byte {
	if r.space(); r.off < len(r.doc) {
		return r.doc[r.off]
	}
	return 0
}

func (r *reader) value(depth int) (*node, error) {
	c := r.peek()
	if depth > maxDepth {
		return nil, r.fault("policy.json.depth", "nested deeper than any policy can be")
	}
	n := &node{off: r.off}
	var err error
	switch {
	case c == '{':
		n.kind = object
		n.members, err = r.object(depth)
	case c == '[':
		n.kind = array
		n.items, err = r.array(depth)
	case c == '"':
		n.kind = text
		n.text, err = r.string()
	case c == '-' || c >= '0' && c <= '9':
		n.kind = number
		n.text, err = r.number()
	default:
		n.kind, n.text, err = r.word()
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (r *reader) object(depth int) ([]member, error) {
	r.off++
	var members []member
	seen := map[string]bool{}
	if r.peek() == '}' {
		r.off++
		return nil, nil
	}
	for {
		if r.peek() != '"' {
			return nil, r.fault("policy.json.syntax", "want a member's name in quotes")
		}
		m := member{off: r.off}
		var err error
		if m.name, err = r.string(); err != nil {
			return nil, err
		}
		if seen[m.name] {
			return nil, fault(r.doc, m.off, "policy.json.duplicate", "%s is there twice", quote(m.name))
		}
		seen[m.name] = true
		if r.peek() != ':' {
			return nil, r.fault("policy.json.syntax", "want a colon after %s", quote(m.name))
		}
		r.off++
		if m.value, err = r.value(depth + 1); err != nil {
			return nil, err
		}
		members = append(members, m)
		if done, err := r.next('}'); done || err != nil {
			return members, err
		}
	}
}

func (r *reader) array(depth int) ([]*node, error) {
	r.off++
	if r.peek() == ']' {
		r.off++
		return nil, nil
	}
	var items []*node
	for {
		n, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, n)
		if done, err := r.next(']'); done || err != nil {
			return items, err
		}
	}
}

// next reads a comma, or the closing bracket and says so.
func (r *reader) next(closing byte) (done bool, err error) {
	switch c := r.peek(); c {
	case closing:
		r.off++
		return true, nil
	case ',':
		r.off++
		return false, nil
	}
	return false, r.fault("policy.json.syntax", "want a comma or %q", closing)
}

func (r *reader) word() (nodeKind, string, error) {
	for _, w := range []struct {
		text string
		kind nodeKind
	}{{"true", boolean}, {"false", boolean}, {"null", null}} {
		if rest := r.doc[r.off:]; len(rest) >= len(w.text) && string(rest[:len(w.text)]) == w.text {
			r.off += len(w.text)
			return w.kind, w.text, nil
		}
	}
	if r.off == len(r.doc) {
		return 0, "", r.fault("policy.json.syntax", "the policy ends too early")
	}
	return 0, "", r.fault("policy.json.syntax", "want a JSON value")
}

func (r *reader) number() (string, error) {
	start := r.off
	if r.doc[r.off] == '-' {
		r.off++
	}
	whole := r.off
	if !r.digits() || r.doc[whole] == '0' && r.off > whole+1 {
		return "", fault(r.doc, start, "policy.json.syntax", "want a number")
	}
	if r.off < len(r.doc) && r.doc[r.off] == '.' {
		if r.off++; !r.digits() {
			return "", r.fault("policy.json.syntax", "want a digit after the point")
		}
	}
	if r.off < len(r.doc) && (r.doc[r.off] == 'e' || r.doc[r.off] == 'E') {
		if r.off++; r.off < len(r.doc) && (r.doc[r.off] == '+' || r.doc[r.off] == '-') {
			r.off++
		}
		if !r.digits() {
			return "", r.fault("policy.json.syntax", "want a digit in the exponent")
		}
	}
	return string(r.doc[start:r.off]), nil
}

func (r *reader) digits() bool {
	start := r.off
	for r.off < len(r.doc) && r.doc[r.off] >= '0' && r.doc[r.off] <= '9' {
		r.off++
	}
	return r.off > start
}
