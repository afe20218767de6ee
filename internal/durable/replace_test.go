// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func fill(content string) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteString(content)
		return err
	}
}

// wantContents wants the folder to have these files, by name, and no others.
func wantContents(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, ok := want[e.Name()]
		if got, err := os.ReadFile(filepath.Join(dir, e.Name())); !ok || err != nil || string(got) != content {
			t.Errorf("%s: %q, %v, want %q", e.Name(), got, err, content)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("files: %v", entries)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Replace(path, 0o640, fill("one")); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"f": "one"})
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, 0o600, fill("two")); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"f": "two"})
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o604 {
		t.Errorf("mode %v, %v: not that of the file that was replaced", info.Mode(), err)
	}
	long := strings.Repeat("n", 250)
	if err := errors.Join(Replace(filepath.Join(dir, long), 0o600, fill("long")), os.Remove(filepath.Join(dir, long))); err != nil {
		t.Error(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("f", link); err != nil {
		t.Skip(err)
	}
	if err := Replace(link, 0o600, fill("three")); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"f": "three", "link": "three"})
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Error("the link is gone")
	}
}

// TestReplaceFails: what was there stays, and nothing is left beside it.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	half := func(f *os.File) error { return errors.Join(fill("half")(f), boom) }
	for _, name := range []string{path, filepath.Join(dir, "new")} {
		if err := Replace(name, 0o600, half); !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
		wantContents(t, dir, map[string]string{"f": "old"})
	}
	func() {
		defer func() { _ = recover() }()
		_ = Replace(path, 0o600, func(f *os.File) error { panic(boom) })
	}()
	wantContents(t, dir, map[string]string{"f": "old"})
	closed := func(f *os.File) error { return f.Close() }
	if err := Replace(path, 0o600, closed); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a file that cannot be synced: %v", err)
	}
	wantContents(t, dir, map[string]string{"f": "old"})

	never := func(*os.File) error { t.Error("write was called"); return nil }
	for _, name := range []string{dir, filepath.Join(path, "below"), filepath.Join(dir, "none", "f"), os.DevNull} {
		if err := Replace(name, 0o600, never); err == nil {
			t.Errorf("%s was replaced", name)
		}
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Skip(err)
	}
	if err := Replace(dangling, 0o600, never); err == nil {
		t.Error("a dangling link was replaced")
	}
}
