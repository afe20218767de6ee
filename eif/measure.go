// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// Measure reads the whole file once, in little memory, and returns PCR0, PCR1,
// PCR2 and, if the image is signed, PCR8: what the platform puts into these
// registers (AWS Nitro Enclaves User Guide, "Where to get an enclave's
// measurements"). A file whose checksum is wrong is refused with
// [reason.Mismatch]. The signature is not verified: see [Signature.Verify].
//
// PCR0 does not pin where one section ends and the next begins. Whoever compares
// measurements should compare PCR0, PCR1 and PCR2.
func (im *Image) Measure(ctx context.Context) (pcr.Measurements, error) {
	var largest int64
	for _, s := range im.Sections {
		largest = max(largest, s.Size)
	}
	p := newPipeline(largest)
	crcHeader(p.side.crc, &im.rawHeader)
	err := im.feed(ctx, p)
	m := p.finish()
	if err != nil {
		return pcr.Measurements{}, err
	}
	if got := p.side.crc.Sum32(); got != im.Header.CRC32 {
		return pcr.Measurements{}, reason.New(reason.Mismatch, "eif.crc",
			"offset %d: the checksum in the header is %08x, that of the content %08x", offCRC, im.Header.CRC32, got)
	}
	if im.signature != nil {
		m.Put(8, im.signature.PCR8())
	}
	return m, nil
}

// crcHeader sums the header without the field for the checksum itself, which is
// its end.
func crcHeader(crc hash.Hash32, header *[HeaderSize]byte) { crc.Write(header[:offCRC]) }

// feed runs the file's sections through the pipeline.
func (im *Image) feed(ctx context.Context, p *pipeline) error {
	for i, s := range im.Sections {
		b := p.buffer()
		b.data = appendSectionHeader(b.data[:0], s.Type, s.Size)
		p.section(s.Type)
		p.unmeasured(b)
		r, start := im.data(i)
		for pos := int64(0); pos < s.Size; {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := p.buffer()
			b.data = b.data[:min(s.Size-pos, int64(len(b.data)))]
			if err := readAt(r, b.data, start+pos); err != nil {
				return err
			}
			pos += int64(len(b.data))
			p.content(b)
		}
	}
	return nil
}

// data returns where the data of the i-th section are read: what [Parse] has looked
// into is not read a second time.
func (im *Image) data(i int) (r io.ReaderAt, start int64) {
	if held := im.held[i]; held != nil {
		return bytes.NewReader(held), 0
	}
	return im.r, im.Sections[i].DataOffset()
}

// appendSectionHeader appends the 12 bytes before a section's data; [Parse]
// refuses others.
func appendSectionHeader(out []byte, t SectionType, size int64) []byte {
	out = append(out, byte(t>>8), byte(t), 0, 0)
	return binary.BigEndian.AppendUint64(out, uint64(size))
}

// A buffer is small enough for a processor's second cache, from which the second
// of two hashes then reads it.
const (
	bufferSize  = 128 << 10
	bufferCount = 6
)

// A buffer goes through the pipeline's hashes and then back to the free ones.
type buffer struct {
	data []byte
	// section is the type of the section the data belong to, 0 for bytes that
	// only the checksum covers.
	section SectionType
	ramdisk int // 1 for the first
	users   atomic.Int32
}

// A pipeline computes the measurements of one image from its content in file
// order. Every measured byte belongs to PCR0 and to one of PCR1 and PCR2, but
// PCR1 is fed the same as PCR0 up to the second ramdisk, so its state is copied
// there and only PCR2 needs a pass of its own. Where there is a second processor
// it computes PCR0, while the caller reads, sums and computes PCR2, which is as
// much work; else the caller does it all.
type pipeline struct {
	main mainHashes
	side sideHashes
	// What the next content belongs to.
	current SectionType
	ramdisk int

	free chan *buffer
	// toMain leads to the goroutine that has main; nil: there is none.
	toMain chan *buffer
	done   chan struct{}
}

