// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// What the service keeps of rows that it has read is good for a second: each row
// that a Decrypt rests on is noticed by then once it is changed or gone, and believed
// again once it is as it was.
func TestKeptRowsAreComparedWithTheStore(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	root, err := rootkey.CreateFile(filepath.Join(dir, "root", "key"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := bolt.Create(filepath.Join(dir, "store", "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l, err := ledger.Create(ctx, store, root, ledger.Meta{Emulated: true, Account: "000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	l.SetClock(func() time.Time { return clock })
	log, err := audit.Open(ctx, filepath.Join(dir, "audit"), audit.Options{Key: root, StoreID: l.StoreID()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s, err := New(Config{Ledger: l, RootKey: root, Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := s.EnsureAdmin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var blob []byte
	// use does what a request does: who is it, what does the ciphertext hold?
	use := func() error {
		found, err := s.FindAccessKey(ctx, admin.AccessKeyID)
		if err != nil {
			return err
		}
		caller := &Caller{Principal: found.Caller.Principal, AccessKeyID: admin.AccessKeyID, Region: "us-east-1"}
		if blob == nil {
			key, err := Do[kmsapi.CreateKeyOutput](ctx, s, caller, &kmsapi.CreateKeyInput{})
			if err != nil {
				return err
			}
			sealed, err := Do[kmsapi.EncryptOutput](ctx, s, caller, &kmsapi.EncryptInput{KeyId: &key.KeyMetadata.Arn, Plaintext: []byte("x")})
			if err != nil {
				return err
			}
			blob = sealed.CiphertextBlob
		}
		body, err := json.Marshal(kmsapi.DecryptInput{CiphertextBlob: blob})
		if err != nil {
			return err
		}
		answer, err := s.Call(ctx, caller, "Decrypt", body)
		if err == nil && !bytes.Contains(answer, []byte(`"Plaintext":"eA=="`)) {
			t.Errorf("answer: %s", answer)
		}
		return err
	}
	for range 3 {
		if err := use(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(change func(keystore.Tx) error) {
		t.Helper()
		if err := store.Update(ctx, change); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{tableAccessKey, tablePrincipal, tableKey, tablePolicy, tableMaterial} {
		var row keystore.Row
		err := store.View(ctx, func(tx keystore.Tx) error {
			return tx.Scan(table, "", func(r keystore.Row) bool { row = r; return false })
		})
		if err != nil || row.Content == nil {
			t.Fatalf("%s: %v", table, err)
		}
		for name, change := range map[string]func(keystore.Tx) error{
			"content": func(tx keystore.Tx) error {
				changed := row
				changed.Content = bytes.Clone(row.Content)
				changed.Content[len(changed.Content)/2] ^= 1
				return tx.Put(changed)
			},
			"MAC": func(tx keystore.Tx) error {
				changed := row
				changed.MAC = bytes.Clone(row.MAC)
				changed.MAC[0] ^= 1
				return tx.Put(changed)
			},
			"version": func(tx keystore.Tx) error { changed := row; changed.Version++; return tx.Put(changed) },
			"row":     func(tx keystore.Tx) error { return tx.Delete(row.Table, row.ID) },
		} {
			write(change)
			if err := use(); err != nil {
				t.Errorf("%s of table %s, at once: %v", name, table, err)
			}
			clock = clock.Add(ledger.Recent + 1)
			for range 2 {
				if err := use(); !IsTampered(err) {
					t.Errorf("%s of table %s: %v, want a tampered row", name, table, err)
				}
			}
			write(func(tx keystore.Tx) error { return tx.Put(row) })
			if err := use(); err != nil {
				t.Errorf("table %s as it was: %v", table, err)
			}
		}
	}
	if _, err := s.RemovePrincipal(ctx, AdminName, ""); err != nil {
		t.Fatal(err)
	}
	if err := use(); !errors.Is(err, ErrAccessKey) {
		t.Errorf("a principal that was removed: %v", err)
	}
}

// Keys that were read share their record with what is kept of it; a change of one
// must not be seen in another before it is in the store.
func TestReadRecordSharesNothing(t *testing.T) {
	content := []byte(`{"id":"x","tags":[{"key":"a","value":"b"}],"aliases":["alias/a"]}`)
	kept, err := parseRecord(content)
	if err != nil {
		t.Fatal(err)
	}
	record := kept.clone()
	record.Tags[0].Value, record.Aliases[0] = "changed", "alias/changed"
	if kept.Tags[0].Value != "b" || kept.Aliases[0] != "alias/a" {
		t.Errorf("%+v", kept)
	}
}
