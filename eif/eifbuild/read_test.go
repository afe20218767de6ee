// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/reason"
)

// zipped compresses data by gzip.
func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// list reads a ramdisk into one line per entry.
func list(r *Reader) (lines []string, err error) {
	for {
		e, err := r.Next()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return lines, err
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%v %s %s %s", e.Type, e.Name, e.Link, content)))
	}
}

// linked is an entry of a file that has several names.
func linked(mode, inode uint32, name, data string) string {
	e := raw(mode, 2, uint32(len(data)), name, data)
	return e[:6] + fmt.Sprintf("%08x", inode) + e[14:]
}

// TestReadSegments: what the kernel takes as one ramdisk.
func TestReadSegments(t *testing.T) {
	a, b := plain("a", "1")+end, plain("b", "22")+end
	gz := func(s string) string { return string(zipped(t, []byte(s))) }
	// Compressed data end anywhere, an archive begins at a multiple of 4.
	aligned := func(s string) string { return pad(s) }
	for name, c := range map[string]struct {
		data string
		want []string
		zip  bool
	}{
		"nothing":                    {"", nil, false},
		"zeros":                      {strings.Repeat("\x00", 513), nil, false},
		"two archives":               {a + b, []string{"file a  1", "file b  22"}, false},
		"zeros between them":         {a + strings.Repeat("\x00", 512) + b + "\x00", []string{"file a  1", "file b  22"}, false},
		"zeros before":               {"\x00\x00\x00\x00" + a, []string{"file a  1"}, false},
		"compressed":                 {gz(a), []string{"file a  1"}, true},
		"compressed, then zeros":     {gz(a) + "\x00\x00\x00", []string{"file a  1"}, true},
		"two compressed":             {gz(a) + gz(b), []string{"file a  1", "file b  22"}, true},
		"two in one compressed":      {gz(a + "\x00\x00\x00\x00" + b), []string{"file a  1", "file b  22"}, true},
		"compressed after plain":     {a + "\x00" + gz(b), []string{"file a  1", "file b  22"}, true},
		"plain after compressed":     {aligned(gz(a)) + b, []string{"file a  1", "file b  22"}, true},
		"compressed nothing":         {gz("") + aligned(gz("\x00")), nil, true},
		"the same inode in each":     {linked(regular, 5, "a", "1") + end + linked(regular, 5, "b", "22") + end, []string{"file a  1", "file b  22"}, false},
		"the root, as find lists it": {raw(directory, 2, 0, ".", "") + a, []string{"dir .", "file a  1"}, false},
	} {
		for _, in := range []io.Reader{strings.NewReader(c.data), iotest.OneByteReader(strings.NewReader(c.data)), iotest.DataErrReader(strings.NewReader(c.data))} {
			r := NewReader(in)
			got, err := list(r)
			if err != nil || !slices.Equal(got, c.want) || r.Compressed() != c.zip {
				t.Errorf("%s: %q, %v, %v", name, got, r.Compressed(), err)
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("%s: at its end: %v", name, err)
			}
		}
	}
}

