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
}

type bounds struct{ min, max int }

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
		default:
			panic("kmsapi: tag of " + f.Name)
		}
	}
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
	for i, m := range shapeOf(v.Type()).members {
		field := v.Field(i)
		path := prefix + m.path
		if field.Kind() != reflect.Struct && field.IsNil() {
			if m.required {
				*found = append(*found, fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", path))
			}
			continue
		}
		for field.Kind() == reflect.Pointer {
			field = field.Elem()
		}
		m.check(field, path, found)
	}
}

// check applies the constraints of m to a present value.
func (m member) check(v reflect.Value, path string, found *[]string) {
	report := func(violations []string) {
		for _, violation := range violations {
			*found = append(*found, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: %s", shown(v), path, violation))
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		validateStruct(v, path+".", found)
	case reflect.String:
		report(append(lengthViolations(utf8.RuneCountInString(v.String()), m.length), enumViolation(v.String(), m.enum)...))
	case reflect.Int32:
		report(valueViolations(int(v.Int()), m.value))
	case reflect.Slice:
		report(lengthViolations(v.Len(), m.length))
		switch v.Type().Elem().Kind() {
		case reflect.Struct:
			for i := range v.Len() {
				validateStruct(v.Index(i), fmt.Sprintf("%s.%d.member.", path, i+1), found)
			}
		case reflect.String:
			report(m.itemViolations(v))
		}
	}
}

func (m member) itemViolations(list reflect.Value) []string {
	for i := range list.Len() {
		item := list.Index(i).String()
		inner := append(lengthViolations(utf8.RuneCountInString(item), m.items), enumViolation(item, m.values)...)
		if len(inner) > 0 {
			return []string{"Member must satisfy constraint: [" + strings.Join(inner, ", ") + "]"}
		}
	}
	return nil
}

// shown is the value in a message, with a space before it; blobs are hidden.
func shown(v reflect.Value) string {
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

func lengthViolations(n int, b *bounds) []string {
	switch {
	case b != nil && n > b.max:
		return []string{fmt.Sprintf("Member must have length less than or equal to %d", b.max)}
	case b != nil && n < b.min:
		return []string{fmt.Sprintf("Member must have length greater than or equal to %d", b.min)}
	}
	return nil
}

func valueViolations(n int, b *bounds) []string {
	switch {
	case b != nil && n > b.max:
		return []string{fmt.Sprintf("Member must have value less than or equal to %d", b.max)}
	case b != nil && n < b.min:
		return []string{fmt.Sprintf("Member must have value greater than or equal to %d", b.min)}
	}
	return nil
}

func enumViolation(s string, enum []string) []string {
	if enum == nil || slices.Contains(enum, s) {
		return nil
	}
	return []string{"Member must satisfy enum value set: [" + strings.Join(enum, ", ") + "]"}
}
