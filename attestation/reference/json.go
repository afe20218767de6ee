// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cretula/cretula/reason"
)

// maxDepth is one more than the format needs.
const maxDepth = 8

// refuse is what is wrong at a place of the file, such as releases[2].pcrs.PCR0.
func refuse(rule, path, format string, args ...any) error {
	if path == "" {
		path = "the file"
	}
	return reason.New(reason.Malformed, "reference."+rule, "%s: "+format, append([]any{path}, args...)...)
}

// decode reads JSON into map[string]any, []any, string, json.Number, bool and
// nil, and refuses what encoding/json passes over: members that are there twice
// and text that is no UTF-8.
func decode(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, refuse("json", "", "no UTF-8")
	}
	// json.Decoder's tokens alone would let some faults pass.
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		if syntax, ok := err.(*json.SyntaxError); ok {
			line, column := position(data, int(syntax.Offset))
			return nil, refuse("json", fmt.Sprintf("line %d, column %d", line, column), "%v", err)
		}
		return nil, refuse("json", "", "%v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return decodeValue(dec, "", 0)
}

func position(data []byte, offset int) (line, column int) {
	before := data[:min(max(offset-1, 0), len(data))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

func decodeValue(dec *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, refuse("json", path, "nested deeper than the format is")
	}
	token, err := dec.Token()
	if err != nil {
		return nil, refuse("json", path, "%v", err)
	}
	switch token {
	case json.Delim('{'):
		return decodeObject(dec, path, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	}
	return token, nil
}

func decodeObject(dec *json.Decoder, path string, depth int) (any, error) {
	object := map[string]any{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, refuse("json", path, "%v", err)
		}
		name := token.(string)
		at := member(path, name)
		if _, twice := object[name]; twice {
			return nil, refuse("duplicate", at, "there twice")
		}
		if object[name], err = decodeValue(dec, at, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, err
}

// member is the place of a member. A name that could do something to the terminal
// which an error is printed on is quoted.
func member(path, name string) string {
	if strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		name = strconv.QuoteToASCII(name)
	}
	if path == "" {
		return fmt.Sprintf("%.60s", name)
	}
	return fmt.Sprintf("%s.%.60s", path, name)
}

// object takes v as an object that has only the named members.
func object(v any, path string, names ...string) (map[string]any, error) {
	o, ok := v.(map[string]any)
	if !ok {
		return nil, refuse("type", path, "want an object")
	}
	var unknown []string
	for name := range o {
		if !slices.Contains(names, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, refuse("member", path, "%.60q is no member of it; those are %s", unknown[0], strings.Join(names, ", "))
	}
	return o, nil
}

// array takes v as an array of 1 to limit members.
func array(v any, path string, limit int) ([]any, error) {
	list, ok := v.([]any)
	switch {
	case !ok:
		return nil, refuse("type", path, "want an array")
	case len(list) == 0:
		return nil, refuse("empty", path, "the array is empty")
	case len(list) > limit:
		return nil, refuse("size", path, "%d members, of at most %d", len(list), limit)
	}
	return list, nil
}

// texts takes v as an array of strings.
func texts(v any, path string) ([]string, error) {
	list, err := array(v, path, maxValues)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(list))
	for i, item := range list {
		if out[i], err = text(item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func text(v any, path string) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", refuse("type", path, "want a string")
	}
	return s, nil
}

func date(v any, path string) (time.Time, error) {
	s, err := text(v, path)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return time.Time{}, refuse("value", path, "%.40q is no time of RFC 3339", s)
	}
	return t.UTC(), nil
}
