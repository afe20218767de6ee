// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"math/big"
)

// This file is the only one that checks signatures. All of them are ECDSA on
// P-384 with SHA-384.

// keyOf returns the P-384 key of a certificate, nil if it has another one.
func keyOf(cert *x509.Certificate) *ecdsa.PublicKey {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil
	}
	return key
}

// certificateSigned tells whether issuer's key made the signature of cert. It
// looks at nothing else in either.
func certificateSigned(cert, issuer *x509.Certificate) bool {
	key := keyOf(issuer)
	if key == nil {
		return false
	}
	sum := sha512.Sum384(cert.RawTBSCertificate)
	return ecdsa.VerifyASN1(key, sum[:], cert.Signature)
}

// splitSignature returns r and s of an ES384 signature of 96 bytes, and whether
// both are in [1, n-1].
func splitSignature(signature []byte) (r, s *big.Int, ok bool) {
	r = new(big.Int).SetBytes(signature[:signatureSize/2])
	s = new(big.Int).SetBytes(signature[signatureSize/2:])
	n := elliptic.P384().Params().N
	return r, s, r.Sign() > 0 && r.Cmp(n) < 0 && s.Sign() > 0 && s.Cmp(n) < 0
}

// documentSigned tells whether r and s are key's signature over the
// Sig_structure of RFC 9052 §4.4, with empty external data.
func documentSigned(key *ecdsa.PublicKey, protected, payload []byte, r, s *big.Int) bool {
	h := sha512.New384()
	h.Write([]byte("\x84\x6aSignature1"))
	h.Write(appendByteStringHead(nil, len(protected)))
	h.Write(protected)
	h.Write([]byte{0x40})
	h.Write(appendByteStringHead(nil, len(payload)))
	h.Write(payload)
	return ecdsa.Verify(key, h.Sum(nil), r, s)
}

// appendByteStringHead appends the preferred head of a byte string of n bytes.
func appendByteStringHead(b []byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, majorBytes<<5|byte(n))
	case n < 1<<8:
		return append(b, majorBytes<<5|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, majorBytes<<5|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, majorBytes<<5|26), uint32(n))
}
