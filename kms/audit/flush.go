// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// A batch is what one write and one sync make durable.
type batch struct {
	events []pendingEvent
	text   []byte // of the events, one behind the other
	done   chan struct{}
	err    error // valid once done is closed
}

type pendingEvent struct {
	end  int    // of it in the text of the batch
	hash uint64 // of the decision id
}

// Append adds the event, which must become a JSON object of at most
// [MaxEvent] bytes, and returns nil once it is durable. Calls that overlap
// share one write and one sync. If ctx ends first Append returns its error;
// the record may then be in the log or not.
//
// An event with a method AppendJSON([]byte) ([]byte, error) writes its JSON itself:
// what it appends must be one object on one line. One with a method AuditID()
// string says by it what its member "decision" is.
//
// An error matches [ErrEvent], [ErrUnavailable], [ErrClosed] or is that of
// ctx. The event's member "decision", if it is a string, is what [Log.Find]
// looks for.
func (l *Log) Append(ctx context.Context, event any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	encoded, err := encodeEvent(event)
	if err != nil {
		return err
	}
	id := ""
	if named, ok := event.(interface{ AuditID() string }); ok {
		id = named.AuditID()
	} else {
		id = decisionOf(encoded.Bytes())
	}
	b, err := l.enqueue(encoded.Bytes(), hashOf(id))
	release(encoded)
	if err != nil {
		return err
	}
	gone := ctx.Done()
	if gone == nil {
		<-b.done
		return b.err
	}
	select {
	case <-b.done:
		return b.err
	case <-gone:
		return ctx.Err()
	}
}

// enqueue copies the event to the batch that will be written next.
func (l *Log) enqueue(text []byte, hash uint64) (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return nil, l.failed
	}
	if l.pending == nil {
		l.pending = &batch{events: l.spare.events[:0], text: l.spare.text[:0], done: make(chan struct{})}
		l.spare = batch{}
	}
	b := l.pending
	if len(b.text)+len(text) > maxPending {
		return nil, fmt.Errorf("%w: %d bytes wait for the disk", ErrUnavailable, len(b.text))
	}
	b.text = append(b.text, text...)
	b.events = append(b.events, pendingEvent{len(b.text), hash})
	if len(b.events) == l.awaited {
		l.awaited = 0
		l.arrived <- struct{}{} // there is room, as await leaves nothing in it
	}
	if !l.writing {
		// It is a goroutine so that a caller can leave before it is done.
		l.writing, l.idle = true, make(chan struct{})
		go l.flush()
	}
	return b, nil
}

// flush makes batches durable, one after the other, as long as there are any:
// while one is written the next one gathers.
func (l *Log) flush() {
	for {
		b := l.gather()
		if b == nil {
			return
		}
		b.err = l.writeBatch(b)
		if b.err == nil {
			l.taken.Store(l.options.Now().UnixNano())
		} else {
			l.taken.Store(0)
		}
		// Before these are answered none of them can be among those who wait.
		l.callers = max(len(b.events)+l.waiting(), l.callers*7/8)
		close(b.done)
	}
}

const (
	// maxYields bounds how often gather gives way.
	maxYields = 16
	// manyCallers is from when on gather waits for those that it has seen before.
	manyCallers = 8
	// maxGather bounds how long it does, gatherStep how long it does while nobody comes.
	maxGather  = 4 * time.Millisecond
	gatherStep = time.Millisecond
)

// gather lets others append before it takes the batch, so that many share one sync;
// nil if nothing is pending, and then it is idle. It lets every goroutine that is ready
// to run go first, as long as that brings further events. Where there were many callers
// of late, those who wait now and those of the batch before, which were answered just
// now, it waits for all of them, about as long as the last sync took, and longer only
// while others keep coming, up to maxGather: else they would take turns, one half calling
// while the sync of the other half lasts. One caller alone waits for nothing.
func (l *Log) gather() *batch {
	n := l.giveWay()
	for n == 0 {
		if l.rest() {
			return nil
		}
		n = l.giveWay() // one came just now, and others may be on their way
	}
	if l.callers >= manyCallers {
		began, came := time.Now(), true
		for n < l.callers {
			waited := time.Since(began)
			if waited >= maxGather || waited >= l.syncing && !came {
				break
			}
			l.await(l.callers)
			before := n
			n = l.giveWay()
			came = n > before
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.pending
	l.pending = nil
	return b
}

// rest ends the writing if nothing is pending.
func (l *Log) rest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending != nil {
		return false
	}
	l.writing = false
	close(l.idle)
	return true
}

// await waits until so many events are pending, at most for gatherStep: to look from
// time to time would cost the processor more than what it saw.
func (l *Log) await(events int) {
	l.mu.Lock()
	here := l.pending != nil && len(l.pending.events) >= events
	if !here {
		l.awaited = events
	}
	l.mu.Unlock()
	if here {
		return
	}
	step := time.NewTimer(gatherStep)
	defer step.Stop()
	select {
	case <-l.arrived:
		return
	case <-step.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.awaited == 0 {
		<-l.arrived // they came just now
	}
	l.awaited = 0
}

// giveWay yields and returns how many events are pending.
func (l *Log) giveWay() int {
	n := l.waiting()
	for range maxYields {
		before := n
		runtime.Gosched()
		if n = l.waiting(); n == before {
			break
		}
	}
	return n
}

func (l *Log) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return 0
	}
	return len(l.pending.events)
}

