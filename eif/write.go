// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/cretula/cretula/pcr"
)

// A Source is the content of a section: exactly Size bytes of Reader, which is
// read once.
type Source struct {
	Reader io.Reader
	Size   int64
}

// Bytes returns a Source of data.
func Bytes(data []byte) Source { return Source{Reader: bytes.NewReader(data), Size: int64(len(data))} }

// A Spec says what an image is made of.
type Spec struct {
	Arch   Arch
	Kernel Source
	// Cmdline is the kernel's command line, without a newline at its end.
	Cmdline string
	// Metadata is the exact content of the metadata section, as
	// [Metadata.Encode] returns it.
	Metadata []byte
	// Ramdisks in the order of the image; the first is the bootstrap ramdisk.
	// The platform's loader wants at least one.
	Ramdisks []Source
	// DefaultMemory in bytes and DefaultCPUs go into the header; 0 means
	// [DefaultMemory] and [DefaultCPUs].
	DefaultMemory uint64
	DefaultCPUs   uint64
}

// A part is one section to be written.
type part struct {
	t      SectionType
	source Source
}

// parts returns the sections in the order of AWS's builder. (A signature comes
// last.)
func (s *Spec) parts() []part {
	list := []part{
		{Kernel, s.Kernel},
		{Cmdline, Source{Reader: strings.NewReader(s.Cmdline), Size: int64(len(s.Cmdline))}},
		{MetadataSection, Bytes(s.Metadata)},
	}
	for _, r := range s.Ramdisks {
		list = append(list, part{Ramdisk, r})
	}
	return list
}

func (s *Spec) check() error {
	if s.Arch > ArchAArch64 {
		return fmt.Errorf("eif: unknown architecture %d", s.Arch)
	}
	if s.Kernel.Reader == nil || s.Kernel.Size == 0 {
		return errors.New("eif: an image needs a kernel")
	}
	if strings.ContainsAny(s.Cmdline, "\x00\n") {
		return errors.New("eif: the kernel's command line holds a NUL or a newline")
	}
	if n := len(s.Cmdline); n > MaxCmdline {
		return fmt.Errorf("eif: a command line of %d bytes; the limit is %d", n, MaxCmdline)
	}
	if len(s.Ramdisks) == 0 {
		return errors.New("eif: an image needs a ramdisk")
	}
	if n := len(s.Ramdisks) + 3; n > MaxSections {
		return fmt.Errorf("eif: %d sections; an image has room for %d", n, MaxSections)
	}
	if _, err := ParseMetadata(s.Metadata); err != nil {
		return err
	}
	total := int64(HeaderSize)
	for i, p := range s.parts() {
		if p.source.Size < 0 || p.source.Size > math.MaxInt64-SectionHeaderSize-total {
			return fmt.Errorf("eif: section %d cannot have %d bytes", i, p.source.Size)
		}
		total += SectionHeaderSize + p.source.Size
	}
	return nil
}

// Write writes an unsigned image of format version 4 to w, beginning where w
// stands, and returns its measurements. It seeks back once to fill in the
// checksum, and leaves w at the end of the image. The same Spec gives the same
// bytes; they are those of AWS's builder for the same sections and metadata.
//
// After an error w holds half an image: write to a temporary file and rename it.
func Write(ctx context.Context, w io.WriteSeeker, spec Spec) (pcr.Measurements, error) {
	if err := spec.check(); err != nil {
		return pcr.Measurements{}, err
	}
	start, err := w.Seek(0, io.SeekCurrent)
	if err != nil {
		return pcr.Measurements{}, err
	}
	header := spec.header()
	if _, err := w.Write(header[:]); err != nil {
		return pcr.Measurements{}, err
	}
	parts := spec.parts()
	var largest int64
	for _, part := range parts {
		largest = max(largest, part.source.Size)
	}
	p := newPipeline(largest)
	crcHeader(p.side.crc, &header)
	for _, part := range parts {
		if err = writeSection(ctx, w, p, part); err != nil {
			break
		}
	}
	m := p.finish()
	if err != nil {
		return pcr.Measurements{}, err
	}
	if err := patchCRC(w, start, p.side.crc.Sum32()); err != nil {
		return pcr.Measurements{}, err
	}
	return m, nil
}

func patchCRC(w io.WriteSeeker, start int64, crc uint32) error {
	if _, err := w.Seek(start+offCRC, io.SeekStart); err != nil {
		return err
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, crc)); err != nil {
		return err
	}
	_, err := w.Seek(0, io.SeekEnd)
	return err
}

// header returns the file header without its checksum.
func (s *Spec) header() [HeaderSize]byte {
	var h [HeaderSize]byte
	orDefault := func(v, def uint64) uint64 {
		if v == 0 {
			return def
		}
		return v
	}
	copy(h[:], magic)
	binary.BigEndian.PutUint16(h[offVersion:], Version)
	binary.BigEndian.PutUint16(h[offFlags:], uint16(s.Arch))
	binary.BigEndian.PutUint64(h[offMemory:], orDefault(s.DefaultMemory, DefaultMemory))
	binary.BigEndian.PutUint64(h[offCPUs:], orDefault(s.DefaultCPUs, DefaultCPUs))
	parts := s.parts()
	binary.BigEndian.PutUint16(h[offCount:], uint16(len(parts)))
	offset := uint64(HeaderSize)
	for i, p := range parts {
		binary.BigEndian.PutUint64(h[offOffsets+8*i:], offset)
		binary.BigEndian.PutUint64(h[offSizes+8*i:], uint64(p.source.Size))
		offset += SectionHeaderSize + uint64(p.source.Size)
	}
	return h
}

func writeSection(ctx context.Context, w io.Writer, p *pipeline, s part) error {
	b := p.buffer()
	b.data = appendSectionHeader(b.data[:0], s.t, s.source.Size)
	p.section(s.t)
	if _, err := w.Write(b.data); err != nil {
		return err
	}
	p.unmeasured(b)
	for left := s.source.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := p.buffer()
		b.data = b.data[:min(left, int64(len(b.data)))]
		if n, err := io.ReadFull(s.source.Reader, b.data); err != nil {
			return fmt.Errorf("eif: %v: %d bytes short of the %d announced: %w", s.t, left-int64(n), s.source.Size, err)
		}
		if _, err := w.Write(b.data); err != nil {
			return err
		}
		left -= int64(len(b.data))
		p.content(b)
	}
	var one [1]byte
	if n, err := s.source.Reader.Read(one[:]); n > 0 {
		return fmt.Errorf("eif: %v: more than the %d bytes announced", s.t, s.source.Size)
	} else if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
