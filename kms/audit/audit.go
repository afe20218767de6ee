// SPDX-License-Identifier: Apache-2.0

// Package audit keeps the record of every decision: an append-only file of
// JSON lines, each durable before [Log.Append] returns.
//
// A line is one object with these members, in this order, without white space
// between them:
//
//	seq     number of the record, 1 for the first, rising by one
//	synced  number of the last record that was durable when this was written
//	event   the caller's object
//	sum     CRC-32C of the bytes of the line before this member, 8 hex digits
//
// A crash can lose or tear, of what Append has not acknowledged, any part: the
// lines that were being written together when it came. "synced" tells that
// apart from later damage: damage at record n followed by a line whose synced
// is n or more cannot be the crash's. "sum" finds accidents, not attacks; a
// chain of HMACs will take a member of its own beside it.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// Limits.
const (
	MaxEvent = 1 << 20 // bytes of an event's JSON
	// maxPending bounds what waits for the disk when it hangs and callers
	// give up.
	maxPending = 64 << 20
	// maxKept is the largest buffer that is used again.
	maxKept = 1 << 20
)

var (
	// ErrEvent: the event is not a JSON object of at most MaxEvent bytes.
	// Nothing was written.
	ErrEvent = errors.New("audit: event cannot be recorded")
	// ErrUnavailable: the disk does not take the record. It may or may not be
	// in the log; what depends on it must not be answered.
	ErrUnavailable = errors.New("audit: log cannot be written")
	// ErrInUse: another process has the log open for appending.
	ErrInUse = errors.New("audit log is in use by another process")
	// ErrNotFound: no record has the decision id.
	ErrNotFound = errors.New("audit: no such record")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("audit: log is closed")
)

// An Entry is one record of the log.
type Entry struct {
	// Seq is the record's number.
	Seq uint64
	// Event is the JSON object that was given to Append.
	Event json.RawMessage
}

// A Cut says what Open removed from the end of the log.
type Cut struct {
	// Offset is where the log ends now, in bytes; Bytes is how much was
	// removed there.
	Offset, Bytes int64
}

