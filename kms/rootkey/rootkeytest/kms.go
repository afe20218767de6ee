// SPDX-License-Identifier: Apache-2.0

package rootkeytest

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// Account and Region are those of the keys of a [KMS].
const (
	Account = "000000000000"
	Region  = "us-east-1"
)

// A KMS is a key service of this module with a new store, over HTTPS.
type KMS struct {
	// Server is the service.
	Server *kms.Server
	// Config is that of a client which is the service's administrator.
	Config aws.Config

	server *httptest.Server
}

// StartKMS makes a key service that trusts documents under the roots. It ends
// with the test.
func StartKMS(t testing.TB, roots ...*x509.Certificate) *KMS {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "kms")
	root, err := rootkey.CreateFile(filepath.Join(dir, "root.key"))
	must(err)
	store, err := bolt.Create(filepath.Join(dir, "kms.db"))
	must(err)
	t.Cleanup(func() { store.Close() })
	rows, err := ledger.Create(t.Context(), store, root, ledger.Meta{Emulated: true, Account: Account})
	must(err)
	server, err := kms.New(kms.Config{Ledger: rows, RootKey: root, Audit: noLog{}, Roots: roots})
	must(err)
	t.Cleanup(server.Close)
	admin, err := server.EnsureAdmin(t.Context())
	must(err)
	handler, err := kmsserver.New(kmsserver.Config{KMS: server})
	must(err)
	k := &KMS{Server: server}
	k.server = httptest.NewUnstartedServer(handler)
	k.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	k.server.StartTLS()
	t.Cleanup(k.server.Close)
	k.Config = aws.Config{Region: Region, BaseEndpoint: &k.server.URL, HTTPClient: k.server.Client()}
	k.Config = k.As(admin)
	return k
}

// As returns the Config of a client with other credentials.
func (k *KMS) As(c kms.Credentials) aws.Config {
	config := k.Config.Copy()
	config.Credentials = credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, "")
	return config
}

// Handler is the service as a handler, to put something in front of it.
func (k *KMS) Handler() http.Handler { return k.server.Config.Handler }

// CreateKey makes a key with a policy, or the default one if it is empty, and
// returns its ARN.
func (k *KMS) CreateKey(t testing.TB, policy string) string {
	t.Helper()
	in := &awskms.CreateKeyInput{}
	if policy != "" {
		in.Policy = &policy
	}
	out, err := awskms.NewFromConfig(k.Config).CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// noLog keeps no events.
type noLog struct{}

func (noLog) Append(context.Context, any) error { return nil }

func (noLog) Find(context.Context, string) (audit.Entry, error) {
	return audit.Entry{}, audit.ErrNotFound
}
