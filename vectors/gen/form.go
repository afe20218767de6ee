// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
)

const (
	malformed    = "malformed"
	untrusted    = "untrusted"
	badSignature = "bad-signature"
	stale        = "stale"
	mismatch     = "mismatch"
	verified     = "verified"
)

// form are documents that differ in their CBOR, RFC 8949.
func form() []vector {
	return []vector{
		{name: "definite map", sentence: "The payload's map has definite length, as AWS wrote it until 2025.", edit: definite},
		{name: "indefinite map", sentence: "The payload's map has indefinite length, as AWS has written it since 2025.", edit: indefinite},
		{name: "unknown values", sentence: "A key that nobody knows has floats, undefined, a tag and nested values; it is not used.",
			edit: unknown(0x85, 0xf9, 0x3c, 0x00, 0xfa, 0x7f, 0x7f, 0xff, 0xff, 0xf7, 0xc1, 0x00, 0xa1, 0x81, 0xa0, 0x60)},
		{name: "keys in another order", sentence: "The nine keys stand in reverse order; the order of a map's keys means nothing.", edit: func(f *forgery) {
			for i, j := 0, len(f.Fields)-1; i < j; i, j = i+1, j-1 {
				f.Fields[i], f.Fields[j] = f.Fields[j], f.Fields[i]
			}
		}},

		{name: "empty", sentence: "There is no document.", expect: malformed, rules: "doc.size", edit: instead(nil)},
		{name: "20481 bytes", sentence: "The document is 20481 bytes of zero, longer than any.", expect: malformed, rules: "doc.size", edit: instead(make([]byte, 20481))},
		{name: "one byte short", sentence: "The last byte is missing.", expect: malformed, rules: "doc.cbor",
			edit: document(func(d []byte) []byte { return d[:len(d)-1] })},
		{name: "half", sentence: "The second half is missing.", expect: malformed, rules: "doc.cbor",
			edit: document(func(d []byte) []byte { return d[:len(d)/2] })},
		{name: "tag alone", sentence: "Tag 18 and nothing after it.", expect: malformed, rules: "doc.cbor", edit: instead([]byte{0xd2})},
		{name: "payload longer than all", sentence: "The payload claims 2^63-1 bytes.", expect: malformed, rules: "doc.cbor",
			edit: instead([]byte{0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})},
		{name: "array longer than all", sentence: "An array within the payload claims 2^63-1 members.", expect: malformed, rules: "doc.cbor",
			edit: unknown(0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{name: "map longer than all", sentence: "A map within the payload claims 2^63-1 pairs.", expect: malformed, rules: "doc.cbor",
			edit: unknown(0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{name: "text longer than all", sentence: "A text within the payload claims 2^64-1 bytes.", expect: malformed, rules: "doc.cbor",
			edit: unknown(0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{name: "reserved head", sentence: "A value begins with 0x1c, which is reserved.", expect: malformed, rules: "doc.cbor", edit: unknown(0x1c)},
		{name: "indefinite integer", sentence: "An integer of indefinite length.", expect: malformed, rules: "doc.cbor", edit: unknown(0x1f)},
		{name: "break as a value", sentence: "A break stands where a value should.", expect: malformed, rules: "doc.cbor", edit: fields(definite, unknown(0xff))},
		{name: "simple below 32", sentence: "Simple value 16 is written in two bytes, which RFC 8949 forbids.", expect: malformed, rules: "doc.cbor", edit: unknown(0xf8, 0x10)},
		{name: "odd indefinite map", sentence: "The payload's indefinite map ends after a key.", expect: malformed, rules: "doc.cbor",
			edit: func(f *forgery) {
				f.IndefiniteMap = true
				f.EditPayload = func(p []byte) []byte { return append(p[:len(p)-1], 0x61, 'x', 0xff) }
			}},
		{name: "indefinite map without end", sentence: "The payload's indefinite map has no break.", expect: malformed, rules: "doc.cbor",
			edit: func(f *forgery) {
				f.IndefiniteMap = true
				f.EditPayload = func(p []byte) []byte { return p[:len(p)-1] }
			}},
		{name: "text among byte chunks", sentence: "A text stands among the chunks of a byte string.", expect: malformed, rules: "doc.cbor doc.cbor.indefinite",
			edit: unknown(0x5f, 0x61, 'a', 0xff)},
		{name: "5000 arrays deep", sentence: "The document is 5000 arrays in each other.", expect: malformed, rules: "cose.array",
			edit: instead(bytes.Repeat([]byte{0x81}, 5000))},
		{name: "17 arrays deep", sentence: "Arrays within the payload nest 17 deep.", expect: malformed, rules: "doc.cbor.depth",
			edit: unknown(append(bytes.Repeat([]byte{0x81}, 17), 0)...)},
		{name: "17 tags deep", sentence: "Tags within the payload nest 17 deep.", expect: malformed, rules: "doc.cbor.depth",
			edit: unknown(append(bytes.Repeat([]byte{0xc1}, 17), 0)...)},
		{name: "5000 maps deep in a key", sentence: "A key within the payload nests 5000 deep.", expect: malformed, rules: "doc.cbor.depth",
			edit: unknown(append([]byte{0xa1}, bytes.Repeat([]byte{0xa1}, 5000)...)...)},
		{name: "65 entries", sentence: "A map within the payload has 65 pairs.", expect: malformed, rules: "doc.cbor.entries", edit: unknown(manyPairs(65)...)},

		{name: "array length in two bytes", sentence: "The length of the COSE array is written as 98 04.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified,
			edit: document(func(d []byte) []byte { return append([]byte{0x98, 0x04}, d[1:]...) })},
		{name: "payload length in four bytes", sentence: "The length of the payload is written in four bytes.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified,
			edit: part(2, func(p []byte) []byte {
				return append(binary.BigEndian.AppendUint32([]byte{0x5a}, uint32(len(p)-3)), p[3:]...)
			})},
		{name: "tag 18 in two bytes", sentence: "Tag 18 is written as d8 12.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified, edit: prefixed(0xd8, 18)},
		{name: "algorithm in three bytes", sentence: "The algorithm is written as 39 00 22, and signed so.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified,
			edit: protected(0xa1, 0x01, 0x39, 0x00, 0x22)},
		{name: "23 in two bytes", sentence: "An unknown value 23 is written as 18 17.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified, edit: unknown(0x18, 23)},
		{name: "255 in three bytes", sentence: "An unknown value 255 is written as 19 00 ff.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified, edit: unknown(0x19, 0, 255)},
		{name: "half as single", sentence: "The unknown value 1.0 is written as a single-precision float.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified, edit: unknown(0xfa, 0x3f, 0x80, 0, 0)},
		{name: "index in two bytes", sentence: "The index of PCR0 is written as 18 00.", expect: malformed, rules: "doc.cbor.minimal", lenient: verified,
			edit: raw("pcrs", registerPairs([]byte{0x18, 0x00}, []byte{0x01}, []byte{0x02})...)},

		{name: "indefinite array", sentence: "The COSE array has indefinite length.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified,
			edit: document(func(d []byte) []byte { return append(append([]byte{0x9f}, d[1:]...), 0xff) })},
		{name: "protected header in chunks", sentence: "The protected header comes in chunks.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified,
			edit: partIs(0, 0x5f, 0x42, 0xa1, 0x01, 0x42, 0x38, 0x22, 0xff)},
		{name: "payload in chunks", sentence: "The payload comes in two chunks.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified,
			edit: part(2, func(p []byte) []byte {
				content := p[3:]
				half := len(content) / 2
				chunks := append([]byte{0x5f}, encode(content[:half])...)
				return append(append(chunks, encode(content[half:])...), 0xff)
			})},
		{name: "signature in chunks", sentence: "The signature comes in two chunks, r and s.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified,
			edit: part(3, func(p []byte) []byte {
				chunks := append([]byte{0x5f}, encode(p[2:50])...)
				return append(append(chunks, encode(p[50:])...), 0xff)
			})},
		{name: "indefinite unprotected header", sentence: "The unprotected header is an empty map of indefinite length.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified,
			edit: partIs(1, 0xbf, 0xff)},
		{name: "indefinite protected map", sentence: "The protected header's map has indefinite length, and is signed so.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified,
			edit: protected(0xbf, 0x01, 0x38, 0x22, 0xff)},
		{name: "indefinite pcrs", sentence: "The map of the registers has indefinite length.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified,
			edit: func(f *forgery) { f.SetEncoded("pcrs", indefiniteOf(encode(registers(16)))) }},
		{name: "nonce in chunks", sentence: "The nonce comes in chunks.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified, edit: raw("nonce", 0x5f, 0x42, 'n', 'o', 0x43, 'n', 'c', 'e', 0xff)},
		{name: "digest in chunks", sentence: "The text SHA384 comes in chunks.", expect: malformed, rules: "doc.cbor.indefinite", lenient: verified, edit: raw("digest", 0x7f, 0x63, 'S', 'H', 'A', 0x63, '3', '8', '4', 0xff)},

		{name: "pcrs twice", sentence: "The key pcrs is there twice, with other values.", expect: malformed, rules: "doc.cbor.duplicate", edit: add("pcrs", encode(registers(15)))},
		{name: "nonce twice", sentence: "The key nonce is there twice, with the same value.", expect: malformed, rules: "doc.cbor.duplicate", edit: add("nonce", encode([]byte("nonce")))},
		{name: "nonce twice in other encodings", sentence: "The key nonce is there again, its length in two bytes.", expect: malformed, rules: "doc.cbor.minimal doc.cbor.duplicate",
			edit: func(f *forgery) {
				f.IndefiniteMap = false
				f.EditPayload = func(p []byte) []byte {
					p[0]++
					return append(append(p, 0x78, 5), "nonce\x45other"...)
				}
			}},
		{name: "nonce twice in chunks", sentence: "The key nonce is there again, in chunks.", expect: malformed, rules: "doc.cbor.indefinite doc.cbor.duplicate",
			edit: func(f *forgery) {
				f.IndefiniteMap = false
				f.EditPayload = func(p []byte) []byte {
					p[0]++
					return append(p, "\x7f\x62no\x63nce\xff\x45other"...)
				}
			}},
		{name: "PCR0 twice", sentence: "The map of the registers has index 0 twice.", expect: malformed, rules: "doc.cbor.duplicate",
			edit: raw("pcrs", registerPairs([]byte{0x00}, []byte{0x00}, []byte{0x01}, []byte{0x02})...)},
		{name: "key twice deep down", sentence: "A map within an unknown value has a key twice.", expect: malformed, rules: "doc.cbor.duplicate",
			edit: unknown(0x81, 0xa2, 0x81, 0x00, 0x00, 0x81, 0x00, 0x00)},
		{name: "algorithm twice", sentence: "The protected header has the algorithm twice.", expect: malformed, rules: "doc.cbor.duplicate",
			edit: protected(0xa2, 0x01, 0x38, 0x22, 0x01, 0x38, 0x22)},
		{name: "not UTF-8", sentence: "An unknown text is not UTF-8.", expect: malformed, rules: "doc.cbor.utf8", edit: unknown(0x62, 0xc3, 0x28)},

		{name: "one byte after the array", sentence: "One byte follows the COSE array.", expect: malformed, rules: "doc.trailing", edit: suffixed(0)},
		{name: "100 bytes after the array", sentence: "A hundred bytes follow the COSE array.", expect: malformed, rules: "doc.trailing", edit: suffixed(make([]byte, 100)...)},
		{name: "second document", sentence: "A second COSE array follows the first.", expect: malformed, rules: "doc.trailing",
			edit: document(func(d []byte) []byte { return append(d, d[:200]...) })},
		{name: "one byte after the map", sentence: "One byte follows the map within the payload, and is signed.", expect: malformed, rules: "doc.trailing",
			edit: func(f *forgery) { f.EditPayload = func(p []byte) []byte { return append(p, 0xf6) } }},
	}
}

func manyPairs(n int) []byte {
	b := []byte{0xb8, byte(n)}
	for i := range n {
		b = append(append(b, encode(i)...), 0)
	}
	return b
}

// registerPairs is a map of registers with these encoded indexes, each with a
// value that is not zero.
func registerPairs(indexes ...[]byte) []byte {
	b := []byte{0xa0 | byte(len(indexes))}
	for i, index := range indexes {
		value := make([]byte, 48)
		value[0] = byte(i + 1)
		b = append(append(b, index...), encode(value)...)
	}
	return b
}

// indefiniteOf rewrites a map of fewer than 24 pairs with indefinite length.
func indefiniteOf(m []byte) []byte {
	return append(append([]byte{0xbf}, m[1:]...), 0xff)
}
