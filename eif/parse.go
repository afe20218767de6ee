// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/cretula/cretula/reason"
)

// Parse reads the structure of the image of size bytes behind r: header, table,
// section headers, command line, metadata and signature. Kernel and ramdisks are
// not read. r must stay readable, and its content the same, as long as the Image
// is used.
//
// A refusal is a [*reason.Error]: Malformed for a file that breaks the format's
// rules, Unsupported for one that follows them with a value they do not define.
// Errors of r are returned as they are.
func Parse(r io.ReaderAt, size int64) (*Image, error) {
	if size < HeaderSize {
		return nil, reason.New(reason.Malformed, "eif.header.size",
			"offset %d: the file ends inside the header of %d bytes", max(size, 0), HeaderSize)
	}
	im := &Image{r: r, size: size}
	if err := readAt(r, im.rawHeader[:], 0); err != nil {
		return nil, err
	}
	count, err := im.parseHeader()
	if err != nil {
		return nil, err
	}
	raw, err := im.parseSections(count)
	if err != nil {
		return nil, err
	}
	if err := im.checkComposition(); err != nil {
		return nil, err
	}
	if err := im.loadSmall(); err != nil {
		return nil, err
	}
	// Values that the format does not define come last: what is malformed is
	// graver.
	if err := im.checkReserved(raw); err != nil {
		return nil, err
	}
	return im, nil
}

// readAt fills p. A file that turns out to be shorter than its size is malformed.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) || err == nil {
		return reason.New(reason.Malformed, "eif.truncated", "offset %d: the file ends here", off+int64(n))
	}
	return err
}

// parseHeader reads the fixed fields and returns the number of sections.
func (im *Image) parseHeader() (int, error) {
	h := im.rawHeader[:]
	if string(h[:offVersion]) != magic {
		return 0, reason.New(reason.Malformed, "eif.header.magic",
			"offset 0: the file begins with %q, an enclave image with %q", h[:offVersion], magic)
	}
	im.Header = Header{
		Version:       binary.BigEndian.Uint16(h[offVersion:]),
		Flags:         binary.BigEndian.Uint16(h[offFlags:]),
		DefaultMemory: binary.BigEndian.Uint64(h[offMemory:]),
		DefaultCPUs:   binary.BigEndian.Uint64(h[offCPUs:]),
		CRC32:         binary.BigEndian.Uint32(h[offCRC:]),
	}
	im.Header.Arch = Arch(im.Header.Flags & flagArch)
	if v := im.Header.Version; v < 2 || v > Version {
		return 0, reason.New(reason.Unsupported, "eif.header.version",
			"offset %d: format version %d; versions 2 to %d are known", offVersion, v, Version)
	}
	count := int(binary.BigEndian.Uint16(h[offCount:]))
	if count < 2 || count > MaxSections {
		return 0, reason.New(reason.Malformed, "eif.header.sections",
			"offset %d: %d sections; an image has 2 to %d", offCount, count, MaxSections)
	}
	for i := count; i < MaxSections; i++ {
		offset, size := im.tableEntry(i)
		if offset != 0 || size != 0 {
			return 0, reason.New(reason.Malformed, "eif.table.unused",
				"offset %d: place %d of the table is filled, but the file has %d sections", offOffsets+8*i, i, count)
		}
	}
	return count, nil
}

func (im *Image) tableEntry(i int) (offset, size uint64) {
	return binary.BigEndian.Uint64(im.rawHeader[offOffsets+8*i:]),
		binary.BigEndian.Uint64(im.rawHeader[offSizes+8*i:])
}

