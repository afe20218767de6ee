// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cretula/cretula/internal/memfile"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// An edit changes a good file. Its checksum is put right afterwards unless
// keepCRC is set.
type edit struct {
	name    string
	change  func(file []byte) []byte
	keepCRC bool
	reason  reason.Reason
	rule    string
	offset  string // that the message must begin with
}

func put16(at int, v uint16) func([]byte) []byte {
	return func(f []byte) []byte { binary.BigEndian.PutUint16(f[at:], v); return f }
}

func put64(at int, v uint64) func([]byte) []byte {
	return func(f []byte) []byte { binary.BigEndian.PutUint64(f[at:], v); return f }
}

// both changes a section's size in the table and in its own header.
func both(section, header int, size uint64) func([]byte) []byte {
	return func(f []byte) []byte {
		binary.BigEndian.PutUint64(f[offSizes+8*section:], size)
		binary.BigEndian.PutUint64(f[header+4:], size)
		return f
	}
}

// Of the usual image: the second section's header is at 568, its data have 13
// bytes, so that the third begins at 593.
const second, third = 568, 593

var edits = []edit{
	{"empty", func([]byte) []byte { return nil }, true, reason.Malformed, "eif.header.size", "offset 0:"},
	{"cut in the header", func(f []byte) []byte { return f[:547] }, true, reason.Malformed, "eif.header.size", "offset 547:"},
	{"magic", func(f []byte) []byte { f[0] = '-'; return f }, false, reason.Malformed, "eif.header.magic", "offset 0:"},
	{"version 0", put16(offVersion, 0), false, reason.Unsupported, "eif.header.version", "offset 4:"},
	{"version 1", put16(offVersion, 1), false, reason.Unsupported, "eif.header.version", "offset 4:"},
	{"version 5", put16(offVersion, 5), false, reason.Unsupported, "eif.header.version", "offset 4:"},
	{"version 1024, bytes swapped", put16(offVersion, 1024), false, reason.Unsupported, "eif.header.version", "offset 4:"},
	{"flag", put16(offFlags, 2), false, reason.Unsupported, "eif.header.flags", "offset 6:"},
	{"high flag", put16(offFlags, 0x8000), false, reason.Unsupported, "eif.header.flags", "offset 6:"},
	{"reserved", put16(offReserved, 1), false, reason.Unsupported, "eif.header.reserved", "offset 24:"},
	{"unused", put16(offUnused+2, 1), false, reason.Unsupported, "eif.header.reserved", "offset 540:"},
	{"no sections", put16(offCount, 0), false, reason.Malformed, "eif.header.sections", "offset 26:"},
	{"one section", put16(offCount, 1), false, reason.Malformed, "eif.header.sections", "offset 26:"},
	{"33 sections", put16(offCount, 33), false, reason.Malformed, "eif.header.sections", "offset 26:"},
	{"65535 sections", put16(offCount, 65535), false, reason.Malformed, "eif.header.sections", "offset 26:"},
	{"one section fewer", put16(offCount, 4), false, reason.Malformed, "eif.table.unused", "offset 60:"},
	{"size in an unused place", put64(offSizes+8*31, 1), false, reason.Malformed, "eif.table.unused", "offset 276:"},
	{"one section more", put16(offCount, 6), false, reason.Malformed, "eif.section.overlap", "offset 68:"},
	{"first section in the header", put64(offOffsets, 547), false, reason.Malformed, "eif.section.overlap", "offset 28:"},
	{"overlap", put64(offOffsets+8, second-1), false, reason.Malformed, "eif.section.overlap", "offset 36:"},
	{"all at the same place", put64(offOffsets+8, HeaderSize), false, reason.Malformed, "eif.section.overlap", "offset 36:"},
	{"gap", put64(offOffsets+8, second+1), false, reason.Malformed, "eif.section.gap", "offset 36:"},
	{"hole after the header", hole, false, reason.Malformed, "eif.section.gap", "offset 28:"},
	{"offset behind the end", put64(offOffsets+8, 1<<20), false, reason.Malformed, "eif.section.bounds", "offset 36:"},
	{"offset 2^63", put64(offOffsets+8, 1<<63), false, reason.Malformed, "eif.section.bounds", "offset 36:"},
	{"offset 2^64-1", put64(offOffsets+8, math.MaxUint64), false, reason.Malformed, "eif.section.bounds", "offset 36:"},
	{"size 2^62", both(1, second, 1<<62), false, reason.Malformed, "eif.section.bounds", "offset 292:"},
	{"size 2^63", both(1, second, 1<<63), false, reason.Malformed, "eif.section.bounds", "offset 292:"},
	{"size 2^64-1", both(1, second, math.MaxUint64), false, reason.Malformed, "eif.section.bounds", "offset 292:"},
	{"size 2^64-12, wraps to zero", both(1, second, math.MaxUint64-11), false, reason.Malformed, "eif.section.bounds", "offset 292:"},
	{"size one too many", func(f []byte) []byte {
		const last = uint64(len("the second ramdisk"))
		return both(4, len(f)-int(last)-SectionHeaderSize, last+1)(f)
	}, false, reason.Malformed, "eif.section.bounds", "offset 316:"},
	{"stale size in the table", put64(offSizes+8, 12), false, reason.Malformed, "eif.table.size", "offset 572:"},
	{"stale size in the section", put64(second+4, 12), false, reason.Malformed, "eif.table.size", "offset 572:"},
	{"cut in the last section", func(f []byte) []byte { return f[:len(f)-1] }, false, reason.Malformed, "eif.section.bounds", "offset 316:"},
	{"cut in a section header", func(f []byte) []byte { return f[:second+5] }, false, reason.Malformed, "eif.section.bounds", "offset 568:"},
	{"trailing byte", func(f []byte) []byte { return append(f, 0) }, false, reason.Malformed, "eif.trailing", ""},
	{"trailing section", func(f []byte) []byte { return append(f, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'x') }, false, reason.Malformed, "eif.trailing", ""},
	{"type 0", put16(second, 0), false, reason.Malformed, "eif.section.invalid", "offset 568:"},
	{"section flags", put16(second+2, 1), false, reason.Unsupported, "eif.section.flags", "offset 570:"},
	{"newline in the command line", func(f []byte) []byte { f[third-1] = '\n'; return f }, false, reason.Malformed, "eif.cmdline.content", "offset 592:"},
	{"NUL in the command line", func(f []byte) []byte { f[second+SectionHeaderSize] = 0; return f }, false, reason.Malformed, "eif.cmdline.content", "offset 580:"},
	{"checksum", func(f []byte) []byte { f[offCRC] ^= 1; return f }, true, reason.Mismatch, "eif.crc", "offset 544:"},
	{"one bit of the kernel", func(f []byte) []byte { f[560] ^= 1; return f }, true, reason.Mismatch, "eif.crc", "offset 544:"},
	{"one bit of the default memory", func(f []byte) []byte { f[15] ^= 1; return f }, true, reason.Mismatch, "eif.crc", "offset 544:"},
}

