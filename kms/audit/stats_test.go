// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestReady: a log that a full disk has kept from its work is not ready before the
// disk takes something again, one whose disk has failed a sync never.
func TestReady(t *testing.T) {
	l, f, path := openFaulty(t)
	defer l.Close()
	event := map[string]string{"decision": "d-1"}
	if err := errors.Join(l.Append(ctx, event), l.Ready()); err != nil {
		t.Fatal(err)
	}
	var full error = syscall.ENOSPC
	f.writeErr.Store(&full)
	if err := l.Append(ctx, event); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	// The folder is in the way of the probe as a full disk would be.
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while nothing can be written: %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if err := l.Ready(); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	// Whoever asks again and again does not keep the disk busy.
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Ready(), os.Rename(path+".away", path)); err != nil {
		t.Errorf("the disk was tried just now: %v", err)
	}
	left, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		if entry.Name()[0] == '.' {
			t.Errorf("%s is left", entry.Name())
		}
	}
	f.writeErr.Store(nil)
	if err := errors.Join(l.Append(ctx, event), l.Ready()); err != nil {
		t.Error(err)
	}
	f.syncErr.Store(&full)
	if err := l.Append(ctx, event); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	f.syncErr.Store(nil)
	if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after a failed sync: %v", err)
	}
}

// TestReadyWithoutRecords: a disk that somebody else fills is noticed before a record
// is lost to it.
func TestReadyWithoutRecords(t *testing.T) {
	o := testOptions()
	now := time.Now()
	o.Now = func() time.Time { return now }
	path := newPath(t)
	l, err := Open(ctx, path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Ready(); err != nil {
		t.Fatal(err)
	}
	// The folder is in the way of the probe as a full disk would be.
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := l.Ready(); err != nil {
		t.Errorf("the disk was tried just now: %v", err)
	}
	for _, later := range []time.Duration{takenLately, -2 * takenLately} {
		now = now.Add(later)
		if err := l.Ready(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v later: %v", later, err)
		}
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if err := l.Ready(); err != nil {
		t.Error(err)
	}
}

func TestStats(t *testing.T) {
	o := testOptions()
	var batches, records int
	o.Synced = func(n int, took time.Duration) {
		batches++
		records += n
		if took < 0 {
			t.Errorf("a sync took %v", took)
		}
	}
	l, err := Open(ctx, newPath(t), o)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := l.Append(ctx, map[string]string{"decision": "d-1"}); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.Stats(); s.Records != 3 || s.Waiting != 0 || s.HeadRecords > 3 {
		t.Errorf("%+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if batches != 3 || records != 3 {
		t.Errorf("%d records in %d batches", records, batches)
	}
	if s := l.Stats(); s.HeadRecords != 3 || s.HeadTime.IsZero() {
		t.Errorf("after the last head: %+v", s)
	}
}
