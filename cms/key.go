// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"math"
	"math/big"

	"github.com/cretula/cretula/reason"
)

// A Recipient is a public key that envelopes are sealed to. Many goroutines may use
// it at once.
type Recipient struct {
	key        rsa.PublicKey
	identifier [sha256.Size]byte
}

// NewRecipient returns the Recipient of a key, which must not be changed any more. A
// key that is not RSA of 2048, 3072 or 4096 bits with an odd public exponent of 65537
// to 2^31-1 is refused with [reason.Unsupported], rule "cms.key".
func NewRecipient(key *rsa.PublicKey) (*Recipient, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return &Recipient{*key, sha256.Sum256(marshalKey(key))}, nil
}

// ParseRecipient returns the Recipient of the key in a SubjectPublicKeyInfo, nil
// unless that is the DER encoding of a key that [NewRecipient] takes: it says nothing
// of why, but takes a fraction of the time of crypto/x509. The result does not refer
// to spki.
func ParseRecipient(spki []byte) *Recipient {
	for exponent := 3; exponent <= 4; exponent++ {
		var buf [keyHead]byte
		modulus := len(spki) - keyHead - 2 - exponent
		if modulus != 256 && modulus != 384 && modulus != 512 {
			continue
		}
		if head := appendKeyHead(buf[:0], modulus, exponent); !bytes.HasPrefix(spki, head) || spki[len(head)] < 0x80 {
			return nil
		}
		n, rest := spki[keyHead:keyHead+modulus], spki[keyHead+modulus:]
		key := rsa.PublicKey{N: new(big.Int).SetBytes(n)}
		for _, b := range rest[2:] {
			key.E = key.E<<8 | int(b)
		}
		if checkKey(&key) != nil || !bytes.Equal(rest, appendExponent(buf[:0], key.E)) {
			return nil
		}
		return &Recipient{key, sha256.Sum256(spki)}
	}
	return nil
}

// KeyIdentifier returns the SHA-256 of the DER SubjectPublicKeyInfo of an RSA
// public key, by which AWS KMS names the recipient of an envelope. A key is refused
// as by [NewRecipient].
func KeyIdentifier(key *rsa.PublicKey) ([]byte, error) {
	r, err := NewRecipient(key)
	if err != nil {
		return nil, err
	}
	return r.identifier[:], nil
}

// marshalKey returns the DER SubjectPublicKeyInfo of a key that checkKey takes (RFC
// 3279 §2.3.1), as crypto/x509 does in many times the time.
func marshalKey(key *rsa.PublicKey) []byte {
	var buf [6]byte
	exponent := appendExponent(buf[:0], key.E)
	modulus := key.N.BitLen() / 8
	b := make([]byte, 0, keyHead+modulus+len(exponent))
	b = appendKeyHead(b, modulus, len(exponent)-2)
	key.N.FillBytes(b[len(b) : len(b)+modulus])
	return append(b[:len(b)+modulus], exponent...)
}

// keyHead is the length of what appendKeyHead appends.
const keyHead = 4 + 15 + 5 + 4 + 5

// appendKeyHead appends all that stands before the modulus in the
// SubjectPublicKeyInfo of a key with a modulus and an exponent of that many bytes.
func appendKeyHead(b []byte, modulus, exponent int) []byte {
	// The lengths of 256 to 65535 are of three bytes. A zero before the modulus says
	// that it is not negative: its highest bit is set.
	begin := func(tag byte, n int) { b = append(b, tag, 0x82, byte(n>>8), byte(n)) }
	pair := 5 + modulus + 2 + exponent
	begin(tagSequence, len(rsaAlgorithm)+5+4+pair)
	b = append(b, rsaAlgorithm...)
	begin(tagBitString, 1+4+pair)
	b = append(b, 0)
	begin(tagSequence, pair)
	begin(tagInteger, 1+modulus)
	return append(b, 0)
}

// appendExponent appends the INTEGER of a public exponent of 17 to 31 bits.
func appendExponent(b []byte, e int) []byte {
	if e < 1<<23 {
		return append(b, tagInteger, 3, byte(e>>16), byte(e>>8), byte(e))
	}
	return append(b, tagInteger, 4, byte(e>>24), byte(e>>16), byte(e>>8), byte(e))
}

// rsaAlgorithm is the AlgorithmIdentifier of an RSA key (RFC 3279 §2.3.1).
var rsaAlgorithm = tlv(tagSequence, tlv(tagOID, oidRSAEncryption), tlv(tagNull))

// checkKey holds keys to the sizes that AWS's enclave SDK can make and to
// public exponents that RFC 8017 and FIPS 186-5 §5.1 leave no doubt about, and
// that crypto/rsa takes: a key that passes can be sealed to.
func checkKey(key *rsa.PublicKey) error {
	if key == nil || key.N == nil || key.N.Sign() <= 0 {
		return reason.New(reason.Unsupported, "cms.key", "there is no recipient key")
	}
	switch bits := key.N.BitLen(); bits {
	case 2048, 3072, 4096:
	default:
		return reason.New(reason.Unsupported, "cms.key", "recipient key has %d bits, not 2048, 3072 or 4096", bits)
	}
	if key.N.Bit(0) == 0 {
		return reason.New(reason.Unsupported, "cms.key", "recipient key has an even modulus")
	}
	if key.E < 65537 || key.E%2 == 0 || key.E > math.MaxInt32 {
		return reason.New(reason.Unsupported, "cms.key", "recipient key has public exponent %d, not an odd number of 65537 to %d", key.E, math.MaxInt32)
	}
	return nil
}
