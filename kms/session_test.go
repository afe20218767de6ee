// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// A token is opened by who made it, byte for byte, or not at all.
func FuzzSessionToken(f *testing.F) {
	s, id := tokenService(f)
	caller := &Caller{Principal: Principal{Type: User, Name: "admin", Account: s.account, ID: id}, AccessKeyID: "AKIAX", Region: "us-east-1"}
	out, err := s.GetSessionToken(f.Context(), caller, &GetSessionTokenInput{})
	if err != nil {
		f.Fatal(err)
	}
	genuine := out.SessionToken
	found, err := s.FindSession(f.Context(), out.AccessKeyID, genuine)
	if err != nil || found.Caller.Principal.ID != id {
		f.Fatalf("no seed: %v", err)
	}
	for _, seed := range []string{genuine, genuine[:40], genuine + "AAAA", "", "AQ==", base64.StdEncoding.EncodeToString(make([]byte, 100)), strings.Replace(genuine, "A", "\nA", 1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		found, err := s.FindSession(t.Context(), out.AccessKeyID, token)
		if token == genuine {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if !errors.Is(err, ErrAccessKey) || found != nil {
			t.Fatalf("%q: %+v, %v", token, found, err)
		}
	})
}

func tokenService(t testing.TB) (s *Server, admin string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, dir := t.Context(), t.TempDir()
	root, err := rootkey.CreateFile(filepath.Join(dir, "root", "key"))
	must(err)
	store, err := bolt.Create(filepath.Join(dir, "store", "db"))
	must(err)
	t.Cleanup(func() { store.Close() })
	l, err := ledger.Create(ctx, store, root, ledger.Meta{Emulated: true, Account: "000000000000"})
	must(err)
	s, err = New(Config{Ledger: l, RootKey: root, Audit: noLog{}})
	must(err)
	_, err = s.EnsureAdmin(ctx)
	must(err)
	info, err := s.FindPrincipal(ctx, AdminName, "")
	must(err)
	return s, info.ID
}

// noLog keeps nothing.
type noLog struct{}

func (noLog) Append(context.Context, any) error { return nil }

func (noLog) Find(context.Context, string) (audit.Entry, error) {
	return audit.Entry{}, audit.ErrNotFound
}
