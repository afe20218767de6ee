// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What was confirmed ages while the machine is suspended, too: a ledger goes by the
// clock that counts it.
func TestClockCountsSuspension(t *testing.T) {
	if !hasBootTime {
		t.Skip("the system has no CLOCK_BOOTTIME")
	}
	bootTime := func() time.Time {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
			t.Fatal(err)
		}
		return time.Unix(now.Unix())
	}
	f := newFixture(t)
	before := bootTime()
	now := f.now()
	if after := bootTime(); now.Before(before) || now.After(after) {
		t.Errorf("%v is not between %v and %v", now, before, after)
	}
}
