// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A member is one member of a shape with its constraints.
type member struct {
	path     string // lowerCamel, as AWS's messages name it
	required bool
	length   *bounds
	value    *bounds
	items    *bounds
	enum     []string
	values   []string
	pattern  *pattern
	// sensitive values are shown neither in messages nor in records.
	sensitive bool
	// unrecorded members stand in no audit record.
	unrecorded bool
}

type bounds struct{ min, max int }

// MaxEntries is how many entries a list of a request can have for which the model
// gives no limit. All that they can be for is less: a key has 50 tags at most, and
// each operation of a grant need be named only once.
const MaxEntries = 100

// parseMember reads the tag of a field. The tags are constants of this package:
// a bad one is a mistake that the first use reports by panic.
func parseMember(f reflect.StructField) member {
	m := member{path: lowerCamel(f.Name)}
	for option := range strings.SplitSeq(f.Tag.Get("kms"), ",") {
		name, argument, _ := strings.Cut(option, "=")
		switch name {
		case "":
		case "required":
			m.required = true
		case "len":
			m.length = parseBounds(argument)
		case "range":
			m.value = parseBounds(argument)
		case "items":
			m.items = parseBounds(argument)
		case "enum":
			m.enum = mustEnum(argument)
		case "values":
			m.values = mustEnum(argument)
		case "pattern":
			if m.pattern = patterns[argument]; m.pattern == nil {
				panic("kmsapi: no pattern " + argument)
			}
		case "sensitive":
			m.sensitive = true
		default:
			panic("kmsapi: tag of " + f.Name)
		}
	}
	if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8 && m.length == nil {
		m.length = &bounds{0, MaxEntries}
	}
	m.unrecorded = m.sensitive || unrecorded[f.Name] || f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Uint8
	return m
}

func mustEnum(name string) []string {
	values, ok := enums[name]
	if !ok {
		panic("kmsapi: no enumeration " + name)
	}
	return values
}

func parseBounds(s string) *bounds {
	low, high, _ := strings.Cut(s, "..")
	minimum, err1 := strconv.Atoi(low)
	maximum, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil {
		panic("kmsapi: bounds " + s)
	}
	return &bounds{minimum, maximum}
}

// lowerCamel makes "keyId" of "KeyId".
func lowerCamel(name string) string {
	r, n := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(r)) + name[n:]
}

// Validate checks an input shape, given as a pointer, against the constraints of
// the model and returns nil or a ValidationException in AWS's words, which lists
// every violation. Values of blobs are not repeated in it.
func Validate(in any) error {
	var found []string
	validateStruct(reflect.ValueOf(in).Elem(), "", &found)
	if len(found) == 0 {
		return nil
	}
	noun := "errors"
	if len(found) == 1 {
		noun = "error"
	}
	return Errorf(Validation, "%d validation %s detected: %s", len(found), noun, strings.Join(found, "; "))
}

func validateStruct(v reflect.Value, prefix string, found *[]string) {
	members := shapeOf(v.Type()).members
	for i := range members {
		m, field := &members[i], v.Field(i)
		if field.Kind() != reflect.Struct && field.IsNil() {
			if m.required {
				*found = append(*found, fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", prefix+m.path))
			}
			continue
		}
		for field.Kind() == reflect.Pointer {
			field = field.Elem()
		}
		m.check(field, prefix, found)
	}
}

// check applies the constraints of m to a present value. prefix is the path of what m is
// a member of.
func (m *member) check(v reflect.Value, prefix string, found *[]string) {
	report := func(violations []string) {
		for _, violation := range violations {
			*found = append(*found, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: %s", m.shown(v), prefix+m.path, violation))
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() != timestampType {
			validateStruct(v, prefix+m.path+".", found)
		}
	case reflect.String:
		report(textViolations(v.String(), m.length, m.pattern, m.enum))
	case reflect.Int32:
		report(bounded(int(v.Int()), m.value, valueAtLeast, valueAtMost))
	case reflect.Slice:
		report(bounded(v.Len(), m.length, lengthAtLeast, lengthAtMost))
		if m.length != nil && v.Len() > m.length.max {
			return // a message about each entry would be far larger than the request
		}
		switch v.Type().Elem().Kind() {
		case reflect.Struct:
			for i := range v.Len() {
				validateStruct(v.Index(i), fmt.Sprintf("%s%s.%d.member.", prefix, m.path, i+1), found)
			}
		case reflect.String:
			report(m.itemViolations(v))
		}
	}
}

// itemViolations names all constraints of an entry if one entry violates one, as
// AWS does.
func (m *member) itemViolations(list reflect.Value) []string {
	for i := range list.Len() {
		if len(textViolations(list.Index(i).String(), m.items, m.pattern, m.values)) > 0 {
			return []string{"Member must satisfy constraint: [" + strings.Join(m.itemConstraints(), ", ") + "]"}
		}
	}
	return nil
}

func (m *member) itemConstraints() []string {
	var all []string
	if m.items != nil {
		all = append(all, fmt.Sprintf(lengthAtMost, m.items.max), fmt.Sprintf(lengthAtLeast, m.items.min))
	}
	if m.pattern != nil {
		all = append(all, matchPattern+m.pattern.text)
	}
	if m.values != nil {
		all = append(all, oneOf(m.values))
	}
	return all
}

// The words of AWS.
const (
	lengthAtMost  = "Member must have length less than or equal to %d"
	lengthAtLeast = "Member must have length greater than or equal to %d"
	valueAtMost   = "Member must have value less than or equal to %d"
	valueAtLeast  = "Member must have value greater than or equal to %d"
	matchPattern  = "Member must satisfy regular expression pattern: "
)

func oneOf(values []string) string {
	return "Member must satisfy enum value set: [" + strings.Join(values, ", ") + "]"
}

// shown is the value in a message, with a space before it; blobs and sensitive
// values are hidden.
func (m *member) shown(v reflect.Value) string {
	if m.sensitive {
		return ""
	}
	switch v.Kind() {
	case reflect.String:
		return " '" + v.String() + "'"
	case reflect.Int32:
		return fmt.Sprintf(" '%d'", v.Int())
	case reflect.Slice:
		if list, ok := v.Interface().([]string); ok {
			return " '[" + strings.Join(list, ", ") + "]'"
		}
	}
	return ""
}

func textViolations(s string, length *bounds, p *pattern, enum []string) []string {
	found := bounded(utf8.RuneCountInString(s), length, lengthAtLeast, lengthAtMost)
	if p != nil && !p.re.MatchString(s) {
		found = append(found, matchPattern+p.text)
	}
	if enum != nil && !slices.Contains(enum, s) {
		found = append(found, oneOf(enum))
	}
	return found
}

func bounded(n int, b *bounds, atLeast, atMost string) []string {
	switch {
	case b != nil && n > b.max:
		return []string{fmt.Sprintf(atMost, b.max)}
	case b != nil && n < b.min:
		return []string{fmt.Sprintf(atLeast, b.min)}
	}
	return nil
}
