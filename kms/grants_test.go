// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/rootkey"
)

// Each operation that a grant can hold fits some key, and none fits a key whose
// usage it is not of.
func TestGrantOperations(t *testing.T) {
	fits := map[string][]string{}
	for _, k := range []keyRecord{
		{Spec: kmsapi.SymmetricDefault, Usage: kmsapi.EncryptDecrypt}, {Spec: "RSA_2048", Usage: kmsapi.EncryptDecrypt},
		{Spec: "RSA_2048", Usage: kmsapi.SignVerify}, {Spec: "ECC_NIST_P256", Usage: kmsapi.SignVerify},
		{Spec: "ECC_NIST_P256", Usage: kmsapi.KeyAgreement}, {Spec: "HMAC_256", Usage: kmsapi.GenerateVerifyMAC},
		{Spec: "ML_KEM_768", Usage: kmsapi.EncapsulateDecapsulate},
	} {
		all := grantOperations(&k)
		for _, o := range all {
			fits[o] = append(fits[o], k.Spec+" "+k.Usage)
			if op := kmsapi.Lookup(o); op != nil && op.Usage != "" && op.Usage != k.Usage {
				t.Errorf("%s for a key of usage %s", o, k.Usage)
			}
		}
		if sorted := slices.Sorted(slices.Values(all)); len(slices.Compact(sorted)) != len(all) {
			t.Errorf("%s %s: an operation twice", k.Spec, k.Usage)
		}
		if public := slices.Contains(all, "GetPublicKey"); public == (k.Spec == kmsapi.SymmetricDefault || strings.HasPrefix(k.Spec, "HMAC")) {
			t.Errorf("%s: GetPublicKey %v", k.Spec, public)
		}
	}
	for o := range fits {
		in := &kmsapi.CreateGrantInput{KeyId: new("k"), Operations: []string{o}}
		if err := kmsapi.Validate(in); err != nil {
			t.Errorf("%s is no operation of the model: %v", o, err)
		}
	}
	if len(fits) != 19 {
		t.Errorf("%d operations, the model has 19: %v", len(fits), fits)
	}
	if got := fits["GenerateDataKeyPair"]; len(got) != 1 || got[0] != "SYMMETRIC_DEFAULT ENCRYPT_DECRYPT" {
		t.Errorf("GenerateDataKeyPair for %v", got)
	}
}

// What is not the same request has another row.
func TestRequestRows(t *testing.T) {
	base := grantRecord{Name: "n", Grantee: "a", Operations: []string{"Decrypt", "Encrypt"}, IssuingAccount: "1"}
	row := func(change func(*grantRecord)) string {
		g := base
		change(&g)
		id, err := requestRowID("a/b/c", &g)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := row(func(*grantRecord) {})
	for name, change := range map[string]func(*grantRecord){
		"id":    func(g *grantRecord) { g.ID = "x" },
		"time":  func(g *grantRecord) { g.Created = 1 },
		"order": func(g *grantRecord) { g.Operations = []string{"Encrypt", "Decrypt"} },
	} {
		if row(change) != first {
			t.Errorf("%s: another row", name)
		}
	}
	seen := map[string]string{first: "base"}
	fields := reflect.TypeFor[grantRecord]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if name == "ID" || name == "Created" {
			continue
		}
		id := row(func(g *grantRecord) {
			switch f := reflect.ValueOf(g).Elem().Field(i); f.Kind() {
			case reflect.String:
				f.SetString("other")
			case reflect.Slice:
				f.Set(reflect.ValueOf([]string{"Sign"}))
			case reflect.Map:
				f.Set(reflect.ValueOf(map[string]string{})) // which is not the same as none
			default:
				t.Fatalf("%s is a %s", name, f.Kind())
			}
		})
		if seen[id] != "" {
			t.Errorf("%s: the same row as %s", name, seen[id])
		}
		seen[id] = name
	}
	if !strings.HasPrefix(first, "a/b/c/") {
		t.Errorf("row %s", first)
	}
}

func TestGrantees(t *testing.T) {
	for _, c := range []struct {
		p    Principal
		want []string
	}{
		{Principal{Type: User, Name: "u", Account: "000000000000"}, []string{"arn:aws:iam::000000000000:user/u", "arn:aws:iam::000000000000:root"}},
		{Principal{Type: Role, Name: "r", Account: "000000000000"},
			[]string{"arn:aws:sts::000000000000:assumed-role/r/cretula", "arn:aws:iam::000000000000:role/r", "arn:aws:iam::000000000000:root"}},
	} {
		if got := c.p.grantees(); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c.p, got)
		}
	}
}

func tokenServer(t testing.TB) *Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := rootkey.CreateFile(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &Server{rootKey: key}
}

func TestGrantTokenNamesItsGrant(t *testing.T) {
	s, other := tokenServer(t), tokenServer(t)
	id := strings.Repeat("ab", grantIDSize)
	seen := map[string]bool{}
	for range 3 {
		token, err := s.newGrantToken("000000000000/us-east-1/"+testID, id)
		if err != nil || seen[token] {
			t.Fatalf("token %s, %v", token, err)
		}
		seen[token] = true
		name, got, err := s.openGrantToken(token)
		if err != nil || got != id || name != (keyName{account: "000000000000", region: "us-east-1", id: testID}) {
			t.Errorf("%v %s, %v", name, got, err)
		}
		if _, _, err := other.openGrantToken(token); err == nil {
			t.Error("a token of another root key was taken")
		}
	}
}

// FuzzGrantToken: no panic, one error, and nothing is a token but what was made as
// one, in the one spelling.
func FuzzGrantToken(f *testing.F) {
	s := tokenServer(f)
	token, err := s.newGrantToken("000000000000/us-east-1/"+testID, strings.Repeat("ab", grantIDSize))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{token, token[:len(token)-4], token + "\n", strings.TrimRight(token, "="), "", "=", "AAAA", strings.Repeat("A", 8192)} {
		f.Add(seed)
	}
	if _, _, err := s.openGrantToken(token); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, got string) {
		_, _, err := s.openGrantToken(got)
		if err == nil && got != token {
			t.Errorf("%q was taken", got)
		}
		if e, ok := err.(*kmsapi.Error); err != nil && (!ok || e.Code != kmsapi.InvalidGrantToken) {
			t.Errorf("%q: %v", got, err)
		}
	})
}