// hole moves everything 64 bytes on, as in an image that is known to boot.
func hole(f []byte) []byte {
	f = slices.Insert(f, HeaderSize, make([]byte, 64)...)
	for i := range 5 {
		at := offOffsets + 8*i
		binary.BigEndian.PutUint64(f[at:], binary.BigEndian.Uint64(f[at:])+64)
	}
	return f
}

func checkRefusal(t *testing.T, file []byte, why reason.Reason, rule, offset string) {
	t.Helper()
	_, m, err := judge(file, time.Now())
	refusal, ok := errors.AsType[*reason.Error](err)
	if !ok {
		t.Fatalf("got %v, want %s", err, rule)
	}
	if refusal.Reason() != why || refusal.Rule() != rule || !strings.HasPrefix(err.Error(), offset) {
		t.Errorf("got %v %v, want %v %s at %s", refusal.Reason(), err, why, rule, offset)
	}
	if m.Len() != 0 && rule != "eif.signature.value" {
		t.Error("measurements of a refused file")
	}
}

func TestRefusals(t *testing.T) {
	good := assemble(4, 0, usual(t)...)
	if _, _, err := judge(good, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			file := e.change(slices.Clone(good))
			if !e.keepCRC {
				file = fixCRC(file)
			}
			checkRefusal(t, file, e.reason, e.rule, e.offset)
		})
	}
}

