// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy/generate"
)

const (
	benchAccount = "000000000000"
	benchRegion  = "us-east-1"
	// benchHost is what requests are signed for, whatever port they are sent to.
	benchHost = "127.0.0.1:8420"
)

// setUp makes a service with two keys: one with the default policy, which a role
// may use by its identity policy, and one that only an enclave may use.
func (r *benchRig) setUp(ctx context.Context, dir string) (err error) {
	d, err := datadir.Create(ctx, dir, ledger.Meta{Emulated: true, Account: benchAccount})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	server, err := d.Server(nil, false)
	if err != nil {
		return err
	}
	// The policy of a key may name principals only that there are.
	administrator, err := server.EnsureAdmin(ctx)
	if err != nil {
		return err
	}
	admin, err := benchCaller(ctx, server, administrator)
	if err != nil {
		return err
	}
	s := &r.service
	reader := kms.Principal{Type: kms.Role, Name: "reader", Account: benchAccount, Policies: []string{
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}]}`}}
	if s.reader, err = server.AddPrincipal(ctx, reader); err != nil {
		return err
	}
	enclave := kms.Principal{Type: kms.Role, Name: "data-processing", Account: benchAccount}
	if s.attested, err = server.AddPrincipal(ctx, enclave); err != nil {
		return err
	}
	var images pcr.Set
	for i := range pcr.Index(3) {
		digest, _ := r.registers.Get(i)
		images.Put(i, digest)
	}
	policy, err := generate.KeyPolicy(generate.Config{
		Account: benchAccount, Administrators: []string{admin.Principal.IdentityARN()},
		EnclaveRoles: []string{enclave.IdentityARN()}, Images: []generate.Image{generate.Exactly(images)},
	})
	if err != nil {
		return err
	}
	s.policy = string(policy)
	if _, s.plainBlob, err = benchKey(ctx, server, admin, "", r.secret); err != nil {
		return err
	}
	if s.keyARN, s.sealedBlob, err = benchKey(ctx, server, admin, s.policy, r.secret); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"CiphertextBlob": s.plainBlob})
	if err != nil {
		return err
	}
	caller, err := benchCaller(ctx, server, s.reader)
	if err != nil {
		return err
	}
	answer, err := server.Call(ctx, caller, "Decrypt", body)
	s.answerBytes = len(answer)
	return err
}

// benchCaller returns whom the credentials belong to, as the caller of a request.
func benchCaller(ctx context.Context, server *kms.Server, c kms.Credentials) (*kms.Caller, error) {
	found, err := server.FindAccessKey(ctx, c.AccessKeyID)
	if err != nil {
		return nil, err
	}
	caller := found.Caller
	caller.Region = benchRegion
	return &caller, nil
}

// benchKey makes a key and encrypts the secret under it.
func benchKey(ctx context.Context, server *kms.Server, admin *kms.Caller, policy string, secret []byte) (arn string, blob []byte, err error) {
	call := func(operation string, in map[string]any, out any) error {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		answer, err := server.Call(ctx, admin, operation, body)
		if err != nil {
			return err
		}
		return json.Unmarshal(answer, out)
	}
	in := map[string]any{}
	if policy != "" {
		in["Policy"] = policy
	}
	var key struct{ KeyMetadata struct{ Arn string } }
	if err := call("CreateKey", in, &key); err != nil {
		return "", nil, err
	}
	var sealed struct{ CiphertextBlob []byte }
	err = call("Encrypt", map[string]any{"KeyId": key.KeyMetadata.Arn, "Plaintext": secret}, &sealed)
	return key.KeyMetadata.Arn, sealed.CiphertextBlob, err
}

// sign has the AWS SDK make n requests of Decrypt and returns their bytes: each
// with a document of its own, or without if there are none.
func (s *benchService) sign(ctx context.Context, n int, documents [][]byte) ([][]byte, error) {
	caller, blob := s.reader, s.plainBlob
	if documents != nil {
		caller, blob = s.attested, s.sealedBlob
	}
	var captured capture
	client := awskms.New(awskms.Options{
		Region: benchRegion, BaseEndpoint: aws.String("http://" + benchHost), HTTPClient: &captured, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(caller.AccessKeyID, caller.SecretAccessKey, ""),
	})
	out := make([][]byte, n)
	for i := range out {
		in := &awskms.DecryptInput{CiphertextBlob: blob}
		if documents != nil {
			in.Recipient = &types.RecipientInfo{
				AttestationDocument: documents[i], KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
			}
		}
		if _, err := client.Decrypt(ctx, in); err != nil {
			return nil, err
		}
		out[i] = captured.request
	}
	return out, nil
}

// A capture is an HTTP client that keeps the bytes of a request and sends nothing.
type capture struct{ request []byte }

// Do implements the SDK's HTTPClient.
func (c *capture) Do(r *http.Request) (*http.Response, error) {
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, err
	}
	c.request = b.Bytes()
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r,
	}, nil
}

// fillBatch is how many keys one transaction writes.
const fillBatch = 10_000

// fillStore writes the rows of so many keys: those of the key that is there, under
// other names. They have the size of a key's rows, and their material is nobody's.
func fillStore(ctx context.Context, dir, keyARN string, keys int) (err error) {
	store, err := bolt.Open(filepath.Join(dir, datadir.StoreFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	root, err := rootkey.OpenFile(filepath.Join(dir, datadir.RootKeyFile))
	if err != nil {
		return err
	}
	l, err := ledger.Open(ctx, store, root)
	if err != nil {
		return err
	}
	id := keyARN[strings.LastIndexByte(keyARN, '/')+1:]
	rows, err := rowsOf(ctx, store, l, id)
	if err != nil {
		return err
	}
	if len(rows) < 2 {
		return fmt.Errorf("the store has %d rows of key %s", len(rows), id)
	}
	for done := 0; done < keys; done += fillBatch {
		err := l.Update(ctx, func(tx *ledger.Tx) error {
			for i := done; i < min(done+fillBatch, keys); i++ {
				other := benchKeyID(i)
				for _, row := range rows {
					content := bytes.ReplaceAll(row.Content, []byte(id), []byte(other))
					if _, err := tx.Put(row.Table, strings.ReplaceAll(row.ID, id, other), content); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// benchKeyID is a key id like any other, and rises with i.
func benchKeyID(i int) string {
	var b [16]byte
	binary.BigEndian.PutUint32(b[:], uint32(i))
	text := hex.EncodeToString(b[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// rowsOf returns all rows of the store that have the key's id in theirs.
func rowsOf(ctx context.Context, store *bolt.Store, l *ledger.Ledger, id string) (rows []keystore.Row, err error) {
	var tables []string
	err = store.View(ctx, func(tx keystore.Tx) (err error) {
		tables, err = tx.Tables()
		return err
	})
	if err != nil {
		return nil, err
	}
	err = l.View(ctx, func(tx *ledger.Tx) error {
		for _, table := range tables {
			if strings.HasPrefix(table, "_") {
				continue // the ledger's own
			}
			err := tx.Scan(table, "", func(row ledger.Row) bool {
				if strings.Contains(row.ID, id) {
					rows = append(rows, keystore.Row{Table: table, ID: row.ID, Content: row.Content})
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return rows, err
}
