// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package rootfs

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// folder makes a tree on disk.
func folder(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	must(t, os.MkdirAll(at("d/sub"), 0o755))
	must(t, os.WriteFile(at("d/f"), []byte("content"), 0o644))
	must(t, os.WriteFile(at("d-e"), nil, 0o600))
	must(t, os.WriteFile(at("nasty\xffname"), []byte("x"), 0o644))
	must(t, os.Symlink("../../../etc/passwd", at("out")))
	must(t, os.Symlink("d", at("in")))
	must(t, os.Link(at("d/f"), at("d/g")))
	must(t, os.Link(at("d/f"), at("again")))
	must(t, unix.Mkfifo(at("pipe"), 0o600))
	for name, mode := range map[string]os.FileMode{"d": 0o750 | os.ModeSetgid, "d/sub": 0o1777&0o777 | os.ModeSticky, "d/f": 0o755 | os.ModeSetuid, "pipe": 0o622} {
		must(t, os.Chmod(at(name), mode))
	}
	for _, name := range []string{"d/f", "d-e", "nasty\xffname", "pipe", "d/sub", "d"} {
		must(t, os.Chtimes(at(name), time.Time{}, time.Unix(testTime, 999999999)))
	}
	for _, name := range []string{"in", "out"} {
		tv := []unix.Timespec{{Sec: testTime}, {Sec: testTime}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), tv, unix.AT_SYMLINK_NOFOLLOW))
	}
	return top
}

func TestFolder(t *testing.T) {
	if runtime.GOOS == "darwin" {
		t.Skip("its file system takes no names that are not UTF-8")
	}
	top := folder(t)
	l, err := net.Listen("unix", filepath.Join(top, "socket"))
	must(t, err)
	defer l.Close()
	want := `file "again" 4755 0:0 1700000000 "content"
dir "d/" 2750 0:0 1700000000
hardlink "d/f" 4755 0:0 1700000000 -> "again"
hardlink "d/g" 4755 0:0 1700000000 -> "again"
dir "d/sub/" 1777 0:0 1700000000
file "d-e" 0600 0:0 1700000000 ""
symlink "in" 0777 0:0 1700000000 -> "d"
file "nasty\xffname" 0644 0:0 1700000000 "x"
symlink "out" 0777 0:0 1700000000 -> "../../../etc/passwd"
fifo "pipe" 0622 0:0 1700000000
`
	for _, source := range []string{top, "dir:" + top, top + "/"} {
		r := open(t, source, Options{})
		entries := make([]eifbuild.Entry, len(r.Entries))
		for i, e := range r.Entries {
			if int(e.UID) != os.Geteuid() {
				t.Errorf("%s is owned by %d", e.Name, e.UID)
			}
			e.UID, e.GID = 0, 0
			entries[i] = e
		}
		if got := format(t, entries); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if len(r.Lost) != 1 || r.Lost[0] != "socket: a socket" {
			t.Errorf("lost %q", r.Lost)
		}
		if r.ID != "" || r.HasArch || r.Inspect != nil {
			t.Errorf("%+v", r)
		}
	}
}

func TestFolderOwnersAndDevices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes devices and gives files away")
	}
	top := t.TempDir()
	must(t, unix.Mknod(filepath.Join(top, "c"), unix.S_IFCHR|0o666, int(unix.Mkdev(5, 300))))
	must(t, os.WriteFile(filepath.Join(top, "f"), nil, 0o600))
	must(t, os.Chown(filepath.Join(top, "f"), 70000, 5))
	must(t, os.Chtimes(filepath.Join(top, "f"), time.Time{}, time.Unix(-5, 0)))
	r := open(t, top, Options{})
	if c := r.Entries[0]; c.Type != eifbuild.CharDevice || c.Major != 5 || c.Minor != 300 {
		t.Errorf("%+v", c)
	}
	if f := r.Entries[1]; f.UID != 70000 || f.GID != 5 || f.MTime != -5 {
		t.Errorf("%+v", f)
	}
}