func TestComposition(t *testing.T) {
	u := usual(t)
	kernel, cmdline, metadata, ramdisk := u[0], u[1], u[2], u[3]
	section := func(t uint16, data string) rawSection { return rawSection{t, 0, []byte(data)} }
	for _, c := range []struct {
		name     string
		version  uint16
		sections []rawSection
		reason   reason.Reason
		rule     string
	}{
		{"two kernels", 4, []rawSection{kernel, kernel, cmdline, metadata, ramdisk}, reason.Malformed, "eif.kernel.count"},
		{"no kernel", 4, []rawSection{cmdline, metadata}, reason.Malformed, "eif.kernel.count"},
		{"two command lines", 4, []rawSection{kernel, cmdline, cmdline, metadata}, reason.Malformed, "eif.cmdline.count"},
		{"no command line", 4, []rawSection{kernel, metadata, ramdisk}, reason.Malformed, "eif.cmdline.count"},
		{"ramdisk and no kernel", 4, []rawSection{cmdline, ramdisk, metadata}, reason.Malformed, "eif.kernel.count"},
		{"two ramdisks before the kernel", 4, []rawSection{cmdline, ramdisk, ramdisk, kernel, metadata}, reason.Malformed, "eif.kernel.order"},
		{"empty kernel", 4, []rawSection{section(1, ""), cmdline, metadata}, reason.Malformed, "eif.kernel.size"},
		{"long command line", 4, []rawSection{kernel, {2, 0, bytes.Repeat([]byte("c"), MaxCmdline+1)}, metadata}, reason.Malformed, "eif.cmdline.size"},
		{"signature in version 2", 2, []rawSection{kernel, cmdline, section(4, "")}, reason.Malformed, "eif.signature.cbor"},
		{"ramdisk before the kernel", 4, []rawSection{cmdline, ramdisk, kernel, metadata}, reason.Malformed, "eif.kernel.order"},
		{"no metadata", 4, []rawSection{kernel, cmdline, ramdisk}, reason.Malformed, "eif.metadata.count"},
		{"two metadata", 4, []rawSection{kernel, cmdline, metadata, metadata}, reason.Malformed, "eif.metadata.count"},
		{"two signatures", 4, []rawSection{kernel, cmdline, metadata, section(4, "x"), section(4, "x")}, reason.Malformed, "eif.signature.count"},
		{"type 6", 4, []rawSection{kernel, cmdline, metadata, section(6, "")}, reason.Unsupported, "eif.section.type"},
		{"type 65535", 4, []rawSection{kernel, cmdline, metadata, section(65535, "")}, reason.Unsupported, "eif.section.type"},
		{"unknown type and no kernel: the graver one counts", 4, []rawSection{cmdline, metadata, section(6, "")}, reason.Malformed, "eif.kernel.count"},
		{"metadata in version 3", 3, []rawSection{kernel, cmdline, metadata}, reason.Unsupported, "eif.section.type"},
		{"large signature", 4, []rawSection{kernel, cmdline, metadata, {4, 0, make([]byte, MaxSignature+1)}}, reason.Malformed, "eif.signature.size"},
		{"large metadata", 4, []rawSection{kernel, cmdline, {5, 0, bytes.Repeat([]byte(" "), MaxMetadata+1)}}, reason.Malformed, "eif.metadata.size"},
		{"empty metadata", 4, []rawSection{kernel, cmdline, section(5, "")}, reason.Malformed, "eif.metadata.json"},
		{"empty signature", 4, []rawSection{kernel, cmdline, metadata, section(4, "")}, reason.Malformed, "eif.signature.cbor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkRefusal(t, assemble(c.version, 0, c.sections...), c.reason, c.rule, "offset ")
		})
	}
}

