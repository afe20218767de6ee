// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// A tornFixture is a service with a key and a user, worker, who may use all keys as
// far as its own policies go. The key leaves that to the administrator alone.
type tornFixture struct {
	*Server
	t      *testing.T
	admin  *Caller
	keyARN string
	worker string // the access key
}

const workerPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`

func newTornFixture(t *testing.T) *tornFixture {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootkey.CreateFile(filepath.Join(dir, "root", "key"))
	must(err)
	store, err := bolt.Create(filepath.Join(dir, "store", "db"))
	must(err)
	t.Cleanup(func() { store.Close() })
	l, err := ledger.Create(ctx, store, root, ledger.Meta{Emulated: true, Account: "000000000000"})
	must(err)
	log, err := audit.Open(ctx, filepath.Join(dir, "audit"), audit.Options{Key: root, StoreID: l.StoreID()})
	must(err)
	t.Cleanup(func() { log.Close() })
	s, err := New(Config{Ledger: l, RootKey: root, Audit: log})
	must(err)
	f := &tornFixture{Server: s, t: t}
	admin, err := s.EnsureAdmin(ctx)
	must(err)
	f.admin = f.caller(admin.AccessKeyID)
	worker, err := s.AddPrincipal(ctx, Principal{Type: User, Name: "worker", Policies: []string{workerPolicy}})
	must(err)
	f.worker = worker.AccessKeyID
	key, err := Do[kmsapi.CreateKeyOutput](ctx, s, f.admin, &kmsapi.CreateKeyInput{})
	must(err)
	f.keyARN = key.KeyMetadata.Arn
	f.setKeyPolicy("user/admin")
	return f
}

// caller is whom an access key belongs to, as the service authenticates it now.
func (f *tornFixture) caller(accessKeyID string) *Caller {
	f.t.Helper()
	found, err := f.FindAccessKey(f.t.Context(), accessKeyID)
	if err != nil {
		f.t.Fatal(err)
	}
	found.Caller.Region = "us-east-1"
	return &found.Caller
}

// setKeyPolicy leaves the key to a principal, or with "root" to identity policies.
func (f *tornFixture) setKeyPolicy(who string) {
	f.t.Helper()
	text := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:%s"},"Action":"kms:*","Resource":"*"}]}`, who)
	_, err := Do[kmsapi.PutKeyPolicyOutput](f.t.Context(), f.Server, f.admin, &kmsapi.PutKeyPolicyInput{KeyId: &f.keyARN, Policy: &text})
	if err != nil {
		f.t.Fatal(err)
	}
}

// encrypt sends a request of a caller that was authenticated before.
func (f *tornFixture) encrypt(caller *Caller) error {
	body, err := json.Marshal(kmsapi.EncryptInput{KeyId: &f.keyARN, Plaintext: []byte("x")})
	if err != nil {
		f.t.Fatal(err)
	}
	_, err = f.Call(f.t.Context(), caller, "Encrypt", body)
	return err
}

func (f *tornFixture) want(what string, err error, code kmsapi.Code) {
	f.t.Helper()
	e, ok := errors.AsType[*kmsapi.Error](err)
	if code == "" && err != nil || code != "" && (!ok || e.Code != code) {
		f.t.Errorf("%s: %v, want %q", what, err, code)
	}
}

// First the user's policies are taken away, then the key is left to what policies
// users have. At no time both allow the request, and a request that was authenticated
// before the first change and finds the key after the second is refused too.
func TestDecisionRestsOnOneState(t *testing.T) {
	f := newTornFixture(t)
	before := f.caller(f.worker)
	f.want("before", f.encrypt(before), kmsapi.AccessDenied)
	none := []string{}
	if _, err := f.ChangePrincipal(t.Context(), "worker", "", PrincipalChange{Policies: &none}); err != nil {
		t.Fatal(err)
	}
	f.setKeyPolicy("root")
	f.want("authenticated before", f.encrypt(before), kmsapi.AccessDenied)
	f.want("after", f.encrypt(f.caller(f.worker)), kmsapi.AccessDenied)
	all := []string{workerPolicy}
	if _, err := f.ChangePrincipal(t.Context(), "worker", "", PrincipalChange{Policies: &all}); err != nil {
		t.Fatal(err)
	}
	f.want("with its policies again", f.encrypt(before), "")
}

// Who is disabled, or whose access key is inactive, while a request waits, uses no
// key any more.
func TestCallerIsReadAgainWithTheKey(t *testing.T) {
	yes, no := true, false
	for name, change := range map[string]func(context.Context, *tornFixture) error{
		"disabled": func(ctx context.Context, f *tornFixture) error {
			_, err := f.ChangePrincipal(ctx, "worker", "", PrincipalChange{Disabled: &yes})
			return err
		},
		"inactive": func(ctx context.Context, f *tornFixture) error {
			_, err := f.SetAccessKeyActive(ctx, f.worker, no)
			return err
		},
		"access key deleted": func(ctx context.Context, f *tornFixture) error {
			_, err := f.DeleteAccessKey(ctx, f.worker)
			return err
		},
		"removed": func(ctx context.Context, f *tornFixture) error {
			_, err := f.RemovePrincipal(ctx, "worker", "")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTornFixture(t)
			f.setKeyPolicy("user/worker")
			caller := f.caller(f.worker)
			f.want("before", f.encrypt(caller), "")
			if err := change(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			f.want("after", f.encrypt(caller), kmsapi.UnrecognizedClient)
		})
	}
}
