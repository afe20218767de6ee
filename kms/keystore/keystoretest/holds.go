// SPDX-License-Identifier: Apache-2.0

package keystoretest

import (
	"errors"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
)

// testHolds asks for rows that differ in one thing from the one that is there.
func testHolds(t *testing.T, open Opener) {
	s := mustOpen(t, open)
	row := keystore.Row{Table: "t", ID: "a", Version: 2, Content: []byte("content"), MAC: []byte("mac")}
	empty := keystore.Row{Table: "t", ID: "empty"}
	holds := func(tx keystore.Tx, what string, row keystore.Row, want bool) {
		t.Helper()
		if got, err := tx.Holds(row); err != nil || got != want {
			t.Errorf("%s: Holds = %t, %v, want %t", what, got, err, want)
		}
	}
	view(t, s, func(tx keystore.Tx) error { holds(tx, "empty store", row, false); return nil })
	put(t, s, row, empty, keystore.Row{Table: "t2", ID: "a", Version: 2, Content: []byte("other"), MAC: []byte("mac")})
	view(t, s, func(tx keystore.Tx) error {
		holds(tx, "the row", row, true)
		holds(tx, "nil for empty", empty, true)
		holds(tx, "empty for empty", keystore.Row{Table: "t", ID: "empty", Content: []byte{}, MAC: []byte{}}, true)
		for what, change := range map[string]func(*keystore.Row){
			"table":            func(r *keystore.Row) { r.Table = "t2" },
			"table not there":  func(r *keystore.Row) { r.Table = "t3" },
			"id":               func(r *keystore.Row) { r.ID = "empty" },
			"id not there":     func(r *keystore.Row) { r.ID = "b" },
			"version":          func(r *keystore.Row) { r.Version = 1 },
			"content":          func(r *keystore.Row) { r.Content = []byte("contenT") },
			"content cut":      func(r *keystore.Row) { r.Content = []byte("conten") },
			"content longer":   func(r *keystore.Row) { r.Content = []byte("content\x00") },
			"no content":       func(r *keystore.Row) { r.Content = nil },
			"MAC":              func(r *keystore.Row) { r.MAC = []byte("maC") },
			"no MAC":           func(r *keystore.Row) { r.MAC = nil },
			"MAC into content": func(r *keystore.Row) { r.MAC, r.Content = []byte("macc"), []byte("ontent") },
		} {
			other := row
			change(&other)
			holds(tx, what, other, false)
		}
		if _, err := tx.Holds(keystore.Row{Table: "T", ID: "a"}); !errors.Is(err, keystore.ErrInvalidRow) {
			t.Errorf("Holds of an invalid name: %v", err)
		}
		return nil
	})
	update(t, s, func(tx keystore.Tx) error {
		later := row
		later.Version++
		if err := tx.Put(later); err != nil {
			return err
		}
		holds(tx, "written in the transaction", later, true)
		holds(tx, "replaced in the transaction", row, false)
		if err := tx.Delete("t", "a"); err != nil {
			return err
		}
		holds(tx, "deleted in the transaction", later, false)
		if err := tx.Delete("t", "empty"); err != nil {
			return err
		}
		holds(tx, "the table is gone", empty, false)
		if err := tx.Put(row); err != nil {
			return err
		}
		holds(tx, "written again", row, true)
		return nil
	})
}
