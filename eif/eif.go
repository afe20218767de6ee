// SPDX-License-Identifier: Apache-2.0

// Package eif reads, measures and writes enclave image files (EIF), the format
// that AWS Nitro Enclaves boot from.
//
// Reading is strict: the table in the file's header and the headers of the
// sections must tell the same story, every byte of the file must belong to a
// section, and the checksum must be right. AWS's own describing tool walks the
// sections while the platform goes by the table, so a file about which the two
// could differ has no measurements worth printing; it is refused, with a
// [reason.Error] whose rule id begins with "eif." and whose message names the
// offset. Nothing is allocated on the word of the file: besides fixed buffers,
// only the command line, the metadata and the signature (at most [MaxCmdline],
// [MaxMetadata] and [MaxSignature] bytes) are held in memory.
//
// Source: the EIF format text and reader of aws/aws-nitro-enclaves-image-format.
// All integers in the file are big-endian.
package eif

import (
	"fmt"
	"io"
)

const (
	// HeaderSize is the length of the file header.
	HeaderSize = 548
	// SectionHeaderSize is the length of the header before each section's data.
	SectionHeaderSize = 12
	// MaxSections is the number of places in the header's table.
	MaxSections = 32
	// MaxSignature is the limit that the format sets for a signature section.
	MaxSignature = 32768
	// MaxMetadata is the largest metadata section this package reads. The format
	// sets no limit; what nitro-cli writes has a few kilobytes.
	MaxMetadata = 1 << 20
	// MaxCmdline is the longest command line this package reads. The format sets
	// no limit; Linux takes 2048 bytes (COMMAND_LINE_SIZE, x86 and arm64).
	MaxCmdline = 64 << 10
	// Version is the format version that is written. Versions 2 (no signature,
	// no metadata) and 3 (no metadata) are read, too.
	Version = 4

	// DefaultMemory and DefaultCPUs are what AWS's builder puts into the header
	// fields of that name, which nothing is known to read.
	DefaultMemory = 1 << 30
	DefaultCPUs   = 2
)

// Offsets of header fields.
const (
	offVersion  = 4
	offFlags    = 6
	offMemory   = 8
	offCPUs     = 16
	offReserved = 24
	offCount    = 26
	offOffsets  = 28
	offSizes    = 284
	offUnused   = 540
	offCRC      = 544
)

const magic = ".eif"

// An Arch is the processor architecture of an image.
type Arch uint8

// The architectures, as bit 0 of the header's flags has them.
const (
	ArchX86_64 Arch = iota
	ArchAArch64
)

// String returns "x86_64" or "aarch64".
func (a Arch) String() string {
	switch a {
	case ArchX86_64:
		return "x86_64"
	case ArchAArch64:
		return "aarch64"
	}
	return fmt.Sprintf("arch(%d)", uint8(a))
}

// ParseArch reads what [Arch.String] writes, and Go's names amd64 and arm64.
func ParseArch(s string) (Arch, error) {
	switch s {
	case "x86_64", "amd64":
		return ArchX86_64, nil
	case "aarch64", "arm64":
		return ArchAArch64, nil
	}
	return 0, fmt.Errorf("eif: unknown architecture %q: want x86_64 or aarch64", s)
}

// Flag bits of the header besides the architecture's. The format text reserves
// them; Bottlerocket's images set both, and such images boot.
const (
	FlagPCIe       = 1 << 6
	FlagPCIeVirtio = 1 << 9

	flagArch = 1
)

// A SectionType says what a section holds.
type SectionType uint16

// The section types. Signatures exist since version 3, metadata since 4.
const (
	Kernel           SectionType = 1
	Cmdline          SectionType = 2
	Ramdisk          SectionType = 3
	SignatureSection SectionType = 4
	MetadataSection  SectionType = 5
)

// String returns the type's name in lower case.
func (t SectionType) String() string {
	switch t {
	case Kernel:
		return "kernel"
	case Cmdline:
		return "cmdline"
	case Ramdisk:
		return "ramdisk"
	case SignatureSection:
		return "signature"
	case MetadataSection:
		return "metadata"
	}
	return fmt.Sprintf("type %d", uint16(t))
}

// measured tells whether the section's data enters PCR0.
func (t SectionType) measured() bool { return t == Kernel || t == Cmdline || t == Ramdisk }

// A Header has the fields of the file's header that describe the whole image.
// None of them is measured or signed.
type Header struct {
	Version uint16
	Arch    Arch
	// Flags are the raw flags, the architecture's bit included.
	Flags         uint16
	DefaultMemory uint64
	DefaultCPUs   uint64
	CRC32         uint32
}

// A Section is one section of an image.
type Section struct {
	Type SectionType
	// Offset is that of the 12-byte section header in the file.
	Offset int64
	// Size is that of the data, which follow the section header.
	Size int64
}

// DataOffset returns the file offset of the section's first byte of data.
func (s Section) DataOffset() int64 { return s.Offset + SectionHeaderSize }

func (s Section) end() int64 { return s.DataOffset() + s.Size }

// An Image is a file whose structure [Parse] found sound. Its checksum and its
// signature have not been looked at: see [Image.Measure] and [Signature.Verify].
type Image struct {
	Header Header
	// Sections are in file order.
	Sections []Section

	r         io.ReaderAt
	size      int64
	rawHeader [HeaderSize]byte
	cmdline   string
	metadata  *Metadata
	signature *Signature
	// held has the data of those sections that Parse looked into, nil for the
	// others: what was judged is what is measured, should the file change.
	held [][]byte
}

// Size returns the length of the file in bytes.
func (im *Image) Size() int64 { return im.size }

// Section returns a reader over the data of the i-th section. It panics where
// Sections[i] would.
func (im *Image) Section(i int) *io.SectionReader {
	s := im.Sections[i]
	return io.NewSectionReader(im.r, s.DataOffset(), s.Size)
}

// Ramdisks returns the indices in Sections of the ramdisks, in file order: the
// first is the bootstrap ramdisk, the others hold the application.
func (im *Image) Ramdisks() []int {
	var found []int
	for i, s := range im.Sections {
		if s.Type == Ramdisk {
			found = append(found, i)
		}
	}
	return found
}

// Cmdline returns the kernel's command line. It has neither NUL nor newline.
func (im *Image) Cmdline() string { return im.cmdline }

// Metadata returns the metadata section's content; nil where the version has
// none. Nothing vouches for it: it is neither measured nor signed.
func (im *Image) Metadata() *Metadata { return im.metadata }

// Signature returns the signature section's content, unverified; nil if the
// image is not signed.
func (im *Image) Signature() *Signature { return im.signature }
