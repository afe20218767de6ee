// SPDX-License-Identifier: Apache-2.0

package enclave

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"

	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/nsm"
)

const (
	keyID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	keyARN = "arn:aws:kms:us-east-1:111122223333:key/" + keyID
)

// A fakeDevice answers Attestation with a document that is the public key
// behind a mark and a number.
type fakeDevice struct {
	mu    sync.Mutex
	calls []nsm.Request
	send  func(ctx context.Context) ([]byte, error) // nil: answer
}

const mark = "document:"

func (d *fakeDevice) Send(ctx context.Context, request []byte) ([]byte, error) {
	parsed, err := nsm.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.calls = append(d.calls, parsed)
	n := len(d.calls)
	d.mu.Unlock()
	if d.send != nil {
		return d.send(ctx)
	}
	document := fmt.Appendf(nil, "%s%08d%s", mark, n, parsed.PublicKey)
	return nsm.Response{Command: nsm.Attestation, Document: document}.Encode(), nil
}

func (d *fakeDevice) Close() error { return nil }

func (d *fakeDevice) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.calls)
}

// fakeKey returns the public key in a document of fakeDevice.
func fakeKey(document []byte) (*rsa.PublicKey, error) {
	if !bytes.HasPrefix(document, []byte(mark)) {
		return nil, errors.New("not a document of the fake device")
	}
	key, err := x509.ParsePKIXPublicKey(document[len(mark)+8:])
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PublicKey), nil
}

// A kmsRequest is one request as the fake KMS received it.
type kmsRequest struct {
	operation string
	body      map[string]any
	document  []byte
	recipient *rsa.PublicKey // nil without Recipient
}

// A fakeKMS speaks AWS JSON 1.1 and seals with package cms.
type fakeKMS struct {
	t      *testing.T
	server *httptest.Server
	// publicKey takes the recipient's key out of a document.
	publicKey func(document []byte) (*rsa.PublicKey, error)
	// answer makes the answer to a request; nil: honest.
	answer func(r kmsRequest) (status int, body map[string]any)

	mu       sync.Mutex
	requests []kmsRequest
}

func newFakeKMS(t *testing.T) *fakeKMS {
	k := &fakeKMS{t: t, publicKey: fakeKey}
	k.server = httptest.NewServer(k)
	t.Cleanup(k.server.Close)
	return k
}

