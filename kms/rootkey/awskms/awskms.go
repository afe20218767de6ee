// SPDX-License-Identifier: Apache-2.0

// Package awskms seals a root key with a key in AWS KMS.
//
// KMS makes a data key for each seal (GenerateDataKey), which encrypts the root
// key here; beside it is kept what KMS needs to tell the data key again (Decrypt).
// So KMS never has the root key itself, and with a policy that seals every answer
// to an enclave nobody else knows a data key to make a file with; Encrypt, which
// takes no Recipient, would give that to everybody who may call it.
//
// The KMS key is named by its ARN and every answer must name the same. The
// encryption context of each call is {"cretula-root-key": ID}, with the
// fingerprint [rootkey.Key.ID], so that a key policy can be bound to one root
// key and CloudTrail tells which was opened.
//
// # Attested
//
// In a Nitro enclave [NewAttested] gives both calls a Recipient (package
// enclave): no data key leaves KMS but sealed to this enclave, and an answer in
// clear text is refused. What protects is the key policy. It must allow
// kms:GenerateDataKey and kms:Decrypt only under
// kms:RecipientAttestation:ImageSha384 or PCR conditions, and to nobody
// kms:GenerateDataKeyPair…, kms:Encrypt or kms:ReEncrypt…: then no other program
// opens the file, nor can make one that opens. TLS must end in the enclave,
// with roots that it brings along; plain HTTP is refused, even to the loopback
// interface, behind which the parent instance may be.
//
// What is sealed has these bytes:
//
//	offset  length
//	0       1       version, 1
//	1       8       fingerprint of the root key
//	9       2       n, big-endian, 1 to 1977
//	11      n       the data key, as KMS encrypted it (CiphertextBlob)
//	11+n    12      nonce
//	23+n    48      AES-256-GCM of the secret, with its tag of 16 bytes
//
// The first 23+n bytes are the additional data. The ARN is not among them: a
// replica of a multi-Region key has another one and opens the file too.
package awskms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/cretula/cretula/enclave"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/nsm"
)

// ContextKey is the key of the one pair in the encryption context of every call.
const ContextKey = "cretula-root-key"

var (
	// ErrKeyARN: what names the key is not the ARN of a key. An alias can be
	// pointed to another key by who may not change this one.
	ErrKeyARN = errors.New("awskms: not the ARN of a KMS key (an alias or a bare id is not taken)")
	// ErrDenied: KMS does not allow the call: the policy of the key, or the
	// measurements of this enclave.
	ErrDenied = fmt.Errorf("%w: awskms: access denied", rootkey.ErrUnavailable)
	// ErrAnswer: the answer cannot be one of KMS to this call.
	ErrAnswer = fmt.Errorf("%w: awskms: wrong answer", rootkey.ErrUnavailable)
	// ErrInsecure: the endpoint is not HTTPS.
	ErrInsecure = fmt.Errorf("%w: awskms: the endpoint must be https", rootkey.ErrUnavailable)
)

// patience is how long one Seal or Open may take, with the SDK's retries.
const patience = time.Minute

// A Holder seals with one KMS key. It implements [rootkey.Holder]. Nothing of it
// needs to be closed.
type Holder struct {
	keyARN string
	client *kms.Client
}

var _ rootkey.Holder = (*Holder)(nil)

// arnForm is that of a key's ARN, whose first group is the region. Ids are UUIDs,
// or "mrk-" and 32 digits for multi-Region keys.
var arnForm = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:kms:([a-z0-9-]{1,32}):[0-9]{12}:key/` +
	`(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

// New returns the holder that is the KMS key with this ARN. Credentials, endpoint,
// HTTP client and retries are those of config, whose region must be the ARN's or
// empty. Plain HTTP is taken to the loopback interface only, by its address.
// Nothing is asked yet. The error can match [ErrKeyARN].
//
// The HTTP client, if nil, uses no proxy, whatever the environment says. Bodies
// of requests and answers are not logged, whatever ClientLogMode says: they have
// the data key.
func New(config aws.Config, keyARN string) (*Holder, error) {
	return newHolder(config, keyARN, false)
}

// NewAttested is [New] for a program in an enclave, whose device makes the
// attestation documents. The holder does not close it.
func NewAttested(config aws.Config, keyARN string, device nsm.Device) (*Holder, error) {
	attestor, err := enclave.New(enclave.Options{Device: device})
	if err != nil {
		return nil, err
	}
	return newHolder(config, keyARN, true, attestor.APIOption())
}

func newHolder(config aws.Config, keyARN string, attested bool, attest ...func(*middleware.Stack) error) (*Holder, error) {
	arn := arnForm.FindStringSubmatch(keyARN)
	if arn == nil {
		return nil, ErrKeyARN
	}
	if config.Region == "" {
		config.Region = arn[1]
	}
	if config.Region != arn[1] {
		return nil, fmt.Errorf("awskms: the key is in region %q, the configuration has %q", arn[1], config.Region)
	}
	if config.Credentials == nil {
		return nil, errors.New("awskms: no credentials")
	}
	client := kms.NewFromConfig(config, func(o *kms.Options) {
		o.HTTPClient = newTransport(config.HTTPClient, attested)
		o.BaseEndpoint = config.BaseEndpoint // and not AWS_ENDPOINT_URL_KMS, which the SDK would have in its place
		o.ClientLogMode &= aws.LogRetries
		o.APIOptions = append(attest, o.APIOptions...)
	})
	return &Holder{keyARN: keyARN, client: client}, nil
}

// String names the key.
func (h *Holder) String() string { return "KMS key " + h.keyARN }

// GoString keeps what the client has out of logs.
func (h *Holder) GoString() string { return h.String() }

// Format keeps what the client has out of logs, whatever the verb.
func (h *Holder) Format(f fmt.State, _ rune) { fmt.Fprint(f, h.String()) }

// Kind implements [rootkey.Holder]: "awskms".
func (h *Holder) Kind() string { return "awskms" }

// Sizes, see the package comment.
const (
	version     = 1
	idSize      = 8
	sizeAt      = 1 + idSize
	headerSize  = sizeAt + 2
	keySize     = 32
	nonceSize   = 12
	tagSize     = 16
	boxSize     = nonceSize + rootkey.SecretSize + tagSize
	maxBlobSize = rootkey.MaxSealed - headerSize - boxSize
)

// Seal implements [rootkey.Holder]. The error can also match [ErrDenied],
// [ErrAnswer] or [ErrInsecure].
func (h *Holder) Seal(ctx context.Context, secret []byte) ([]byte, error) {
	name, err := rootkey.IDOf(secret)
	if err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(name)
	if err != nil {
		return nil, err
	}
	key, blob, err := h.newDataKey(ctx, id)
	defer clear(key)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, rootkey.MaxSealed), version)
	out = append(out, id...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(blob)))
	out = append(out, blob...)
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	out = append(out, nonce...)
	return aead.Seal(out, nonce, secret, out), nil
}

