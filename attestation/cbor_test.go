// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"encoding/hex"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// walk reads one item and returns the rules it breaks, and how much was read.
func walk(data []byte) (rulesBroken []string, read int) {
	var f findings
	w := &walker{data: data, f: &f}
	f.addFault(w.skip(0))
	for _, p := range f.list {
		rulesBroken = append(rulesBroken, p.Rule)
	}
	return rulesBroken, w.off
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAppendixA walks the examples of RFC 8949, Appendix A.
func TestAppendixA(t *testing.T) {
	for _, good := range []string{
		"00", "01", "0a", "17", "1818", "1819", "1864", "1903e8", "1a000f4240", "1b000000e8d4a51000",
		"1bffffffffffffffff", "c249010000000000000000", "3bffffffffffffffff", "c349010000000000000000",
		"20", "29", "3863", "3903e7", "f90000", "f98000", "f93c00", "fb3ff199999999999a", "f93e00", "f97bff",
		"fa47c35000", "fa7f7fffff", "fb7e37e43c8800759c", "f90001", "f90400", "f9c400", "fbc010666666666666",
		"f97c00", "f97e00", "f9fc00", "f4", "f5", "f6", "f7", "f0", "f8ff", "c074323031332d30332d32315432303a30343a30305a",
		"c11a514b67b0", "c1fb41d452d9e8000000", "d74401020304", "d818456449455446", "40", "4401020304", "60", "6161",
		"6449455446", "62225c", "62c3bc", "63e6b0b4", "64f0908591", "80", "83010203", "8301820203820405",
		"98190102030405060708090a0b0c0d0e0f101112131415161718181819", "a0", "a201020304", "a26161016162820203",
		"826161a161626163", "a56161614161626142616361436164614461656145",
	} {
		data := unhex(t, good)
		if broken, read := walk(data); len(broken) > 0 || read != len(data) {
			t.Errorf("%s: %v, %d bytes read", good, broken, read)
		}
	}
	for _, indefinite := range []string{
		"5f42010243030405ff", "7f657374726561646d696e67ff", "9fff", "9f018202039f0405ffff", "9f01820203820405ff",
		"83018202039f0405ff", "83019f0203ff820405", "9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff",
		"bf61610161629f0203ffff", "826161bf61626163ff", "bf6346756ef563416d7421ff",
	} {
		data := unhex(t, indefinite)
		broken, read := walk(data)
		if read != len(data) || len(broken) == 0 || slices.ContainsFunc(broken, func(r string) bool { return r != "doc.cbor.indefinite" }) {
			t.Errorf("%s: %v, %d bytes read", indefinite, broken, read)
		}
	}
	for _, wide := range []string{"fa00000000", "fa7f800000", "fa7fc00000", "faff800000", "fb7ff0000000000000", "fb7ff8000000000000", "fbfff0000000000000",
		"1817", "190018", "1a00000018", "1b0000000000000018", "580100", "790001 61", "9a00000000", "bb0000000000000000", "d812 00", "3800"} {
		if broken, _ := walk(unhex(t, wide)); !slices.Equal(broken, []string{"doc.cbor.minimal"}) {
			t.Errorf("%s: %v", wide, broken)
		}
	}
}

// TestAppendixF walks what RFC 8949, Appendix F.1, has as not well-formed.
func TestAppendixF(t *testing.T) {
	for _, bad := range []string{
		// End of input in a head, a string, an array or map, a tag.
		"18", "19", "1a", "1b", "1901", "1a0102", "1b01020304050607", "38", "58", "78", "98", "9a01ff00", "b8", "d8", "f8", "f900", "fa0000", "fb000000",
		"41", "61", "5affffffff00", "5bffffffffffffffff010203", "7affffffff00", "7b7fffffffffffffff010203",
		"81", "818181818181818181", "8200", "a1", "a20102", "a100", "a2000000",
		"5f4100", "7f6100", "9f", "9f0102", "bf", "bf01020102", "819f", "9f8000", "9f9f9f9f9fffffffff", "9f819f819f9fffffff", "c0",
		// Reserved additional information.
		"1c", "1d", "1e", "3c", "3d", "3e", "5c", "5d", "5e", "7c", "7d", "7e", "9c", "9d", "9e", "bc", "bd", "be", "dc", "dd", "de", "fc", "fd", "fe",
		// Reserved simple values.
		"f800", "f801", "f818", "f81f",
		// Chunks of another type, or of indefinite length.
		"5f00ff", "5f21ff", "5f6100ff", "5f80ff", "5fa0ff", "5fc000ff", "5fe0ff", "7f4100ff", "5f5f4100ffff", "7f7f6100ffff",
		// A break where there is none, and the odd map.
		"ff", "81ff", "8200ff", "a1ff", "a1ff00", "a100ff", "a20000ff", "9f81ff", "9f829f819f9fffffffff", "bf00ff", "bf000000ff",
		// Major types that cannot be indefinite.
		"1f", "3f", "df",
	} {
		if broken, _ := walk(unhex(t, bad)); !slices.Contains(broken, "doc.cbor") {
			t.Errorf("%s: %v", bad, broken)
		}
	}
}

func TestLimitsOfTheWalker(t *testing.T) {
	deep := func(n int) []byte { return append(bytes.Repeat([]byte{0x81}, n), 0) }
	if broken, _ := walk(deep(maxDepth)); broken != nil {
		t.Errorf("%d deep: %v", maxDepth, broken)
	}
	if broken, _ := walk(deep(maxDepth + 1)); !slices.Equal(broken, []string{"doc.cbor.depth"}) {
		t.Errorf("%d deep: %v", maxDepth+1, broken)
	}
	entries := func(n int) []byte {
		b := []byte{0xb8, byte(n)}
		for i := range n {
			if i < 24 {
				b = append(b, byte(i), 0)
			} else {
				b = append(b, 24, byte(i), 0)
			}
		}
		return b
	}
	if broken, _ := walk(entries(maxEntries)); broken != nil {
		t.Errorf("%d entries: %v", maxEntries, broken)
	}
	if broken, _ := walk(entries(maxEntries + 1)); !slices.Equal(broken, []string{"doc.cbor.entries"}) {
		t.Errorf("%d entries: %v", maxEntries+1, broken)
	}
}

func TestManyFindingsAreBounded(t *testing.T) {
	data := append([]byte{0x99, 0x20, 0x00}, bytes.Repeat([]byte{0x18, 0x00}, 0x2000)...)
	if broken, _ := walk(data); len(broken) != maxPerRule {
		t.Errorf("%d problems, want %d", len(broken), maxPerRule)
	}
}

func TestChunksAreJoined(t *testing.T) {
	var f findings
	w := &walker{data: []byte{0x5f, 0x41, 1, 0x40, 0x42, 2, 3, 0xff}, f: &f}
	h, err := w.next()
	if err != nil {
		t.Fatal(err)
	}
	content, err := w.content(h)
	if err != nil || !bytes.Equal(content, []byte{1, 2, 3}) || w.off != len(w.data) {
		t.Errorf("%x, %v", content, err)
	}
}

func TestFitsHalf(t *testing.T) {
	// Every binary16 number, by its definition.
	for bits := range 1 << 16 {
		exponent, mantissa := bits>>10&31, float64(bits&1023)
		value := math.Ldexp(mantissa, -24)
		if exponent > 0 {
			value = math.Ldexp(1024+mantissa, exponent-25)
		}
		if exponent == 31 {
			continue
		}
		if !fitsHalf(float32(value)) || !fitsHalf(float32(-value)) {
			t.Fatalf("%v does not fit", value)
		}
	}
	for _, f := range []float32{65505, 65536, 1e30, 1.0001, 0.1, math.SmallestNonzeroFloat32, float32(math.Ldexp(1, -25)), float32(math.Ldexp(3, -25)), 2049} {
		if fitsHalf(f) || fitsHalf(-f) {
			t.Errorf("%v fits", f)
		}
	}
	for _, f := range []float32{float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())} {
		if !fitsHalf(f) {
			t.Errorf("%v does not fit", f)
		}
	}
}

