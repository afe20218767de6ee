// SPDX-License-Identifier: Apache-2.0

package eifdiff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifinit/process"
	"github.com/cretula/cretula/internal/need"
)

func encode(t *testing.T, p process.Process) string {
	t.Helper()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// app replaces the application ramdisk of the base image by one with these entries.
func app(nodes ...node) func(*spec) {
	return func(s *spec) { s.ramdisks[1] = cpio(nodes...) }
}

func TestCompare(t *testing.T) {
	f, g := file644("f", "1"), file644("g", "2")
	with := func(n node, change func(*node)) node { change(&n); return n }
	shift := func(s *spec, from, to, n int) {
		a, b := s.ramdisks[from], s.ramdisks[to]
		all := slices.Concat(a, b)
		s.ramdisks[from], s.ramdisks[to] = all[:len(a)+n], all[len(a)+n:]
	}
	for name, c := range map[string]struct {
		a, b func(*spec)
		want string
	}{
		"nothing":                  {nil, nil, ""},
		"kernel":                   {nil, func(s *spec) { s.kernel = "Kernel" }, `kernel contents "" [0 1]; `},
		"command line":             {nil, func(s *spec) { s.cmdline = "reboot=k quiet x" }, `cmdline contents "" [0 1]; `},
		"metadata":                 {nil, func(s *spec) { s.metadata.BuildMetadata.BuildTime = "now" }, `metadata added "BuildTime" []; `},
		"custom":                   {func(s *spec) { s.metadata.CustomMetadata = json.RawMessage(`{"a":1,"b":2}`) }, func(s *spec) { s.metadata.CustomMetadata = json.RawMessage(`{"b":3}`) }, `metadata removed "CustomMetadata.a" []; metadata value "CustomMetadata.b" []; `},
		"docker info":              {func(s *spec) { s.metadata.DockerInfo = json.RawMessage(`[1]`) }, func(s *spec) { s.metadata.DockerInfo = json.RawMessage(`{}`) }, `metadata value "DockerInfo" []; `},
		"header":                   {nil, func(s *spec) { s.arch, s.memory = eif.ArchAArch64, 1<<20 }, `header value "arch" []; header value "flags" []; header value "default_mem" []; `},
		"init":                     {nil, func(s *spec) { s.ramdisks[0] = cpio(folder("dev"), file644("init", "other")) }, `ramdisk 1 contents "init" [0 1]; `},
		"a ramdisk":                {nil, func(s *spec) { s.ramdisks = append(s.ramdisks, cpio(f)) }, `ramdisk 3 added "" [0 2]; `},
		"one less":                 {nil, func(s *spec) { s.ramdisks = s.ramdisks[:1] }, `ramdisk 2 removed "" [0 2]; `},
		"contents":                 {app(f, g), app(f, with(g, func(n *node) { n.data = "3" })), `ramdisk 2 contents "g" [0 2]; `},
		"size":                     {app(f, g), app(f, with(g, func(n *node) { n.data = "" })), `ramdisk 2 contents "g" [0 2]; `},
		"mode":                     {app(f, g), app(f, with(g, func(n *node) { n.mode |= 0o4000 })), `ramdisk 2 mode "g" [0 2]; `},
		"owner":                    {app(f, g), app(f, with(g, func(n *node) { n.gid = 7 })), `ramdisk 2 owner "g" [0 2]; `},
		"time":                     {app(f, g), app(f, with(g, func(n *node) { n.mtime++ })), `ramdisk 2 time "g" [0 2]; `},
		"type":                     {app(f, g), app(f, with(g, func(n *node) { n.mode, n.data = 0o010644, "" })), `ramdisk 2 type "g" [0 2]; ramdisk 2 contents "g" [0 2]; `},
		"link":                     {app(link("l", "a")), app(link("l", "b")), `ramdisk 2 link "l" [0 2]; `},
		"device":                   {app(node{name: "c", mode: 0o020666, minor: 1}), app(node{name: "c", mode: 0o020666, minor: 2}), `ramdisk 2 device "c" [0 2]; `},
		"hard link":                {app(with(f, func(n *node) { n.links = 2 }), with(g, func(n *node) { n.inode, n.links = 1, 2 })), app(with(f, func(n *node) { n.links = 2 }), with(g, func(n *node) { n.links = 2 })), `ramdisk 2 type "g" [0 2]; ramdisk 2 link "g" [0 2]; `},
		"added":                    {app(f), app(f, g), `ramdisk 2 added "g" [0 2]; `},
		"removed":                  {app(f, g), app(g), `ramdisk 2 removed "f" [0 2]; `},
		"slash":                    {app(folder("d")), app(folder("d/")), `ramdisk 2 spelling "d/" [0 2]; `},
		"once more":                {app(f, g), app(f, g, f), `ramdisk 2 added "f" [0 2]; `},
		"order":                    {app(f, g, file644("h", "")), app(g, file644("h", ""), f), `ramdisk 2 order "f" [0 2]; `},
		"inodes":                   {app(f, g), app(f, with(g, func(n *node) { n.inode = 5 })), `ramdisk 2 numbers "g" [0 2]; `},
		"device of it":             {app(f, g), app(with(f, func(n *node) { n.devMajor = 5 }), g), `ramdisk 2 numbers "f" [0 2]; `},
		"padding":                  {app(f), func(s *spec) { s.ramdisks[1] = append(cpio(f), make([]byte, 512)...) }, `ramdisk 2 form "" [0 2]; `},
		"two archives":             {app(f, g), app(with(f, func(n *node) { n.zeros = 512 }), g), `ramdisk 2 form "" [0 2]; `},
		"compressed":               {app(f), func(s *spec) { s.ramdisks[1] = zipped(t, 9, cpio(f)) }, `ramdisk 2 form "" [0 2]; `},
		"level":                    {func(s *spec) { s.ramdisks[1] = zipped(t, 0, cpio(f)) }, func(s *spec) { s.ramdisks[1] = zipped(t, 9, cpio(f)) }, `ramdisk 2 form "" [0 2]; `},
		"both":                     {app(f), func(s *spec) { s.ramdisks[1] = zipped(t, 9, cpio(g)) }, `ramdisk 2 added "g" [0 2]; ramdisk 2 removed "f" [0 2]; ramdisk 2 form "" [0 2]; `},
		"in compressed":            {func(s *spec) { s.ramdisks[1] = zipped(t, 9, cpio(f)) }, func(s *spec) { s.ramdisks[1] = zipped(t, 9, cpio(with(f, func(n *node) { n.uid = 1 }))) }, `ramdisk 2 owner "f" [0 2]; `},
		"unreadable":               {nil, func(s *spec) { s.ramdisks[1] = []byte("no archive") }, `ramdisk 2 contents "" [0 2]; `},
		"unreadable A":             {func(s *spec) { s.ramdisks[1] = append(cpio(f), 1) }, nil, `ramdisk 2 contents "" [0 2]; `},
		"unreadable in the middle": {nil, func(s *spec) { s.ramdisks[1] = cpio(f, g)[:200] }, `ramdisk 2 contents "" [0 2]; `},
		"empty":                    {func(s *spec) { s.ramdisks[1] = nil }, app(f), `ramdisk 2 added "f" [0 2]; `},
		// Registers do not see borders.
		"border of kernel":         {func(s *spec) { s.kernel, s.cmdline = "kern", "elquiet" }, func(s *spec) { s.kernel, s.cmdline = "kernel", "quiet" }, `kernel contents "" []; cmdline contents "" []; `},
		"border of ramdisks":       {nil, func(s *spec) { shift(s, 0, 1, -256) }, `ramdisk 1 contents "" [1]; ramdisk 2 contents "" [2]; `},
		"border of later ramdisks": {func(s *spec) { s.ramdisks = append(s.ramdisks, cpio(g)) }, func(s *spec) { s.ramdisks = append(s.ramdisks, cpio(g)); shift(s, 1, 2, 4) }, `ramdisk 2 contents "" []; ramdisk 3 contents "" []; `},
		"an empty ramdisk":         {nil, func(s *spec) { s.ramdisks = append(s.ramdisks, nil) }, `ramdisk 3 added "" []; `},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := base(), base()
			if c.a != nil {
				c.a(&a)
			}
			if c.b != nil {
				c.b(&b)
			}
			sa, sb := a.side(t), b.side(t)
			if got := text(compare(t, sa, sb)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			back := compare(t, sb, sa)
			if n := strings.Count(c.want, ";"); len(back.Differences) != n && name != "order" {
				t.Errorf("the other way: %s", text(back))
			}
			if r := compare(t, sa, sa); len(r.Differences) > 0 || len(r.Notes) > 0 {
				t.Errorf("with itself: %s", text(r))
			}
			if strings.HasPrefix(name, "border") || name == "an empty ramdisk" {
				if r := compare(t, sa, sb); len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "PCR0") || r.Equal() {
					t.Errorf("notes: %q", r.Notes)
				}
			}
		})
	}
}

