// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/keystore"
)

// A countedStore counts its transactions and fails on demand.
type countedStore struct {
	keystore.Store
	views atomic.Int64
	fail  atomic.Pointer[error]
	// before is called within View, before its transaction.
	before func()
}

func (s *countedStore) View(ctx context.Context, fn func(keystore.Tx) error) error {
	s.views.Add(1)
	if err := s.fail.Load(); err != nil {
		return *err
	}
	if s.before != nil {
		s.before()
	}
	return s.Store.View(ctx, fn)
}

func (s *countedStore) setFailure(err error) { s.fail.Store(&err) }

// A recentFixture has a ledger whose clock stands still until the test moves it.
type recentFixture struct {
	*fixture
	counted *countedStore
	clock   time.Time
}

func newRecentFixture(t *testing.T) *recentFixture {
	t.Helper()
	f := newFixture(t)
	counted := &countedStore{Store: f.store}
	l, err := Open(ctx, counted, f.root)
	if err != nil {
		t.Fatal(err)
	}
	f.Ledger = l
	r := &recentFixture{fixture: f, counted: counted, clock: time.Now()}
	l.SetClock(func() time.Time { return r.clock })
	return r
}

func (r *recentFixture) pass(d time.Duration) { r.clock = r.clock.Add(d) }

// recent reads a row by ViewRecent.
func (r *recentFixture) recent(id string) (text string, err error) {
	err = r.ViewRecent(ctx, func(tx *Tx) error {
		var getErr error
		text, _, getErr = GetCached(tx, "policy", id, func(content []byte) (string, error) { return string(content), nil })
		return getErr
	})
	return text, err
}

// want reads a row that must have a text, with so many transactions of the store.
func (r *recentFixture) want(id, text string, views int64) {
	r.t.Helper()
	before := r.counted.views.Load()
	got, err := r.recent(id)
	if err != nil || got != text {
		r.t.Errorf("row %s: %q, %v, want %q", id, got, err, text)
	}
	if n := r.counted.views.Load() - before; n != views {
		r.t.Errorf("row %s: %d transactions of the store, want %d", id, n, views)
	}
}

func TestViewRecent(t *testing.T) {
	r := newRecentFixture(t)
	r.putContent("k1", "one")
	r.putContent("k2", "two")
	r.want("k1", "one", 1) // nobody has read it
	r.want("k1", "one", 0)
	r.pass(Recent / 2)
	r.want("k2", "two", 1)
	r.pass(Recent / 2)
	r.want("k1", "one", 0) // to the last moment
	r.pass(1)
	r.want("k1", "one", 1)
	r.want("k2", "two", 0) // confirmed half a second after k1
	r.want("k1", "one", 0)
	// What this ledger writes is seen at once, and other rows stay confirmed.
	r.putContent("k1", "new")
	r.want("k2", "two", 0)
	r.want("k1", "new", 1)
	r.want("k1", "new", 0)
	if err := r.Update(ctx, func(tx *Tx) error { return tx.Delete("policy", "k1") }); err != nil {
		t.Fatal(err)
	}
	if text, err := r.recent("k1"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a deleted row: %q, %v", text, err)
	}
	// A confirmation counts from before the reading began.
	r.pass(2 * Recent)
	r.counted.before = func() { r.pass(Recent * 2 / 3) }
	r.want("k2", "two", 1)
	r.counted.before = nil
	r.pass(Recent / 3)
	r.want("k2", "two", 0)
	r.pass(2)
	r.want("k2", "two", 1)
}

// What an Update writes and takes back is not seen.
func TestViewRecentOfAbortedUpdate(t *testing.T) {
	r := newRecentFixture(t)
	r.putContent("k1", "one")
	r.want("k1", "one", 1)
	abort := errors.New("abort")
	err := r.Update(ctx, func(tx *Tx) error {
		if _, err := tx.Put("policy", "k1", []byte("never")); err != nil {
			return err
		}
		if _, _, err := tx.Get("policy", "k1"); err != nil {
			return err
		}
		return abort
	})
	if !errors.Is(err, abort) {
		t.Fatal(err)
	}
	r.want("k1", "one", 1)
	r.want("k1", "one", 0)
}

