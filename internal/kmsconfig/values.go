// SPDX-License-Identifier: Apache-2.0

package kmsconfig

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Path is the name of a file or folder.
type Path string

// A Duration is written with its unit: "500ms", "10s", "1h30m", or "90d" with
// days of 24 hours.
type Duration time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler]. Negative durations are
// refused.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	parsed, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		parsed = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || parsed < 0 {
		return errors.New(`is no duration like "10s", "1h30m" or "90d"`)
	}
	*d = Duration(parsed)
	return nil
}

// A Size is a number of bytes, written with its unit: "512B", "64KiB", "16MiB",
// "10GiB".
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(text []byte) error {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err == nil && n >= 0 && n <= math.MaxInt64/unit.bytes {
			*s = Size(n * unit.bytes)
			return nil
		}
		break
	}
	return errors.New(`is no size like "512B", "64KiB", "16MiB" or "10GiB"`)
}
