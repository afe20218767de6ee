// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// text is the hexadecimal form of a text string of fewer than 24 bytes.
func text(s string) string { return hex.EncodeToString(appendText(nil, s)) }

// TestRequestsInTheWild are forms that some client sends and modules take.
func TestRequestsInTheWild(t *testing.T) {
	attestation := func(r AttestationRequest) Request { return Request{Command: Attestation, AttestationRequest: r} }
	extend := Request{Command: ExtendPCR, Index: 16, Data: []byte("abc")}
	tests := []struct {
		name string
		hex  string
		want Request
	}{
		{"no optional field at all", "a1" + text("Attestation") + "a0", attestation(AttestationRequest{})},
		{"nonce only", "a1" + text("Attestation") + "a1" + text("nonce") + "4101", attestation(AttestationRequest{Nonce: []byte{1}})},
		{"some absent, some null", "a1" + text("Attestation") + "a2" + text("public_key") + "f6" + text("user_data") + "40",
			attestation(AttestationRequest{UserData: []byte{}})},
		{"fields in alphabetical order", "a1" + text("Attestation") + "a3" + text("nonce") + "4101" + text("public_key") + "4102" + text("user_data") + "4103",
			attestation(AttestationRequest{Nonce: []byte{1}, PublicKey: []byte{2}, UserData: []byte{3}})},
		{"text for user data", "a1" + text("Attestation") + "a1" + text("user_data") + text("hello"), attestation(AttestationRequest{UserData: []byte("hello")})},
		{"text for data", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + text("abc"), extend},
		{"data before index", "a1" + text("ExtendPCR") + "a2" + text("data") + "43616263" + text("index") + "10", extend},
		{"empty text for data", "a1" + text("ExtendPCR") + "a2" + text("data") + "60" + text("index") + "10", Request{Command: ExtendPCR, Index: 16, Data: []byte{}}},
		{"index in two bytes", "a1" + text("LockPCR") + "a1" + text("index") + "1810", Request{Command: LockPCR, Index: 16}},
		{"index in nine bytes", "a1" + text("LockPCR") + "a1" + text("index") + "1b0000000000000010", Request{Command: LockPCR, Index: 16}},
		{"indefinite inner map", "a1" + text("LockPCR") + "bf" + text("index") + "10ff", Request{Command: LockPCR, Index: 16}},
		{"indefinite maps", "bf" + text("LockPCR") + "bf" + text("index") + "10ffff", Request{Command: LockPCR, Index: 16}},
		{"indefinite empty map", "bf" + text("Attestation") + "bfffff", attestation(AttestationRequest{})},
		{"command with a long head", "7809" + hex.EncodeToString([]byte("GetRandom")), Request{Command: GetRandom}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseRequest(unhex(t, test.hex))
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, test.want)
			}
		})
	}
}

