// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/reason"
)

// TestGNUTar: archives of GNU tar in all its formats hold what the folder has.
func TestGNUTar(t *testing.T) {
	program := need.Program(t, "tar")
	if out, _ := exec.Command(program, "--version").Output(); !strings.Contains(string(out), "GNU tar") {
		t.Skip("tar is not GNU tar")
	}
	top := t.TempDir()
	long := strings.Repeat("long-name-", 11)
	must(t, os.MkdirAll(filepath.Join(top, "d", long, long), 0o755))
	must(t, os.WriteFile(filepath.Join(top, "d", long, long, "f"), []byte("deep"), 0o640))
	must(t, os.WriteFile(filepath.Join(top, "Grüße"), []byte("hello"), 0o600))
	must(t, os.Symlink(long+long, filepath.Join(top, "link")))
	must(t, os.Link(filepath.Join(top, "Grüße"), filepath.Join(top, "twice")))
	sparse, err := os.Create(filepath.Join(top, "sparse"))
	must(t, err)
	for i := range 40 { // more holes than one header has room for
		_, err = sparse.WriteAt([]byte(strconv.Itoa(i)), int64(i)<<14)
		must(t, err)
	}
	must(t, sparse.Truncate(1<<20))
	must(t, sparse.Close())
	for _, name := range []string{"Grüße", "sparse", "d/" + long + "/" + long + "/f", "d/" + long + "/" + long, "d/" + long, "d"} {
		must(t, os.Chtimes(filepath.Join(top, name), time.Time{}, time.Unix(testTime, 5e8)))
	}
	want := format(t, open(t, top, Options{}).Entries)
	for _, args := range [][]string{
		{"--format=gnu"}, {"--format=posix"}, {"--format=gnu", "--sparse"},
		{"--format=posix", "--sparse", "--sparse-version=0.0"}, {"--format=posix", "--sparse", "--sparse-version=0.1"},
		{"--format=posix", "--sparse", "--sparse-version=1.0"}, {"--gzip"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.tar")
			args := append(args, "--sort=name", "-C", top, "-cf", path, ".")
			if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got := open(t, path, Options{TempDir: t.TempDir()})
			if got := format(t, got.Entries); got != want {
				t.Errorf("got\n%.600s\nwant\n%.600s", got, want)
			}
			// As a layer, too: there a second pass and another order.
			data, err := os.ReadFile(path)
			must(t, err)
			if args[0] != "--gzip" {
				entries, err := flattenAll(t, Options{}, tarOf(t, reg("sparse", "old")), data)
				must(t, err)
				if got := format(t, entries); got != want {
					t.Errorf("as a layer: got\n%.600s\nwant\n%.600s", got, want)
				}
			}
		})
	}
}

const pythonArchive = `
import io, sys, tarfile
fmt = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}[sys.argv[1]]
with tarfile.open(sys.argv[2], "w", format=fmt, encoding="utf-8", errors="surrogateescape") as t:
    def add(name, kind, data=b"", **more):
        i = tarfile.TarInfo(name)
        i.type, i.size, i.mtime = kind, len(data), 1700000000
        for k, v in more.items(): setattr(i, k, v)
        t.addfile(i, io.BytesIO(data))
    add("./z", tarfile.REGTYPE, b"one", mode=0o4755, uid=1000, gid=100)
    add("d/", tarfile.DIRTYPE, mode=0o1777)
    add("d/" + "n" * 90, tarfile.AREGTYPE, b"two", mode=0o600)
    add("a", tarfile.LNKTYPE, linkname="./z", mode=0o600)
    add("c", tarfile.CHRTYPE, devmajor=10, devminor=200, mode=0o666)
    add("b", tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660)
    add("p", tarfile.FIFOTYPE, mode=0o622)
    add("s", tarfile.SYMTYPE, linkname="../out", mode=0o777)
    add(b"\xe4".decode("utf-8", "surrogateescape"), tarfile.REGTYPE, b"", mode=0o644)
`

