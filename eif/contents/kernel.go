// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"strings"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
)

// A Kernel is what a kernel's file says about itself. It is not more than a claim:
// only a measurement tells which kernel it is.
type Kernel struct {
	// Format is "bzImage" (x86_64), "Image" (aarch64), "gzip" for what is
	// compressed by that as a whole, "stand-in" for one that does not boot, or
	// empty.
	Format string
	// Banner is the version with whoever built it and when, as the file has it;
	// empty if none was found.
	Banner string
}

// Version returns the first word of the banner: "6.6.79", say.
func (k Kernel) Version() string {
	word, _, _ := strings.Cut(k.Banner, " ")
	return word
}

const (
	// maxBanner bounds a banner. The kernel's own has a few hundred bytes.
	maxBanner = 512
	// maxSearch bounds how much of a kernel, unpacked, is searched for its banner.
	maxSearch = 256 << 20
	// window is how much of it is held in memory.
	window = 64 << 10
)

// ReadKernel looks at an image's kernel. What it does not understand has no banner;
// the only errors are those of reading.
func ReadKernel(ctx context.Context, im *eif.Image) (Kernel, error) {
	section := im.Section(index(im, eif.Kernel))
	return readKernel(ctx, section, section.Size())
}

func readKernel(ctx context.Context, r io.ReaderAt, size int64) (Kernel, error) {
	var head [0x260]byte
	n, err := r.ReadAt(head[:min(size, int64(len(head)))], 0)
	if err != nil && err != io.EOF {
		return Kernel{}, err
	}
	body := &contextReader{ctx, io.NewSectionReader(r, 0, size)}
	switch {
	case isStandIn(head[:n]):
		return Kernel{Format: "stand-in"}, nil
	case isBzImage(head[:n]):
		banner, err := bzImageBanner(r, size, head[:n])
		return Kernel{Format: "bzImage", Banner: banner}, err
	case n > 2 && head[0] == 0x1f && head[1] == 0x8b:
		banner, err := zippedBanner(body)
		return Kernel{Format: "gzip", Banner: banner}, err
	}
	k := Kernel{}
	// Documentation/arch/arm64/booting.rst: "ARM\x64" at offset 56.
	if n >= 60 && string(head[56:60]) == "ARM\x64" {
		k.Format = "Image"
	}
	k.Banner, err = searchBanner(bufio.NewReaderSize(body, window))
	return k, err
}

// isStandIn knows what takes the place of a kernel in images of this module that
// do not boot.
func isStandIn(head []byte) bool {
	r, err := eifbuild.StandIn("kernel").Open()
	if err != nil {
		return false
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return err == nil && bytes.Equal(head, text)
}

// Fields of the setup header; Documentation/arch/x86/boot.rst.
const (
	setupSectors = 0x1f1
	bootFlag     = 0x1fe
	setupMagic   = 0x202
	setupVersion = 0x20e
)

func isBzImage(head []byte) bool {
	return len(head) >= setupVersion+2 && binary.LittleEndian.Uint16(head[bootFlag:]) == 0xaa55 && string(head[setupMagic:setupMagic+4]) == "HdrS"
}

// bzImageBanner follows the pointer in the setup header: to a string that ends in
// NUL, less 0x200, inside the setup code.
func bzImageBanner(r io.ReaderAt, size int64, head []byte) (string, error) {
	pointer := int64(binary.LittleEndian.Uint16(head[setupVersion:]))
	sectors := int64(head[setupSectors])
	if sectors == 0 {
		sectors = 4 // what the boot protocol says
	}
	at := pointer + 0x200
	if pointer == 0 || pointer >= 0x200*sectors || at >= size {
		return "", nil
	}
	text := make([]byte, min(maxBanner, size-at))
	if _, err := r.ReadAt(text, at); err != nil && err != io.EOF {
		return "", err
	}
	end := bytes.IndexByte(text, 0)
	if end < 0 {
		return "", nil
	}
	return string(text[:end]), nil
}

// zippedBanner searches what is compressed. What is damaged has no banner.
func zippedBanner(r io.Reader) (string, error) {
	src := &remember{r: r}
	gz, err := gzip.NewReader(bufio.NewReader(src))
	if err != nil {
		return "", src.err
	}
	found, err := searchBanner(bufio.NewReaderSize(gz, window))
	if err != nil {
		return "", src.err
	}
	return found, nil
}

// remember keeps the error of reading apart from those of what is read.
type remember struct {
	r   io.Reader
	err error
}

func (m *remember) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && err != io.EOF {
		m.err = err
	}
	return n, err
}

// banner is how a kernel greets; a digit follows.
const banner = "Linux version "

// searchBanner finds the greeting in what an uncompressed kernel has.
func searchBanner(r *bufio.Reader) (string, error) {
	for searched := 0; searched < maxSearch; {
		held, err := r.Peek(r.Size())
		if at := bytes.Index(held, []byte(banner)); at >= 0 {
			rest := held[at+len(banner):]
			if len(rest) < maxBanner && at > 0 && err == nil {
				// It may go on behind the window.
				searched += at
				r.Discard(at)
				continue
			}
			if text, ok := greeting(rest); ok {
				return text, nil
			}
			searched += at + 1
			r.Discard(at + 1)
			continue
		}
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		step := len(held) - len(banner)
		searched += step
		r.Discard(step)
	}
	return "", nil
}

// greeting takes the rest of the line.
func greeting(rest []byte) (string, bool) {
	rest = rest[:min(len(rest), maxBanner)]
	end := bytes.IndexAny(rest, "\n\x00")
	if end < 1 || rest[0] < '0' || rest[0] > '9' {
		return "", false
	}
	return string(rest[:end]), true
}
