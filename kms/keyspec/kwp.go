// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

var errWrapped = errors.New("not wrapped under this key")

// kwpICV is the constant half of the alternative initial value (RFC 5649 §3).
const kwpICV = 0xa65959a6

// unwrapPadded is AES Key Wrap with Padding (RFC 5649, NIST SP 800-38F KWP-AD)
// backwards. All of the integrity check happens at the end and has one outcome,
// whatever is wrong.
func unwrapPadded(key, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errWrapped
	}
	n := len(wrapped)/8 - 1
	if len(wrapped)%8 != 0 || n < 1 {
		return nil, errWrapped
	}
	buf := make([]byte, len(wrapped))
	copy(buf, wrapped)
	if n == 1 {
		block.Decrypt(buf, buf)
	} else {
		unwrapBlocks(block, buf)
	}
	length := uint64(binary.BigEndian.Uint32(buf[4:]))
	padded := uint64(8 * n)
	ok := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(buf)^kwpICV), 0)
	if length > padded || length+8 <= padded || length == 0 { // §3: 8(n-1) < MLI <= 8n
		clear(buf)
		return nil, errWrapped
	}
	var padding byte
	for _, b := range buf[8+length:] {
		padding |= b
	}
	if ok&subtle.ConstantTimeByteEq(padding, 0) != 1 {
		clear(buf)
		return nil, errWrapped
	}
	return buf[8 : 8+length], nil
}

// unwrapBlocks is the index-based unwrapping of RFC 3394 §2.2.2 in place.
func unwrapBlocks(block cipher.Block, buf []byte) {
	n := len(buf)/8 - 1
	var b [16]byte
	a, r := buf[:8], buf[8:]
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			t := uint64(n*j + i)
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(a)^t)
			copy(b[8:], r[8*(i-1):8*i])
			block.Decrypt(b[:], b[:])
			copy(a, b[:8])
			copy(r[8*(i-1):], b[8:])
		}
	}
}