// TestRequestsOfOtherEncoders has another library write the requests.
func TestRequestsOfOtherEncoders(t *testing.T) {
	type fields struct {
		UserData  []byte `cbor:"user_data"`
		Nonce     []byte `cbor:"nonce"`
		PublicKey []byte `cbor:"public_key"`
	}
	raw, err := cbor.Marshal(map[string]any{"Attestation": fields{Nonce: []byte("n"), UserData: []byte{}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRequest(raw)
	if err != nil || got.Command != Attestation || string(got.Nonce) != "n" || got.PublicKey != nil || got.UserData == nil {
		t.Errorf("got %+v, %v", got, err)
	}
	raw, err = cbor.Marshal(map[string]any{"ExtendPCR": map[string]any{"index": 17, "data": "text"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseRequest(raw); err != nil || got.Index != 17 || string(got.Data) != "text" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// badRequests are refused as InvalidOperation by the rule given.
var badRequests = []struct{ name, hex, rule string }{
	{"nothing", "", "nsm.request.cbor"},
	{"unknown command", text("DescribeTPM"), "nsm.request.command"},
	{"command in lower case", text("getrandom"), "nsm.request.command"},
	{"command with a blank", text("GetRandom "), "nsm.request.command"},
	{"the empty command", "60", "nsm.request.command"},
	{"the empty command with a long head", "7800", "nsm.request.command"},
	{"GetRandom as a map", "a1" + text("GetRandom") + "a0", "nsm.request.command"},
	{"GetRandom of null", "a1" + text("GetRandom") + "f6", "nsm.request.command"},
	{"Attestation without fields", text("Attestation"), "nsm.request.command"},
	{"Error", "a1" + text("Error") + text("InternalError"), "nsm.request.command"},
	{"a number", "00", "nsm.request.command"},
	{"a byte string", "49" + hex.EncodeToString([]byte("GetRandom")), "nsm.request.command"},
	{"null", "f6", "nsm.request.command"},
	{"an array", "81" + text("GetRandom"), "nsm.request.command"},
	{"a tag", "d9d9f7" + text("GetRandom"), "nsm.request.command"},
	{"an empty map", "a0", "nsm.request.command"},
	{"an empty indefinite map", "bfff", "nsm.request.cbor"},
	{"two commands", "a2" + text("LockPCR") + "a1" + text("index") + "10" + text("LockPCRs") + "a1" + text("range") + "10", "nsm.request.command"},
	{"two commands, indefinite", "bf" + text("LockPCR") + "a1" + text("index") + "10" + text("LockPCRs") + "a1" + text("range") + "10ff", "nsm.request.command"},
	{"map without end", "bf" + text("LockPCR") + "a1" + text("index") + "10", "nsm.request.command"},
	{"a definite map of 2^64-1", "bbffffffffffffffff" + text("LockPCR") + "a1" + text("index") + "10ff", "nsm.request.cbor"},
	{"trailing byte", text("GetRandom") + "00", "nsm.request.trailing"},
	{"trailing break", "a1" + text("LockPCR") + "a1" + text("index") + "10ff", "nsm.request.trailing"},
	{"two requests", text("GetRandom") + text("GetRandom"), "nsm.request.trailing"},
	{"chunked command", "7f" + text("GetRandom") + "ff", "nsm.request.cbor"},
	{"not UTF-8", "63ff0000", "nsm.request.cbor"},
	{"text over the end", "69476574", "nsm.request.cbor"},
	{"text of 2^63", "7b8000000000000000", "nsm.request.cbor"},
	{"text of 2^64-1", "7bffffffffffffffff", "nsm.request.cbor"},
	{"half a head", "79", "nsm.request.cbor"},
	{"half a number", "1b000000", "nsm.request.cbor"},
	{"reserved head 28", "7c", "nsm.request.cbor"},
	{"reserved head 30", "be", "nsm.request.cbor"},
	{"break alone", "ff", "nsm.request.cbor"},
	{"key is a byte string", "a1474c6f636b504352a165696e64657810", "nsm.request.field"},

	{"index missing", "a1" + text("LockPCR") + "a0", "nsm.request.field"},
	{"index missing, indefinite", "a1" + text("LockPCR") + "bfff", "nsm.request.field"},
	{"index null", "a1" + text("LockPCR") + "a1" + text("index") + "f6", "nsm.request.field"},
	{"index negative", "a1" + text("LockPCR") + "a1" + text("index") + "20", "nsm.request.field"},
	{"index is text", "a1" + text("LockPCR") + "a1" + text("index") + "6131", "nsm.request.field"},
	{"index is a float", "a1" + text("LockPCR") + "a1" + text("index") + "f94c00", "nsm.request.field"},
	{"index over 65535", "a1" + text("LockPCR") + "a1" + text("index") + "1a00010000", "nsm.request.field"},
	{"index of 2^64-1", "a1" + text("LockPCR") + "a1" + text("index") + "1bffffffffffffffff", "nsm.request.cbor"},
	{"Index", "a1" + text("LockPCR") + "a1" + text("Index") + "10", "nsm.request.field"},
	{"range for index", "a1" + text("LockPCR") + "a1" + text("range") + "10", "nsm.request.field"},
	{"index for range", "a1" + text("LockPCRs") + "a1" + text("index") + "10", "nsm.request.field"},
	{"index twice", "a1" + text("LockPCR") + "a2" + text("index") + "10" + text("index") + "10", "nsm.request.field"},
	{"index twice, indefinite", "a1" + text("LockPCR") + "bf" + text("index") + "10" + text("index") + "10ff", "nsm.request.field"},
	{"fields are an array", "a1" + text("LockPCR") + "8110", "nsm.request.field"},
	{"fields are null", "a1" + text("LockPCR") + "f6", "nsm.request.field"},
	{"map of 2^32 fields", "a1" + text("LockPCR") + "ba80000000", "nsm.request.field"},
	{"a field's name is a number", "a1" + text("LockPCR") + "a10010", "nsm.request.field"},
	{"data missing", "a1" + text("ExtendPCR") + "a1" + text("index") + "10", "nsm.request.field"},
	{"data null", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + "f6", "nsm.request.field"},
	{"data an array of numbers", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + "83010203", "nsm.request.field"},
	{"data chunked", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + "5f4101ff", "nsm.request.cbor"},
	{"data over the end", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + "5affffffff", "nsm.request.cbor"},
	{"data is text, not UTF-8", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + "61ff", "nsm.request.cbor"},
	{"Nonce", "a1" + text("Attestation") + "a1" + text("Nonce") + "4101", "nsm.request.field"},
	{"an unknown field", "a1" + text("Attestation") + "a1" + text("extra") + "f6", "nsm.request.field"},
	{"nonce is a number", "a1" + text("Attestation") + "a1" + text("nonce") + "01", "nsm.request.field"},
	{"nonce is undefined", "a1" + text("Attestation") + "a1" + text("nonce") + "f7", "nsm.request.field"},
	{"nonce twice", "a1" + text("Attestation") + "a2" + text("nonce") + "f6" + text("nonce") + "f6", "nsm.request.field"},
	{"four fields", "a1" + text("Attestation") + "a4" + text("nonce") + "f6", "nsm.request.field"},
	{"nested arrays", repeat(0x81, 4096), "nsm.request.command"},
	{"nested maps", repeat(0xa1, 4096), "nsm.request.field"},
	{"nested indefinite maps", repeat(0xbf, 4096), "nsm.request.field"},
	{"nested arrays for a nonce", "a1" + text("Attestation") + "a1" + text("nonce") + repeat(0x9f, 4000), "nsm.request.cbor"},
	{"nested tags", repeat(0xc1, 4096), "nsm.request.command"},
	{"4096 bytes of nothing", repeat(0, 4096), "nsm.request.command"},
}

func TestBadRequests(t *testing.T) {
	for _, test := range badRequests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseRequest(unhex(t, test.hex))
			if !reflect.DeepEqual(got, Request{}) {
				t.Errorf("not zero: %+v", got)
			}
			checkRefusal(t, err, test.rule, InvalidOperation)
		})
	}
}

func checkRefusal(t *testing.T, err error, rule string, code ErrorCode) {
	t.Helper()
	refusal, ok := errors.AsType[*reason.Error](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	if refusal.Rule() != rule || refusal.Reason() != reason.Malformed {
		t.Errorf("got %s, %v, want %s: %v", refusal.Rule(), refusal.Reason(), rule, err)
	}
	if wrapped, ok := errors.AsType[ErrorCode](err); ok != (code != Success) || wrapped != code {
		t.Errorf("wraps %v, want %v", wrapped, code)
	}
}

func TestRequestSize(t *testing.T) {
	fits := Request{Command: ExtendPCR, Index: 16, Data: make([]byte, MaxRequest-27)}
	raw := fits.Encode()
	if len(raw) != MaxRequest {
		t.Fatalf("%d bytes", len(raw))
	}
	if got, err := ParseRequest(raw); err != nil || len(got.Data) != len(fits.Data) {
		t.Errorf("4096 bytes: %v", err)
	}
	for _, size := range []int{MaxRequest + 1, 100_000} {
		_, err := ParseRequest(make([]byte, size))
		checkRefusal(t, err, "nsm.request.size", InputTooLarge)
	}
}

// TestEveryCut cuts each request and response short and adds a byte to it.
func TestEveryCut(t *testing.T) {
	for _, test := range requestBytes {
		whole := unhex(t, test.hex)
		for n := range whole {
			if got, err := ParseRequest(whole[:n]); err == nil {
				t.Errorf("%s cut to %d bytes: %+v", test.name, n, got)
			}
		}
		for b := range 256 {
			if _, err := ParseRequest(append(bytes.Clone(whole), byte(b))); err == nil {
				t.Errorf("%s with %02x after it is accepted", test.name, b)
			}
		}
	}
	for _, test := range responseBytes {
		whole := unhex(t, test.hex)
		for n := range whole {
			if got, err := ParseResponse(whole[:n]); err == nil {
				t.Errorf("%s cut to %d bytes: %+v", test.name, n, got)
			}
		}
		for b := range 256 {
			if _, err := ParseResponse(append(bytes.Clone(whole), byte(b))); err == nil {
				t.Errorf("%s with %02x after it is accepted", test.name, b)
			}
		}
	}
}

func describeNSM(change func(*Description)) string {
	d := Description{VersionMajor: 1, ModuleID: "i-0-enc0", MaxPCRs: 32, LockedPCRs: []pcr.Index{0, 1}, Digest: "SHA384"}
	change(&d)
	return hex.EncodeToString(Response{Command: DescribeNSM, Description: d}.Encode())
}

// TestBadResponses are refused: the parent of an enclave may write anything.
func TestBadResponses(t *testing.T) {
	zeros := "5830" + repeat(0, 48)
	tests := []struct{ name, hex, rule string }{
		{"nothing", "", "nsm.response.cbor"},
		{"another unit", text("GetRandom"), "nsm.response.command"},
		{"LockPCR as a map", "a1" + text("LockPCR") + "a0", "nsm.response.command"},
		{"Error bare", text("Error"), "nsm.response.command"},
		{"Error of an unknown name", "a1" + text("Error") + text("NoSuchThing"), "nsm.response.error"},
		{"Error of Success", "a1" + text("Error") + text("Success"), "nsm.response.error"},
		{"Error of a number", "a1" + text("Error") + "04", "nsm.response.field"},
		{"Error in lower case", "a1" + text("error") + text("InternalError"), "nsm.response.command"},
		{"Error and an answer", "a2" + text("Error") + text("InternalError") + text("LockPCR") + "f6", "nsm.response.command"},
		{"trailing byte", text("LockPCR") + "00", "nsm.response.trailing"},
		{"indefinite map", "bf" + text("ExtendPCR") + "a1" + text("data") + zeros + "ff", "nsm.response.cbor"},
		{"indefinite inner map", "a1" + text("ExtendPCR") + "bf" + text("data") + zeros + "ff", "nsm.response.cbor"},
		{"long head of a map", "b801" + text("ExtendPCR") + "a1" + text("data") + zeros, "nsm.response.cbor"},
		{"long head of a text", "7807" + hex.EncodeToString([]byte("LockPCR")), "nsm.response.cbor"},
		{"long head of a digest", "a1" + text("ExtendPCR") + "a1" + text("data") + "590030" + repeat(0, 48), "nsm.response.cbor"},
		{"tag", "c1" + text("LockPCR"), "nsm.response.command"},

		{"digest of 47", "a1" + text("ExtendPCR") + "a1" + text("data") + "582f" + repeat(0, 47), "nsm.response.length"},
		{"digest of 49", "a1" + text("ExtendPCR") + "a1" + text("data") + "5831" + repeat(0, 49), "nsm.response.length"},
		{"digest empty", "a1" + text("ExtendPCR") + "a1" + text("data") + "40", "nsm.response.length"},
		{"digest is text", "a1" + text("ExtendPCR") + "a1" + text("data") + "7830" + repeat('a', 48), "nsm.response.field"},
		{"digest is null", "a1" + text("ExtendPCR") + "a1" + text("data") + "f6", "nsm.response.field"},
		{"an extra field", "a1" + text("ExtendPCR") + "a2" + text("data") + zeros + text("lock") + "f5", "nsm.response.field"},
		{"no field", "a1" + text("ExtendPCR") + "a0", "nsm.response.field"},
		{"lock missing", "a1" + text("DescribePCR") + "a1" + text("data") + zeros, "nsm.response.field"},
		{"lock is a number", "a1" + text("DescribePCR") + "a2" + text("lock") + "01" + text("data") + zeros, "nsm.response.field"},
		{"lock is null", "a1" + text("DescribePCR") + "a2" + text("lock") + "f6" + text("data") + zeros, "nsm.response.field"},
		{"lock at the end", "a1" + text("DescribePCR") + "a2" + text("lock"), "nsm.response.field"},
		{"lock twice", "a1" + text("DescribePCR") + "a2" + text("lock") + "f5" + text("lock") + "f5", "nsm.response.field"},

		{"document empty", "a1" + text("Attestation") + "a1" + text("document") + "40", "nsm.response.length"},
		{"document is text", "a1" + text("Attestation") + "a1" + text("document") + "6161", "nsm.response.field"},
		{"random empty", "a1" + text("GetRandom") + "a1" + text("random") + "40", "nsm.response.length"},
		{"random of 255", "a1" + text("GetRandom") + "a1" + text("random") + "58ff" + repeat(1, 255), "nsm.response.length"},
		{"random of 257", "a1" + text("GetRandom") + "a1" + text("random") + "590101" + repeat(1, 257), "nsm.response.length"},

		{"module_id empty", describeNSM(func(d *Description) { d.ModuleID = "" }), "nsm.response.length"},
		{"module_id of 100", describeNSM(func(d *Description) { d.ModuleID = strings.Repeat("x", 100) }), "nsm.response.length"},
		{"no registers", describeNSM(func(d *Description) { d.MaxPCRs = 0 }), "nsm.response.value"},
		{"33 registers", describeNSM(func(d *Description) { d.MaxPCRs = 33 }), "nsm.response.value"},
		{"locked above the last", describeNSM(func(d *Description) { d.MaxPCRs = 1 }), "nsm.response.value"},
		{"locked 32", describeNSM(func(d *Description) { d.LockedPCRs = []pcr.Index{32} }), "nsm.response.value"},
		{"locked not ascending", describeNSM(func(d *Description) { d.LockedPCRs = []pcr.Index{1, 0} }), "nsm.response.value"},
		{"locked twice", describeNSM(func(d *Description) { d.LockedPCRs = []pcr.Index{1, 1} }), "nsm.response.value"},
		{"33 locked", describeNSM(func(d *Description) { d.LockedPCRs = make([]pcr.Index, 33) }), "nsm.response.field"},
		{"SHA256", describeNSM(func(d *Description) { d.Digest = "SHA256" }), "nsm.response.value"},
		{"nested arrays", repeat(0x81, 12288), "nsm.response.command"},
		{"nested maps", repeat(0xa1, 12288), "nsm.response.field"},
		{"text of 2^64-1", "7bffffffffffffffff", "nsm.response.cbor"},
		{"too long", repeat(0, MaxResponse+1), "nsm.response.size"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseResponse(unhex(t, test.hex))
			if !reflect.DeepEqual(got, Response{}) {
				t.Errorf("not zero: %+v", got)
			}
			checkRefusal(t, err, test.rule, Success)
		})
	}
}

// TestResponseOrder: emulators write the fields of an answer in other orders
// than nsm-api; names decide.
func TestResponseOrder(t *testing.T) {
	got, err := ParseResponse(unhex(t, "a1"+text("DescribePCR")+"a2"+text("data")+"5830"+repeat(9, 48)+text("lock")+"f5"))
	if err != nil || !got.PCR.Locked || got.PCR.Value != digestOf(9) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzRequest(f *testing.F) {
	if len(requestBytes) == 0 || len(badRequests) == 0 {
		f.Fatal("no seeds")
	}
	for _, seed := range requestBytes {
		f.Add(unhex(f, seed.hex))
	}
	for _, seed := range badRequests {
		f.Add(unhex(f, seed.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRequest(data)
		if err != nil {
			if _, ok := errors.AsType[ErrorCode](err); !ok || !reflect.DeepEqual(r, Request{}) {
				t.Fatalf("%+v, %v", r, err)
			}
			return
		}
		if cbor.Wellformed(data) != nil {
			t.Fatal("accepted what is not well-formed")
		}
		back, err := ParseRequest(r.Encode())
		if len(r.Encode()) > MaxRequest {
			return // absent fields are written as null
		}
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Fatalf("%+v read back as %+v, %v", r, back, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	if len(responseBytes) == 0 {
		f.Fatal("no seeds")
	}
	for _, seed := range responseBytes {
		f.Add(unhex(f, seed.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseResponse(data)
		if err != nil {
			if refusal, ok := errors.AsType[*reason.Error](err); !ok || refusal.Reason() != reason.Malformed || !reflect.DeepEqual(r, Response{}) {
				t.Fatalf("%+v, %v", r, err)
			}
			return
		}
		if cbor.Wellformed(data) != nil {
			t.Fatal("accepted what is not well-formed")
		}
		back, err := ParseResponse(r.Encode())
		if err != nil || !reflect.DeepEqual(back, r) || len(r.Encode()) != len(data) {
			t.Fatalf("%+v read back as %+v, %v", r, back, err)
		}
	})
}

// TestBoundedAllocation: no declared length costs memory that is not there.
func TestBoundedAllocation(t *testing.T) {
	bomb := unhex(t, "a1"+text("ExtendPCR")+"a2"+text("data")+"5b7fffffffffffffff")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := ParseRequest(bomb); err == nil {
			t.Fatal("accepted")
		}
	}); n > 40 {
		t.Errorf("%v allocations", n)
	}
}
