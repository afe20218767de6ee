// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// A tree is a file tree without order: each name once, directories without a
// trailing slash. Hard links are entries that are the same file.
type tree struct {
	entries []Entry
	files   []int          // of each entry, which file it is
	made    int            // how many files were made
	hidden  int            // how many were left out, in a place where one could expect them to be seen
	index   map[string]int // of entries, by name
}

// newTree puts a list of entries together as extracting it would: a later entry
// takes the place of an earlier one of that name, and a hard link is another name
// for what its target is at that moment (or, if there is nothing yet, in the
// end). Of what is below the folders over which the init mounts something, and of
// what a container runtime leaves behind, nothing is kept.
func newTree(list []Entry) (*tree, error) {
	t := &tree{index: make(map[string]int, len(list)), entries: make([]Entry, 0, len(list))}
	var waiting []Entry
	for _, e := range list {
		if err := validName(e.Name, e.Type == Dir); err != nil {
			return nil, malformed("name", "%w", err)
		}
		e.Name = strings.TrimSuffix(e.Name, "/")
		if e.Type != Hardlink {
			t.put(e)
			continue
		}
		if err := validName(e.Link, false); err != nil {
			return nil, malformed("hardlink", "%.200q: %w", e.Name, err)
		}
		if !t.link(e) {
			waiting = append(waiting, e)
		}
	}
	for _, e := range waiting {
		if !t.link(e) {
			return nil, malformed("hardlink", "%.200q: a hard link to %.200q, which is no file of the tree", e.Name, e.Link)
		}
	}
	t.leaveOut()
	return t, nil
}

// leaveOut removes names that nobody would see. Other names of the same files
// stay.
func (t *tree) leaveOut() {
	kept := 0
	for i, e := range t.entries {
		hidden := below(e.Name, mountPoints...)
		if hidden && e.Type != Dir && below(e.Name, "run", "tmp") {
			t.hidden++
		}
		if hidden || leftover(&e) {
			delete(t.index, e.Name)
			continue
		}
		t.entries[kept], t.files[kept] = e, t.files[i]
		t.index[e.Name] = kept
		kept++
	}
	t.entries, t.files = t.entries[:kept], t.files[:kept]
}

// put adds a file, or replaces what had its name.
func (t *tree) put(e Entry) {
	t.name(e, t.made)
	t.made++
}

func (t *tree) name(e Entry, file int) {
	if i, there := t.index[e.Name]; there {
		t.entries[i], t.files[i] = e, file
		return
	}
	t.index[e.Name] = len(t.entries)
	t.entries = append(t.entries, e)
	t.files = append(t.files, file)
}

// link gives a file another name. It reports whether there is one that can have
// two.
func (t *tree) link(e Entry) bool {
	i, there := t.index[e.Link]
	if !there || t.entries[i].Type == Dir {
		return false
	}
	target := t.entries[i]
	target.Name = e.Name
	if target.Type == Symlink {
		t.put(target) // The kernel does not unpack them as one.
	} else {
		t.name(target, t.files[i])
	}
	return true
}

func (t *tree) get(name string) (*Entry, bool) {
	i, ok := t.index[name]
	if !ok {
		return nil, false
	}
	return &t.entries[i], true
}

// mountPoints are the folders over which both inits mount what the kernel has
// there, or nothing: what the tree has below them, nobody will see.
var mountPoints = []string{"dev", "proc", "run", "sys", "tmp"}

// below tells whether a name is below one of the mount points.
func below(name string, points ...string) bool {
	return slices.ContainsFunc(points, func(dir string) bool { return strings.HasPrefix(name, dir+"/") })
}

// leftover tells whether an entry is an empty file that a container runtime made
// to mount its own over it, or its mark.
func leftover(e *Entry) bool {
	switch e.Name {
	case ".dockerenv", ".dockerinit", "etc/hostname", "etc/hosts", "etc/resolv.conf":
		return e.Type == File && e.Content.Size == 0
	}
	return false
}

