// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"bytes"
	"testing"
)

// FuzzDecodeEpoch: only what encode has written under the same key is taken, byte for
// byte, and nothing is returned of what is refused.
func FuzzDecodeEpoch(f *testing.F) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	good := epoch{store: "0123456789abcdef0123456789abcdef", epoch: 3, generation: 1<<64 - 1}
	text := good.encode(key)
	if e, ok := decodeEpoch(text, key); !ok || e != good {
		f.Fatalf("the seed is not one: %q", text)
	}
	for _, seed := range [][]byte{text, good.encode(other), text[:len(text)-1], append(bytes.Clone(text), '\n'), nil, []byte("\n\n\n\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, ok := decodeEpoch(data, key)
		switch {
		case !ok && e != epoch{}:
			t.Fatalf("%q: refused, and %+v", data, e)
		case ok && !bytes.Equal(e.encode(key), data):
			t.Fatalf("%q is taken for %q", data, e.encode(key))
		}
		if _, ok := decodeEpoch(data, other); ok && !bytes.Equal(data, good.encode(other)) {
			t.Fatalf("%q is taken under another key", data)
		}
	})
}
