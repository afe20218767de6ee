// SPDX-License-Identifier: Apache-2.0

package eifdiff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (c *comparison) ramdisks() error {
	a, b := len(c.a.Image.Ramdisks()), len(c.b.Image.Ramdisks())
	for n := 1; n <= max(a, b); n++ {
		c.listed = 0
		if n > a || n > b {
			if err := c.lone(n, n > a); err != nil {
				return err
			}
			continue
		}
		if err := c.ramdisk(n); err != nil {
			return err
		}
	}
	return nil
}

// lone is a ramdisk that one image does not have.
func (c *comparison) lone(n int, onlyB bool) error {
	side, d := c.a, Difference{Part: Ramdisk, Ramdisk: n, Change: Removed}
	if onlyB {
		side, d.Change = c.b, Added
	}
	section, err := contents.Ramdisk(side.Image, n)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d bytes", section.Size())
	if onlyB {
		d.B = text
	} else {
		d.A = text
	}
	c.add(d)
	return nil
}

// An entry is what is remembered of an entry of a ramdisk.
type entry struct {
	eifbuild.Entry
	order   int
	sum     [sha256.Size]byte
	numbers eifbuild.Numbers
	text    []byte
	seen    bool
	differs bool   // in the first of a name: something of that name does
	next    *entry // of the same name
	free    *entry // in the first of a name: the next that is not paired
}

// Bounds of what is remembered of one ramdisk.
const (
	maxEntries = 1 << 19
	maxBytes   = 64 << 20
)

var errTooMany = errors.New("the ramdisk has too many entries to compare them one by one")

// plain is the name without the slash that a folder's may end in.
func plain(name string) string { return strings.TrimSuffix(name, "/") }

// read reads what is to be remembered of an entry.
func (c *comparison) read(ramdisk int, e *eifbuild.Entry, r *eifbuild.Reader) (*entry, error) {
	x := &entry{Entry: *e, numbers: r.Numbers()}
	c.hash.Reset()
	var to io.Writer = c.hash
	var text bytes.Buffer
	if isText(ramdisk, e.Name) && e.Content.Size <= maxText {
		to = io.MultiWriter(c.hash, &text)
	}
	if _, err := io.CopyBuffer(to, r, c.buf); err != nil {
		return nil, err
	}
	c.hash.Sum(x.sum[:0])
	x.text = text.Bytes()
	return x, nil
}

// An index has the entries of a ramdisk by name: the first of a name, and the next
// of it behind that.
type index struct {
	names      map[string]*entry
	list       []*entry
	compressed bool
}

func (c *comparison) index(n int) (*index, error) {
	x := &index{names: make(map[string]*entry)}
	latest := make(map[string]*entry) // of names that are there more than once
	size := 0
	err := contents.Walk(c.ctx, c.a.Image, n, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
		read, err := c.read(n, e, r)
		if err != nil {
			return err
		}
		if size += len(e.Name) + len(e.Link) + len(read.text); len(x.list) >= maxEntries || size > maxBytes {
			return errTooMany
		}
		read.order = len(x.list)
		x.list = append(x.list, read)
		name := plain(e.Name)
		switch first := x.names[name]; {
		case first == nil:
			x.names[name], read.free = read, read
		case first.next == nil:
			first.next, latest[name] = read, read
		default:
			latest[name].next, latest[name] = read, read
		}
		x.compressed = r.Compressed()
		return nil
	})
	return x, err
}

// ramdisk compares the two ramdisks of that number.
func (c *comparison) ramdisk(n int) error {
	a, err := contents.Ramdisk(c.a.Image, n)
	if err != nil {
		return err
	}
	b, err := contents.Ramdisk(c.b.Image, n)
	if err != nil {
		return err
	}
	at, err := c.sameBytes(a, b)
	if err != nil || at < 0 {
		return err
	}
	whole := Difference{Part: Ramdisk, Ramdisk: n, Change: Contents, A: fmt.Sprintf("%d bytes", a.Size()), B: fmt.Sprintf("%d bytes", b.Size())}
	first := fmt.Sprintf("the first byte that differs is at offset %d", at)
	before := c.mark()
	err = c.entries(n, first)
	if _, refused := reason.Of(err); refused || errors.Is(err, errTooMany) {
		c.reset(before)
		whole.Note = fmt.Sprintf("%s; the entries are not compared: %v", first, err)
		c.add(whole)
		return nil
	}
	return err
}

