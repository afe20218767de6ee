// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"io"

	"github.com/cretula/cretula/kms/kmsapi"
)

// Encrypt encrypts up to 4096 bytes under a symmetric key.
func (s *Server) Encrypt(ctx context.Context, caller *Caller, in *kmsapi.EncryptInput) (*kmsapi.EncryptOutput, error) {
	return run(ctx, s, caller, "Encrypt", in, (*call).encrypt)
}

func (c *call) encrypt(in *kmsapi.EncryptInput) (*kmsapi.EncryptOutput, error) {
	c.parameter("keyId", clip(*in.KeyId))
	use, err := c.cryptographic(in.EncryptionContext, in.EncryptionAlgorithm, in.GrantTokens)
	if err != nil {
		return nil, err
	}
	k, err := c.resolve(*in.KeyId)
	if err != nil {
		return nil, err
	}
	if err := c.allow(k, use, in.DryRun); err != nil {
		return nil, err
	}
	sealed, err := sealBlob(c.server.random, &k.keyRecord, k.current, in.EncryptionContext, in.Plaintext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.EncryptOutput{CiphertextBlob: sealed, KeyId: k.ARN(), EncryptionAlgorithm: kmsapi.SymmetricDefault}, nil
}

// Decrypt opens a ciphertext of Encrypt or GenerateDataKey. With a Recipient the
// plaintext is sealed to the key in its document.
func (s *Server) Decrypt(ctx context.Context, caller *Caller, in *kmsapi.DecryptInput) (*kmsapi.DecryptOutput, error) {
	return run(ctx, s, caller, "Decrypt", in, (*call).decrypt)
}

func (c *call) decrypt(in *kmsapi.DecryptInput) (*kmsapi.DecryptOutput, error) {
	if in.KeyId != nil {
		c.parameter("keyId", clip(*in.KeyId))
	}
	use, err := c.cryptographic(in.EncryptionContext, in.EncryptionAlgorithm, in.GrantTokens)
	switch {
	case err != nil:
		return nil, err
	case in.DryRunModifiers != nil:
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "This key service does not have DryRunModifiers.")
	case in.CiphertextBlob == nil:
		return nil, kmsapi.Errorf(kmsapi.Validation, "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	}
	sealed, err := parseBlob(in.CiphertextBlob)
	if err != nil {
		return nil, &kmsapi.Error{Code: kmsapi.InvalidCiphertext, Err: err}
	}
	k, err := c.resolveCiphertext(sealed, in.KeyId)
	if err != nil {
		return nil, err
	}
	if use.recipient, err = c.verifyRecipient(in.Recipient); err != nil {
		return nil, err
	}
	if err := c.allow(k, use, nil); err != nil {
		if in.KeyId == nil && k.Account != c.caller.Principal.Account {
			return nil, c.hideKey(err)
		}
		return nil, err
	}
	if sealed.account != k.Account || sealed.keyID != k.ID {
		return nil, kmsapi.Errorf(kmsapi.IncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	plaintext, material, err := c.open(k, sealed, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &kmsapi.DecryptOutput{KeyId: k.ARN(), EncryptionAlgorithm: kmsapi.SymmetricDefault}
	if use.recipient != nil {
		out.CiphertextForRecipient, err = use.recipient.seal(plaintext)
		return out, err
	}
	out.Plaintext, out.KeyMaterialId = plaintext, material
	return out, nil
}

// open decrypts with the version of the material that the ciphertext names.
func (c *call) open(k *key, sealed blob, context map[string]string) (plaintext []byte, material string, err error) {
	version, err := c.server.material(c.ctx, k, sealed.material)
	if errors.Is(err, errNoKey) {
		return nil, "", &kmsapi.Error{Code: kmsapi.InvalidCiphertext, Err: err}
	}
	if err != nil {
		return nil, "", err
	}
	plaintext, err = sealed.open(k.ARN(), version.secret, context)
	if errors.Is(err, errBlob) {
		return nil, "", &kmsapi.Error{Code: kmsapi.InvalidCiphertext, Err: err}
	}
	return plaintext, version.id, err
}

// resolveCiphertext finds the key of a ciphertext: the one that KeyId names, or
// else the one that the ciphertext names, in the region of the request.
func (c *call) resolveCiphertext(sealed blob, keyID *string) (*key, error) {
	if keyID != nil {
		return c.resolve(*keyID)
	}
	name := keyName{sealed.account, c.caller.Region, sealed.keyID}
	c.noteKey(name)
	k, err := c.server.loadKey(c.ctx, name)
	if errors.Is(err, errNoKey) {
		return nil, hiddenKey()
	}
	return k, err
}

// hiddenKey is the answer for the key of a ciphertext of which the caller may not
// even know whether it exists.
func hiddenKey() *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.AccessDenied, "The ciphertext refers to a customer master key that does not exist, "+
		"does not exist in this region, or you are not allowed to access.")
}

// hideKey replaces a denial by the one that names no key.
func (c *call) hideKey(err error) error {
	if denied, ok := errors.AsType[*kmsapi.Error](err); ok && denied.Code == kmsapi.AccessDenied {
		return hiddenKey()
	}
	return err
}

// GenerateDataKey makes a data key and returns it sealed by the key and, beside
// that, in plain or, with a Recipient, sealed to the key in its document.
func (s *Server) GenerateDataKey(ctx context.Context, caller *Caller, in *kmsapi.GenerateDataKeyInput) (*kmsapi.GenerateDataKeyOutput, error) {
	return run(ctx, s, caller, "GenerateDataKey", in, (*call).generateDataKey)
}

func (c *call) generateDataKey(in *kmsapi.GenerateDataKeyInput) (*kmsapi.GenerateDataKeyOutput, error) {
	c.parameter("keyId", clip(*in.KeyId))
	use, err := c.cryptographic(in.EncryptionContext, nil, in.GrantTokens)
	if err != nil {
		return nil, err
	}
	size, err := dataKeySize(in)
	if err != nil {
		return nil, err
	}
	c.parameter("numberOfBytes", size)
	k, err := c.resolve(*in.KeyId)
	if err != nil {
		return nil, err
	}
	if use.recipient, err = c.verifyRecipient(in.Recipient); err != nil {
		return nil, err
	}
	if err := c.allow(k, use, in.DryRun); err != nil {
		return nil, err
	}
	dataKey, err := c.randomBytes(size)
	if err != nil {
		return nil, err
	}
	sealed, err := sealBlob(c.server.random, &k.keyRecord, k.current, in.EncryptionContext, dataKey)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateDataKeyOutput{CiphertextBlob: sealed, KeyId: k.ARN()}
	if use.recipient != nil {
		out.CiphertextForRecipient, err = use.recipient.seal(dataKey)
		return out, err
	}
	out.Plaintext, out.KeyMaterialId = dataKey, k.current.id
	return out, nil
}

// dataKeySize returns how many bytes a data key is to have.
func dataKeySize(in *kmsapi.GenerateDataKeyInput) (int32, error) {
	switch {
	case (in.KeySpec == nil) == (in.NumberOfBytes == nil):
		return 0, kmsapi.Errorf(kmsapi.Validation, "Please specify either number of bytes or key spec.")
	case in.NumberOfBytes != nil:
		return *in.NumberOfBytes, nil
	case *in.KeySpec == kmsapi.DataKeyAES128:
		return 16, nil
	}
	return 32, nil
}

// GenerateRandom returns random bytes. There is no key: identity policies alone
// decide.
func (s *Server) GenerateRandom(ctx context.Context, caller *Caller, in *kmsapi.GenerateRandomInput) (*kmsapi.GenerateRandomOutput, error) {
	return run(ctx, s, caller, "GenerateRandom", in, (*call).generateRandom)
}

func (c *call) generateRandom(in *kmsapi.GenerateRandomInput) (*kmsapi.GenerateRandomOutput, error) {
	switch {
	case in.NumberOfBytes == nil:
		return nil, kmsapi.Errorf(kmsapi.Validation, "NumberOfBytes is required.")
	case in.CustomKeyStoreId != nil:
		return nil, kmsapi.Errorf(kmsapi.CustomKeyStoreNotFound, "Custom key store '%s' does not exist.", *in.CustomKeyStoreId)
	}
	c.parameter("numberOfBytes", *in.NumberOfBytes)
	recipient, err := c.verifyRecipient(in.Recipient)
	if err != nil {
		return nil, err
	}
	if err := c.decide(nil, usage{recipient: recipient}); err != nil {
		return nil, err
	}
	random, err := c.randomBytes(*in.NumberOfBytes)
	if err != nil {
		return nil, err
	}
	if recipient != nil {
		sealed, err := recipient.seal(random)
		return &kmsapi.GenerateRandomOutput{CiphertextForRecipient: sealed}, err
	}
	return &kmsapi.GenerateRandomOutput{Plaintext: random}, nil
}

func (c *call) randomBytes(n int32) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(c.server.random, b)
	return b, err
}

// maxContextBytes bounds an encryption context, names and values together.
const maxContextBytes = 8192

// cryptographic checks what the operations with an encryption context have in
// common, and begins the conditions that policies see.
func (c *call) cryptographic(context map[string]string, algorithm *string, grantTokens []string) (usage, error) {
	total := 0
	for name, value := range context {
		total += len(name) + len(value)
	}
	if total > maxContextBytes {
		return usage{}, kmsapi.Errorf(kmsapi.Validation, "The encryption context is larger than %d bytes.", maxContextBytes)
	}
	if context != nil {
		c.parameter("encryptionContext", context)
	}
	if err := noGrantTokens(grantTokens); err != nil {
		return usage{}, err
	}
	return usage{cryptographic: true, context: context, algorithm: algorithm}, nil
}

// noGrantTokens refuses grant tokens: there are no grants, so none is valid.
func noGrantTokens(tokens []string) error {
	if len(tokens) > 0 {
		return kmsapi.Errorf(kmsapi.InvalidGrantToken, "The grant token is not valid: this key service has no grants.")
	}
	return nil
}

// allow decides about the use of a key and checks its state. A dry run ends here.
func (c *call) allow(k *key, use usage, dry *bool) error {
	if err := c.decide(k, use); err != nil {
		return err
	}
	if err := c.usable(k, use.algorithm); err != nil {
		return err
	}
	return dryRun(dry)
}

func dryRun(dry *bool) error {
	if dry != nil && *dry {
		return kmsapi.Errorf(kmsapi.DryRunOperation, "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}
