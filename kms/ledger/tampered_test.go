// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
)

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
	want := []string{"_roster/" + shard.ID + " rolled back", "policy/k1 roster changed"}
	if f.keys.shardOf("policy", "k2") == f.keys.shardOf("policy", "k1") {
		want = append(want, "policy/k2 roster changed")
	}
	f.wantFindings(want...)
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
	_, _, err = f.get("policy", "k1")
	wantTampered(t, err, rosterTable, rootID, RolledBack)
	f.reopen()
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
	_, findings, err := f.Verify(ctx)
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

// A part of the roster that does not fit is found without reading its rows.
func TestCheckRoster(t *testing.T) {
	f := newFixture(t)
	f.put("t", "a")
	if err := f.CheckRoster(ctx); err != nil {
		t.Fatal(err)
	}
	shard := f.shardRow("t", "a")
	shard.Content[0] ^= 1
	f.rawPut(shard)
	f.reopen()
	wantTampered(t, f.CheckRoster(ctx), rosterTable, shard.ID, Changed)
}

// TestLostChanges has a store that loses its last changes, as a database does whose
// standby takes over too early, and another server that writes on from there. Who
// saw the changes does not go on when the store is newer than what it saw.
func TestLostChanges(t *testing.T) {
	for _, looks := range []bool{true, false} {
		f := newFixture(t)
		f.put("policy", "k1", "k2")
		before := f.everything()
		for range 3 {
			f.put("policy", "k1")
		}
		seen := f.Generation()
		f.replace(before)
		other := &fixture{t: t, store: f.store, root: f.root}
		other.reopen()
		if looks {
			_, _, err := f.get("policy", "k2")
			wantTampered(t, err, rosterTable, rootID, RolledBack)
		}
		for other.Generation() <= seen {
			other.put("policy", "k2")
		}
		if f.keys.shardOf("policy", "k2") == f.keys.shardOf("policy", "k1") && !looks {
			continue // k1 was written anew, with k2
		}
		if !looks {
			_, _, err := f.get("policy", "k1")
			wantTampered(t, err, "policy", "k1", RosterChanged)
		}
		read := func(tx *Tx) error { _, _, err := tx.Get("policy", "k2"); return err }
		for name, err := range map[string]error{
			"View": f.View(ctx, read), "ViewRecent": f.ViewRecent(ctx, read), "Update": f.Update(ctx, read), "CheckRoster": f.CheckRoster(ctx),
			"Export": f.Export(ctx, func(keystore.Row) error { return nil }), "RolledBack": f.RolledBack(),
		} {
			if !isWhat(err, RolledBack) {
				t.Errorf("looks %t: %s: %v", looks, name, err)
			}
		}
		f.wantFindings("_roster/root rolled back")
		other.wantFindings()
		f.reopen()
		if _, _, err := f.get("policy", "k1"); err != nil || f.RolledBack() != nil {
			t.Errorf("opened anew: %v, %v", err, f.RolledBack())
		}
	}
}

// TestOthersChanges sees what others have written, however far it lags behind.
func TestOthersChanges(t *testing.T) {
	f := newFixture(t)
	f.put("policy", "k1", "k2", "k3")
	other := &fixture{t: t, store: f.store, root: f.root}
	other.reopen()
	for i := range 40 {
		f.put("policy", fmt.Sprintf("k%d", i%5))
		if i%3 == 0 {
			other.put("policy", fmt.Sprintf("k%d", i%4))
		}
		if i%7 == 0 {
			other.wantFindings()
		}
	}
	other.wantFindings()
	for i := range 5 {
		id := fmt.Sprintf("k%d", i)
		_, want, err := f.get("policy", id)
		_, got, err2 := other.get("policy", id)
		if err != nil || err2 != nil || got != want {
			t.Errorf("%s: %d and %d, %v, %v", id, got, want, err, err2)
		}
	}
}

// everything returns all rows of the store.
func (f *fixture) everything() (rows []keystore.Row) {
	f.t.Helper()
	f.raw(func(tx keystore.Tx) error {
		return eachRow(tx, func(row keystore.Row) error { rows = append(rows, row); return nil })
	})
	return rows
}

// replace puts rows in place of all.
func (f *fixture) replace(rows []keystore.Row) {
	f.t.Helper()
	f.raw(func(tx keystore.Tx) error {
		tables, err := tx.Tables()
		if err == nil {
			err = deleteAll(tx, tables)
		}
		return err
	})
	f.rawPut(rows...)
}