// A mark is a state of the list to go back to.
type mark struct{ differences, ramdisks, omitted, listed int }

func (c *comparison) mark() mark {
	return mark{len(c.report.Differences), len(c.report.Ramdisks), c.report.Omitted, c.listed}
}

func (c *comparison) reset(m mark) {
	c.report.Differences = c.report.Differences[:m.differences]
	c.report.Ramdisks = c.report.Ramdisks[:m.ramdisks]
	c.report.Omitted, c.listed = m.omitted, m.listed
}

// A pass is the comparison of the entries of one ramdisk.
type pass struct {
	*comparison
	n       int
	a       *index
	summary Summary
	added   map[string]bool // names that A does not have
	// latest is the greatest place in A of the entries of B so far.
	latest             int
	moved              int
	firstMoved         string
	renumbered         int
	numbered, original *entry // the first whose numbers differ
}

func (c *comparison) entries(n int, where string) error {
	a, err := c.index(n)
	if err != nil {
		return fmt.Errorf("in A, %w", err)
	}
	p := &pass{comparison: c, n: n, a: a, summary: Summary{Ramdisk: n, A: len(a.list)}, added: make(map[string]bool), latest: -1}
	before := c.listed
	compressed := false
	err = contents.Walk(c.ctx, c.b.Image, n, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
		b, err := c.read(n, e, r)
		if err != nil {
			return err
		}
		compressed = r.Compressed()
		if p.summary.B++; p.summary.B > maxEntries {
			return errTooMany
		}
		if same, others := a.take(plain(e.Name)); same != nil {
			p.pair(same, b)
		} else {
			p.lone(b, others, true)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("in B, %w", err)
	}
	for _, e := range a.list {
		if !e.seen {
			p.lone(e, a.names[plain(e.Name)].seen, false)
		}
	}
	p.summary.Differ += len(p.added)
	p.summary.Names = len(a.names) + len(p.added)
	p.order()
	p.form(a.compressed, compressed, where, c.listed == before)
	c.report.Ramdisks = append(c.report.Ramdisks, p.summary)
	return nil
}

// take returns the first entry of a name that has not been taken, and tells whether
// there are others.
func (x *index) take(name string) (e *entry, others bool) {
	first := x.names[name]
	if first == nil {
		return nil, false
	}
	if e = first.free; e != nil {
		first.free = e.next
	}
	return e, e != first
}

func (p *pass) differ(name string, d Difference) {
	if first := p.a.names[plain(name)]; first == nil {
		p.added[plain(name)] = true
	} else if !first.differs {
		first.differs = true
		p.summary.Differ++
	}
	d.Part, d.Ramdisk, d.Name = Ramdisk, p.n, name
	p.add(d)
}

// lone is an entry that one ramdisk does not have, or not as often.
func (p *pass) lone(e *entry, again, onlyB bool) {
	d := Difference{Change: Removed, A: inWords(e)}
	if onlyB {
		d = Difference{Change: Added, B: inWords(e)}
	}
	if again {
		d.Note = "the name is there more than once"
	}
	p.differ(e.Name, d)
}

func inWords(e *entry) string {
	text := fmt.Sprintf("%v, mode %04o, owner %d:%d, %s", e.Type, e.Mode, e.UID, e.GID, clock(e.MTime))
	switch e.Type {
	case eifbuild.File:
		text += fmt.Sprintf(", %d bytes, SHA-256 %x", e.Content.Size, e.sum)
	case eifbuild.Symlink, eifbuild.Hardlink:
		text += ", to " + e.Link
	case eifbuild.CharDevice, eifbuild.BlockDevice:
		text += fmt.Sprintf(", %d:%d", e.Major, e.Minor)
	}
	return text
}

func clock(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }

// reproducible is said of differences that say nothing of the files.
const reproducible = "a reproducible build would not show this"

// pair compares two entries of one name.
func (p *pass) pair(a, b *entry) {
	a.seen = true
	if a.order < p.latest {
		if p.moved++; p.moved == 1 {
			p.firstMoved = b.Name
		}
	}
	p.latest = max(p.latest, a.order)
	if a.numbers != b.numbers {
		if p.renumbered++; p.renumbered == 1 {
			p.original, p.numbered = a, b
		}
	}
	found := 0
	put := func(differs bool, d Difference) {
		if differs {
			found++
			p.differ(b.Name, d)
		}
	}
	put(a.Type != b.Type, Difference{Change: Type, A: a.Type.String(), B: b.Type.String()})
	if a.sum != b.sum || a.Content.Size != b.Content.Size {
		d := Difference{Change: Contents, A: bytesInWords(a), B: bytesInWords(b)}
		if isText(p.n, b.Name) && len(a.text) == int(a.Content.Size) && len(b.text) == int(b.Content.Size) {
			d.Items = diffText(b.Name, a.text, b.text)
		}
		put(true, d)
	}
	put(a.Mode != b.Mode, Difference{Change: Mode, A: fmt.Sprintf("%04o", a.Mode), B: fmt.Sprintf("%04o", b.Mode)})
	put(a.UID != b.UID || a.GID != b.GID, Difference{Change: Owner, A: fmt.Sprintf("%d:%d", a.UID, a.GID), B: fmt.Sprintf("%d:%d", b.UID, b.GID)})
	put(a.Link != b.Link, Difference{Change: Link, A: a.Link, B: b.Link})
	put(a.Major != b.Major || a.Minor != b.Minor, Difference{Change: Device, A: fmt.Sprintf("%d:%d", a.Major, a.Minor), B: fmt.Sprintf("%d:%d", b.Major, b.Minor)})
	put(a.Name != b.Name, Difference{Change: Spelling, A: a.Name, B: b.Name})
	d := Difference{Change: Time, A: clock(a.MTime), B: clock(b.MTime)}
	if found == 0 {
		d.Note = reproducible
		if b.Type == eifbuild.File {
			d.Note = "contents equal: " + d.Note
		}
	}
	put(a.MTime != b.MTime, d)
}

func bytesInWords(e *entry) string {
	return fmt.Sprintf("%d bytes, SHA-256 %x", e.Content.Size, e.sum)
}

func (p *pass) order() {
	if p.moved > 0 {
		p.add(Difference{Part: Ramdisk, Ramdisk: p.n, Name: p.firstMoved, Change: Order,
			Note: fmt.Sprintf("%d entries come in another order, this one first", p.moved)})
	}
}

// form finds what is not in the entries: compression, numbers, padding. Numbers
// change with every entry that comes before, so they count only if nothing else
// does.
func (p *pass) form(a, b bool, where string, alone bool) {
	d := Difference{Part: Ramdisk, Ramdisk: p.n, Change: Form}
	words := map[bool]string{true: "compressed", false: "not compressed"}
	switch {
	case a != b:
		d.A, d.B = words[a], words[b]
	case !alone:
		return
	case p.renumbered > 0:
		d.Change, d.Name = Numbers, p.numbered.Name
		d.A, d.B = numbersInWords(p.original.numbers), numbersInWords(p.numbered.numbers)
		d.Note = fmt.Sprintf("so %d entries differ, and nothing of their files: %s", p.renumbered, reproducible)
	case a:
		d.Note = "compressed to other bytes, the same when unpacked; " + where
	default:
		d.Note = "the same entries with other padding, digits or archives; " + where
	}
	p.add(d)
}

func numbersInWords(n eifbuild.Numbers) string {
	return fmt.Sprintf("inode %d, %d links, device %d:%d", n.Inode, n.Links, n.DevMajor, n.DevMinor)
}
