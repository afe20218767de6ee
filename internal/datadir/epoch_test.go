// SPDX-License-Identifier: Apache-2.0

//go:build linux

package datadir

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/reason"
)

// TestRestoreFromTwoMachines replaces one store from machines that have an epoch file
// each: no two restored stores have the same epoch, or one could be put in place of
// the other.
func TestRestoreFromTwoMachines(t *testing.T) {
	eachStore(t, func(t *testing.T, c Config) {
		if !c.database() {
			c.Store = filepath.Join(t.TempDir(), "store", "kms.db")
		}
		c.Audit.Server = "one"
		other := c
		other.Dir, other.Audit.Server = filepath.Join(t.TempDir(), "other"), "two"
		other.RootKey.EpochFile = filepath.Join(t.TempDir(), "epochs", "other")
		d := mustCreate(t, c)
		s := server(t, d)
		f := fill(t, s)
		file := mustBackup(t, s)
		mustClose(t, d)
		for i, machine := range []Config{c, other, c, c, other} {
			done, err := machine.Restore(t.Context(), bytes.NewReader(file), true)
			if err != nil || done.Epoch != uint64(i+1) {
				t.Fatalf("restore %d: %+v, %v", i+1, done, err)
			}
			f.works(t, machine)
		}
		putBack := copyStore(t, c)
		if done, err := other.Restore(t.Context(), bytes.NewReader(file), true); err != nil || done.Epoch != 6 {
			t.Fatalf("%+v, %v", done, err)
		}
		f.works(t, c) // which has seen it now
		putBack()
		_, err := c.Open(t.Context())
		wantRefusal(t, "the store of before", err, reason.Stale, "store.rolled-back")
		// One that cannot be believed is replaced all the same, by what the file says.
		store, err := c.openStore(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		err = store.Update(t.Context(), func(tx keystore.Tx) error { return tx.Delete(epochTable, epochRow) })
		if err := errors.Join(err, store.Close()); err != nil {
			t.Fatal(err)
		}
		if done, err := c.Restore(t.Context(), bytes.NewReader(file), true); err != nil || done.Epoch != 7 {
			t.Fatalf("in place of a store that was tampered with: %+v, %v", done, err)
		}
		f.works(t, c)
	})
}
