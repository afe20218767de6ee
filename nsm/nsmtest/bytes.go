// SPDX-License-Identifier: Apache-2.0

package nsmtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
)

// text is the hexadecimal form of a CBOR text string of fewer than 24 bytes.
func text(s string) string { return fmt.Sprintf("%02x%x", 0x60+len(s), s) }

// errorHex is the hexadecimal form of a refusal.
func errorHex(code nsm.ErrorCode) string {
	return hex.EncodeToString(nsm.Response{Error: code}.Encode())
}

// bytes compares responses byte for byte with those of nsm-api's encoder.
func (s *suite) bytes(t *testing.T) {
	zeros := strings.Repeat("00", pcr.Size)
	tests := []struct{ request, want string }{
		{"a16b4465736372696265504352a165696e64657810", "a16b4465736372696265504352a2646c6f636bf464646174615830" + zeros},
		{"a16b4465736372696265504352a165696e6465781820", "a1654572726f726c496e76616c6964496e646578"},
		{"a169457874656e64504352a265696e64657810646461746143010203",
			"a169457874656e64504352a164646174615830" + (pcr.Digest{}).Extend([]byte{1, 2, 3}).String()},
		{"a169457874656e64504352a265696e64657800646461746143010203", "a1654572726f726d526561644f6e6c79496e646578"},
		{"a1674c6f636b504352a165696e64657810", "674c6f636b504352"},
		{"a1674c6f636b504352a165696e64657810", "a1654572726f726d526561644f6e6c79496e646578"},
		{"a1684c6f636b50435273a16572616e67651820", "684c6f636b50435273"},
		{"a1684c6f636b50435273a16572616e67651821", "a1654572726f726c496e76616c6964496e646578"},
		{"00", "a1654572726f7270496e76616c69644f7065726174696f6e"},
	}
	for _, test := range tests {
		if got := hex.EncodeToString(s.send(t, test.request)); got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.request, got, test.want)
		}
	}
	prefixes := []struct{ request, want string }{
		{"6b44657363726962654e534d", "a16b44657363726962654e534da7" +
			"6d76657273696f6e5f6d616a6f7201" + "6d76657273696f6e5f6d696e6f7200" + "6d76657273696f6e5f706174636800" + "696d6f64756c655f6964"},
		{"6947657452616e646f6d", "a16947657452616e646f6da16672616e646f6d590100"},
		{"a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365f66a7075626c69635f6b6579f6",
			"a16b4174746573746174696f6ea168646f63756d656e7459"},
	}
	for _, test := range prefixes {
		raw := s.send(t, test.request)
		if got := hex.EncodeToString(raw); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s\ngot  %s\nwant %s…", test.request, got, test.want)
		}
		if r, err := nsm.ParseResponse(raw); err != nil || !bytes.Equal(r.Encode(), raw) {
			t.Errorf("%s: not in the encoder's form: %v", test.request, err)
		}
	}
}

// wild are requests as some clients send them: other orders, absent keys, text.
func (s *suite) wild(t *testing.T) {
	abc := (pcr.Digest{}).Extend([]byte("abc"))
	extended := "a169457874656e64504352a164646174615830"
	tests := []struct{ name, request, want string }{
		{"text for data", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + text("abc"), extended + abc.String()},
		{"data first", "a1" + text("ExtendPCR") + "a2" + text("data") + "43616263" + text("index") + "11", extended + abc.String()},
		{"long number", "a1" + text("LockPCR") + "a1" + text("index") + "1a00000010", "674c6f636b504352"},
		{"index 256", "a1" + text("LockPCR") + "a1" + text("index") + "190100", errorHex(nsm.InvalidIndex)},
		{"index 65535", "a1" + text("DescribePCR") + "a1" + text("index") + "19ffff", errorHex(nsm.InvalidIndex)},
		{"no optional key", "a1" + text("Attestation") + "a0", "a1" + text("Attestation") + "a1" + text("document")},
		{"nonce only", "a1" + text("Attestation") + "a1" + text("nonce") + "4101", "a1" + text("Attestation") + "a1" + text("document")},
		{"text for nonce", "a1" + text("Attestation") + "a1" + text("nonce") + "6161", "a1" + text("Attestation") + "a1" + text("document")},
	}
	for _, test := range tests {
		if got := hex.EncodeToString(s.send(t, test.request)); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %.100s…, want %s", test.name, got, test.want)
		}
	}
}

