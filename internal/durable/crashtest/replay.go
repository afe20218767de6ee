// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crashtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A node is a file or folder.
type node struct {
	dir  bool
	mode fs.FileMode

	// Of a file: its content as the program sees it, what of that is durable,
	// and the changes that lead from one to the other.
	live, durable []byte
	changes       []change

	// Of a folder, likewise.
	names, durableNames map[string]*node
	renames             []naming
}

func newNode(dir bool, mode fs.FileMode) *node {
	n := &node{dir: dir, mode: mode}
	if dir {
		n.names, n.durableNames = make(map[string]*node), make(map[string]*node)
	}
	return n
}

// A change writes data at an offset, or, where data is nil, sets the length.
type change struct {
	event int
	at    int64
	data  []byte
}

func (c change) apply(content []byte) []byte {
	end := c.at + int64(len(c.data))
	if c.data == nil && int64(len(content)) > end {
		return content[:end:end]
	}
	if grow := end - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	copy(content[c.at:], c.data)
	return content
}

// A naming gives a name to a node, or takes it away where node is nil.
type naming struct {
	event int
	name  string
	node  *node
}

func (n naming) apply(names map[string]*node) {
	if n.node == nil {
		delete(names, n.name)
	} else {
		names[n.name] = n.node
	}
}

func (n *node) change(c change) {
	n.live = c.apply(n.live)
	n.changes = append(n.changes, c)
}

func (n *node) rename(r naming) {
	r.apply(n.names)
	n.renames = append(n.renames, r)
}

// sync makes durable what had happened when the sync began.
func (n *node) sync(begun int) {
	for len(n.changes) > 0 && n.changes[0].event < begun {
		n.durable = n.changes[0].apply(n.durable)
		n.changes = n.changes[1:]
	}
	for len(n.renames) > 0 && n.renames[0].event < begun {
		n.renames[0].apply(n.durableNames)
		n.renames = n.renames[1:]
	}
}

// A keeper decides what of the rest is left.
type keeper struct{ rand *rand.Rand }

func newKeeper(seed uint64) *keeper {
	if seed == Strict {
		return &keeper{}
	}
	return &keeper{rand.New(rand.NewPCG(seed, seed))}
}

func (k *keeper) keep() bool { return k.rand != nil && k.rand.IntN(2) == 0 }

// after returns the file's content after the power was lost.
func (n *node) after(k *keeper) []byte {
	const page = 4096
	content := bytes.Clone(n.durable)
	for _, c := range n.changes {
		if c.data == nil {
			if k.keep() {
				content = c.apply(content)
			}
			continue
		}
		for len(c.data) > 0 {
			size := min(page-c.at%page, int64(len(c.data)))
			if k.keep() {
				content = change{at: c.at, data: c.data[:size]}.apply(content)
			}
			c.at, c.data = c.at+size, c.data[size:]
		}
	}
	return content
}

func (n *node) namesAfter(k *keeper) map[string]*node {
	names := maps.Clone(n.durableNames)
	for _, r := range n.renames {
		if !k.keep() {
			break
		}
		r.apply(names)
	}
	return names
}

// copy returns an independent copy of a tree that is all durable.
func (n *node) copy() *node {
	c := newNode(n.dir, n.mode)
	c.live, c.durable = bytes.Clone(n.live), bytes.Clone(n.durable)
	for name, child := range n.names {
		below := child.copy()
		c.names[name], c.durableNames[name] = below, below
	}
	return c
}

// A replayer carries out events on a tree.
type replayer struct {
	dir  string
	root *node
	now  int // the event's number
	// positions are those of descriptors that write(2) moves; -1 is O_APPEND.
	positions map[position]int64
}

type position struct {
	number string
	node   *node
}

// replay returns the tree after the first cut events.
func (t *Trace) replay(cut int) (*node, error) {
	r := &replayer{dir: t.dir, root: t.initial.copy(), positions: make(map[position]int64)}
	for i, e := range t.events[:cut] {
		r.now = i
		if err := r.do(e); err != nil {
			return nil, fmt.Errorf("event %d, %s(%.300s): %w", i, e.name, strings.Join(e.args, ", "), err)
		}
	}
	return r.root, nil
}

func (r *replayer) do(e event) error {
	switch e.name {
	case outputEvent:
		return nil
	case "open", "openat", "creat":
		return r.open(e)
	case "write", "pwrite64", "lseek", "ftruncate", "fsync", "fdatasync", "fchmod":
		return r.onDescriptor(e)
	case "mmap":
		if strings.Contains(e.args[2], "PROT_WRITE") && strings.Contains(e.args[3], "MAP_SHARED") {
			return r.refuse(e)
		}
		return nil
	}
	if slices.Contains(strings.Split(unmodelled, ","), e.name) {
		return r.refuse(e)
	}
	paths, err := r.paths(e.args)
	if err != nil {
		return err
	}
	return r.onNames(e, paths)
}

// refuse returns an error if the call touches the folder.
func (r *replayer) refuse(e event) error {
	for _, arg := range append(slices.Clone(e.args), e.ret) {
		_, path, err := descriptor(arg)
		if err == nil && r.inside(path) {
			return fmt.Errorf("this call is not modelled")
		}
	}
	paths, err := r.paths(e.args)
	if err == nil && slices.ContainsFunc(paths, r.inside) {
		return fmt.Errorf("this call is not modelled")
	}
	return nil
}

func (r *replayer) inside(path string) bool {
	return path == r.dir || strings.HasPrefix(path, r.dir+"/")
}

