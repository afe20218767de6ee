// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/cretula/cretula/pcr"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// repeat is the hexadecimal form of n bytes of value b.
func repeat(b byte, n int) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, n)) }

func digestOf(b byte) pcr.Digest { return pcr.Digest(bytes.Repeat([]byte{b}, pcr.Size)) }

// requestBytes are requests as nsm-api's Rust types and serde_cbor write them.
var requestBytes = []struct {
	name    string
	request Request
	hex     string
}{
	{"DescribePCR 0", Request{Command: DescribePCR}, "a16b4465736372696265504352a165696e64657800"},
	{"DescribePCR 24", Request{Command: DescribePCR, Index: 24}, "a16b4465736372696265504352a165696e6465781818"},
	{"DescribePCR 65535", Request{Command: DescribePCR, Index: 65535}, "a16b4465736372696265504352a165696e64657819ffff"},
	{"ExtendPCR", Request{Command: ExtendPCR, Index: 16, Data: []byte{1, 2, 3}},
		"a169457874656e64504352a265696e64657810646461746143010203"},
	{"ExtendPCR of nothing", Request{Command: ExtendPCR, Index: 31, Data: []byte{}},
		"a169457874656e64504352a265696e646578181f646461746140"},
	{"LockPCR", Request{Command: LockPCR, Index: 16}, "a1674c6f636b504352a165696e64657810"},
	{"LockPCRs", Request{Command: LockPCRs, Range: 32}, "a1684c6f636b50435273a16572616e67651820"},
	{"DescribeNSM", Request{Command: DescribeNSM}, "6b44657363726962654e534d"},
	{"Attestation of nothing", Request{Command: Attestation},
		"a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365f66a7075626c69635f6b6579f6"},
	{"Attestation of empty values", Request{Command: Attestation, AttestationRequest: AttestationRequest{
		PublicKey: []byte{}, UserData: []byte{}, Nonce: []byte{}}},
		"a16b4174746573746174696f6ea369757365725f6461746140656e6f6e6365406a7075626c69635f6b657940"},
	{"Attestation", Request{Command: Attestation, AttestationRequest: AttestationRequest{
		PublicKey: []byte{1}, UserData: []byte{2}, Nonce: bytes.Repeat([]byte{3}, 24)}},
		"a16b4174746573746174696f6ea369757365725f646174614102656e6f6e63655818" + repeat(3, 24) + "6a7075626c69635f6b65794101"},
	{"GetRandom", Request{Command: GetRandom}, "6947657452616e646f6d"},
}

func TestRequestBytes(t *testing.T) {
	for _, test := range requestBytes {
		t.Run(test.name, func(t *testing.T) {
			if got := hex.EncodeToString(test.request.Encode()); got != test.hex {
				t.Errorf("got  %s\nwant %s", got, test.hex)
			}
			if err := cbor.Wellformed(test.request.Encode()); err != nil {
				t.Error(err)
			}
			back, err := ParseRequest(unhex(t, test.hex))
			if err != nil || !reflect.DeepEqual(back, test.request) {
				t.Errorf("read back %+v, %v", back, err)
			}
		})
	}
}

