// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cretula/cretula/kms/keystore"
)

// Recent is how long [Ledger.ViewRecent] believes what it has compared with the
// store, counted from before that reading began.
const Recent = time.Second

// confirmEvery is how often [Ledger.Run] looks whether others have written.
const confirmEvery = Recent / 4

var (
	// errNotRecent ends a function that ViewRecent tries from memory alone.
	errNotRecent = errors.New("ledger: not confirmed recently")
	errTooSlow   = fmt.Errorf("%w: it takes longer than %v to answer", keystore.ErrUnavailable, Recent)
)

// An instant is a time by the ledger's clock since the ledger was opened.
type instant time.Duration

// A confirmation says when something was last found to be as the store has it.
type confirmation struct {
	// after is the nanoseconds from the opening of the ledger to the confirmation,
	// and one more; 0: never.
	after atomic.Int64
}

// confirm notes that a reading that began at an instant has found it right.
func (c *confirmation) confirm(at instant) {
	for {
		known := c.after.Load()
		if known > int64(at) || c.after.CompareAndSwap(known, int64(at)+1) {
			return
		}
	}
}

// never is the instant of what was not confirmed.
const never = instant(math.MinInt64 / 2)

// at returns when the last reading began that has found it right.
func (c *confirmation) at() instant {
	if after := c.after.Load(); after > 0 {
		return instant(after - 1)
	}
	return never
}

// SetClock gives the ledger another clock, for tests. It must be called before
// the ledger is used by others.
func (l *Ledger) SetClock(now func() time.Time) {
	l.now = now
	l.opened = now()
	l.state.Load().confirmed.after.Store(0)
}

// instant returns the time by the ledger's clock, which is monotonic: see clock.
func (l *Ledger) instant() instant { return instant(l.now().Sub(l.opened)) }

// ViewRecent is [Ledger.View] for decisions that are made again and again: what fn
// reads is as the store had it at most [Recent] ago, all of it of one generation
// of the roster. Rows that were compared with the store since are taken from
// memory, if the roster was as well; all others are read, and compared, in a
// transaction. What an Update of this Ledger has written is seen as soon as that
// has returned.
//
// So a row that was changed by hand, and a change that another server has made, is
// noticed at most Recent later. Where the store does not answer, ViewRecent fails
// with its error once nothing that it needs is confirmed; the error matches
// [keystore.ErrUnavailable] too if the store takes longer than Recent.
//
// fn may be called more than once, and must begin anew each time. What it returns
// for a call that could not be served from memory is passed over. ctx counts only once
// the store is asked.
func (l *Ledger) ViewRecent(ctx context.Context, fn func(*Tx) error) error {
	return l.ReadRecent(ctx, reading(fn))
}

// A Reader reads in a transaction, and keeps what it has read.
type Reader interface{ Read(*Tx) error }

type reading func(*Tx) error

// Read implements [Reader].
func (fn reading) Read(tx *Tx) error { return fn(tx) }

// ReadRecent is [Ledger.ViewRecent] for a Reader, of whom nothing is copied for the
// transaction.
func (l *Ledger) ReadRecent(ctx context.Context, r Reader) error {
	if err := l.RolledBack(); err != nil {
		return err
	}
	recent, err := l.tryMemory(r)
	if recent {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// The first transaction may have waited for a connection, or read parts of the
	// roster that the second finds in memory.
	for range 2 {
		began := l.instant()
		err := l.view(ctx, true, r.Read)
		if err != nil || l.instant()-began <= instant(Recent) {
			return err
		}
	}
	return errTooSlow
}

// tryMemory lets r read what is in memory. It reports whether that was all that r
// wanted, and recent.
func (l *Ledger) tryMemory(r Reader) (recent bool, err error) {
	st := l.state.Load()
	tx := memoryTxs.Get().(*Tx)
	*tx = Tx{ledger: l, state: st, memory: true, at: st.confirmed.at()}
	err = r.Read(tx)
	at, hits, missed := tx.at, tx.hits, tx.missed
	*tx = Tx{} // nobody may use it any more
	memoryTxs.Put(tx)
	// The clock is asked once r is done: a process that was stopped meanwhile must not
	// go on as if it had not been.
	if l.instant()-at > instant(Recent) {
		l.missed.Add(hits)
		return false, nil
	}
	l.remembered.Add(hits)
	return !missed, err
}

// memoryTxs has the memory of those that are done.
var memoryTxs = sync.Pool{New: func() any { return new(Tx) }}

// Run keeps what [Ledger.ViewRecent] believes close to the store until ctx ends:
// where the store is one that others write, it looks at every notice of a change,
// and several times within [Recent] in any case. Nothing depends on it but how soon
// a change is seen, and how often requests wait for the store.
func (l *Ledger) Run(ctx context.Context) {
	watcher, ok := l.store.(keystore.Watcher)
	if !ok {
		<-ctx.Done()
		return
	}
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for ctx.Err() == nil {
			// Its error says nothing that the readings below do not find out.
			_ = watcher.Watch(ctx, func() {
				select {
				case changed <- struct{}{}:
				default: // one is waiting already
				}
			})
			pause(ctx, Recent)
		}
	})
	ticker := time.NewTicker(confirmEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-ticker.C:
		}
		// Where it fails nothing is confirmed, and the next request says why.
		_ = l.View(ctx, func(*Tx) error { return nil })
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// remembered returns a row from memory.
func (t *Tx) remembered(table, id string) (*cachedRow, error) {
	c := t.ledger.cache.get(rowName{table, id})
	if c == nil || !t.listsNow(c) {
		t.ledger.missed.Add(1)
		return nil, t.miss()
	}
	t.at = min(t.at, c.confirmed.at())
	t.hits++
	return c, nil
}

