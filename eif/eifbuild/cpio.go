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
	links   map[int]fileLinks
	size    int64
}

// fileLinks are inode and number of names of an entry that is not the only name
// of its file.
type fileLinks struct{ inode, count uint32 }

// Size returns the archive's length in bytes.
func (r *Ramdisk) Size() int64 { return r.size }

// Source returns the archive as a section's content. Headers and contents come
// into being while they are read. The reader has a Close method for who does not
// read to the end.
func (r *Ramdisk) Source() eif.Source {
	return eif.Source{Reader: &archiveReader{entries: r.entries, links: r.links}, Size: r.size}
}

// Archive lays out entries, in their order, as a newc archive. A [Hardlink] must
// follow the entry that it names, and becomes another name of that file, with the
// mode, owner and time of the file. Names that are not plain paths below the root
// are refused, and what the format's 32-bit fields cannot hold: files of 4 GiB and
// times outside 1970 to 2106. The entries must not change afterwards.
func Archive(entries []Entry) (*Ramdisk, error) {
	links, err := findLinks(entries)
	if err != nil {
		return nil, err
	}
	r := &Ramdisk{entries: entries, links: links}
	for i := range entries {
		e := &entries[i]
		if err := checkEntry(e); err != nil {
			return nil, fmt.Errorf("%.200q: %w", e.Name, err)
		}
		r.size += aligned(cpioHeader+int64(len(e.Name))+1, 4) + aligned(e.contentSize(), 4)
	}
	r.size = aligned(r.size+aligned(int64(cpioHeader+len(trailer)+1), 4), blockSize)
	return r, nil
}

// findLinks finds the file of each hard link.
func findLinks(entries []Entry) (map[int]fileLinks, error) {
	files := make(map[string]int) // of what has links, the entry; -1: not yet seen
	for i := range entries {
		if entries[i].Type == Hardlink {
			files[entries[i].Link] = -1
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	names := make(map[int][]int) // the links of an entry
	for i := range entries {
		e := &entries[i]
		if e.Type == Hardlink {
			f := files[e.Link]
			if f < 0 || e.Name == e.Link {
				return nil, malformed("hardlink", "%.200q: a hard link to %.200q, which is no file before it", e.Name, e.Link)
			}
			names[f] = append(names[f], i)
		} else if _, wanted := files[e.Name]; wanted && e.Type != Dir && e.Type != Symlink {
			files[e.Name] = i
		}
	}
	links := make(map[int]fileLinks)
	for f, others := range names {
		l := fileLinks{inode: uint32(firstInode + f), count: uint32(len(others) + 1)}
		links[f] = l
		for _, i := range others {
			links[i] = l
		}
	}
	return links, nil
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
	links   map[int]fileLinks
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
		r.buf = padded(appendHeader(r.buf[:0], fileLinks{inode, 1}, trailer, nil, 0), r.pos, blockSize)
	default:
		e := &r.entries[r.next]
		l, linked := r.links[r.next]
		if !linked {
			l = fileLinks{inode, 1}
		}
		file := e
		if e.Type == Hardlink {
			file = &r.entries[l.inode-firstInode]
		}
		r.buf = appendHeader(r.buf[:0], l, e.Name, file, uint32(e.contentSize()))
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
		return malformed("name", "%w", err)
	}
	if e.Name == trailer {
		return malformed("name", "this name ends an archive")
	}
	if _, ok := typeBits[e.Type]; !ok && e.Type != Hardlink {
		return malformed("type", "a %v is no kind of file", e.Type)
	}
	if e.Mode > 0o7777 {
		return malformed("mode", "mode %#o has more than permission bits", e.Mode)
	}
	if e.MTime < 0 || e.MTime > math.MaxUint32 {
		return unsupported("time", "time %d does not fit 32 bits", e.MTime)
	}
	if e.Content.Size < 0 || e.Content.Size > math.MaxUint32 {
		return unsupported("size", "%d bytes do not fit 32 bits", e.Content.Size)
	}
	if e.Type != File && e.Content.Size != 0 {
		return malformed("type", "a %v has no content", e.Type)
	}
	if e.Type == Symlink && (e.Link == "" || len(e.Link) > maxName || strings.ContainsRune(e.Link, 0)) {
		return malformed("link", "%.60q is no target of a symbolic link", e.Link)
	}
	return nil
}

// appendHeader appends the 13 fields and the name, padded, to an empty out. The
// file is nil for the trailer.
func appendHeader(out []byte, links fileLinks, name string, file *Entry, size uint32) []byte {
	var mode, uid, gid, mtime, major, minor uint32
	if file != nil {
		mode = typeBits[file.Type] | file.Mode
		uid, gid, mtime = file.UID, file.GID, uint32(file.MTime)
		if file.Type == Dir {
			links.count = 2
		}
		if file.Type == CharDevice || file.Type == BlockDevice {
			major, minor = file.Major, file.Minor
		}
	}
	out = append(out, cpioMagic...)
	// Files are on device 3:1 for the writer that nitro-cli uses.
	for _, field := range [...]uint32{links.inode, mode, uid, gid, links.count, mtime, size, 3, 1, major, minor, uint32(len(name) + 1), 0} {
		for shift := 28; shift >= 0; shift -= 4 {
			out = append(out, "0123456789abcdef"[field>>shift&15])
		}
	}
	out = append(out, name...)
	out = append(out, 0)
	return append(out, zeros[:-len(out)&3]...)
}
