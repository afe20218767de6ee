// SPDX-License-Identifier: Apache-2.0

//go:build unix

package audit

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Retention that removes segments between the reading of the heads and the listing of
// the segments is no loss of records.
func TestVerifyDuringRetention(t *testing.T) {
	dir := newPath(t)
	o := testOptions()
	o.SegmentBytes = 100
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		l.mustAppend(t, event{Decision: "x"})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	heads := filepath.Join(dir, headsFile)
	before, err := os.ReadFile(heads)
	if err != nil {
		t.Fatal(err)
	}
	// After the retention nobody finds the old heads any more, but who reads them now
	// through the pipe.
	o.Retention = Retention{Age: time.Second}
	o.Now = func() time.Time { return time.Now().Add(time.Hour) }
	if l, err = Open(ctx, dir, o); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	after := filepath.Join(dir, "after")
	if err := os.Rename(heads, after); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(pipe, heads); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(heads, os.O_WRONLY, 0) // waits for the reader
		if err == nil {
			_, err = f.Write(before)
		}
		if err == nil {
			err = os.Rename(after, heads)
		}
		if err == nil {
			err = l.keeper.retain(ctx)
		}
		f.Close()
		served <- err
	}()
	r := mustVerify(t, dir, VerifyOptions{Key: testKey("root")})
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if r.Err() != nil || r.Removed.Count < 3 {
		t.Errorf("%v, removed %d", r.Err(), r.Removed.Count)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