// TestPythonTar: archives of Python's tarfile.
func TestPythonTar(t *testing.T) {
	python := need.Program(t, "python3")
	want := `file "z" 4755 1000:100 1700000000 "one"
dir "d/" 1777 0:0 1700000000
file "d/` + strings.Repeat("n", 90) + `" 0600 0:0 1700000000 "two"
hardlink "a" 4755 1000:100 1700000000 -> "z"
char "c" 0666 0:0 1700000000 10,200
block "b" 0660 0:0 1700000000 8,1
fifo "p" 0622 0:0 1700000000
symlink "s" 0777 0:0 1700000000 -> "../out"
file "\xe4" 0644 0:0 1700000000 ""
`
	for _, kind := range []string{"ustar", "gnu", "pax"} {
		path := filepath.Join(t.TempDir(), "x.tar")
		if out, err := exec.Command(python, "-c", pythonArchive, kind, path).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", kind, err, out)
		}
		if got := format(t, open(t, path, Options{}).Entries); got != want {
			t.Errorf("%s: got\n%swant\n%s", kind, got, want)
		}
	}
}

// TestTarTimes: times outside 32 bits reach the caller, who decides.
func TestTarTimes(t *testing.T) {
	for _, at := range []int64{-1, -1 << 33, 1 << 33} {
		m := reg("f", "")
		m.ModTime = time.Unix(at, 700000000)
		m.Format = tar.FormatPAX
		r := open(t, write(t, "x", tarOf(t, m)), Options{})
		if r.Entries[0].MTime != at {
			t.Errorf("got %d, want %d", r.Entries[0].MTime, at)
		}
	}
}

// TestXattrs: what is told of extended attributes.
func TestXattrs(t *testing.T) {
	with := func(name string, records map[string]string) tm {
		m := reg(name, "x")
		m.PAXRecords = records
		return m
	}
	many := map[string]string{}
	for i := range 100 {
		many[fmt.Sprint(schilyXattr, "user.", i)] = "x"
	}
	r := open(t, write(t, "x", tarOf(t,
		with("label", map[string]string{schilyXattr + "security.selinux": "x"}),
		with("cap", map[string]string{schilyXattr + "security.capability": "x", "comment": "y"}),
		with("bsd", map[string]string{libarchiveXattr + "user.a": "eA"}),
		with("acl", map[string]string{schilyACL + "access": "user::rw-"}),
		with("many", many),
		with("gone", map[string]string{schilyXattr + "user.gone": "x"}),
		reg("gone", ""))), Options{})
	want := []string{"cap: file capabilities (the program starts without them), in extended attributes security.capability",
		"bsd: extended attributes user.a", "acl: extended attributes acl.access", "many: extended attributes user.0, user.1, user.10"}
	if len(r.Lost) != len(want) {
		t.Fatalf("lost %q", r.Lost)
	}
	for i, line := range r.Lost {
		if !strings.HasPrefix(line, want[i]) || len(line) > 400 {
			t.Errorf("%q, want %q", line, want[i])
		}
	}
	var crowd []tm
	for i := range MaxLost + 7 {
		crowd = append(crowd, with(fmt.Sprint(i), map[string]string{schilyXattr + "user.a": "x"}))
	}
	if lost := open(t, write(t, "x", tarOf(t, crowd...)), Options{}).Lost; len(lost) != MaxLost+1 || lost[MaxLost] != "and 7 files more" {
		t.Errorf("%d lines, the last %q", len(lost), lost[len(lost)-1])
	}
}

// TestTarRefused: damaged archives and what is none.
func TestTarRefused(t *testing.T) {
	good := tarOf(t, reg("f", strings.Repeat("x", 2000)), reg("g", "y"))
	odd := tarOf(t, entry('V', "volume", 0))
	for _, c := range []struct {
		name string
		why  reason.Reason
		rule string
		data []byte
	}{
		{"empty", reason.Malformed, "source", nil},
		{"no entries", reason.Malformed, "source", make([]byte, 1024)},
		{"only the root", reason.Malformed, "source", tarOf(t, dir("."))},
		{"text", reason.Malformed, "tar", []byte(strings.Repeat("no archive ", 100))},
		{"cut in a header", reason.Malformed, "tar", good[:300]},
		{"cut in a file", reason.Malformed, "tar", good[:1500]},
		{"cut in the last file", reason.Malformed, "tar", good[:512+2048+512]},
		{"checksum", reason.Malformed, "tar", append([]byte("x"), good[1:]...)},
		{"volume", reason.Unsupported, "type", odd},
		{"bzip2", reason.Unsupported, "compression", []byte("BZh91AY&SY")},
		{"xz", reason.Unsupported, "compression", []byte("\xfd7zXZ\x00\x00")},
		{"gzip cut", reason.Malformed, "compression", gz(t, good)[:60]},
		{"gzip header", reason.Malformed, "compression", []byte{0x1f, 0x8b, 9, 0, 0, 0, 0, 0, 0, 0}},
		{"gzip with more behind it", reason.Malformed, "compression", append(gz(t, good), "more"...)},
		{"gzip changed", reason.Malformed, "compression", flipped(gz(t, good), 40)},
		{"zstd cut", reason.Malformed, "compression", zst(t, good)[:40]},
		{"zstd changed", reason.Malformed, "compression", flipped(zst(t, good), 40)},
		{"zstd with a window of 2 GiB", reason.Malformed, "compression", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}},
		{"PAX record that lies", reason.Malformed, "tar", paxLie(t)},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "x", c.data)
			refused(t, path, Options{}, c.why, "rootfs."+c.rule)
			refused(t, "tar:"+path, Options{}, c.why, "rootfs."+c.rule)
		})
	}
}

