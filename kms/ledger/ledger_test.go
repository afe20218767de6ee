// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/rootkey"
)

var ctx = context.Background()

// A fixture is a store whose rows a test can write behind the ledger's back.
type fixture struct {
	t     testing.TB
	store keystore.Store
	root  rootkey.Key
	*Ledger
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	dir := t.TempDir()
	root, err := rootkey.CreateFile(filepath.Join(dir, "keys", "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := bolt.Create(filepath.Join(dir, "data", "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	l, err := Create(ctx, store, root, Meta{Emulated: true, Account: "000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, store: store, root: root, Ledger: l}
}

func (f *fixture) put(table string, ids ...string) {
	f.t.Helper()
	err := f.Update(ctx, func(tx *Tx) error {
		for _, id := range ids {
			if _, err := tx.Put(table, id, []byte("content of "+id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) get(table, id string) (content []byte, version uint64, err error) {
	f.t.Helper()
	viewErr := f.View(ctx, func(tx *Tx) error {
		content, version, err = tx.Get(table, id)
		return nil
	})
	return content, version, errors.Join(err, viewErr)
}

// raw changes the store behind the ledger's back.
func (f *fixture) raw(fn func(tx keystore.Tx) error) {
	f.t.Helper()
	if err := f.store.Update(ctx, fn); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) rawGet(table, id string) (row keystore.Row) {
	f.t.Helper()
	err := f.store.View(ctx, func(tx keystore.Tx) (err error) {
		row, err = tx.Get(table, id)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return row
}

func (f *fixture) rawPut(rows ...keystore.Row) {
	f.t.Helper()
	f.raw(func(tx keystore.Tx) error {
		for _, row := range rows {
			if err := tx.Put(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// reopen forgets all that is in memory.
func (f *fixture) reopen() {
	f.t.Helper()
	l, err := Open(ctx, f.store, f.root)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Ledger = l
}

func (f *fixture) shardRow(table, id string) keystore.Row {
	return f.rawGet(rosterTable, shardID(f.keys.shardOf(table, id)))
}

func wantTampered(t testing.TB, err error, table, id string, what What) {
	t.Helper()
	e, ok := errors.AsType[*TamperedError](err)
	if !ok || e.Table != table || e.ID != id || e.What != what {
		t.Errorf("error %v, want row %q of table %q %s", err, id, table, what)
	}
}

// wantFindings verifies the store and compares "table/id what" of each finding.
func (f *fixture) wantFindings(want ...string) {
	f.t.Helper()
	_, findings, err := f.Verify(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	var got []string
	for _, e := range findings {
		got = append(got, fmt.Sprintf("%s/%s %s", e.Table, e.ID, e.What))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.t.Errorf("Verify found %q, want %q", got, want)
	}
}

func TestRows(t *testing.T) {
	f := newFixture(t)
	if _, _, err := f.get("key", "a"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Get of nothing: %v, want ErrNotFound", err)
	}
	for want := uint64(1); want < 4; want++ {
		err := f.Update(ctx, func(tx *Tx) error {
			content := fmt.Append(nil, want)
			if got, err := tx.Put("key", "a", content); got != want || err != nil {
				t.Errorf("Put = %d, %v, want %d", got, err, want)
			}
			content[0] = 'x' // the ledger has its own copy
			got, version, err := tx.Get("key", "a")
			if string(got) != fmt.Sprint(want) || version != want || err != nil {
				t.Errorf("Get within the transaction = %q, %d, %v", got, version, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		f.reopen()
		if got, version, err := f.get("key", "a"); string(got) != fmt.Sprint(want) || version != want || err != nil {
			t.Errorf("Get = %q, %d, %v, want version %d", got, version, err, want)
		}
	}
	err := f.Update(ctx, func(tx *Tx) error {
		if err := tx.Delete("key", "a"); err != nil {
			return err
		}
		if err := tx.Delete("key", "a"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("second Delete: %v, want ErrNotFound", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.get("key", "a"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Get of a deleted row: %v, want ErrNotFound", err)
	}
	f.wantFindings()
}

func TestRefusedCalls(t *testing.T) {
	f := newFixture(t)
	err := f.View(ctx, func(tx *Tx) error {
		if _, err := tx.Put("key", "a", nil); !errors.Is(err, keystore.ErrReadOnly) {
			t.Errorf("Put in View: %v", err)
		}
		if err := tx.Delete("key", "a"); !errors.Is(err, keystore.ErrReadOnly) {
			t.Errorf("Delete in View: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = f.Update(ctx, func(tx *Tx) error {
		for _, table := range []string{metaTable, rosterTable, "_", "", "UPPER"} {
			if _, err := tx.Put(table, "a", nil); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Put in table %q: %v, want ErrInvalidRow", table, err)
			}
			if _, _, err := tx.Get(table, "a"); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Get in table %q: %v, want ErrInvalidRow", table, err)
			}
			if err := tx.Delete(table, "a"); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Delete in table %q: %v, want ErrInvalidRow", table, err)
			}
			if err := tx.Scan(table, "", nil); !errors.Is(err, keystore.ErrInvalidRow) {
				t.Errorf("Scan of table %q: %v, want ErrInvalidRow", table, err)
			}
		}
		if _, err := tx.Put("key", "a", make([]byte, MaxContent+1)); !errors.Is(err, keystore.ErrInvalidRow) {
			t.Errorf("Put of too much: %v, want ErrInvalidRow", err)
		}
		return errors.New("undo")
	})
	if err == nil {
		t.Error("Update without its function's error")
	}
	f.wantFindings()
}

func TestRollbackOfUpdate(t *testing.T) {
	f := newFixture(t)
	f.put("key", "a")
	failed := errors.New("failed")
	err := f.Update(ctx, func(tx *Tx) error {
		_, err := tx.Put("key", "a", []byte("never"))
		if err := errors.Join(err, tx.Delete("key", "a")); err != nil {
			t.Error(err)
		}
		_, err = tx.Put("key", "b", nil)
		return errors.Join(err, failed)
	})
	if !errors.Is(err, failed) {
		t.Errorf("Update: %v", err)
	}
	if got, version, err := f.get("key", "a"); string(got) != "content of a" || version != 1 || err != nil {
		t.Errorf("Get = %q, %d, %v", got, version, err)
	}
	f.put("key", "b")
	f.wantFindings()
}

func TestScan(t *testing.T) {
	f := newFixture(t)
	var all []string
	for i := range 500 {
		all = append(all, fmt.Sprintf("%c/%03d", 'a'+i%3, i))
	}
	slices.Sort(all)
	f.put("key", all...)
	f.put("alias", "a/1")
	for prefix, limit := range map[string]int{"": 0, "b/": 0, "c/1": 5, "none": 0} {
		var want, got []string
		for _, id := range all {
			if strings.HasPrefix(id, prefix) && (limit == 0 || len(want) < limit) {
				want = append(want, id)
			}
		}
		err := f.View(ctx, func(tx *Tx) error {
			return tx.Scan("key", prefix, func(row Row) bool {
				if row.Err != nil || row.Version != 1 || string(row.Content) != "content of "+row.ID {
					t.Errorf("row %+v", row)
				}
				got = append(got, row.ID)
				return len(got) != limit
			})
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Scan(%q): %v, %q, want %q", prefix, err, got, want)
		}
	}
}

func TestCreateAndOpen(t *testing.T) {
	f := newFixture(t)
	if _, err := Create(ctx, f.store, f.root, Meta{}); !errors.Is(err, ErrExists) {
		t.Errorf("second Create: %v, want ErrExists", err)
	}
	f.reopen()
	if want := (Meta{Emulated: true, Account: "000000000000"}); f.Meta() != want {
		t.Errorf("Meta = %+v, want %+v", f.Meta(), want)
	}
	if len(f.StoreID()) != 32 {
		t.Errorf("StoreID = %q", f.StoreID())
	}
	other, err := rootkey.CreateFile(filepath.Join(t.TempDir(), "d", "other.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(ctx, f.store, other)
	if !errors.Is(err, ErrWrongRootKey) || l != nil || !strings.Contains(err.Error(), f.root.ID()) {
		t.Errorf("Open with another root key: %v, %v, want ErrWrongRootKey", l, err)
	}
	empty, err := bolt.Create(filepath.Join(t.TempDir(), "d", "empty.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if _, err := Open(ctx, empty, f.root); !errors.Is(err, ErrEmpty) {
		t.Errorf("Open of an empty store: %v, want ErrEmpty", err)
	}
	production, err := Create(ctx, empty, f.root, Meta{Account: "111122223333"})
	if err != nil || production.Meta() != (Meta{Account: "111122223333"}) {
		t.Errorf("Create: %v, %v", production, err)
	}
}

// TestTwoLedgers has two ledgers over one store, as several servers will.
func TestTwoLedgers(t *testing.T) {
	f := newFixture(t)
	second, err := Open(ctx, f.store, f.root)
	if err != nil {
		t.Fatal(err)
	}
	g := &fixture{t: t, store: f.store, root: f.root, Ledger: second}
	for i := range 20 {
		id := fmt.Sprint(i % 7)
		f.put("key", id)
		_, v1, err1 := g.get("key", id)
		g.put("key", id)
		_, v2, err2 := f.get("key", id)
		if err1 != nil || err2 != nil || v2 != v1+1 {
			t.Errorf("round %d: versions %d, %d, %v, %v", i, v1, v2, err1, err2)
		}
	}
	g.wantFindings()
}

func TestConcurrent(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 15 {
				f.put("key", fmt.Sprintf("%d-%d", w, i), "shared")
			}
		})
		wg.Go(func() {
			for range 30 {
				err := f.View(ctx, func(tx *Tx) error {
					return tx.Scan("key", "", func(row Row) bool {
						if row.Err != nil {
							t.Error(row.Err)
						}
						return true
					})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, version, err := f.get("key", "shared"); version != 60 || err != nil {
		t.Errorf("version %d, %v, want 60", version, err)
	}
	f.reopen()
	f.wantFindings()
}

func TestRowMACIsUnambiguous(t *testing.T) {
	key := make([]byte, 32)
	seen := make(map[string]keystore.Row)
	for _, row := range []keystore.Row{
		{}, {Table: "a"}, {ID: "a"}, {Version: 'a'}, {Content: []byte("a")},
		{Table: "ab", ID: "c"}, {Table: "a", ID: "bc"}, {ID: "abc"}, {Table: "abc"},
		{ID: "a", Content: []byte("b")}, {ID: "ab"}, {Version: 1, Content: make([]byte, 8)}, {Content: make([]byte, 16)},
	} {
		m := string(rowMAC(key, row))
		if other, ok := seen[m]; ok {
			t.Errorf("rows %v and %v have one MAC", row, other)
		}
		seen[m] = row
	}
}
