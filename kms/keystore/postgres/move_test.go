// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"errors"
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
