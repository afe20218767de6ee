// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/reason"
)

// A sparse file claims a size and has nothing but its header.
type sparse struct {
	header []byte
	size   int64
}

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), s.size-off))
	clear(p[:n])
	if off < int64(len(s.header)) {
		copy(p[:n], s.header[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// TestMemory: neither size of a file nor its claims make memory grow.
func TestMemory(t *testing.T) {
	const size = 64 << 20
	file := assemble(4, 0, rawSection{1, 0, []byte("k")}, rawSection{2, 0, nil}, rawSection{5, 0, testMetadataBytes(t)}, rawSection{3, 0, nil})
	last := len(file) - SectionHeaderSize
	binary.BigEndian.PutUint64(file[offSizes+8*3:], size)
	binary.BigEndian.PutUint64(file[last+4:], size)
	big := sparse{file, int64(len(file)) + size}
	grown := allocated(func() {
		im, err := Parse(big, big.size)
		if err != nil {
			t.Fatal(err)
		}
		// All zeros have another checksum than this, which is found at the end.
		if _, err := im.Measure(context.Background()); err == nil {
			t.Fatal("measured with a wrong checksum")
		}
	})
	if grown > 4<<20 {
		t.Errorf("measuring %d bytes allocated %d", size, grown)
	}
	for _, e := range edits {
		bad := fixCRC(e.change(assemble(4, 0, usual(t)...)))
		if grown := allocated(func() { _, _ = Parse(bytes.NewReader(bad), int64(len(bad))) }); grown > 1<<20 {
			t.Errorf("%s: allocated %d", e.name, grown)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A counter counts what is read of a file.
type counter struct {
	io.ReaderAt
	read int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.read += int64(n)
	return n, err
}

// TestHugeClaims: a file of a tebibyte that is malformed anywhere but in the data
// of kernel and ramdisks is refused after a look at its headers.
func TestHugeClaims(t *testing.T) {
	const tebi = 1 << 40
	// claim returns the begin of a file whose last section, of that type, has size
	// bytes by its header and by the table; the sizes are relative to all that is left.
	claim := func(kind uint16, more int64) []byte {
		var sections []rawSection
		for _, s := range []rawSection{{1, 0, []byte("k")}, {2, 0, []byte("c")}, {5, 0, testMetadataBytes(t)}, {4, 0, nil}} {
			if s.t != kind && s.t != 4 {
				sections = append(sections, s)
			}
		}
		last := len(sections)
		f := assemble(4, 0, append(sections, rawSection{kind, 0, nil})...)
		return both(last, len(f)-SectionHeaderSize, uint64(tebi-int64(len(f))+more))(f)
	}
	absolute := func(f []byte, size uint64) []byte { return both(3, len(f)-SectionHeaderSize, size)(f) }
	ramdisk := func(more int64) []byte { return claim(3, more) }
	for _, c := range []struct {
		name, rule string
		header     []byte
	}{
		{"one byte too few", "eif.trailing", ramdisk(-1)},
		{"one byte too many", "eif.section.bounds", ramdisk(1)},
		{"2^63", "eif.section.bounds", absolute(ramdisk(0), 1<<63)},
		{"2^64-1", "eif.section.bounds", absolute(ramdisk(0), math.MaxUint64)},
		{"sizes differ", "eif.table.size", put64(offSizes+8*3, 7)(ramdisk(0))},
		{"a section too many", "eif.section.overlap", put16(offCount, 5)(ramdisk(0))},
		{"the next section lies in zeros", "eif.section.invalid",
			put64(offOffsets+8*4, tebi-SectionHeaderSize)(put16(offCount, 5)(ramdisk(-SectionHeaderSize)))},
		{"all is command line", "eif.cmdline.size", claim(2, 0)},
		{"all is metadata", "eif.metadata.size", claim(5, 0)},
		{"all is signature", "eif.signature.size", claim(4, 0)},
		{"flag", "eif.header.flags", put16(offFlags, 2)(ramdisk(0))},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &counter{ReaderAt: sparse{c.header, tebi}}
			var err error
			grown := allocated(func() { _, err = Parse(r, tebi) })
			if refusal, ok := errors.AsType[*reason.Error](err); !ok || refusal.Rule() != c.rule {
				t.Fatalf("got %v, want %s", err, c.rule)
			}
			if r.read > 4096 || grown > 1<<20 {
				t.Errorf("%d bytes were read, %d allocated", r.read, grown)
			}
		})
	}
	// With nothing wrong, the data are what is left to read.
	if im, err := Parse(sparse{ramdisk(0), tebi}, tebi); err != nil || im.Size() != tebi {
		t.Errorf("a sound file: %v", err)
	}
}

// TestHostileMetadata: metadata full of anything take little memory to be refused,
// or to be described.
func TestHostileMetadata(t *testing.T) { hostileMetadata(t, MaxMetadata/16) }

func TestHostileMetadataInFull(t *testing.T) {
	need.Long(t)
	hostileMetadata(t, MaxMetadata)
}

func hostileMetadata(t *testing.T, size int) {
	const begin = `{"ImageName":"a","ImageVersion":"b","BuildMetadata":{"BuildTime":"c","BuildTool":"d","BuildToolVersion":"e",` +
		`"OperatingSystem":"f","KernelVersion":"g"},"DockerInfo":null,"CustomMetadata":`
	fill := func(open string, item func(int) string, end string) string {
		var b strings.Builder
		b.WriteString(begin + open)
		for i := 0; b.Len() < size-100; i++ {
			b.WriteString(item(i))
		}
		return b.String() + end + "}"
	}
	always := func(s string) func(int) string { return func(int) string { return s } }
	nested := func(open, inner, end string, n int) string {
		return begin + strings.Repeat(open, n) + inner + strings.Repeat(end, n) + "}"
	}
	for _, c := range []struct{ name, data, rule string }{
		{"lists never closed", fill("", always("["), ""), "eif.metadata.json"},
		{"objects never closed", fill("", always(`{"a":`), ""), "eif.metadata.json"},
		{"5000 levels", nested("[", "", "]", 5000), "eif.metadata.json"},
		{"128 levels", nested("[", "", "]", 127), "eif.metadata.json"},
		{"128 levels of objects", nested(`{"a":`, "0", "}", 127), "eif.metadata.json"},
		{"127 levels", nested("[", "", "]", 126), ""},
		{"127 levels of objects", nested(`{"a":`, "0", "}", 126), ""},
		{"empty objects", fill("[", always("{},"), "0]"), ""},
		{"empty lists", fill("[", always("[],"), "0]"), ""},
		{"numbers", fill("[", always("0,"), "0]"), ""},
		{"keys", fill("{", func(i int) string { return fmt.Sprintf(`"%x":0,`, i) }, `"z":0}`), ""},
		{"long number", fill("1", always("0"), ""), ""},
		{"escapes", fill(`"`, always(`\u0000`), `"`), ""},
		{"deep key twice", begin + `[{"a":[{"b":1,"c":2,"b":3}]}]}`, "eif.metadata.duplicate"},
		{"deep key twice, once escaped", begin + `[{"b":1,"\u0062":3}]}`, "eif.metadata.duplicate"},
		{"same key in two objects", begin + `[{"b":1},{"b":1,"c":{"b":1}}]}`, ""},
		{"high surrogate", begin + `"\ud800"}`, "eif.metadata.json"},
		{"high surrogate before a letter", begin + `"\ud800\u0041"}`, "eif.metadata.json"},
		{"low surrogate", begin + `"\udc00"}`, "eif.metadata.json"},
		{"pair the wrong way round", begin + `"\udc00\ud800"}`, "eif.metadata.json"},
		{"pair", begin + `"\ud83d\ude00x"}`, ""},
		{"escaped backslash before u", begin + `"\\ud800"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m *Metadata
			var err error
			grown := allocated(func() {
				if m, err = ParseMetadata([]byte(c.data)); err == nil {
					_, err = json.MarshalIndent(&Description{Metadata: &MetadataDescription{m}}, "", "  ")
				}
			})
			if c.rule == "" && err != nil {
				t.Fatal(err)
			}
			if refusal, ok := errors.AsType[*reason.Error](err); c.rule != "" && (!ok || refusal.Rule() != c.rule || m != nil) {
				t.Fatalf("got %v, want %s", err, c.rule)
			}
			// What is described is decoded and encoded again; most is garbage soon.
			if limit := map[bool]int{true: 256, false: 64}[err == nil] * size; grown > uint64(limit) {
				t.Errorf("%d bytes were allocated", grown)
			}
		})
	}
}

// TestMetadataOffsets: a refusal names the place in the file.
func TestMetadataOffsets(t *testing.T) {
	good := string(testMetadataBytes(t))
	for data, offset := range map[string]int{
		good[:20]:                    20,
		good + "x":                   len(good),
		good[:9] + "\xff" + good[9:]: 9,
		"":                           0,
		`{"a":"\ud800"}`:             6,
		`{"a":1,"a":2}`:              7,
	} {
		_, err := parseMetadata([]byte(data), 1000)
		if want := fmt.Sprintf("offset %d: ", 1000+offset); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", data, err, want)
		}
	}
}

// TestStaleTable: a stale size that can be repaired is told from others.
func TestStaleTable(t *testing.T) {
	good := signedFile(t, newSigner(t, elliptic.P256()))
	im, err := Parse(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(im.Sections, func(s Section) bool { return s.Type == SignatureSection })
	header := int(im.Sections[at].Offset)
	for _, c := range []struct {
		name       string
		change     func([]byte) []byte
		repairable bool
	}{
		{"too large", put64(offSizes+8*at, uint64(im.Sections[at].Size)+100), true},
		{"too small", put64(offSizes+8*at, 1), true},
		{"beyond the file", put64(offSizes+8*at, 1<<63), true},
		{"of the kernel", put64(offSizes, 1), false},
		{"in the section header", put64(header+4, 1), false},
		{"in the section header, beyond the file", put64(header+4, 1<<63), false},
		{"and a rest", func(f []byte) []byte { return append(put64(offSizes+8*at, 1)(f), 0) }, false},
	} {
		_, _, err := judge(fixCRC(c.change(bytes.Clone(good))), signatureClock)
		if err == nil || !strings.Contains(err.Error(), "(eif.table.size)") || strings.Contains(err.Error(), "cretula eif repair") != c.repairable {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
