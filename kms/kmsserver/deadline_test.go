// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

type contextKey struct{}

func newDeadline(values context.Context, at time.Time) *deadline {
	d := new(deadline)
	d.set(values, at)
	return d
}

func TestDeadline(t *testing.T) {
	parent, gone := context.WithCancel(context.WithValue(context.Background(), contextKey{}, "value"))
	gone() // which ends nothing here
	at := time.Now().Add(time.Hour)
	d := newDeadline(parent, at)
	if got, ok := d.Deadline(); !ok || !got.Equal(at) || d.Err() != nil || d.Value(contextKey{}) != "value" || d.timed.Load() != nil {
		t.Errorf("%v, %v, %v, %v", got, d.Err(), d.Value(contextKey{}), d.timed.Load())
	}
	// All who wait do so for the same end, and contexts that are derived end with it.
	var waiting sync.WaitGroup
	channels := make([]<-chan struct{}, 8)
	for i := range channels {
		waiting.Go(func() { channels[i] = d.Done() })
	}
	waiting.Wait()
	child, cancel := context.WithCancel(d)
	defer cancel()
	for _, c := range channels {
		if c != channels[0] || c != d.Done() {
			t.Error("two ends")
		}
	}
	if d.Err() != nil || child.Err() != nil || d.Value(contextKey{}) != "value" {
		t.Errorf("%v, %v", d.Err(), child.Err())
	}
	d.end()
	<-child.Done()
	if !errors.Is(d.Err(), context.Canceled) {
		t.Errorf("after its end: %v", d.Err())
	}
}

func TestDeadlineThatIsOver(t *testing.T) {
	for name, d := range map[string]*deadline{
		"from the start": newDeadline(context.Background(), time.Now().Add(-1)),
		"soon":           newDeadline(context.Background(), time.Now().Add(time.Millisecond)),
	} {
		child, cancel := context.WithCancel(d)
		<-d.Done()
		<-child.Done()
		if !errors.Is(d.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("%s: %v, %v", name, d.Err(), child.Err())
		}
		cancel()
		d.end()
	}
	unasked := newDeadline(context.Background(), time.Now().Add(-1))
	if !errors.Is(unasked.Err(), context.DeadlineExceeded) {
		t.Error(unasked.Err())
	}
	unasked.end()
}