// writeBatch makes the events durable. Only the goroutine of flush changes the open
// segment.
func (l *Log) writeBatch(b *batch) error {
	l.mu.Lock()
	open, failed := l.open, l.failed
	l.mu.Unlock()
	if errors.Is(failed, ErrUnavailable) {
		return failed
	}
	full := open.size+int64(len(b.text)) > l.options.SegmentBytes || len(open.index) >= maxSegmentRecords
	if age := l.options.Retention.segmentAge(); age > 0 && !full {
		full = l.options.Now().Sub(open.began) >= age
	}
	if open.size > 0 && full {
		var err error
		if open, err = l.rotate(open); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	lines, synced := l.lines[:0], open.last
	index := slices.Grow(open.index, len(b.events))
	size, start := open.size, 0
	for _, event := range b.events {
		open.last++
		index = append(index, indexEntry{event.hash, size + int64(len(lines))})
		lines, open.mac = l.keys.appendLine(lines, open.last, synced, b.text[start:event.end], open.mac)
		start = event.end
	}
	if l.lines = lines; cap(lines) > maxKept {
		l.lines = nil
	}
	began := time.Now()
	fatal, err := write(open.file, lines, size)
	l.syncing = time.Since(began)
	l.options.Synced(len(b.events), l.syncing)
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(b.text) <= maxKept {
		l.spare = batch{events: b.events, text: b.text}
	}
	switch {
	case err == nil:
		open.size, open.index = size+int64(len(lines)), index
		l.open = open
		l.keeper.appended(open.last)
	case fatal:
		l.failed = errors.Join(l.failed, err)
	}
	return err
}

// write writes and syncs the lines at the end of a segment. After a fatal error
// the end of the file is unknown.
func write(f file, lines []byte, size int64) (fatal bool, err error) {
	if _, err = f.WriteAt(lines, size); err == nil {
		if err = f.Sync(); err == nil {
			return false, nil
		}
		// The kernel may have dropped the dirty pages and forgotten about
		// them: syncing again would report success for what is lost.
		fatal = true
	}
	err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	if cutErr := f.Truncate(size); cutErr != nil {
		return true, errors.Join(err, cutErr)
	}
	return fatal, err
}

// rotate begins a new segment. All that the old one has is durable.
func (l *Log) rotate(old openSegment) (openSegment, error) {
	next := openSegment{segment: segment{first: old.last + 1, start: old.mac}, mac: old.mac}
	next.last, next.began = old.last, l.options.Now()
	old.written = next.began
	f, err := l.create(l.path(next.segment))
	if err == nil {
		if err = durable.SyncDir(l.dir); err != nil {
			f.Close()
		}
	}
	if err != nil {
		// The next batch may be small enough for the old one: a file that begins
		// with the same number must not stand beside it.
		return old, errors.Join(err, removeEmpty(l.path(next.segment)))
	}
	next.file = f
	// An index that is missing is made when it is needed.
	if err := writeIndex(l.dir, &l.keys, old.segment, old.index); err != nil {
		l.options.Failed(err)
	}
	l.mu.Lock()
	l.closed = append(slices.Clip(l.closed), old.segment)
	l.open = next
	l.mu.Unlock()
	// Whoever looks for a record in it now tries again.
	if err := old.file.Close(); err != nil {
		l.options.Failed(err)
	}
	return next, nil
}

// removeEmpty removes a segment if it is there and empty.
func removeEmpty(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// createSegment makes an empty segment. One that an earlier attempt left is empty
// too, as nothing is written before its name is durable.
func createSegment(path string) (file, error) {
	f, err := durable.OpenPrivate(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		err = fmt.Errorf("%s is not empty", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
