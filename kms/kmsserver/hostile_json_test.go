// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A JSON value that keeps the order of members, may have members twice and may
// hold text that is no JSON at all: *object, *array, verbatim, string, json.Number,
// bool, nil.
type (
	object struct{ members []member }
	member struct {
		name  string
		value any
	}
	array    struct{ items []any }
	verbatim string
)

// parseTree reads JSON text; false if it is none.
func parseTree(text []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readTree(d)
	return v, err == nil && d.InputOffset() == int64(len(bytes.TrimRight(text, " \t\r\n")))
}

func readTree(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := new(object)
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := readTree(d)
			if err != nil {
				return nil, err
			}
			o.members = append(o.members, member{fmt.Sprint(name), value})
		}
		_, err = d.Token()
		return o, err
	case json.Delim('['):
		a := new(array)
		for d.More() {
			value, err := readTree(d)
			if err != nil {
				return nil, err
			}
			a.items = append(a.items, value)
		}
		_, err = d.Token()
		return a, err
	}
	return token, nil
}

// appendTree writes a value.
func appendTree(b []byte, v any) []byte {
	switch v := v.(type) {
	case *object:
		b = append(b, '{')
		for i, m := range v.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, quoteJSON(m.name)...), ':')
			b = appendTree(b, m.value)
		}
		return append(b, '}')
	case *array:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTree(b, item)
		}
		return append(b, ']')
	case verbatim:
		return append(b, v...)
	case string:
		if !strings.ContainsFunc(v, escaped) {
			return append(append(append(b, '"'), v...), '"')
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, text...)
}

// escaped tells whether a character is not written as itself.
func escaped(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`"\\<>&`, r) }

// A slot is a place of a value in a tree: member index of object or item index of
// array.
type slot struct {
	object *object
	array  *array
	index  int
}

// slots returns the places of all values below v.
func slots(v any) []slot {
	var all []slot
	switch v := v.(type) {
	case *object:
		for i, m := range v.members {
			all = append(append(all, slot{object: v, index: i}), slots(m.value)...)
		}
	case *array:
		for i, item := range v.items {
			all = append(append(all, slot{array: v, index: i}), slots(item)...)
		}
	}
	return all
}

func (s slot) place() *any {
	if s.array != nil {
		return &s.array.items[s.index]
	}
	return &s.object.members[s.index].value
}

// name returns the name of a member, "" of an item.
func (s slot) name() string {
	if s.object == nil {
		return ""
	}
	return s.object.members[s.index].name
}

func TestTree(t *testing.T) {
	for _, text := range []string{`{}`, `{"a":[1,2.50,{"b":null}],"a":"\u003c","c":{"":true}}`, `[]`, `"x"`, `1e400`} {
		v, ok := parseTree([]byte(text))
		if got := string(appendTree(nil, v)); !ok || got != text {
			t.Errorf("%s: %v %s", text, ok, got)
		}
	}
	for _, text := range []string{``, `{`, `{"a":1}}`, `{} {}`, `nul`} {
		if v, ok := parseTree([]byte(text)); ok {
			t.Errorf("%s: %v", text, v)
		}
	}
	v, _ := parseTree([]byte(`{"a":[1,{"b":2}]}`))
	all := slots(v)
	*all[3].place() = verbatim("\xff")
	if got := string(appendTree(nil, v)); len(all) != 4 || all[3].name() != "b" || got != "{\"a\":[1,{\"b\":\xff}]}" {
		t.Errorf("%d slots, %q", len(all), got)
	}
}
