// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"crypto/elliptic"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// An editor makes random edits of a valid file, always the same ones.
type editor struct {
	*rand.Rand
	file     []byte
	sections []rawSection
	version  uint16
}

func newEditor(t *testing.T, seed uint64, file []byte) *editor {
	im, err := Parse(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	e := &editor{Rand: rand.New(rand.NewPCG(seed, 5)), file: file, version: im.Header.Version}
	for _, s := range im.Sections {
		e.sections = append(e.sections, rawSection{t: uint16(s.Type), data: file[s.DataOffset():s.end()]})
	}
	return e
}

// kinds are the kinds of edits. Each gets a copy of the file.
var kinds = []struct {
	name string
	edit func(e *editor, f []byte) []byte
}{
	{"bits", func(e *editor, f []byte) []byte {
		for range 1 + e.IntN(3) {
			f[e.IntN(len(f))] ^= 1 << e.IntN(8)
		}
		return f
	}},
	{"bytes", func(e *editor, f []byte) []byte {
		for range 1 + e.IntN(8) {
			f[e.IntN(len(f))] = byte(e.Uint32())
		}
		return f
	}},
	{"insert", func(e *editor, f []byte) []byte {
		return slices.Insert(f, e.IntN(len(f)+1), e.bytes(1+e.IntN(40))...)
	}},
	{"delete", func(e *editor, f []byte) []byte {
		from := e.IntN(len(f))
		return slices.Delete(f, from, min(len(f), from+1+e.IntN(40)))
	}},
	{"move", func(e *editor, f []byte) []byte {
		from := e.IntN(len(f))
		to := min(len(f), from+1+e.IntN(60))
		block := bytes.Clone(f[from:to])
		f = slices.Delete(f, from, to)
		return slices.Insert(f, e.IntN(len(f)+1), block...)
	}},
	{"swap", func(e *editor, _ []byte) []byte {
		s := slices.Clone(e.sections)
		i, j := e.IntN(len(s)), e.IntN(len(s))
		s[i], s[j] = s[j], s[i]
		return e.assemble(s)
	}},
	{"swap under the old table", func(e *editor, f []byte) []byte {
		s := slices.Clone(e.sections)
		i, j := e.IntN(len(s)), e.IntN(len(s))
		s[i], s[j] = s[j], s[i]
		return append(f[:HeaderSize], e.assemble(s)[HeaderSize:]...)
	}},
	{"types", func(e *editor, _ []byte) []byte {
		s := slices.Clone(e.sections)
		i, j := e.IntN(len(s)), e.IntN(len(s))
		s[i].t, s[j].t = s[j].t, s[i].t
		return e.assemble(s)
	}},
	{"drop or double", func(e *editor, _ []byte) []byte {
		s, i := slices.Clone(e.sections), e.IntN(len(e.sections))
		if e.IntN(2) == 0 {
			return e.assemble(slices.Delete(s, i, i+1))
		}
		return e.assemble(slices.Insert(s, e.IntN(len(s)+1), s[i]))
	}},
	{"data", func(e *editor, _ []byte) []byte {
		s, i := slices.Clone(e.sections), e.IntN(len(e.sections))
		at := e.IntN(len(s[i].data) + 1)
		s[i].data = slices.Insert(bytes.Clone(s[i].data), at, e.bytes(1+e.IntN(20))...)
		return e.assemble(s)
	}},
	{"border", func(e *editor, _ []byte) []byte {
		s, i := slices.Clone(e.sections), e.IntN(len(e.sections)-1)
		both := slices.Concat(s[i].data, s[i+1].data)
		at := e.IntN(len(both) + 1)
		s[i].data, s[i+1].data = both[:at], both[at:]
		return e.assemble(s)
	}},
	{"table", func(e *editor, f []byte) []byte {
		at := offOffsets + 8*e.IntN(2*MaxSections)
		if e.IntN(2) == 0 { // a place that is used
			at = []int{offOffsets, offSizes}[e.IntN(2)] + 8*e.IntN(len(e.sections))
		}
		v := binary.BigEndian.Uint64(f[at:])
		binary.BigEndian.PutUint64(f[at:], []uint64{v + 1, v - 1, v + 12, v ^ 1<<63, 0, e.Uint64(), uint64(e.IntN(len(f)))}[e.IntN(7)])
		return f
	}},
	{"count", func(e *editor, f []byte) []byte {
		binary.BigEndian.PutUint16(f[offCount:], uint16(e.IntN(MaxSections+2)))
		return f
	}},
	{"size in both places", func(e *editor, f []byte) []byte {
		i := e.IntN(len(e.sections))
		header := int(binary.BigEndian.Uint64(f[offOffsets+8*i:]))
		return both(i, header, uint64(e.IntN(len(f))))(f)
	}},
}

func (e *editor) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(e.Uint32())
	}
	return b
}