// ConfirmedAge returns how long ago the roster was last found to be as the store has
// it.
func (l *Ledger) ConfirmedAge() time.Duration {
	return time.Duration(l.instant()) - time.Duration(max(l.state.Load().confirmed.after.Load()-1, 0))
}

// CacheStats are figures of the rows that are remembered: how many of those that
// [Ledger.ViewRecent] wanted were there and recent.
type CacheStats struct {
	Entries      int
	Hits, Misses uint64
}

// CacheStats returns the figures of now.
func (l *Ledger) CacheStats() CacheStats {
	l.cache.mu.Lock()
	defer l.cache.mu.Unlock()
	s := CacheStats{Entries: len(l.cache.young), Hits: l.remembered.Load(), Misses: l.missed.Load()}
	for name := range l.cache.old {
		if l.cache.young[name] == nil {
			s.Entries++
		}
	}
	return s
}

// listsNow tells whether the roster, as far as it is in memory, has the row.
func (t *Tx) listsNow(c *cachedRow) bool {
	s := t.state.loaded[c.shard].Load()
	if s == nil {
		return false // perhaps not one that this state may have: see readShard
	}
	if known := c.listed.Load(); known != nil && *known == t.state.macs[c.shard] {
		return true
	}
	want, listed := s.get(c.row.Table, c.row.ID)
	if !listed || !c.is(want) {
		return false
	}
	current := t.state.macs[c.shard] // a copy, which keeps no state in memory
	c.listed.Store(&current)
	return true
}

func (t *Tx) miss() error {
	t.missed = true
	return errNotRecent
}

// What is kept of scans is emptied when it is full. It is weighed like the rows of the
// cache, of which some are the same.
const (
	maxScans    = 32 << 20 // bytes
	maxScanRows = 32       // of a scan that is kept
)

// A recentScan is what a scan has found in the store, with nothing wrong in it.
type recentScan struct {
	rows []*cachedRow
	// index is that of the table: while it is the same no row of the table was
	// written by anyone.
	index *index
	at    instant
}

func (s *recentScan) weight(name rowName) int {
	weight := rowWeight + len(name.id)
	for _, c := range s.rows {
		weight += c.weight()
	}
	return weight
}

type recentScans struct {
	mu     sync.Mutex
	scans  map[rowName]recentScan // the id is the prefix
	weight int
}

func (r *recentScans) get(name rowName) (recentScan, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.scans[name]
	return s, ok
}

func (r *recentScans) put(name rowName, s recentScan) {
	weight := s.weight(name)
	if weight > maxScans/8 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.scans[name]; ok {
		r.weight -= before.weight(name)
	}
	if r.scans == nil || r.weight+weight > maxScans {
		r.scans, r.weight = make(map[rowName]recentScan), 0
	}
	r.scans[name] = s
	r.weight += weight
}

// rememberedScan returns the rows of a scan from memory.
func (t *Tx) rememberedScan(table, prefix string) ([]*cachedRow, error) {
	s, ok := t.ledger.scans.get(rowName{table, prefix})
	if !ok || s.index != t.state.indexOf(table) {
		return nil, t.miss()
	}
	t.at = min(t.at, s.at)
	return s.rows, nil
}
