// SPDX-License-Identifier: Apache-2.0

package eifdiff

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/memfile"
)

// A node is an entry of an archive that the tests write themselves, every field of
// its header as given.
type node struct {
	name                   string
	mode                   uint32 // with the type's bits
	uid, gid, mtime        uint32
	inode, links           uint32
	devMajor, major, minor uint32
	data                   string
	zeros                  int // that follow, with a trailer before: another archive begins
}

func file644(name, data string) node {
	return node{name: name, mode: 0o100644, links: 1, mtime: 1000, data: data}
}
func folder(name string) node   { return node{name: name, mode: 0o040755, links: 2, mtime: 1000} }
func link(name, to string) node { return node{name: name, mode: 0o120777, links: 1, data: to} }

// cpio writes a newc archive, padded to 512 bytes.
func cpio(nodes ...node) []byte {
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	put := func(n node) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			n.inode, n.mode, n.uid, n.gid, n.links, n.mtime, len(n.data), n.devMajor, 0, n.major, n.minor, len(n.name)+1, 0)
		b.WriteString(n.name + "\x00")
		pad()
		b.WriteString(n.data)
		pad()
	}
	for _, n := range nodes {
		put(n)
		if n.zeros > 0 {
			put(node{name: "TRAILER!!!", links: 1})
			b.Write(make([]byte, n.zeros))
		}
	}
	put(node{name: "TRAILER!!!", links: 1})
	b.Write(make([]byte, -b.Len()&511))
	return b.Bytes()
}

func zipped(t testing.TB, level int, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A spec is what an image is made of.
type spec struct {
	kernel, cmdline string
	ramdisks        [][]byte
	metadata        eif.Metadata
	arch            eif.Arch
	memory          uint64
}

func base() spec {
	return spec{kernel: "kernel", cmdline: "reboot=k panic=30 quiet", ramdisks: [][]byte{
		cpio(folder("dev"), file644("init", "init")),
		cpio(folder("rootfs"), folder("rootfs/bin/"), file644("rootfs/bin/app", "app"), link("rootfs/bin/run", "app"),
			node{name: "rootfs/null", mode: 0o020666, links: 1, major: 1, minor: 3}, file644("cmd", "/app\nserve\n"), file644("env", "A=1\nPATH=/bin\n")),
	}, metadata: eif.Metadata{ImageName: "test"}}
}

func (s spec) side(t testing.TB) Side {
	t.Helper()
	metadata, err := s.metadata.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out := eif.Spec{Arch: s.arch, Kernel: eif.Bytes([]byte(s.kernel)), Cmdline: s.cmdline, Metadata: metadata, DefaultMemory: s.memory}
	for _, r := range s.ramdisks {
		out.Ramdisks = append(out.Ramdisks, eif.Bytes(r))
	}
	var file memfile.File
	if _, err := eif.Write(t.Context(), &file, out); err != nil {
		t.Fatal(err)
	}
	return parse(t, &file)
}

// open parses and measures a file.
func open(t testing.TB, name string) Side {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, &memfile.File{Data: data})
}

func parse(t testing.TB, file *memfile.File) Side {
	t.Helper()
	im, err := eif.Parse(file.Reader())
	if err != nil {
		t.Fatal(err)
	}
	m, err := im.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return Side{im, m}
}

// compare compares and checks what every report must hold: it is empty if and only
// if the measured sections are the same, every register that differs is explained,
// and by what can move it.
func compare(t testing.TB, a, b Side) *Report {
	t.Helper()
	r, err := Compare(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	if same := measuredSections(t, a) == measuredSections(t, b); r.Equal() != same {
		t.Errorf("equal: %v, measured bytes the same: %v\n%s", r.Equal(), same, text(r))
	}
	explained := map[int]bool{}
	for _, d := range r.Differences {
		for _, i := range d.Registers {
			explained[i] = true
			if !slices.ContainsFunc(r.Registers, func(r Register) bool { return r.Index == i && !r.Same }) {
				t.Errorf("PCR%d is said to differ, and does not: %+v", i, d)
			}
		}
	}
	for _, reg := range r.Registers {
		if !reg.Same && !explained[reg.Index] {
			t.Errorf("PCR%d differs, and nothing says why\n%s", reg.Index, text(r))
		}
	}
	return r
}

// measuredSections is what must be the same for a report to be empty.
func measuredSections(t testing.TB, s Side) string {
	t.Helper()
	var b strings.Builder
	for i, section := range s.Image.Sections {
		if section.Type != eif.Kernel && section.Type != eif.Cmdline && section.Type != eif.Ramdisk {
			continue
		}
		fmt.Fprintf(&b, "%v %d ", section.Type, section.Size)
		if _, err := io.Copy(&b, s.Image.Section(i)); err != nil {
			t.Fatal(err)
		}
	}
	if sig := s.Image.Signature(); sig != nil {
		b.Write(sig.Certificate.Raw)
	}
	return b.String()
}

// text writes a report into a few words for each difference.
func text(r *Report) string {
	var b strings.Builder
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "%s", d.Part)
		if d.Ramdisk > 0 {
			fmt.Fprintf(&b, " %d", d.Ramdisk)
		}
		fmt.Fprintf(&b, " %s %q %v; ", d.Change, d.Name, d.Registers)
	}
	return b.String()
}
