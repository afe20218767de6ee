// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/cretula/cretula/eif"
)

const (
	cpioMagic  = "070701"
	cpioHeader = 110
	// trailer is the name of the entry that ends an archive.
	trailer = "TRAILER!!!"
	// firstInode is where the writer that nitro-cli uses begins to count.
	firstInode = 721
	// blockSize is what that writer pads archives to.
	blockSize = 512
	// maxName is the kernel's PATH_MAX without the NUL.
	maxName = 4095
)

// A Ramdisk is a cpio archive that is yet to be written.
type Ramdisk struct {
	entries []Entry
	size    int64
}

// Size returns the archive's length in bytes.
func (r *Ramdisk) Size() int64 { return r.size }

// Source returns the archive as a section's content. Headers and contents come
// into being while they are read. The reader has a Close method for who does not
// read to the end.
func (r *Ramdisk) Source() eif.Source {
	return eif.Source{Reader: &archiveReader{entries: r.entries}, Size: r.size}
}

// Archive lays out entries, in their order, as a newc archive. Hard links are
// refused, as are names that are not plain paths below the root, and what the
// format's 32-bit fields cannot hold: files of 4 GiB and times outside 1970 to
// 2106. The entries must not change afterwards.
func Archive(entries []Entry) (*Ramdisk, error) {
	r := &Ramdisk{entries: entries}
	for i := range entries {
		e := &entries[i]
		if err := checkEntry(e); err != nil {
			return nil, fmt.Errorf("eifbuild: %.200q: %w", e.Name, err)
		}
		r.size += aligned(cpioHeader+int64(len(e.Name))+1, 4) + aligned(e.contentSize(), 4)
	}
	r.size = aligned(r.size+aligned(int64(cpioHeader+len(trailer)+1), 4), blockSize)
	return r, nil
}

func aligned(n, to int64) int64 { return (n + to - 1) / to * to }

// contentSize is how many bytes follow an entry's header.
func (e *Entry) contentSize() int64 {
	if e.Type == Symlink {
		return int64(len(e.Link))
	}
	return e.Content.Size
}

// An archiveReader makes an archive while it is read.
type archiveReader struct {
	entries []Entry
	next    int    // len(entries) is the trailer
	buf     []byte // headers, links and padding
	unread  []byte // of buf
	content *contentReader
	pos     int64
	err     error
}

func (r *archiveReader) Read(p []byte) (int, error) {
	for r.err == nil && len(p) > 0 {
		if len(r.unread) > 0 {
			n := copy(p, r.unread)
			r.unread = r.unread[n:]
			r.pos += int64(n)
			return n, nil
		}
		if r.content == nil {
			r.advance()
			continue
		}
		n, err := r.content.Read(p)
		r.pos += int64(n)
		switch {
		case err == io.EOF:
			r.content = nil
			r.unread = padded(nil, r.pos, 4)
		case err != nil:
			r.err = fmt.Errorf("%.200q: %w", r.entries[r.next-1].Name, err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// advance makes the next header, or the end of the archive.
func (r *archiveReader) advance() {
	inode := uint32(firstInode + r.next)
	switch {
	case r.next > len(r.entries):
		r.err = io.EOF
		return
	case r.next == len(r.entries):
		r.buf = padded(appendHeader(r.buf[:0], inode, nil, 0), r.pos, blockSize)
	default:
		e := &r.entries[r.next]
		r.buf = appendHeader(r.buf[:0], inode, e, uint32(e.contentSize()))
		if e.Type == Symlink {
			r.buf = padded(append(r.buf, e.Link...), r.pos, 4)
		} else if e.Content.Size > 0 {
			r.content = &contentReader{content: e.Content, left: e.Content.Size}
		}
	}
	r.unread = r.buf
	r.next++
}

// padded adds zeros to buf, which begins at a position of the archive, up to a
// multiple.
func padded(buf []byte, pos, multiple int64) []byte {
	end := pos + int64(len(buf))
	return append(buf, zeros[:aligned(end, multiple)-end]...)
}

var zeros [blockSize]byte

// Close closes the file that is being read.
func (r *archiveReader) Close() error {
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	if r.content == nil {
		return nil
	}
	return r.content.Close()
}

func checkEntry(e *Entry) error {
	if err := validName(e.Name, e.Type == Dir); err != nil {
		return err
	}
	if e.Name == trailer {
		return fmt.Errorf("this name ends an archive")
	}
	if _, ok := typeBits[e.Type]; !ok {
		return fmt.Errorf("a %v cannot be in an archive", e.Type)
	}
	if e.Mode > 0o7777 {
		return fmt.Errorf("mode %#o has more than permission bits", e.Mode)
	}
	if e.MTime < 0 || e.MTime > math.MaxUint32 {
		return fmt.Errorf("time %d does not fit 32 bits", e.MTime)
	}
	if e.Content.Size < 0 || e.Content.Size > math.MaxUint32 {
		return fmt.Errorf("%d bytes do not fit 32 bits", e.Content.Size)
	}
	if e.Type != File && e.Content.Size != 0 {
		return fmt.Errorf("a %v has no content", e.Type)
	}
	if e.Type == Symlink && (e.Link == "" || len(e.Link) > maxName || strings.ContainsRune(e.Link, 0)) {
		return fmt.Errorf("%.60q is no target of a symbolic link", e.Link)
	}
	return nil
}

// appendHeader appends the 13 fields and the name, padded, to an empty out. A nil
// entry is the trailer.
func appendHeader(out []byte, inode uint32, e *Entry, size uint32) []byte {
	name, links := trailer, uint32(1)
	var mode, uid, gid, mtime, major, minor uint32
	if e != nil {
		name = e.Name
		mode = typeBits[e.Type] | e.Mode
		uid, gid, mtime = e.UID, e.GID, uint32(e.MTime)
		if e.Type == Dir {
			links = 2
		}
		if e.Type == CharDevice || e.Type == BlockDevice {
			major, minor = e.Major, e.Minor
		}
	}
	out = append(out, cpioMagic...)
	// Files are on device 3:1 for that writer.
	for _, field := range [...]uint32{inode, mode, uid, gid, links, mtime, size, 3, 1, major, minor, uint32(len(name) + 1), 0} {
		for shift := 28; shift >= 0; shift -= 4 {
			out = append(out, "0123456789abcdef"[field>>shift&15])
		}
	}
	out = append(out, name...)
	out = append(out, 0)
	return append(out, zeros[:-len(out)&3]...)
}
