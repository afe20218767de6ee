// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"

	"github.com/cretula/cretula/reason"
)

// Seal encrypts content to the recipient and returns the envelope byte for
// byte as AWS KMS lays it out: 461 bytes for a content of up to 15 bytes and a
// key of 2048 bits, 4573 for 4096 bytes. Every call takes a fresh
// content-encryption key and IV from [crypto/rand]. content is not kept or
// changed; it may be empty.
//
// A key that is not RSA of 2048, 3072 or 4096 bits with an odd public exponent
// of 65537 to 2^31-1 is refused with [reason.Unsupported], rule "cms.key";
// content above MaxContent with [reason.Malformed], rule "cms.size".
func Seal(recipient *rsa.PublicKey, content []byte) ([]byte, error) {
	ski, err := KeyIdentifier(recipient)
	if err != nil {
		return nil, err
	}
	if len(content) > MaxContent {
		return nil, reason.New(reason.Malformed, "cms.size", "content has %d bytes, more than %d", len(content), MaxContent)
	}
	e := &EnvelopedData{SubjectKeyIdentifier: ski, Form: Chunked}
	rand.Read(e.IV[:])
	cek := make([]byte, cekSize)
	defer clear(cek)
	rand.Read(cek)
	e.EncryptedKey, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, recipient, cek, nil)
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

// encode writes AWS's chunked layout, whatever form e was read from: the outer
// structures of indefinite length, the SET of recipients and all below it, and
// the algorithm of the content, definite.
func (e *EnvelopedData) encode() []byte {
	sha256ID := tlv(tagSequence, tlv(tagOID, oidSHA256), tlv(tagNull))
	oaep := tlv(tagSequence,
		tlv(tagOID, oidRSAESOAEP),
		tlv(tagSequence,
			tlv(tagContext0, sha256ID),
			tlv(tagContext1, tlv(tagSequence, tlv(tagOID, oidMGF1), sha256ID))))
	recipient := tlv(tagSequence,
		tlv(tagInteger, []byte{2}),
		tlv(tagPrimitive0, e.SubjectKeyIdentifier),
		oaep,
		tlv(tagOctetString, e.EncryptedKey))
	chunks := make([][]byte, 0, len(e.Content)/ChunkSize+1)
	for rest := e.Content; len(rest) > 0; {
		n := min(len(rest), ChunkSize)
		chunks = append(chunks, tlv(tagOctetString, rest[:n]))
		rest = rest[n:]
	}
	content := indefinite(tagSequence,
		tlv(tagOID, oidData),
		tlv(tagSequence, tlv(tagOID, oidAES256CBC), tlv(tagOctetString, e.IV[:])),
		indefinite(tagContext0, chunks...))
	return indefinite(tagSequence,
		tlv(tagOID, oidEnvelopedData),
		indefinite(tagContext0,
			indefinite(tagSequence,
				tlv(tagInteger, []byte{2}),
				tlv(tagSet, recipient),
				content)))
}

// tlv returns an element of definite length; the lengths here stay below 64 KiB.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+4)
	switch {
	case n < 0x80:
		out = append(out, tag, byte(n))
	case n < 0x100:
		out = append(out, tag, 0x81, byte(n))
	default:
		out = append(out, tag, 0x82, byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// indefinite returns a constructed element of indefinite length.
func indefinite(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+4)
	out = append(out, tag, 0x80)
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, 0, 0)
}
