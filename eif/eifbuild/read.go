// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cretula/cretula/reason"
)

// A Reader reads the entries of a newc archive in order, in little memory. It is
// stricter than the kernel: names must be plain paths below the root, each
// file's data its own, padding zero, and nothing but zeros may follow the
// trailer. Refusals are [reason.Error] with a rule id that begins with "cpio."
// and name the offset in the archive.
type Reader struct {
	r    io.Reader
	pos  int64
	left int64 // of the current file's content
	pad  int64 // after it
	err  error
}

// NewReader returns a Reader of the archive in r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

func (r *Reader) fail(why reason.Reason, rule, format string, args ...any) error {
	r.err = reason.New(why, rule, "offset %d: %s", r.pos, fmt.Sprintf(format, args...))
	return r.err
}

// fill reads exactly len(p) bytes. A short archive is malformed; other errors of
// the underlying reader are returned as they are.
func (r *Reader) fill(p []byte, what string) error {
	n, err := io.ReadFull(r.r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.pos += int64(n)
		return r.fail(reason.Malformed, "cpio.truncated", "the archive ends inside %s", what)
	}
	if err != nil {
		r.err = err
		return err
	}
	r.pos += int64(n)
	return nil
}

// Next skips what is left of the current entry and returns the next one, whose
// content is read from the Reader; its Content has the Size and nothing to open.
// It returns [io.EOF] after the trailer and the zeros that follow it.
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
	e, isTrailer, err := r.header()
	if err != nil {
		return nil, err
	}
	if isTrailer {
		return nil, r.finish()
	}
	if e.Type == Symlink {
		if err := r.readLink(e); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Read reads the content of the entry that Next returned last.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 || len(p) == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.pos += int64(n)
	r.left -= int64(n)
	if err == io.EOF {
		err = nil
		if r.left > 0 {
			err = r.fail(reason.Malformed, "cpio.truncated", "the archive ends inside a file")
		}
	}
	if err != nil {
		r.err = err
	}
	return n, err
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

// header reads fields and name of one entry.
func (r *Reader) header() (e *Entry, isTrailer bool, err error) {
	var fields [fieldCount]uint32
	if err := r.fields(&fields); err != nil {
		return nil, false, err
	}
	name, err := r.name(fields[fieldNameSize])
	if err != nil {
		return nil, false, err
	}
	r.left = int64(fields[fieldSize])
	r.pad = -r.left & 3
	if name == trailer {
		if r.left != 0 {
			return nil, false, r.fail(reason.Malformed, "cpio.trailer", "the trailer has content")
		}
		return nil, true, nil
	}
	e = &Entry{
		Name: name, Mode: fields[fieldMode] & 0o7777, UID: fields[fieldUID], GID: fields[fieldGID],
		MTime: int64(fields[fieldMTime]), Major: fields[fieldMajor], Minor: fields[fieldMinor],
		Content: Content{Size: r.left},
	}
	if err := r.kind(e, fields[fieldMode]&^0o7777, fields[fieldLinks]); err != nil {
		return nil, false, err
	}
	if err := validName(name, e.Type == Dir); err != nil {
		return nil, false, r.fail(reason.Malformed, "cpio.name", "%v", err)
	}
	return e, false, nil
}

func (r *Reader) kind(e *Entry, bits, links uint32) error {
	known := false
	for t, b := range typeBits {
		if b == bits {
			e.Type, known = t, true
		}
	}
	switch {
	case !known:
		return r.fail(reason.Unsupported, "cpio.type", "%.60q has the unknown type %#o", e.Name, bits)
	case e.Type != Dir && links > 1:
		return r.fail(reason.Unsupported, "cpio.hardlink", "%.60q is a hard link; the kernel's way to share content is not read", e.Name)
	case e.Type != File && e.Type != Symlink && r.left != 0:
		return r.fail(reason.Malformed, "cpio.size", "%.60q is a %v and has %d bytes of content", e.Name, e.Type, r.left)
	}
	return nil
}

func (r *Reader) fields(fields *[fieldCount]uint32) error {
	var h [cpioHeader]byte
	if err := r.fill(h[:], "an entry's header"); err != nil {
		return err
	}
	if m := string(h[:len(cpioMagic)]); m != cpioMagic {
		r.pos -= cpioHeader
		if m[:2] == "\x1f\x8b" || m == "070702" || m == "070707" {
			return r.fail(reason.Unsupported, "cpio.magic", "the archive is compressed or of another cpio format than newc")
		}
		return r.fail(reason.Malformed, "cpio.magic", "%q is not the beginning of an entry", m)
	}
	for i := range fields {
		for _, c := range h[len(cpioMagic)+8*i:][:8] {
			digit := strings.IndexByte("0123456789abcdef", c|0x20)
			if digit < 0 {
				return r.fail(reason.Malformed, "cpio.field", "field %d of the header before this is no hexadecimal number", i)
			}
			fields[i] = fields[i]<<4 | uint32(digit)
		}
	}
	if fields[fieldCheck] != 0 {
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

// finish reads what follows the trailer.
func (r *Reader) finish() error {
	buf := make([]byte, 4096)
	for {
		n, err := r.r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return r.fail(reason.Malformed, "cpio.trailing", "something other than zeros follows the trailer")
			}
			r.pos++
		}
		if err != nil {
			r.err = err
			return err
		}
	}
}
