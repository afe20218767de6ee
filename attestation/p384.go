// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"

	"github.com/cretula/cretula/internal/p384"
)

// This file is the only one that checks signatures. All of them are ECDSA on
// P-384 with SHA-384, of public data under keys that crypto/x509 parsed.

// A P384 says by what signatures on P-384 are verified.
type P384 uint8

const (
	// P384Fastest is github.com/cloudflare/circl on amd64 and arm64, about
	// twice as fast as crypto/ecdsa; elsewhere, in builds with GOFIPS140 and in
	// FIPS 140 mode it is [P384Std].
	P384Fastest P384 = iota
	// P384Std is crypto/ecdsa.
	P384Std
)

// String returns the name of what is really used: "circl" or "std".
func (p P384) String() string { return p.implementation().String() }

func (p P384) implementation() p384.Implementation {
	if p == P384Std {
		return p384.Std
	}
	return p384.Fastest
}

// ParseP384 reads the name of an implementation: "fastest" or "std".
func ParseP384(name string) (P384, error) {
	switch name {
	case "fastest":
		return P384Fastest, nil
	case "std":
		return P384Std, nil
	}
	return 0, fmt.Errorf("%q is neither fastest nor std", name)
}

// keyOf returns the P-384 key of a certificate, nil if it has another one.
func keyOf(cert *x509.Certificate) *ecdsa.PublicKey {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil
	}
	return key
}

// signed tells whether key's signature of data is that one in DER.
func signed(p p384.Implementation, key *ecdsa.PublicKey, data, signature []byte) bool {
	sum := sha512.Sum384(data)
	return p.VerifyASN1(key, sum[:], signature)
}

// certificateSigned tells whether issuer's key made the signature of cert. It
// looks at nothing else in either.
func certificateSigned(p p384.Implementation, cert, issuer *x509.Certificate) bool {
	key := keyOf(issuer)
	return key != nil && signed(p, key, cert.RawTBSCertificate, cert.Signature)
}

// splitSignature returns r and s of an ES384 signature of 96 bytes, and whether
// both are in [1, n-1].
func splitSignature(signature []byte) (r, s *big.Int, ok bool) {
	r = new(big.Int).SetBytes(signature[:signatureSize/2])
	s = new(big.Int).SetBytes(signature[signatureSize/2:])
	return r, s, p384.InRange(r, s)
}

// documentSigned tells whether r and s are key's signature over the
// Sig_structure of RFC 9052 §4.4, with empty external data. That structure has
// its own, preferred encoding, however the document was encoded.
func documentSigned(p p384.Implementation, key *p384.Key, protected, payload []byte, r, s *big.Int) bool {
	var buf [9]byte
	h := sha512.New384()
	h.Write([]byte("\x84\x6aSignature1"))
	h.Write(appendHead(buf[:0], majorBytes, uint64(len(protected))))
	h.Write(protected)
	h.Write([]byte{0x40})
	h.Write(appendHead(buf[:0], majorBytes, uint64(len(payload))))
	h.Write(payload)
	var sum [sha512.Size384]byte
	return p.VerifyKey(key, h.Sum(sum[:0]), r, s)
}