// parseSections reads every section header and proves that table and headers
// cover the file without a gap, an overlap or a rest. It returns the section
// headers' flags.
func (im *Image) parseSections(count int) (flags []uint16, err error) {
	im.Sections = make([]Section, 0, count)
	next := int64(HeaderSize)
	for i := range count {
		offset, size := im.tableEntry(i)
		if err := im.checkStart(i, next, offset); err != nil {
			return nil, err
		}
		h, err := im.sectionHeader(i, next)
		if err != nil {
			return nil, err
		}
		if h.size != size {
			return nil, im.sizesDiffer(i, next, h.size, size)
		}
		if room := im.size - next - SectionHeaderSize; size > uint64(room) {
			return nil, reason.New(reason.Malformed, "eif.section.bounds",
				"offset %d: section %d of %d bytes at %d does not end inside the file of %d bytes", offSizes+8*i, i, size, next, im.size)
		}
		s := Section{Type: h.t, Offset: next, Size: int64(size)}
		im.Sections = append(im.Sections, s)
		flags = append(flags, h.flags)
		next = s.end()
	}
	if next != im.size {
		return nil, reason.New(reason.Malformed, "eif.trailing",
			"offset %d: %d bytes after the last section", next, im.size-next)
	}
	return flags, nil
}

// checkStart proves that by the table the i-th section begins at next, where the
// one before it ends.
func (im *Image) checkStart(i int, next int64, offset uint64) error {
	at := offOffsets + 8*i
	switch {
	case offset < uint64(next):
		return reason.New(reason.Malformed, "eif.section.overlap",
			"offset %d: section %d begins at %d, but what is before it ends at %d", at, i, offset, next)
	case offset > uint64(im.size):
		return reason.New(reason.Malformed, "eif.section.bounds",
			"offset %d: section %d begins at %d, but the file has %d bytes", at, i, offset, im.size)
	case offset > uint64(next):
		return reason.New(reason.Malformed, "eif.section.gap",
			"offset %d: section %d begins at %d and leaves a gap after %d", at, i, offset, next)
	}
	return nil
}

// A sectionHeader is the 12 bytes before a section's data.
type sectionHeader struct {
	t     SectionType
	flags uint16
	size  uint64
}

// sectionHeader reads the header of the i-th section, which begins at offset.
func (im *Image) sectionHeader(i int, offset int64) (sectionHeader, error) {
	if im.size-offset < SectionHeaderSize {
		return sectionHeader{}, reason.New(reason.Malformed, "eif.section.bounds",
			"offset %d: section %d begins here, but the file ends inside its header of %d bytes", offset, i, SectionHeaderSize)
	}
	var h [SectionHeaderSize]byte
	if err := readAt(im.r, h[:], offset); err != nil {
		return sectionHeader{}, err
	}
	return sectionHeader{
		t:     SectionType(binary.BigEndian.Uint16(h[:])),
		flags: binary.BigEndian.Uint16(h[2:]),
		size:  binary.BigEndian.Uint64(h[4:]),
	}, nil
}

// sizesDiffer refuses a file whose table has another size for the i-th section
// than the section's own header at offset.
func (im *Image) sizesDiffer(i int, offset int64, own, table uint64) error {
	remedy := ""
	if repairable(im.r, im.size) {
		remedy = "; nothing else is wrong with the sections: 'cretula eif repair' puts the table right"
	}
	return reason.New(reason.Malformed, "eif.table.size",
		"offset %d: section %d says it has %d bytes, the table says %d%s", offset+4, i, own, table, remedy)
}

// checkComposition counts the kinds of sections and looks at their order. Source:
// the format text.
func (im *Image) checkComposition() error {
	var count [MetadataSection + 1]int
	ramdiskBefore := int64(-1) // offset of the first ramdisk before the kernel
	for i, s := range im.Sections {
		if s.Type == 0 {
			return reason.New(reason.Malformed, "eif.section.invalid", "offset %d: section %d has the invalid type 0", s.Offset, i)
		}
		if s.Type > MetadataSection {
			continue
		}
		if s.Type == Ramdisk && count[Kernel]+count[Ramdisk] == 0 {
			ramdiskBefore = s.Offset
		}
		count[s.Type]++
		if s.Type != Ramdisk && count[s.Type] > 1 {
			return reason.New(reason.Malformed, "eif."+s.Type.String()+".count", "offset %d: a second %v section", s.Offset, s.Type)
		}
	}
	needed := []SectionType{Kernel, Cmdline}
	if im.Header.Version >= 4 {
		needed = append(needed, MetadataSection)
	}
	for _, t := range needed {
		if count[t] == 0 {
			return reason.New(reason.Malformed, "eif."+t.String()+".count", "offset %d: no section of the file is a %v section", offCount, t)
		}
	}
	if ramdiskBefore >= 0 {
		return reason.New(reason.Malformed, "eif.kernel.order", "offset %d: a ramdisk before the kernel", ramdiskBefore)
	}
	return nil
}

