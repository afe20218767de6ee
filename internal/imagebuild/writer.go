// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// A follower tells how much of an image is written.
type follower struct {
	io.WriteSeeker
	done, total int64
	progress    func(done, total int64)
}

// follow wraps a file to which an image is written. Headers are not counted.
func (b *build) follow(w io.WriteSeeker, stage string, c eifbuild.Config) io.WriteSeeker {
	f := &follower{WriteSeeker: w, progress: func(done, total int64) { b.Progress(stage, done, total) }}
	for _, part := range []eifbuild.Content{c.Kernel, c.Init, c.NSMKo} {
		f.total += part.Size
	}
	for _, e := range c.Entries {
		f.total += e.Content.Size
	}
	return f
}

func (f *follower) Write(p []byte) (int, error) {
	n, err := f.WriteSeeker.Write(p)
	f.done += int64(n)
	f.progress(min(f.done, f.total), f.total)
	return n, err
}

// A comparison is written an image and compares it with one that there is. The
// header is written twice, the checksum being known at the end, so it is kept.
type comparison struct {
	file      io.ReaderAt
	header    [eif.HeaderSize]byte
	buf       []byte
	pos, size int64
}

func (c *comparison) Write(p []byte) (int, error) {
	written := len(p)
	if c.pos < eif.HeaderSize {
		n := copy(c.header[c.pos:], p)
		c.advance(n)
		p = p[n:]
	}
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	old := c.buf[:len(p)]
	if n, err := c.file.ReadAt(old, c.pos); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	} else if at := difference(old[:n], p); at >= 0 {
		return 0, c.differs(c.pos + int64(at))
	}
	c.advance(len(p))
	return written, nil
}

func (c *comparison) advance(n int) {
	c.pos += int64(n)
	c.size = max(c.size, c.pos)
}

// difference returns where two contents differ first, or -1.
func difference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func (c *comparison) differs(at int64) error {
	return reason.New(reason.Mismatch, "imagebuild.reproducible",
		"built a second time, the image differs from byte %d on: the source changes while it is read", at)
}

func (c *comparison) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.pos
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("imagebuild: seek to %d", offset)
	}
	c.pos = offset
	return offset, nil
}

// finish compares what is known at the end.
func (c *comparison) finish(size int64) error {
	var old [eif.HeaderSize]byte
	if _, err := c.file.ReadAt(old[:], 0); err != nil {
		return err
	}
	if at := difference(old[:], c.header[:]); at >= 0 {
		return c.differs(int64(at))
	}
	if c.size != size {
		return c.differs(min(c.size, size))
	}
	return nil
}
