// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/pcr"
)

const (
	account = "000000000000"
	region  = "us-east-1"
)

// A service is a key service over a store of its own behind an HTTP server.
type service struct {
	t     testing.TB
	dir   string
	files *datadir.Dir
	kms   *kms.Server
	url   string
	admin kms.Credentials
	log   *lockedBuffer
	audit *flakyLog
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A flakyLog fails on demand.
type flakyLog struct {
	kms.AuditLog
	mu   sync.Mutex
	fail error
}

func (l *flakyLog) Append(ctx context.Context, event any) error {
	l.mu.Lock()
	err := l.fail
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.AuditLog.Append(ctx, event)
}

func (l *flakyLog) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// authority is one emulator for all tests.
var authority = sync.OnceValue(func() *issuer.Authority {
	a, err := issuer.New(issuer.Options{})
	if err != nil {
		panic(err)
	}
	return a
})

// recipientKey is one RSA key for all tests.
var recipientKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newService(t testing.TB, change ...func(*kms.Config)) *service {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	files, err := datadir.Create(t.Context(), dir, ledger.Meta{Emulated: true, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return serve(t, dir, files, change...)
}

// serve puts a server over open files.
func serve(t testing.TB, dir string, files *datadir.Dir, change ...func(*kms.Config)) *service {
	t.Helper()
	s := &service{t: t, dir: dir, files: files, log: &lockedBuffer{}, audit: &flakyLog{AuditLog: files.Audit}}
	config := kms.Config{Ledger: files.Ledger, RootKey: files.RootKey, Audit: s.audit, Roots: []*x509.Certificate{authority().Root()}}
	for _, c := range change {
		c(&config)
	}
	var err error
	if s.kms, err = kms.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kms.Close)
	if s.admin, err = s.kms.EnsureAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	handler, err := kmsserver.New(kmsserver.Config{KMS: s.kms, Logger: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// client is AWS's own client, unmodified.
func (s *service) client(c kms.Credentials, inRegion string) *awskms.Client {
	return awskms.New(awskms.Options{
		Region: inRegion, BaseEndpoint: aws.String(s.url), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
	})
}

func (s *service) adminClient() *awskms.Client { return s.client(s.admin, region) }

// principal adds one and returns its credentials.
func (s *service) principal(kind kms.PrincipalType, name string, policies ...string) kms.Credentials {
	s.t.Helper()
	c, err := s.kms.AddPrincipal(s.t.Context(), kms.Principal{Type: kind, Name: name, Policies: policies})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *service) key(policy string) string {
	s.t.Helper()
	in := &awskms.CreateKeyInput{}
	if policy != "" {
		in.Policy = &policy
	}
	out, err := s.adminClient().CreateKey(s.t.Context(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

func fill(b byte) (d pcr.Digest) {
	for i := range d {
		d[i] = b
	}
	return d
}

// registers are those of an enclave whose image is n.
func registers(n byte) (set pcr.Set) {
	for i := range pcr.Index(16) {
		set.Put(i, pcr.Digest{})
	}
	for i := range pcr.Index(5) {
		set.Put(i, fill(n+byte(i)))
	}
	return set
}

func spki(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func document(t testing.TB, change ...func(*issuer.Content)) []byte {
	t.Helper()
	content := issuer.Content{
		Kind: attestation.KindEnclave, PCRs: registers(1), PublicKey: spki(t, recipientKey().Public()),
		ModuleID: issuer.NewModuleID("i-0123456789abcdef0", time.Now().Add(-time.Minute), rand.Reader),
	}
	for _, c := range change {
		c(&content)
	}
	doc, err := authority().Issue(content)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// refused returns code, message, status and decision id of an AWS error.
func refused(t testing.TB, err error) (code, message string, status int, decision string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		t.Fatalf("no AWS error: %v", err)
	}
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = response.HTTPStatusCode()
		decision = response.Response.Header.Get(kmsserver.DecisionHeader)
	}
	return api.ErrorCode(), api.ErrorMessage(), status, decision
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	if got, message, _, _ := refused(t, err); got != code {
		t.Errorf("got %s (%s), want %s", got, message, code)
	}
}

// adminPolicy is a key policy that leaves everything to the administrator.
const adminPolicy = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"}}`

func quoteJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// auditText returns the audit log in the data folder, all of its segments.
func auditText(t testing.TB, dir string) (text string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, datadir.AuditDir, "0*.jsonl"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no audit log in %s (%v)", dir, err)
	}
	for _, name := range segments {
		text += readFile(t, name)
	}
	return text
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
