// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	"github.com/cretula/cretula/reason"
)

// MaxUnpacked is how many bytes a [Reader] takes out of the compressed parts of a
// ramdisk: 4 GiB. An enclave holds them in memory, beside what is compressed.
const MaxUnpacked = 4 << 30

var errUnpacked = errors.New("too much is unpacked")

// A source remembers the error of the Reader's own reader, so that a disk that
// fails is not taken for damaged content, and counts.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// An unpacker reads what is compressed at one place of a ramdisk.
type unpacker struct{ r *Reader }

func (u unpacker) Read(p []byte) (int, error) {
	n, err := u.r.gz.Read(p)
	if u.r.room -= int64(n); u.r.room < 0 {
		err = errUnpacked
	}
	if err != nil && err != io.EOF {
		u.r.damage = err
	}
	return n, err
}

// begin finds the next archive, or [io.EOF].
func (r *Reader) begin() error {
	for {
		c, err := r.in.ReadByte()
		switch {
		case err == io.EOF && r.gz == nil && r.src.err == nil:
			r.err = io.EOF
			return r.err
		case err == io.EOF && r.gz != nil:
			r.leave()
		case err != nil:
			return r.broken("zeros")
		case c == 0:
			r.pos++
		default:
			if err := r.in.UnreadByte(); err != nil {
				return err
			}
			if c == cpioMagic[0] && r.pos&3 == 0 {
				r.inside, r.found = true, true
				return nil
			}
			if err := r.enter(); err != nil {
				return err
			}
		}
	}
}

// The compressions that a kernel can be built to unpack, by how they begin; see
// lib/decompress.c.
var compressions = []struct{ magic, name string }{
	{"\x1f\x8b", "gzip"}, {"\x1f\x9e", "gzip"}, {"BZh", "bzip2"}, {"\x5d\x00", "lzma"},
	{"\xfd7zXZ", "xz"}, {"\x89LZO", "lzo"}, {"\x02\x21", "lz4"}, {"\x04\x22\x4d\x18", "lz4"}, {"\x28\xb5\x2f\xfd", "zstd"},
}

// enter begins to read what is compressed at this place of the ramdisk.
func (r *Reader) enter() error {
	if r.gz == nil {
		head, _ := r.raw.Peek(6)
		if r.src.err != nil {
			r.err = r.src.err
			return r.err
		}
		for _, c := range compressions {
			if !bytes.HasPrefix(head, []byte(c.magic)) {
				continue
			}
			if c.name == "gzip" {
				return r.enterGzip()
			}
			return r.fail(reason.Unsupported, "cpio.compression", "the archive is compressed by %s; gzip is read", c.name)
		}
	}
	if r.found {
		return r.fail(reason.Malformed, "cpio.trailing", "something other than zeros or another archive follows the trailer")
	}
	return r.fail(reason.Malformed, "cpio.magic", "no archive begins here, nor one of the known compressions")
}

func (r *Reader) enterGzip() error {
	r.packed = r.pos
	gz, err := gzip.NewReader(r.raw)
	if err != nil {
		if r.src.err != nil {
			r.err = r.src.err
			return r.err
		}
		return r.fail(reason.Malformed, "cpio.gzip", "the compressed data are damaged: %v", err)
	}
	// What follows the compressed data need not be compressed.
	gz.Multistream(false)
	r.gz, r.gzipped, r.pos = gz, true, 0
	r.in = bufio.NewReaderSize(unpacker{r}, readBuffer)
	return nil
}

// leave goes on behind what was compressed.
func (r *Reader) leave() {
	r.in, r.gz = r.raw, nil
	r.pos = r.src.n - int64(r.raw.Buffered())
}

// A linkTable has the first name of each file that more entries may be links to,
// as the kernel finds them: by device, inode and type.
type linkTable struct {
	names map[linkKey]string
	size  int
}

type linkKey struct {
	major, minor, inode uint32
	kind                Type
}

// maxLinkTable bounds the memory for names, in bytes.
const maxLinkTable = 16 << 20

// hardLink makes e a Hardlink if an earlier entry made the same file.
func (r *Reader) hardLink(e *Entry) error {
	if e.Type == Dir || r.current[fieldLinks] < 2 {
		return nil
	}
	key := linkKey{r.current[fieldDevMajor], r.current[fieldDevMinor], r.current[fieldInode], e.Type}
	if first, ok := r.links.names[key]; ok {
		if first == e.Name {
			return r.fail(reason.Malformed, "cpio.hardlink", "%.60q is a hard link to itself", e.Name)
		}
		e.Type, e.Link = Hardlink, first
		return nil
	}
	const overhead = 64
	if r.links.size += len(e.Name) + overhead; r.links.size > maxLinkTable {
		return r.fail(reason.Unsupported, "cpio.hardlink", "the names of files with hard links have more than %d bytes", maxLinkTable)
	}
	if r.links.names == nil {
		r.links.names = make(map[linkKey]string)
	}
	r.links.names[key] = e.Name
	return nil
}
