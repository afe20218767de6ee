// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// The shapes are those of the service model of 2014-11-01 as of November 2026.
// Members keep AWS's spelling and order; in an input nil is an absent member. The
// tag states the constraints that [Validate] checks: required, len=MIN..MAX
// (characters of a string, bytes of a blob, entries of a list), range=MIN..MAX of
// a number, enum=NAME of the table in enums.go, pattern=NAME of the table in
// patterns.go, items=MIN..MAX and values=NAME (length and enumeration of each
// entry of a list; with them, pattern is that of each entry), sensitive (the
// value is shown nowhere). In an output a member without omitempty is always
// there.

// A List is a list that an answer always has: without entries it is [], not null.
type List[T any] []T

// MarshalJSON implements [encoding/json.Marshaler].
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// A Timestamp is a time on the wire: a JSON number of seconds since 1970 with
// milliseconds.
type Timestamp time.Time

// maxSeconds is the last second of the year 9999, the last one that RFC 3339 can
// write.
const maxSeconds = 253402300799

// maxDigits bounds the text of a time: more says nothing about milliseconds.
const maxDigits = 40

// MarshalJSON implements [encoding/json.Marshaler].
func (t Timestamp) MarshalJSON() ([]byte, error) {
	ms := time.Time(t).UnixMilli()
	if ms < 0 || ms > maxSeconds*1000 {
		return nil, errors.New("kmsapi: a time before 1970 or after 9999")
	}
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	parsed, ok := parseTimestamp(data)
	if !ok {
		return errors.New("kmsapi: no time")
	}
	*t = parsed
	return nil
}

// parseTimestamp reads a JSON number of seconds, to the nearest millisecond.
func parseTimestamp(number []byte) (Timestamp, bool) {
	if len(number) == 0 || len(number) > maxDigits || number[0] < '0' || number[0] > '9' || !json.Valid(number) {
		return Timestamp{}, false
	}
	seconds, err := strconv.ParseFloat(string(number), 64)
	if err != nil || seconds > maxSeconds {
		return Timestamp{}, false
	}
	return Timestamp(time.UnixMilli(int64(math.Round(seconds * 1000)))), true
}