// complete adds what every image has: the folders that the init mounts
// something on, a table of hosts with localhost, and all folders above a file.
func (t *tree) complete() error {
	for _, name := range mountPoints {
		if e, there := t.get(name); there && e.Type != Dir {
			return malformed("tree", "%q is a %v; a folder is needed there to mount on", name, e.Type)
		}
		t.put(builtDir(name)) // Nobody sees this one's mode and owner.
	}
	if _, there := t.get("etc"); !there {
		t.put(builtDir("etc"))
	}
	if etc, _ := t.get("etc"); etc.Type == Dir {
		for _, e := range []Entry{builtFile("etc/hosts", 0o644, hosts), builtLink("etc/mtab", 0o777, "/proc/mounts")} {
			if _, there := t.get(e.Name); !there {
				t.put(e)
			}
		}
	}
	for i := range len(t.entries) {
		if err := t.addParents(t.entries[i].Name); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) addParents(name string) error {
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		e, there := t.get(parent)
		if there && e.Type != Dir {
			return malformed("tree", "%.200q: is below %.200q, which is a %v", name, parent, e.Type)
		}
		if there {
			// Its own parents are looked at when its turn comes.
			return nil
		}
		t.put(Entry{Name: parent, Type: Dir, Mode: 0o755})
	}
	return nil
}

// normalised returns the entries sorted by name, byte by byte, which puts a
// folder before what is in it, and with one time. Of the names of one file the
// first has it, the others are hard links.
func (t *tree) normalised() []Entry {
	order := make([]int, len(t.entries))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(t.entries[a].Name, t.entries[b].Name) })
	sorted := make([]Entry, 0, len(order))
	first := make([]string, t.made)
	for _, i := range order {
		e := t.entries[i]
		e.MTime = buildTime
		if e.Type == Symlink {
			// Symbolic links have no mode on Linux; what archives say differs.
			e.Mode = 0o777
		}
		if f := &first[t.files[i]]; *f == "" {
			*f = e.Name
		} else {
			e.Type, e.Link, e.Content = Hardlink, *f, Content{}
		}
		sorted = append(sorted, e)
	}
	return sorted
}

// maxLinks is how many symbolic links the kernel follows in one path.
const maxLinks = 40

var errNotThere = errors.New("is not in the image")

// lookup follows name as a process would whose root is the tree: from the root,
// through symbolic links. The result is nil for the root itself.
func (t *tree) lookup(name string) (*Entry, error) {
	rest := strings.Split(name, "/")
	at := "" // a name in the tree
	var found *Entry
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			found, _ = t.get(at)
			continue
		}
		if found != nil && found.Type != Dir {
			return nil, fmt.Errorf("%.200q is a %v, not a folder", found.Name, found.Type)
		}
		next := path.Join(at, part)
		e, there := t.get(next)
		if !there {
			return nil, errNotThere
		}
		if e.Type != Symlink {
			at, found = next, e
			continue
		}
		if links++; links > maxLinks {
			return nil, errors.New("leads through too many symbolic links")
		}
		if strings.HasPrefix(e.Link, "/") {
			at, found = "", nil
		}
		rest = append(strings.Split(e.Link, "/"), rest...)
	}
	return found, nil
}

// read returns the content of a file, links followed, of at most limit bytes.
// A file that is not there is empty.
func (t *tree) read(name string, limit int64) (data []byte, err error) {
	e, err := t.lookup(name)
	if errors.Is(err, errNotThere) {
		return nil, nil
	}
	if err == nil && (e == nil || e.Type != File) {
		err = errors.New("is no file")
	}
	if err == nil && e.Content.Size > limit {
		err = fmt.Errorf("has %d bytes; the limit is %d", e.Content.Size, limit)
	}
	if err != nil {
		return nil, malformed("user", "/%s %w", name, err)
	}
	source := e.Content.source()
	defer source.Reader.(io.Closer).Close()
	return io.ReadAll(source.Reader)
}