// assemble makes a file of sections with a right table under the old header.
func (e *editor) assemble(sections []rawSection) []byte {
	if len(sections) > MaxSections {
		sections = sections[:MaxSections]
	}
	f := assemble(e.version, 0, sections...)
	copy(f[offVersion:offCount], e.file[offVersion:offCount])
	copy(f[offCRC:HeaderSize], e.file[offCRC:])
	return f
}

// TestRandomEdits: what is claimed of a valid file that was edited at random.
//
//   - As it is, it is refused, unless the edit changed nothing.
//   - With its checksum put right, it is refused or has the measurements that the
//     definition gives for what it now holds. If it was and is signed, and the
//     signature is not refused, PCR0 is the same as before, and so is PCR8, unless
//     the edit was one of the certificate, which PCR8 measures: its own signature,
//     say, is nobody's to check.
//
// See TestUnmeasuredEdits for edits that must not move a register.
func TestRandomEdits(t *testing.T) { randomEdits(t, 1_000) }

func TestMillionRandomEdits(t *testing.T) {
	need.Long(t)
	randomEdits(t, 1_000_000)
}

func editFiles(t *testing.T) [][]byte {
	u := usual(t)
	return [][]byte{
		assemble(4, 0, u...),
		signedFile(t, newSigner(t, elliptic.P256())),
		assemble(4, 0, u[1], u[0], u[3], u[4], u[4], u[2]),
		assemble(2, 1, u[0], u[1], u[3]),
	}
}

func randomEdits(t *testing.T, count int) {
	var accepted, refused int
	for n, file := range editFiles(t) {
		im, before, err := judge(file, signatureClock)
		if err != nil {
			t.Fatal(err)
		}
		e := newEditor(t, uint64(n), file)
		for i := range count / 4 {
			kind := kinds[i%len(kinds)]
			edited := kind.edit(e, bytes.Clone(file))
			if _, _, err := judge(edited, signatureClock); err == nil && !bytes.Equal(edited, file) {
				t.Fatalf("file %d, edit %d (%s): accepted", n, i, kind.name)
			} else if err != nil {
				checkReason(t, err)
			}
			edited = fixCRC(edited)
			after, m, err := judge(edited, signatureClock)
			if err != nil {
				checkReason(t, err)
				refused++
				continue
			}
			accepted++
			checkEdited(t, im, after, &before, &m, edited)
			if t.Failed() {
				t.Fatalf("file %d, edit %d (%s) with the checksum put right", n, i, kind.name)
			}
		}
	}
	t.Logf("with the checksum put right, %d accepted, %d refused", accepted, refused)
	if accepted < count/20 || refused < count/20 {
		t.Error("the edits are too much alike to show anything")
	}
}

func checkReason(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*reason.Error](err); !ok || e.Rule() == "" {
		t.Fatalf("refused without a rule: %v", err)
	}
}

// checkEdited checks an accepted file against the definition and against the file
// it was made of.
func checkEdited(t *testing.T, old, im *Image, before, m *pcr.Measurements, file []byte) {
	t.Helper()
	if was, is := old.Signature(), im.Signature(); was != nil && is != nil {
		if bytes.Equal(was.Certificate.Raw, is.Certificate.Raw) {
			checkSame(t, before, m, 8)
		}
		checkSame(t, before, m, 0)
	}
	set := m.Set
	set.Remove(8)
	if want := naive(file); set != want {
		t.Errorf("measurements are not what the definition gives: %v", pcr.Compare(&want, &set))
	}
}

