// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"bytes"
	"fmt"
	"io"
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
	parts []eif.Source
	size  int64
}

// Size returns the archive's length in bytes.
func (r *Ramdisk) Size() int64 { return r.size }

// Source returns the archive as a section's content. It can be called once.
func (r *Ramdisk) Source() eif.Source {
	readers := make([]io.Reader, len(r.parts))
	for i, p := range r.parts {
		readers[i] = p.Reader
	}
	return eif.Source{Reader: io.MultiReader(readers...), Size: r.size}
}

// Archive lays out entries, in their order, as a newc archive. Hard links are
// refused, as are names that are not plain paths below the root, and what the
// format's 32-bit fields cannot hold: files of 4 GiB and times outside 1970 to
// 2106.
func Archive(entries []Entry) (*Ramdisk, error) {
	r := new(Ramdisk)
	inode := uint32(firstInode)
	for i := range entries {
		e := &entries[i]
		if err := checkEntry(e); err != nil {
			return nil, fmt.Errorf("eifbuild: %s: %w", e.Name, err)
		}
		content := e.Content
		if e.Type == Symlink {
			content = Bytes([]byte(e.Link))
		}
		r.add(eif.Bytes(appendHeader(nil, inode, e, uint32(content.Size))))
		if content.Size > 0 {
			r.add(content.source())
		}
		r.pad(4)
		inode++
	}
	r.add(eif.Bytes(appendHeader(nil, inode, nil, 0)))
	r.pad(blockSize)
	return r, nil
}

func (r *Ramdisk) add(s eif.Source) {
	r.parts = append(r.parts, s)
	r.size += s.Size
}

func (r *Ramdisk) pad(to int64) {
	if rest := r.size % to; rest != 0 {
		r.add(eif.Bytes(make([]byte, to-rest)))
	}
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

// appendHeader appends the 13 fields and the name, padded. A nil entry is the
// trailer.
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
		out = fmt.Appendf(out, "%08x", field)
	}
	out = append(out, name...)
	out = append(out, 0)
	return append(out, bytes.Repeat([]byte{0}, -len(out)&3)...)
}
