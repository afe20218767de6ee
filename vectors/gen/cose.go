// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/elliptic"
	_ "crypto/sha256"
	"encoding/asn1"
	"math/big"

	"github.com/cretula/cretula/attestation/attestationtest"
)

var registers = attestationtest.Registers

// signature edits the 96 bytes of the signature.
func signature(edit func(s []byte) []byte) func(*forgery) {
	return part(3, func(p []byte) []byte { return encode(edit(p[2:])) })
}

// signed changes what is signed in place of the Sig_structure of RFC 9052 §4.4.
func signed(structure func(f *forgery, payload []byte) []byte) func(*forgery) {
	return func(f *forgery) {
		var payload []byte
		f.EditPayload = func(p []byte) []byte { payload = p; return p }
		f.EditSigned = func([]byte) []byte { return structure(f, payload) }
	}
}

func order() *big.Int { return elliptic.P384().Params().N }

// cose are documents that differ in the COSE_Sign1 around the payload, RFC 9052.
func cose() []vector {
	return []vector{
		{name: "tag 18", sentence: "The document has tag 18, COSE_Sign1, which the NSM does not write and RFC 9052 allows.", edit: prefixed(0xd2)},
		{name: "signature twin", sentence: "The signature is (r, n-s), which verifies too: the bytes of a document are no identity.", edit: signature(func(s []byte) []byte {
			twin := new(big.Int).SetBytes(s[48:])
			twin.Sub(order(), twin).FillBytes(s[48:])
			return s
		})},

		{name: "tag 17", sentence: "The document has tag 17, COSE_Mac0.", expect: malformed, rules: "cose.tag", edit: prefixed(0xd1)},
		{name: "tag 98", sentence: "The document has tag 98, COSE_Sign.", expect: malformed, rules: "cose.tag", edit: prefixed(0xd8, 98)},
		{name: "tag 18 twice", sentence: "The document has tag 18 twice.", expect: malformed, rules: "cose.tag", edit: prefixed(0xd2, 0xd2)},
		{name: "tag 55799", sentence: "The document has the tag of self-described CBOR.", expect: malformed, rules: "cose.tag", edit: prefixed(0xd9, 0xd9, 0xf7)},
		{name: "tag 61", sentence: "The document is a CBOR Web Token: tag 61 around tag 18.", expect: malformed, rules: "cose.tag", edit: prefixed(0xd8, 61, 0xd2)},
		{name: "in a byte string", sentence: "The document is wrapped in a byte string.", expect: malformed, rules: "cose.array", edit: document(func(d []byte) []byte { return encode(d) })},
		{name: "a map", sentence: "The document is an empty map.", expect: malformed, rules: "cose.array", edit: instead([]byte{0xa0})},
		{name: "array of three", sentence: "The signature is missing.", expect: malformed, rules: "cose.array",
			edit: document(func(d []byte) []byte { return append([]byte{0x83}, d[1:len(d)-98]...) })},
		{name: "array of five", sentence: "A fifth element follows the signature.", expect: malformed, rules: "cose.array",
			edit: document(func(d []byte) []byte { return append(append([]byte{0x85}, d[1:]...), 0xf6) })},

		{name: "protected header is a map", sentence: "The protected header is a map rather than a byte string.", expect: malformed, rules: "cose.protected",
			edit: partIs(0, 0xa1, 0x01, 0x38, 0x22)},
		{name: "protected header holds an array", sentence: "The protected header holds an array.", expect: malformed, rules: "cose.protected", edit: protected(0x80)},
		{name: "another protected header", sentence: "The protected header has a key id beside the algorithm.", expect: malformed, rules: "cose.protected",
			edit: protected(0xa2, 0x01, 0x38, 0x22, 0x04, 0x41, 'k')},
		{name: "bytes after the protected map", sentence: "A byte follows the map in the protected header.", expect: malformed, rules: "cose.protected",
			edit: protected(0xa1, 0x01, 0x38, 0x22, 0x00)},
		{name: "crit", sentence: "The protected header says that the algorithm must be understood (crit).", expect: malformed, rules: "cose.crit",
			edit: protected(0xa2, 0x01, 0x38, 0x22, 0x02, 0x81, 0x01)},
		{name: "crit unknown", sentence: "The protected header says that header 99 must be understood; nobody does.", expect: malformed, rules: "cose.crit cose.protected",
			edit: protected(0xa3, 0x01, 0x38, 0x22, 0x02, 0x81, 0x18, 0x63, 0x18, 0x63, 0x01)},

		{name: "ES256", sentence: "The algorithm is ES256; the signature is ES384's.", expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0x26)},
		{name: "ES512", sentence: "The algorithm is ES512; the signature is ES384's.", expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0x38, 0x23)},
		{name: "EdDSA", sentence: "The algorithm is EdDSA; the signature is ES384's.", expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0x27)},
		{name: "HMAC", sentence: "The algorithm is HMAC 256, of which a public key would be no secret.", expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0x05)},
		{name: "algorithm 0", sentence: "The algorithm is the reserved 0.", expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0x00)},
		{name: "algorithm 34", sentence: "The algorithm is 34, the number that stands for -35 without its sign.", expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0x18, 0x22)},
		{name: "no algorithm", sentence: "The protected header is an empty map.", expect: badSignature, rules: "cose.alg", edit: protected(0xa0)},
		{name: "empty protected header", sentence: "The protected header is empty.", expect: badSignature, rules: "cose.alg", edit: protected()},
		{name: "algorithm in words", sentence: `The algorithm is the text "ES384".`, expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0x65, 'E', 'S', '3', '8', '4')},
		{name: "algorithm null", sentence: "The algorithm is null.", expect: badSignature, rules: "cose.alg", edit: protected(0xa1, 0x01, 0xf6)},
		{name: "ES384 over ES256", sentence: "The protected header was replaced by another algorithm after signing.", expect: badSignature, rules: "cose.alg",
			edit: partIs(0, 0x43, 0xa1, 0x01, 0x26)},
		{name: "algorithm unprotected only", sentence: "The algorithm stands in the unprotected header only.", expect: malformed, rules: "cose.unprotected cose.alg",
			edit: fields(protected(), partIs(1, 0xa1, 0x01, 0x38, 0x22))},

		{name: "unprotected algorithm", sentence: "The unprotected header has an algorithm too, ES256.", expect: malformed, rules: "cose.unprotected", edit: partIs(1, 0xa1, 0x01, 0x26)},
		{name: "unprotected key id", sentence: "The unprotected header has a key id that nobody signed.", expect: malformed, rules: "cose.unprotected", edit: partIs(1, 0xa1, 0x04, 0x43, 'a', 'b', 'c')},
		{name: "unprotected chain", sentence: "The unprotected header has a certificate (x5chain) that nobody signed.", expect: malformed, rules: "cose.unprotected", edit: partIs(1, 0xa1, 0x18, 0x21, 0x41, 0x30)},
		{name: "unprotected null", sentence: "The unprotected header is null.", expect: malformed, rules: "cose.unprotected", edit: partIs(1, 0xf6)},
		{name: "unprotected array", sentence: "The unprotected header is an empty array.", expect: malformed, rules: "cose.unprotected", edit: partIs(1, 0x80)},

		{name: "payload null", sentence: "The payload is detached.", expect: malformed, rules: "cose.payload", edit: partIs(2, 0xf6)},
		{name: "payload empty", sentence: "The payload is empty.", expect: malformed, rules: "cose.payload", edit: partIs(2, 0x40)},
		{name: "payload is the map", sentence: "The payload is the map itself rather than a byte string.", expect: malformed, rules: "cose.payload",
			edit: part(2, func(p []byte) []byte { return []byte{0xa0} })},
		{name: "payload of 16385 bytes", sentence: "The payload has one byte more than AWS allows.", expect: malformed, rules: "cose.payload",
			edit: part(2, func([]byte) []byte { return encode(make([]byte, 16385)) })},

		{name: "signature of 98 bytes", sentence: "r and s are padded to 49 bytes each.", expect: badSignature, rules: "cose.signature.length",
			edit: signature(func(s []byte) []byte {
				return append(append([]byte{0}, s[:48]...), append([]byte{0}, s[48:]...)...)
			})},
		{name: "signature of 95 bytes", sentence: "The signature has one byte too few.", expect: badSignature, rules: "cose.signature.length",
			edit: signature(func(s []byte) []byte { return s[:95] })},
		{name: "signature of 64 bytes", sentence: "The signature has the length of ES256.", expect: badSignature, rules: "cose.signature.length",
			edit: signature(func(s []byte) []byte { return s[:64] })},
		{name: "signature in ASN1", sentence: "The signature is in ASN.1 DER.", expect: badSignature, rules: "cose.signature.length", edit: signature(func(s []byte) []byte {
			der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s[:48]), new(big.Int).SetBytes(s[48:])})
			if err != nil {
				panic(err)
			}
			return der
		})},
		{name: "signature empty", sentence: "The signature is empty.", expect: badSignature, rules: "cose.signature.length", edit: partIs(3, 0x40)},
		{name: "signature null", sentence: "The signature is null.", expect: badSignature, rules: "cose.signature.length", edit: partIs(3, 0xf6)},
		{name: "signature text", sentence: "The signature is a text string.", expect: badSignature, rules: "cose.signature.length", edit: partIs(3, 0x61, 's')},
		{name: "signature zero", sentence: "r and s are zero.", expect: badSignature, rules: "cose.signature.range", edit: signature(func([]byte) []byte { return make([]byte, 96) })},
		{name: "r is zero", sentence: "r is zero.", expect: badSignature, rules: "cose.signature.range", edit: signature(func(s []byte) []byte { clear(s[:48]); return s })},
		{name: "s is zero", sentence: "s is zero.", expect: badSignature, rules: "cose.signature.range", edit: signature(func(s []byte) []byte { clear(s[48:]); return s })},
		{name: "r is n", sentence: "r is the order of P-384.", expect: badSignature, rules: "cose.signature.range", edit: signature(func(s []byte) []byte { order().FillBytes(s[:48]); return s })},
		{name: "s is n", sentence: "s is the order of P-384.", expect: badSignature, rules: "cose.signature.range", edit: signature(func(s []byte) []byte { order().FillBytes(s[48:]); return s })},
		{name: "r and s are 1", sentence: "r and s are 1, in range and no signature.", expect: badSignature, rules: "cose.signature", edit: signature(func(s []byte) []byte {
			clear(s)
			s[47], s[95] = 1, 1
			return s
		})},
		{name: "r and s swapped", sentence: "s stands before r.", expect: badSignature, rules: "cose.signature", edit: signature(func(s []byte) []byte { return append(append([]byte{}, s[48:]...), s[:48]...) })},
		{name: "last bit flipped", sentence: "The last bit of the signature is flipped.", expect: badSignature, rules: "cose.signature", edit: signature(func(s []byte) []byte { s[95] ^= 1; return s })},
		{name: "nonce changed", sentence: "One bit of the nonce was flipped after signing.", expect: badSignature, rules: "cose.signature", edit: part(2, flipAfter("nonce", 6))},
		{name: "PCR0 changed", sentence: "One bit of PCR0 was flipped after signing.", expect: badSignature, rules: "cose.signature", edit: part(2, flipAfter("pcrs", 6))},
		{name: "timestamp changed", sentence: "One bit of the timestamp, a millisecond, was flipped after signing.", expect: badSignature, rules: "cose.signature", edit: part(2, flipAfter("timestamp", 9))},
		{name: "signed by a stranger", sentence: "The signature is by a key that is in no certificate.", expect: badSignature, rules: "cose.signature",
			edit: func(f *forgery) { f.Signer = attestationtest.Key("stranger") }},
		{name: "signed by the instance", sentence: "The signature is by the instance's key, above the leaf's.", expect: badSignature, rules: "cose.signature",
			edit: func(f *forgery) { f.Signer = f.Certificates[attestationtest.Instance].Key }},
		{name: "hashed with SHA-256", sentence: "SHA-256 was signed rather than SHA-384.", expect: badSignature, rules: "cose.signature", edit: func(f *forgery) { f.Hash = crypto.SHA256 }},
		{name: "payload signed alone", sentence: "The payload was signed, not the Sig_structure.", expect: badSignature, rules: "cose.signature",
			edit: signed(func(_ *forgery, p []byte) []byte { return p })},
		{name: "context Signature", sentence: `The context of the Sig_structure is "Signature", that of COSE_Sign.`, expect: badSignature, rules: "cose.signature",
			edit: signed(func(f *forgery, p []byte) []byte { return encode([]any{"Signature", f.Protected, []byte{}, p}) })},
		{name: "context CounterSignature", sentence: `The context of the Sig_structure is "CounterSignature".`, expect: badSignature, rules: "cose.signature",
			edit: signed(func(f *forgery, p []byte) []byte { return encode([]any{"CounterSignature", f.Protected, []byte{}, p}) })},
		{name: "external data", sentence: "The Sig_structure has external data of one byte.", expect: badSignature, rules: "cose.signature",
			edit: signed(func(f *forgery, p []byte) []byte { return encode([]any{"Signature1", f.Protected, []byte{0}, p}) })},
		{name: "header not signed", sentence: "The protected header was left out of what was signed.", expect: badSignature, rules: "cose.signature",
			edit: signed(func(_ *forgery, p []byte) []byte { return encode([]any{"Signature1", []byte{}, []byte{}, p}) })},
	}
}

// flipAfter flips the lowest bit of the byte that lies so many bytes after the
// name of a field.
func flipAfter(name string, after int) func([]byte) []byte {
	return func(p []byte) []byte {
		key := encode(name)
		for i := 0; i+len(key)+after <= len(p); i++ {
			if string(p[i:i+len(key)]) == string(key) {
				p[i+len(key)+after-1] ^= 1
				return p
			}
		}
		panic("there is no field " + name)
	}
}