// hostile requests are refused, change nothing, and leave the device usable.
func (s *suite) hostile(t *testing.T) {
	before := s.all(t)
	nested := func(b string) string { return strings.Repeat(b, nsm.MaxRequest) }
	tests := []struct {
		name, request string
		want          nsm.ErrorCode
	}{
		{"empty", "", nsm.InvalidOperation},
		{"unknown command", text("DescribeTPM"), nsm.InvalidOperation},
		{"wrong case", text("getRandom"), nsm.InvalidOperation},
		{"command of no fields as a map", "a1" + text("GetRandom") + "a0", nsm.InvalidOperation},
		{"command of fields as text", text("Attestation"), nsm.InvalidOperation},
		{"trailing byte", text("GetRandom") + "00", nsm.InvalidOperation},
		{"two commands", "a2" + text("LockPCR") + "a1" + text("index") + "10" + text("LockPCRs") + "a1" + text("range") + "1820", nsm.InvalidOperation},
		{"wrong case of a field", "a1" + text("LockPCR") + "a1" + text("Index") + "10", nsm.InvalidOperation},
		{"field twice", "a1" + text("LockPCR") + "a2" + text("index") + "10" + text("index") + "11", nsm.InvalidOperation},
		{"field missing", "a1" + text("ExtendPCR") + "a1" + text("index") + "10", nsm.InvalidOperation},
		{"negative index", "a1" + text("LockPCR") + "a1" + text("index") + "2f", nsm.InvalidOperation},
		{"index 65536", "a1" + text("LockPCR") + "a1" + text("index") + "1a00010000", nsm.InvalidOperation},
		{"index is text", "a1" + text("LockPCR") + "a1" + text("index") + "623136", nsm.InvalidOperation},
		{"data is an array", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + "8101", nsm.InvalidOperation},
		{"length over the end", "a1" + text("ExtendPCR") + "a2" + text("index") + "10" + text("data") + "5b7fffffffffffffff", nsm.InvalidOperation},
		{"cut short", "a1674c6f636b504352a165696e646578", nsm.InvalidOperation},
		{"nested arrays", nested("81"), nsm.InvalidOperation},
		{"nested maps", nested("a1"), nsm.InvalidOperation},
		{"nested indefinite maps", nested("bf"), nsm.InvalidOperation},
		{"nested tags", nested("c1"), nsm.InvalidOperation},
		{"4096 bytes", nested("00"), nsm.InvalidOperation},
		{"4097 bytes", nested("00") + "00", nsm.InputTooLarge},
		{"100 kB", strings.Repeat("00", 100_000), nsm.InputTooLarge},
	}
	for _, test := range tests {
		if got := hex.EncodeToString(s.send(t, test.request)); got != errorHex(test.want) {
			t.Errorf("%s: got %.100s, want %v", test.name, got, test.want)
		}
	}
	if s.all(t) != before {
		t.Error("a refused request has changed a register")
	}
}

// concurrent callers get their own answers, and no extension is lost.
func (s *suite) concurrent(t *testing.T) {
	const rounds = 20
	var callers sync.WaitGroup
	for i := pcr.Index(bootPCRs); i < 24; i++ {
		callers.Go(func() {
			want := pcr.Digest{}
			for range rounds {
				want = want.Extend([]byte{byte(i)})
				if got, err := s.ExtendPCR(s.ctx, i, []byte{byte(i)}); err != nil || got != want {
					t.Errorf("%v: %v, %v", i, got, err)
					return
				}
			}
		})
		callers.Go(func() {
			for range rounds {
				if _, err := s.ExtendPCR(s.ctx, 24, []byte("same")); err != nil {
					t.Error(err)
				}
				if _, err := s.Random(s.ctx); err != nil {
					t.Error(err)
				}
			}
		})
		callers.Go(func() {
			nonce := []byte{byte(i)}
			document, err := s.Attest(s.ctx, nsm.AttestationRequest{Nonce: nonce})
			if err != nil {
				t.Errorf("Attest: %v", err)
			} else if got := s.read(t, document); !bytes.Equal(got.nonce, nonce) {
				t.Errorf("asked for nonce %x, got %x", nonce, got.nonce)
			}
		})
	}
	callers.Wait()
	want := pcr.Digest{}
	for range 8 * rounds {
		want = want.Extend([]byte("same"))
	}
	if got := s.value(t, 24).Value; got != want {
		t.Error("an extension is lost")
	}
}
