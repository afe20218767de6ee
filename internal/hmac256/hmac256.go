// SPDX-License-Identifier: Apache-2.0

// Package hmac256 is HMAC-SHA-256 (RFC 2104, FIPS 198-1) for short messages under
// keys that are used once: it takes no memory but the stack, where crypto/hmac
// makes two hashes and their saved states for each key.
package hmac256

import "crypto/sha256"

// Size is the length of a MAC in bytes.
const Size = sha256.Size

// short is the length of a message up to which it is gathered on the stack.
const short = 256

// Sum returns the MAC of the concatenated parts.
func Sum(key []byte, parts ...[]byte) [Size]byte {
	const (
		block      = sha256.BlockSize
		ipad, opad = 0x36, 0x5c
	)
	var outer [block + Size]byte
	if len(key) > block {
		hashed := sha256.Sum256(key)
		copy(outer[:], hashed[:])
	} else {
		copy(outer[:], key)
	}
	inner := make([]byte, block, block+short)
	for i := range block {
		inner[i] = outer[i] ^ ipad
		outer[i] ^= opad
	}
	for _, part := range parts {
		inner = append(inner, part...)
	}
	digest := sha256.Sum256(inner)
	copy(outer[block:], digest[:])
	return sha256.Sum256(outer[:])
}
