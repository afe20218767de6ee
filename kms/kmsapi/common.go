// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"maps"
	"reflect"
	"slices"
	"sync"
	"unicode/utf8"
)

// Common has the members that many inputs have. A member that is absent, or that
// the shape has not, is nil.
type Common struct {
	KeyId             *string
	EncryptionContext map[string]string
	// HasEncryptionContext says that the shape has the member, even if the request
	// has not.
	HasEncryptionContext bool
	GrantTokens          []string
	DryRun               *bool
	Recipient            *RecipientInfo
	Limit                *int32
	Marker               *string
}

var commonNames = [...]string{"KeyId", "EncryptionContext", "GrantTokens", "DryRun", "Recipient", "Limit", "Marker"}

// commonIndex has the fields of commonNames in a shape, -1 where it has none.
type commonIndex [len(commonNames)]int

var commonIndexes sync.Map // reflect.Type → commonIndex

func commonIndexOf(t reflect.Type) commonIndex {
	if found, ok := commonIndexes.Load(t); ok {
		return found.(commonIndex)
	}
	var index commonIndex
	for i, name := range commonNames {
		index[i] = -1
		if f, ok := t.FieldByName(name); ok {
			index[i] = f.Index[0]
		}
	}
	commonIndexes.Store(t, index)
	return index
}

// CommonOf returns the common members of an input, given as a pointer.
func CommonOf(in any) Common {
	v := reflect.ValueOf(in).Elem()
	index := commonIndexOf(v.Type())
	return Common{
		KeyId:                memberAt[*string](v, index[0]),
		EncryptionContext:    memberAt[map[string]string](v, index[1]),
		HasEncryptionContext: index[1] >= 0,
		GrantTokens:          memberAt[[]string](v, index[2]),
		DryRun:               memberAt[*bool](v, index[3]),
		Recipient:            memberAt[*RecipientInfo](v, index[4]),
		Limit:                memberAt[*int32](v, index[5]),
		Marker:               memberAt[*string](v, index[6]),
	}
}

func memberAt[T any](v reflect.Value, index int) (none T) {
	if index < 0 {
		return none
	}
	// A pointer to the field: the field itself would be copied to the heap.
	return *v.Field(index).Addr().Interface().(*T)
}

// Limits of an audit record, which what is valid does not reach: the longest string
// and all names and values of a map, in bytes.
const (
	maxParameter = 1024
	maxPairs     = 16 << 10
)

// unrecorded are members that open something, or that are recorded elsewhere.
var unrecorded = map[string]bool{"Recipient": true, "GrantTokens": true, "GrantToken": true, "ImportToken": true}

// Parameters returns what of an input, given as a pointer, may stand in an audit
// record, by the name that AWS's records use ("keyId"): no blobs, no tokens, no
// secrets. Times are RFC 3339. A string longer than 1024 bytes is cut and ends in
// "…". Of a list there are [MaxEntries], of a map as many pairs as have 16 KiB, so
// that a request that is refused for its size is no large record.
// It is nil if there is nothing to record.
func Parameters(in any) map[string]any {
	return addParameters(nil, reflect.ValueOf(in).Elem())
}

// addParameters adds those of a struct to a map, which it makes if it must.
func addParameters(found map[string]any, v reflect.Value) map[string]any {
	members := shapeOf(v.Type()).members
	for i := range members {
		m, field := &members[i], v.Field(i)
		if m.unrecorded || field.IsNil() {
			continue
		}
		if value := parameter(field); value != nil {
			if found == nil {
				found = make(map[string]any)
			}
			found[m.path] = value
		}
	}
	return found
}

func structParameters(v reflect.Value) map[string]any {
	return addParameters(make(map[string]any), v)
}

// parameter returns nil for what is not to be recorded.
func parameter(f reflect.Value) any {
	switch value := f.Interface().(type) {
	case *string:
		return cut(*value)
	case *bool:
		return *value
	case *int32:
		return *value
	case *Timestamp:
		return value.rfc3339()
	case []string:
		value = value[:min(len(value), MaxEntries)]
		list := make([]string, len(value))
		for i, s := range value {
			list[i] = cut(s)
		}
		return list
	case map[string]string:
		return pairs(value)
	}
	switch {
	case f.Kind() == reflect.Pointer:
		return structParameters(f.Elem())
	case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
		list := make([]map[string]any, min(f.Len(), MaxEntries))
		for i := range list {
			list[i] = structParameters(f.Index(i))
		}
		return list
	}
	return nil
}

func pairs(m map[string]string) map[string]string {
	shown := make(map[string]string, min(len(m), MaxEntries))
	size := 0
	for _, name := range slices.Sorted(maps.Keys(m)) {
		short, value := cut(name), cut(m[name])
		if size += len(short) + len(value); size > maxPairs {
			break
		}
		shown[short] = value
	}
	return shown
}

// cut shortens a string for a record, between two characters.
func cut(s string) string {
	if len(s) <= maxParameter {
		return s
	}
	end := maxParameter
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
