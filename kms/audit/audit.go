// SPDX-License-Identifier: Apache-2.0

// Package audit keeps the record of every decision: an append-only log of JSON
// lines, each durable before [Log.Append] returns, in a folder of segments.
//
// A line is one object with these members, in this order, without white space
// between them:
//
//	seq     number of the record, 1 for the first, rising by one
//	synced  number of the last record that was durable when this was written
//	event   the caller's object
//	mac     HMAC-SHA-256, in hex, of the MAC of the record before (32 zero bytes
//	        before the first) and the bytes of the line before this member
//
// The key of the MACs is derived from the root key for one chain, which is one
// folder. Whoever lacks it can read the log; changing it shows. What the chain by
// itself cannot show, that its end is gone or all of it was replaced, the heads
// do: signed statements of how many records there are and what the MAC of the
// last one is, in the folder and, the newest, in a [HeadStore]. [Verify] compares
// all of it. docs/formats/audit.md has every file of the folder.
//
// A crash can lose or tear, of what Append has not acknowledged, any part: the
// lines that were being written together when it came. "synced" tells that
// apart from later damage: damage at record n followed by a line whose synced
// is n or more cannot be the crash's.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	// maxSegmentRecords bounds what is in memory of the open segment.
	maxSegmentRecords = 1 << 16
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
	// ErrNone: the folder has no audit log in it.
	ErrNone = errors.New("there is no audit log in this folder")
	// ErrOtherKey: the log is not of this store and root key, or the file that
	// says so was changed.
	ErrOtherKey = errors.New("audit: the log belongs to another store or root key, or its chain file was changed")
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
	// Segment is the name of the file, which ends at Offset now; Bytes is how
	// much was removed there.
	Segment       string
	Offset, Bytes int64
}