// What is done to the store by hand is noticed within Recent, whatever it is, and
// forgotten once it is undone.
func TestViewRecentNoticesTampering(t *testing.T) {
	for name, c := range map[string]struct {
		change func(tx keystore.Tx, row, old keystore.Row) error
		what   What
	}{
		"content": {func(tx keystore.Tx, row, _ keystore.Row) error {
			row.Content = []byte("evil")
			return tx.Put(row)
		}, Changed},
		"version": {func(tx keystore.Tx, row, _ keystore.Row) error {
			row.Version++
			return tx.Put(row)
		}, Changed},
		"rolled back": {func(tx keystore.Tx, _, old keystore.Row) error { return tx.Put(old) }, RolledBack},
		"removed":     {func(tx keystore.Tx, row, _ keystore.Row) error { return tx.Delete(row.Table, row.ID) }, Removed},
		"moved": {func(tx keystore.Tx, row, _ keystore.Row) error {
			other, err := tx.Get("policy", "k2")
			if err != nil {
				return err
			}
			other.ID = row.ID
			return tx.Put(other)
		}, Moved},
		"root of the roster": {func(tx keystore.Tx, _, _ keystore.Row) error { return tx.Delete(rosterTable, rootID) }, Removed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecentFixture(t)
			r.putContent("k1", "first")
			old := r.rawGet("policy", "k1")
			r.putContent("k1", "one")
			r.putContent("k2", "two")
			r.want("k1", "one", 1)
			row, root := r.rawGet("policy", "k1"), r.rawGet(rosterTable, rootID)
			r.raw(func(tx keystore.Tx) error { return c.change(tx, row, old) })
			r.want("k1", "one", 0)
			r.pass(Recent + 1)
			for range 2 {
				_, err := r.recent("k1")
				if e, ok := errors.AsType[*TamperedError](err); !ok || e.What != c.what {
					t.Errorf("%v, want %s", err, c.what)
				}
			}
			r.raw(func(tx keystore.Tx) error { return errors.Join(tx.Put(row), tx.Put(root)) })
			r.want("k1", "one", 1)
		})
	}
}

// A row that the ledger has never seen is looked for in the store, and one that
// somebody has added is found out.
func TestViewRecentOfAddedRow(t *testing.T) {
	r := newRecentFixture(t)
	r.putContent("k1", "one")
	for range 2 {
		if _, err := r.recent("k3"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("no row: %v", err)
		}
	}
	row := r.rawGet("policy", "k1")
	row.ID = "k3"
	r.rawPut(row)
	if _, err := r.recent("k3"); !isWhat(err, Moved) && !isWhat(err, Added) {
		t.Errorf("an added row: %v", err)
	}
}

func isWhat(err error, what What) bool {
	e, ok := errors.AsType[*TamperedError](err)
	return ok && e.What == what
}

func (r *recentFixture) wantScan(prefix string, views int64, ids ...string) {
	r.t.Helper()
	before := r.counted.views.Load()
	var got []string
	err := r.ViewRecent(ctx, func(tx *Tx) error {
		got = nil
		return tx.Scan("policy", prefix, func(row Row) bool {
			got = append(got, row.ID)
			if row.Err != nil {
				got[len(got)-1] += "!"
			} else {
				row.Content[0] ^= 1 // it is the caller's
			}
			return true
		})
	})
	if err != nil || !slices.Equal(got, ids) {
		r.t.Errorf("scan of %q: %v, %v, want %v", prefix, got, err, ids)
	}
	if n := r.counted.views.Load() - before; n != views {
		r.t.Errorf("scan of %q: %d transactions, want %d", prefix, n, views)
	}
}

