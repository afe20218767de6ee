// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Stats are figures of a log, for metrics.
type Stats struct {
	// Records is the number of the last durable record, HeadRecords that of the last
	// one that a signed head is about, HeadTime the time of that head.
	Records, HeadRecords uint64
	HeadTime             time.Time
	// Waiting is how many records are not durable yet, of those whose writing has
	// not begun.
	Waiting int
}

// Stats returns the figures of now. It waits while a head is being written.
func (l *Log) Stats() Stats {
	waiting := l.waiting()
	l.mu.Lock()
	s := Stats{Records: l.open.last, Waiting: waiting}
	l.mu.Unlock()
	l.keeper.mu.Lock()
	defer l.keeper.mu.Unlock()
	s.HeadRecords, s.HeadTime = l.keeper.newest.Count, l.keeper.newest.Time
	return s
}

// Ready returns why no Append can succeed, nil if one may. Where the last one has
// failed, of a full disk for instance, it tries whether the disk takes something
// again: nobody may append until this says that it does.
func (l *Log) Ready() error {
	l.mu.Lock()
	failed := l.failed
	l.mu.Unlock()
	if failed != nil || !l.refused.Load() {
		return failed
	}
	return l.probe()
}

// probeSize is more than most records have.
const probeSize = 64 << 10

// probe writes a file into the folder and takes it away again.
func (l *Log) probe() (err error) {
	f, err := os.CreateTemp(l.dir, ".probe-*") // 0600
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
