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

// takenLately is how long what the disk took tells that it takes more.
const takenLately = 10 * time.Second

// Ready returns why no Append can succeed, nil if one may. Where the last one has
// failed, of a full disk for instance, it tries whether the disk takes something
// again: nobody may append until this says that it does. So it does where nobody has
// appended lately, as others fill the disk too.
func (l *Log) Ready() error {
	l.mu.Lock()
	failed := l.failed
	l.mu.Unlock()
	if failed != nil {
		return failed
	}
	now := l.options.Now()
	since := now.Sub(time.Unix(0, l.taken.Load()))
	if since >= 0 && since < takenLately {
		return nil
	}
	err := l.probe()
	if err == nil {
		l.taken.Store(now.UnixNano())
	}
	return err
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