// find returns the one difference of a report.
func only(t *testing.T, r *Report) Difference {
	t.Helper()
	if len(r.Differences) != 1 {
		t.Fatalf("%s", text(r))
	}
	return r.Differences[0]
}

func TestNotes(t *testing.T) {
	f := file644("f", "1")
	later := f
	later.mtime++
	a, b := base(), base()
	app(f)(&a)
	app(later)(&b)
	d := only(t, compare(t, a.side(t), b.side(t)))
	if d.Note != "contents equal: a reproducible build would not show this" || d.A != "1970-01-01T00:16:40Z" || d.B != "1970-01-01T00:16:41Z" {
		t.Errorf("%+v", d)
	}
	later.data = "2"
	app(later)(&b)
	if r := compare(t, a.side(t), b.side(t)); len(r.Differences) != 2 || r.Differences[1].Note != "" || r.Ramdisks[0] != (Summary{Ramdisk: 2, A: 1, B: 1, Names: 1, Differ: 1}) {
		t.Errorf("%+v", r)
	}
}

func items(list []Item) string {
	var out []string
	for _, i := range list {
		out = append(out, fmt.Sprintf("%s -%s +%s", i.Of, i.A, i.B))
	}
	return strings.Join(out, "; ")
}

// TestItems: words, arguments and variables are named one by one.
func TestItems(t *testing.T) {
	one := process.Process{Args: []string{"/app", "a\nb", "c"}, Env: []string{"A=1", "B=2"}, Dir: "/", UID: 1}
	two := process.Process{Args: []string{"/app", "c", "d"}, Env: []string{"A=1", "B=3"}, Dir: "/srv", UID: 1, GID: 5, Groups: []uint32{7}}
	for name, c := range map[string]struct {
		a, b func(*spec)
		want string
	}{
		"words":         {func(s *spec) { s.cmdline = "a b c" }, func(s *spec) { s.cmdline = "a c d" }, " -b +;  - +d"},
		"spaces":        {func(s *spec) { s.cmdline = "a b" }, func(s *spec) { s.cmdline = "a  b" }, ""},
		"arguments":     {app(file644("cmd", "/app\nx\n")), app(file644("cmd", "/app\ny\nx\n")), "argument - +y"},
		"variables":     {app(file644("env", "A=1\nB=2\nC=3\n")), app(file644("env", "A=1\nB=9\nD=4\n")), "variable -B=2 +B=9; variable -C=3 +; variable - +D=4"},
		"their order":   {app(file644("env", "A=1\nB=2\n")), app(file644("env", "B=2\nA=1\n")), "variable -A=1 +; variable - +A=1"},
		"twice":         {app(file644("env", "A=1\nA=2\n")), app(file644("env", "A=2\nA=2\n")), "variable -A=1 +; variable - +A=2"},
		"process":       {app(file644("process", encode(t, one))), app(file644("process", encode(t, two))), "argument -a\nb +; argument - +d; variable -B=2 +B=3; working directory -/ +/srv; group -0 +5; groups -[] +[7]"},
		"not a process": {app(file644("process", encode(t, one))), app(file644("process", "x")), ""},
		"all of it":     {app(file644("cmd", "")), app(file644("cmd", "/app\n")), "argument - +/app"},
	} {
		a, b := base(), base()
		c.a(&a)
		c.b(&b)
		if got := items(only(t, compare(t, a.side(t), b.side(t))).Items); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	// A list that is not whole says so.
	x, y := base(), base()
	app(file644("cmd", strings.Repeat("a\n", maxItems+1)))(&x)
	app(file644("cmd", strings.Repeat("b\n", 3)))(&y)
	if d := only(t, compare(t, x.side(t), y.side(t))); len(d.Items) != maxItems || d.Note != "more than 1000 words, arguments or variables differ: the first are listed" {
		t.Errorf("%d items, note %q", len(d.Items), d.Note)
	}
	// Too much work is not done: everything is listed, up to a limit.
	long := strings.Fields(strings.Repeat("x y z ", 1000))
	if got := diffList(append([]string{"a"}, long...), append(long, "b"), ""); len(got) != maxItems+1 {
		t.Errorf("%d items", len(got))
	}
}

// TestRandomEdits: whatever is changed in a tree, the report is empty if and only
// if the measured bytes are the same, and explains every register that differs.
func TestRandomEdits(t *testing.T) {
	randomEdits(t, 60)
}

func TestRandomEditsLong(t *testing.T) {
	need.Long(t)
	randomEdits(t, 20_000)
}

func randomEdits(t *testing.T, rounds int) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func() node {
		name := string(rune('a' + r.IntN(6)))
		n := node{name: name, links: 1, uid: uint32(r.IntN(2)), mtime: uint32(r.IntN(2)), inode: uint32(r.IntN(3))}
		switch r.IntN(6) {
		case 0:
			n.mode = 0o040755
		case 1:
			n.mode, n.data = 0o120777, string(rune('a'+r.IntN(3)))
		case 2:
			n.mode, n.minor = 0o020600, uint32(r.IntN(2))
		case 3:
			n.mode, n.inode, n.links, n.devMajor = 0o100644, uint32(100+int(name[0])%3), 2, uint32(name[0])
			n.data = strings.Repeat("h", r.IntN(2))
		default:
			n.mode, n.data = 0o100600|uint32(r.IntN(2)), strings.Repeat("x", r.IntN(3))
		}
		return n
	}
	tree := func() (nodes []node) {
		for range r.IntN(6) {
			nodes = append(nodes, pick())
		}
		return nodes
	}
	write := func(nodes []node) []byte {
		data := cpio(nodes...)
		switch r.IntN(8) {
		case 0:
			return zipped(t, r.IntN(10), data)
		case 1:
			return append(data, make([]byte, 4*r.IntN(3))...)
		case 2:
			data[r.IntN(len(data))] ^= 1 << r.IntN(8)
		}
		return data
	}
	differed := 0
	for range rounds {
		a := base()
		nodes := [][]node{tree(), tree(), tree()}
		a.ramdisks = [][]byte{write(nodes[0]), write(nodes[1]), write(nodes[2])}
		b := a
		b.ramdisks = slices.Clone(a.ramdisks)
		i := r.IntN(3)
		edited := slices.Clone(nodes[i])
		switch at := r.IntN(len(edited) + 1); {
		case r.IntN(4) == 0: // move a border
			x, y := r.IntN(3), r.IntN(3)
			if n := r.IntN(min(64, len(b.ramdisks[y])+1)); x < y && y == x+1 {
				b.ramdisks[x], b.ramdisks[y] = slices.Concat(b.ramdisks[x], b.ramdisks[y][:n]), b.ramdisks[y][n:]
			}
		case r.IntN(3) == 0:
			b.ramdisks[i] = write(slices.Insert(edited, at, pick()))
		case at < len(edited) && r.IntN(2) == 0:
			b.ramdisks[i] = write(slices.Delete(edited, at, at+1))
		case at < len(edited):
			edited[at] = pick()
			b.ramdisks[i] = write(edited)
		default:
			r.Shuffle(len(edited), func(i, j int) { edited[i], edited[j] = edited[j], edited[i] })
			b.ramdisks[i] = write(edited)
		}
		sa, sb := a.side(t), b.side(t)
		if report := compare(t, sa, sb); !report.Equal() {
			differed++
		}
		compare(t, sb, sa)
		if t.Failed() {
			t.FailNow()
		}
	}
	if differed < rounds/2 {
		t.Errorf("only %d of %d edits changed anything", differed, rounds)
	}
}

