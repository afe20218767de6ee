// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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
	findings, err := f.Verify(ctx)
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

// TestMetaTampered covers who would turn an emulated store into a production
// one, or hide that it is one.
func TestMetaTampered(t *testing.T) {
	for name, change := range map[string]func(*metaContent){
		"kind":     func(c *metaContent) { c.Kind = kindProduction },
		"account":  func(c *metaContent) { c.Account = "111122223333" },
		"store id": func(c *metaContent) { c.StoreID = strings.Repeat("0", 32) },
		"schema":   func(c *metaContent) { c.Schema = "cretula.ledger.v2" },
	} {
		f := newFixture(t)
		row := f.rawGet(metaTable, metaID)
		var content metaContent
		if err := json.Unmarshal(row.Content, &content); err != nil {
			t.Fatal(err)
		}
		change(&content)
		row.Content, _ = json.Marshal(content)
		f.rawPut(row)
		_, err := Open(ctx, f.store, f.root)
		t.Run(name, func(t *testing.T) { wantTampered(t, err, metaTable, metaID, Changed) })
		f.wantFindings("_meta/meta changed")
	}
	f := newFixture(t)
	f.rawPut(keystore.Row{Table: metaTable, ID: metaID, Content: []byte("no JSON")})
	_, err := Open(ctx, f.store, f.root)
	wantTampered(t, err, metaTable, metaID, Changed)
	f.raw(func(tx keystore.Tx) error { return tx.Delete(metaTable, metaID) })
	_, err = Open(ctx, f.store, f.root)
	wantTampered(t, err, metaTable, metaID, Removed)
	f.wantFindings("_meta/meta removed")
}

func TestRowTampered(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(f *fixture)
		what   What
		detail string
	}{
		{"content", func(f *fixture) {
			row := f.rawGet("policy", "k1")
			row.Content[0] ^= 1
			f.rawPut(row)
		}, Changed, ""},
		{"content emptied", func(f *fixture) {
			row := f.rawGet("policy", "k1")
			row.Content = nil
			f.rawPut(row)
		}, Changed, ""},
		{"version", func(f *fixture) {
			row := f.rawGet("policy", "k1")
			row.Version++
			f.rawPut(row)
		}, Changed, ""},
		{"MAC", func(f *fixture) {
			row := f.rawGet("policy", "k1")
			row.MAC[31] ^= 1
			f.rawPut(row)
		}, Changed, ""},
		{"MAC removed", func(f *fixture) {
			row := f.rawGet("policy", "k1")
			row.MAC = nil
			f.rawPut(row)
		}, Changed, ""},
		{"another row's content", func(f *fixture) {
			row := f.rawGet("policy", "k2")
			row.ID = "k1"
			f.rawPut(row)
		}, Moved, `"k2" of table "policy"`},
		{"a row of another table", func(f *fixture) {
			row := f.rawGet("alias", "k1")
			row.Table = "policy"
			f.rawPut(row)
		}, Moved, `"k1" of table "alias"`},
		{"removed", func(f *fixture) {
			f.raw(func(tx keystore.Tx) error { return tx.Delete("policy", "k1") })
		}, Removed, "version 2"},
	} {
		for _, reopen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", test.name, reopen), func(t *testing.T) {
				f := newFixture(t)
				f.put("policy", "k1", "k2", "k3")
				f.put("policy", "k1")
				f.put("alias", "k1")
				test.change(f)
				if reopen {
					f.reopen()
				}
				content, version, err := f.get("policy", "k1")
				wantTampered(t, err, "policy", "k1", test.what)
				if content != nil || version != 0 {
					t.Errorf("Get gave %q, %d with its error", content, version)
				}
				if !strings.Contains(err.Error(), test.detail) {
					t.Errorf("error %q does not say %q", err, test.detail)
				}
				// The others go on.
				for _, id := range []string{"k2", "k3"} {
					if _, _, err := f.get("policy", id); err != nil {
						t.Errorf("Get of another row: %v", err)
					}
				}
				f.wantFindings("policy/k1 " + string(test.what))
				var bad []string
				err = f.View(ctx, func(tx *Tx) error {
					return tx.Scan("policy", "", func(row Row) bool {
						if row.Err != nil {
							bad = append(bad, row.ID)
							wantTampered(t, row.Err, "policy", "k1", test.what)
						}
						return true
					})
				})
				if err != nil || !slices.Equal(bad, []string{"k1"}) {
					t.Errorf("Scan: %v, bad %q", err, bad)
				}
				// Written anew the row is believed again.
				f.put("policy", "k1")
				if _, version, err := f.get("policy", "k1"); err != nil || version != 3 {
					t.Errorf("Get of the row written anew: version %d, %v", version, err)
				}
				f.wantFindings()
			})
		}
	}
}

