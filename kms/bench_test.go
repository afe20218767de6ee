// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy/generate"
)

// nowhere is an audit log that forgets.
type nowhere struct{}

func (nowhere) Append(context.Context, any) error { return nil }

func (nowhere) Find(context.Context, string) (audit.Entry, error) {
	return audit.Entry{}, audit.ErrNotFound
}

const testAccount = "000000000000"

// newTestServer returns a server over a new store.
func newTestServer(tb testing.TB, log AuditLog, roots ...*x509.Certificate) *Server {
	tb.Helper()
	dir := tb.TempDir()
	root, err := rootkey.CreateFile(filepath.Join(dir, "root", "key"))
	if err != nil {
		tb.Fatal(err)
	}
	store, err := bolt.Create(filepath.Join(dir, "store", "db"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	l, err := ledger.Create(tb.Context(), store, root, ledger.Meta{Emulated: true, Account: testAccount})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Config{Ledger: l, RootKey: root, Audit: log, Roots: roots})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// testCaller returns whom new credentials belong to, as the caller of a request.
func testCaller(tb testing.TB, s *Server) func(Credentials, error) *Caller {
	return func(c Credentials, err error) *Caller {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return findCaller(tb, s, c.AccessKeyID)
	}
}

func findCaller(tb testing.TB, s *Server, accessKeyID string) *Caller {
	found, err := s.FindAccessKey(tb.Context(), accessKeyID)
	if err != nil {
		tb.Fatal(err)
	}
	found.Caller.Region, found.Caller.SourceIP, found.Caller.UserAgent = "us-east-1", "127.0.0.1", "aws-sdk-go-v2"
	return &found.Caller
}

// BenchmarkCall is what a Decrypt costs beside HTTP, its signature and the audit log.
func BenchmarkCall(b *testing.B) {
	ctx := b.Context()
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := newTestServer(b, nowhere{}, authority.Root())
	admin := testCaller(b, s)(s.EnsureAdmin(ctx))
	enclave := Principal{Type: Role, Name: "data-processing", Account: testAccount}
	attested := testCaller(b, s)(s.AddPrincipal(ctx, enclave))
	reader := testCaller(b, s)(s.AddPrincipal(ctx, Principal{Type: Role, Name: "reader", Account: testAccount,
		Policies: []string{`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}]}`}}))
	var registers pcr.Set
	for i := range pcr.Index(16) {
		registers.Put(i, pcr.Sum([]byte{byte(i)}))
	}
	var image pcr.Set
	for i := range pcr.Index(3) {
		digest, _ := registers.Get(i)
		image.Put(i, digest)
	}
	policy, err := generate.KeyPolicy(generate.Config{
		Account: testAccount, Administrators: []string{admin.Principal.IdentityARN()},
		EnclaveRoles: []string{enclave.IdentityARN()}, Images: []generate.Image{generate.Exactly(image)},
	})
	if err != nil {
		b.Fatal(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	id := issuer.NewModuleID("i-0123456789abcdef0", time.Now().Add(-time.Minute), nil)
	document, err := authority.Issue(issuer.Content{ModuleID: id, PCRs: registers, PublicKey: public, IndefiniteMap: true})
	if err != nil {
		b.Fatal(err)
	}
	algorithm := kmsapi.RSAESOAEPSHA256
	for _, bench := range []struct {
		name      string
		caller    *Caller
		policy    *string
		recipient *kmsapi.RecipientInfo
	}{
		{"plain", reader, nil, nil},
		{"attested", attested, new(string(policy)), &kmsapi.RecipientInfo{AttestationDocument: document, KeyEncryptionAlgorithm: &algorithm}},
	} {
		key, err := Do[kmsapi.CreateKeyOutput](ctx, s, admin, &kmsapi.CreateKeyInput{Policy: bench.policy})
		if err != nil {
			b.Fatal(err)
		}
		sealed, err := Do[kmsapi.EncryptOutput](ctx, s, admin, &kmsapi.EncryptInput{KeyId: &key.KeyMetadata.Arn, Plaintext: make([]byte, 32)})
		if err != nil {
			b.Fatal(err)
		}
		body, err := json.Marshal(kmsapi.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, Recipient: bench.recipient})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				caller := findCaller(b, s, bench.caller.AccessKeyID)
				if _, err := s.Call(ctx, caller, "Decrypt", body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
