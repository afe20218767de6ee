// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/cretula/cretula/pcr"
)

// values expects registers; without the flag that allows any image.
func values(indexes ...pcr.Index) func(*expectation) {
	return func(e *expectation) {
		var set pcr.Set
		good := registers(32)
		for _, i := range indexes {
			set.Put(i, pcr.Digest(good[int(i)]))
		}
		e.PCRs, e.AnyImage = &set, false
	}
}

// other changes one expected register.
func other(i pcr.Index, indexes ...pcr.Index) func(*expectation) {
	return func(e *expectation) {
		values(indexes...)(e)
		e.PCRs.Put(i, pcr.Digest{47: 1})
	}
}

func wantNonce(s string) func(*expectation) {
	return func(e *expectation) { e.Nonce = hexOf(s) }
}

func wantUserData(s string) func(*expectation) {
	return func(e *expectation) { e.UserData = hexOf(s) }
}

// expect are good documents, compared with what is expected of them.
func expect() []vector {
	return []vector{
		{name: "three registers", sentence: "PCR0, PCR1 and PCR2 are expected and equal.", want: values(0, 1, 2)},
		{name: "all registers", sentence: "All sixteen registers are expected and equal.", want: values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)},
		{name: "nonce and user data", sentence: "Nonce and user data are expected and equal.", want: func(e *expectation) { e.Nonce, e.UserData = hexOf("nonce"), hexOf("user data") }},
		{name: "empty nonce", sentence: "An empty nonce is expected, and there.", edit: raw("nonce", 0x40), want: wantNonce("")},

		{name: "longer fields allowed", sentence: "nonce has 1025 bytes, and fields of that length are allowed.", edit: set("nonce", make([]byte, 1025)), want: func(e *expectation) { e.MaxField = 1025 }},

		{name: "field longer than allowed", sentence: "nonce has 1026 bytes, and 1025 are allowed.", edit: set("nonce", make([]byte, 1026)), want: func(e *expectation) { e.MaxField = 1025 }, expect: malformed, rules: "doc.nonce"},
		{name: "shorter fields only", sentence: "user_data has nine bytes, and eight are allowed.", want: func(e *expectation) { e.MaxField = 8 }, expect: malformed, rules: "doc.user-data"},
		{name: "fields longer than ever", sentence: "Fields of 4097 bytes are allowed by the caller, which no NSM can make.", want: func(e *expectation) { e.MaxField = 4097 }, expect: mismatch, rules: "expect.max-field"},
		{name: "nothing", sentence: "Nothing is expected of the image and nobody said that this is meant.", want: func(e *expectation) { e.AnyImage = false }, expect: mismatch, rules: "expect.empty"},
		{name: "two clocks", sentence: "A clock is given and the document's own time is to be used too.", want: func(e *expectation) { e.DocumentTime = true }, expect: mismatch, rules: "expect.clock"},
		{name: "another PCR0", sentence: "PCR0 differs.", want: other(0, 0, 1, 2), expect: mismatch, rules: "expect.pcr"},
		{name: "another PCR2", sentence: "PCR2 differs, PCR0 and PCR1 are equal.", want: other(2, 0, 1, 2), expect: mismatch, rules: "expect.pcr"},
		{name: "another PCR8", sentence: "PCR8 differs, and is the only one that is expected.", want: other(8, 8), expect: mismatch, rules: "expect.pcr"},
		{name: "zero PCR16", sentence: "PCR16 is expected to be zero, and is not in the document: absent is not zero.", want: func(e *expectation) {
			values(0)(e)
			e.PCRs.Put(16, pcr.Digest{})
		}, expect: mismatch, rules: "expect.pcr"},
		{name: "register in an unknown key", sentence: "PCR0 has the expected value only under the key PCRs.", want: values(0, 1, 2), expect: mismatch, rules: "expect.pcr",
			edit: fields(set("pcrs", map[int][]byte{0: {47: 9}, 1: registers(2)[1], 2: registers(3)[2]}), add("PCRs", encode(registers(3))))},
		{name: "NitroTPM with the values", sentence: "A NitroTPM's document has the expected values in its own registers.", edit: nitroTPM(24), want: values(0, 1, 2), expect: mismatch, rules: "expect.kind"},
		{name: "another nonce", sentence: "The nonce differs in its first letter's case.", want: wantNonce("Nonce"), expect: stale, rules: "expect.nonce"},
		{name: "longer nonce", sentence: "The expected nonce has a zero byte more.", want: wantNonce("nonce\x00"), expect: stale, rules: "expect.nonce"},
		{name: "beginning of the nonce", sentence: "The expected nonce is the beginning of the document's.", want: wantNonce("non"), expect: stale, rules: "expect.nonce"},
		{name: "nonce null", sentence: "An empty nonce is expected, the document's is null.", edit: set("nonce", nil), want: wantNonce(""), expect: stale, rules: "expect.nonce"},
		{name: "nonce absent", sentence: "A nonce is expected, the document has none.", edit: without("nonce"), want: wantNonce("nonce"), expect: stale, rules: "expect.nonce"},
		{name: "nonce in user data", sentence: "The expected nonce is the document's user data.", want: wantNonce("user data"), expect: stale, rules: "expect.nonce"},
		{name: "another user data", sentence: "The user data differs.", want: wantUserData("other data"), expect: mismatch, rules: "expect.user-data"},
		{name: "user data null", sentence: "Empty user data is expected, the document's is null.", edit: set("user_data", nil), want: wantUserData(""), expect: mismatch, rules: "expect.user-data"},
	}
}
