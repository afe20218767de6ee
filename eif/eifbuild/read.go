// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cretula/cretula/reason"
)

// A Reader reads the entries of a ramdisk in order, in little memory. It finds what
// the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst,
// init/initramfs.c): newc archives one after the other with zeros between them,
// each at a multiple of 4 bytes, or compressed. Of the compressions it reads gzip.
// A ramdisk without any archive is empty.
//
// It is stricter than the kernel: names must be plain paths below the root, padding
// zero, and each archive must end in its trailer. Refusals are [reason.Error] with
// a rule id that begins with "cpio." and name the offset in the ramdisk. No more
// than [MaxUnpacked] bytes of compressed content are read.
type Reader struct {
	src *source
	raw *bufio.Reader // the ramdisk as it is
	in  *bufio.Reader // what is read: raw, or what is unpacked from it
	gz  *gzip.Reader  // nil when in is raw

	pos     int64 // of in
	packed  int64 // where in raw the compressed part begins that is read
	left    int64 // of the current file's content
	pad     int64 // after it
	inside  bool  // of an archive
	found   bool  // an archive
	gzipped bool  // one was compressed
	room    int64 // for what is still to be unpacked

	damage  error // that ended what is unpacked
	current fields
	links   linkTable
	err     error
}

// NewReader returns a Reader of the ramdisk in r.
func NewReader(r io.Reader) *Reader {
	src := &source{r: r}
	raw := bufio.NewReaderSize(src, readBuffer)
	return &Reader{src: src, raw: raw, in: raw, room: MaxUnpacked}
}

const readBuffer = 64 << 10

// Compressed tells whether what was read so far was, at least in part, compressed.
func (r *Reader) Compressed() bool { return r.gzipped }

// Numbers are fields of an entry's header that have no part in the file it makes.
// They are measured like the rest of the ramdisk.
type Numbers struct {
	Inode, Links uint32
	// DevMajor and DevMinor are those of the device that the file was on.
	DevMajor, DevMinor uint32
}

// Numbers returns those of the entry that Next returned last.
func (r *Reader) Numbers() Numbers {
	return Numbers{r.current[fieldInode], r.current[fieldLinks], r.current[fieldDevMajor], r.current[fieldDevMinor]}
}

func (r *Reader) fail(why reason.Reason, rule, format string, args ...any) error {
	where := fmt.Sprintf("offset %d", r.pos)
	if r.gz != nil {
		where += fmt.Sprintf(" of what is compressed at offset %d", r.packed)
	}
	r.err = reason.New(why, rule, "%s: %s", where, fmt.Sprintf(format, args...))
	return r.err
}

// fill reads exactly len(p) bytes. A short archive is malformed.
func (r *Reader) fill(p []byte, what string) error {
	n, err := io.ReadFull(r.in, p)
	r.pos += int64(n)
	if err != nil {
		return r.broken(what)
	}
	return nil
}

// broken turns an error of reading into the Reader's: the end of the data is
// malformed, as is what cannot be unpacked; others are returned as they are.
func (r *Reader) broken(what string) error {
	switch {
	case r.src.err != nil:
		r.err = r.src.err
	case errors.Is(r.damage, errUnpacked):
		return r.fail(reason.Malformed, "cpio.unpacked", "more than %d bytes come out of what is compressed", int64(MaxUnpacked))
	case r.damage != nil:
		return r.fail(reason.Malformed, "cpio.gzip", "the compressed data are damaged: %v", r.damage)
	default:
		return r.fail(reason.Malformed, "cpio.truncated", "the archive ends inside %s", what)
	}
	return r.err
}

// Next skips what is left of the current entry and returns the next one, whose
// content is read from the Reader; its Content has the Size and nothing to open.
// It returns [io.EOF] at the end of the ramdisk.
//
// A [Hardlink] is another name for the file that an earlier entry of the same
// archive made: Link is the first entry's name. Its mode, owner and time become the
// file's, and so does its content if it has any.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	if err := r.skipPad(r.pad); err != nil {
		return nil, err
	}
	r.pad = 0
	for {
		if !r.inside {
			if err := r.begin(); err != nil {
				return nil, err
			}
		}
		e, err := r.header()
		if err != nil || e != nil {
			return e, err
		}
		r.inside, r.links = false, linkTable{}
	}
}

// Read reads the content of the entry that Next returned last.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 || len(p) == 0 {
		return 0, io.EOF
	}
	n, err := r.in.Read(p[:min(int64(len(p)), r.left)])
	r.pos += int64(n)
	r.left -= int64(n)
	if err != nil {
		return n, r.broken("a file")
	}
	return n, nil
}

// skipPad reads n bytes, fewer than 4, which must be zero.
func (r *Reader) skipPad(n int64) error {
	var pad [3]byte
	if err := r.fill(pad[:n], "padding"); err != nil {
		return err
	}
	if pad != [3]byte{} {
		return r.fail(reason.Malformed, "cpio.padding", "the padding before this is not zero")
	}
	return nil
}

