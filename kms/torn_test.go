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
	"github.com/cretula/cretula/kms/keystore"
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
	store  *hookedStore
}

// A hookedStore calls before, if that is set, ahead of the next View, and after behind it.
type hookedStore struct {
	keystore.Store
	before, after func()
}

func (h *hookedStore) View(ctx context.Context, fn func(keystore.Tx) error) error {
	if before := h.before; before != nil {
		h.before = nil
		before()
	}
	err := h.Store.View(ctx, fn)
	if after := h.after; after != nil {
		h.after = nil
		after()
	}
	return err
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
	hooked := &hookedStore{Store: store}
	l, err := ledger.Create(ctx, hooked, root, ledger.Meta{Emulated: true, Account: "000000000000"})
	must(err)
	log, err := audit.Open(ctx, filepath.Join(dir, "audit"), audit.Options{Key: root, StoreID: l.StoreID()})
	must(err)
	t.Cleanup(func() { log.Close() })
	s, err := New(Config{Ledger: l, RootKey: root, Audit: log})
	must(err)
	f := &tornFixture{Server: s, t: t, store: hooked}
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

// An alias that is moved to another key, while a request that was decided on for the key
// that it had points it to that key again, stays where it was moved to: of the other key
// the caller may change nothing.
func TestAliasMovedMeanwhile(t *testing.T) {
	f := newTornFixture(t)
	other, err := Do[kmsapi.CreateKeyOutput](t.Context(), f.Server, f.admin, &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	// The worker may do all with the first key and the aliases, nothing with the other.
	mine, theirs := f.keyARN, other.KeyMetadata.Arn
	f.keyARN = theirs
	f.setKeyPolicy("user/admin")
	f.keyARN = mine
	f.setKeyPolicy("user/worker")
	alias := "alias/moved"
	point := func(to string) {
		if _, err := Do[kmsapi.CreateAliasOutput](t.Context(), f.Server, f.admin, &kmsapi.CreateAliasInput{AliasName: &alias, TargetKeyId: &to}); err != nil {
			t.Error(err)
		}
	}
	point(mine)
	caller := f.caller(f.worker)
	f.store.after = func() {
		if _, err := Do[kmsapi.DeleteAliasOutput](t.Context(), f.Server, f.admin, &kmsapi.DeleteAliasInput{AliasName: &alias}); err != nil {
			t.Error(err)
		}
		point(theirs)
	}
	_, err = Do[kmsapi.UpdateAliasOutput](t.Context(), f.Server, caller, &kmsapi.UpdateAliasInput{AliasName: &alias, TargetKeyId: &mine})
	f.want("UpdateAlias", err, kmsapi.AccessDenied)
	got, err := Do[kmsapi.DescribeKeyOutput](t.Context(), f.Server, f.admin, &kmsapi.DescribeKeyInput{KeyId: &alias})
	if err != nil || got.KeyMetadata.Arn != theirs {
		t.Errorf("the alias is of %s, %v", got.KeyMetadata.Arn, err)
	}
}

// A key that is left to nobody, while the request waits for its other key, is not used.
func TestFirstKeyIsReadAgainWithTheSecond(t *testing.T) {
	f := newTornFixture(t)
	second, err := Do[kmsapi.CreateKeyOutput](t.Context(), f.Server, f.admin, &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := f.keyARN, second.KeyMetadata.Arn
	f.setKeyPolicy("user/worker")
	f.keyARN = theirs
	f.setKeyPolicy("user/worker")
	f.keyARN = mine
	caller := f.caller(f.worker)
	sealed, err := Do[kmsapi.EncryptOutput](t.Context(), f.Server, caller, &kmsapi.EncryptInput{KeyId: &mine, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	// The first key is in memory, the second one has to be read.
	f.store.before = func() { f.setKeyPolicy("user/admin") }
	_, err = Do[kmsapi.ReEncryptOutput](t.Context(), f.Server, caller, &kmsapi.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, DestinationKeyId: &theirs})
	if f.store.before != nil {
		t.Error("nothing was read")
	}
	f.want("ReEncrypt", err, kmsapi.AccessDenied)
}

// An access key that was taken away buys no session with what is left of its second, and
// a role that trusts the caller no more is not assumed.
func TestSessionRestsOnTheStore(t *testing.T) {
	ctx, no := t.Context(), false
	f := newTornFixture(t)
	trust := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:%s"},"Action":"sts:AssumeRole"}}`
	trusting, distrusting := fmt.Sprintf(trust, "user/worker"), fmt.Sprintf(trust, "user/admin")
	if _, err := f.AddPrincipal(ctx, Principal{Type: Role, Name: "role", TrustPolicy: trusting}); err != nil {
		t.Fatal(err)
	}
	arn, name := "arn:aws:iam::000000000000:role/role", "session"
	assume := func(caller *Caller) error {
		_, err := f.AssumeRole(ctx, caller, &AssumeRoleInput{RoleArn: &arn, RoleSessionName: &name})
		return err
	}
	token := func(caller *Caller) error {
		_, err := f.GetSessionToken(ctx, caller, &GetSessionTokenInput{})
		return err
	}
	caller := f.caller(f.worker)
	f.want("AssumeRole", assume(caller), "")
	f.want("GetSessionToken", token(caller), "")
	f.store.after = func() {
		if _, err := f.ChangePrincipal(ctx, "role", "", PrincipalChange{TrustPolicy: &distrusting}); err != nil {
			t.Error(err)
		}
	}
	f.want("AssumeRole, distrusted meanwhile", assume(caller), STSAccessDenied)
	if _, err := f.ChangePrincipal(ctx, "role", "", PrincipalChange{TrustPolicy: &trusting}); err != nil {
		t.Fatal(err)
	}
	f.want("AssumeRole, trusted again", assume(caller), "")
	if _, err := f.SetAccessKeyActive(ctx, f.worker, no); err != nil {
		t.Fatal(err)
	}
	f.want("AssumeRole, access key inactive", assume(caller), kmsapi.UnrecognizedClient)
	f.want("GetSessionToken, access key inactive", token(caller), kmsapi.UnrecognizedClient)
}