func TestViewRecentScan(t *testing.T) {
	r := newRecentFixture(t)
	r.put("policy", "a/1", "a/2", "b/1")
	r.wantScan("a/", 1, "a/1", "a/2")
	r.wantScan("a/", 0, "a/1", "a/2")
	r.wantScan("c/", 1)
	r.wantScan("c/", 0)
	// A write to another table leaves it, one to this table does not.
	r.put("other", "x")
	r.wantScan("a/", 0, "a/1", "a/2")
	r.put("policy", "c/1")
	r.wantScan("a/", 1, "a/1", "a/2")
	r.wantScan("c/", 1, "c/1")
	// Rows that were added or removed by hand.
	row := r.rawGet("policy", "b/1")
	row.ID = "a/3"
	r.rawPut(row)
	r.raw(func(tx keystore.Tx) error { return tx.Delete("policy", "a/1") })
	r.wantScan("a/", 0, "a/1", "a/2")
	r.pass(Recent + 1)
	r.wantScan("a/", 1, "a/1!", "a/2", "a/3!")
	r.wantScan("a/", 1, "a/1!", "a/2", "a/3!") // what is wrong is not kept
	// Neither is a scan that ended early.
	r.wantFirst("c/1")
	r.wantScan("", 1, "a/1!", "a/2", "a/3!", "b/1", "c/1")
}

// ScanFault finds what Scan finds, as often as that.
func TestViewRecentScanFault(t *testing.T) {
	r := newRecentFixture(t)
	r.put("policy", "a/1", "b/1")
	want := func(prefix string, views int64, what What) {
		t.Helper()
		before := r.counted.views.Load()
		err := r.ViewRecent(ctx, func(tx *Tx) error { return tx.ScanFault("policy", prefix) })
		if what == "" && err != nil || what != "" && !isWhat(err, what) {
			t.Errorf("%q: %v, want %q", prefix, err, what)
		}
		if n := r.counted.views.Load() - before; n != views {
			t.Errorf("%q: %d transactions, want %d", prefix, n, views)
		}
	}
	for _, prefix := range []string{"a/", "c/"} {
		want(prefix, 1, "")
		want(prefix, 0, "")
	}
	row := r.rawGet("policy", "b/1")
	row.ID = "c/1"
	r.rawPut(row)
	r.raw(func(tx keystore.Tx) error { return tx.Delete("policy", "a/1") })
	want("c/", 0, "")
	r.pass(Recent + 1)
	for range 2 {
		want("a/", 1, Removed)
		want("c/", 1, Added)
		want("b/", 1, "")
		r.pass(Recent + 1)
	}
}

// wantFirst scans the table up to its first sound row.
func (r *recentFixture) wantFirst(id string) {
	r.t.Helper()
	var got string
	err := r.ViewRecent(ctx, func(tx *Tx) error {
		return tx.Scan("policy", "c/", func(row Row) bool { got = row.ID; return false })
	})
	if err != nil || got != id {
		r.t.Errorf("first row %q, %v, want %q", got, err, id)
	}
}

// More rows than are kept are read each time, and all of them found.
func TestViewRecentLongScan(t *testing.T) {
	r := newRecentFixture(t)
	ids := make([]string, maxScanRows+1)
	for i := range ids {
		ids[i] = fmt.Sprintf("a/%03d", i)
	}
	r.put("policy", ids...)
	r.wantScan("a/", 1, ids...)
	r.wantScan("a/", 1, ids...)
	r.wantScan("a/00", 1, ids[:10]...)
	r.wantScan("a/00", 0, ids[:10]...)
}

// A store that does not answer is refused once nothing is confirmed, and used
// again when it answers.
func TestViewRecentOfUnavailableStore(t *testing.T) {
	r := newRecentFixture(t)
	r.putContent("k1", "one")
	r.putContent("k2", "two")
	r.want("k1", "one", 1)
	r.counted.setFailure(fmt.Errorf("%w: it is away", keystore.ErrUnavailable))
	r.want("k1", "one", 0)
	if _, err := r.recent("k2"); !errors.Is(err, keystore.ErrUnavailable) { // never read
		t.Errorf("%v", err)
	}
	r.pass(Recent + 1)
	for range 2 {
		if text, err := r.recent("k1"); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%q, %v", text, err)
		}
	}
	r.counted.fail.Store(nil)
	r.want("k1", "one", 1)
}

// A store that takes longer than Recent confirms nothing: one such reading is
// forgiven, as it may have waited for something that is there now.
func TestViewRecentOfSlowStore(t *testing.T) {
	r := newRecentFixture(t)
	r.putContent("k1", "one")
	slow := 1
	r.counted.before = func() {
		if slow--; slow >= 0 {
			r.pass(Recent + 1)
		}
	}
	r.want("k1", "one", 2)
	r.pass(Recent + 1)
	slow = 100
	if text, err := r.recent("k1"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("%q, %v", text, err)
	}
}

