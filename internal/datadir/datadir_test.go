// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
)

var meta = ledger.Meta{Emulated: true, Account: "000000000000"}

func TestCreateAndOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if _, err := Open(t.Context(), path); !errors.Is(err, ErrNone) {
		t.Errorf("before: %v", err)
	}
	d, err := Create(t.Context(), path, meta)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); !errors.Is(err, keystore.ErrInUse) {
		t.Errorf("twice: %v", err)
	}
	server, err := d.Server(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	first, err := server.EnsureAdmin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// What a store is for is fixed: another meta changes nothing.
	d, err = Create(t.Context(), path, ledger.Meta{Account: "111111111111"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Ledger.Meta() != meta {
		t.Errorf("meta %+v", d.Ledger.Meta())
	}
	if server, err = d.Server(nil, false); err != nil {
		t.Fatal(err)
	}
	if second, err := server.EnsureAdmin(t.Context()); err != nil || second != first {
		t.Errorf("the administrator has another key: %v", err)
	}
	for _, name := range []string{StoreFile, RootKeyFile} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestRefusals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	d, err := Create(t.Context(), path, meta)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FindEvent(t.Context(), filepath.Join(path, AuditDir), "d-0"); !errors.Is(err, kms.ErrNoDecision) {
		t.Errorf("no event: %v", err)
	}
	if _, err := FindEvent(t.Context(), path+"y", "d-0"); !errors.Is(err, ErrNone) {
		t.Errorf("no folder: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(path, RootKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), path, meta); err == nil {
		t.Error("a new root key for an old store")
	}
	if _, err := Open(t.Context(), path); err == nil {
		t.Error("opened without the root key")
	}
}

// A store that is gone, or that an empty one was put in place of, is not quietly
// replaced by a new one.
func TestLostStore(t *testing.T) {
	for name, lose := range map[string]func(store string) error{
		"gone": os.Remove,
		"empty": func(store string) error {
			if err := os.Remove(store); err != nil {
				return err
			}
			empty, err := bolt.Create(store)
			if err != nil {
				return err
			}
			return empty.Close()
		},
	} {
		path := filepath.Join(t.TempDir(), "x")
		d, err := Create(t.Context(), path, meta)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := lose(filepath.Join(path, StoreFile)); err != nil {
			t.Fatal(err)
		}
		if d, err := Create(t.Context(), path, meta); err == nil {
			d.Close()
			t.Errorf("%s: a new store", name)
		}
		// Without both it is a folder whose making was interrupted.
		for _, left := range []string{AuditDir, RootKeyFile + ".epoch"} {
			if d, err := Create(t.Context(), path, meta); err == nil {
				d.Close()
				t.Errorf("%s: a new store beside %s", name, left)
			}
			if err := os.RemoveAll(filepath.Join(path, left)); err != nil {
				t.Fatal(err)
			}
		}
		d, err = Create(t.Context(), path, meta)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d.Close()
	}
}
