// SPDX-License-Identifier: Apache-2.0

package kmsconfig

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A Problem is what is wrong at one place of the file.
type Problem struct {
	// Line is the line, from 1. What is missing is reported where the table begins
	// that it is missing from.
	Line int
	// Message says what is wrong.
	Message string
}

// A walk goes over the text of a configuration beside the type that it is for. It
// finds every name that is not a known one, every value of another type, and the
// line of each member, which the decoder keeps to itself.
type walk struct {
	parser unstable.Parser
	// lines has the line of each table and member by its name: "tls.key",
	// "web_identity[0].url".
	lines    map[string]int
	arrays   map[string]int // tables so far of each array of tables
	problems []Problem
}

// A place is a member of the file and the Go type for it.
type place struct {
	name string
	typ  reflect.Type
}

func newWalk() *walk {
	return &walk{lines: map[string]int{"": 1}, arrays: map[string]int{}}
}

// run goes over data. What is no TOML ends it; the decoder says why.
func (w *walk) run(data []byte, t reflect.Type) {
	w.parser.Reset(data)
	root := place{typ: t}
	table, known := root, true
	for w.parser.NextExpression() {
		node := w.parser.Expression()
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, known = w.find(root, node.Key(), node.Kind == unstable.ArrayTable)
		case unstable.KeyValue:
			if known {
				w.member(table, node)
			}
		}
	}
}

// find follows a dotted key. It reports the first part that is not known.
func (w *walk) find(at place, key unstable.Iterator, array bool) (place, bool) {
	for key.Next() {
		part, line := key.Node(), w.line(key.Node())
		next, ok := at.member(string(part.Data))
		if !ok {
			w.unknown(line, at, string(part.Data))
			return at, false
		}
		if next.typ.Kind() == reflect.Slice && next.typ.Elem().Kind() == reflect.Struct {
			if array && key.IsLast() {
				w.arrays[next.name]++
			}
			next.name += "[" + strconv.Itoa(max(w.arrays[next.name]-1, 0)) + "]"
		}
		w.lines[next.name] = line
		at = next
	}
	return at, true
}

// member looks at one "key = value" of a table.
func (w *walk) member(table place, node *unstable.Node) {
	at, ok := w.find(table, node.Key(), false)
	if ok {
		w.value(at, node.Value(), w.lines[at.name])
	}
}

// value compares a value with the type that it is for.
func (w *walk) value(at place, node *unstable.Node, line int) {
	wanted := kindOf(at.typ)
	if !slices.Contains(wanted.nodes, node.Kind) {
		w.report(line, "%s must be %s", at.name, wanted.text)
		return
	}
	switch node.Kind {
	case unstable.InlineTable:
		for children := node.Children(); children.Next(); {
			w.member(at, children.Node())
		}
	case unstable.Array:
		n := 0
		for children := node.Children(); children.Next(); n++ {
			if children.Node().Kind == unstable.Comment {
				n--
				continue
			}
			element := place{fmt.Sprintf("%s[%d]", at.name, n), at.typ.Elem()}
			w.lines[element.name] = line
			w.value(element, children.Node(), line)
		}
	case unstable.String:
		if text, ok := reflect.New(at.typ).Interface().(encoding.TextUnmarshaler); ok {
			if err := text.UnmarshalText(node.Data); err != nil {
				w.report(line, "%s %v", at.name, err)
			}
		}
	}
}

// line is the line of a part of a key.
func (w *walk) line(key *unstable.Node) int { return w.parser.Shape(key.Raw).Start.Line }

func (w *walk) report(line int, format string, args ...any) {
	w.problems = append(w.problems, Problem{line, fmt.Sprintf(format, args...)})
}

func (w *walk) unknown(line int, at place, name string) {
	where := "here"
	if at.name != "" {
		where = "in " + at.name
	}
	message := fmt.Sprintf("there is no %q %s", clip(name), where)
	if names := at.names(); len(names) > 0 {
		message += "; there are " + strings.Join(names, ", ")
	}
	w.report(line, "%s", message)
}

// member returns the member of a table.
func (p place) member(name string) (place, bool) {
	t := p.typ
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	child := strings.TrimPrefix(p.name+"."+name, ".")
	switch t.Kind() {
	case reflect.Map:
		return place{child, t.Elem()}, true
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); tagOf(f) == name {
				return place{child, deref(f.Type)}, true
			}
		}
	}
	return place{}, false
}

// names lists the members that a table can have.
func (p place) names() (names []string) {
	t := p.typ
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		if tag := tagOf(t.Field(i)); tag != "" {
			names = append(names, tag)
		}
	}
	return names
}

// tagOf is the name of a field in the file, "" if it has none there.
func tagOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return strings.TrimPrefix(name, "-")
}

func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// A kind is what values of a type look like.
type kind struct {
	nodes []unstable.Kind
	text  string
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func kindOf(t reflect.Type) kind {
	t = deref(t)
	if reflect.PointerTo(t).Implements(textType) {
		return kind{[]unstable.Kind{unstable.String}, "a string"}
	}
	switch t.Kind() {
	case reflect.String:
		return kind{[]unstable.Kind{unstable.String}, "a string"}
	case reflect.Bool:
		return kind{[]unstable.Kind{unstable.Bool}, "true or false"}
	case reflect.Float64:
		return kind{[]unstable.Kind{unstable.Float, unstable.Integer}, "a number"}
	case reflect.Int, reflect.Int64:
		return kind{[]unstable.Kind{unstable.Integer}, "an integer"}
	case reflect.Slice:
		return kind{[]unstable.Kind{unstable.Array}, "an array"}
	}
	return kind{[]unstable.Kind{unstable.InlineTable}, "a table"}
}

// clip bounds what is quoted of a name.
func clip(s string) string { return s[:min(len(s), 64)] }