// file is what a Log needs of an [os.File]; tests make it fail.
type file interface {
	WriteAt(p []byte, off int64) (int, error)
	ReadAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// A Log is an open audit log. It is safe for concurrent use.
//
// If a write fails, because the disk is full for instance, every Append that
// waits for it fails, the file is cut back to what is durable, and the next
// Append tries again. If that cut or a sync fails nobody knows what is on the
// disk: from then on every Append fails until the log is opened anew. Both
// match [ErrUnavailable].
type Log struct {
	file file
	cut  Cut

	// flushing is held by the one goroutine that writes; lines is its buffer,
	// callers how many have called of late, syncing how long the last sync took.
	flushing sync.Mutex
	lines    []byte
	callers  int
	syncing  time.Duration

	mu      sync.Mutex
	pending *batch
	// size and last are those of the durable part.
	size   int64
	last   uint64
	failed error // why no Append can succeed any more
}

// A batch is what one write and one sync make durable.
type batch struct {
	events []*bytes.Buffer
	bytes  int
	done   chan struct{}
	err    error // valid once done is closed
}

// Open opens the log at path for appending; it makes the file (0600) and its
// folder (0700) if they are missing. Looser ones, and files that are not
// regular, are refused with [durable.ErrNotPrivate].
//
// The whole log is read. What a crash left behind its last durable record,
// which nobody was answered on, is cut off; see [Log.Cut]. Damage before that
// is a [DamagedError], and nothing is changed.
func Open(path string) (*Log, error) {
	if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := durable.OpenPrivate(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	l, err := open(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

func open(f *os.File) (*Log, error) {
	if err := durable.Lock(f); errors.Is(err, durable.ErrLocked) {
		return nil, ErrInUse
	} else if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end, last, err := scanLog(f, info.Size())
	if err != nil {
		return nil, err
	}
	l := &Log{file: f, size: end, last: last}
	if end < info.Size() {
		l.cut = Cut{Offset: end, Bytes: info.Size() - end}
		if err := f.Truncate(end); err != nil {
			return nil, err
		}
	}
	// What was read may never have been synced; the next line says it was.
	return l, f.Sync()
}

// Cut returns what Open removed, and whether it removed anything.
func (l *Log) Cut() (Cut, bool) { return l.cut, l.cut.Bytes > 0 }

// Append adds the event, which must become a JSON object of at most
// [MaxEvent] bytes, and returns nil once it is durable. Calls that overlap
// share one write and one sync. If ctx ends first Append returns its error;
// the record may then be in the log or not.
//
// An event with a method AppendJSON([]byte) ([]byte, error) writes its JSON itself:
// what it appends must be one object on one line.
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
	b, err := l.enqueue(encoded)
	if err != nil {
		release(encoded)
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

// enqueue adds the event to the batch that will be written next, which releases
// it then.
func (l *Log) enqueue(event *bytes.Buffer) (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return nil, l.failed
	}
	if l.pending == nil {
		l.pending = &batch{done: make(chan struct{})}
		// It waits for the batch before; meanwhile this one gathers. It is
		// a goroutine so that a caller can leave before it is done.
		go l.flush(l.pending)
	}
	b := l.pending
	if b.bytes+event.Len() > maxPending {
		return nil, fmt.Errorf("%w: %d bytes wait for the disk", ErrUnavailable, b.bytes)
	}
	b.events = append(b.events, event)
	b.bytes += event.Len()
	return b, nil
}

// flush makes the batch durable unless another call has done it.
func (l *Log) flush(b *batch) {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.gather(b)
	l.mu.Lock()
	if l.pending != b {
		l.mu.Unlock()
		return
	}
	l.pending = nil
	size, last, failed := l.size, l.last, l.failed
	l.mu.Unlock()
	if failed != nil {
		b.err = failed
		close(b.done)
		return
	}

	lines := l.lines[:0]
	for i, event := range b.events {
		lines = appendLine(lines, last+1+uint64(i), last, event.Bytes())
		release(event)
	}
	if l.lines = lines; cap(lines) > maxKept {
		l.lines = nil
	}
	fatal, err := l.write(lines, size)
	l.mu.Lock()
	switch {
	case err == nil:
		l.size += int64(len(lines))
		l.last += uint64(len(b.events))
	case fatal:
		l.failed = err
	}
	l.mu.Unlock()
	b.err = err
	close(b.done)
}

const (
	// maxYields bounds how often gather gives way.
	maxYields = 16
	// manyCallers is from when on gather waits for those that it has seen before.
	manyCallers = 8
	// maxGather bounds how long it does.
	maxGather = time.Millisecond
)

// gather lets others append before the batch is written, so that many share one
// sync. Where there were many callers of late it waits for them, no longer than the
// last sync took; then every goroutine that is ready to run goes first, as long as
// that brings further events. One caller alone waits for nothing.
func (l *Log) gather(b *batch) {
	if n := l.waiting(b); l.callers >= manyCallers && n < l.callers {
		time.Sleep(min(l.syncing, maxGather))
	}
	n := l.waiting(b)
	for range maxYields {
		before := n
		runtime.Gosched()
		if n = l.waiting(b); n == before {
			break
		}
	}
	l.callers = max(n, l.callers*7/8)
}

func (l *Log) waiting(b *batch) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(b.events)
}

// write writes and syncs the lines at the end of the log. After a fatal error
// the end of the file is unknown.
func (l *Log) write(lines []byte, size int64) (fatal bool, err error) {
	if _, err = l.file.WriteAt(lines, size); err == nil {
		began := time.Now()
		if err = l.file.Sync(); err == nil {
			l.syncing = time.Since(began)
			return false, nil
		}
		// The kernel may have dropped the dirty pages and forgotten about
		// them: syncing again would report success for what is lost.
		fatal = true
	}
	err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	if cutErr := l.file.Truncate(size); cutErr != nil {
		return true, errors.Join(err, cutErr)
	}
	return fatal, err
}

// Close waits for the Append calls that have begun and closes the log. Later
// ones return [ErrClosed]. A second Close returns nil.
func (l *Log) Close() error {
	l.mu.Lock()
	if errors.Is(l.failed, ErrClosed) {
		l.mu.Unlock()
		return nil
	}
	b := l.pending
	l.mu.Unlock()
	if b != nil {
		l.flush(b)
	}
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = ErrClosed
	return l.file.Close()
}

// durablePart returns where the durable part of the log ends.
func (l *Log) durablePart() (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.failed, ErrClosed) {
		return 0, ErrClosed
	}
	return l.size, nil
}

// Find returns the newest durable record whose event has the given decision
// id; [ErrNotFound] if there is none. It reads backwards from the end.
func (l *Log) Find(ctx context.Context, decision string) (Entry, error) {
	size, err := l.durablePart()
	if err != nil {
		return Entry{}, err
	}
	return Find(ctx, l.file, size, decision)
}

// Reader returns a reader of what is durable now, from the first record on.
func (l *Log) Reader() (*Reader, error) {
	size, err := l.durablePart()
	if err != nil {
		return nil, err
	}
	return NewReader(l.file, size), nil
}
