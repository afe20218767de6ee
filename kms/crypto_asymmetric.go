// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/kmsapi"
)

// done ends an operation that has an answer: with it, or as a dry run.
func done[O any](c *call, out *O, err error) (*O, error) {
	if err == nil {
		err = c.dryRun()
	}
	if err == nil {
		err = c.spend()
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// sign signs a message or a digest.
func (c *call) sign(k *key, in *kmsapi.SignInput) (*kmsapi.SignOutput, error) {
	signature, err := use(c, k, func(spec *keyspec.Spec, secret []byte) ([]byte, error) {
		return spec.Sign(c.server.random, secret, *in.SigningAlgorithm, valueOr(in.MessageType, ""), in.Message)
	})
	return done(c, &kmsapi.SignOutput{KeyId: k.ARN(), Signature: signature, SigningAlgorithm: *in.SigningAlgorithm}, err)
}

// verify tells whether a signature is that of the key; if not, by an error.
func (c *call) verify(k *key, in *kmsapi.VerifyInput) (*kmsapi.VerifyOutput, error) {
	_, err := use(c, k, func(spec *keyspec.Spec, secret []byte) (none struct{}, err error) {
		return none, spec.Verify(secret, *in.SigningAlgorithm, valueOr(in.MessageType, ""), in.Message, in.Signature)
	})
	return done(c, &kmsapi.VerifyOutput{KeyId: k.ARN(), SignatureValid: true, SigningAlgorithm: *in.SigningAlgorithm}, err)
}

// generateMac makes an HMAC.
func (c *call) generateMac(k *key, in *kmsapi.GenerateMacInput) (*kmsapi.GenerateMacOutput, error) {
	mac, err := use(c, k, func(spec *keyspec.Spec, secret []byte) ([]byte, error) {
		return spec.Mac(secret, *in.MacAlgorithm, in.Message)
	})
	return done(c, &kmsapi.GenerateMacOutput{Mac: mac, MacAlgorithm: *in.MacAlgorithm, KeyId: k.ARN()}, err)
}

// verifyMac tells whether an HMAC is that of the key; if not, by an error.
func (c *call) verifyMac(k *key, in *kmsapi.VerifyMacInput) (*kmsapi.VerifyMacOutput, error) {
	_, err := use(c, k, func(spec *keyspec.Spec, secret []byte) (none struct{}, err error) {
		return none, spec.VerifyMac(secret, *in.MacAlgorithm, in.Message, in.Mac)
	})
	return done(c, &kmsapi.VerifyMacOutput{KeyId: k.ARN(), MacValid: true, MacAlgorithm: *in.MacAlgorithm}, err)
}

// getPublicKey returns the public half of a key pair.
func (c *call) getPublicKey(k *key, _ *kmsapi.GetPublicKeyInput) (*kmsapi.GetPublicKeyOutput, error) {
	spec := keyspec.Lookup(k.Spec)
	if !spec.Asymmetric() {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s key spec is %s which is not valid for GetPublicKey.", k.ARN(), k.Spec)
	}
	public, err := use(c, k, (*keyspec.Spec).PublicKey)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GetPublicKeyOutput{
		KeyId: k.ARN(), PublicKey: public, CustomerMasterKeySpec: k.Spec, KeySpec: k.Spec, KeyUsage: k.Usage,
		EncryptionAlgorithms: spec.EncryptionAlgorithms(k.Usage), SigningAlgorithms: spec.SigningAlgorithms(k.Usage),
		KeyAgreementAlgorithms: spec.KeyAgreementAlgorithms(k.Usage),
	}, nil
}

// deriveSharedSecret agrees on a secret with the owner of a public key. With a
// Recipient the secret is sealed to the key in its document.
func (c *call) deriveSharedSecret(k *key, in *kmsapi.DeriveSharedSecretInput) (*kmsapi.DeriveSharedSecretOutput, error) {
	shared, err := use(c, k, func(spec *keyspec.Spec, secret []byte) ([]byte, error) { return spec.Derive(secret, in.PublicKey) })
	if err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	out := &kmsapi.DeriveSharedSecretOutput{KeyId: k.ARN(), KeyAgreementAlgorithm: *in.KeyAgreementAlgorithm, KeyOrigin: k.Origin}
	if c.recipient != nil {
		defer clear(shared)
		out.CiphertextForRecipient, err = c.recipient.seal(shared)
		return out, err
	}
	out.SharedSecret = shared
	return out, nil
}