func TestReadSegmentRefusals(t *testing.T) {
	a := plain("a", "1") + end
	gz := string(zipped(t, []byte(a)))
	for name, c := range map[string]struct{ data, rule string }{
		"cut by a byte":                  {gz[:len(gz)-1], "cpio.gzip"},
		"cut in the middle":              {gz[:len(gz)/2], "cpio.gzip"},
		"cut header":                     {gz[:5], "cpio.gzip"},
		"wrong checksum":                 {gz[:len(gz)-8] + "\xff\xff\xff\xff" + gz[len(gz)-4:], "cpio.gzip"},
		"wrong length":                   {gz[:len(gz)-1] + "\x01", "cpio.gzip"},
		"no trailer inside":              {string(zipped(t, []byte(plain("a", "1")))) + pad(gz), "cpio.truncated"},
		"other things inside":            {string(zipped(t, []byte("hello"))), "cpio.magic"},
		"compressed twice":               {string(zipped(t, []byte(gz))), "cpio.magic"},
		"other things after the trailer": {string(zipped(t, []byte(a+"hello"))), "cpio.trailing"},
		"an archive at an odd place":     {string(zipped(t, []byte("\x00\x00"+a))), "cpio.magic"},
		"junk after it":                  {gz + "junk", "cpio.trailing"},
		"pieces of one archive":          {string(zipped(t, []byte(a[:116]))) + string(zipped(t, []byte(a[116:]))), "cpio.truncated"},
		"bzip2":                          {"BZh91AY&SY", "cpio.compression"},
		"xz":                             {"\xfd7zXZ\x00\x00", "cpio.compression"},
		"lzma":                           {"\x5d\x00\x00\x80\x00", "cpio.compression"},
		"lzo":                            {"\x89LZO\x00", "cpio.compression"},
		"lz4":                            {"\x02\x21\x4c\x18", "cpio.compression"},
		"zstd":                           {"\x28\xb5\x2f\xfd\x04", "cpio.compression"},
		"zstd after an archive":          {a + "\x28\xb5\x2f\xfd\x04", "cpio.compression"},
	} {
		_, err := list(NewReader(strings.NewReader(c.data)))
		refusal, ok := errors.AsType[*reason.Error](err)
		if !ok || refusal.Rule() != c.rule {
			t.Errorf("%s: got %v, want %s", name, err, c.rule)
		}
	}
	// A disk that fails is not a file that is damaged.
	broken := errors.New("broken disk")
	for n := range len(gz) {
		if _, err := list(NewReader(io.MultiReader(strings.NewReader(gz[:n]), iotest.ErrReader(broken)))); err != broken {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

// TestUnpackedLimit: a few bytes cannot become work without end.
func TestUnpackedLimit(t *testing.T) {
	r := NewReader(bytes.NewReader(zipped(t, []byte(plain("a", strings.Repeat("x", 1<<20))+end))))
	r.room = 1 << 19
	_, err := list(r)
	refusal, ok := errors.AsType[*reason.Error](err)
	if !ok || refusal.Rule() != "cpio.unpacked" {
		t.Errorf("got %v", err)
	}
}

// TestReadHardLinks: names of one file, as GNU cpio writes them (content last) and
// as the kernel reads them: by device, inode and kind of file.
func TestReadHardLinks(t *testing.T) {
	got, err := list(NewReader(strings.NewReader(
		linked(regular, 5, "a", "") + linked(regular, 6, "other", "o") + linked(regular, 5, "b", "") + linked(regular, 5, "c", "content") +
			linked(0o020600, 5, "device", "") + linked(0o020600, 5, "device2", "") + linked(directory, 5, "d", "") +
			linked(symbolic, 5, "l", "x") + linked(symbolic, 5, "m", "x") + plain("e", "1") + end)))
	want := []string{"file a", "file other  o", "hardlink b a", "hardlink c a content", "char device", "hardlink device2 device", "dir d", "symlink l x", "symlink m x", "file e  1"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	// The names that must be kept have a bound.
	r := NewReader(strings.NewReader(linked(regular, 5, "a", "") + end))
	r.links.size = maxLinkTable
	refusal, ok := errors.AsType[*reason.Error](func() error { _, err := list(r); return err }())
	if !ok || refusal.Rule() != "cpio.hardlink" || refusal.Reason() != reason.Unsupported {
		t.Errorf("got %v", refusal)
	}
}

func TestNumbers(t *testing.T) {
	r := NewReader(strings.NewReader(linked(regular, 0xAbc, "a", "") + end))
	if _, err := r.Next(); err != nil || r.Numbers() != (Numbers{Inode: 0xabc, Links: 2, DevMajor: 3, DevMinor: 1}) {
		t.Errorf("%+v, %v", r.Numbers(), err)
	}
}

// TestReadGNU reads what GNU cpio writes of a folder with hard links.
func TestReadGNU(t *testing.T) {
	cpio := need.Program(t, "cpio")
	dir := t.TempDir()
	for name, content := range map[string]string{"one": "content", "plain": "p"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"three", "two"} {
		if err := os.Link(filepath.Join(dir, "one"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("one", filepath.Join(dir, "zlink")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cpio, "-o", "-H", "newc", "--quiet")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(".\none\nplain\nthree\ntwo\nzlink\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{out, zipped(t, out)} {
		got, err := list(NewReader(bytes.NewReader(data)))
		// GNU cpio holds names of one file back until it has the last of them.
		slices.Sort(got)
		names := strings.Join(got, ",")
		if err != nil || len(got) != 6 || strings.Count(names, "hardlink") != 2 || strings.Count(names, "content") != 1 || !strings.Contains(names, "dir .,") {
			t.Errorf("%q, %v", got, err)
		}
	}
}
