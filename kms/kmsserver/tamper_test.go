// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"crypto/x509"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
)

// edit changes the store by hand, as who has the file but not the root key can.
func edit(t *testing.T, dir string, fn func(keystore.Tx) error) {
	t.Helper()
	store, err := bolt.Open(filepath.Join(dir, datadir.StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// A row that was changed, exchanged or removed disables its key and is named;
// other keys go on.
func TestTamperedKeys(t *testing.T) {
	for name, c := range map[string]struct {
		table  string
		change func(tx keystore.Tx, row, other keystore.Row) error
		gone   string // what the finding says
	}{
		"policy changed": {"key-policy", func(tx keystore.Tx, row, _ keystore.Row) error {
			row.Content = []byte(strings.Replace(string(row.Content), "kms:*", "kms:D*", 1))
			return tx.Put(row)
		}, "changed"},
		"policy exchanged": {"key-policy", func(tx keystore.Tx, row, other keystore.Row) error {
			other.ID = row.ID
			return tx.Put(other)
		}, "moved"},
		"policy removed": {"key-policy", func(tx keystore.Tx, row, _ keystore.Row) error { return tx.Delete(row.Table, row.ID) }, "removed"},
		"record changed": {"key", func(tx keystore.Tx, row, _ keystore.Row) error {
			row.Content = []byte(strings.Replace(string(row.Content), "Enabled", "enabled", 1))
			return tx.Put(row)
		}, "changed"},
		"record removed":     {"key", func(tx keystore.Tx, row, _ keystore.Row) error { return tx.Delete(row.Table, row.ID) }, "removed"},
		"material exchanged": {"key-material", func(tx keystore.Tx, row, other keystore.Row) error { other.ID = row.ID; return tx.Put(other) }, "moved"},
		"material removed":   {"key-material", func(tx keystore.Tx, row, _ keystore.Row) error { return tx.Delete(row.Table, row.ID) }, "removed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			victim, other := s.key(""), s.key("")
			if err := s.files.Close(); err != nil {
				t.Fatal(err)
			}
			row := func(tx keystore.Tx, arn string) (found keystore.Row) {
				id := arn[strings.LastIndexByte(arn, '/')+1:]
				tx.Scan(c.table, "", func(r keystore.Row) bool {
					if strings.Contains(r.ID, id) {
						found = r
					}
					return true
				})
				return found
			}
			edit(t, s.dir, func(tx keystore.Tx) error { return c.change(tx, row(tx, victim), row(tx, other)) })
			s = reopen(t, s)
			for _, err := range []error{
				func() error {
					_, err := s.adminClient().Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &victim, Plaintext: []byte("x")})
					return err
				}(),
				func() error {
					_, err := s.adminClient().DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &victim})
					return err
				}(),
			} {
				if err == nil {
					t.Fatal("the key was used")
				}
				code, message, status, decision := refused(t, err)
				if code != "KMSInternalException" || status != 500 || strings.Contains(message, "row") {
					t.Errorf("%d %s %s", status, code, message)
				}
				event, err := s.kms.Explain(t.Context(), decision)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(event.Cause, c.table) || !strings.Contains(event.Cause, c.gone) || !strings.Contains(event.Text(), event.Cause) {
					t.Errorf("cause: %s", event.Cause)
				}
				if !strings.Contains(s.log.String(), `of table \"`+c.table) {
					t.Errorf("not logged: %s", s.log)
				}
			}
			if _, err := s.adminClient().Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &other, Plaintext: []byte("x")}); err != nil {
				t.Errorf("the other key: %v", err)
			}
		})
	}
}

func TestTamperedPrincipal(t *testing.T) {
	s := newService(t)
	alice := s.principal(kms.User, "alice", kms.AdminPolicy)
	bob := s.principal(kms.User, "bob")
	if err := s.files.Close(); err != nil {
		t.Fatal(err)
	}
	// bob gives himself the rights of alice.
	edit(t, s.dir, func(tx keystore.Tx) error {
		row, err := tx.Get("access-key", alice.AccessKeyID)
		if err != nil {
			return err
		}
		row.ID = bob.AccessKeyID
		return tx.Put(row)
	})
	s = reopen(t, s)
	_, err := s.client(bob, region).ListKeys(t.Context(), &awskms.ListKeysInput{})
	wantCode(t, err, "UnrecognizedClientException")
	if !strings.Contains(s.log.String(), bob.AccessKeyID) {
		t.Errorf("not logged: %s", s.log)
	}
	if _, err := s.client(alice, region).ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
		t.Errorf("alice: %v", err)
	}
	all, err := s.kms.ListPrincipals(t.Context())
	if err != nil || len(all) != 3 || all[2].AccessKeys[0].Tampered == "" {
		t.Errorf("list: %+v, %v", all, err)
	}
	if _, err := s.kms.RemovePrincipal(t.Context(), bob.AccessKeyID, ""); err != nil {
		t.Errorf("remove: %v", err)
	}
}