func (k *fakeKMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := k.read(r)
	if err != nil {
		k.t.Error(err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	k.mu.Lock()
	k.requests = append(k.requests, request)
	k.mu.Unlock()
	answer := k.answer
	if answer == nil {
		answer = k.honest
	}
	status, body := answer(request)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func (k *fakeKMS) read(r *http.Request) (kmsRequest, error) {
	var request kmsRequest
	if got := r.Header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
		return request, fmt.Errorf("content type %q", got)
	}
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !ok {
		return request, errors.New("no target")
	}
	request.operation = operation
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return request, err
	}
	if err := json.Unmarshal(data, &request.body); err != nil {
		return request, err
	}
	recipient, ok := request.body["Recipient"].(map[string]any)
	if !ok {
		return request, nil
	}
	if got := recipient["KeyEncryptionAlgorithm"]; got != "RSAES_OAEP_SHA_256" {
		return request, fmt.Errorf("algorithm %v", got)
	}
	if request.document, err = base64.StdEncoding.DecodeString(recipient["AttestationDocument"].(string)); err != nil {
		return request, err
	}
	request.recipient, err = k.publicKey(request.document)
	return request, err
}

func (k *fakeKMS) seen() []kmsRequest {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.requests
}

// secretOf is the result of each operation.
func secretOf(operation string) []byte { return []byte("the result of " + operation) }

// clearMember is the member in which an operation answers without Recipient.
var clearMember = map[string]string{
	"Decrypt":             "Plaintext",
	"GenerateDataKey":     "Plaintext",
	"GenerateDataKeyPair": "PrivateKeyPlaintext",
	"GenerateRandom":      "Plaintext",
	"DeriveSharedSecret":  "SharedSecret",
}

// honest answers as KMS does, with Recipient and without.
func (k *fakeKMS) honest(r kmsRequest) (int, map[string]any) {
	body := map[string]any{}
	if r.operation != "GenerateRandom" {
		body["KeyId"] = keyARN
	}
	switch r.operation {
	case "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext":
		body["CiphertextBlob"] = []byte("ciphertext")
	case "GenerateDataKeyPair":
		body["PrivateKeyCiphertextBlob"] = []byte("ciphertext")
		body["PublicKey"] = []byte("public key")
	}
	member, attested := clearMember[r.operation]
	switch {
	case !attested:
	case r.recipient == nil:
		body[member] = secretOf(r.operation)
	default:
		body["CiphertextForRecipient"] = k.seal(r.recipient, secretOf(r.operation))
	}
	return 200, body
}

func (k *fakeKMS) seal(recipient *rsa.PublicKey, content []byte) []byte {
	sealed, err := cms.Seal(recipient, content)
	if err != nil {
		k.t.Error(err)
	}
	return sealed
}

// client returns an ordinary client of the SDK, with the options of the
// attestors.
func (k *fakeKMS) client(attestors ...*Attestor) *kms.Client {
	config := aws.Config{
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		BaseEndpoint: &k.server.URL,
		Retryer: func() aws.Retryer {
			return retry.AddWithMaxBackoffDelay(retry.NewStandard(), 1)
		},
	}
	for _, a := range attestors {
		config.APIOptions = append(config.APIOptions, a.APIOption())
	}
	return kms.NewFromConfig(config)
}

func newAttestor(t *testing.T, o Options) *Attestor {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// An operation is one of the five, as the tests call it.
type operation struct {
	name string
	// call returns the result, what is left of CiphertextForRecipient, and the
	// SDK's error. An empty key is left out.
	call func(ctx context.Context, c *kms.Client, key string, options ...func(*kms.Options)) (result, sealed []byte, err error)
}

func optional(key string) *string {
	if key == "" {
		return nil
	}
	return &key
}

var operations = []operation{
	{"Decrypt", func(ctx context.Context, c *kms.Client, key string, options ...func(*kms.Options)) ([]byte, []byte, error) {
		out, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: []byte("ciphertext"), KeyId: optional(key)}, options...)
		if out == nil {
			return nil, nil, err
		}
		return out.Plaintext, out.CiphertextForRecipient, err
	}},
	{"GenerateDataKey", func(ctx context.Context, c *kms.Client, key string, options ...func(*kms.Options)) ([]byte, []byte, error) {
		out, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: optional(key), NumberOfBytes: aws.Int32(32)}, options...)
		if out == nil {
			return nil, nil, err
		}
		return out.Plaintext, out.CiphertextForRecipient, err
	}},
	{"GenerateDataKeyPair", func(ctx context.Context, c *kms.Client, key string, options ...func(*kms.Options)) ([]byte, []byte, error) {
		out, err := c.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: optional(key), KeyPairSpec: "ECC_NIST_P256"}, options...)
		if out == nil {
			return nil, nil, err
		}
		return out.PrivateKeyPlaintext, out.CiphertextForRecipient, err
	}},
	{"GenerateRandom", func(ctx context.Context, c *kms.Client, _ string, options ...func(*kms.Options)) ([]byte, []byte, error) {
		out, err := c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)}, options...)
		if out == nil {
			return nil, nil, err
		}
		return out.Plaintext, out.CiphertextForRecipient, err
	}},
	{"DeriveSharedSecret", func(ctx context.Context, c *kms.Client, key string, options ...func(*kms.Options)) ([]byte, []byte, error) {
		out, err := c.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{KeyId: optional(key), KeyAgreementAlgorithm: "ECDH", PublicKey: []byte("public key")}, options...)
		if out == nil {
			return nil, nil, err
		}
		return out.SharedSecret, out.CiphertextForRecipient, err
	}},
}

func withOption(a *Attestor) func(*kms.Options) {
	return kms.WithAPIOptions([]func(*middleware.Stack) error{a.APIOption()}...)
}
