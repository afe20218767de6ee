// SPDX-License-Identifier: Apache-2.0

package pkcs11

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/rootkey"
)

func TestNew(t *testing.T) {
	good := Config{Module: filepath.Join(t.TempDir(), "x.so"), TokenLabel: "token", KeyLabel: "key"}
	good.PIN = []byte("123456")
	h, err := New(good)
	if !built {
		if !errors.Is(err, ErrNotBuilt) || !errors.Is(err, rootkey.ErrUnavailable) || h != nil || bytes.Contains(good.PIN, []byte("1")) {
			t.Errorf("%v, %v, want ErrNotBuilt", h, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no module":       func(c *Config) { c.Module = "" },
		"relative module": func(c *Config) { c.Module = "libsofthsm2.so" },
		"no token":        func(c *Config) { c.TokenLabel = "" },
		"no key":          func(c *Config) { c.KeyLabel = "" },
		"long key":        func(c *Config) { c.KeyLabel = strings.Repeat("x", 256) },
		"no PIN":          func(c *Config) { c.PIN = nil },
		"long PIN":        func(c *Config) { c.PIN = bytes.Repeat([]byte("1"), 256) },
	} {
		c := good
		c.PIN = []byte("123456")
		change(&c)
		if h, err := New(c); err == nil || h != nil || bytes.Contains(c.PIN, []byte("1")) {
			t.Errorf("%s: %v, PIN %q", name, err, c.PIN)
		}
	}
	if err := h.Close(); err != nil || bytes.Contains(good.PIN, []byte("1")) {
		t.Errorf("Close: %v, PIN %q", err, good.PIN)
	}
	if _, err := h.Seal(t.Context(), make([]byte, rootkey.SecretSize)); err != ErrClosed {
		t.Errorf("Seal after Close: %v", err)
	}
	if err := h.CreateKey(t.Context()); err != ErrClosed {
		t.Errorf("CreateKey after Close: %v", err)
	}
}

func TestEncode(t *testing.T) {
	for _, c := range [][2]int{{0, 48}, {11, 48}, {13, 48}, {16, 48}, {12, 47}, {12, 49}, {12, 0}} {
		if b, err := encode(make([]byte, c[0]), make([]byte, c[1])); err == nil || b != nil {
			t.Errorf("%v: %x, %v", c, b, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(bytes.Repeat([]byte{1}, ivSize), bytes.Repeat([]byte{2}, 48))
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := decode(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		iv, ciphertext, err := decode(b)
		if err != nil {
			if !errors.Is(err, rootkey.ErrNotOpened) || iv != nil || ciphertext != nil {
				t.Error(err)
			}
			return
		}
		if again, err := encode(iv, ciphertext); err != nil || !bytes.Equal(again, b) {
			t.Errorf("encoded again: %x, %v, was %x", again, err, b)
		}
	})
}
