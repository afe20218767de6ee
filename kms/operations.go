// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"

	"github.com/cretula/cretula/kms/kmsapi"
)

// encrypt encrypts up to 4096 bytes.
func (c *call) encrypt(k *key, in *kmsapi.EncryptInput) (*kmsapi.EncryptOutput, error) {
	if err := checkAlgorithm(k, in.EncryptionAlgorithm); err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	sealed, _, err := c.seal(k, in.EncryptionContext, in.Plaintext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.EncryptOutput{CiphertextBlob: sealed, KeyId: k.ARN(), EncryptionAlgorithm: kmsapi.SymmetricDefault}, nil
}

// checkAlgorithm refuses an encryption algorithm that the key does not have.
func checkAlgorithm(k *key, algorithm *string) error {
	if algorithm != nil && *algorithm != kmsapi.SymmetricDefault {
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", *algorithm, k.Spec)
	}
	return nil
}

// seal encrypts under the current material of a symmetric key.
func (c *call) seal(k *key, context map[string]string, plaintext []byte) (sealed []byte, material string, err error) {
	current, err := c.server.material(c.ctx, k, "")
	if err != nil {
		return nil, "", err
	}
	sealed, err = sealBlob(c.server.random, &k.keyRecord, current, context, plaintext)
	return sealed, current.id, err
}

// decrypt opens a ciphertext of encrypt or generateDataKey. With a Recipient the
// plaintext is sealed to the key in its document.
func (c *call) decrypt(in *kmsapi.DecryptInput) (*kmsapi.DecryptOutput, error) {
	switch {
	case in.DryRunModifiers != nil:
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "This key service does not have DryRunModifiers.")
	case in.CiphertextBlob == nil:
		return nil, kmsapi.Errorf(kmsapi.Validation, "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	}
	sealed, err := parseBlob(in.CiphertextBlob)
	if err != nil {
		return nil, &kmsapi.Error{Code: kmsapi.InvalidCiphertext, Err: err}
	}
	k, err := c.admitCiphertext(sealed, in.KeyId)
	if err != nil {
		return nil, err
	}
	if err := checkAlgorithm(k, in.EncryptionAlgorithm); err != nil {
		return nil, err
	}
	if sealed.account != k.Account || sealed.keyID != k.ID {
		return nil, kmsapi.Errorf(kmsapi.IncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	plaintext, material, err := c.open(k, sealed, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	out := &kmsapi.DecryptOutput{KeyId: k.ARN(), EncryptionAlgorithm: kmsapi.SymmetricDefault}
	if c.recipient != nil {
		out.CiphertextForRecipient, err = c.recipient.seal(plaintext)
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

// admitCiphertext is [call.admit] for the key of a ciphertext: the one that keyID
// names, or else the one that the ciphertext names, in the region of the request.
func (c *call) admitCiphertext(sealed blob, keyID *string) (*key, error) {
	if keyID != nil {
		return c.admit(*keyID)
	}
	name := keyName{account: sealed.account, region: c.caller.Region, id: sealed.keyID}
	k, err := c.admit(keyARN(name.region, name.account, name.id))
	if err == nil || name.account == c.caller.Principal.Account && c.event.Decision != nil {
		return k, err
	}
	if len(c.event.Resources) == 0 {
		c.noteKey(name)
	}
	// The caller may not know whether the key exists.
	if e, ok := errors.AsType[*kmsapi.Error](err); ok && (e.Code == kmsapi.NotFound || e.Code == kmsapi.AccessDenied) {
		return nil, kmsapi.Errorf(kmsapi.AccessDenied, "The ciphertext refers to a customer master key that does not exist, "+
			"does not exist in this region, or you are not allowed to access.")
	}
	return nil, err
}

// generateDataKey makes a data key and returns it sealed by the key and, beside
// that, in plain or, with a Recipient, sealed to the key in its document.
func (c *call) generateDataKey(k *key, in *kmsapi.GenerateDataKeyInput) (*kmsapi.GenerateDataKeyOutput, error) {
	size, err := dataKeySize(in.KeySpec, in.NumberOfBytes)
	if err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	dataKey, err := c.server.randomBytes(size)
	if err != nil {
		return nil, err
	}
	sealed, material, err := c.seal(k, in.EncryptionContext, dataKey)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateDataKeyOutput{CiphertextBlob: sealed, KeyId: k.ARN()}
	if c.recipient != nil {
		out.CiphertextForRecipient, err = c.recipient.seal(dataKey)
		return out, err
	}
	out.Plaintext, out.KeyMaterialId = dataKey, material
	return out, nil
}

// dataKeySize returns how many bytes a data key is to have.
func dataKeySize(spec *string, size *int32) (int, error) {
	switch {
	case (spec == nil) == (size == nil):
		return 0, kmsapi.Errorf(kmsapi.Validation, "Please specify either number of bytes or key spec.")
	case size != nil:
		return int(*size), nil
	case *spec == kmsapi.DataKeyAES128:
		return 16, nil
	}
	return 32, nil
}

// generateRandom returns random bytes. There is no key: identity policies alone
// decide.
func (c *call) generateRandom(in *kmsapi.GenerateRandomInput) (*kmsapi.GenerateRandomOutput, error) {
	switch {
	case in.NumberOfBytes == nil:
		return nil, kmsapi.Errorf(kmsapi.Validation, "NumberOfBytes is required.")
	case in.CustomKeyStoreId != nil:
		return nil, noCustomKeyStore(*in.CustomKeyStoreId)
	}
	if err := c.verifyRecipient(); err != nil {
		return nil, err
	}
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	random, err := c.server.randomBytes(int(*in.NumberOfBytes))
	if err != nil {
		return nil, err
	}
	if c.recipient != nil {
		sealed, err := c.recipient.seal(random)
		return &kmsapi.GenerateRandomOutput{CiphertextForRecipient: sealed}, err
	}
	return &kmsapi.GenerateRandomOutput{Plaintext: random}, nil
}
