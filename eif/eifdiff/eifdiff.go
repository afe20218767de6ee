// SPDX-License-Identifier: Apache-2.0

// Package eifdiff compares enclave images: which registers differ, and what moved
// them, down to the file, its mode, owner, time or link, the word of the command
// line, the entry of command or environment.
//
// Everything that is measured and differs is in the report, also where registers
// cannot tell: they do not see where one section ends and the next begins. What is
// not measured, such as the metadata, is in the report apart.
package eifdiff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/pcr"
)

// A Side is one of the two images: measured, so that its checksum is right.
type Side struct {
	Image        *eif.Image
	Measurements pcr.Measurements
}

// A Part of an image.
type Part string

// The parts. Of the last three nothing is measured; certificate is the one that
// PCR8 measures.
const (
	Sections    Part = "sections"
	Kernel      Part = "kernel"
	Cmdline     Part = "cmdline"
	Ramdisk     Part = "ramdisk"
	Certificate Part = "certificate"
	Signature   Part = "signature"
	Metadata    Part = "metadata"
	Header      Part = "header"
)

// A Change says in which respect something differs.
type Change string

// The changes.
const (
	Added    Change = "added"   // only B has it
	Removed  Change = "removed" // only A has it
	Contents Change = "contents"
	Type     Change = "type"
	Mode     Change = "mode"
	Owner    Change = "owner"
	Time     Change = "time"
	Link     Change = "link"
	Device   Change = "device"
	Spelling Change = "spelling" // of a folder's name: with or without a slash
	Order    Change = "order"
	// Numbers are inodes, counts of links and devices in a ramdisk's headers.
	Numbers Change = "numbers"
	// Form is how a ramdisk is written: compression, padding.
	Form Change = "form"
	// Value is that of a field of header or metadata.
	Value Change = "value"
)

// A Difference is one respect in which the images differ.
type Difference struct {
	Part Part `json:"part"`
	// Ramdisk is the number of a ramdisk, 1 for the first.
	Ramdisk int `json:"ramdisk,omitempty"`
	// Name is that of an entry of a ramdisk, or of a field.
	Name string `json:"name,omitempty"`
	// NameBytes (base64) is there where the name is not UTF-8.
	NameBytes []byte `json:"name_bytes,omitempty"`
	Change    Change `json:"change"`
	// A and B say what it is there, in words; empty where it is not.
	A string `json:"a,omitempty"`
	B string `json:"b,omitempty"`
	// Registers are those that the part moves and that differ.
	Registers []int  `json:"registers"`
	Measured  bool   `json:"measured"`
	Note      string `json:"note,omitempty"`
	// Items are the words, arguments or variables that differ.
	Items []Item `json:"items,omitempty"`
}

// An Item is a word of the command line, say: only in A, only in B, or changed.
type Item struct {
	A string `json:"a,omitempty"`
	B string `json:"b,omitempty"`
	// Of says what it is, where that is not clear: "argument", "variable".
	Of string `json:"of,omitempty"`
}

// A Register is compared.
type Register struct {
	Index int `json:"index"`
	// A and B are hex, or empty where an image has no such register.
	A string `json:"a,omitempty"`
	B string `json:"b,omitempty"`
	// Same tells whether they are equal.
	Same bool `json:"same"`
}

// A Summary counts the entries of a ramdisk that both images have and that could
// be read.
type Summary struct {
	Ramdisk int `json:"ramdisk"`
	A       int `json:"a"`
	B       int `json:"b"`
	// Names is how many names there are in either, and Differ how many of them
	// differ in at least one respect.
	Names  int `json:"names"`
	Differ int `json:"differ"`
}

// A Report is what differs.
type Report struct {
	Registers   []Register   `json:"registers"`
	Differences []Difference `json:"differences"`
	// Omitted is how many more differences there are than are listed.
	Omitted  int       `json:"omitted,omitempty"`
	Ramdisks []Summary `json:"ramdisks,omitempty"`
	// ReleaseA and ReleaseB name known kernels and inits, by PCR1.
	ReleaseA string `json:"release_a,omitempty"`
	ReleaseB string `json:"release_b,omitempty"`
	// InitA and InitB are there where the first ramdisk has cretula's init.
	InitA string   `json:"init_a,omitempty"`
	InitB string   `json:"init_b,omitempty"`
	Notes []string `json:"notes,omitempty"`

	measured bool
}

// Equal tells whether nothing that is measured differs. Registers of images that
// are equal in that way are equal.
func (r *Report) Equal() bool { return !r.measured }

// maxDifferences is how many are listed for one part.
const maxDifferences = 10_000

// compared are the registers of an image file.
var compared = []pcr.Index{0, 1, 2, 8}

// Compare compares two images. Ramdisks that cannot be read are compared as bytes,
// and the report says why; errors are only those of reading the files, and of ctx.
func Compare(ctx context.Context, a, b Side) (*Report, error) {
	c := &comparison{ctx: ctx, a: a, b: b, report: &Report{Registers: []Register{}, Differences: []Difference{}}, differs: make(map[pcr.Index]bool), hash: sha256.New(), buf: make([]byte, 64<<10)}
	c.registers()
	for _, step := range []func() error{c.inits, c.sections, c.kernel, c.cmdline, c.ramdisks, c.certificate} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	c.metadata()
	c.header()
	c.notes()
	return c.report, nil
}

