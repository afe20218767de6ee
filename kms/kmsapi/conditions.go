// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A boundCondition is a Condition with the fields of its shape.
type boundCondition struct {
	key      string
	fields   []int
	fallback string
}

// bind finds the fields of a condition. The table is a constant of this package: a
// member that the shape has not is a mistake that shows at the start.
func bind(shape reflect.Type, c Condition) boundCondition {
	b := boundCondition{key: strings.ToLower(c.Key), fallback: c.Default}
	for name := range strings.SplitSeq(c.Member, "|") {
		if name == "" {
			continue
		}
		f, ok := shape.FieldByName(name)
		if !ok {
			panic("kmsapi: " + shape.Name() + " has no member " + name)
		}
		b.fields = append(b.fields, f.Index[0])
	}
	return b
}

// HasCondition tells whether EachCondition can yield the key, in lower case.
func (o *Operation) HasCondition(key string) bool {
	return slices.ContainsFunc(o.bound, func(c boundCondition) bool { return c.key == key })
}

// EachCondition calls yield for every condition key of the row that the input,
// given as a pointer, has: with the key in lower case and its value, or values
// where the member is a list. Times are RFC 3339 in UTC, numbers decimal.
func (o *Operation) EachCondition(in any, yield func(key string, values ...string)) {
	v := reflect.ValueOf(in).Elem()
	for _, c := range o.bound {
		if values := c.values(v); len(values) > 0 {
			yield(c.key, values...)
		}
	}
}

func (c *boundCondition) values(in reflect.Value) []string {
	for _, i := range c.fields {
		if f := in.Field(i); !f.IsNil() {
			return texts(f)
		}
	}
	if c.fallback == "" {
		return nil
	}
	return []string{c.fallback}
}

// texts writes a present member as policies see it.
func texts(f reflect.Value) []string {
	switch value := f.Interface().(type) {
	case *string:
		return []string{*value}
	case *bool:
		return []string{strconv.FormatBool(*value)}
	case *int32:
		return []string{strconv.FormatInt(int64(*value), 10)}
	case *Timestamp:
		return []string{value.rfc3339()}
	case []string:
		return value
	}
	panic("kmsapi: no text of " + f.Type().String())
}

func (t Timestamp) rfc3339() string { return time.Time(t).UTC().Format(time.RFC3339Nano) }