// Options say what a log is of. Key and StoreID must be given.
type Options struct {
	// Key is the root key of the service.
	Key Deriver
	// StoreID is the name of the store that the events are about, 1 to 64 of
	// the characters of a server's name.
	StoreID string
	// Server names the server whose requests are recorded, where several share
	// a store: at most 64 letters, digits, dots, hyphens and underscores. It
	// counts for a new folder only.
	Server string
	// Emulated says that the store is. It counts for a new folder only.
	Emulated bool
	// Heads keeps the newest head elsewhere. Nil: nowhere.
	Heads HeadStore
	// SegmentBytes is the size at which a new segment begins; 0: 64 MiB.
	SegmentBytes int64
	// HeadInterval and HeadRecords say how long it takes and how many records
	// come before the next head is written, whichever is sooner; 0: a minute,
	// 4096 records.
	HeadInterval time.Duration
	HeadRecords  uint64
	// Retention says what is removed.
	Retention Retention
	// RemovalEvent makes the event that is recorded before segments are removed;
	// nil: an object with the members of the [Removal].
	RemovalEvent func(Removal) (any, error)
	// Failed gets what goes wrong when no caller waits. Nil: nobody does.
	Failed func(error)
	// Synced is told of each batch: how many records it had and how long the disk
	// took for it. Nil: nobody is.
	Synced func(records int, took time.Duration)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

func (o *Options) setDefaults() {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.HeadInterval == 0 {
		o.HeadInterval = time.Minute
	}
	if o.HeadRecords == 0 {
		o.HeadRecords = 4096
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if o.Synced == nil {
		o.Synced = func(int, time.Duration) {}
	}
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
	options Options
	dir     string
	keys    keys
	lock    *os.File // the chain file
	cut     Cut
	create  func(path string) (file, error) // a new segment; tests make it fail

	// lines is the buffer of the goroutine that writes, callers how many there were at
	// once of late, syncing how long the last write and sync took.
	lines   []byte
	callers int
	syncing time.Duration

	keeper  keeper
	taken   atomic.Int64 // when the disk took something, 0 if the last batch was not written
	checked sync.Map     // see finder

	mu      sync.Mutex
	pending *batch
	spare   batch         // the memory of one that was written
	writing bool          // a goroutine takes what is pending
	idle    chan struct{} // closed when it has ended
	closed  []segment     // all but the open one, oldest first
	open    openSegment
	failed  error // why no Append can succeed any more
	// awaited is how many pending events arrived tells of, once; 0 if nobody waits.
	awaited int
	arrived chan struct{}
}

// An openSegment is the newest one, as far as it is durable.
type openSegment struct {
	segment
	file  file
	began time.Time
	index []indexEntry // in the order of the records
	mac   mac          // of the last record
}

// Open opens the log in the folder for appending; it makes the folder (0700) and
// what is in it (0600) if they are missing. Looser ones, and files that are not
// regular, are refused with [durable.ErrNotPrivate].
//
// The newest segment is read. What a crash left behind its last durable record,
// which nobody was answered on, is cut off; see [Log.Cut]. Damage before that
// is a [DamagedError], and so is a log that ends before the newest head that the
// folder or the HeadStore has; nothing is changed then. What is in older segments
// only [Verify] looks at.
func Open(ctx context.Context, dir string, o Options) (*Log, error) {
	o.setDefaults()
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	if err := createChain(dir, &o); err != nil {
		return nil, err
	}
	lock, err := durable.OpenPrivate(filepath.Join(dir, chainFile), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	l := &Log{options: o, dir: dir, lock: lock, create: createSegment, arrived: make(chan struct{}, 1)}
	if err := l.openFolder(ctx); err != nil {
		if l.open.file != nil {
			l.open.file.Close()
		}
		lock.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	l.keeper.start(l)
	return l, nil
}

func (l *Log) openFolder(ctx context.Context) error {
	if err := durable.Lock(l.lock); errors.Is(err, durable.ErrLocked) {
		return ErrInUse
	} else if err != nil {
		return err
	}
	chain, err := readChain(l.dir)
	if err != nil {
		return err
	}
	if l.keys, err = deriveKeys(l.options.Key, l.options.StoreID, chain.Chain); err != nil {
		return err
	}
	if chain.Store != l.options.StoreID || !chain.signedBy(l.keys.public()) {
		return ErrOtherKey
	}
	if err := l.keeper.open(l.dir, l.keys, chain); err != nil {
		return err
	}
	known, err := l.knownHeads(ctx)
	if err != nil {
		return err
	}
	return l.recover(known)
}

// knownHeads returns the heads of this chain that the log must agree with.
func (l *Log) knownHeads(ctx context.Context) ([]Head, error) {
	known := []Head{l.keeper.newest}
	if l.options.Heads == nil {
		return known, nil
	}
	texts, err := l.options.Heads.Heads(ctx)
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		head, err := ParseHead(text)
		if err != nil {
			return nil, err
		}
		if head.Chain != l.keys.chain {
			continue
		}
		if !head.signedBy(l.keys.public()) {
			return nil, ErrOtherKey
		}
		known = append(known, head)
	}
	return known, nil
}

// recover opens the newest segment, or makes the first one.
func (l *Log) recover(known []Head) error {
	segments, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	anchor := l.keeper.anchor
	// Those before the anchor are what a removal that was interrupted has left.
	for len(segments) > 1 && segments[1].first <= anchor.Count+1 {
		if err := removeSegments(l.dir, segments[:1]); err != nil {
			return err
		}
		segments = segments[1:]
	}
	segments, empty := dropEmpty(segments)
	if len(segments) == 0 {
		segments = []segment{{first: anchor.Count + 1}}
		f, err := l.create(l.path(segments[0]))
		if err != nil {
			return err
		}
		f.Close()
		if err := durable.SyncDir(l.dir); err != nil {
			return err
		}
	}
	last := segments[len(segments)-1]
	l.closed = segments[:len(segments)-1]
	start := anchor.MAC
	if n := len(l.closed); n > 0 && last.first != anchor.Count+1 {
		if start, err = lastMAC(l.path(l.closed[n-1])); err != nil {
			return err
		}
	}
	f, err := durable.OpenPrivate(l.path(last), os.O_RDWR)
	if err != nil {
		return err
	}
	l.open = openSegment{segment: last, file: f, began: l.keeper.chain.Time}
	if n := len(l.closed); n > 0 {
		l.open.began = l.closed[n-1].written
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	found, err := scanSegment(f, info.Size(), &l.keys, last.first, start, known)
	if err != nil {
		return err
	}
	for _, head := range known {
		if end := found.last; head.Count > end {
			return &DamagedError{Segment: last.name(), Offset: found.end, Seq: end + 1,
				Why: fmt.Sprintf("the log ends before it, but had %d records at %s", head.Count, head.Time.Format(time.RFC3339))}
		}
	}
	if len(empty) > 0 {
		if err := removeSegments(l.dir, empty); err != nil {
			return err
		}
	}
	l.open.size, l.open.last, l.open.start, l.open.mac, l.open.index = found.end, found.last, start, found.mac, found.index
	if found.end < info.Size() {
		l.cut = Cut{Segment: last.name(), Offset: found.end, Bytes: info.Size() - found.end}
		if err := f.Truncate(found.end); err != nil {
			return err
		}
	}
	// What was read may never have been synced; the next line says it was.
	return f.Sync()
}

// dropEmpty sets segments without records apart, all but the oldest: one was made just
// before a crash, or by an attempt that failed and went on in the segment before.
func dropEmpty(segments []segment) (kept, empty []segment) {
	for i, s := range segments {
		if i > 0 && s.size == 0 {
			empty = append(empty, s)
			continue
		}
		if i > 0 {
			kept[len(kept)-1].last = s.first - 1
		}
		kept = append(kept, s)
	}
	return kept, empty
}

func (l *Log) path(s segment) string { return filepath.Join(l.dir, s.name()) }

// Cut returns what Open removed, and whether it removed anything.
func (l *Log) Cut() (Cut, bool) { return l.cut, l.cut.Bytes > 0 }

// Close waits for the Append calls that have begun, writes a last head and closes
// the log. Later calls return [ErrClosed]. A second Close returns nil.
func (l *Log) Close() error {
	l.mu.Lock()
	if errors.Is(l.failed, ErrClosed) {
		l.mu.Unlock()
		return nil
	}
	l.failed = ErrClosed
	idle := l.idle
	if !l.writing {
		idle = nil
	}
	l.mu.Unlock()
	if idle != nil {
		<-idle
	}
	return errors.Join(l.keeper.stop(), l.open.file.Close(), l.lock.Close())
}

// Find returns the newest durable record whose event has the given decision
// id; [ErrNotFound] if there is none. The indexes are looked at, not the
// segments; what they lead to is checked, and a record whose MAC does not fit is
// a [DamagedError].
func (l *Log) Find(ctx context.Context, decision string) (Entry, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Entry{}, err
		}
		entry, err := l.find(ctx, decision)
		if err == nil || !errors.Is(err, fs.ErrClosed) {
			return entry, err
		}
		// The segment was closed for a new one just now.
	}
}

func (l *Log) find(ctx context.Context, decision string) (Entry, error) {
	l.mu.Lock()
	if errors.Is(l.failed, ErrClosed) {
		l.mu.Unlock()
		return Entry{}, ErrClosed
	}
	open, closed := l.open, l.closed
	l.mu.Unlock()
	want := hashOf(decision)
	for i := len(open.index) - 1; i >= 0; i-- {
		if open.index[i].hash != want {
			continue
		}
		entry, err := readIndexed(open.file, open.size, open.index[i].offset, open.start, &l.keys, decision)
		if !errors.Is(err, ErrNotFound) {
			return entry, err
		}
	}
	for i := len(closed) - 1; i >= 0; i-- {
		entry, err := finder{l.dir, &l.keys, &l.checked}.find(ctx, closed[i], decision)
		if !errors.Is(err, ErrNotFound) {
			return entry, err
		}
	}
	return Entry{}, ErrNotFound
}

// Reader returns a reader of the log, from the first record on.
func (l *Log) Reader() (*Reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.failed, ErrClosed) {
		return nil, ErrClosed
	}
	return NewReader(l.dir), nil
}