func flipped(b []byte, at int) []byte { b[at] ^= 0x10; return b }

// paxLie is an archive whose PAX record says that a file has 5 GiB.
func paxLie(t *testing.T) []byte {
	m := reg("f", "xyz")
	m.PAXRecords = map[string]string{"comment": "0000000005"}
	m.Format = tar.FormatPAX
	return bytes.Replace(tarOf(t, m), []byte("22 comment=0000000005\n"), []byte("22 size=0000005000000\n"), 1)
}

func TestSourcesRefused(t *testing.T) {
	dir := layoutOf(t, image(t, v1.ConfigFile{}, tarOf(t, reg("a", ""))), image(t, v1.ConfigFile{}, tarOf(t, reg("b", ""))))
	saved := write(t, "x", tarOf(t, reg("manifest.json", `[{"Config":"c.json","RepoTags":["a:1"],"Layers":[]},{"Config":"c.json","RepoTags":["b:1"],"Layers":[]}]`)))
	tarball := write(t, "x", tarOf(t, reg("manifest.json", `{"Config": "of something else"}`)))
	if got := brief(t, open(t, tarball, Options{}).Entries); !strings.HasPrefix(got, "manifest.json=") {
		t.Errorf("got %s", got)
	}
	escape := write(t, "x", tarOf(t, reg("manifest.json", `[{"Config":"../../etc/passwd","RepoTags":[],"Layers":[]}]`)))
	circle := write(t, "x", tarOf(t, reg("manifest.json", `[{"Config":"c","RepoTags":[],"Layers":[]}]`), sym("c", "d"), sym("d", "c")))
	config := write(t, "x", tarOf(t, reg("manifest.json", `[{"Config":"`+strings.Repeat("0", 64)+`.json","Layers":[]}]`), reg(strings.Repeat("0", 64)+".json", "{}")))
	for _, c := range []struct {
		source string
		why    reason.Reason
		rule   string
		words  []string
	}{
		{"oci:", reason.Unsupported, "source", nil},
		{"docker://", reason.Unsupported, "source", nil},
		{dir, reason.Mismatch, "image", []string{"t0", "t1", "oci:PATH:TAG"}},
		{"oci:" + dir + ":t2", reason.Mismatch, "image", []string{":t2", "t0", "t1"}},
		{"oci:" + dir + "@sha256:00", reason.Mismatch, "image", nil},
		{"oci:" + t.TempDir(), reason.Malformed, "layout", nil},
		{"oci:" + tarball, reason.Malformed, "layout", nil},
		{"docker-archive:" + tarball, reason.Malformed, "archive", nil},
		{saved, reason.Mismatch, "image", []string{"a:1", "b:1", "docker-archive:PATH:NAME"}},
		{"docker-archive:" + saved + ":c:1", reason.Mismatch, "image", []string{"c:1", "a:1"}},
		{"docker-archive:" + saved + ":a:1", reason.Malformed, "archive", []string{"c.json"}},
		{escape, reason.Malformed, "name", nil},
		{circle, reason.Malformed, "link", nil},
		{config, reason.Mismatch, "layer.digest", nil},
	} {
		refused(t, c.source, Options{}, c.why, "rootfs."+c.rule, c.words...)
	}
	if _, err := Open(t.Context(), "alpine:3", Options{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "registry:") {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), "dir:"+saved, Options{}); err == nil {
		t.Error("a file is taken for a folder")
	}
	if _, err := Open(t.Context(), "tar:"+dir, Options{}); err == nil {
		t.Error("a folder is taken for a tarball")
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// bomb is a tarball of a file of zeros, compressed.
func bomb(t *testing.T, size int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	pr, pw := io.Pipe()
	go func() {
		w := tar.NewWriter(pw)
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: size, Mode: 0o644})
		if err == nil {
			_, err = io.CopyN(w, zeros{}, size)
		}
		pw.CloseWithError(errors.Join(err, w.Close()))
	}()
	gzipTo(t, &buf, pr)
	return buf.Bytes()
}

