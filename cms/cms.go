// SPDX-License-Identifier: Apache-2.0

// Package cms seals and opens the envelope in which AWS KMS answers a request
// that carried a Recipient: the CiphertextForRecipient, an EnvelopedData of
// RFC 5652 §6 for one recipient.
//
// AWS does not document its layout; it is known from published answers. Keys
// are RSA with RSAES-OAEP (SHA-256, MGF1 with SHA-256, empty label; RFC 4055
// §4.1), the content is AES-256-CBC with the padding of RFC 5652 §6.3 (RFC
// 3565), the recipient is named by the SHA-256 of its DER
// SubjectPublicKeyInfo, and the outer structures have indefinite lengths
// (X.690 §8.1.3.6): it is BER, not DER. [Seal] writes that layout to the byte,
// because AWS's own enclave SDK reads no other. [Parse] and [Open] also read
// the content as one primitive string, which AWS sends too, and definite
// lengths, which OpenSSL writes.
//
// # What an envelope does not prove
//
// Anyone who knows the public key can make an envelope for it, and CBC has no
// integrity. That an envelope opens says nothing about who made it: that comes
// only from the channel it arrived on, a TLS connection to the key service
// that ends where the private key is. Because a party on the way could ask
// again and again with changed envelopes, every failure after the recipient is
// known looks the same: one error, for a wrong key, a changed encrypted key
// and a wrong padding alike.
package cms

const (
	// MaxContent is the largest content in bytes that Seal takes. AWS KMS has
	// no answer above 4096 bytes.
	MaxContent = 32 << 10
	// MaxEnvelope is the largest envelope in bytes that Parse and Open read.
	MaxEnvelope = 64 << 10
	// ChunkSize is the size in bytes of the octet strings that Seal cuts the
	// encrypted content in, the last one excepted.
	ChunkSize = 1000
)

const (
	blockSize = 16 // of AES, and the length of the IV
	cekSize   = 32 // of AES-256, the content-encryption key
	// maxSKI bounds the key identifier that Parse takes: SHA-512's.
	maxSKI = 64
)

// A Form is the way in which the encrypted content is written.
type Form uint8

const (
	// Chunked: a constructed [0] that holds one or more octet strings.
	Chunked Form = iota + 1
	// Primitive: one primitive [0].
	Primitive
)

// String returns "chunked" or "primitive".
func (f Form) String() string {
	switch f {
	case Chunked:
		return "chunked"
	case Primitive:
		return "primitive"
	}
	return "invalid"
}

// EnvelopedData is an envelope that was parsed, not opened. Nothing in it is
// authenticated. All algorithms are fixed: an envelope with others is refused.
type EnvelopedData struct {
	// SubjectKeyIdentifier names the recipient: 1 to 64 bytes, of which only
	// a SHA-256 of the SubjectPublicKeyInfo can be opened here.
	SubjectKeyIdentifier []byte
	// EncryptedKey is the content-encryption key under RSAES-OAEP: 256, 384
	// or 512 bytes, as long as the recipient's modulus.
	EncryptedKey []byte
	// IV is the initialization vector of AES-256-CBC.
	IV [blockSize]byte
	// Content is the encrypted content, all chunks joined: a multiple of 16
	// bytes, at least 16.
	Content []byte
	// Form tells how the content was written, ChunkSizes how long its octet
	// strings were; the primitive form counts as one.
	Form       Form
	ChunkSizes []int
}

// The object identifiers, as the contents of their DER encoding.
var (
	oidRSAEncryption = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01} // 1.2.840.113549.1.1.1
	oidEnvelopedData = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03} // 1.2.840.113549.1.7.3
	oidData          = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01} // 1.2.840.113549.1.7.1
	oidRSAESOAEP     = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07} // 1.2.840.113549.1.1.7
	oidMGF1          = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08} // 1.2.840.113549.1.1.8
	oidPSpecified    = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x09} // 1.2.840.113549.1.1.9
	oidSHA256        = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01} // 2.16.840.1.101.3.4.2.1
	oidAES256CBC     = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a} // 2.16.840.1.101.3.4.1.42
)

// The tags of X.690 §8.1.2 that an envelope has.
const (
	tagInteger     = 0x02
	tagBitString   = 0x03
	tagOctetString = 0x04
	tagNull        = 0x05
	tagOID         = 0x06
	tagSequence    = 0x30
	tagSet         = 0x31
	tagPrimitive0  = 0x80 // [0], primitive
	tagContext0    = 0xa0 // [0], constructed
	tagContext1    = 0xa1
	tagContext2    = 0xa2
)
