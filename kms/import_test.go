// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/rootkey"
)

func testRootKey(t *testing.T) rootkey.Key {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := rootkey.CreateFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// An id stands for one material of one key under one root key, whatever the region.
func TestImportedID(t *testing.T) {
	s, other := &Server{rootKey: testRootKey(t)}, &Server{rootKey: testRootKey(t)}
	spec := keyspec.Lookup("SYMMETRIC_DEFAULT")
	k := keyRecord{Account: "000000000000", Region: "us-east-1", ID: "mrk-0"}
	id := func(s *Server, k keyRecord, fill byte) string {
		t.Helper()
		id, err := s.importedID(&k, spec, bytes.Repeat([]byte{fill}, 32))
		if err != nil || len(id) != 64 {
			t.Fatalf("%q, %v", id, err)
		}
		return id
	}
	elsewhere, otherKey, otherAccount := k, k, k
	elsewhere.Region, otherKey.ID, otherAccount.Account = "eu-west-1", "mrk-1", "111122223333"
	want := id(s, k, 1)
	if id(s, k, 1) != want || id(s, elsewhere, 1) != want {
		t.Error("the same material has another id")
	}
	seen := map[string]bool{want: true}
	for _, got := range []string{id(s, k, 2), id(s, otherKey, 1), id(s, otherAccount, 1), id(other, k, 1)} {
		if seen[got] {
			t.Error("different materials have one id")
		}
		seen[got] = true
	}
	if _, err := s.importedID(&k, keyspec.Lookup("RSA_2048"), []byte("no key")); err == nil {
		t.Error("an id of no key pair")
	}
}