func TestLimits(t *testing.T) {
	small := Options{MaxUnpacked: 1 << 20, MaxEntries: 100}
	path := write(t, "x", bomb(t, 8<<20))
	small.TempDir = t.TempDir()
	refused(t, path, small, reason.Malformed, "rootfs.limit", "1048576")
	if left, _ := filepath.Glob(filepath.Join(small.TempDir, "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	open(t, path, Options{MaxUnpacked: 9 << 20})

	var crowd []tm
	for i := range 101 {
		crowd = append(crowd, reg(fmt.Sprint(i), ""))
	}
	refused(t, write(t, "x", tarOf(t, crowd...)), small, reason.Malformed, "rootfs.limit", "100")
	refused(t, write(t, "x", tarOf(t, reg(strings.Repeat("d/", 101)+"f", ""))), small, reason.Malformed, "rootfs.limit", "100")
	// Few names, whose paths are long because they lie deep.
	var steps []tm
	for range 210 {
		steps = append(steps, reg(strings.Repeat("d/", 95)+"f", ""))
	}
	refused(t, write(t, "x", tarOf(t, steps[:]...)), Options{MaxEntries: 306}, reason.Malformed, "rootfs.limit")

	m := reg("huge", "")
	m.Size, m.Format = 1<<32, tar.FormatPAX
	var head bytes.Buffer
	must(t, tar.NewWriter(&head).WriteHeader(&m.Header))
	huge := write(t, "x", head.Bytes())
	must(t, os.Truncate(huge, int64(head.Len())+1<<32+1024))
	refused(t, huge, Options{}, reason.Unsupported, "rootfs.file-size", "huge", "4 GiB")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, path, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestClose: the temporary file is for us alone, and gone with Close.
func TestClose(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes are not of Windows")
	}
	temp := t.TempDir()
	p := newOpening(t.Context(), Options{TempDir: temp})
	must(t, p.makeTemp())
	info, err := p.temp.Stat()
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, (&Root{closers: p.closers}).Close())
	r, err := Open(t.Context(), write(t, "x", gz(t, tarOf(t, reg("f", "x")))), Options{TempDir: temp})
	must(t, err)
	must(t, r.Close())
	must(t, r.Close())
	if f, err := r.Entries[0].Content.Open(); err == nil {
		if _, err := io.ReadAll(f); err == nil {
			t.Error("it can be read after Close")
		}
	}
	if _, err := Open(t.Context(), write(t, "x", gz(t, tarOf(t, reg("f", "x")))), Options{TempDir: filepath.Join(temp, "none")}); err == nil {
		t.Error("no error without a folder for temporary files")
	}
}

// TestFlatMemory: a large image costs little memory.
func TestFlatMemory(t *testing.T) {
	need.Long(t)
	path := write(t, "x", bomb(t, 2<<30))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := open(t, path, Options{TempDir: t.TempDir()})
	f, err := r.Entries[0].Content.Open()
	must(t, err)
	n, err := io.Copy(io.Discard, f)
	must(t, err)
	runtime.ReadMemStats(&after)
	if n != 2<<30 || after.Sys-before.Sys > 64<<20 {
		t.Errorf("%d bytes read, memory grew by %d bytes", n, after.Sys-before.Sys)
	}
}

// TestHardLinkContents: names of one file read the same bytes, wherever the
// first name went.
func TestHardLinkContents(t *testing.T) {
	entries, err := flattenAll(t, Options{}, stack(t, []tm{reg("m", "same"), lnk("z", "m"), {}, lnk("a", "m"), reg("m", "other")})...)
	must(t, err)
	if got := brief(t, entries); got != "a=same m=other z=>a" {
		t.Errorf("got %s", got)
	}
	if entries[2].Type != eifbuild.Hardlink || entries[2].Content.Size != 0 {
		t.Errorf("%+v", entries[2])
	}
}
