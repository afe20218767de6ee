// SPDX-License-Identifier: Apache-2.0

package passphrase

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
)

func holder(t testing.TB, text string) *Holder {
	t.Helper()
	h, err := New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestHolder(t *testing.T) {
	rootkeytest.Run(t, rootkeytest.Case{Kind: "passphrase", New: func(t testing.TB) (h, other rootkey.Holder) {
		one, two := holder(t, "correct horse battery"), holder(t, "correct horse batterY")
		// The suite opens hundreds of times: at a lower price, else minutes.
		one.price.memory, two.price.memory = 64, 64
		return one, two
	}})
}

// TestPrice opens what was sealed at the full price, and only that.
func TestPrice(t *testing.T) {
	h, cheap := holder(t, "correct horse battery"), holder(t, "correct horse battery")
	cheap.price.memory--
	secret := bytes.Repeat([]byte{7}, rootkey.SecretSize)
	sealed, err := h.Seal(t.Context(), secret)
	if err != nil || !bytes.Equal(sealed[:10], []byte{1, 0, 0, 0, 3, 0, 1, 0, 0, 4}) {
		t.Fatalf("sealed %x, %v", sealed, err)
	}
	if got, err := h.Open(t.Context(), sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%x, %v", got, err)
	}
	if sealed, err = cheap.Seal(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Open(t.Context(), sealed); !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
		t.Errorf("sealed for less: %x, %v", got, err)
	}
}

// TestFormat opens what the argon2 program of the reference implementation and
// AES-256-GCM of OpenSSL (through Python's cryptography) made:
//
//	printf 'correct horse battery' |
//	  argon2 0123456789abcdef -id -v 13 -t 3 -k 65536 -p 4 -l 44 -r
func TestFormat(t *testing.T) {
	sealed, err := hex.DecodeString("0100000003000100000430313233343536373839616263646566" +
		"5ee090e52abea744aefe6faaa6bb6d09dcfa63d74a9f3177b5f007c75fe4719c8b2d8554c92f05d94fc120f0a0a5b011")
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345")
	if got, err := holder(t, "correct horse battery").Open(t.Context(), sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNew(t *testing.T) {
	for size, want := range map[int]error{0: ErrSize, 14: ErrSize, 15: nil, 1024: nil, 1025: ErrSize} {
		text := bytes.Repeat([]byte{'x'}, size)
		h, err := New(text)
		if err != want || (h == nil) != (want != nil) {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
		if h != nil {
			sealed := make([]byte, sealedSize)
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if _, err := h.Seal(t.Context(), make([]byte, rootkey.SecretSize)); err != ErrClosed {
				t.Errorf("Seal after Close: %v", err)
			}
			copy(sealed, []byte{1, 0, 0, 0, 3, 0, 1, 0, 0, 4})
			if _, err := h.Open(t.Context(), sealed); err != ErrClosed {
				t.Errorf("Open after Close: %v", err)
			}
			h.Close()
		}
		if bytes.Contains(text, []byte{'x'}) {
			t.Errorf("%d bytes: the passphrase is still there", size)
		}
	}
}

func TestRead(t *testing.T) {
	long := strings.Repeat("x", MaxSize)
	for text, want := range map[string]string{
		"":              "",
		"\n":            "",
		"\r\n":          "",
		"word":          "word",
		"word\n":        "word",
		"word\r\n":      "word",
		"word\n\n":      "word\n",
		"word\r":        "word\r",
		"\x00\xff word": "\x00\xff word",
		long:            long,
		long + "\n":     long,
		long + "\r\n":   long,
	} {
		got, err := Read(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil || string(got) != want {
			t.Errorf("%.20q: %.20q, %v, want %.20q", text, got, err, want)
		}
	}
	for _, text := range []string{long + "x", long + "x\n", long + "\n\n", strings.Repeat("x", 1<<20)} {
		if got, err := Read(strings.NewReader(text)); err != ErrSize || got != nil {
			t.Errorf("%d bytes: %d, %v, want ErrSize", len(text), len(got), err)
		}
	}
	broken := errors.New("broken")
	if got, err := Read(io.MultiReader(strings.NewReader("word"), iotest.ErrReader(broken))); !errors.Is(err, broken) || got != nil {
		t.Errorf("a reader that fails: %q, %v", got, err)
	}
}

// TestBounds makes sure that a file cannot ask for more, or for so little that
// it was not written here. Each must be refused before Argon2id runs.
func TestBounds(t *testing.T) {
	good := []byte{1, 0, 0, 0, 3, 0, 1, 0, 0, 4}
	set := func(at int, b ...byte) []byte {
		sealed := make([]byte, sealedSize)
		copy(sealed, good)
		copy(sealed[at:], b)
		return sealed
	}
	for _, accepted := range [][]byte{set(0), set(1, 0, 0, 0, 16), set(5, 0, 4, 0, 0), set(9, 1), set(9, 16)} {
		if c, err := decode(accepted, price); err != nil || c == (cost{}) {
			t.Errorf("%x: %v", accepted[:10], err)
		}
	}
	h := holder(t, "correct horse battery")
	h.Close() // so that one that gets through fails with another error
	for _, refused := range [][]byte{
		set(0, 0), set(0, 2),
		set(1, 0, 0, 0, 2), set(1, 0, 0, 0, 17), set(1, 0xff, 0xff, 0xff, 0xff), set(1, 0, 0, 0, 0),
		set(5, 0, 0, 0xff, 0xff), set(5, 0, 4, 0, 1), set(5, 0xff, 0xff, 0xff, 0xff), set(5, 0, 0, 0, 0),
		set(9, 0), set(9, 17), set(9, 255),
		set(0)[:sealedSize-1], append(set(0), 0), nil,
	} {
		if got, err := h.Open(t.Context(), refused); !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
			t.Errorf("%x: %v, want ErrNotOpened", refused[:min(10, len(refused))], err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	sealed, err := holder(f, "correct horse battery").Seal(f.Context(), make([]byte, rootkey.SecretSize))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := decode(sealed, price); err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:10])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decode(b, price)
		if err != nil {
			if !errors.Is(err, rootkey.ErrNotOpened) {
				t.Error(err)
			}
			return
		}
		if c.memory > 256<<10 || c.passes > 16 || c.lanes > 16 || c.lanes == 0 {
			t.Errorf("out of bounds: %+v", c)
		}
	})
}
