// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// A watch is a Watch under way.
type watch struct {
	calls atomic.Int64
	ended chan error
	stop  context.CancelFunc
}

// startWatch returns once the Watch listens.
func startWatch(t *testing.T, s *Store) *watch {
	t.Helper()
	running, stop := context.WithCancel(ctx)
	w := &watch{ended: make(chan error, 1), stop: stop}
	t.Cleanup(stop)
	go func() { w.ended <- s.Watch(running, func() { w.calls.Add(1) }) }()
	waitFor(t, "the watch listens", func() bool { return w.calls.Load() == 1 })
	return w
}

func TestWatch(t *testing.T) {
	a, b, database := two(t)
	w := startWatch(t, b)
	for i, s := range []*Store{a, b} { // its own changes too
		put(t, s, keystore.Row{Table: "t", ID: "n", Version: uint64(i)})
		waitFor(t, "the watch is told", func() bool { return w.calls.Load() == int64(i+2) })
	}
	// What wrote nothing, or was undone, is no change.
	abort := errors.New("abort")
	err := a.Update(ctx, func(tx keystore.Tx) error {
		if err := tx.Put(keystore.Row{Table: "t", ID: "m"}); err != nil {
			return err
		}
		return abort
	})
	if !errors.Is(err, abort) {
		t.Fatal(err)
	}
	if err := a.Update(ctx, func(keystore.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	put(t, a, keystore.Row{Table: "t", ID: "n", Version: 9})
	waitFor(t, "the watch is told", func() bool { return w.calls.Load() >= 4 })
	if n := w.calls.Load(); n != 4 {
		t.Errorf("%d calls, want 4", n)
	}
	// A connection that is lost ends it.
	const listening = `from pg_stat_activity where datname = current_database() and query = 'listen cretula' and pid <> pg_backend_pid()`
	pgtest.Shared(t).Exec(t, database, `select pg_terminate_backend(pid) `+listening)
	if err := <-w.ended; !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("a lost connection: %v", err)
	}
	// So does its context, and the end of the store.
	w = startWatch(t, b)
	w.stop()
	if err := <-w.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
	w = startWatch(t, b)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-w.ended; err == nil {
		t.Error("a closed store is watched")
	}
	if err := b.Watch(ctx, func() {}); !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
}

// A mute is a store of which no notification comes.
type mute struct{ *Store }

func (m mute) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

// recentPair are two ledgers over one database. The clock of the second is the
// test's.
type recentPair struct {
	t             *testing.T
	first, second *ledger.Ledger
	clock         atomic.Int64 // nanoseconds
}

func newRecentPair(t *testing.T, a, b keystore.Store) *recentPair {
	t.Helper()
	root, err := rootkey.CreateFile(filepath.Join(t.TempDir(), "keys", "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	p := &recentPair{t: t}
	if p.first, err = ledger.Create(ctx, a, root, ledger.Meta{Emulated: true, Account: "000000000000"}); err != nil {
		t.Fatal(err)
	}
	p.put("allow")
	if p.second, err = ledger.Open(ctx, b, root); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	p.second.SetClock(func() time.Time { return start.Add(time.Duration(p.clock.Load())) })
	return p
}

func (p *recentPair) put(text string) {
	p.t.Helper()
	err := p.first.Update(ctx, func(tx *ledger.Tx) error {
		_, err := tx.Put("policy", "k", []byte(text))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// sees is what the second ledger would decide by.
func (p *recentPair) sees() (string, error) {
	var text string
	err := p.second.ViewRecent(ctx, func(tx *ledger.Tx) error {
		content, _, err := tx.Get("policy", "k")
		text = string(content)
		return err
	})
	return text, err
}

func (p *recentPair) want(text string) {
	p.t.Helper()
	if got, err := p.sees(); err != nil || got != text {
		p.t.Errorf("the second server sees %q, %v, want %q", got, err, text)
	}
}

func TestRecentWithNotifications(t *testing.T) {
	a, b, _ := two(t)
	p := newRecentPair(t, a, b)
	p.want("allow")
	running, stop := context.WithCancel(ctx)
	done := make(chan bool)
	go func() { p.second.Run(running); close(done) }()
	p.put("deny")
	// The clock stands still: what was confirmed stays so, but for Run.
	waitFor(t, "the second server knows", func() bool { got, err := p.sees(); return err == nil && got == "deny" })
	stop()
	<-done
}

// Without a notification, and without Run, an old Allow is dead after a second.
func TestRecentWithoutNotifications(t *testing.T) {
	a, b, _ := two(t)
	p := newRecentPair(t, a, mute{b})
	p.want("allow")
	p.put("deny")
	p.want("allow")
	p.clock.Add(int64(ledger.Recent))
	p.want("allow")
	p.clock.Add(1)
	p.want("deny")
	// With Run it is so before, though nothing tells it.
	p.put("other")
	running, stop := context.WithCancel(ctx)
	done := make(chan bool)
	go func() { p.second.Run(running); close(done) }()
	waitFor(t, "the second server looks", func() bool { got, err := p.sees(); return err == nil && got == "other" })
	stop()
	<-done
}

// Where the database is away nothing is decided by what was, and all goes on when it
// is back.
func TestRecentWithoutDatabase(t *testing.T) {
	server := pgtest.New(t)
	url := server.URL(server.Database(t))
	a, b := create(t, url), reopen(t, url)
	p := newRecentPair(t, a, b)
	p.want("allow")
	server.Kill(t)
	p.want("allow")
	p.clock.Add(int64(ledger.Recent) + 1)
	for range 2 {
		if got, err := p.sees(); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%q, %v", got, err)
		}
	}
	server.Start(t)
	p.put("deny")
	p.want("deny")
}

// Rows that are changed by SQL are noticed within a second.
func TestRecentNoticesSQL(t *testing.T) {
	a, b, database := two(t)
	p := newRecentPair(t, a, b)
	p.want("allow")
	pgtest.Shared(t).Exec(t, database, `update cretula.rows set content = 'Allow' where tbl = 'policy'`)
	p.want("allow")
	p.clock.Add(int64(ledger.Recent) + 1)
	got, err := p.sees()
	if e, ok := errors.AsType[*ledger.TamperedError](err); !ok || e.Table != "policy" || e.ID != "k" {
		t.Errorf("%q, %v, want a TamperedError", got, err)
	}
}
