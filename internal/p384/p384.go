// SPDX-License-Identifier: Apache-2.0

// Package p384 verifies ECDSA signatures on P-384: FIPS 186-5 §6.4.2, SEC 1
// §4.1.4. It has two implementations: crypto/ecdsa, and a faster one whose curve
// arithmetic is github.com/cloudflare/circl's and which takes a time that depends
// on its inputs. Everything here is public, so that this gives nothing away; never
// use it with a private key. Keys must come from crypto/x509, which has checked
// that they are points of the curve.
package p384

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// An Implementation verifies signatures. The zero value is the fastest that may
// be used here.
type Implementation uint8

const (
	// Fastest is [Circl] on amd64 and arm64, [Std] on other processors, in
	// builds with GOFIPS140, in FIPS 140 mode and with the build tag purego.
	Fastest Implementation = iota
	// Std is crypto/ecdsa.
	Std
	// Circl is [Std] wherever it may not be used.
	Circl
)

// String returns the name of what is really used: "circl" or "std".
func (i Implementation) String() string {
	if i == Std || !circlAllowed {
		return "std"
	}
	return "circl"
}

var circlAllowed = circlPresent && !fips140.Enabled() && fips140.Version() == "latest"

var order = elliptic.P384().Params().N

// InRange tells whether r and s are both in [1, n-1].
func InRange(r, s *big.Int) bool {
	return r.Sign() > 0 && r.Cmp(order) < 0 && s.Sign() > 0 && s.Cmp(order) < 0
}

// A Key is a public key for many verifications, by many goroutines at once.
type Key struct {
	key *ecdsa.PublicKey
	// x and y are those of the point where circl is used, and are never changed.
	x, y big.Int
}

// size is the length of a coordinate.
const size = 48

// NewKey returns the Key of a public key on P-384, nil if it is on another curve or
// no point.
func NewKey(key *ecdsa.PublicKey) *Key {
	if key.Curve != elliptic.P384() {
		return nil
	}
	k := &Key{key: key}
	if !circlAllowed {
		return k
	}
	encoded, err := key.Bytes() // 4, x, y; refuses what is no point
	if err != nil {
		return nil
	}
	k.x.SetBytes(encoded[1 : 1+size])
	k.y.SetBytes(encoded[1+size:])
	return k
}

// VerifyKey tells whether r and s are key's signature of a message with that digest,
// which none is if key is nil.
func (i Implementation) VerifyKey(key *Key, digest []byte, r, s *big.Int) bool {
	switch {
	case key == nil || !InRange(r, s):
		return false
	case i == Std || !circlAllowed:
		return ecdsa.Verify(key.key, digest, r, s)
	}
	return key.verify(digest, r, s)
}

// Verify is [Implementation.VerifyKey] for a key that is used once. One on another
// curve is refused.
func (i Implementation) Verify(key *ecdsa.PublicKey, digest []byte, r, s *big.Int) bool {
	if i == Std || !circlAllowed {
		return key.Curve == elliptic.P384() && InRange(r, s) && ecdsa.Verify(key, digest, r, s)
	}
	return i.VerifyKey(NewKey(key), digest, r, s)
}

// VerifyASN1 is [Implementation.Verify] for a signature that is an
// Ecdsa-Sig-Value of RFC 3279 §2.2.3 in DER.
func (i Implementation) VerifyASN1(key *ecdsa.PublicKey, digest, signature []byte) bool {
	if i == Std || !circlAllowed {
		return key.Curve == elliptic.P384() && ecdsa.VerifyASN1(key, digest, signature)
	}
	var inner cryptobyte.String
	var r, s big.Int
	input := cryptobyte.String(signature)
	whole := input.ReadASN1(&inner, asn1.SEQUENCE) && input.Empty() &&
		inner.ReadASN1Integer(&r) && inner.ReadASN1Integer(&s) && inner.Empty()
	return whole && i.Verify(key, digest, &r, &s)
}

// verify has the steps of SEC 1 §4.1.4 from the third on.
func (k *Key) verify(digest []byte, r, s *big.Int) bool {
	if len(digest) > size {
		digest = digest[:size]
	}
	e := new(big.Int).SetBytes(digest)
	w := new(big.Int).ModInverse(s, order)
	e.Mul(e, w).Mod(e, order)
	w.Mul(r, w).Mod(w, order)
	sum, zero := combinedMult(&k.x, &k.y, e.Bytes(), w.Bytes())
	return !zero && sum.Mod(sum, order).Cmp(r) == 0
}