// Open implements [rootkey.Holder]. The error can also match [ErrDenied],
// [ErrAnswer] or [ErrInsecure].
func (h *Holder) Open(ctx context.Context, sealed []byte) ([]byte, error) {
	id, blob, box, err := decode(sealed)
	if err != nil {
		return nil, err
	}
	key, err := h.dataKey(ctx, id, blob)
	defer clear(key)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	header := sealed[:len(sealed)-len(box)+nonceSize]
	secret, err := aead.Open(nil, box[:nonceSize], box[nonceSize:], header)
	if err != nil {
		return nil, fmt.Errorf("%w: awskms: not with the data key that is beside it", rootkey.ErrNotOpened)
	}
	return secret, nil
}

// decode returns the three parts of what was sealed, which are parts of it.
func decode(sealed []byte) (id, blob, box []byte, err error) {
	if len(sealed) <= headerSize+boxSize || len(sealed) > rootkey.MaxSealed || sealed[0] != version ||
		int(binary.BigEndian.Uint16(sealed[sizeAt:])) != len(sealed)-headerSize-boxSize {
		return nil, nil, nil, fmt.Errorf("%w: awskms: not sealed with a KMS data key of version %d", rootkey.ErrNotOpened, version)
	}
	end := len(sealed) - boxSize
	return sealed[1:sizeAt], sealed[headerSize:end], sealed[end:], nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func encryptionContext(id []byte) map[string]string {
	return map[string]string{ContextKey: hex.EncodeToString(id)}
}

// newDataKey returns a new data key, for the caller to overwrite, in clear and as
// KMS encrypted it.
func (h *Holder) newDataKey(ctx context.Context, id []byte) (key, blob []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := h.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: &h.keyARN, KeySpec: types.DataKeySpecAes256, EncryptionContext: encryptionContext(id),
	})
	if err != nil {
		return nil, nil, explain(ctx, "GenerateDataKey", err)
	}
	if n := len(out.CiphertextBlob); n == 0 || n > maxBlobSize {
		clear(out.Plaintext)
		return nil, nil, fmt.Errorf("%w: GenerateDataKey: CiphertextBlob has %d bytes, must be 1 to %d", ErrAnswer, n, maxBlobSize)
	}
	if err := h.check("GenerateDataKey", out.KeyId, out.Plaintext, out.CiphertextForRecipient); err != nil {
		return nil, nil, err
	}
	return out.Plaintext, out.CiphertextBlob, nil
}

// dataKey returns the data key that KMS has encrypted, for the caller to overwrite.
func (h *Holder) dataKey(ctx context.Context, id, blob []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := h.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &h.keyARN, CiphertextBlob: blob, EncryptionContext: encryptionContext(id),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	if err != nil {
		return nil, explain(ctx, "Decrypt", err)
	}
	if err := h.check("Decrypt", out.KeyId, out.Plaintext, out.CiphertextForRecipient); err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

// check overwrites a data key that it does not accept. An attested answer has
// been opened by package enclave, so that none is left sealed here.
func (h *Holder) check(operation string, keyID *string, key, sealed []byte) error {
	var err error
	switch {
	case aws.ToString(keyID) != h.keyARN:
		err = fmt.Errorf("%w: %s: it is for key %s", ErrAnswer, operation, clip(aws.ToString(keyID)))
	case len(sealed) != 0:
		err = fmt.Errorf("%w: %s: it is sealed for a recipient", ErrAnswer, operation)
	case len(key) != keySize:
		err = fmt.Errorf("%w: %s: the data key has %d bytes, want %d", ErrAnswer, operation, len(key), keySize)
	}
	if err != nil {
		clear(key)
	}
	return err
}
