// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// unpackAll unpacks ramdisks into a folder.
func unpackAll(t *testing.T, dir string, live bool, items ...item) (left []string, err error) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree := NewTree(root, live)
	err = Walk(t.Context(), image(t, cpio(items...)), 1, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
		why, err := tree.Add(e, r)
		if why != "" {
			left = append(left, e.Name)
		}
		return err
	})
	return left, err
}

func TestTree(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege")
	}
	for name, c := range map[string]struct {
		items []item
		want  string
		left  string
	}{
		"plain":                    {[]item{folder("."), folder("d/"), file644("d/f", "1"), link("l", "/etc/passwd")}, "d/, d/f 1, l -> /etc/passwd", ""},
		"a folder twice":           {[]item{folder("d"), file644("d/f", "1"), folder("d/")}, "d/, d/f 1", ""},
		"a later file":             {[]item{file644("f", "long content"), file644("f", "2")}, "f 2", ""},
		"a file over a link":       {[]item{link("f", "/etc/passwd"), file644("f", "2")}, "f 2", ""},
		"a link over a file":       {[]item{file644("f", "1"), link("f", "x")}, "f -> x", ""},
		"a device":                 {[]item{{name: "c", mode: 0o020666}, {name: "p", mode: 0o010666}}, "", "c p"},
		"a device over a file":     {[]item{file644("f", "1"), {name: "f", mode: 0o020666}}, "", "f"},
		"a file over a device":     {[]item{{name: "f", mode: 0o020666}, file644("f", "1")}, "f 1", "f"},
		"hard links, content last": {[]item{named(7, "a", ""), named(7, "b", ""), named(7, "c", "x")}, "a x, b x, c x", ""},
		"hard links, first":        {[]item{named(7, "a", "x"), named(7, "b", "")}, "a x, b x", ""},
		"hard links to a device":   {[]item{{name: "c", mode: 0o020666, inode: 7}, {name: "d", mode: 0o020666, inode: 7}}, "", "c d"},
		"a hard link over a file":  {[]item{named(7, "a", "x"), file644("b", "1"), named(7, "b", "")}, "a x, b x", ""},
		"one name written over":    {[]item{named(7, "a", "x"), named(7, "b", ""), file644("b", "2")}, "a 2, b 2", ""},
		"one name replaced":        {[]item{named(7, "a", "x"), named(7, "b", ""), link("b", "y"), file644("b", "2")}, "a x, b 2", ""},
		"strange names":            {[]item{file644("a\nb", "1"), file644("\x1b[2J", "2"), file644("-rf", "3"), file644("\xff", "4")}, "\x1b[2J 2, -rf 3, a\nb 1, \xff 4", ""},
	} {
		for _, live := range []bool{false, true} {
			dir := t.TempDir()
			left, err := unpackAll(t, dir, live, c.items...)
			if got := files(t, dir); err != nil || got != c.want || strings.Join(left, " ") != c.left {
				t.Errorf("%s, live %v: %q, left %q, %v", name, live, got, left, err)
			}
		}
	}
}

// TestTreeFolders: where a program is to run, only what the kernel would unpack.
func TestTreeFolders(t *testing.T) {
	for live, want := range map[bool][2]string{
		false: {"a/, a/b/, a/b/f 1, a/d/, a/f 2", ""},
		true:  {"a/, a/f 2", "a/b/f a/d"},
	} {
		dir := t.TempDir()
		left, err := unpackAll(t, dir, live, file644("a/b/f", "1"), folder("a/d"), folder("a"), file644("a/f", "2"))
		if got := files(t, dir); err != nil || got != want[0] || strings.Join(left, " ") != want[1] {
			t.Errorf("live %v: %q, left %q, %v", live, got, left, err)
		}
	}
}

