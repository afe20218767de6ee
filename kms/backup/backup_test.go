// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/rootkey"
)

func newRoot(t testing.TB) rootkey.Key {
	t.Helper()
	root, err := rootkey.CreateFile(filepath.Join(t.TempDir(), "keys", "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// rows are of all sizes: one is larger than a frame.
func rows() []keystore.Row {
	all := []keystore.Row{
		{Table: "a", ID: "1", Version: 1, Content: []byte("content"), MAC: []byte("mac")},
		{Table: "a", ID: "2", Version: keystore.MaxVersion, MAC: bytes.Repeat([]byte{7}, keystore.MaxMAC)},
		{Table: strings.Repeat("t", keystore.MaxTable), ID: strings.Repeat("i", keystore.MaxID), Content: bytes.Repeat([]byte("x"), 3*frameSize+5)},
	}
	for i := range 300 {
		all = append(all, keystore.Row{Table: "z", ID: fmt.Sprintf("%03d", i), Version: uint64(i), Content: make([]byte, 17*i)})
	}
	return all
}

var header = Header{StoreID: strings.Repeat("ab", 16), Emulated: true, Account: "000000000000", Created: time.Unix(1e9, 0).UTC()}

func write(t testing.TB, root rootkey.Key, all []keystore.Row) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Create(&out, root, header)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range all {
		if err := w.Put(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Rows() != uint64(len(all)) {
		t.Fatalf("%d rows", w.Rows())
	}
	return out.Bytes()
}

func read(file []byte, root rootkey.Key) (Header, []keystore.Row, error) {
	r, err := Open(bytes.NewReader(file), root)
	if err != nil {
		return Header{}, nil, err
	}
	var all []keystore.Row
	err = r.EachRow(func(row keystore.Row) error {
		all = append(all, row)
		return nil
	})
	return r.Header, all, err
}

func TestRoundTrip(t *testing.T) {
	root := newRoot(t)
	for _, want := range [][]keystore.Row{nil, rows()[:1], rows()} {
		file := write(t, root, want)
		h, got, err := read(file, root)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d rows of %d, %v", len(got), len(want), err)
		}
		for i := range want {
			same := got[i].Table == want[i].Table && got[i].ID == want[i].ID && got[i].Version == want[i].Version &&
				bytes.Equal(got[i].Content, want[i].Content) && bytes.Equal(got[i].MAC, want[i].MAC)
			if !same {
				t.Errorf("row %d differs", i)
			}
		}
		if h.StoreID != header.StoreID || h.Account != header.Account || !h.Created.Equal(header.Created) || h.RootKey != root.ID() {
			t.Errorf("header %+v", h)
		}
		plain, err := ReadHeader(bytes.NewReader(file))
		if err != nil || !reflect.DeepEqual(plain, h) {
			t.Errorf("header alone: %+v, %v", plain, err)
		}
	}
	if a, b := write(t, root, nil), write(t, root, nil); bytes.Equal(a, b) {
		t.Error("two backups are equal")
	}
}

// TestFrameEnds has plaintext end just before, at and behind the end of a frame.
func TestFrameEnds(t *testing.T) {
	root := newRoot(t)
	for size := frameSize - 60; size < frameSize+3; size++ {
		file := write(t, root, []keystore.Row{{Table: "a", ID: "1", Content: make([]byte, size)}})
		if _, got, err := read(file, root); err != nil || len(got) != 1 || len(got[0].Content) != size {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// frames returns where each frame begins, and the end.
func frames(file []byte) []int {
	at := len(magic) + 4 + int(binary.BigEndian.Uint32(file[len(magic):]))
	starts := []int{at}
	for at < len(file) {
		at += 4 + int(binary.BigEndian.Uint32(file[at:]))
		starts = append(starts, at)
	}
	return starts
}

func TestChanged(t *testing.T) {
	root := newRoot(t)
	file, other := write(t, root, rows()), write(t, root, rows())
	at := frames(file)
	if len(at) < 5 || at[len(at)-1] != len(file) {
		t.Fatalf("frames %v", at)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, changed := range map[string][]byte{
		"first frame missing":     join(file[:at[0]], file[at[1]:]),
		"last frame missing":      file[:at[len(at)-2]],
		"frames exchanged":        join(file[:at[0]], file[at[1]:at[2]], file[at[0]:at[1]], file[at[2]:]),
		"frame twice":             join(file[:at[1]], file[at[0]:]),
		"frame of another":        join(file[:at[0]], other[at[0]:at[1]], file[at[1]:]),
		"header of another":       join(other[:at[0]], file[at[0]:]),
		"no frames":               file[:at[0]],
		"a byte behind it":        join(file, []byte{0}),
		"an empty frame":          join(file[:at[0]], []byte{0, 0, 0, 0}, file[at[0]:]),
		"a frame of great length": join(file[:at[0]], []byte{0xff, 0xff, 0xff, 0xff}, file[at[0]+4:]),
	} {
		if _, _, err := read(changed, root); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", name, err)
		}
	}
	for i := 0; i < len(file); i += 1 + len(file)/500 {
		b := bytes.Clone(file)
		b[i] ^= 1 << (i % 8)
		if _, _, err := read(b, root); err == nil {
			t.Errorf("bit of byte %d flipped: no error", i)
		}
		if _, _, err := read(file[:i], root); err == nil {
			t.Errorf("%d bytes of %d: no error", i, len(file))
		}
	}
	if _, _, err := read(file, newRoot(t)); !errors.Is(err, ErrRootKey) {
		t.Errorf("another root key: %v", err)
	}
}

// TestRecords writes what the format does not allow under the right key.
func TestRecords(t *testing.T) {
	root := newRoot(t)
	end := binary.BigEndian.AppendUint64([]byte{recordEnd}, 0)
	for name, plain := range map[string][]byte{
		"unknown record":     append([]byte{9}, end...),
		"no end":             {recordRow, 1, 'a', 0, 1, 'i', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0},
		"wrong count":        binary.BigEndian.AppendUint64([]byte{recordEnd}, 1),
		"end twice":          append(bytes.Clone(end), end...),
		"long table":         append([]byte{recordRow, keystore.MaxTable + 1}, make([]byte, 200)...),
		"no table":           append([]byte{recordRow, 0, 0, 1, 'i'}, make([]byte, 200)...),
		"long id":            append([]byte{recordRow, 1, 'a', 0xff, 0xff}, make([]byte, 1<<17)...),
		"long content":       append([]byte{recordRow, 1, 'a', 0, 1, 'i', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff}, end...),
		"content cut off":    append([]byte{recordRow, 1, 'a', 0, 1, 'i', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff}, end...),
		"id that is no text": append([]byte{recordRow, 1, 'a', 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}, end...),
	} {
		var out bytes.Buffer
		w, err := Create(&out, root, header)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.write(plain), w.seal(true)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(out.Bytes(), root); !errors.Is(err, ErrChanged) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen reads anything: without the root key nothing is accepted but what was
// written.
func FuzzOpen(f *testing.F) {
	root := newRoot(f)
	good := write(f, root, rows()[:2])
	if _, _, err := read(good, root); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\x00\x00\x00\x02{}\x00\x00\x00\x11"))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, _, err := read(file, root)
		if err == nil && !bytes.Equal(file, good) {
			t.Error("accepted what was not written")
		}
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChanged) && !errors.Is(err, ErrRootKey) {
			t.Errorf("error %v", err)
		}
		ReadHeader(bytes.NewReader(file))
	})
}

// FuzzRecords reads any plaintext: what is accepted is written the same.
func FuzzRecords(f *testing.F) {
	root := newRoot(f)
	f.Add(binary.BigEndian.AppendUint64([]byte{recordRow, 1, 'a', 0, 1, 'i', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, recordEnd}, 1))
	f.Add([]byte{recordEnd, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, plain []byte) {
		var out bytes.Buffer
		w, err := Create(&out, root, header)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.write(plain), w.seal(true)); err != nil {
			t.Fatal(err)
		}
		_, all, err := read(out.Bytes(), root)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChanged) {
				t.Errorf("error %v", err)
			}
			return
		}
		again := &Writer{out: io.Discard, plain: make([]byte, 0, frameSize)}
		for _, row := range all {
			if err := again.Put(row); err != nil {
				t.Fatal(err)
			}
		}
		if err := again.write(binary.BigEndian.AppendUint64([]byte{recordEnd}, again.rows)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.plain, plain) {
			t.Errorf("%x is written as %x", plain, again.plain)
		}
	})
}
