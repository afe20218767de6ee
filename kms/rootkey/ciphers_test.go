// SPDX-License-Identifier: Apache-2.0

package rootkey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
)

// A cipher that has opened something opens it again, and nothing else: neither what
// was changed or bound elsewhere, nor what another root key has wrapped with its salt.
func TestCiphersOfSalts(t *testing.T) {
	k, other := testKey(t, 1), testKey(t, 2)
	wrapped, err := k.Wrap([]byte("secret"), []byte("row"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got, err := k.Unwrap(wrapped, []byte("row")); err != nil || string(got) != "secret" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if len(k.ciphers.young) != 1 {
		t.Fatal("the cipher was not kept: this test has lost its point")
	}
	for i := wrapHeader; i < len(wrapped); i++ {
		changed := bytes.Clone(wrapped)
		changed[i] ^= 1
		if got, err := k.Unwrap(changed, []byte("row")); !errors.Is(err, ErrUnwrap) || got != nil {
			t.Errorf("byte %d changed: %q, %v", i, got, err)
		}
	}
	if got, err := k.Unwrap(wrapped, []byte("other row")); !errors.Is(err, ErrUnwrap) || got != nil {
		t.Errorf("in another row: %q, %v", got, err)
	}
	if got, err := other.Unwrap(wrapped, []byte("row")); !errors.Is(err, ErrOtherKey) || got != nil {
		t.Errorf("by another root key: %q, %v", got, err)
	}
	renamed := bytes.Clone(wrapped)
	copy(renamed[1:], other.id[:])
	if got, err := other.Unwrap(renamed, []byte("row")); !errors.Is(err, ErrUnwrap) || got != nil || len(other.ciphers.young) != 0 {
		t.Errorf("by another root key under its name: %q, %v", got, err)
	}
}

// However many rows there are, so many ciphers are kept and no more, and those that
// are used again and again stay.
func TestCiphersAreBounded(t *testing.T) {
	var c ciphers
	salt := func(i int) (s [saltSize]byte) {
		binary.BigEndian.PutUint64(s[:], uint64(i))
		return s
	}
	c.put(salt(0), saltCipher{nonce: [nonceSize]byte{1}})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := 1; i < 2*maxCiphers; i++ {
				if found, ok := c.get(salt(0)); !ok || found.nonce[0] != 1 {
					t.Error("what is used was forgotten")
					return
				}
				c.put(salt(worker<<32+i), saltCipher{})
			}
		})
	}
	wg.Wait()
	if len(c.young) > maxCiphers || len(c.old) > maxCiphers {
		t.Errorf("%d and %d are kept, want at most %d", len(c.young), len(c.old), maxCiphers)
	}
	if _, ok := c.get(salt(1)); ok {
		t.Error("nothing was forgotten")
	}
}
