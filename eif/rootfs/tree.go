// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/cretula/cretula/eif/eifbuild"
)

const (
	// maxPath and maxPart are Linux's PATH_MAX without the NUL and NAME_MAX.
	maxPath = 4095
	maxPart = 255
	// maxText bounds the names, link targets and names of extended attributes of
	// a tree, which are in memory.
	maxText = 256 << 20
	// maxHops is how many symbolic links Linux follows in a path.
	maxHops = 40
	// stepsPerEntry bounds the walks through the tree: on average a path may
	// have this many parts, links followed on the way counted.
	stepsPerEntry = 64
)

// A file is what names of the tree stand for. Two names of one file are hard
// links.
type file struct {
	kind         eifbuild.Type
	mode         uint32
	uid, gid     uint32
	mtime        int64
	content      eifbuild.Content
	link         string // of a Symlink
	major, minor uint32
	lost         string // names of extended attributes, "" for none
	children     map[string]named
	links        int32 // names placed, an upper bound on those there are
}

// named is a name's place in its directory.
type named struct {
	*file
	seq int32 // when it was placed
}

// A tree is a file system in memory.
type tree struct {
	p     *opening
	root  *file
	seq   int32
	text  int64
	steps int64
}

func newTree(p *opening) *tree { return &tree{p: p, root: newDir()} }

// newDir is a directory that something lies in, but that no entry told of: with
// the mode and owner that containerd and docker give it.
func newDir() *file {
	return &file{kind: eifbuild.Dir, mode: 0o755, children: map[string]named{}, links: 1}
}

// cleanName returns a member's name as a plain path from the root, "" for the
// root itself. A leading "/" is the root, "." and empty parts are left out, as
// containerd and docker do; ".." is refused.
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", malformed("name", "a name has %d bytes, Linux allows %d", len(name), maxPath)
	}
	if strings.ContainsRune(name, 0) {
		return "", malformed("name", "the name %.60q holds a NUL", name)
	}
	parts := make([]string, 0, 16)
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return "", malformed("name", "the name %.60q holds \"..\"", name)
		case len(part) > maxPart:
			return "", malformed("name", "a part of the name %.60q has %d bytes, Linux allows %d", name, len(part), maxPart)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "/"), nil
}

func (t *tree) step() error {
	if t.steps++; t.steps > stepsPerEntry*int64(t.p.o.MaxEntries) {
		return malformed("limit", "the names are deeper, on average, than %d directories", stepsPerEntry)
	}
	return nil
}

func (t *tree) count(text ...string) error {
	for _, s := range text {
		t.text += int64(len(s))
	}
	if t.text > maxText {
		return malformed("limit", "names and link targets have more than %d bytes", maxText)
	}
	return t.p.countEntry()
}

func (p *opening) countEntry() error {
	if p.entries++; p.entries > p.o.MaxEntries {
		return malformed("limit", "there are more than %d entries, the limit", p.o.MaxEntries)
	}
	return p.ctx.Err()
}

// resolve returns the directory that the plain path dir leads to, symbolic links
// followed as if the root of the tree were that of the system. What is missing
// is made if create is set; else the result is nil.
func (t *tree) resolve(dir string, create bool) (*file, error) {
	stack := []*file{t.root}
	todo := []string{dir}
	for hops := 0; len(todo) > 0; {
		part, rest, more := strings.Cut(todo[len(todo)-1], "/")
		if todo = todo[:len(todo)-1]; more {
			todo = append(todo, rest)
		}
		if err := t.step(); err != nil {
			return nil, err
		}
		at := stack[len(stack)-1]
		next, there := at.children[part]
		switch {
		case part == "" || part == ".":
		case part == "..":
			stack = stack[:max(1, len(stack)-1)]
		case !there && !create:
			return nil, nil
		case !there:
			if len(part) > maxPart {
				return nil, malformed("name", "a part of a link target has %d bytes, Linux allows %d", len(part), maxPart)
			}
			if err := t.count(part); err != nil {
				return nil, err
			}
			stack = append(stack, t.set(at, part, newDir()))
		case next.kind == eifbuild.Dir:
			stack = append(stack, next.file)
		case next.kind == eifbuild.Symlink:
			if hops++; hops > maxHops {
				return nil, malformed("parent", "%.60q leads through more than %d symbolic links", dir, maxHops)
			}
			if strings.HasPrefix(next.link, "/") {
				stack = stack[:1]
			}
			todo = append(todo, next.link)
		case create:
			return nil, malformed("parent", "%.60q leads through a %v", dir, next.kind)
		default:
			return nil, nil
		}
	}
	return stack[len(stack)-1], nil
}

