// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/cretula/cretula/reason"
)

// Seal encrypts content to the recipient and returns the envelope byte for
// byte as AWS KMS lays it out: 461 bytes for a content of up to 15 bytes and a
// key of 2048 bits, 4573 for 4096 bytes. Every call takes a fresh
// content-encryption key and IV from [crypto/rand]. content is not kept or
// changed; it may be empty.
//
// A key is refused as by [NewRecipient], content above MaxContent with
// [reason.Malformed], rule "cms.size".
func Seal(recipient *rsa.PublicKey, content []byte) ([]byte, error) {
	r, err := NewRecipient(recipient)
	if err != nil {
		return nil, err
	}
	return r.Seal(content)
}

// Seal is [Seal] to a key that was checked.
func (r *Recipient) Seal(content []byte) ([]byte, error) {
	if len(content) > MaxContent {
		return nil, reason.New(reason.Malformed, "cms.size", "content has %d bytes, more than %d", len(content), MaxContent)
	}
	e := &EnvelopedData{SubjectKeyIdentifier: r.identifier[:], Form: Chunked}
	rand.Read(e.IV[:])
	cek := make([]byte, cekSize)
	defer clear(cek)
	rand.Read(cek)
	var err error
	e.EncryptedKey, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &r.key, cek, nil)
	if err != nil {
		return nil, fmt.Errorf("cms: encrypt the content key: %w", err)
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, fmt.Errorf("cms: %w", err)
	}
	e.Content = pad(content)
	cipher.NewCBCEncrypter(block, e.IV[:]).CryptBlocks(e.Content, e.Content)
	return e.encode(), nil
}

// pad returns a copy of content with the padding of RFC 5652 §6.3.
func pad(content []byte) []byte {
	n := blockSize - len(content)%blockSize
	padded := make([]byte, len(content)+n)
	copy(padded, content)
	for i := len(content); i < len(padded); i++ {
		padded[i] = byte(n)
	}
	return padded
}

// What is the same in all envelopes: all before the recipients, the algorithm of the
// encrypted key, all of the content before the IV, all after the last chunk.
var (
	version2 = tlv(tagInteger, []byte{2})
	sha256ID = tlv(tagSequence, tlv(tagOID, oidSHA256), tlv(tagNull))

	envelopeHead = slices.Concat(
		[]byte{tagSequence, indefinite}, tlv(tagOID, oidEnvelopedData),
		[]byte{tagContext0, indefinite},
		[]byte{tagSequence, indefinite}, version2)
	oaepID = tlv(tagSequence,
		tlv(tagOID, oidRSAESOAEP),
		tlv(tagSequence,
			tlv(tagContext0, sha256ID),
			tlv(tagContext1, tlv(tagSequence, tlv(tagOID, oidMGF1), sha256ID))))
	contentHead = slices.Concat(
		[]byte{tagSequence, indefinite}, tlv(tagOID, oidData),
		tlv(tagSequence, tlv(tagOID, oidAES256CBC), tlv(tagOctetString, make([]byte, blockSize))))
	envelopeEnd = make([]byte, 5*2)
)

// indefinite stands for a length that only the end-of-contents octets tell.
const indefinite = 0x80

// encode writes AWS's chunked layout, whatever form e was read from: the outer
// structures of indefinite length, the SET of recipients and all below it, and
// the algorithm of the content, definite.
func (e *EnvelopedData) encode() []byte {
	recipient := len(version2) + headSize(len(e.SubjectKeyIdentifier)) + len(e.SubjectKeyIdentifier) +
		len(oaepID) + headSize(len(e.EncryptedKey)) + len(e.EncryptedKey)
	set := headSize(recipient) + recipient
	chunks := (len(e.Content) + ChunkSize - 1) / ChunkSize
	out := make([]byte, 0, len(envelopeHead)+headSize(set)+set+len(contentHead)+2+chunks*headSize(ChunkSize)+len(e.Content)+len(envelopeEnd))

	out = append(out, envelopeHead...)
	out = appendHead(out, tagSet, set)
	out = appendHead(out, tagSequence, recipient)
	out = append(out, version2...)
	out = append(appendHead(out, tagPrimitive0, len(e.SubjectKeyIdentifier)), e.SubjectKeyIdentifier...)
	out = append(out, oaepID...)
	out = append(appendHead(out, tagOctetString, len(e.EncryptedKey)), e.EncryptedKey...)
	out = append(out, contentHead...)
	copy(out[len(out)-blockSize:], e.IV[:])
	out = append(out, tagContext0, indefinite)
	for chunk := range slices.Chunk(e.Content, ChunkSize) {
		out = append(appendHead(out, tagOctetString, len(chunk)), chunk...)
	}
	return append(out, envelopeEnd...)
}

// tlv returns an element of definite length.
func tlv(tag byte, parts ...[]byte) []byte {
	value := slices.Concat(parts...)
	return append(appendHead(make([]byte, 0, headSize(len(value))+len(value)), tag, len(value)), value...)
}

// appendHead appends the tag and the length of an element of n bytes; the lengths
// here stay below 64 KiB.
func appendHead(b []byte, tag byte, n int) []byte {
	switch headSize(n) {
	case 2:
		return append(b, tag, byte(n))
	case 3:
		return append(b, tag, 0x81, byte(n))
	}
	return append(b, tag, 0x82, byte(n>>8), byte(n))
}

// headSize is how many bytes appendHead appends.
func headSize(n int) int {
	switch {
	case n < 0x80:
		return 2
	case n < 0x100:
		return 3
	}
	return 4
}
