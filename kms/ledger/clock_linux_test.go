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
	if after := bootTime(); now.Before(before.Add(-2*maxApart)) || now.After(after.Add(2*maxApart)) {
		t.Errorf("%v is not between %v and %v", now, before, after)
	}
}

// A machine is what a suspendClock reads of one.
type machine struct {
	wall, mono, boot time.Duration
	// stopped is how long the process stands still before a reading of the boot time.
	stopped time.Duration
	reads   int
}

func (m *machine) clock() *suspendClock {
	return &suspendClock{
		clocks: func() clockPair { return clockPair{m.wall, m.mono} },
		read: func() (time.Duration, bool) {
			m.reads++
			m.run(m.stopped)
			return m.boot, true
		},
	}
}

func (m *machine) run(d time.Duration) { m.wall, m.mono, m.boot = m.wall+d, m.mono+d, m.boot+d }

func (m *machine) suspend(d time.Duration) { m.wall, m.boot = m.wall+d, m.boot+d }

// Whatever happens to the machine and its wall clock, the time is the boot time.
func TestSuspendClock(t *testing.T) {
	m := &machine{wall: 1 << 60, mono: 5, boot: time.Hour}
	c := m.clock()
	check := func(what string) {
		t.Helper()
		if off := time.Duration(c.now().UnixNano()) - m.boot; off > maxApart || off < -maxApart {
			t.Errorf("%s: off by %v", what, off)
		}
	}
	check("first")
	for range 10000 {
		m.run(50 * time.Microsecond)
		check("running")
	}
	if m.reads != 1 {
		t.Errorf("%d readings in half a second", m.reads)
	}
	for _, d := range []time.Duration{time.Microsecond, time.Millisecond, 2 * time.Millisecond, time.Second, time.Hour} {
		m.suspend(d)
		check("suspended")
		m.run(time.Millisecond)
		check("awake")
		m.wall -= d
		check("the wall clock set back")
		m.suspend(d)
		m.run(d)
		check("suspended and running")
	}
	for range 5000 { // by 500 ppm, as much as adjtimex(2) can
		m.run(time.Millisecond)
		m.wall += 500 * time.Nanosecond
		check("slewed")
	}
	m.run(time.Hour)
	check("idle")
	for _, d := range []time.Duration{2 * time.Millisecond, 900 * time.Millisecond, time.Minute} {
		m.stopped = d
		m.run(2 * time.Second)
		check("stopped while reading")
		m.run(time.Millisecond)
		check("stopped again")
		m.stopped = 0
		m.run(time.Millisecond)
		check("going on")
	}
}

// Where the boot time cannot be read there is still a time.
func TestSuspendClockWithoutBootTime(t *testing.T) {
	c := &suspendClock{clocks: processClocks, read: func() (time.Duration, bool) { return 0, false }}
	if before, now := time.Now(), c.now(); now.Before(before) {
		t.Errorf("%v is before %v", now, before)
	}
}