// The fields of a header, in order.
const (
	fieldInode = iota
	fieldMode
	fieldUID
	fieldGID
	fieldLinks
	fieldMTime
	fieldSize
	fieldDevMajor
	fieldDevMinor
	fieldMajor
	fieldMinor
	fieldNameSize
	fieldCheck
	fieldCount
)

type fields [fieldCount]uint32

// header reads one entry, without a file's content; nil is the trailer.
func (r *Reader) header() (*Entry, error) {
	f := &r.current
	if err := r.readFields(f); err != nil {
		return nil, err
	}
	name, err := r.name(f[fieldNameSize])
	if err != nil {
		return nil, err
	}
	r.left = int64(f[fieldSize])
	r.pad = -r.left & 3
	if name == trailer {
		if r.left != 0 {
			return nil, r.fail(reason.Malformed, "cpio.trailer", "the trailer has content")
		}
		return nil, nil
	}
	e := &Entry{
		Name: name, Mode: f[fieldMode] & 0o7777, UID: f[fieldUID], GID: f[fieldGID],
		MTime: int64(f[fieldMTime]), Major: f[fieldMajor], Minor: f[fieldMinor],
		Content: Content{Size: r.left},
	}
	if err := r.kind(e, f[fieldMode]&^0o7777); err != nil {
		return nil, err
	}
	if e.Type == Dir && name == "." {
		// The root, which "find . | cpio" puts first.
	} else if err := validName(name, e.Type == Dir); err != nil {
		return nil, r.fail(reason.Malformed, "cpio.name", "%v", err)
	}
	if e.Type == Symlink {
		return e, r.readLink(e)
	}
	return e, r.hardLink(e)
}

func (r *Reader) kind(e *Entry, bits uint32) error {
	known := false
	for t, b := range typeBits {
		if b == bits {
			e.Type, known = t, true
		}
	}
	switch {
	case !known:
		return r.fail(reason.Unsupported, "cpio.type", "%.60q has the unknown type %#o", e.Name, bits)
	case e.Type != File && e.Type != Symlink && r.left != 0:
		return r.fail(reason.Malformed, "cpio.size", "%.60q is a %v and has %d bytes of content", e.Name, e.Type, r.left)
	}
	return nil
}

func (r *Reader) readFields(f *fields) error {
	at := r.pos
	var h [cpioHeader]byte
	if err := r.fill(h[:], "an entry's header"); err != nil {
		return err
	}
	if m := string(h[:len(cpioMagic)]); m != cpioMagic {
		r.pos = at
		if m == "070702" || m == "070707" {
			return r.fail(reason.Unsupported, "cpio.magic", "the archive is of another cpio format than newc")
		}
		return r.fail(reason.Malformed, "cpio.magic", "%q is not the beginning of an entry", m)
	}
	for i := range f {
		f[i] = 0
		for _, c := range h[len(cpioMagic)+8*i:][:8] {
			digit := strings.IndexByte("0123456789abcdefABCDEF", c)
			if digit < 0 {
				return r.fail(reason.Malformed, "cpio.field", "field %d of the header before this is no hexadecimal number", i)
			}
			if digit > 15 {
				digit -= 6
			}
			f[i] = f[i]<<4 | uint32(digit)
		}
	}
	if f[fieldCheck] != 0 {
		return r.fail(reason.Malformed, "cpio.field", "the check field of the header before this is not zero")
	}
	return nil
}

// name reads a name of size bytes, NUL included, and its padding.
func (r *Reader) name(size uint32) (string, error) {
	if size < 2 || size > maxName+1 {
		return "", r.fail(reason.Malformed, "cpio.name", "a name of %d bytes; 1 to %d are possible", int64(size)-1, maxName)
	}
	buf := make([]byte, size)
	if err := r.fill(buf, "a name"); err != nil {
		return "", err
	}
	if buf[size-1] != 0 {
		return "", r.fail(reason.Malformed, "cpio.name", "a name does not end in NUL")
	}
	return string(buf[:size-1]), r.skipPad(-(cpioHeader + int64(size)) & 3)
}

func (r *Reader) readLink(e *Entry) error {
	if r.left == 0 || r.left > maxName {
		return r.fail(reason.Malformed, "cpio.link", "%.60q is a symbolic link of %d bytes; 1 to %d are possible", e.Name, r.left, maxName)
	}
	target := make([]byte, r.left)
	if err := r.fill(target, "a symbolic link"); err != nil {
		return err
	}
	r.left = 0
	e.Link, e.Content = string(target), Content{}
	if strings.ContainsRune(e.Link, 0) {
		return r.fail(reason.Malformed, "cpio.link", "%.60q is a symbolic link with a NUL in it", e.Name)
	}
	return nil
}
