// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package ledger

import "time"

// clock returns the time; differences of it are monotonic, see package time.
func clock() time.Time { return time.Now() }