func TestExchanged(t *testing.T) {
	f := newFixture(t)
	f.put("policy", "k1", "k2", "k3")
	a, b := f.rawGet("policy", "k1"), f.rawGet("policy", "k2")
	a.ID, b.ID = b.ID, a.ID
	f.rawPut(a, b)
	for _, id := range []string{"k1", "k2"} {
		_, _, err := f.get("policy", id)
		wantTampered(t, err, "policy", id, Moved)
	}
	f.wantFindings("policy/k1 moved", "policy/k2 moved")
}

func TestAdded(t *testing.T) {
	f := newFixture(t)
	f.put("grant", "g1", "g2")
	deleted := f.rawGet("grant", "g2")
	if err := f.Update(ctx, func(tx *Tx) error { return tx.Delete("grant", "g2") }); err != nil {
		t.Fatal(err)
	}
	forged := keystore.Row{Table: "grant", ID: "g0", Version: 1, Content: []byte("{}"), MAC: make([]byte, 32)}
	copied := f.rawGet("grant", "g1")
	copied.ID = "g3"
	foreign := keystore.Row{Table: "unheard-of", ID: "x"}
	reserved := keystore.Row{Table: "_own", ID: "x"}
	f.rawPut(deleted, forged, copied, foreign, reserved,
		keystore.Row{Table: rosterTable, ID: "shard-zz"}, keystore.Row{Table: metaTable, ID: "meta2"})
	for _, id := range []string{"g0", "g2", "g3"} {
		_, _, err := f.get("grant", id)
		wantTampered(t, err, "grant", id, Added)
	}
	if _, _, err := f.get("grant", "g1"); err != nil {
		t.Error(err)
	}
	f.wantFindings("grant/g0 added", "grant/g2 added", "grant/g3 added", "unheard-of/x added",
		"_own/x added", "_roster/shard-zz added", "_meta/meta2 added")
	// Delete gets rid of them.
	err := f.Update(ctx, func(tx *Tx) error {
		return errors.Join(tx.Delete("grant", "g0"), tx.Delete("grant", "g2"), tx.Delete("grant", "g3"))
	})
	if err != nil {
		t.Error(err)
	}
	if _, _, err := f.get("grant", "g0"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Get after Delete: %v", err)
	}
}

// TestRolledBack puts back earlier versions: of a row, of a row and its shard,
// and, while the ledger is open, of everything.
func TestRolledBack(t *testing.T) {
	f := newFixture(t)
	f.put("policy", "k1", "k2")
	row, shard := f.rawGet("policy", "k1"), f.shardRow("policy", "k1")
	root := f.rawGet(rosterTable, rootID)
	f.put("policy", "k1")
	f.put("policy", "k1")
	now, shardNow, rootNow := f.rawGet("policy", "k1"), f.shardRow("policy", "k1"), f.rawGet(rosterTable, rootID)

	f.rawPut(row)
	for range 2 {
		_, _, err := f.get("policy", "k1")
		wantTampered(t, err, "policy", "k1", RolledBack)
		f.wantFindings("policy/k1 rolled back")
		f.reopen()
	}

	f.rawPut(row, shard)
	f.reopen()
	_, _, err := f.get("policy", "k1")
	wantTampered(t, err, "policy", "k1", RosterChanged)
	f.wantFindings("_roster/"+shard.ID+" rolled back", "policy/k1 roster changed")
	err = f.Update(ctx, func(tx *Tx) error { _, err := tx.Put("policy", "k1", nil); return err })
	wantTampered(t, err, "policy", "k1", RosterChanged)
	if f.keys.shardOf("policy", "k2") != f.keys.shardOf("policy", "k1") {
		if _, _, err := f.get("policy", "k2"); err != nil {
			t.Errorf("Get of a row of another shard: %v", err)
		}
	}

	// Only the shard: the row is right but nobody can know.
	f.rawPut(now, shard, rootNow)
	f.reopen()
	_, _, err = f.get("policy", "k1")
	wantTampered(t, err, "policy", "k1", RosterChanged)

	f.rawPut(now, shardNow, rootNow)
	f.reopen()
	f.rawPut(row, shard, root)
	_, _, err = f.get("policy", "k1")
	wantTampered(t, err, rosterTable, rootID, RolledBack)
	f.wantFindings("_roster/root rolled back")
	f.rawPut(now, shardNow, rootNow)
	if _, version, err := f.get("policy", "k1"); version != 3 || err != nil {
		t.Errorf("Get after all was put right: version %d, %v", version, err)
	}
	f.wantFindings()
}

