// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"io"
	"math/big"
)

// nistKeys are keys on one of the curves of NIST SP 800-186.
type nistKeys struct {
	oid   asn1.ObjectIdentifier
	curve elliptic.Curve
	ecdh  ecdh.Curve
}

var (
	p256 = nistKeys{oidP256, elliptic.P256(), ecdh.P256()}
	p384 = nistKeys{oidP384, elliptic.P384(), ecdh.P384()}
	p521 = nistKeys{oidP521, elliptic.P521(), ecdh.P521()}
)

func (k nistKeys) generate(random io.Reader) ([]byte, error) {
	key, err := k.ecdh.GenerateKey(random)
	if err != nil {
		return nil, err
	}
	scalar := key.Bytes()
	defer clear(scalar)
	return marshalEC(k.oid, scalar, key.PublicKey().Bytes())
}

func (k nistKeys) parse(secret []byte) (ecKey, error) {
	return parseEC(secret, k.oid, (k.curve.Params().N.BitLen()+7)/8)
}

// agreement returns the key for ECDH, with the public key computed.
func (k nistKeys) agreement(secret []byte) (*ecdh.PrivateKey, ecKey, error) {
	key, err := k.parse(secret)
	if err != nil {
		return nil, key, err
	}
	private, err := k.ecdh.NewPrivateKey(key.scalar)
	if err != nil {
		return nil, key, errScalarRange
	}
	return private, key, nil
}

func (k nistKeys) check(secret []byte) error {
	private, key, err := k.agreement(secret)
	if err != nil {
		return err
	}
	if key.point != nil && string(key.point) != string(private.PublicKey().Bytes()) {
		return errMismatch
	}
	return nil
}

// point returns the public key, uncompressed.
func (k nistKeys) point(secret []byte) ([]byte, error) {
	key, err := k.parse(secret)
	if err != nil || key.point != nil {
		return key.point, err
	}
	private, _, err := k.agreement(secret)
	if err != nil {
		return nil, err
	}
	return private.PublicKey().Bytes(), nil
}

func (k nistKeys) publicKey(secret []byte) ([]byte, error) {
	point, err := k.point(secret)
	if err != nil {
		return nil, err
	}
	return marshalSPKI(point, oidEC, k.oid)
}

func (k nistKeys) sign(random io.Reader, secret []byte, m message) ([]byte, error) {
	key, err := k.parse(secret)
	if err != nil {
		return nil, err
	}
	private, err := k.signer(key)
	if err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(random, private, m.sum())
}

// signer takes the public key that stands beside the private one, if it does: to
// compute it again would take half as long as a signature.
func (k nistKeys) signer(key ecKey) (*ecdsa.PrivateKey, error) {
	if key.point == nil {
		return ecdsa.ParseRawPrivateKey(k.curve, key.scalar)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(k.curve, key.point)
	if err != nil {
		return nil, err
	}
	private := &ecdsa.PrivateKey{PublicKey: *public}
	//lint:ignore SA1019 there is no other way to keep the public key
	private.D = new(big.Int).SetBytes(key.scalar)
	return private, nil
}

func (k nistKeys) verify(secret []byte, m message, signature []byte) (bool, error) {
	point, err := k.point(secret)
	if err != nil {
		return false, err
	}
	public, err := ecdsa.ParseUncompressedPublicKey(k.curve, point)
	if err != nil {
		return false, err
	}
	return ecdsa.VerifyASN1(public, m.sum(), signature), nil
}

func (k nistKeys) peer(spki []byte) (*ecdh.PublicKey, error) {
	point, err := parseSPKI(spki, oidEC, curve(k.oid))
	if err != nil {
		return nil, err
	}
	return k.ecdh.NewPublicKey(point)
}

func (k nistKeys) derive(secret []byte, peer *ecdh.PublicKey) ([]byte, error) {
	private, _, err := k.agreement(secret)
	if err != nil {
		return nil, err
	}
	return private.ECDH(peer)
}
