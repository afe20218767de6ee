// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"sync/atomic"
	"time"
)

// A deadline is a context that ends at a time, and not before when the one ends whose
// values it has. Nearly every request is answered from memory and never waits by its
// context: a timer is made only once one does.
type deadline struct {
	values context.Context
	at     time.Time
	timed  atomic.Pointer[timedContext]
}

type timedContext struct {
	context.Context
	cancel context.CancelFunc
}

// set makes a zero deadline the context of which end must be called.
func (d *deadline) set(values context.Context, at time.Time) { d.values, d.at = values, at }

// end frees what the context has taken.
func (d *deadline) end() {
	if t := d.timed.Load(); t != nil {
		t.cancel()
	}
}

// Deadline implements [context.Context].
func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

// Done implements [context.Context].
func (d *deadline) Done() <-chan struct{} {
	t := d.timed.Load()
	if t == nil {
		t = new(timedContext)
		t.Context, t.cancel = context.WithDeadline(context.WithoutCancel(d.values), d.at)
		if !d.timed.CompareAndSwap(nil, t) {
			t.cancel()
			t = d.timed.Load()
		}
	}
	return t.Context.Done()
}

// Err implements [context.Context].
func (d *deadline) Err() error {
	if time.Now().Before(d.at) {
		if t := d.timed.Load(); t != nil {
			return t.Context.Err()
		}
		return nil
	}
	<-d.Done()
	return context.DeadlineExceeded
}

// Value implements [context.Context]. It lets package context find what it can
// attach the contexts to that are derived from this one.
func (d *deadline) Value(key any) any {
	if t := d.timed.Load(); t != nil {
		return t.Context.Value(key)
	}
	return d.values.Value(key)
}
