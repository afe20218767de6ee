// SPDX-License-Identifier: Apache-2.0

//go:build unix

package durable

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"one", "", "a longer one"} {
		if err := WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, content)
	}
	if err := WriteFile(filepath.Join(path, "below"), nil); err == nil {
		t.Error("WriteFile below a file succeeded")
	}
	wantAlone(t, path)
}

func TestCreateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := CreateFile(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateFile over a file: %v, want ErrExist", err)
	}
	wantFile(t, path, "first")
	wantAlone(t, path)
	link := filepath.Join(filepath.Dir(path), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(link, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateFile over a dangling link: %v, want ErrExist", err)
	}
}

func wantFile(t *testing.T, path, content string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, []byte(content)) {
		t.Errorf("content %q, %v, want %q", got, err, content)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != FileMode {
		t.Errorf("mode %v, %v, want %v", info.Mode(), err, FileMode)
	}
}

func wantAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("files beside it: %v, %v", entries, err)
	}
}

func TestMkdirAll(t *testing.T) {
	base := t.TempDir() // 0755: those above need not be private
	path := filepath.Join(base, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{path, filepath.Join(base, "a")} {
		if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|DirMode {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(path); !errors.Is(err, ErrNotPrivate) {
		t.Errorf("MkdirAll of a folder 0750: %v, want ErrNotPrivate", err)
	}
	file := filepath.Join(base, "file")
	if err := WriteFile(file, nil); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(file, "x")); err == nil {
		t.Error("MkdirAll below a file succeeded")
	}
}

func TestCheckPrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := CheckPrivate(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
	if err := WriteFile(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	check := func(what string, want error) {
		t.Helper()
		if err := CheckPrivate(path); !errors.Is(err, want) {
			t.Errorf("CheckPrivate, %s: %v, want %v", what, err, want)
		}
		f, err := OpenPrivate(path, os.O_RDONLY)
		if !errors.Is(err, want) || err == nil && want != nil {
			t.Errorf("OpenPrivate, %s: %v, want %v", what, err, want)
		}
		if f != nil {
			f.Close()
		}
	}
	check("0600", nil)
	for mode := fs.FileMode(1); mode <= 0o77; mode++ {
		os.Chmod(path, 0o600|mode)
		check(mode.String(), ErrNotPrivate)
	}
	os.Chmod(path, 0o400)
	check("0400", nil)
	if os.Geteuid() == 0 {
		os.Chmod(path, 0o600)
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		check("another owner", ErrNotPrivate)
	} else {
		t.Log("not root: the owner's check is not tested")
	}
	target := path + ".target"
	if err := errors.Join(WriteFile(target, nil), os.Remove(path), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	check("symbolic link", ErrNotPrivate)
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	check("FIFO", ErrNotPrivate)
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := CheckPrivate(path); err != nil {
		t.Errorf("CheckPrivate of a folder: %v", err)
	}
	if _, err := OpenPrivate(path, os.O_RDONLY); !errors.Is(err, ErrNotPrivate) {
		t.Errorf("OpenPrivate of a folder: %v, want ErrNotPrivate", err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	first, err := OpenPrivate(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	second, err := OpenPrivate(path, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := Lock(first); err != nil {
		t.Fatal(err)
	}
	if err := Lock(second); !errors.Is(err, ErrLocked) {
		t.Errorf("second Lock: %v, want ErrLocked", err)
	}
	first.Close()
	if err := Lock(second); err != nil {
		t.Errorf("Lock after the first was closed: %v", err)
	}
}
