// SPDX-License-Identifier: Apache-2.0

package hmac256

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func reference(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// RFC 4231, test cases 1, 2 and 6.
func TestRFC4231(t *testing.T) {
	for _, test := range []struct {
		key     []byte
		message string
		want    string
	}{
		{bytes.Repeat([]byte{0x0b}, 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{[]byte("Jefe"), "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{bytes.Repeat([]byte{0xaa}, 131), "Test Using Larger Than Block-Size Key - Hash Key First",
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	} {
		if got := Sum(test.key, []byte(test.message)); hex.EncodeToString(got[:]) != test.want {
			t.Errorf("%q: %x, want %s", test.message, got, test.want)
		}
	}
}

// Every length of key and message around the blocks and the memory on the stack,
// in whatever parts, gives what crypto/hmac does.
func TestSum(t *testing.T) {
	data := make([]byte, 1024)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, keySize := range []int{0, 1, 31, 32, 33, 63, 64, 65, 128} {
		for size := range 600 {
			key, message := data[:keySize], data[1:1+size]
			want := reference(key, message)
			if got := Sum(key, message); !bytes.Equal(got[:], want) {
				t.Fatalf("key of %d, message of %d bytes: %x, want %x", keySize, size, got, want)
			}
			third := size / 3
			if got := Sum(key, message[:third], nil, message[third:]); !bytes.Equal(got[:], want) {
				t.Fatalf("key of %d, message of %d bytes in parts: %x, want %x", keySize, size, got, want)
			}
		}
	}
	if got := Sum(nil); !bytes.Equal(got[:], reference(nil, nil)) {
		t.Errorf("of nothing: %x", got)
	}
}

func TestSumTakesNoMemory(t *testing.T) {
	key, message := make([]byte, 32), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { Sum(key, message, message) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSum(b *testing.B) {
	key, message := make([]byte, 32), make([]byte, 48)
	b.ReportAllocs()
	for b.Loop() {
		Sum(key, message)
	}
}
