// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// edwardsKeys are Ed25519 keys (RFC 8032).
type edwardsKeys struct{}

func (edwardsKeys) generate(random io.Reader) ([]byte, error) {
	seed := make([]byte, ed25519.SeedSize)
	defer clear(seed)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	defer clear(key)
	return x509.MarshalPKCS8PrivateKey(key)
}

// private returns the key (RFC 8410 §7) and the public key that stood beside it.
func (edwardsKeys) private(secret []byte) (ed25519.PrivateKey, []byte, error) {
	info, err := parsePKCS8(secret, oidEd25519, absent)
	if err != nil {
		return nil, nil, err
	}
	var seed cryptobyte.String
	if !info.key.ReadASN1(&seed, tags.OCTET_STRING) || !info.key.Empty() || len(seed) != ed25519.SeedSize {
		return nil, nil, errors.New("not a CurvePrivateKey of 32 bytes")
	}
	return ed25519.NewKeyFromSeed(seed), info.public, nil
}

func (k edwardsKeys) check(secret []byte) error {
	private, beside, err := k.private(secret)
	if err != nil {
		return err
	}
	defer clear(private)
	if public := private[ed25519.SeedSize:]; beside != nil && string(beside) != string(public) {
		return errMismatch
	}
	return nil
}

func (k edwardsKeys) public(secret []byte) (ed25519.PublicKey, error) {
	private, _, err := k.private(secret)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	return private.Public().(ed25519.PublicKey), nil
}

func (k edwardsKeys) publicKey(secret []byte) ([]byte, error) {
	public, err := k.public(secret)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(public)
}

// input returns what to give to crypto/ed25519: the message for Ed25519, the
// SHA-512 digest for Ed25519ph, both with an empty context.
func (m message) input() ([]byte, *ed25519.Options) {
	if m.hash == 0 {
		return m.data, &ed25519.Options{}
	}
	return m.sum(), &ed25519.Options{Hash: crypto.SHA512}
}

func (k edwardsKeys) sign(_ io.Reader, secret []byte, m message) ([]byte, error) {
	private, _, err := k.private(secret)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	data, options := m.input()
	return private.Sign(nil, data, options)
}

func (k edwardsKeys) verify(secret []byte, m message, signature []byte) (bool, error) {
	public, err := k.public(secret)
	if err != nil {
		return false, err
	}
	data, options := m.input()
	return ed25519.VerifyWithOptions(public, data, signature, options) == nil, nil
}
