// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
)

func newStore(t *testing.T) keystore.Store {
	t.Helper()
	store, err := bolt.Create(filepath.Join(t.TempDir(), "store", "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func exported(t *testing.T, l *Ledger) (rows []keystore.Row) {
	t.Helper()
	err := l.Export(ctx, func(row keystore.Row) error {
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func give(rows []keystore.Row) func(func(keystore.Row) error) error {
	return func(put func(keystore.Row) error) error {
		for _, row := range rows {
			if err := put(row); err != nil {
				return err
			}
		}
		return nil
	}
}

func nothing(*Ledger) error { return nil }

func isEmpty(t *testing.T, store keystore.Store) bool {
	t.Helper()
	var tables []string
	err := store.View(ctx, func(tx keystore.Tx) (err error) {
		tables, err = tx.Tables()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return len(tables) == 0
}

func TestExportImport(t *testing.T) {
	f := newFixture(t)
	f.put("a", "1", "2", "3")
	f.put("b", "1")
	rows := exported(t, f.Ledger)
	to := newStore(t)
	err := Import(ctx, to, f.root, nil, give(rows), func(l *Ledger) error {
		return l.Update(ctx, func(tx *Tx) error {
			_, err := tx.Put("c", "of finish", nil)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(ctx, to, f.root)
	if err != nil || l.StoreID() != f.StoreID() || l.Generation() != f.Generation()+1 {
		t.Fatalf("%v, generation %d, want %d", err, l.Generation(), f.Generation()+1)
	}
	if _, findings, err := l.Verify(ctx); err != nil || len(findings) > 0 {
		t.Errorf("findings %v, %v", findings, err)
	}
	if again := exported(t, l); len(again) < len(rows)+1 {
		t.Errorf("%d rows, there were %d", len(again), len(rows))
	}
	if err := Import(ctx, to, f.root, nil, give(rows), nothing); !errors.Is(err, ErrExists) {
		t.Errorf("into a store with rows: %v", err)
	}
	replaced := uint64(0)
	if err := Import(ctx, to, f.root, func(old *Ledger) { replaced = old.Generation() }, give(rows), nothing); err != nil || replaced != l.Generation() {
		t.Errorf("in place of rows of generation %d: %v", replaced, err)
	}
	// Who had the store open finds that it was put back.
	err = l.View(ctx, func(*Tx) error { return nil })
	if tampered, ok := errors.AsType[*TamperedError](err); !ok || tampered.What != RolledBack {
		t.Errorf("the ledger of before: %v", err)
	}
}

// TestImportRefused gives rows that are not all that Export gave, or not as it gave
// them: the store stays empty.
func TestImportRefused(t *testing.T) {
	f := newFixture(t)
	f.put("a", "1", "2", "3")
	rows := exported(t, f.Ledger)
	for i, row := range rows {
		name := row.Table + " " + row.ID
		changed := append([]keystore.Row{}, rows...)
		changed[i].Content = append([]byte("x"), row.Content...)
		moved := append([]keystore.Row{}, rows...)
		moved[i].ID += "x"
		for what, bad := range map[string][]keystore.Row{
			"missing": append(append([]keystore.Row{}, rows[:i]...), rows[i+1:]...), "changed": changed, "moved": moved,
		} {
			to := newStore(t)
			if err := Import(ctx, to, f.root, nil, give(bad), nothing); err == nil {
				t.Errorf("%s %s: no error", name, what)
			}
			if !isEmpty(t, to) {
				t.Errorf("%s %s: the store has rows", name, what)
			}
		}
	}
	stop := errors.New("stop")
	to := newStore(t)
	other := newFixture(t)
	for what, err := range map[string]error{
		"finish fails":   Import(ctx, to, f.root, nil, give(rows), func(*Ledger) error { return stop }),
		"rows end":       Import(ctx, to, f.root, nil, func(func(keystore.Row) error) error { return stop }, nothing),
		"no rows":        Import(ctx, to, f.root, nil, give(nil), nothing),
		"other root key": Import(ctx, to, other.root, nil, give(rows), nothing),
		"failed update passed over": Import(ctx, to, f.root, nil, give(rows), func(l *Ledger) error {
			_ = l.Update(ctx, func(tx *Tx) error {
				if _, err := tx.Put("a", "half", nil); err != nil {
					return err
				}
				return stop
			})
			return nil
		}),
	} {
		if err == nil || !isEmpty(t, to) {
			t.Errorf("%s: %v, or the store has rows", what, err)
		}
	}
}

func TestExportTampered(t *testing.T) {
	f := newFixture(t)
	f.put("a", "1", "2")
	err := f.store.Update(ctx, func(tx keystore.Tx) error { return tx.Delete("a", "2") })
	if err != nil {
		t.Fatal(err)
	}
	err = f.Export(ctx, func(keystore.Row) error {
		t.Error("a row was given")
		return nil
	})
	if tampered, ok := errors.AsType[*TamperedError](err); !ok || tampered.ID != "2" || tampered.What != Removed {
		t.Errorf("export: %v", err)
	}
}

func TestMove(t *testing.T) {
	f := newFixture(t)
	f.put("a", "1")
	other, err := Open(ctx, f.store, f.root) // as another server has it
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for _, to := range []string{"", strings.Repeat("x", 1025)} {
		if err := f.Move(ctx, to, nil); err == nil {
			t.Errorf("to a place of %d bytes", len(to))
		}
	}
	if err := f.Move(ctx, "there", func(func(func(keystore.Row) error) error) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a copy that fails: %v", err)
	}
	f.put("a", "2") // it goes on
	count := 0
	err = f.Move(ctx, "there", func(rows func(func(keystore.Row) error) error) error {
		return rows(func(keystore.Row) error {
			count++
			return nil
		})
	})
	if err != nil || count < 4 {
		t.Fatalf("%d rows, %v", count, err)
	}
	for name, l := range map[string]*Ledger{"own": f.Ledger, "other": other} {
		for what, err := range map[string]error{
			"view":        l.View(ctx, func(*Tx) error { return nil }),
			"update":      l.Update(ctx, func(*Tx) error { return nil }),
			"export":      l.Export(ctx, func(keystore.Row) error { return nil }),
			"move":        l.Move(ctx, "elsewhere", nil),
			"open":        func() error { _, err := Open(ctx, f.store, f.root); return err }(),
			"view recent": eventually(l),
		} {
			if moved, ok := errors.AsType[*MovedError](err); !ok || moved.To != "there" {
				t.Errorf("%s ledger, %s: %v", name, what, err)
			}
		}
	}
}

// eventually reads until what was confirmed before is too old.
func eventually(l *Ledger) error {
	for {
		err := l.ViewRecent(ctx, func(tx *Tx) error {
			_, _, err := tx.Get("a", "1")
			return err
		})
		if err != nil {
			return err
		}
	}
}