// The row of a principal itself: bob gives himself the policies of alice, or
// what he was before he was disabled.
func TestTamperedPrincipalRow(t *testing.T) {
	for name, change := range map[string]func(tx keystore.Tx, old, row, other keystore.Row) error{
		"moved":       func(tx keystore.Tx, _, row, other keystore.Row) error { other.ID = row.ID; return tx.Put(other) },
		"rolled back": func(tx keystore.Tx, old, _, _ keystore.Row) error { return tx.Put(old) },
		"changed": func(tx keystore.Tx, _, row, _ keystore.Row) error {
			row.Content = []byte(strings.Replace(string(row.Content), `,"disabled":true`, "", 1))
			return tx.Put(row)
		},
		"removed": func(tx keystore.Tx, _, row, _ keystore.Row) error { return tx.Delete(row.Table, row.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			_, alice := s.add(kms.Principal{Type: kms.User, Name: "alice", Policies: []string{kms.AdminPolicy}})
			credentials, bob := s.add(kms.Principal{Type: kms.User, Name: "bob", Policies: []string{kms.AdminPolicy}})
			var old keystore.Row
			s.files.Close()
			get := func(tx keystore.Tx, id string) keystore.Row {
				row, err := tx.Get("principal", id)
				if err != nil {
					t.Fatal(err)
				}
				return row
			}
			edit(t, s.dir, func(tx keystore.Tx) error { old = get(tx, bob.ID); return nil })
			s = reopen(t, s)
			yes := true
			if _, err := s.kms.ChangePrincipal(t.Context(), "bob", "", kms.PrincipalChange{Disabled: &yes}); err != nil {
				t.Fatal(err)
			}
			s.files.Close()
			edit(t, s.dir, func(tx keystore.Tx) error { return change(tx, old, get(tx, bob.ID), get(tx, alice.ID)) })
			s = reopen(t, s)
			_, err := s.client(credentials, region).ListKeys(t.Context(), &awskms.ListKeysInput{})
			wantCode(t, err, "UnrecognizedClientException")
			if !strings.Contains(s.log.String(), bob.ID) {
				t.Errorf("not logged: %s", s.log)
			}
			all, err := s.kms.ListPrincipals(t.Context())
			if err != nil || !slices.ContainsFunc(all, func(p kms.PrincipalInfo) bool { return p.ID == bob.ID && strings.Contains(p.Tampered, name) }) {
				t.Errorf("list: %+v, %v", all, err)
			}
			if _, err := s.kms.RemovePrincipal(t.Context(), bob.ID, ""); err != nil {
				t.Errorf("remove: %v", err)
			}
			_, err = s.client(credentials, region).ListKeys(t.Context(), &awskms.ListKeysInput{})
			wantCode(t, err, "UnrecognizedClientException")
			if _, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "bob"}); err != nil {
				t.Errorf("the name is not free: %v", err)
			}
		})
	}
}

// reopen starts another process's worth of service on the same folder.
func reopen(t *testing.T, old *service) *service {
	t.Helper()
	files, err := datadir.Open(t.Context(), old.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return serve(t, old.dir, files)
}

func TestRestart(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	s.files.Close()
	s = reopen(t, s)
	for name, call := range recipients(s, s.client(role, region), keyARN, sealed) {
		if _, _, _, err := call(recipient(document(t))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a store is for is fixed when it is made.
func TestProductionStore(t *testing.T) {
	files, err := datadir.Create(t.Context(), filepath.Join(t.TempDir(), "p"), ledger.Meta{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	for name, c := range map[string]struct {
		roots []*x509.Certificate
		ok    bool
	}{
		"AWS's by default": {nil, true},
		"AWS's by hand":    {[]*x509.Certificate{attestation.RootG1(), attestation.RootGovCloud()}, true},
		"an emulator's":    {[]*x509.Certificate{authority().Root()}, false},
		"one too many":     {[]*x509.Certificate{attestation.RootG1(), authority().Root()}, false},
	} {
		server, err := files.Server(c.roots, false)
		if (err == nil) != c.ok || !c.ok && !errors.Is(err, kms.ErrProductionRoot) {
			t.Errorf("%s: %v", name, err)
		}
		if server != nil && server.Emulated() {
			t.Errorf("%s: emulated", name)
		}
	}
}
