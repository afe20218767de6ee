// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// WriteSigned writes a copy of the image to w, beginning where w stands, with
// this signature section in the place of its own, and at the end if it has none;
// nil leaves the copy unsigned. Everything else is kept byte for byte but the
// table and the checksum. It returns the measurements of the copy, and leaves w
// at its end.
//
// The signature must be by the certificate in it and over this image's PCR0; its
// dates are not looked at. The original's checksum must be right. Both are known
// only at the end: after an error w holds half an image, or a whole one that
// must not be used, so write to a temporary file and rename it.
func (im *Image) WriteSigned(ctx context.Context, w io.WriteSeeker, section []byte) (pcr.Measurements, error) {
	var s *Signature
	if section != nil {
		if im.Header.Version < 3 {
			return pcr.Measurements{}, reason.New(reason.Unsupported, "eif.sign.version",
				"offset %d: an image of format version %d cannot be signed; signatures came with version 3", offVersion, im.Header.Version)
		}
		if n := len(section); n > MaxSignature {
			return pcr.Measurements{}, reason.New(reason.Malformed, "eif.signature.size",
				"the signature section has %d bytes; the limit is %d", n, MaxSignature)
		}
		var err error
		if s, err = parseSignature(section, 0); err != nil {
			return pcr.Measurements{}, err
		}
	}
	m, err := im.copyWith(ctx, w, section, &im.rawHeader)
	if err != nil || s == nil {
		return m, err
	}
	pcr0, _ := m.Get(0)
	for _, refusal := range []*reason.Error{s.checkValue(), s.checkRegister(pcr0)} {
		if refusal != nil {
			return pcr.Measurements{}, refusal
		}
	}
	m.Put(8, s.PCR8())
	return m, nil
}

// copyWith writes the copy and returns its measurements without PCR8. The
// original's checksum covers the original header.
func (im *Image) copyWith(ctx context.Context, w io.WriteSeeker, signature []byte, original *[HeaderSize]byte) (pcr.Measurements, error) {
	sections, err := im.sectionsWith(signature)
	if err != nil {
		return pcr.Measurements{}, err
	}
	header := im.headerFor(sections)
	start, err := w.Seek(0, io.SeekCurrent)
	if err != nil {
		return pcr.Measurements{}, err
	}
	if _, err := w.Write(header[:]); err != nil {
		return pcr.Measurements{}, err
	}
	var largest int64
	for _, s := range sections {
		largest = max(largest, s.Size)
	}
	p := newPipeline(largest)
	crcHeader(p.side.crc, &header)
	sum := crc32.NewIEEE()
	crcHeader(sum, original)
	err = im.copySections(ctx, w, p, signature, sum)
	m := p.finish()
	if err != nil {
		return pcr.Measurements{}, err
	}
	if got := sum.Sum32(); got != im.Header.CRC32 {
		return pcr.Measurements{}, reason.New(reason.Mismatch, "eif.crc",
			"offset %d: the checksum in the header is %08x, that of the content %08x", offCRC, im.Header.CRC32, got)
	}
	if err := patchCRC(w, start, p.side.crc.Sum32()); err != nil {
		return pcr.Measurements{}, err
	}
	return m, nil
}

// sectionsWith returns the sections of a copy with that signature.
func (im *Image) sectionsWith(signature []byte) ([]Section, error) {
	var sections []Section
	next := int64(HeaderSize)
	add := func(t SectionType, size int64) {
		s := Section{Type: t, Offset: next, Size: size}
		sections = append(sections, s)
		next = s.end()
	}
	placed := signature == nil
	for _, s := range im.Sections {
		switch {
		case s.Type != SignatureSection:
			add(s.Type, s.Size)
		case signature != nil:
			add(SignatureSection, int64(len(signature)))
			placed = true
		}
	}
	if !placed {
		add(SignatureSection, int64(len(signature)))
	}
	if n := len(sections); n > MaxSections {
		return nil, reason.New(reason.Unsupported, "eif.sign.room",
			"offset %d: the image has %d sections; there is no room for a signature", offCount, MaxSections)
	}
	return sections, nil
}

// headerFor returns the image's header with the table of these sections, and
// without a checksum.
func (im *Image) headerFor(sections []Section) [HeaderSize]byte {
	h := im.rawHeader
	binary.BigEndian.PutUint16(h[offCount:], uint16(len(sections)))
	clear(h[offOffsets:offUnused])
	for i, s := range sections {
		binary.BigEndian.PutUint64(h[offOffsets+8*i:], uint64(s.Offset))
		binary.BigEndian.PutUint64(h[offSizes+8*i:], uint64(s.Size))
	}
	clear(h[offCRC:])
	return h
}

// copySections writes the sections. Those of the original go through sum.
func (im *Image) copySections(ctx context.Context, w io.Writer, p *pipeline, signature []byte, sum io.Writer) error {
	placed := signature == nil
	for i, s := range im.Sections {
		// Parse has found the flags of every section header to be 0.
		if _, err := sum.Write(appendSectionHeader(nil, s.Type, s.Size)); err != nil {
			return err
		}
		r, start := im.data(i)
		out := Source{Reader: io.TeeReader(io.NewSectionReader(r, start, s.Size), sum), Size: s.Size}
		if s.Type == SignatureSection {
			if _, err := io.Copy(io.Discard, out.Reader); err != nil {
				return err
			}
			if signature == nil {
				continue
			}
			out, placed = Bytes(signature), true
		}
		if err := writeSection(ctx, w, p, part{s.Type, out}); err != nil {
			return err
		}
	}
	if placed {
		return nil
	}
	return writeSection(ctx, w, p, part{SignatureSection, Bytes(signature)})
}
