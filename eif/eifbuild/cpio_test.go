// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/reason"
)

// raw makes an entry of an archive, the fields as given.
func raw(mode, links, size uint32, name string, data string) string {
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		1, mode, 0, 0, links, 0, size, 3, 1, 0, 0, len(name)+1, 0)
	return pad(head+name+"\x00") + pad(data)
}

func pad(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }

const (
	regular   = 0o100644
	directory = 0o040755
	symbolic  = 0o120777
)

var end = raw(0, 1, 0, trailer, "")

func plain(name, data string) string { return raw(regular, 1, uint32(len(data)), name, data) }

func TestRead(t *testing.T) {
	entries, err := readAll([]byte(raw(directory, 2, 0, "d/", "") + plain("d/f", "hello") +
		raw(symbolic, 1, 3, "l", "d/f") + plain("empty", "") + end + strings.Repeat("\x00", 77)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%v %s %o %d %s", e.Type, e.Name, e.Mode, e.Content.Size, e.Link))
	}
	want := []string{"dir d/ 755 0 ", "file d/f 644 5 ", "symlink l 777 0 d/f", "file empty 644 0 "}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q", got)
	}
	if _, err := readAll([]byte(strings.ToUpper(end[:len(cpioMagic)+8*fieldCount]) + end[len(cpioMagic)+8*fieldCount:])); err != nil {
		t.Errorf("upper-case digits: %v", err)
	}
}