func TestHead(t *testing.T) {
	for n, want := range map[int]string{0: "40", 23: "57", 24: "5818", 255: "58ff", 256: "590100", 65535: "59ffff", 65536: "5a00010000"} {
		if got := hex.EncodeToString(appendHead(nil, majorBytes, uint64(n))); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// FuzzWalker compares the walker with another decoder.
func FuzzWalker(f *testing.F) {
	for _, seed := range []string{"00", "a26161016162820203", "5f42010243030405ff", "d818456449455446", "fb3ff199999999999a", "bf61610161629f0203ffff", "a200000000", "a2f600f700"} {
		f.Add(unhex(f, seed))
	}
	strict, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 32, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > MaxDocumentSize {
			return
		}
		var broken []string
		var read int
		boundedAllocation(t, len(data), func() { broken, read = walk(data) })
		checkCanonical(t, data)
		if read > len(data) {
			t.Fatalf("%d of %d bytes read", read, len(data))
		}
		if len(broken) > 0 {
			return
		}
		// Keys that Go's maps cannot hold, and tags with a content of their
		// own rules, are beyond what the other one decodes.
		if err := cbor.Wellformed(data[:read]); err != nil && !strings.Contains(err.Error(), "tag number") {
			t.Fatalf("%x is not well-formed: %v", data[:read], err)
		}
		// To the other one null and undefined are one key.
		var v any
		if err := strict.Unmarshal(data[:read], &v); err != nil && (strings.Contains(err.Error(), "duplicate") && !strings.Contains(err.Error(), "key <nil>") || strings.Contains(err.Error(), "indefinite") || strings.Contains(err.Error(), "invalid UTF-8")) {
			t.Fatalf("%x: %v", data[:read], err)
		}
	})
}