// newPipeline returns a pipeline for content whose largest section has that size.
// Its finish must be called.
func newPipeline(largest int64) *pipeline {
	size := min(max(largest, SectionHeaderSize), bufferSize)
	count := bufferCount
	// What fits into a buffer or two is not worth a goroutine.
	alone := runtime.GOMAXPROCS(0) == 1 || largest <= bufferSize
	if alone {
		count = 1
	}
	p := &pipeline{
		main: mainHashes{pcr0: sha512.New384()},
		side: sideHashes{pcr2: sha512.New384(), crc: crc32.NewIEEE()},
		free: make(chan *buffer, count),
	}
	for range count {
		p.free <- &buffer{data: make([]byte, size)}
	}
	if !alone {
		p.toMain, p.done = make(chan *buffer, count), make(chan struct{})
		go func() {
			defer close(p.done)
			for b := range p.toMain {
				p.main.add(b)
				p.release(b)
			}
		}()
	}
	return p
}

// buffer returns a free buffer of full length. It must be given back by content
// or unmeasured before the next is asked for.
func (p *pipeline) buffer() *buffer { return <-p.free }

func (p *pipeline) release(b *buffer) {
	if b.users.Add(-1) == 0 {
		b.data = b.data[:cap(b.data)]
		p.free <- b
	}
}

// section tells to which section the content that follows belongs.
func (p *pipeline) section(t SectionType) {
	p.current = t
	if t == Ramdisk {
		p.ramdisk++
	}
}

// content takes data of the current section.
func (p *pipeline) content(b *buffer) {
	b.section, b.ramdisk = p.current, p.ramdisk
	p.add(b)
}

// unmeasured takes bytes that only the checksum covers.
func (p *pipeline) unmeasured(b *buffer) {
	b.section = 0
	p.add(b)
}

func (p *pipeline) add(b *buffer) {
	b.users.Store(1)
	switch {
	case !b.section.measured():
	case p.toMain != nil:
		b.users.Store(2)
		p.toMain <- b
	default:
		p.main.add(b)
	}
	p.side.add(b)
	p.release(b)
}

// finish waits for the other goroutine and returns PCR0, PCR1 and PCR2.
func (p *pipeline) finish() pcr.Measurements {
	if p.toMain != nil {
		close(p.toMain)
		<-p.done
	}
	var m pcr.Measurements
	put := func(i pcr.Index, h hash.Hash) { m.Put(i, pcr.Measured(pcr.Digest(h.Sum(nil)))) }
	put(0, p.main.pcr0)
	put(1, p.main.first())
	put(2, p.side.pcr2)
	return m
}

type mainHashes struct {
	pcr0 hash.Hash
	// pcr1 is nil as long as it would be the same as pcr0.
	pcr1 hash.Hash
}

func (h *mainHashes) first() hash.Hash {
	if h.pcr1 != nil {
		return h.pcr1
	}
	return h.pcr0
}

// add takes measured content.
func (h *mainHashes) add(b *buffer) {
	if b.section == Ramdisk && b.ramdisk > 1 {
		if h.pcr1 == nil {
			h.pcr1 = clone(h.pcr0)
		}
	} else if h.pcr1 != nil {
		h.pcr1.Write(b.data)
	}
	h.pcr0.Write(b.data)
}

// clone copies a hash's state. SHA-512's implementation always can.
func clone(h hash.Hash) hash.Hash {
	c, err := h.(hash.Cloner).Clone()
	if err != nil {
		panic(err)
	}
	return c
}

type sideHashes struct {
	pcr2 hash.Hash
	crc  hash.Hash32
}

// add takes all content.
func (h *sideHashes) add(b *buffer) {
	h.crc.Write(b.data)
	if b.section == Ramdisk && b.ramdisk > 1 {
		h.pcr2.Write(b.data)
	}
}

// MeasureAt is [Image.Measure] for an image that is to be started at a time: it
// also refuses a signature that [Signature.Verify] refuses. Without that, PCR8
// could be that of a certificate whose key never signed this image.
func (im *Image) MeasureAt(ctx context.Context, at time.Time) (pcr.Measurements, error) {
	m, err := im.Measure(ctx)
	if err != nil {
		return pcr.Measurements{}, err
	}
	if s := im.Signature(); s != nil {
		pcr0, _ := m.Get(0)
		if err := s.Verify(pcr0, at); err != nil {
			return pcr.Measurements{}, err
		}
	}
	return m, nil
}