// checkReserved refuses what the format text reserves.
func (im *Image) checkReserved(sectionFlags []uint16) error {
	if unknown := im.Header.Flags &^ (flagArch | FlagPCIe | FlagPCIeVirtio); unknown != 0 {
		return reason.New(reason.Unsupported, "eif.header.flags", "offset %d: unknown flags %#04x", offFlags, unknown)
	}
	if v := binary.BigEndian.Uint16(im.rawHeader[offReserved:]); v != 0 {
		return reason.New(reason.Unsupported, "eif.header.reserved", "offset %d: the reserved field is %#04x, not 0", offReserved, v)
	}
	if v := binary.BigEndian.Uint32(im.rawHeader[offUnused:]); v != 0 {
		return reason.New(reason.Unsupported, "eif.header.reserved", "offset %d: the unused field is %#08x, not 0", offUnused, v)
	}
	// Signatures came with version 3, metadata with version 4.
	last := [Version + 1]SectionType{2: Ramdisk, 3: SignatureSection, 4: MetadataSection}[im.Header.Version]
	for i, s := range im.Sections {
		if s.Type > last {
			return reason.New(reason.Unsupported, "eif.section.type",
				"offset %d: section %d has %v, which version %d does not define", s.Offset, i, s.Type, im.Header.Version)
		}
		if sectionFlags[i] != 0 {
			return reason.New(reason.Unsupported, "eif.section.flags",
				"offset %d: section %d has flags %#04x; none is defined", s.Offset+2, i, sectionFlags[i])
		}
	}
	return nil
}

// limit is the most bytes that a section of a type which is looked into may have;
// 0 for the other types.
func (t SectionType) limit() int64 {
	switch t {
	case Cmdline:
		return MaxCmdline
	case MetadataSection:
		return MaxMetadata
	case SignatureSection:
		return MaxSignature
	}
	return 0
}

// loadSmall takes the sections into memory that are looked into, and checks what
// is in them.
func (im *Image) loadSmall() error {
	im.held = make([][]byte, len(im.Sections))
	for i, s := range im.Sections {
		limit := s.Type.limit()
		switch {
		case s.Type == Kernel && s.Size == 0:
			return reason.New(reason.Malformed, "eif.kernel.size", "offset %d: the kernel has no bytes", s.Offset)
		case limit == 0:
			continue
		case s.Size > limit:
			return reason.New(reason.Malformed, "eif."+s.Type.String()+".size",
				"offset %d: section %d, %v, has %d bytes; the limit is %d", s.Offset, i, s.Type, s.Size, limit)
		}
		data := make([]byte, s.Size)
		if err := readAt(im.r, data, s.DataOffset()); err != nil {
			return err
		}
		im.held[i] = data
		if err := im.parseSmall(s, data); err != nil {
			return err
		}
	}
	return nil
}

func (im *Image) parseSmall(s Section, data []byte) (err error) {
	switch s.Type {
	case Cmdline:
		im.cmdline = string(data)
		if at := strings.IndexAny(im.cmdline, "\x00\n"); at >= 0 {
			return reason.New(reason.Malformed, "eif.cmdline.content",
				"offset %d: the command line holds the byte %#02x, which ends it for a loader", s.DataOffset()+int64(at), data[at])
		}
	case MetadataSection:
		im.metadata, err = parseMetadata(data, s.DataOffset())
	case SignatureSection:
		im.signature, err = parseSignature(data, s.DataOffset())
	}
	return err
}
