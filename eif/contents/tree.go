// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// A Tree makes files of a ramdisk's entries below a folder, and never outside of
// it. A later entry takes the place of an earlier one of the same name, as in the
// kernel, but no name can be a folder and something else.
//
// Owners, times, set-id and sticky bits are not kept, and what may be used by its
// owner is kept usable: files can be read and written, folders entered. Devices and
// pipes are left out.
type Tree struct {
	root *os.Root
	live bool
	seen map[string]eifbuild.Type
	size int
}

// NewTree returns a Tree below root, which is empty. In a live tree, one that a
// program is to be started in, names may lead through symbolic links of the tree
// as they do in the kernel, folders are only those that have entries, and
// permissions are those of the entries whatever the umask. In others, links are
// never followed, and folders made for what is in them.
func NewTree(root *os.Root, live bool) *Tree {
	return &Tree{root: root, live: live, seen: make(map[string]eifbuild.Type)}
}

// NoFolder is why an entry is left out of a live tree whose folder no entry before
// it makes: the kernel's unpacker makes no folders by itself.
const NoFolder = "no entry before it makes its folder, so the kernel does not unpack it"

// Bounds of the names that are remembered.
const (
	maxNames     = 1 << 20
	maxNameBytes = 64 << 20
)

// Add makes the file of an entry. left says why it was left out, and is empty if
// it was made.
func (t *Tree) Add(e *eifbuild.Entry, content io.Reader) (left string, err error) {
	name := plain(e.Name)
	if name == "." {
		return "", nil
	}
	local, err := localize(name)
	if err != nil {
		return "", reason.New(reason.Unsupported, "contents.name", "%.200q cannot be the name of a file on this system", name)
	}
	if t.live {
		if _, err := t.root.Stat(path.Dir(name)); errors.Is(err, fs.ErrNotExist) {
			return NoFolder, nil
		}
	} else if err := t.parents(name); err != nil {
		return "", err
	}
	old, again := t.seen[name]
	if again && (old == eifbuild.Dir) != (e.Type == eifbuild.Dir) {
		return "", reason.New(reason.Malformed, "contents.tree", "%.200q is a folder and something else", name)
	}
	if err := t.note(name, e.Type); err != nil {
		return "", err
	}
	perm := fs.FileMode(e.Mode & 0o777)
	switch e.Type {
	case eifbuild.Dir:
		return "", t.dir(local, perm|0o700, again)
	case eifbuild.File:
		return "", t.file(local, perm|0o600, again, content)
	case eifbuild.Hardlink:
		return t.hardlink(local, perm|0o600, e, again, content)
	case eifbuild.Symlink:
		if runtime.GOOS == "windows" {
			return "symbolic links need a privilege on this system", nil
		}
		if err := t.remove(local, again); err != nil {
			return "", err
		}
		return "", t.made(t.root.Symlink(e.Link, local), name)
	}
	return "devices and pipes are not made", t.remove(local, again)
}

// localize refuses names that mean something else on Windows. Other systems have
// any bytes in names, which [filepath.Localize] would not allow.
func localize(name string) (string, error) {
	if runtime.GOOS == "windows" {
		return filepath.Localize(name)
	}
	return name, nil
}

func (t *Tree) note(name string, kind eifbuild.Type) error {
	if _, ok := t.seen[name]; !ok {
		t.size += len(name)
	}
	t.seen[name] = kind
	if len(t.seen) > maxNames || t.size > maxNameBytes {
		return reason.New(reason.Unsupported, "contents.entries", "more than %d names or %d bytes of them", maxNames, maxNameBytes)
	}
	return nil
}

// parents makes the folders above name.
func (t *Tree) parents(name string) error {
	parent := path.Dir(name)
	if parent == "." {
		return nil
	}
	for i := 0; i < len(name); i++ {
		if name[i] != '/' {
			continue
		}
		above := name[:i]
		switch kind, ok := t.seen[above]; {
		case !ok:
			if err := t.note(above, eifbuild.Dir); err != nil {
				return err
			}
			if err := t.made(t.root.Mkdir(filepath.FromSlash(above), 0o755), above); err != nil {
				return err
			}
		case kind == eifbuild.Symlink:
			return reason.New(reason.Unsupported, "contents.through-link", "%.200q leads through the symbolic link %.200q, which is not followed", name, above)
		case kind != eifbuild.Dir:
			return reason.New(reason.Malformed, "contents.tree", "%.200q is below %.200q, which is no folder", name, above)
		}
	}
	return nil
}

// made explains that a name is taken which no entry had before: file systems that
// do not tell upper from lower case, say, have one file for two names.
func (t *Tree) made(err error, name string) error {
	if errors.Is(err, fs.ErrExist) {
		return reason.New(reason.Unsupported, "contents.collision", "%.200q is the same file as another name on this system", name)
	}
	return err
}

func (t *Tree) dir(local string, perm fs.FileMode, again bool) error {
	err := t.root.Mkdir(local, perm)
	if errors.Is(err, fs.ErrExist) && (again || t.live) {
		var info fs.FileInfo
		if info, err = t.root.Stat(local); err == nil && !info.IsDir() {
			err = reason.New(reason.Malformed, "contents.tree", "%.200q is a folder and something else", filepath.ToSlash(local))
		}
	}
	if err != nil || !t.live {
		return t.made(err, filepath.ToSlash(local))
	}
	return t.root.Chmod(local, perm)
}

// remove makes place. In a live tree a name can be there by way of a link.
func (t *Tree) remove(local string, again bool) error {
	if !again && !t.live {
		return nil
	}
	if err := t.root.Remove(local); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (t *Tree) file(local string, perm fs.FileMode, again bool, content io.Reader) error {
	// A regular file is written over: its other names keep standing for it.
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if info, err := t.root.Lstat(local); err == nil && info.Mode().IsRegular() && (again || t.live) {
		flags = os.O_WRONLY | os.O_TRUNC
	} else if err := t.remove(local, again); err != nil {
		return err
	}
	return t.write(local, flags, perm, content)
}

func (t *Tree) write(local string, flags int, perm fs.FileMode, content io.Reader) error {
	f, err := t.root.OpenFile(local, flags, perm)
	if err != nil {
		return t.made(err, filepath.ToSlash(local))
	}
	_, err = io.Copy(f, content)
	if t.live {
		err = errors.Join(err, f.Chmod(perm))
	}
	return errors.Join(err, f.Close())
}

func (t *Tree) hardlink(local string, perm fs.FileMode, e *eifbuild.Entry, again bool, content io.Reader) (left string, err error) {
	first := plain(e.Link)
	switch kind, ok := t.seen[first]; {
	case !ok || kind == eifbuild.Dir || kind == eifbuild.Symlink:
		return "", reason.New(reason.Malformed, "contents.tree", "%.200q is a hard link to %.200q, which is no file of the tree", e.Name, first)
	case kind != eifbuild.File && kind != eifbuild.Hardlink:
		t.seen[plain(e.Name)] = kind
		return "devices and pipes are not made", t.remove(local, again)
	}
	if err := t.remove(local, again); err != nil {
		return "", err
	}
	if err := t.made(t.root.Link(filepath.FromSlash(first), local), plain(e.Name)); err != nil {
		return "", err
	}
	if e.Content.Size == 0 {
		content = strings.NewReader("")
		return "", t.write(local, os.O_WRONLY, perm, content)
	}
	return "", t.write(local, os.O_WRONLY|os.O_TRUNC, perm, content)
}