var responseBytes = []struct {
	name     string
	response Response
	hex      string
}{
	{"DescribePCR", Response{Command: DescribePCR, PCR: PCRState{Locked: true, Value: digestOf(0xab)}},
		"a16b4465736372696265504352a2646c6f636bf564646174615830" + repeat(0xab, 48)},
	{"DescribePCR unlocked", Response{Command: DescribePCR},
		"a16b4465736372696265504352a2646c6f636bf464646174615830" + repeat(0, 48)},
	{"ExtendPCR", Response{Command: ExtendPCR, PCR: PCRState{Value: digestOf(1)}},
		"a169457874656e64504352a164646174615830" + repeat(1, 48)},
	{"LockPCR", Response{Command: LockPCR}, "674c6f636b504352"},
	{"LockPCRs", Response{Command: LockPCRs}, "684c6f636b50435273"},
	{"DescribeNSM", Response{Command: DescribeNSM, Description: Description{
		VersionMajor: 1, ModuleID: "i-1234567890abcdef0-enc0123456789abcdef", MaxPCRs: 32,
		LockedPCRs: []pcr.Index{0, 1, 23, 24, 31}, Digest: "SHA384"}},
		"a16b44657363726962654e534da7" +
			"6d76657273696f6e5f6d616a6f7201" + "6d76657273696f6e5f6d696e6f7200" + "6d76657273696f6e5f706174636800" +
			"696d6f64756c655f69647827" + hex.EncodeToString([]byte("i-1234567890abcdef0-enc0123456789abcdef")) +
			"686d61785f706372731820" + "6b6c6f636b65645f7063727385000117" + "1818181f" + "6664696765737466534841333834"},
	{"Attestation", Response{Command: Attestation, Document: []byte{0x84, 0x44}},
		"a16b4174746573746174696f6ea168646f63756d656e74428444"},
	{"GetRandom", Response{Command: GetRandom, Random: bytes.Repeat([]byte{7}, 256)},
		"a16947657452616e646f6da16672616e646f6d590100" + repeat(7, 256)},
	{"ReadOnlyIndex", Response{Error: ReadOnlyIndex}, "a1654572726f726d526561644f6e6c79496e646578"},
	{"InvalidOperation", Response{Error: InvalidOperation}, "a1654572726f7270496e76616c69644f7065726174696f6e"},
}

func TestResponseBytes(t *testing.T) {
	for _, test := range responseBytes {
		t.Run(test.name, func(t *testing.T) {
			if got := hex.EncodeToString(test.response.Encode()); got != test.hex {
				t.Errorf("got  %s\nwant %s", got, test.hex)
			}
			if err := cbor.Wellformed(test.response.Encode()); err != nil {
				t.Error(err)
			}
			back, err := ParseResponse(unhex(t, test.hex))
			if err != nil || !reflect.DeepEqual(back, test.response) {
				t.Errorf("read back %+v, %v", back, err)
			}
		})
	}
}

// TestErrorCodes compares names and numbers with nsm-api's C enumeration.
func TestErrorCodes(t *testing.T) {
	want := []string{"Success", "InvalidArgument", "InvalidIndex", "InvalidResponse", "ReadOnlyIndex",
		"InvalidOperation", "BufferTooSmall", "InputTooLarge", "InternalError"}
	for number, name := range want {
		code := ErrorCode(number)
		if code.Error() != name {
			t.Errorf("%d is %q, want %q", number, code, name)
		}
		if code == Success {
			continue
		}
		r, err := ParseResponse(Response{Error: code}.Encode())
		if err != nil || r.Error != code {
			t.Errorf("%s read back as %v, %v", name, r.Error, err)
		}
	}
	if got := ErrorCode(9).Error(); got != "unknown error code" {
		t.Errorf("code 9 is %q", got)
	}
	if got := Command(8).String(); got != "unknown command" {
		t.Errorf("command 8 is %q", got)
	}
}

// TestRequestOverhead is the number in AttestationRequest's comment.
func TestRequestOverhead(t *testing.T) {
	most := Request{Command: Attestation, AttestationRequest: AttestationRequest{
		PublicKey: make([]byte, 1024), UserData: make([]byte, 1024), Nonce: make([]byte, 1024)}}
	none := Request{Command: Attestation}
	if a, b := len(none.Encode()), len(most.Encode())-3*1024; a != 44 || b != 50 {
		t.Errorf("the overhead is %d to %d bytes", a, b)
	}
}

func TestHeads(t *testing.T) {
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1<<64 - 2} {
		got := appendHead(nil, majorUint, n)
		want, err := cbor.Marshal(n)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d: %x, want %x", n, got, want)
		}
		d := decoder{data: got, strict: true}
		if major, back, err := d.head(); major != majorUint || back != n || err != nil {
			t.Errorf("%d: read back %d, %v", n, back, err)
		}
	}
}