// boundedAllocation fails if f allocates more than 64 KiB and ten times the size
// of its input.
func boundedAllocation(t testing.TB, size int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if used, limit := after.TotalAlloc-before.TotalAlloc, uint64(64<<10+10*size); used > limit {
		t.Fatalf("%d bytes allocated for %d, limit %d", used, size, limit)
	}
}

// checkCanonical checks that the canonical form of an item is an item that is its
// own canonical form.
func checkCanonical(t testing.TB, data []byte) {
	t.Helper()
	w := &walker{data: data}
	if w.skip(0) != nil {
		return
	}
	once := canonical(data[:w.off])
	again := &walker{data: once}
	if err := again.skip(0); err != nil || again.off != len(once) {
		t.Fatalf("%x has the canonical form %x: %v", data[:w.off], once, err)
	}
	if twice := canonical(once); !bytes.Equal(once, twice) {
		t.Fatalf("%x, then %x, then %x", data[:w.off], once, twice)
	}
}

// TestCanonical compares with another encoder.
func TestCanonical(t *testing.T) {
	mode, err := cbor.EncOptions{Sort: cbor.SortBytewiseLexical}.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range []string{
		"00", "1800", "190000", "1b0000000000000000", "1bffffffffffffffff", "3800", "3bffffffffffffffff", "580161", "5f4161ff", "5f40ff", "7f6161606162ff",
		"98020102", "9f0102ff", "9fff", "bf0102ff", "b8020304 0102", "a203040102", "bf61626161616100ff", "d81200", "f4", "f6", "f820", "9f9f01ff9f02ffff",
		"a2820102 03 810405", "bf19000a 01 18 09 02ff",
	} {
		data := unhex(t, item)
		var v any
		if err := cbor.Unmarshal(data, &v); err != nil {
			v = nil // its maps do not have such keys
		}
		got := canonical(data)
		if want, err := mode.Marshal(v); v != nil && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("%s: %x, want %x (%v)", item, got, want, err)
		}
		checkCanonical(t, data)
	}
	for _, pair := range [][2]string{
		{"f93c00", "fa3f800000"}, {"f93c00", "fb3ff0000000000000"}, {"f97e00", "fb7ff8000000000001"}, {"f97e00", "faffc00000"},
		{"f90001", "fa33800000"}, {"f9fc00", "faff800000"}, {"f98000", "fa80000000"}, {"f97bff", "fa477fe000"},
		{"a2 8200f6 01 02 03", "bf 02 03 9f00f6ff 01 ff"},
	} {
		if a, b := canonical(unhex(t, pair[0])), canonical(unhex(t, pair[1])); !bytes.Equal(a, b) {
			t.Errorf("%s is %x, %s is %x", pair[0], a, pair[1], b)
		}
	}
}