// set gives a file a name in the directory dir.
func (t *tree) set(dir *file, name string, f *file) *file {
	t.seq++
	dir.children[strings.Clone(name)] = named{f, t.seq}
	return f
}

// place puts f at the plain path name: in the place of what is there, except
// that a directory takes over what is in the one before it.
func (t *tree) place(name string, f *file) error {
	parent, base := path.Split(name)
	dir, err := t.resolve(parent, true)
	if err != nil {
		return err
	}
	if err := t.count(base, f.link, f.lost); err != nil {
		return err
	}
	old, there := dir.children[base]
	if there && old.kind == eifbuild.Dir && f.kind == eifbuild.Dir {
		children := old.children
		*old.file = *f
		old.children = children
		return nil
	}
	if f.kind == eifbuild.Dir {
		f.children = map[string]named{}
	}
	f.links++
	t.set(dir, base, f)
	return nil
}

// lookup returns what the plain path name stands for, nil for nothing. A
// symbolic link at its end is not followed.
func (t *tree) lookup(name string) (*file, error) {
	parent, base := path.Split(name)
	dir, err := t.resolve(parent, false)
	if err != nil || dir == nil {
		return nil, err
	}
	return dir.children[base].file, nil
}

// remove takes the plain path name, and all below it, out of the tree.
func (t *tree) remove(name string) error {
	parent, base := path.Split(name)
	dir, err := t.resolve(parent, false)
	if err == nil && dir != nil {
		delete(dir.children, base)
	}
	return err
}

// orders of a list.
type order bool

const (
	walkOrder    order = false
	archiveOrder order = true
)

// list returns the entries of the tree, and what gets lost of them. In a walk,
// the names of each directory are sorted by their bytes; else entries are in the
// order in which their names were placed.
func (t *tree) list(by order) (entries []eifbuild.Entry, lost []string, err error) {
	l := lister{t: t}
	if err := l.walk(t.root, ""); err != nil {
		return nil, nil, err
	}
	if by == archiveOrder {
		slices.SortFunc(l.found, func(a, b found) int { return cmp.Compare(a.seq, b.seq) })
	}
	return l.entries()
}

type found struct {
	name string
	named
}

type lister struct {
	t     *tree
	text  int64
	found []found
}

func (l *lister) walk(dir *file, prefix string) error {
	names := make([]string, 0, len(dir.children))
	for name := range dir.children {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f := dir.children[name]
		full := prefix + name
		if len(full) > maxPath {
			return malformed("name", "the path %.60q has %d bytes, Linux allows %d", full, len(full), maxPath)
		}
		if l.text += int64(len(full)); l.text > maxText {
			return malformed("limit", "the paths have more than %d bytes", maxText)
		}
		if f.kind != eifbuild.Dir {
			l.found = append(l.found, found{full, f})
			continue
		}
		full += "/"
		l.found = append(l.found, found{full, f})
		if err := l.walk(f.file, full); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) entries() ([]eifbuild.Entry, []string, error) {
	out := make([]eifbuild.Entry, 0, len(l.found))
	first := map[*file]string{}
	var notes losses
	for _, f := range l.found {
		e := eifbuild.Entry{
			Name: f.name, Type: f.kind, Mode: f.mode, UID: f.uid, GID: f.gid, MTime: f.mtime,
			Content: f.content, Link: f.link, Major: f.major, Minor: f.minor,
		}
		if f.content.Size > math.MaxUint32 {
			return nil, nil, tooLarge(f.name, f.content.Size)
		}
		if earlier, ok := first[f.file]; ok {
			e.Type, e.Link, e.Content, e.Major, e.Minor = eifbuild.Hardlink, earlier, eifbuild.Content{}, 0, 0
		} else {
			if f.links > 1 && f.kind != eifbuild.Dir {
				first[f.file] = f.name
			}
			if f.lost != "" {
				notes.add(f.name, f.lost)
			}
		}
		out = append(out, e)
	}
	return out, notes.list(), nil
}

func tooLarge(name string, size int64) error {
	return unsupported("file-size", "%s has %d bytes; a ramdisk holds files below 4 GiB: "+
		"split the file, or let the program fetch it when it starts", name, size)
}

// losses collects the lines of Root.Lost.
type losses struct {
	lines []string
	more  int
}

func (l *losses) add(name, what string) {
	if len(l.lines) < MaxLost {
		l.lines = append(l.lines, fmt.Sprintf("%s: %s", name, what))
	} else {
		l.more++
	}
}

func (l *losses) list() []string {
	if l.more > 0 {
		return append(l.lines, fmt.Sprintf("and %d files more", l.more))
	}
	return l.lines
}
