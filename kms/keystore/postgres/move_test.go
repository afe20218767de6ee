// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// A store that moves is idle for as long as its copy takes to be verified, which the
// limit of other transactions must not end.
func TestMoveMayTakeLong(t *testing.T) {
	server := pgtest.Shared(t)
	l := defaultLimits
	l.idle = 300 * time.Millisecond
	s, err := open(ctx, server.URL(server.Database(t)), Options{}, l, migrations, true)
	mustStore(t, s, err)
	root, err := rootkey.CreateFile(filepath.Join(t.TempDir(), "keys", "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	from, err := ledger.Create(ctx, s, root, ledger.Meta{Emulated: true, Account: "000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	// The lock is held all the while: nobody writes what would not move.
	var moved *ledger.MovedError
	rows := 0
	err = from.Move(ctx, "elsewhere", func(each func(func(keystore.Row) error) error) error {
		if err := each(func(keystore.Row) error { rows++; return nil }); err != nil {
			return err
		}
		time.Sleep(3 * l.idle)
		return nil
	})
	if err != nil || rows == 0 {
		t.Fatalf("Move of %d rows: %v", rows, err)
	}
	if err := from.View(ctx, func(*ledger.Tx) error { return nil }); !errors.As(err, &moved) {
		t.Errorf("the store that was left: %v", err)
	}
	// It is the limit of that transaction alone.
	err = s.Update(ctx, func(tx keystore.Tx) error {
		time.Sleep(3 * l.idle)
		return tx.Put(keystore.Row{Table: "t", ID: "a"})
	})
	if !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("another Update: %v, want ErrUnavailable", err)
	}
	// One that must not be idle for ever.
	err = s.Update(ctx, func(tx keystore.Tx) error {
		if err := tx.(keystore.Lingerer).Linger(l.idle / 2); err != nil {
			return err
		}
		time.Sleep(l.idle)
		return tx.Put(keystore.Row{Table: "t", ID: "a"})
	})
	if !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("an Update that is idle for longer than it said: %v", err)
	}
}

// Rows that are removed go with what waits to be sent, before what is read next, and
// stay where the transaction fails.
func TestRemove(t *testing.T) {
	server := pgtest.Shared(t)
	s, err := open(ctx, server.URL(server.Database(t)), Options{}, defaultLimits, migrations, true)
	mustStore(t, s, err)
	const rows = 3000
	id := func(i int) string { return fmt.Sprintf("%0512d", i) } // more than is sent at once
	update := func(fn func(tx keystore.Remover) error) error {
		return s.Update(ctx, func(tx keystore.Tx) error { return fn(tx.(keystore.Remover)) })
	}
	count := func(tx keystore.Tx) (n int) {
		t.Helper()
		if err := tx.Scan("t", "", func(keystore.Row) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	removeAll := func(tx keystore.Remover) error {
		for i := range rows {
			if err := tx.Remove("t", id(i)); err != nil {
				return err
			}
		}
		return tx.Remove("t", "never was")
	}
	err = update(func(tx keystore.Remover) error {
		for i := range rows {
			if err := tx.Put(keystore.Row{Table: "t", ID: id(i)}); err != nil {
				return err
			}
		}
		return tx.Remove("t", id(0)) // what waits to be put, too
	})
	if err != nil {
		t.Fatal(err)
	}
	fail := errors.New("no")
	err = update(func(tx keystore.Remover) error {
		if err := removeAll(tx); err != nil {
			return err
		}
		if n := count(tx); n != 0 {
			t.Errorf("%d rows are left", n)
		}
		return fail
	})
	if !errors.Is(err, fail) {
		t.Fatal(err)
	}
	if err := s.View(ctx, func(tx keystore.Tx) error {
		if n := count(tx); n != rows-1 {
			t.Errorf("%d rows after a transaction that failed", n)
		}
		if err := tx.(keystore.Remover).Remove("t", id(1)); !errors.Is(err, keystore.ErrReadOnly) {
			t.Errorf("in a View: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := update(func(tx keystore.Remover) error {
		if err := tx.Remove("T", "x"); !errors.Is(err, keystore.ErrInvalidRow) {
			t.Errorf("an impossible name: %v", err)
		}
		return removeAll(tx)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.View(ctx, func(tx keystore.Tx) error {
		if n := count(tx); n != 0 {
			t.Errorf("%d rows after all", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
