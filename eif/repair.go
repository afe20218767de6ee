// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/cretula/cretula/pcr"
)

// A Repaired says what [Repair] put right.
type Repaired struct {
	// Section is the index of the signature section, Offset where its size is in
	// the header's table.
	Section int
	Offset  int64
	// TableSize is what the table said, Size what the section itself says and has.
	TableSize uint64
	Size      int64
	// Signature is that of the image, not verified.
	Signature *Signature
	// Measurements are those of the repaired image.
	Measurements pcr.Measurements
}

// Repair writes a copy of an image whose table has a stale size of the signature
// section, with the right one. AWS's "nitro-cli sign-eif" leaves such a file where
// it replaces a signature by one of another length (issue 54 of
// aws-nitro-enclaves-image-format): it moves what follows, cuts the file and sums
// it anew, but does not write the new size into the table. An image without a
// fault gives nil, and nothing is written.
//
// Nothing else is repaired. The platform goes by the table, AWS's tools by the
// section headers, so the copy is only made where both find the same bytes to
// measure: the signature's own size leads exactly to the next section or to the
// end of the file, every other size and offset agrees, and the checksum is right,
// which tells that the file is as its writer left it. What a file says twice about
// the kernel, the command line, a ramdisk or the metadata is not for a repair to
// decide. Such files are refused with the [*reason.Error] that [Parse] has for
// them. PCR0, PCR1 and PCR2 are those of both readings; whether the signature is
// good, and at what date, the caller has to ask.
func Repair(ctx context.Context, w io.WriteSeeker, r io.ReaderAt, size int64) (*Repaired, error) {
	sound, refusal := Parse(r, size)
	if refusal == nil {
		_, err := sound.Measure(ctx)
		return nil, err
	}
	found, err := findStale(r, size)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, refusal
	}
	original := found.header
	binary.BigEndian.PutUint64(found.header[found.Offset:], uint64(found.Size))
	im, err := Parse(&patchedReader{found.header[:], r}, size)
	if err != nil {
		return nil, err
	}
	m, err := im.copyWith(ctx, w, im.held[found.Section], &original)
	if err != nil {
		return nil, err
	}
	m.Put(8, im.signature.PCR8())
	found.Signature, found.Measurements = im.signature, m
	return &found.Repaired, nil
}

// repairable tells whether the file, which [Parse] refuses, has the one fault that
// [Repair] puts right, as far as can be told without reading the whole of it.
func repairable(r io.ReaderAt, size int64) bool {
	found, err := findStale(r, size)
	return err == nil && found != nil
}

// A stale is a fault that can be repaired, in a file with this header.
type stale struct {
	Repaired
	header [HeaderSize]byte
}

// findStale walks table and section headers together; nil if the file has another
// fault than one stale size of its signature section, or none. Errors are the
// reader's.
func findStale(r io.ReaderAt, size int64) (*stale, error) {
	im := &Image{r: r, size: size}
	if size < HeaderSize {
		return nil, nil
	}
	if err := readAt(r, im.rawHeader[:], 0); err != nil {
		return nil, err
	}
	count, refusal := im.parseHeader()
	if refusal != nil {
		return nil, nil
	}
	var found *stale
	next := int64(HeaderSize)
	for i := range count {
		offset, inTable := im.tableEntry(i)
		if offset != uint64(next) || size-next < SectionHeaderSize {
			return nil, nil
		}
		var h [SectionHeaderSize]byte
		if err := readAt(r, h[:], next); err != nil {
			return nil, err
		}
		own := binary.BigEndian.Uint64(h[4:])
		if own > uint64(size-next-SectionHeaderSize) {
			return nil, nil
		}
		if own != inTable {
			if found != nil || SectionType(binary.BigEndian.Uint16(h[:])) != SignatureSection {
				return nil, nil
			}
			found = &stale{
				Repaired{Section: i, Offset: int64(offSizes + 8*i), TableSize: inTable, Size: int64(own)}, im.rawHeader,
			}
		}
		next += SectionHeaderSize + int64(own)
	}
	if next != size {
		return nil, nil
	}
	return found, nil
}

// A patchedReader reads r with other bytes at its beginning.
type patchedReader struct {
	head []byte
	r    io.ReaderAt
}

func (p *patchedReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.r.ReadAt(b, off)
	if off >= 0 && off < int64(len(p.head)) {
		copy(b[:n], p.head[off:])
	}
	return n, err
}
