// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/kmsapi"
)

// checkSymmetric refuses a key that cannot encrypt data keys, which may be longer
// than what a key pair encrypts.
func (c *call) checkSymmetric(k *key) error {
	if !k.symmetric() {
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "%s key spec is %s which is not valid for %s.", k.ARN(), k.Spec, c.op.Name)
	}
	return nil
}

// generateDataKey makes a data key and returns it sealed by the key and, beside
// that, in plain or, with a Recipient, sealed to the key in its document.
func (c *call) generateDataKey(k *key, in *kmsapi.GenerateDataKeyInput) (*kmsapi.GenerateDataKeyOutput, error) {
	dataKey, sealed, material, err := c.newDataKey(k, in.KeySpec, in.NumberOfBytes)
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

// generateDataKeyWithoutPlaintext makes a data key and returns it sealed only.
func (c *call) generateDataKeyWithoutPlaintext(k *key, in *kmsapi.GenerateDataKeyWithoutPlaintextInput) (*kmsapi.GenerateDataKeyWithoutPlaintextOutput, error) {
	dataKey, sealed, material, err := c.newDataKey(k, in.KeySpec, in.NumberOfBytes)
	if err != nil {
		return nil, err
	}
	clear(dataKey)
	return &kmsapi.GenerateDataKeyWithoutPlaintextOutput{CiphertextBlob: sealed, KeyId: k.ARN(), KeyMaterialId: material}, nil
}

// newDataKey makes a data key, plain and sealed by k.
func (c *call) newDataKey(k *key, spec *string, size *int32) (dataKey, sealed []byte, material string, err error) {
	n, err := dataKeySize(spec, size)
	if err != nil {
		return nil, nil, "", err
	}
	if err := c.checkSymmetric(k); err != nil {
		return nil, nil, "", err
	}
	if err := c.dryRun(); err != nil {
		return nil, nil, "", err
	}
	if dataKey, err = c.server.randomBytes(n); err != nil {
		return nil, nil, "", err
	}
	sealed, material, err = c.seal(k, kmsapi.SymmetricDefault, c.common.EncryptionContext, dataKey)
	return dataKey, sealed, material, err
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

// generateDataKeyPair makes a key pair and returns its private key sealed by the
// key and, beside that, in plain or, with a Recipient, sealed to the key in its
// document.
func (c *call) generateDataKeyPair(k *key, in *kmsapi.GenerateDataKeyPairInput) (*kmsapi.GenerateDataKeyPairOutput, error) {
	pair, sealed, material, err := c.newDataKeyPair(k, *in.KeyPairSpec)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateDataKeyPairOutput{
		PrivateKeyCiphertextBlob: sealed, PublicKey: pair.Public, KeyId: k.ARN(), KeyPairSpec: *in.KeyPairSpec, KeyMaterialId: material,
	}
	if c.recipient != nil {
		defer clear(pair.Private)
		out.CiphertextForRecipient, err = c.recipient.seal(pair.Private)
		return out, err
	}
	out.PrivateKeyPlaintext = pair.Private
	return out, nil
}

// generateDataKeyPairWithoutPlaintext makes a key pair and returns its private key
// sealed only.
func (c *call) generateDataKeyPairWithoutPlaintext(k *key, in *kmsapi.GenerateDataKeyPairWithoutPlaintextInput) (*kmsapi.GenerateDataKeyPairWithoutPlaintextOutput, error) {
	pair, sealed, material, err := c.newDataKeyPair(k, *in.KeyPairSpec)
	if err != nil {
		return nil, err
	}
	clear(pair.Private)
	return &kmsapi.GenerateDataKeyPairWithoutPlaintextOutput{
		PrivateKeyCiphertextBlob: sealed, PublicKey: pair.Public, KeyId: k.ARN(), KeyPairSpec: *in.KeyPairSpec, KeyMaterialId: material,
	}, nil
}

// newDataKeyPair makes a key pair whose private key is sealed by k too.
func (c *call) newDataKeyPair(k *key, spec string) (pair keyspec.Pair, sealed []byte, material string, err error) {
	if keyspec.Lookup(spec) == nil {
		return keyspec.Pair{}, nil, "", unsupported("key pairs of spec " + spec)
	}
	if err := c.checkSymmetric(k); err != nil {
		return keyspec.Pair{}, nil, "", err
	}
	if err := c.dryRun(); err != nil {
		return keyspec.Pair{}, nil, "", err
	}
	if pair, err = c.server.pairs.pair(c.ctx, c.server.random, spec); err != nil {
		return keyspec.Pair{}, nil, "", err
	}
	sealed, material, err = c.seal(k, kmsapi.SymmetricDefault, c.common.EncryptionContext, pair.Private)
	return pair, sealed, material, err
}
