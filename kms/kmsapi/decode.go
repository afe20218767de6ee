// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"sync"
)

// Decode reads the JSON body of a request into in, a pointer to an input shape that
// is zero. As AWS does, it ignores unknown members and takes null for absent. Everything
// else it is strict about: member names are matched exactly, a repeated name,
// nesting beyond 32 levels, a value of another type, base64 that is not
// canonical and bytes after the object are errors. The error is an [*Error]
// with the code SerializationException and quotes nothing of the request.
// Constraints are not checked: see [Validate].
func Decode(body []byte, in any) error {
	if err := decode(body, reflect.ValueOf(in).Elem()); err != nil {
		return &Error{Code: Serialization, Message: err.Error()}
	}
	return nil
}

func decode(body []byte, v reflect.Value) error {
	l := &lexer{data: body}
	if err := decodeStruct(l, v); err != nil {
		return err
	}
	return l.end()
}

// A shape is what is known about a struct type.
type shape struct {
	byName  map[string]int
	members []member
}

var shapes sync.Map // reflect.Type → *shape

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{byName: make(map[string]int, t.NumField()), members: make([]member, t.NumField())}
	for i := range t.NumField() {
		f := t.Field(i)
		s.byName[f.Name] = i
		s.members[i] = parseMember(f)
	}
	actual, _ := shapes.LoadOrStore(t, s)
	return actual.(*shape)
}

func decodeStruct(l *lexer, v reflect.Value) error {
	if l.next() != '{' {
		return l.mistyped("structure")
	}
	s := shapeOf(v.Type())
	return l.object(func(name string) error {
		i, known := s.byName[name]
		switch {
		case !known:
			return l.skip()
		case l.literal("null"):
			return nil
		}
		return decodeValue(l, v.Field(i))
	})
}

var timestampType = reflect.TypeFor[Timestamp]()

func decodeValue(l *lexer, v reflect.Value) error {
	if v.Type() == timestampType {
		return decodeTimestamp(l, v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(l, v.Elem())
	case reflect.Struct:
		return decodeStruct(l, v)
	case reflect.Map:
		return decodeMap(l, v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return decodeBlob(l, v)
		}
		return decodeList(l, v)
	case reflect.String:
		if l.next() != '"' {
			return l.mistyped("String")
		}
		s, err := l.text()
		v.SetString(s)
		return err
	case reflect.Bool:
		return decodeBool(l, v)
	case reflect.Int32:
		return decodeInteger(l, v)
	}
	panic("kmsapi: no decoder for " + v.Type().String())
}

func (l *lexer) mistyped(want string) error {
	kind := l.kind()
	switch {
	case kind != "":
		return fmt.Errorf("%s cannot be converted to %s", kind, want)
	case l.pos == len(l.data):
		return l.fault("unexpected end")
	}
	return l.fault("no value")
}

func decodeBool(l *lexer, v reflect.Value) error {
	switch {
	case l.literal("true"):
		v.SetBool(true)
	case l.literal("false"):
		v.SetBool(false)
	default:
		return l.mistyped("Boolean")
	}
	return nil
}

func decodeInteger(l *lexer, v reflect.Value) error {
	if c := l.next(); c != '-' && (c < '0' || c > '9') {
		return l.mistyped("Integer")
	}
	digits, err := l.number()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(string(digits), 10, 32)
	if err != nil {
		return l.fault("a number is no 32-bit integer")
	}
	v.SetInt(n)
	return nil
}

func decodeTimestamp(l *lexer, v reflect.Value) error {
	if c := l.next(); c != '-' && (c < '0' || c > '9') {
		return l.mistyped("Timestamp")
	}
	digits, err := l.number()
	if err != nil {
		return err
	}
	at, ok := parseTimestamp(digits)
	if !ok {
		return l.fault("a number is no time")
	}
	v.Set(reflect.ValueOf(at))
	return nil
}

func decodeBlob(l *lexer, v reflect.Value) error {
	if l.next() != '"' {
		return l.mistyped("Blob")
	}
	// A string that is base64 has neither escapes nor what a string may not have.
	if end := bytes.IndexByte(l.data[l.pos+1:], '"'); end >= 0 {
		if blob, ok := decodeBase64(l.data[l.pos+1 : l.pos+1+end]); ok {
			l.pos += end + 2
			v.SetBytes(blob)
			return nil
		}
	}
	quoted, escaped, err := l.raw()
	if err != nil {
		return err
	}
	encoded := quoted[1 : len(quoted)-1]
	if escaped { // such as "\/", which some writers make of a slash
		var s string
		if err := json.Unmarshal(quoted, &s); err != nil {
			return l.fault("a string has a bad escape")
		}
		encoded = []byte(s)
	}
	blob, ok := decodeBase64(encoded)
	if !ok {
		return l.fault("a blob is not base64")
	}
	v.SetBytes(blob)
	return nil
}

func decodeBase64(encoded []byte) (blob []byte, ok bool) {
	blob = make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := strictBase64.Decode(blob, encoded)
	// Line breaks pass through encoding/base64; they have no place here.
	if err != nil || base64.StdEncoding.EncodedLen(n) != len(encoded) {
		return nil, false
	}
	return blob[:n], true
}

var strictBase64 = base64.StdEncoding.Strict()

func decodeList(l *lexer, v reflect.Value) error {
	if l.next() != '[' {
		return l.mistyped("list")
	}
	list := reflect.MakeSlice(v.Type(), 0, 0)
	err := l.array(func() error {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(l, item); err != nil {
			return err
		}
		list = reflect.Append(list, item)
		return nil
	})
	v.Set(list)
	return err
}

func decodeMap(l *lexer, v reflect.Value) error {
	if l.next() != '{' {
		return l.mistyped("map")
	}
	entries := make(map[string]string)
	err := l.object(func(name string) error {
		if l.next() != '"' {
			return l.mistyped("String")
		}
		value, err := l.text()
		entries[name] = value
		return err
	})
	v.Set(reflect.ValueOf(entries))
	return err
}
