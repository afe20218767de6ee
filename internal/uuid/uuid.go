// SPDX-License-Identifier: Apache-2.0

// Package uuid makes random UUIDs (RFC 9562 §5.4).
package uuid

import (
	"encoding/hex"
	"io"
)

// Size is the number of random bytes that a UUID is made of.
const Size = 16

// New makes a UUID of the next Size bytes of random.
func New(random io.Reader) (string, error) {
	var b [Size]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", err
	}
	return Of(b), nil
}

// Of makes a UUID of random bytes, of which it takes 122 bits, in lower case.
func Of(b [Size]byte) string {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[:], b[:4])
	hex.Encode(out[9:], b[4:6])
	hex.Encode(out[14:], b[6:8])
	hex.Encode(out[19:], b[8:10])
	hex.Encode(out[24:], b[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}