func checkSame(t *testing.T, before, m *pcr.Measurements, i pcr.Index) {
	t.Helper()
	was, had := before.Get(i)
	if is, has := m.Get(i); is != was || has != had {
		t.Errorf("%v of a signed file: %v, was %v", i, is, was)
	}
}

// TestUnmeasuredEdits changes bytes that no register covers and that do not say
// what the sections are: header fields besides the number of sections and the
// table, flags of sections, metadata, and the signature's section. With the
// checksum put right, the file is refused or PCR0, PCR1 and PCR2 are the same.
func TestUnmeasuredEdits(t *testing.T) {
	accepted := 0
	for n, file := range editFiles(t) {
		im, before, err := judge(file, signatureClock)
		if err != nil {
			t.Fatal(err)
		}
		places := unmeasuredPlaces(im)
		e := newEditor(t, uint64(100+n), file)
		for i := range 500 {
			edited := bytes.Clone(file)
			for range 1 + e.IntN(3) {
				edited[places[e.IntN(len(places))]] ^= byte(1 + e.IntN(255))
			}
			after, err := Parse(bytes.NewReader(edited), int64(len(edited)))
			if err != nil {
				checkReason(t, err)
				continue
			}
			after.Header.CRC32 = binary.BigEndian.Uint32(fixCRC(edited)[offCRC:])
			m, err := after.Measure(t.Context())
			if err != nil {
				t.Fatalf("file %d, edit %d: %v", n, i, err)
			}
			accepted++
			for _, r := range []pcr.Index{0, 1, 2} {
				was, _ := before.Get(r)
				if is, _ := m.Get(r); is != was {
					t.Fatalf("file %d, edit %d: %v moved", n, i, r)
				}
			}
		}
	}
	if accepted < 100 {
		t.Errorf("only %d edits were accepted", accepted)
	}
}

func unmeasuredPlaces(im *Image) []int {
	var places []int
	add := func(from, to int64) {
		for at := from; at < to; at++ {
			places = append(places, int(at))
		}
	}
	add(0, offCount)
	add(offUnused, offCRC)
	for _, s := range im.Sections {
		add(s.Offset+2, s.Offset+4)
		if !s.Type.measured() {
			add(s.DataOffset(), s.end())
		}
	}
	return places
}

// TestEveryPrefix: no file that was cut is taken, its checksum put right or not,
// nor is one with any bit of its header changed.
func TestEveryPrefix(t *testing.T) {
	for n, file := range editFiles(t) {
		for size := range file {
			for _, cut := range [][]byte{file[:size], fixCRC(file[:size])} {
				_, m, err := judge(cut, signatureClock)
				if err == nil || m.Len() != 0 {
					t.Fatalf("file %d, cut to %d bytes: accepted", n, size)
				}
				checkReason(t, err)
			}
		}
		for bit := range HeaderSize * 8 {
			changed := bytes.Clone(file)
			changed[bit/8] ^= 1 << (bit % 8)
			_, m, err := judge(changed, signatureClock)
			if err == nil || m.Len() != 0 {
				t.Fatalf("file %d, bit %d changed: accepted", n, bit)
			}
			checkReason(t, err)
		}
	}
}

// TestMeasuredEdits: whichever measured byte changes, and the checksum with it,
// PCR0 changes, and PCR1 or PCR2 as the section has it.
func TestMeasuredEdits(t *testing.T) {
	file := assemble(4, 0, usual(t)...)
	im, before, err := judge(file, signatureClock)
	if err != nil {
		t.Fatal(err)
	}
	last := im.Sections[len(im.Sections)-1]
	for _, s := range im.Sections {
		for at := s.DataOffset(); s.Type.measured() && at < s.end(); at++ {
			edited := bytes.Clone(file)
			edited[at] ^= 0x80
			_, m, err := judge(fixCRC(edited), signatureClock)
			if err != nil {
				t.Fatal(err)
			}
			for r, moved := range map[pcr.Index]bool{0: true, 1: s != last, 2: s == last} {
				was, _ := before.Get(r)
				if is, _ := m.Get(r); (is != was) != moved {
					t.Errorf("offset %d of %v: %v moved: %v", at, s.Type, r, !moved)
				}
			}
		}
	}
}