// TestRecreated puts back the first version of a row that was deleted and
// written anew, whose version is again 1.
func TestRecreated(t *testing.T) {
	f := newFixture(t)
	f.put("policy", "k1")
	row := f.rawGet("policy", "k1")
	err := f.Update(ctx, func(tx *Tx) error {
		if err := tx.Delete("policy", "k1"); err != nil {
			return err
		}
		_, err := tx.Put("policy", "k1", []byte("stricter"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.rawPut(row)
	_, _, err = f.get("policy", "k1")
	wantTampered(t, err, "policy", "k1", RolledBack)
}

func TestRosterTampered(t *testing.T) {
	f := newFixture(t)
	f.put("policy", "k1", "k2")
	shard, root := f.shardRow("policy", "k1"), f.rawGet(rosterTable, rootID)
	unread := func() { // rows that are gone with their shard
		t.Helper()
		f.raw(func(tx keystore.Tx) error {
			return errors.Join(tx.Delete("policy", "k1"), tx.Delete(rosterTable, shard.ID))
		})
		f.reopen()
	}
	row := f.rawGet("policy", "k1")
	unread()
	_, _, err := f.get("policy", "k1")
	wantTampered(t, err, "policy", "k1", RosterChanged)
	f.wantFindings("_roster/" + shard.ID + " removed")
	err = f.View(ctx, func(tx *Tx) error { return tx.Scan("policy", "", func(Row) bool { return true }) })
	wantTampered(t, err, rosterTable, shard.ID, Removed)

	changed := shard
	changed.Content = bytes.Clone(shard.Content)
	changed.Content[len(changed.Content)-1] ^= 1
	f.rawPut(row, changed)
	f.reopen()
	_, _, err = f.get("policy", "k1")
	wantTampered(t, err, "policy", "k1", RosterChanged)
	f.wantFindings("_roster/"+shard.ID+" changed", "policy/k1 roster changed")

	// A valid shard where another belongs.
	moved := shard
	moved.ID = shardID((f.keys.shardOf("policy", "k1") + 1) % shards)
	f.rawPut(shard, moved)
	f.reopen()
	findings, err := f.Verify(ctx)
	if err != nil || len(findings) == 0 || findings[0].ID != moved.ID {
		t.Errorf("Verify found %v, %v", findings, err)
	}
	f.raw(func(tx keystore.Tx) error { return tx.Delete(rosterTable, moved.ID) })

	badRoot := root
	badRoot.Content = bytes.Clone(root.Content)
	badRoot.Content[5] ^= 1
	f.rawPut(badRoot)
	_, _, err = f.get("policy", "k1")
	wantTampered(t, err, rosterTable, rootID, Changed)
	_, err = Open(ctx, f.store, f.root)
	wantTampered(t, err, rosterTable, rootID, Changed)
	f.wantFindings("_roster/root changed")
	f.raw(func(tx keystore.Tx) error { return tx.Delete(rosterTable, rootID) })
	_, err = Open(ctx, f.store, f.root)
	wantTampered(t, err, rosterTable, rootID, Removed)
	f.wantFindings("_roster/root removed")
	f.rawPut(root)
	f.reopen()
	f.wantFindings()
}

// TestOtherStore moves rows between stores of one root key.
func TestOtherStore(t *testing.T) {
	f := newFixture(t)
	f.put("policy", "k1")
	store, err := bolt.Create(filepath.Join(t.TempDir(), "d", "b.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l, err := Create(ctx, store, f.root, Meta{})
	if err != nil {
		t.Fatal(err)
	}
	g := &fixture{t: t, store: store, root: f.root, Ledger: l}
	g.put("policy", "k1", "k2")
	f.rawPut(g.rawGet("policy", "k1"))
	_, _, err = f.get("policy", "k1")
	wantTampered(t, err, "policy", "k1", Changed)
	f.rawPut(g.rawGet(metaTable, metaID))
	if l, err := Open(ctx, f.store, f.root); err == nil {
		t.Errorf("another store's meta row was accepted: %v", l.Meta())
	}
	f.wantFindings("_meta/meta changed", "policy/k1 changed")
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

func testShard() shard {
	return shard{
		{table: "a", id: "1", version: 1, mac: mac{1}},
		{table: "a", id: "2", version: 1 << 40, mac: mac{2}},
		{table: "alias", id: "alias/ü", version: 3},
		{table: "b", id: strings.Repeat("x", keystore.MaxID), version: keystore.MaxVersion},
	}
}

func TestShard(t *testing.T) {
	s := testShard()
	encoded := s.encode()
	got, err := decodeShard(encoded)
	if err != nil || !slices.Equal(got, s) {
		t.Errorf("decodeShard = %v, %v", got, err)
	}
	boundaries := map[int]bool{0: true}
	for i := range s {
		boundaries[len(s[:i+1].encode())] = true
	}
	for n := range encoded {
		if got, err := decodeShard(encoded[:n]); (err == nil) != boundaries[n] || err != nil && got != nil {
			t.Errorf("the first %d bytes: %v, %v", n, got, err)
		}
	}
	for name, bad := range map[string]shard{
		"twice":    {s[0], s[0]},
		"order":    {s[1], s[0]},
		"tables":   {s[3], s[0]},
		"no table": {{id: "a"}},
		"no id":    {{table: "a"}},
		"table":    {{table: "A", id: "a"}},
		"version":  {{table: "a", id: "a", version: keystore.MaxVersion + 1}},
		"text":     {{table: "a", id: "\xff"}},
	} {
		if got, err := decodeShard(bad.encode()); !errors.Is(err, errShard) || got != nil {
			t.Errorf("%s: %v, %v, want an error", name, got, err)
		}
	}
}

func FuzzDecodeShard(f *testing.F) {
	f.Add(testShard().encode())
	f.Add(testShard()[:1].encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := decodeShard(content)
		if err != nil {
			if s != nil {
				t.Error("a shard with the error")
			}
			return
		}
		if again := s.encode(); !bytes.Equal(again, content) {
			t.Errorf("encoded again: %x, was %x", again, content)
		}
	})
}

// FuzzRows gives the ledger rows with any content and checks that none but
// what it wrote is believed.
func FuzzRows(f *testing.F) {
	x := newFixture(f)
	x.put("key", "a", "b")
	original := []keystore.Row{x.rawGet("key", "a"), x.shardRow("key", "a"), x.rawGet(rosterTable, rootID)}
	for i, row := range original {
		f.Add(i, row.Version, row.Content, row.MAC)
		f.Add(i, row.Version+1, row.Content, row.MAC)
	}
	f.Fuzz(func(t *testing.T, which int, version uint64, content, mac []byte) {
		x := &fixture{t: t, store: x.store, root: x.root, Ledger: x.Ledger}
		row := original[uint(which)%uint(len(original))]
		same := row.Version == version && bytes.Equal(row.Content, content) && bytes.Equal(row.MAC, mac)
		row.Version, row.Content, row.MAC = version, content, mac
		if row.Check() != nil {
			return
		}
		x.rawPut(row)
		defer x.rawPut(original...)
		l, err := Open(ctx, x.store, x.root)
		if err == nil {
			err = l.View(ctx, func(tx *Tx) error {
				got, version, err := tx.Get("key", "a")
				if err != nil && (got != nil || version != 0) {
					t.Error("content with the error")
				}
				return err
			})
		}
		if (err == nil) != same {
			t.Errorf("same: %t, error: %v", same, err)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	sizes := []int{1000}
	if os.Getenv("CRETULA_LONG") == "1" {
		sizes = append(sizes, 100_000)
	}
	for _, rows := range sizes {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			f := benchFixture(b, rows)
			content := make([]byte, 300)
			for i := 0; b.Loop(); i++ {
				err := f.Update(ctx, func(tx *Tx) error {
					_, err := tx.Put("key", fmt.Sprintf("key/%08d", i*7919%rows), content)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	f := benchFixture(b, 1000)
	for i := 0; b.Loop(); i++ {
		if _, _, err := f.get("key", fmt.Sprintf("key/%08d", i*7919%1000)); err != nil {
			b.Fatal(err)
		}
	}
}

func benchFixture(b *testing.B, rows int) *fixture {
	b.Helper()
	f := newFixture(b)
	content := make([]byte, 300)
	for start := 0; start < rows; start += 10_000 {
		err := f.Update(ctx, func(tx *Tx) error {
			for i := start; i < min(rows, start+10_000); i++ {
				if _, err := tx.Put("key", fmt.Sprintf("key/%08d", i), content); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return f
}