// TestAccepted has what differs from the usual image and is right.
func TestAccepted(t *testing.T) {
	u := usual(t)
	kernel, cmdline, metadata, ramdisk := u[0], u[1], u[2], u[3]
	many := []rawSection{kernel, cmdline, metadata}
	for len(many) < MaxSections {
		many = append(many, rawSection{3, 0, []byte(strings.Repeat("r", len(many)))})
	}
	for _, c := range []struct {
		name           string
		version, flags uint16
		sections       []rawSection
	}{
		{"usual", 4, 0, u},
		{"aarch64", 4, 1, u},
		{"Bottlerocket's flags", 4, FlagPCIe | FlagPCIeVirtio, u},
		{"version 3", 3, 0, []rawSection{kernel, cmdline, ramdisk}},
		{"version 2", 2, 0, []rawSection{kernel, cmdline, ramdisk, ramdisk}},
		{"no ramdisk", 4, 0, []rawSection{kernel, cmdline, metadata}},
		{"one ramdisk", 4, 0, []rawSection{kernel, cmdline, metadata, ramdisk}},
		{"empty command line", 4, 0, []rawSection{kernel, {2, 0, nil}, metadata, ramdisk}},
		{"longest command line", 4, 0, []rawSection{kernel, {2, 0, bytes.Repeat([]byte("c"), MaxCmdline)}, metadata, ramdisk}},
		{"empty ramdisk", 4, 0, []rawSection{kernel, cmdline, metadata, {3, 0, nil}}},
		{"command line first", 4, 0, []rawSection{cmdline, kernel, metadata, ramdisk, ramdisk}},
		{"command line between ramdisks", 4, 0, []rawSection{metadata, kernel, ramdisk, ramdisk, cmdline, ramdisk}},
		{"command line last", 4, 0, []rawSection{kernel, ramdisk, metadata, cmdline}},
		{"32 sections", 4, 0, many},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := assemble(c.version, c.flags, c.sections...)
			im, m, err := judge(file, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if want := naive(file); m.Set != want {
				t.Errorf("measurements differ: %v", pcr.Compare(&want, &m.Set))
			}
			if im.Size() != int64(len(file)) || (im.Metadata() == nil) != (c.version < 4) || im.Signature() != nil {
				t.Errorf("%+v", im)
			}
			for i, s := range c.sections {
				data, err := io.ReadAll(im.Section(i))
				if err != nil || !bytes.Equal(data, s.data) || im.Sections[i].Type != SectionType(s.t) {
					t.Errorf("section %d: %q, %v", i, data, err)
				}
			}
		})
	}
}

