// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cretula/cretula/reason"
)

// seeds returns envelopes of every form that is read, and the genuine ones
// where they are present.
func seeds(f *testing.F) [][]byte {
	list := [][]byte{
		shape{}.bytes(),
		shape{version: tlv(tagInteger, []byte{0}), recipientVersion: tlv(tagInteger, []byte{0}), identifier: issuerAndSerial()}.bytes(),
	}
	for _, envelope := range formsOf(sealedParts(f, make([]byte, 1500))) {
		list = append(list, envelope)
	}
	for _, s := range samples(f) {
		list = append(list, s.data)
	}
	return list
}

func addSeeds(f *testing.F) {
	n := 0
	for _, seed := range seeds(f) {
		if _, err := Parse(seed); err == nil {
			n++
		}
		f.Add(seed)
	}
	if n < 50 {
		f.Fatalf("only %d seeds parse", n)
	}
}

// checkParsed holds e, read from data, to what Parse promises of it.
func checkParsed(t *testing.T, data []byte, e *EnvelopedData) {
	sum := 0
	for _, n := range e.ChunkSizes {
		sum += n
	}
	if len(e.Content) == 0 || len(e.Content)%16 != 0 || sum != len(e.Content) || e.Form == 0 {
		t.Fatalf("content of %d bytes in chunks of %v", len(e.Content), e.ChunkSizes)
	}
	if n := len(e.SubjectKeyIdentifier); n < 1 || n > 64 {
		t.Fatalf("key identifier of %d bytes", n)
	}
	// Written in AWS's layout and read again, it has the same fields.
	written := e.encode()
	if len(written) > MaxEnvelope {
		return
	}
	again, err := Parse(written)
	if err != nil {
		t.Fatalf("written back: %v", err)
	}
	canonical := again.ChunkSizes
	again.ChunkSizes, again.Form = e.ChunkSizes, e.Form
	if !reflect.DeepEqual(again, e) {
		t.Fatalf("written back: %+v, want %+v", again, e)
	}
	// What was in that layout already comes out as it went in.
	if !bytes.Equal(data, written) && len(data) == len(written) && e.Form == Chunked &&
		reflect.DeepEqual(e.ChunkSizes, canonical) && sameIndefinite(data, written) {
		t.Fatalf("written back: %x, want %x", written, data)
	}
}

// sameIndefinite reports whether data has indefinite lengths where written,
// which is AWS's layout, has them.
func sameIndefinite(data, written []byte) bool {
	inner := 24 + int(written[22])<<8 + int(written[23]) // behind the SET at 20
	for _, at := range []int{1, 14, 16, inner + 1, inner + 45} {
		if data[at] != 0x80 {
			return false
		}
	}
	return true
}

func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		e, err := Parse(data)
		if !bytes.Equal(before, data) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if e != nil {
				t.Fatal("a result in spite of the error")
			}
			if why, _ := reason.Of(err); why != reason.Malformed && why != reason.Unsupported {
				t.Fatalf("refused as %v: %v", why, err)
			}
			return
		}
		checkParsed(t, data, e)
	})
}

func FuzzOpen(f *testing.F) {
	addSeeds(f)
	key := testKey(f, 2048)
	ski, err := KeyIdentifier(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Half of the inputs are brought past the recipient.
		e, err := Parse(data)
		if err == nil && len(e.Content)%32 == 0 {
			e.SubjectKeyIdentifier = ski
			data = e.encode()
		}
		before := bytes.Clone(data)
		content, err := Open(key, data)
		if !bytes.Equal(before, data) {
			t.Fatal("the input was changed")
		}
		if err == nil {
			if content == nil || len(content) >= len(data) {
				t.Fatalf("%d bytes of content", len(content))
			}
			return
		}
		if content != nil {
			t.Fatal("content in spite of the error")
		}
		if _, ok := reason.Of(err); !ok {
			t.Fatalf("no reason: %v", err)
		}
	})
}

// FuzzEncode: whatever the writer puts down is read back with the same fields
// and written again with the same bytes.
func FuzzEncode(f *testing.F) {
	for _, n := range []int{16, 992, 1008, 4112} {
		f.Add(make([]byte, 32), make([]byte, n), uint8(n))
	}
	f.Fuzz(func(t *testing.T, ski, content []byte, size uint8) {
		content = content[:len(content)/16*16]
		if len(ski) == 0 || len(ski) > 64 || len(content) == 0 || len(content) > MaxContent {
			return
		}
		e := &EnvelopedData{
			SubjectKeyIdentifier: ski,
			EncryptedKey:         make([]byte, 256+128*int(size%3)),
			Content:              content,
			Form:                 Chunked,
		}
		e.IV[size%16] = size
		for n := len(content); n > 0; n -= ChunkSize {
			e.ChunkSizes = append(e.ChunkSizes, min(n, ChunkSize))
		}
		written := e.encode()
		again, err := Parse(written)
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("read back: %+v, %v; want %+v", again, err, e)
		}
		if !bytes.Equal(again.encode(), written) {
			t.Fatal("written again, it has other bytes")
		}
	})
}