// find returns the node at path; nil if there is none or it is outside.
func (r *replayer) find(path string) *node {
	if !r.inside(path) {
		return nil
	}
	n := r.root
	for name := range strings.SplitSeq(strings.TrimPrefix(path, r.dir), "/") {
		if name != "" && n != nil {
			n = n.names[name]
		}
	}
	return n
}

// paths returns the path arguments of a call, absolute. One that is relative
// stands behind the descriptor of its folder.
func (r *replayer) paths(args []string) ([]string, error) {
	var paths []string
	for i, arg := range args {
		if !strings.HasPrefix(arg, `"`) {
			continue
		}
		decoded, err := unhex(strings.Trim(arg, `"`))
		if err != nil {
			return nil, err
		}
		path := string(decoded)
		if !filepath.IsAbs(path) {
			if i == 0 {
				return nil, fmt.Errorf("relative path %q: of which folder is not known", path)
			}
			_, base, err := descriptor(args[i-1])
			if err != nil || base == "" {
				return nil, fmt.Errorf("relative path %q: of which folder is not known", path)
			}
			path = filepath.Join(base, path)
		}
		paths = append(paths, filepath.Clean(path))
	}
	return paths, nil
}

// open makes the file if the call did.
func (r *replayer) open(e event) error {
	number, path, err := descriptor(e.ret)
	if err != nil || !r.inside(path) {
		return err
	}
	flags := strings.Join(e.args[1:], "|")
	n := r.find(path)
	if n == nil {
		parent := r.find(filepath.Dir(path))
		if parent == nil || !strings.Contains(flags, "O_CREAT") && e.name != "creat" {
			return fmt.Errorf("%s was not there", path)
		}
		mode, err := strconv.ParseUint(e.args[len(e.args)-1], 8, 32)
		if err != nil {
			return err
		}
		n = newNode(false, fs.FileMode(mode)&0o755)
		parent.rename(naming{event: r.now, name: filepath.Base(path), node: n})
	} else if strings.Contains(flags, "O_TRUNC") || e.name == "creat" {
		n.change(change{event: r.now})
	}
	at := int64(0)
	if strings.Contains(flags, "O_APPEND") {
		at = -1
	}
	r.positions[position{number, n}] = at
	return nil
}

func (r *replayer) onDescriptor(e event) error {
	number, path, err := descriptor(e.args[0])
	if err != nil || !r.inside(path) {
		return err
	}
	n := r.find(path)
	if n == nil {
		return fmt.Errorf("%s is not known", path)
	}
	place := position{number, n}
	switch e.name {
	case "fsync", "fdatasync":
		n.sync(e.begun)
		return nil
	case "write":
		at, ok := r.positions[place]
		switch {
		case !ok:
			return fmt.Errorf("position of descriptor %s is not known", number)
		case at < 0:
			at = int64(len(n.live))
		default:
			r.positions[place] = at + int64(len(e.data))
		}
		n.put(r.now, at, e.data)
		return nil
	}
	last := e.args[len(e.args)-1]
	switch e.name {
	case "lseek":
		if r.positions[place] >= 0 {
			r.positions[place], err = strconv.ParseInt(e.ret, 10, 64)
		}
	case "pwrite64":
		var at int64
		if at, err = strconv.ParseInt(last, 10, 64); err == nil {
			n.put(r.now, at, e.data)
		}
	case "ftruncate":
		var size int64
		size, err = strconv.ParseInt(last, 10, 64)
		n.change(change{event: r.now, at: size})
	case "fchmod":
		err = n.chmod(last)
	}
	return err
}

func (n *node) put(now int, at int64, data []byte) {
	if len(data) > 0 {
		n.change(change{event: now, at: at, data: data})
	}
}

func (n *node) chmod(mode string) error {
	parsed, err := strconv.ParseUint(mode, 8, 32)
	if err == nil {
		n.mode = fs.FileMode(parsed) & 0o777
	}
	return err
}

// onNames carries out the calls that change folders.
func (r *replayer) onNames(e event, paths []string) error {
	if !slices.ContainsFunc(paths, r.inside) {
		return nil
	}
	first, parent := r.find(paths[0]), r.find(filepath.Dir(paths[0]))
	base := filepath.Base(paths[0])
	switch e.name {
	case "mkdir", "mkdirat":
		mode, err := strconv.ParseUint(e.args[len(e.args)-1], 8, 32)
		if err != nil || parent == nil {
			return fmt.Errorf("mode or folder is not known")
		}
		parent.rename(naming{event: r.now, name: base, node: newNode(true, fs.FileMode(mode)&0o755)})
	case "unlink", "unlinkat", "rmdir":
		// A socket, for instance, was never known.
		if first != nil && parent != nil {
			parent.rename(naming{event: r.now, name: base})
		}
	case "chmod", "fchmodat":
		if first != nil {
			return first.chmod(e.args[slices.IndexFunc(e.args, func(a string) bool { return a[0] == '"' })+1])
		}
	case "link", "linkat", "rename", "renameat", "renameat2":
		target := r.find(filepath.Dir(paths[1]))
		if first == nil || target == nil || strings.Contains(strings.Join(e.args, "|"), "RENAME_EXCHANGE") {
			return fmt.Errorf("not modelled: into or out of the folder, or an exchange")
		}
		target.rename(naming{event: r.now, name: filepath.Base(paths[1]), node: first})
		if !strings.HasPrefix(e.name, "link") {
			parent.rename(naming{event: r.now, name: base})
		}
	default:
		return fmt.Errorf("this call is not modelled")
	}
	return nil
}