// A ledger over a store that another one writes: what that has written is seen
// within Recent, all of it together.
func TestViewRecentOfAnothersWrites(t *testing.T) {
	r := newRecentFixture(t)
	r.putContent("k1", "one")
	r.putContent("k2", "one")
	other, err := Open(ctx, r.store, r.root)
	if err != nil {
		t.Fatal(err)
	}
	r.want("k1", "one", 1)
	r.want("k2", "one", 1)
	write := func(text string) {
		t.Helper()
		err := other.Update(ctx, func(tx *Tx) error {
			_, err1 := tx.Put("policy", "k1", []byte(text))
			_, err2 := tx.Put("policy", "k2", []byte(text))
			return errors.Join(err1, err2)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write("two")
	r.want("k1", "one", 0)
	r.pass(Recent + 1)
	r.want("k1", "two", 1)
	r.want("k2", "two", 1) // another roster: what was confirmed under the old one is not
	// An Update that fails has seen it all the same, and so does who decides anew.
	write("three")
	failed := errors.New("changed meanwhile")
	if err := r.Update(ctx, func(*Tx) error { return failed }); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	r.want("k1", "three", 1)
	// So does a confirmation of the roster alone, which is what Run makes.
	write("four")
	if err := r.View(ctx, func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	r.want("k2", "four", 1)
}

// A watchedStore says when it is told of a change.
type watchedStore struct {
	*countedStore
	changed chan func()
}

func (s *watchedStore) Watch(ctx context.Context, changed func()) error {
	select {
	case s.changed <- changed:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

// Run confirms the roster when it is told of a change, without a request.
func TestRun(t *testing.T) {
	f := newFixture(t)
	store := &watchedStore{&countedStore{Store: f.store}, make(chan func())}
	l, err := Open(ctx, store, f.root)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan bool)
	go func() { l.Run(running); close(done) }()
	changed := <-store.changed
	f.putContent("k1", "one") // by another ledger
	changed()
	for l.state.Load().generation != f.state.Load().generation {
		time.Sleep(time.Millisecond)
	}
	// Without being told it looks as well.
	f.putContent("k1", "two")
	for l.state.Load().generation != f.state.Load().generation {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
	// A store that nobody else writes is left alone.
	running, stop = context.WithCancel(ctx)
	stop()
	views := store.views.Load()
	f.Run(running)
	if n := store.views.Load(); n != views {
		t.Errorf("%d transactions", n-views)
	}
}

// However large the rows of scans are, what is kept of them is bounded.
func TestRecentScansAreBounded(t *testing.T) {
	f := newRecentFixture(t)
	large := bytes.Repeat([]byte("x"), MaxContent)
	const prefixes = 24
	for i := range prefixes {
		err := f.Update(ctx, func(tx *Tx) error {
			_, err := tx.Put("policy", fmt.Sprintf("%02d/row", i), large)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for i := range prefixes {
			err := f.ViewRecent(ctx, func(tx *Tx) error {
				n := 0
				err := tx.Scan("policy", fmt.Sprintf("%02d/", i), func(row Row) bool { n++; return row.Err == nil })
				if err == nil && n != 1 {
					t.Errorf("%d rows", n)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	weight := 0
	for name, scan := range f.scans.scans {
		weight += scan.weight(name)
	}
	if weight != f.scans.weight || weight > maxScans || len(f.scans.scans) == 0 {
		t.Errorf("%d scans of %d bytes, counted %d, at most %d", len(f.scans.scans), weight, f.scans.weight, maxScans)
	}
}

// What was read from memory by a process that then stood still is read again.
func TestViewRecentStoppedMeanwhile(t *testing.T) {
	r := newRecentFixture(t)
	r.putContent("k1", "one")
	r.want("k1", "one", 1)
	calls := 0
	before := r.counted.views.Load()
	err := r.ViewRecent(ctx, func(tx *Tx) error {
		calls++
		_, _, err := tx.Get("policy", "k1")
		if calls == 1 {
			r.pass(Recent + 1)
		}
		return err
	})
	if n := r.counted.views.Load() - before; err != nil || calls != 2 || n != 1 {
		t.Errorf("%d calls, %d transactions of the store, %v", calls, n, err)
	}
}