func TestTreeRefusals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege")
	}
	outside := t.TempDir()
	up := strings.Repeat("../", 30) + outside[1:]
	for name, c := range map[string]struct {
		items []item
		rule  string // of a tree that is not live
		live  bool   // is refused in a live tree, too
	}{
		"parent":                   {[]item{file644("../x", "1")}, "cpio.name", true},
		"absolute":                 {[]item{file644(outside+"/x", "1")}, "cpio.name", true},
		"through an absolute link": {[]item{link("l", outside), file644("l/x", "1")}, "contents.through-link", true},
		"through a relative link":  {[]item{link("l", up), file644("l/x", "1")}, "contents.through-link", true},
		"a folder behind a link":   {[]item{link("l", outside), folder("l/d")}, "contents.through-link", true},
		"a link behind a link":     {[]item{link("l", outside), link("l/m", "x")}, "contents.through-link", true},
		"a folder that is a link":  {[]item{link("l", outside), folder("l")}, "contents.tree", true},
		"through two links":        {[]item{link("l", "m"), link("m", outside), file644("l/x", "1")}, "contents.through-link", true},
		"through a link inside":    {[]item{folder("d"), link("l", "d"), file644("l/x", "1")}, "contents.through-link", false},
		"hard link through a link": {[]item{link("l", outside), named(7, "a", "x"), named(7, "l/b", "y")}, "contents.through-link", true},
		"a file and a folder":      {[]item{file644("f", "1"), folder("f")}, "contents.tree", true},
		"a folder and a file":      {[]item{folder("f"), file644("f", "1")}, "contents.tree", true},
		"a folder and a link":      {[]item{folder("f"), link("f", "x")}, "contents.tree", true},
		"below a file":             {[]item{file644("f", "1"), file644("f/g", "1")}, "contents.tree", true},
		"a folder below a device":  {[]item{{name: "f", mode: 0o020666}, folder("f/g")}, "contents.tree", false},
		"hard link to a link":      {[]item{named(7, "a", "1"), link("a", outside+"/x"), named(7, "b", "2")}, "contents.tree", true},
	} {
		for _, live := range []bool{false, true} {
			_, err := unpackAll(t, t.TempDir(), live, c.items...)
			refusal, ok := errors.AsType[*reason.Error](err)
			switch {
			case live && (err == nil) == c.live:
				t.Errorf("%s, live: %v", name, err)
			case !live && (!ok || refusal.Rule() != c.rule):
				t.Errorf("%s: got %v, want %s", name, err, c.rule)
			}
			if made := files(t, outside); made != "" {
				t.Fatalf("%s: outside of the tree: %s", name, made)
			}
		}
	}
}

// TestTreeCollisions: on some systems two names are one file; here a file that is
// there already stands for that.
func TestTreeCollisions(t *testing.T) {
	for name, i := range map[string]item{
		"file": file644("taken", "x"), "folder": folder("taken"), "link": link("taken", "x"), "hard link": named(7, "taken", ""), "below": file644("taken/x", ""),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "taken"), []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := unpackAll(t, dir, false, named(7, "first", "y"), i)
		refusal, ok := errors.AsType[*reason.Error](err)
		if !ok || refusal.Rule() != "contents.collision" {
			t.Errorf("%s: got %v", name, err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "taken")); err != nil || string(data) != "before" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestTreeModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such permissions")
	}
	dir := t.TempDir()
	if _, err := unpackAll(t, dir, true, item{name: "s", mode: 0o106751}, item{name: "d", mode: 0o041075}, item{name: "r", mode: 0o100044}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"s": 0o751, "d": fs.ModeDir | 0o775, "r": 0o644} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestTreeBounds(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree := NewTree(root, false)
	tree.size = maxNameBytes
	_, err = tree.Add(&eifbuild.Entry{Name: "x"}, strings.NewReader(""))
	refusal, ok := errors.AsType[*reason.Error](err)
	if !ok || refusal.Rule() != "contents.entries" {
		t.Errorf("got %v", err)
	}
}
