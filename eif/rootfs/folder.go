// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/cretula/cretula/eif/eifbuild"
)

// openFolder walks a folder. Symbolic links are kept and never followed, but
// that the folder itself may be named by one.
func (p *opening) openFolder(name string) (*Root, error) {
	dir, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	p.onClose(dir.Close)
	w := folderWalk{p: p, dir: dir, path: name, first: map[inode]string{}}
	if err := w.walk("."); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Root{Entries: w.entries, Lost: w.losses.list()}, nil
}

// inode says which file it is on this machine.
type inode struct{ dev, ino uint64 }

// stat is what a system knows of a file beyond fs.FileInfo.
type stat struct {
	uid, gid     uint32
	major, minor uint32
	inode        inode
	links        uint64 // 0 where nothing tells names of one file from copies
	mode         uint32 // permission, set-id and sticky bits
}

type folderWalk struct {
	p       *opening
	dir     *os.Root
	path    string
	first   map[inode]string
	text    int64
	entries []eifbuild.Entry
	losses  losses
}

// walk visits what is in a directory, by name. (fs.WalkDir would refuse names
// that are not UTF-8.)
func (w *folderWalk) walk(dir string) error {
	f, err := w.dir.Open(dir)
	if err != nil {
		return err // names the file
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if dir != "." {
			name = dir + "/" + name
		}
		if err := w.visit(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *folderWalk) visit(name string) error {
	if err := w.p.countEntry(); err != nil {
		return err
	}
	if w.text += int64(len(name)); w.text > maxText {
		return malformed("limit", "the paths have more than %d bytes", maxText)
	}
	if len(name) > maxPath {
		return malformed("name", "the path %.60q has %d bytes, Linux allows %d", name, len(name), maxPath)
	}
	info, err := w.dir.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket != 0 {
		w.losses.add(name, "a socket")
		return nil
	}
	e, err := w.entry(name, info)
	if err != nil {
		return err
	}
	w.entries = append(w.entries, e)
	if e.Type == eifbuild.Dir {
		return w.walk(name)
	}
	return nil
}

func (w *folderWalk) entry(name string, info fs.FileInfo) (eifbuild.Entry, error) {
	s := statOf(info)
	e := eifbuild.Entry{Name: name, Mode: s.mode, UID: s.uid, GID: s.gid, MTime: info.ModTime().Unix()}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		if info.Size() > math.MaxUint32 {
			return e, tooLarge(name, info.Size())
		}
		e.Content = w.content(name, info)
	case mode.IsDir():
		e.Type, e.Name = eifbuild.Dir, name+"/"
	case mode&fs.ModeSymlink != 0:
		target, err := w.dir.Readlink(name)
		if err != nil {
			return e, err
		}
		if w.text += int64(len(target)); w.text > maxText {
			return e, malformed("limit", "the paths have more than %d bytes", maxText)
		}
		// Systems differ in the permissions that a link has; none looks at them.
		e.Type, e.Link, e.Mode = eifbuild.Symlink, filepath.ToSlash(target), 0o777
	case mode&fs.ModeNamedPipe != 0:
		e.Type = eifbuild.FIFO
	case mode&fs.ModeCharDevice != 0:
		e.Type, e.Major, e.Minor = eifbuild.CharDevice, s.major, s.minor
	case mode&fs.ModeDevice != 0:
		e.Type, e.Major, e.Minor = eifbuild.BlockDevice, s.major, s.minor
	default:
		return e, unsupported("type", "%s is of a kind that cannot be in a ramdisk (%v)", name, mode)
	}
	if e.Type == eifbuild.Dir {
		w.lose(name, e.Name)
		return e, nil
	}
	if earlier, ok := w.first[s.inode]; ok && s.links > 1 {
		e.Type, e.Link, e.Content, e.Major, e.Minor = eifbuild.Hardlink, earlier, eifbuild.Content{}, 0, 0
		return e, nil
	}
	if s.links > 1 {
		w.first[s.inode] = name
	}
	w.lose(name, e.Name)
	return e, nil
}

// lose notes the extended attributes of a file. A file system without them, or
// one that does not show them, loses none.
func (w *folderWalk) lose(name, shown string) {
	if text := lostText(xattrs(filepath.Join(w.path, filepath.FromSlash(name)))); text != "" {
		w.losses.add(shown, text)
	}
}

// content reads a file that must stay as it was when the folder was walked.
func (w *folderWalk) content(name string, was fs.FileInfo) eifbuild.Content {
	if was.Size() == 0 {
		return eifbuild.Content{}
	}
	dir, path := w.dir, w.path
	return eifbuild.Content{Size: was.Size(), Open: func() (io.ReadCloser, error) {
		f, err := dir.OpenFile(name, openFlags, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := sameAs(f, was); err != nil {
			f.Close()
			return nil, err
		}
		return unchanged{f, was}, nil
	}}
}

// unchanged is a file that says so when it changes while it is read.
type unchanged struct {
	*os.File
	was fs.FileInfo
}

func (u unchanged) Read(b []byte) (int, error) {
	n, err := u.File.Read(b)
	if err == io.EOF {
		if changed := sameAs(u.File, u.was); changed != nil {
			return n, changed
		}
	}
	return n, err
}