// TestShared compares the shared images with each other.
func TestShared(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(need.SharedData(t, "eif"), "[vs]*", "*.eif"))
	if err != nil || len(names) < 12 {
		t.Fatalf("%d images, %v", len(names), err)
	}
	var sides []Side
	for _, n := range names {
		sides = append(sides, open(t, n))
	}
	for i, a := range sides {
		for j, b := range sides {
			r := compare(t, a, b)
			if i == j && len(r.Differences) > 0 {
				t.Errorf("%s with itself: %s", names[i], text(r))
			}
			if r.Equal() && a.Measurements != b.Measurements {
				t.Errorf("%s and %s: equal with other registers", names[i], names[j])
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, b := base(), base()
	b.kernel = "other"
	if _, err := Compare(ctx, a.side(t), b.side(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestManyDifferences: the list has a limit, and says so.
func TestManyDifferences(t *testing.T) {
	var nodes []node
	for i := range maxDifferences + 5 {
		nodes = append(nodes, file644(fmt.Sprint(i), ""))
	}
	a, b := base(), base()
	app()(&a)
	app(nodes...)(&b)
	if r := compare(t, a.side(t), b.side(t)); len(r.Differences) != maxDifferences || r.Omitted != 5 || r.Ramdisks[0].Differ != maxDifferences+5 {
		t.Errorf("%d differences, %d omitted, %+v", len(r.Differences), r.Omitted, r.Ramdisks)
	}
}

// TestOneName: many entries of one name are no more work than others.
func TestOneName(t *testing.T) {
	nodes := make([]node, 3_000)
	for i := range nodes {
		nodes[i] = file644("x", "")
	}
	a, b := base(), base()
	app(nodes...)(&a)
	app(append(nodes, file644("y", ""))...)(&b)
	if got := text(compare(t, a.side(t), b.side(t))); got != `ramdisk 2 added "y" [0 2]; ` {
		t.Error(got)
	}
	app(nodes[1:]...)(&b)
	if got := text(compare(t, a.side(t), b.side(t))); got != `ramdisk 2 removed "x" [0 2]; ` {
		t.Error(got)
	}
}

func TestJSON(t *testing.T) {
	a, b := base(), base()
	b.kernel = "other"
	data, err := json.Marshal(compare(t, a.side(t), b.side(t)))
	if err != nil || !strings.Contains(string(data), `"registers":[0,1]`) {
		t.Errorf("%s, %v", data, err)
	}
	app(file644("\xff", ""))(&a)
	app()(&b)
	b.kernel = a.kernel
	if d := only(t, compare(t, a.side(t), b.side(t))); string(d.NameBytes) != "\xff" {
		t.Errorf("%+v", d)
	}
}