// TestLargeSections measures sections that take several buffers.
func TestLargeSections(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	blob := func(n int) []byte {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		return data
	}
	spec := func() Spec {
		return Spec{Cmdline: "c", Metadata: testMetadataBytes(t), Kernel: Bytes(blob(bufferSize))}
	}
	for _, sizes := range [][]int{{0}, {1}, {bufferSize}, {bufferSize + 1, bufferSize - 1}, {3 * bufferSize, 5*bufferSize + 7, 1}} {
		s := spec()
		for _, n := range sizes {
			s.Ramdisks = append(s.Ramdisks, Bytes(blob(n)))
		}
		var out memfile.File
		written, err := Write(context.Background(), &out, s)
		if err != nil {
			t.Fatal(err)
		}
		_, m, err := judge(out.Data, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if want := naive(out.Data); m.Set != want || written.Set != want {
			t.Errorf("ramdisks of %v: measurements differ", sizes)
		}
	}
}

func TestReadErrors(t *testing.T) {
	file := assemble(4, 0, usual(t)...)
	// A file that is shorter than it was said to be.
	if _, err := Parse(bytes.NewReader(file[:third+3]), int64(len(file))); err == nil || !strings.Contains(err.Error(), "eif.truncated") {
		t.Errorf("short file: %v", err)
	}
	broken := errors.New("broken disk")
	if _, err := Parse(failingAt{file, 0, broken}, int64(len(file))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, ok := reason.Of(broken); ok {
		t.Error("a read error has a reason")
	}
	im, err := Parse(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	im.r = failingAt{file, third + 20, broken}
	if m, err := im.Measure(context.Background()); !errors.Is(err, broken) || m.Len() != 0 {
		t.Errorf("got %v", err)
	}
	// Of a file that changes what was judged is measured, and nothing else.
	for at, noticed := range map[int]bool{second - 1: true, second + 1: false, second + SectionHeaderSize: false, third + 20: false, len(file) - 1: true} {
		changed := slices.Clone(file)
		changed[at] ^= 3
		im.r = bytes.NewReader(changed)
		m, err := im.Measure(context.Background())
		if noticed {
			if err == nil || !strings.Contains(err.Error(), "eif.crc") {
				t.Errorf("changed at %d: %v", at, err)
			}
		} else if err != nil || m.Set != naive(file) {
			t.Errorf("changed at %d: %v", at, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	im.r = bytes.NewReader(file)
	if _, err := im.Measure(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// failingAt fails for every read that goes beyond an offset.
type failingAt struct {
	data []byte
	from int64
	err  error
}

func (f failingAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return copy(p, f.data[off:]), nil
}

func TestWriteErrors(t *testing.T) {
	good := func() Spec {
		return Spec{Kernel: Bytes([]byte("k")), Cmdline: "c", Metadata: testMetadataBytes(t), Ramdisks: []Source{Bytes([]byte("r"))}}
	}
	for name, change := range map[string]func(*Spec){
		"architecture":      func(s *Spec) { s.Arch = 2 },
		"no kernel":         func(s *Spec) { s.Kernel = Source{} },
		"newline":           func(s *Spec) { s.Cmdline = "c\n" },
		"long command line": func(s *Spec) { s.Cmdline = strings.Repeat("c", MaxCmdline+1) },
		"NUL":               func(s *Spec) { s.Cmdline = "c\x00" },
		"no ramdisk":        func(s *Spec) { s.Ramdisks = nil },
		"too many":          func(s *Spec) { s.Ramdisks = make([]Source, 30) },
		"no metadata":       func(s *Spec) { s.Metadata = nil },
		"short source":      func(s *Spec) { s.Kernel.Size++ },
		"long source":       func(s *Spec) { s.Kernel.Size = 1; s.Kernel.Reader = strings.NewReader("kk") },
		"failing source":    func(s *Spec) { s.Ramdisks[0].Reader = iotest.ErrReader(errors.New("broken")) },
		"negative size":     func(s *Spec) { s.Kernel.Size = -1 },
		"sizes overflow":    func(s *Spec) { s.Kernel.Size = math.MaxInt64 },
		"two huge sources":  func(s *Spec) { s.Kernel.Size = 1 << 62; s.Ramdisks[0].Size = 1 << 62 },
	} {
		spec := good()
		change(&spec)
		m, err := Write(context.Background(), &memfile.File{}, spec)
		if err == nil || m.Len() != 0 {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, &memfile.File{}, good()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestWriteInside writes an image that does not begin at the file's start.
func TestWriteInside(t *testing.T) {
	spec := func() Spec {
		return Spec{Kernel: Bytes([]byte("k")), Cmdline: "c", Metadata: testMetadataBytes(t), Ramdisks: []Source{Bytes([]byte("r"))}}
	}
	out := memfile.File{Data: []byte("before"), Pos: 6}
	if _, err := Write(context.Background(), &out, spec()); err != nil {
		t.Fatal(err)
	}
	if alone := write(t, spec()); string(out.Data) != "before"+string(alone) || out.Pos != len(out.Data) {
		t.Error("the image differs")
	}
}

func TestNames(t *testing.T) {
	for _, a := range []Arch{ArchX86_64, ArchAArch64} {
		if got, err := ParseArch(a.String()); err != nil || got != a {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	if _, err := ParseArch("sparc"); err == nil {
		t.Error("sparc accepted")
	}
	if s := fmt.Sprint(Arch(7), SectionType(9), Kernel, Cmdline, Ramdisk, SignatureSection, MetadataSection); s != "arch(7) type 9 kernel cmdline ramdisk signature metadata" {
		t.Error(s)
	}
}

func BenchmarkMeasure(b *testing.B) {
	const size = 64 << 20
	spec := Spec{
		Kernel: Bytes(make([]byte, 8<<20)), Cmdline: "c", Metadata: testMetadataBytes(b),
		Ramdisks: []Source{Bytes(make([]byte, 1<<20)), Bytes(make([]byte, size-9<<20))},
	}
	file := write(b, spec)
	b.Run("image", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			if _, _, err := judge(file, time.Time{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sha384", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			algorithms[1].sum(file)
		}
	})
}