type comparison struct {
	ctx     context.Context
	a, b    Side
	report  *Report
	differs map[pcr.Index]bool
	listed  int // in the current part
	hash    hash.Hash
	buf     []byte
}

func (c *comparison) registers() {
	r := c.report
	for _, i := range compared {
		a, hasA := c.a.Measurements.Get(i)
		b, hasB := c.b.Measurements.Get(i)
		if !hasA && !hasB {
			continue
		}
		reg := Register{Index: int(i), Same: hasA == hasB && a == b}
		if hasA {
			reg.A = a.String()
		}
		if hasB {
			reg.B = b.String()
		}
		c.differs[i] = !reg.Same
		r.Registers = append(r.Registers, reg)
	}
	first := func(s Side) string {
		d, ok := s.Measurements.Get(1)
		if !ok {
			return ""
		}
		return contents.Release(d)
	}
	r.ReleaseA, r.ReleaseB = first(c.a), first(c.b)
}

func (c *comparison) inits() (err error) {
	if c.report.InitA, err = contents.OwnInit(c.ctx, c.a.Image); err != nil {
		return err
	}
	c.report.InitB, err = contents.OwnInit(c.ctx, c.b.Image)
	return err
}

// measuredBy returns the registers that a part moves.
func measuredBy(p Part, ramdisk int) []pcr.Index {
	switch {
	case p == Certificate:
		return []pcr.Index{8}
	case p == Ramdisk && ramdisk > 1:
		return []pcr.Index{0, 2}
	case p == Sections, p == Kernel, p == Cmdline, p == Ramdisk:
		return []pcr.Index{0, 1}
	}
	return nil
}

// add puts a difference on the list.
func (c *comparison) add(d Difference) {
	moves := measuredBy(d.Part, d.Ramdisk)
	if d.Measured = len(moves) > 0; d.Measured {
		c.report.measured = true
	}
	if !utf8.ValidString(d.Name) {
		d.NameBytes = []byte(d.Name)
	}
	var more bool
	if d.Items, more = listed(d.Items); more {
		d.Note = fmt.Sprintf("more than %d words, arguments or variables differ: the first are listed", maxItems)
	}
	d.Registers = []int{}
	for _, i := range moves {
		if c.differs[i] {
			d.Registers = append(d.Registers, int(i))
		}
	}
	if c.listed++; c.listed > maxDifferences {
		c.report.Omitted++
		return
	}
	c.report.Differences = append(c.report.Differences, d)
}

// notes says what registers do not show.
func (c *comparison) notes() {
	moved := c.differs[1] || c.differs[2]
	switch {
	case c.differs[0] || !c.report.measured:
	case moved:
		c.report.Notes = append(c.report.Notes, "PCR0 is the same although sections differ: the same bytes are divided in another way. PCR0 alone does not tell these images apart, PCR0 to PCR2 together do.")
	case slices.ContainsFunc(c.report.Differences, func(d Difference) bool { return d.Measured && d.Part != Certificate }):
		c.report.Notes = append(c.report.Notes, "PCR0 to PCR2 are the same although sections differ: the same bytes are divided in another way. No register tells these images apart.")
	}
}

// sectionOf returns the one section of a type.
func sectionOf(im *eif.Image, t eif.SectionType) *io.SectionReader {
	for i, s := range im.Sections {
		if s.Type == t {
			return im.Section(i)
		}
	}
	return io.NewSectionReader(bytes.NewReader(nil), 0, 0)
}

// order lists the types of sections in file order.
func order(im *eif.Image, types ...eif.SectionType) string {
	var list []string
	for _, s := range im.Sections {
		if slices.Contains(types, s.Type) {
			list = append(list, s.Type.String())
		}
	}
	return strings.Join(list, ", ")
}

// sections compares where kernel and command line are among the ramdisks. Which
// ramdisks there are is compared one by one.
func (c *comparison) sections() error {
	if place(c.a.Image) != place(c.b.Image) {
		c.add(Difference{Part: Sections, Change: Order,
			A: order(c.a.Image, eif.Kernel, eif.Cmdline, eif.Ramdisk), B: order(c.b.Image, eif.Kernel, eif.Cmdline, eif.Ramdisk)})
	}
	return nil
}

// place has, for kernel and command line in their order, how many ramdisks come
// before.
func place(im *eif.Image) string {
	list, before := "", 0
	for _, s := range im.Sections {
		switch s.Type {
		case eif.Ramdisk:
			before++
		case eif.Kernel, eif.Cmdline:
			list += fmt.Sprint(s.Type, before, " ")
		}
	}
	return list
}

// sameBytes compares two sections and returns where they first differ, or -1.
func (c *comparison) sameBytes(a, b *io.SectionReader) (int64, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	common := min(a.Size(), b.Size())
	for at := int64(0); at < common; {
		if err := c.ctx.Err(); err != nil {
			return 0, err
		}
		n := min(int64(len(bufA)), common-at)
		if _, err := a.ReadAt(bufA[:n], at); err != nil && err != io.EOF {
			return 0, err
		}
		if _, err := b.ReadAt(bufB[:n], at); err != nil && err != io.EOF {
			return 0, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			for i := range n {
				if bufA[i] != bufB[i] {
					return at + i, nil
				}
			}
		}
		at += n
	}
	if a.Size() != b.Size() {
		return common, nil
	}
	return -1, nil
}
