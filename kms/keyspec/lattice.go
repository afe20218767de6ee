// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"io"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// latticeKeys are ML-DSA keys (FIPS 204) of one parameter set.
type latticeKeys struct {
	oid        asn1.ObjectIdentifier
	parameters mldsa.Parameters
}

// seedTag is that of the seed in ML-DSA-PrivateKey (RFC 9881 §6).
const seedTag = tags.Tag(0x80)

func (k latticeKeys) generate(random io.Reader) ([]byte, error) {
	seed := make([]byte, mldsa.PrivateKeySize)
	defer clear(seed)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		addAlgorithm(b, k.oid)
		b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(seedTag, func(b *cryptobyte.Builder) { b.AddBytes(seed) })
		})
	})
	return b.Bytes()
}

// private takes the form with the seed only: an expanded key can be made that
// signs what its public key does not verify.
func (k latticeKeys) private(secret []byte) (*mldsa.PrivateKey, []byte, error) {
	info, err := parsePKCS8(secret, k.oid, absent)
	if err != nil {
		return nil, nil, err
	}
	var seed cryptobyte.String
	if !info.key.ReadASN1(&seed, seedTag) || !info.key.Empty() || len(seed) != mldsa.PrivateKeySize {
		return nil, nil, errors.New("not an ML-DSA-PrivateKey with the seed alone")
	}
	private, err := mldsa.NewPrivateKey(k.parameters, seed)
	return private, info.public, err
}

func (k latticeKeys) check(secret []byte) error {
	private, beside, err := k.private(secret)
	if err != nil {
		return err
	}
	if beside != nil && string(beside) != string(private.PublicKey().Bytes()) {
		return errMismatch
	}
	return nil
}

func (k latticeKeys) publicKey(secret []byte) ([]byte, error) {
	private, _, err := k.private(secret)
	if err != nil {
		return nil, err
	}
	return marshalSPKI(private.PublicKey().Bytes(), k.oid)
}

// sign makes the hedged signature of FIPS 204 §5.2, of the message with an empty
// context or of its μ.
func (k latticeKeys) sign(random io.Reader, secret []byte, m message) ([]byte, error) {
	private, _, err := k.private(secret)
	if err != nil {
		return nil, err
	}
	if m.digest {
		return private.Sign(random, m.data, mldsacrypto.MLDSAMu)
	}
	return private.Sign(random, m.data, crypto.Hash(0))
}

func (k latticeKeys) verify(secret []byte, m message, signature []byte) (bool, error) {
	private, _, err := k.private(secret)
	if err != nil {
		return false, err
	}
	if m.digest {
		return verifyMu(private.PublicKey().Bytes(), m.data, signature), nil
	}
	return mldsa.Verify(private.PublicKey(), m.data, signature, nil) == nil, nil
}
