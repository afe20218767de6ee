// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"

	"github.com/cretula/cretula/attestation/attestationtest"
)

// nitroTPM makes the document one of a NitroTPM with n registers.
func nitroTPM(n int) func(*forgery) {
	return func(f *forgery) {
		for i := range f.Fields {
			if f.Fields[i].Name == "pcrs" {
				f.Fields[i] = attestationtest.Field{Name: "nitrotpm_pcrs", Value: encode(registers(n))}
			}
		}
		f.SetField("module_id", "i-0123456789abcdef0-tpm0000000000000000")
	}
}

func anyKind(e *expectation)    { e.Kind = "any" }
func wantTPM(e *expectation)    { e.Kind = "nitrotpm" }
func allowDebug(e *expectation) { e.AllowDebug = true }

// zeroed are registers of an enclave of which the given ones are zero.
func zeroed(zero ...int) map[int][]byte {
	m := registers(16)
	for _, i := range zero {
		clear(m[i])
	}
	return m
}

// payload are documents that differ in the signed map.
func payload() []vector {
	long := func(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }
	return []vector{
		{name: "optional keys absent", sentence: "public_key, user_data and nonce are absent rather than null.", edit: without("public_key", "user_data", "nonce")},
		{name: "optional keys null", sentence: "public_key, user_data and nonce are null.", edit: fields(set("public_key", nil), set("user_data", nil), set("nonce", nil))},
		{name: "optional keys empty", sentence: "public_key, user_data and nonce are there and empty, as genuine documents have them.",
			edit: fields(raw("public_key", 0x40), raw("user_data", 0x40), raw("nonce", 0x40))},
		{name: "fields of 1024 bytes", sentence: "public_key, user_data and nonce have 1024 bytes each, AWS's documented limit.",
			edit: fields(set("public_key", long(1024)), set("user_data", long(1024)), set("nonce", long(1024)))},
		{name: "32 registers", sentence: "All 32 registers are locked and there.", edit: set("pcrs", registers(32))},
		{name: "17 registers", sentence: "PCR16 is locked and there.", edit: set("pcrs", registers(17))},
		{name: "keys in capitals", sentence: "Keys PCRS and Nonce are there beside the true ones; case matters, and they are not used.",
			edit: fields(add("PCRS", encode(zeroed(0, 1, 2))), add("Nonce", encode([]byte("other"))))},
		{name: "unknown key", sentence: "A key that nobody knows has a text.", edit: add("firmware", encode("2027"))},
		{name: "zero registers above 2", sentence: "PCR3, PCR5 to PCR15 are zero: no role, not signed; that is not debug mode.",
			edit: set("pcrs", zeroed(3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))},

		{name: "an array", sentence: "The payload holds an empty array.", expect: malformed, rules: "doc.payload",
			edit: func(f *forgery) { f.EditPayload = func([]byte) []byte { return []byte{0x80} } }},
		{name: "tagged map", sentence: "The payload holds a tag around the map.", expect: malformed, rules: "doc.payload",
			edit: func(f *forgery) {
				f.EditPayload = func(p []byte) []byte { return append([]byte{0xd9, 0xd9, 0xf7}, p...) }
			}},
		{name: "number as a key", sentence: "A key of the payload is a number.", expect: malformed, rules: "doc.payload",
			edit: func(f *forgery) {
				f.IndefiniteMap = false
				f.EditPayload = func(p []byte) []byte { p[0]++; return append(p, 0x00, 0x00) }
			}},
		{name: "bytes as a key", sentence: `The key "nonce" is written as a byte string.`, expect: malformed, rules: "doc.payload",
			edit: func(f *forgery) {
				f.RemoveField("nonce")
				f.IndefiniteMap = false
				f.EditPayload = func(p []byte) []byte {
					p[0]++
					return append(append(p, encode([]byte("nonce"))...), encode([]byte("nonce"))...)
				}
			}},

		{name: "module_id absent", sentence: "module_id is absent.", expect: malformed, rules: "doc.module-id", edit: without("module_id")},
		{name: "module_id empty", sentence: "module_id is an empty text.", expect: malformed, rules: "doc.module-id", edit: set("module_id", "")},
		{name: "module_id bytes", sentence: "module_id is a byte string.", expect: malformed, rules: "doc.module-id", edit: set("module_id", []byte(attestationtest.ModuleID))},
		{name: "digest absent", sentence: "digest is absent.", expect: malformed, rules: "doc.digest", edit: without("digest")},
		{name: "digest SHA256", sentence: "digest is SHA256.", expect: malformed, rules: "doc.digest", edit: set("digest", "SHA256")},
		{name: "digest SHA512", sentence: "digest is SHA512.", expect: malformed, rules: "doc.digest", edit: set("digest", "SHA512")},
		{name: "digest in small letters", sentence: "digest is sha384.", expect: malformed, rules: "doc.digest", edit: set("digest", "sha384")},
		{name: "digest null", sentence: "digest is null.", expect: malformed, rules: "doc.digest", edit: set("digest", nil)},
		{name: "timestamp absent", sentence: "timestamp is absent.", expect: malformed, rules: "doc.timestamp", edit: without("timestamp")},
		{name: "timestamp zero", sentence: "timestamp is 0.", expect: malformed, rules: "doc.timestamp", edit: set("timestamp", 0)},
		{name: "timestamp negative", sentence: "timestamp is -1.", expect: malformed, rules: "doc.timestamp", edit: set("timestamp", -1)},
		{name: "timestamp text", sentence: "timestamp is a text of RFC 3339.", expect: malformed, rules: "doc.timestamp", edit: set("timestamp", "2026-11-20T14:00:07Z")},
		{name: "timestamp float", sentence: "timestamp is a float.", expect: malformed, rules: "doc.timestamp", edit: raw("timestamp", 0xf9, 0x3c, 0x00)},
		{name: "timestamp tagged", sentence: "timestamp has tag 1, seconds since 1970.", expect: malformed, rules: "doc.timestamp", edit: raw("timestamp", 0xc1, 0x1a, 0x69, 0x1f, 0x1f, 0x17)},
		{name: "timestamp bignum", sentence: "timestamp has tag 2, a number in bytes.", expect: malformed, rules: "doc.timestamp", edit: raw("timestamp", 0xc2, 0x41, 0x01)},
		{name: "timestamp of 64 bits", sentence: "timestamp is 2^64-1.", expect: malformed, rules: "doc.timestamp", edit: set("timestamp", uint64(1<<64-1))},

		{name: "pcrs absent", sentence: "pcrs is absent.", expect: malformed, rules: "doc.pcrs", edit: without("pcrs")},
		{name: "pcrs empty", sentence: "pcrs is an empty map.", expect: malformed, rules: "doc.pcrs", edit: raw("pcrs", 0xa0)},
		{name: "pcrs null", sentence: "pcrs is null.", expect: malformed, rules: "doc.pcrs", edit: set("pcrs", nil)},
		{name: "pcrs an array", sentence: "pcrs is an array of values.", expect: malformed, rules: "doc.pcrs", edit: set("pcrs", [][]byte{long(48), long(48), long(48)})},
		{name: "both kinds", sentence: "The document has pcrs and nitrotpm_pcrs.", expect: malformed, rules: "doc.kind", edit: add("nitrotpm_pcrs", encode(registers(24))), want: anyKind},
		{name: "index 32", sentence: "There is a register 32.", expect: malformed, rules: "doc.pcr.index", edit: raw("pcrs", registerPairs([]byte{0x00}, []byte{0x01}, []byte{0x02}, []byte{0x18, 32})...)},
		{name: "index negative", sentence: "There is a register -1.", expect: malformed, rules: "doc.pcr.index", edit: raw("pcrs", registerPairs([]byte{0x00}, []byte{0x01}, []byte{0x02}, []byte{0x20})...)},
		{name: "index text", sentence: `There is a register "3".`, expect: malformed, rules: "doc.pcr.index", edit: raw("pcrs", registerPairs([]byte{0x00}, []byte{0x01}, []byte{0x02}, []byte{0x61, '3'})...)},
		{name: "index 2 to the 32", sentence: "There is a register 2^32, which is 0 in 32 bits.", expect: malformed, rules: "doc.pcr.index",
			edit: raw("pcrs", registerPairs([]byte{0x00}, []byte{0x01}, []byte{0x02}, []byte{0x1b, 0, 0, 0, 1, 0, 0, 0, 0})...)},
		{name: "PCR3 of 47 bytes", sentence: "PCR3 has 47 bytes.", expect: malformed, rules: "doc.pcr.length", edit: set("pcrs", registerOf(long(47)))},
		{name: "PCR3 of 32 bytes", sentence: "PCR3 has 32 bytes, the length of SHA-256, which AWS's description allows and no digest but SHA384 has.", expect: malformed, rules: "doc.pcr.length", edit: set("pcrs", registerOf(long(32)))},
		{name: "PCR3 of 64 bytes", sentence: "PCR3 has 64 bytes, the length of SHA-512.", expect: malformed, rules: "doc.pcr.length", edit: set("pcrs", registerOf(long(64)))},
		{name: "PCR3 empty", sentence: "PCR3 has no bytes.", expect: malformed, rules: "doc.pcr.length", edit: set("pcrs", registerOf([]byte{}))},
		{name: "PCR3 text", sentence: "PCR3 is a text of 48 letters.", expect: malformed, rules: "doc.pcr.length", edit: set("pcrs", registerOf(string(bytes.Repeat([]byte{'0'}, 48))))},
		{name: "PCR3 null", sentence: "PCR3 is null.", expect: malformed, rules: "doc.pcr.length", edit: set("pcrs", registerOf(nil))},

		{name: "PCR0 absent", sentence: "The map of the registers has no PCR0, which every NSM locks before the enclave starts.", expect: malformed, rules: "doc.pcr.absent",
			edit: raw("pcrs", registerPairs([]byte{0x01}, []byte{0x02}, []byte{0x03})...)},
		{name: "PCR2 absent", sentence: "The map of the registers has no PCR2.", expect: malformed, rules: "doc.pcr.absent",
			edit: raw("pcrs", registerPairs([]byte{0x00}, []byte{0x01}, []byte{0x03})...)},
		{name: "only PCR16", sentence: "The map of the registers has PCR16 alone, which an application locks.", expect: malformed, rules: "doc.pcr.absent",
			edit: raw("pcrs", registerPairs([]byte{0x10})...)},

		{name: "certificate absent", sentence: "certificate is absent.", expect: malformed, rules: "doc.certificate", edit: without("certificate")},
		{name: "certificate empty", sentence: "certificate is empty.", expect: malformed, rules: "doc.certificate", edit: raw("certificate", 0x40)},
		{name: "certificate null", sentence: "certificate is null.", expect: malformed, rules: "doc.certificate", edit: set("certificate", nil)},
		{name: "certificate of 1025 bytes", sentence: "certificate has 1025 bytes.", expect: malformed, rules: "doc.certificate", edit: set("certificate", long(1025))},
		{name: "cabundle absent", sentence: "cabundle is absent.", expect: malformed, rules: "doc.cabundle", edit: without("cabundle")},
		{name: "cabundle empty", sentence: "cabundle is an empty array.", expect: malformed, rules: "doc.cabundle", edit: raw("cabundle", 0x80)},
		{name: "cabundle null", sentence: "cabundle is null.", expect: malformed, rules: "doc.cabundle", edit: set("cabundle", nil)},
		{name: "cabundle one string", sentence: "cabundle is one byte string rather than an array.", expect: malformed, rules: "doc.cabundle", edit: set("cabundle", long(600))},
		{name: "cabundle of 17", sentence: "cabundle has 17 members.", expect: malformed, rules: "doc.cabundle", edit: set("cabundle", make17(long(40)))},

		{name: "public_key of 1025 bytes", sentence: "public_key has 1025 bytes, which the platform signs and AWS's description excludes.", expect: malformed, rules: "doc.public-key", lenient: verified, edit: set("public_key", long(1025))},
		{name: "user_data of 1025 bytes", sentence: "user_data has 1025 bytes.", expect: malformed, rules: "doc.user-data", lenient: verified, edit: set("user_data", long(1025))},
		{name: "user_data of 4000 bytes", sentence: "user_data has 4000 bytes.", expect: malformed, rules: "doc.user-data", lenient: verified, edit: set("user_data", long(4000))},
		{name: "user_data of 4096 bytes", sentence: "user_data has 4096 bytes, the size of the NSM's largest request.", expect: malformed, rules: "doc.user-data", lenient: verified, edit: set("user_data", long(4096))},
		{name: "user_data of 4097 bytes", sentence: "user_data has 4097 bytes, more than any NSM takes.", expect: malformed, rules: "doc.user-data", edit: set("user_data", long(4097))},
		{name: "nonce of 1025 bytes", sentence: "nonce has 1025 bytes.", expect: malformed, rules: "doc.nonce", lenient: verified, edit: set("nonce", long(1025))},
		{name: "nonce of 4097 bytes", sentence: "nonce has 4097 bytes.", expect: malformed, rules: "doc.nonce", edit: set("nonce", long(4097))},
		{name: "public_key text", sentence: "public_key is a text.", expect: malformed, rules: "doc.public-key", edit: set("public_key", "key")},
		{name: "public_key undefined", sentence: "public_key is undefined rather than null.", expect: malformed, rules: "doc.public-key", edit: raw("public_key", 0xf7)},
		{name: "user_data a map", sentence: "user_data is a map.", expect: malformed, rules: "doc.user-data", edit: raw("user_data", 0xa0)},
		{name: "nonce a number", sentence: "nonce is a number.", expect: malformed, rules: "doc.nonce", edit: set("nonce", 7)},
		{name: "nonce false", sentence: "nonce is false.", expect: malformed, rules: "doc.nonce", edit: raw("nonce", 0xf4)},

		{name: "debug", sentence: "PCR0, PCR1 and PCR2 are zero and PCR4 is not: an enclave in debug mode.", expect: mismatch, rules: "expect.debug", edit: set("pcrs", zeroed(0, 1, 2, 8))},
		{name: "debug allowed", sentence: "An enclave in debug mode, which is allowed.", edit: set("pcrs", zeroed(0, 1, 2, 8)), want: allowDebug},
		{name: "PCR0 zero", sentence: "PCR0 alone is zero.", expect: mismatch, rules: "expect.debug", edit: set("pcrs", zeroed(0))},
		{name: "PCR1 zero", sentence: "PCR1 alone is zero.", expect: mismatch, rules: "expect.debug", edit: set("pcrs", zeroed(1))},
		{name: "PCR2 zero", sentence: "PCR2 alone is zero.", expect: mismatch, rules: "expect.debug", edit: set("pcrs", zeroed(2))},
		{name: "NitroTPM", sentence: "The document is a NitroTPM's, which is no enclave: root on any instance can have one made.", expect: mismatch, rules: "expect.kind", edit: nitroTPM(24)},
		{name: "NitroTPM wanted", sentence: "The document is a NitroTPM's, and one is wanted.", edit: nitroTPM(24), want: wantTPM},
		{name: "NitroTPM or enclave", sentence: "The document is a NitroTPM's, and any kind is allowed.", edit: nitroTPM(24), want: anyKind},
		{name: "enclave for NitroTPM", sentence: "The document is an enclave's, a NitroTPM's is wanted.", expect: mismatch, rules: "expect.kind", want: wantTPM},
		{name: "NitroTPM index 24", sentence: "A NitroTPM's document has a register 24.", expect: malformed, rules: "doc.pcr.index", want: wantTPM,
			edit: fields(nitroTPM(3), raw("nitrotpm_pcrs", registerPairs([]byte{0x00}, []byte{0x01}, []byte{0x02}, []byte{0x18, 24})...))},
		{name: "QEMU", sentence: "The shape of QEMU's NSM: algorithm -1, and 64 zero bytes as certificate, cabundle and signature.",
			expect: malformed, rules: "chain.certificate chain.root chain.length cose.alg cose.signature.length",
			edit: fields(protected(0xa1, 0x01, 0x20), set("certificate", make([]byte, 64)), set("cabundle", [][]byte{make([]byte, 64)}),
				partIs(3, encode(make([]byte, 64))...))},
	}
}

// registerOf are three good registers and PCR3.
func registerOf(pcr3 any) map[int]any {
	m := map[int]any{3: pcr3}
	for i, value := range registers(3) {
		m[i] = value
	}
	return m
}

func make17(member []byte) [][]byte {
	list := make([][]byte, 17)
	for i := range list {
		list[i] = member
	}
	return list
}
