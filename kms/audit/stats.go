// SPDX-License-Identifier: Apache-2.0

package audit

import "time"

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

// Ready returns why no Append can succeed, nil if one may. That the disk has become
// full shows only when something is written.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
