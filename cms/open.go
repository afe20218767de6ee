// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/cretula/cretula/reason"
)

// errOpen is the one answer to a changed encrypted key and to a wrong padding.
var errOpen error = reason.New(reason.Malformed, "cms.open", "envelope does not open: it was not made for this key, or was changed")

// Open returns the content of an envelope that [Parse] reads and that is for
// key. The result is never nil without an error; what it holds is authentic
// only as far as the channel is that the envelope came on.
//
// Besides the errors of Parse it refuses a key that Seal would not take
// ([reason.Unsupported], rule "cms.key"), an envelope for another key
// ([reason.Mismatch], rule "cms.recipient"), an encrypted key of another
// length than the key's ([reason.Malformed], rule "cms.encrypted-key"), and
// everything that goes wrong after that with one and the same error
// ([reason.Malformed], rule "cms.open"): whether the encrypted key or the
// padding was bad is neither said nor, as far as Go's RSA allows, to be seen
// from the time it takes.
func Open(key *rsa.PrivateKey, envelope []byte) ([]byte, error) {
	if key == nil {
		return nil, reason.New(reason.Unsupported, "cms.key", "there is no private key")
	}
	own, err := KeyIdentifier(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	e, err := Parse(envelope)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(e.SubjectKeyIdentifier, own) {
		return nil, reason.New(reason.Mismatch, "cms.recipient", "envelope is not for this key: it names %x, this key is %x", e.SubjectKeyIdentifier, own)
	}
	if len(e.EncryptedKey) != key.Size() {
		return nil, reason.New(reason.Malformed, "cms.encrypted-key", "envelope: the encrypted key has %d bytes, not %d as this key", len(e.EncryptedKey), key.Size())
	}
	return e.open(key)
}

// open decrypts with the key that e was made for. A bad encrypted key does not
// end it: it goes on with a random content key, as TLS does (RFC 5246
// §7.4.7.1), so that it cannot be told from a bad padding.
func (e *EnvelopedData) open(key *rsa.PrivateKey) ([]byte, error) {
	cek := make([]byte, cekSize)
	defer clear(cek)
	rand.Read(cek)
	decrypted, err := rsa.DecryptOAEP(sha256.New(), nil, key, e.EncryptedKey, nil)
	defer clear(decrypted)
	good := 0
	if err == nil && len(decrypted) == cekSize {
		good = 1
		copy(cek, decrypted)
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, errOpen
	}
	plaintext := make([]byte, len(e.Content))
	cipher.NewCBCDecrypter(block, e.IV[:]).CryptBlocks(plaintext, e.Content)
	n, padded := unpad(plaintext)
	if good&padded != 1 {
		clear(plaintext)
		return nil, errOpen
	}
	return plaintext[:n:n], nil
}

// unpad checks the padding of RFC 5652 §6.3 in a time that does not depend on
// it, and returns the length of the content and 1, or anything and 0. data is
// a positive multiple of the block size long.
func unpad(data []byte) (length, good int) {
	last := data[len(data)-blockSize:]
	n := int(last[blockSize-1])
	good = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, blockSize)
	for i, b := range last {
		inside := subtle.ConstantTimeLessOrEq(blockSize, i+n)
		equal := subtle.ConstantTimeByteEq(b, byte(n))
		good &= equal | (inside ^ 1)
	}
	return len(data) - n, good
}
