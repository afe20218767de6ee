// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"io"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// koblitzKeys are keys on secp256k1 (SEC 2).
type koblitzKeys struct{}

func (koblitzKeys) generate(random io.Reader) ([]byte, error) {
	key, err := secp256k1.GeneratePrivateKeyFromRand(random)
	if err != nil {
		return nil, err
	}
	defer key.Zero()
	scalar := key.Serialize()
	defer clear(scalar)
	return marshalEC(oidSecp256k1, scalar, key.PubKey().SerializeUncompressed())
}

// private returns the key, to be zeroed, and the point that stood beside it.
func (koblitzKeys) private(secret []byte) (*secp256k1.PrivateKey, []byte, error) {
	key, err := parseEC(secret, oidSecp256k1, secp256k1.PrivKeyBytesLen)
	if err != nil {
		return nil, nil, err
	}
	private := new(secp256k1.PrivateKey)
	if overflow := private.Key.SetByteSlice(key.scalar); overflow || private.Key.IsZero() {
		private.Zero()
		return nil, nil, errScalarRange
	}
	return private, key.point, nil
}

func (k koblitzKeys) check(secret []byte) error {
	private, point, err := k.private(secret)
	if err != nil {
		return err
	}
	defer private.Zero()
	if point != nil && string(point) != string(private.PubKey().SerializeUncompressed()) {
		return errMismatch
	}
	return nil
}

// public takes the point that stands beside the private key, if one does.
func (k koblitzKeys) public(secret []byte) (*secp256k1.PublicKey, error) {
	private, point, err := k.private(secret)
	if err != nil {
		return nil, err
	}
	defer private.Zero()
	if point != nil {
		return secp256k1.ParsePubKey(point)
	}
	return private.PubKey(), nil
}

func (k koblitzKeys) publicKey(secret []byte) ([]byte, error) {
	public, err := k.public(secret)
	if err != nil {
		return nil, err
	}
	return marshalSPKI(public.SerializeUncompressed(), oidEC, oidSecp256k1)
}

// sign takes its nonce from key and digest (RFC 6979).
func (k koblitzKeys) sign(_ io.Reader, secret []byte, m message) ([]byte, error) {
	private, _, err := k.private(secret)
	if err != nil {
		return nil, err
	}
	defer private.Zero()
	return ecdsa.Sign(private, m.sum()).Serialize(), nil
}

func (k koblitzKeys) verify(secret []byte, m message, signature []byte) (bool, error) {
	public, err := k.public(secret)
	if err != nil {
		return false, err
	}
	return verifyKoblitz(public, m, signature), nil
}

func verifyKoblitz(public *secp256k1.PublicKey, m message, signature []byte) bool {
	parsed, err := ecdsa.ParseDERSignature(signature)
	return err == nil && parsed.Verify(m.sum(), public)
}
