// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/cretula/cretula/reason"
)

// maxDepth is how many objects and lists may be in one another: serde_json, with
// which AWS's tools read metadata, stops at the next one.
const maxDepth = 127

// checkJSON refuses, naming the offset in the file where data begin at base, what
// is no JSON text in UTF-8 and what two readers of JSON could understand
// differently: a key that an object has twice, and half of a surrogate pair.
func checkJSON(data []byte, base int64) error {
	refuse := func(at int64, rule, format string, args ...any) error {
		return reason.New(reason.Malformed, "eif.metadata."+rule, "offset %d: "+format, append([]any{base + at}, args...)...)
	}
	if !utf8.Valid(data) {
		return refuse(int64(validPrefix(data)), "json", "the metadata is not UTF-8")
	}
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		at := int64(0)
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = max(syntax.Offset-1, 0) // Offset counts the bytes read
			if strings.Contains(syntax.Error(), "unexpected end") {
				at = int64(len(data))
			}
		}
		return refuse(at, "json", "the metadata is no JSON: %v", err)
	}
	at, rule, problem := ambiguity(data)
	if rule == "" {
		return nil
	}
	return refuse(int64(at), rule, "%s", problem)
}

// validPrefix returns how many bytes of data are UTF-8.
func validPrefix(data []byte) int {
	at := 0
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// ambiguity goes through a valid JSON text and returns the first thing that
// checkJSON refuses in one; rule is "" if there is none.
func ambiguity(data []byte) (at int, rule, problem string) {
	// One for each object and list that is open; nil for lists.
	var open []map[string]bool
	key := false // whether the next string is a key
	for at < len(data) {
		switch data[at] {
		case '{':
			open, key = append(open, map[string]bool{}), true
		case '[':
			open, key = append(open, nil), false
		case '}', ']':
			open = open[:len(open)-1]
		case ',':
			key = open[len(open)-1] != nil
		case '"':
			text, bad := stringAt(data, at)
			if bad >= 0 {
				return bad, "json", "half of a surrogate pair in the metadata"
			}
			if key {
				name, seen := unquote(text), open[len(open)-1]
				if seen[name] {
					return at, "duplicate", fmt.Sprintf("the metadata have the key %.40q twice in one object", name)
				}
				seen[name], key = true, false
			}
			at += len(text) - 1
		}
		if len(open) > maxDepth {
			return at, "json", fmt.Sprintf("more than %d objects and lists of the metadata in one another", maxDepth)
		}
		at++
	}
	return 0, "", ""
}

// stringAt returns the string that begins at a place of a valid JSON text, quotes
// included. bad is where half of a surrogate pair is escaped in it (RFC 8259
// §8.2), which Go turns into U+FFFD and serde_json refuses; else -1.
func stringAt(data []byte, start int) (text []byte, bad int) {
	at := start + 1
	for data[at] != '"' {
		if data[at] != '\\' {
			at++
			continue
		}
		if r := escaped(data[at:]); utf16.IsSurrogate(r) {
			if utf16.DecodeRune(r, escaped(data[at+6:])) == utf8.RuneError {
				return nil, at
			}
			at += 10
		}
		at += 2
	}
	return data[start : at+1], -1
}

// escaped returns the UTF-16 unit that data begin with as \uXXXX, or -1.
func escaped(data []byte) rune {
	var unit [2]byte
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return -1
	}
	if _, err := hex.Decode(unit[:], data[2:6]); err != nil {
		return -1
	}
	return rune(unit[0])<<8 | rune(unit[1])
}

// unquote returns what a JSON string says.
func unquote(text []byte) string {
	if !bytes.ContainsRune(text, '\\') {
		return string(text[1 : len(text)-1])
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		panic(err) // it was valid before
	}
	return s
}