func TestReadRefusals(t *testing.T) {
	replace := func(s string, at int, with string) string { return s[:at] + with + s[at+len(with):] }
	file := plain("f", "hello")
	for _, c := range []struct {
		name, archive string
		reason        reason.Reason
		rule          string
	}{
		{"cut header", end[:50], reason.Malformed, "cpio.truncated"},
		{"cut name", file[:cpioHeader+1], reason.Malformed, "cpio.truncated"},
		{"cut content", file[:len(file)-6], reason.Malformed, "cpio.truncated"},
		{"cut padding", file[:len(file)-1], reason.Malformed, "cpio.truncated"},
		{"no trailer", file, reason.Malformed, "cpio.truncated"},
		{"4 GiB claimed", raw(regular, 1, math.MaxUint32, "f", "x"), reason.Malformed, "cpio.truncated"},
		{"magic", replace(end, 0, "07070x"), reason.Malformed, "cpio.magic"},
		{"gzip", "\x1f\x8b" + strings.Repeat("x", 200), reason.Malformed, "cpio.gzip"},
		{"crc format", replace(end, 0, "070702"), reason.Unsupported, "cpio.magic"},
		{"odc format", replace(end, 0, "070707"), reason.Unsupported, "cpio.magic"},
		{"no hex digit", replace(end, 6, "0000000g"), reason.Malformed, "cpio.field"},
		{"sign", replace(end, 6, "-0000001"), reason.Malformed, "cpio.field"},
		{"control character", replace(end, 6, "0000000\x11"), reason.Malformed, "cpio.field"},
		{"space", replace(end, 6, "       1"), reason.Malformed, "cpio.field"},
		{"prefix", replace(end, 6, "0x000001"), reason.Malformed, "cpio.field"},
		{"check", replace(end, 6+8*fieldCheck, "00000001"), reason.Malformed, "cpio.field"},
		{"name of no bytes", replace(end, 6+8*fieldNameSize, "00000000"), reason.Malformed, "cpio.name"},
		{"name of 2^32-1 bytes", replace(end, 6+8*fieldNameSize, "ffffffff"), reason.Malformed, "cpio.name"},
		{"empty name", plain("", ""), reason.Malformed, "cpio.name"},
		{"long name", plain(strings.Repeat("n", maxName+1), ""), reason.Malformed, "cpio.name"},
		{"name without NUL", replace(plain("fgh", ""), cpioHeader+3, "i"), reason.Malformed, "cpio.name"},
		{"NUL in a name", plain("a\x00b", ""), reason.Malformed, "cpio.name"},
		{"absolute", plain("/etc/passwd", ""), reason.Malformed, "cpio.name"},
		{"parent", plain("../x", ""), reason.Malformed, "cpio.name"},
		{"parent inside", plain("a/../../x", ""), reason.Malformed, "cpio.name"},
		{"parent at the end", plain("a/..", ""), reason.Malformed, "cpio.name"},
		{"dot", plain(".", ""), reason.Malformed, "cpio.name"},
		{"dot with a slash", raw(directory, 2, 0, "./", ""), reason.Malformed, "cpio.name"},
		{"dot inside", plain("a/./b", ""), reason.Malformed, "cpio.name"},
		{"two slashes", plain("a//b", ""), reason.Malformed, "cpio.name"},
		{"file with a slash", plain("a/", ""), reason.Malformed, "cpio.name"},
		{"folder with two slashes", raw(directory, 2, 0, "a//", ""), reason.Malformed, "cpio.name"},
		{"root", raw(directory, 2, 0, "/", ""), reason.Malformed, "cpio.name"},
		{"socket", raw(0o140755, 1, 0, "s", ""), reason.Unsupported, "cpio.type"},
		{"no type", raw(0o755, 1, 0, "s", ""), reason.Unsupported, "cpio.type"},
		{"high mode bits", raw(0x10000|regular, 1, 0, "s", ""), reason.Unsupported, "cpio.type"},
		{"hard link to itself", raw(regular, 2, 0, "f", "") + raw(regular, 2, 0, "f", ""), reason.Malformed, "cpio.hardlink"},
		{"folder with content", raw(directory, 2, 1, "d", "x"), reason.Malformed, "cpio.size"},
		{"device with content", raw(0o020600, 1, 1, "c", "x"), reason.Malformed, "cpio.size"},
		{"link to nothing", raw(symbolic, 1, 0, "l", ""), reason.Malformed, "cpio.link"},
		{"long link", raw(symbolic, 1, maxName+1, "l", strings.Repeat("x", maxName+1)), reason.Malformed, "cpio.link"},
		{"huge link", raw(symbolic, 1, math.MaxUint32, "l", "x"), reason.Malformed, "cpio.link"},
		{"NUL in a link", raw(symbolic, 1, 3, "l", "a\x00b"), reason.Malformed, "cpio.link"},
		{"padding of a name", replace(plain("fg", ""), cpioHeader+3, "x"), reason.Malformed, "cpio.padding"},
		{"padding of content", replace(file, len(file)-1, "x") + end, reason.Malformed, "cpio.padding"},
		{"trailer with content", raw(0, 1, 4, trailer, "abcd"), reason.Malformed, "cpio.trailer"},
		{"after the trailer", end + "\x00\x00x", reason.Malformed, "cpio.trailing"},
		{"second archive at an odd place", end + "\x00" + file + end, reason.Malformed, "cpio.trailing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readAll([]byte(c.archive))
			refusal, ok := errors.AsType[*reason.Error](err)
			if !ok || refusal.Rule() != c.rule || refusal.Reason() != c.reason {
				t.Fatalf("got %v, want %v %s", err, c.reason, c.rule)
			}
		})
	}
	broken := errors.New("broken disk")
	if _, err := NewReader(iotest.ErrReader(broken)).Next(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestReadSkips reads an archive without looking at contents, and one byte at a
// time.
func TestReadSkips(t *testing.T) {
	archive := plain("a", strings.Repeat("x", 10000)) + plain("b", "yy") + end
	r := NewReader(iotest.OneByteReader(strings.NewReader(archive)))
	for _, want := range []string{"a", "b"} {
		if e, err := r.Next(); err != nil || e.Name != want {
			t.Fatalf("%v, %v", e, err)
		}
	}
	for range 2 {
		if _, err := r.Next(); err != io.EOF {
			t.Fatalf("got %v", err)
		}
	}
}

func TestArchiveRefusals(t *testing.T) {
	for name, e := range map[string]Entry{
		"no name":       {},
		"absolute":      {Name: "/x"},
		"parent":        {Name: "a/../../x"},
		"trailer":       {Name: trailer},
		"hard link":     {Name: "x", Type: Hardlink, Link: "y"},
		"to itself":     {Name: "x", Type: Hardlink, Link: "x"},
		"unknown type":  {Name: "x", Type: 99},
		"type in mode":  {Name: "x", Mode: 0o100644},
		"before 1970":   {Name: "x", MTime: -1},
		"after 2106":    {Name: "x", MTime: 1 << 32},
		"4 GiB":         {Name: "x", Content: Content{Size: 1 << 32}},
		"negative":      {Name: "x", Content: Content{Size: -1}},
		"full folder":   {Name: "x", Type: Dir, Content: Bytes([]byte("y"))},
		"empty link":    {Name: "x", Type: Symlink},
		"NUL in a link": {Name: "x", Type: Symlink, Link: "\x00"},
		"long link":     {Name: "x", Type: Symlink, Link: strings.Repeat("x", maxName+1)},
	} {
		if r, err := Archive([]Entry{e}); err == nil || r != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestContents(t *testing.T) {
	opened := func(data string) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }
	}
	broken := errors.New("broken disk")
	for name, c := range map[string]Content{
		"short":      {Size: 3, Open: opened("ab")},
		"long":       {Size: 1, Open: opened("ab")},
		"not opened": {Size: 1},
		"broken":     {Size: 1, Open: func() (io.ReadCloser, error) { return nil, broken }},
		"broken later": {Size: 5, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken))), nil
		}},
	} {
		r, err := Archive([]Entry{{Name: "x", Content: c}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r.Source().Reader); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	dir := t.TempDir()
	if _, err := FileContent(dir); err == nil {
		t.Error("a folder has content")
	}
	if _, err := FileContent(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestApplicationRefusals(t *testing.T) {
	ok := []string{"/app"}
	for name, build := range map[string]func() (*Ramdisk, error){
		"no init":         func() (*Ramdisk, error) { return BootstrapRamdisk(Content{}, Content{}) },
		"no command":      func() (*Ramdisk, error) { return ApplicationRamdisk(nil, nil, nil) },
		"empty command":   func() (*Ramdisk, error) { return ApplicationRamdisk(nil, []string{""}, nil) },
		"newline":         func() (*Ramdisk, error) { return ApplicationRamdisk(nil, []string{"/app", "a\nb"}, nil) },
		"newline in env":  func() (*Ramdisk, error) { return ApplicationRamdisk(nil, ok, []string{"A=a\nB=b"}) },
		"NUL in env":      func() (*Ramdisk, error) { return ApplicationRamdisk(nil, ok, []string{"A=\x00"}) },
		"out of the tree": func() (*Ramdisk, error) { return ApplicationRamdisk([]Entry{{Name: "../x"}}, ok, nil) },
		"link out of it": func() (*Ramdisk, error) {
			return ApplicationRamdisk([]Entry{{Name: "x", Type: Hardlink, Link: "../y"}}, ok, nil)
		},
		"etc/hosts, a link": func() (*Ramdisk, error) {
			return ApplicationRamdisk([]Entry{{Name: "etc/hosts", Type: Symlink, Link: "x"}}, ok, nil)
		},
	} {
		if r, err := build(); err == nil || r != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRelative(t *testing.T) {
	for _, c := range []struct{ name, target, want string }{
		{"a", "b", "b"},
		{"d/a", "b", "../b"},
		{"d/a", "d/b", "b"},
		{"d/e/a", "d/b", "../b"},
		{"a", "d/b", "d/b"},
		{"d/a", "e/f/b", "../e/f/b"},
		{"d/a", "d", "../d"},
	} {
		e := Entry{Name: c.name, Type: Hardlink, Link: c.target}
		if err := translate(&e); err != nil || e.Link != c.want || e.Type != Symlink {
			t.Errorf("%s -> %s: %q, %v, want %q", c.name, c.target, e.Link, err, c.want)
		}
	}
}

func testConfig() Config {
	return Config{
		Mode:   NitroCLI,
		Kernel: StandIn("kernel"), Init: StandIn("init"),
		Entries: []Entry{{Name: "app", Mode: 0o755, Content: Bytes(bytes.Repeat([]byte("program"), 1000))}},
		Cmd:     []string{"/app", "serve"}, Env: []string{"A=1"},
		Metadata: eif.Metadata{ImageName: "demo", BuildMetadata: eif.BuildMetadata{KernelVersion: "stand-in"}},
	}
}

func buildFile(t *testing.T, c Config) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	written, err := Build(context.Background(), f, c)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	im, err := eif.Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := im.Measure(context.Background()); err != nil || m != written {
		t.Fatalf("measured %v, %v, written %v", m, err, written)
	}
	return data
}

// TestBuild: the same input gives the same image; what changes, changes the
// register it belongs to.
func TestBuild(t *testing.T) {
	one := buildFile(t, testConfig())
	if !bytes.Equal(one, buildFile(t, testConfig())) {
		t.Fatal("built twice, two images")
	}
	measure := func(c Config) [3]string {
		m, err := Build(context.Background(), &discard{}, c)
		if err != nil {
			t.Fatal(err)
		}
		var out [3]string
		for i, d := range m.All() {
			out[i] = d.String()
		}
		return out
	}
	base := measure(testConfig())
	for _, c := range []struct {
		name    string
		change  func(*Config)
		changed [3]bool
	}{
		{"kernel", func(c *Config) { c.Kernel = Bytes([]byte("other")) }, [3]bool{true, true, false}},
		{"command line", func(c *Config) { c.Cmdline = "other" }, [3]bool{true, true, false}},
		{"architecture has another command line", func(c *Config) { c.Arch = eif.ArchAArch64 }, [3]bool{true, true, false}},
		{"driver", func(c *Config) { c.NSMKo = Bytes([]byte("ko")) }, [3]bool{true, true, false}},
		{"one byte of the program", func(c *Config) { c.Entries[0].Content = Bytes(bytes.Repeat([]byte("progrbm"), 1000)) }, [3]bool{true, false, true}},
		{"mode", func(c *Config) { c.Entries[0].Mode = 0o555 }, [3]bool{true, false, true}},
		{"argument", func(c *Config) { c.Cmd = []string{"/app"} }, [3]bool{true, false, true}},
		{"environment", func(c *Config) { c.Env = nil }, [3]bool{true, false, true}},
		{"metadata", func(c *Config) { c.Metadata.BuildMetadata.BuildTime = "now" }, [3]bool{}},
	} {
		config := testConfig()
		c.change(&config)
		got := measure(config)
		for i := range got {
			if (got[i] != base[i]) != c.changed[i] {
				t.Errorf("%s: PCR%d changed: %v", c.name, i, got[i] != base[i])
			}
		}
	}
	for name, change := range map[string]func(*Config){
		"no kernel":  func(c *Config) { c.Kernel = Content{} },
		"no init":    func(c *Config) { c.Init = Content{} },
		"no command": func(c *Config) { c.Cmd = nil },
		"metadata":   func(c *Config) { c.Metadata.DockerInfo = []byte("{") },
		"short":      func(c *Config) { c.Entries[0].Content.Size++ },
	} {
		config := testConfig()
		change(&config)
		if _, err := Build(context.Background(), &discard{}, config); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

// discard is a file that forgets.
type discard struct{ pos, size int64 }

func (d *discard) Write(p []byte) (int, error) {
	d.pos += int64(len(p))
	d.size = max(d.size, d.pos)
	return len(p), nil
}

func (d *discard) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += d.pos
	case io.SeekEnd:
		offset += d.size
	}
	d.pos = offset
	return offset, nil
}

// TestBuildMemory: a large program is streamed.
func TestBuildMemory(t *testing.T) {
	config := testConfig()
	const size = 64 << 20
	config.Entries[0].Content = Content{Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(zeroReader{}, size)), nil
	}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Build(context.Background(), &discard{}, config); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("building with %d bytes allocated %d", size, grown)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestDefaultCmdline(t *testing.T) {
	if x, a := len(DefaultCmdline(eif.ArchX86_64)), len(DefaultCmdline(eif.ArchAArch64)); x != 119 || a != 84 {
		t.Errorf("%d and %d bytes; AWS's have 119 and 84", x, a)
	}
}

// FuzzCPIO: what is read can be written and reads the same.
func FuzzCPIO(f *testing.F) {
	seeds := [][]byte{
		[]byte(raw(directory, 2, 0, "d/", "") + plain("d/f", "hello") + raw(symbolic, 1, 3, "l", "d/f") + raw(0o020600, 1, 0, "c", "") + end),
		[]byte(plain("../x", "") + end), []byte(plain("f", "x")), []byte(end),
	}
	bootstrap, err := BootstrapRamdisk(StandIn("init"), StandIn("driver"))
	if err != nil {
		f.Fatal(err)
	}
	seeds = append(seeds, readRamdisk(f, bootstrap))
	linked := []byte(raw(regular, 2, 0, "f", "") + raw(regular, 2, 1, "g", "x") + end + plain("h", "y") + end)
	seeds = append(seeds, linked, zipped(f, linked), append(zipped(f, linked), seeds[0]...), append(make([]byte, 4), zipped(f, linked)...))
	names, err := filepath.Glob(filepath.Join(sharedDir, "ramdisks", "*.cpio"))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := os.Stat(sharedDir); err == nil && len(names) == 0 {
		f.Fatal("no ramdisk in the shared test data")
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, data)
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := readAll(data)
		if err != nil {
			if _, ok := reason.Of(err); !ok {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		for _, e := range entries {
			if e.Name == "." || e.Type == Hardlink && e.Content.Size > 0 {
				return // is read, but not written
			}
		}
		archive, err := Archive(entries)
		if err != nil {
			t.Fatal(err)
		}
		written := readRamdisk(t, archive)
		again, err := readAll(written)
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%d entries became %d: %v", len(entries), len(again), err)
		}
		archive, err = Archive(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readRamdisk(t, archive), written) {
			t.Fatal("written again, it differs")
		}
	})
}

// peakHeap returns by how much the heap grew while f ran, as far as can be seen
// from samples.
func peakHeap(t *testing.T, f func()) uint64 {
	t.Helper()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before := heap()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	var peak uint64
	for {
		select {
		case <-done:
			return max(peak, before) - before
		case <-time.After(2 * time.Millisecond):
			peak = max(peak, heap())
		}
	}
}
