// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/kmsapi"
)

// use runs fn with the current material of a key, which is not kept: memory holds
// no more secrets than there are requests.
func use[T any](c *call, k *key, fn func(spec *keyspec.Spec, secret []byte) (T, error)) (T, error) {
	material, err := c.server.material(c.ctx, k, "")
	if err != nil {
		return *new(T), err
	}
	defer clear(material.secret)
	return fn(keyspec.Lookup(k.Spec), material.secret)
}

// checkEncryption refuses an encryption algorithm that the key does not have, and
// an encryption context for one that cannot bind it.
func checkEncryption(k *key, algorithm string, context map[string]string) error {
	switch {
	case !keyspec.Lookup(k.Spec).Encrypts(k.Usage, algorithm):
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", algorithm, k.Spec)
	case !k.symmetric() && len(context) > 0:
		return kmsapi.Errorf(kmsapi.Validation, "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.")
	}
	return nil
}

// seal encrypts with an algorithm that checkEncryption has accepted: under the
// current material of a symmetric key, whose id it returns, or with the public key
// of a pair.
func (c *call) seal(k *key, algorithm string, context map[string]string, plaintext []byte) (sealed []byte, materialID string, err error) {
	sealed, err = use(c, k, func(spec *keyspec.Spec, secret []byte) ([]byte, error) {
		if k.symmetric() {
			return sealBlob(c.server.random, &k.keyRecord, materialVersion{k.Material, secret}, context, plaintext)
		}
		return spec.Encrypt(c.server.random, secret, algorithm, plaintext)
	})
	return sealed, k.shown(k.Material), err
}

// encrypt encrypts up to 4096 bytes.
func (c *call) encrypt(k *key, in *kmsapi.EncryptInput) (*kmsapi.EncryptOutput, error) {
	algorithm := valueOr(in.EncryptionAlgorithm, kmsapi.SymmetricDefault)
	if err := checkEncryption(k, algorithm, in.EncryptionContext); err != nil {
		return nil, err
	}
	sealed, _, err := c.seal(k, algorithm, in.EncryptionContext, in.Plaintext)
	if err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	return &kmsapi.EncryptOutput{CiphertextBlob: sealed, KeyId: k.ARN(), EncryptionAlgorithm: algorithm}, nil
}

// decrypt opens a ciphertext. With a Recipient the plaintext is sealed to the key
// in its document.
func (c *call) decrypt(in *kmsapi.DecryptInput) (*kmsapi.DecryptOutput, error) {
	s := source{
		keyID: in.KeyId, keyMember: "KeyId", ciphertext: in.CiphertextBlob, context: in.EncryptionContext,
		algorithm: valueOr(in.EncryptionAlgorithm, kmsapi.SymmetricDefault),
	}
	ignore, err := s.check(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	k, err := c.findSource(&s)
	// First, so that a bad document does not tell whether the key exists.
	if err := c.verifyRecipient(nil); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if err := c.decide(k); err != nil {
		return nil, c.hideSource(&s, err)
	}
	if err := c.admitSource(&s, k); err != nil {
		return nil, err
	}
	if ignore {
		return nil, c.dryRun()
	}
	plaintext, material, err := c.open(k, &s)
	if err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	out := &kmsapi.DecryptOutput{KeyId: k.ARN(), EncryptionAlgorithm: s.algorithm}
	if c.recipient != nil {
		out.CiphertextForRecipient, err = c.recipient.seal(plaintext)
		return out, err
	}
	out.Plaintext, out.KeyMaterialId = plaintext, material
	return out, nil
}

// generateRandom returns random bytes. There is no key: identity policies alone
// decide.
func (c *call) generateRandom(in *kmsapi.GenerateRandomInput) (*kmsapi.GenerateRandomOutput, error) {
	if in.NumberOfBytes == nil {
		return nil, kmsapi.Errorf(kmsapi.Validation, "NumberOfBytes is required.")
	}
	if err := c.verifyRecipient(nil); err != nil {
		return nil, err
	}
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreId != nil {
		return nil, noCustomKeyStore(*in.CustomKeyStoreId)
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
