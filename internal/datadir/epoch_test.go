// SPDX-License-Identifier: Apache-2.0

//go:build linux

package datadir

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
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

// A syncingStore shows what an Update has written before that has returned, as a file
// does whose last sync is still to be made.
type syncingStore struct {
	keystore.Store
	writer sync.Mutex
	// waiting gets each Update that has come, written each that can be seen while the
	// writer waits for sync.
	waiting, written chan struct{}
	sync             chan error
}

func (s *syncingStore) Update(ctx context.Context, fn func(keystore.Tx) error) error {
	if s.sync == nil {
		return s.Store.Update(ctx, fn)
	}
	s.waiting <- struct{}{}
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.Store.Update(ctx, fn); err != nil {
		return err
	}
	s.written <- struct{}{}
	return <-s.sync
}

// TestEpochIsOfWhatIsDurable notes how far a file has come while its newest change is
// not yet on the disk: after a power cut that would refuse the file.
func TestEpochIsOfWhatIsDurable(t *testing.T) {
	c := newConfig(t, "")
	store := &syncingStore{waiting: make(chan struct{}, 9), written: make(chan struct{}, 9)}
	c.WrapStore = func(s keystore.Store) keystore.Store { store.Store = s; return store }
	d := mustCreate(t, c)
	store.sync = make(chan error)
	known := func() string {
		t.Helper()
		text, err := os.ReadFile(c.RootKey.EpochPath())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before, generation := known(), d.Ledger.Generation()
	var changing sync.WaitGroup
	changing.Go(func() {
		err := d.Ledger.Update(context.Background(), func(tx *ledger.Tx) error { _, err := tx.Put("t", "a", nil); return err })
		if err != nil {
			t.Error(err)
		}
	})
	<-store.waiting
	<-store.written
	if err := d.Ledger.View(t.Context(), func(*ledger.Tx) error { return nil }); err != nil || d.Ledger.Generation() <= generation {
		t.Fatalf("generation %d was not seen: %v", d.Ledger.Generation(), err)
	}
	noted := make(chan error, 1)
	go func() { noted <- d.epochs.note() }()
	select {
	case <-store.waiting:
	case err := <-noted:
		store.sync <- nil
		t.Fatalf("noted a change that a power cut would take back: %v", err)
	}
	if known() != before {
		t.Error("the change was noted already")
	}
	store.sync <- nil
	changing.Wait()
	// A sync that fails leaves open what is on the disk.
	store.sync <- keystore.ErrFailed
	if err := <-noted; !errors.Is(err, keystore.ErrFailed) || known() != before {
		t.Errorf("noted after a sync that failed: %v", err)
	}
	store.sync = nil
	if err := d.epochs.note(); err != nil || known() == before {
		t.Errorf("after all syncs: %v", err)
	}
	mustClose(t, d)
}