func TestFolderXattrs(t *testing.T) {
	top := t.TempDir()
	f := filepath.Join(top, "f")
	must(t, os.WriteFile(f, []byte("x"), 0o700))
	if err := unix.Setxattr(f, "user.one", []byte("1"), 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	must(t, unix.Setxattr(f, "user."+strings.Repeat("x", 249), []byte("1"), 0))
	must(t, os.Link(f, filepath.Join(top, "g")))
	r := open(t, top, Options{})
	if len(r.Lost) != 1 || !strings.HasPrefix(r.Lost[0], "f: extended attributes user.one, user.xxx") || len(r.Lost[0]) > 200 {
		t.Errorf("lost %q", r.Lost)
	}
}

// TestFolderChanges: a file that is another by the time it is read is noticed.
func TestFolderChanges(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"longer":      func(path string) error { return os.WriteFile(path, []byte("1234567"), 0o600) },
		"shorter":     func(path string) error { return os.WriteFile(path, []byte("12"), 0o600) },
		"other bytes": func(path string) error { return os.WriteFile(path, []byte("654321"), 0o600) },
		"gone":        os.Remove,
		"a directory": func(path string) error { os.Remove(path); return os.Mkdir(path, 0o700) },
		"a pipe":      func(path string) error { os.Remove(path); return unix.Mkfifo(path, 0o600) },
		"a link out":  func(path string) error { os.Remove(path); return os.Symlink("/etc/passwd", path) },
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			path := filepath.Join(top, "f")
			must(t, os.WriteFile(path, []byte("123456"), 0o600))
			must(t, os.Chtimes(path, time.Time{}, time.Unix(testTime, 0)))
			r := open(t, top, Options{})
			must(t, change(path))
			f, err := r.Entries[0].Content.Open()
			if err == nil {
				f.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), "f") {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("while it is read", func(t *testing.T) {
		top := t.TempDir()
		path := filepath.Join(top, "f")
		must(t, os.WriteFile(path, []byte("123456"), 0o600))
		r := open(t, top, Options{})
		f, err := r.Entries[0].Content.Open()
		must(t, err)
		defer f.Close()
		var start [3]byte
		_, err = io.ReadFull(f, start[:])
		must(t, err)
		must(t, os.WriteFile(path, []byte("654321"), 0o600))
		must(t, os.Chtimes(path, time.Time{}, time.Unix(testTime, 0)))
		_, err = io.ReadAll(f)
		if err == nil {
			t.Fatal("not noticed")
		}
		checkRefusal(t, err, reason.Mismatch, "rootfs.changed")
	})
}

func TestFolderUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	top := t.TempDir()
	must(t, os.WriteFile(filepath.Join(top, "secret-file"), []byte("x"), 0o000))
	r := open(t, top, Options{})
	if _, err := r.Entries[0].Content.Open(); err == nil || !strings.Contains(err.Error(), "secret-file") {
		t.Errorf("%v", err)
	}
	must(t, os.Mkdir(filepath.Join(top, "secret-dir"), 0o000))
	if _, err := Open(t.Context(), top, Options{}); err == nil || !strings.Contains(err.Error(), "secret-dir") {
		t.Errorf("%v", err)
	}
}

func TestFolderLimits(t *testing.T) {
	top := folder(t)
	if _, err := Open(t.Context(), top, Options{MaxEntries: 5}); err == nil {
		t.Error("taken")
	} else {
		checkRefusal(t, err, reason.Malformed, "rootfs.limit")
	}
	must(t, os.Truncate(filepath.Join(top, "d-e"), 1<<32))
	refused(t, top, Options{}, reason.Unsupported, "rootfs.file-size", "d-e", "4 GiB")
}

// TestPipe: opening a pipe would wait for somebody who writes.
func TestPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	refused(t, pipe, Options{}, reason.Unsupported, "rootfs.source", "no regular file")
}
