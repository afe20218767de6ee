// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory of a zstd decoder: four times what RFC 8878 §3.1.1.1.2
// asks decoders to support.
const maxWindow = 32 << 20

// A layer is a tar archive as it is stored, maybe compressed.
type layer struct {
	name string // for errors
	size int64  // as stored
	// digest and diffID are SHA-256 of the stored and of the unpacked bytes in
	// hex, "" where nothing promises them.
	digest, diffID string
	// at has the stored bytes where they are on disk, else open gives them.
	at   io.ReaderAt
	open func(context.Context) (io.ReadCloser, error)
}

// compression is told by the first bytes, never by a name or media type.
type compression int

const (
	none compression = iota
	gzipped
	zstandard
	foreign // known, not supported
)

func detect(start []byte) compression {
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		return gzipped
	case bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstandard
	case bytes.HasPrefix(start, []byte("BZh")), bytes.HasPrefix(start, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return foreign
	}
	return none
}

// fetch reads a layer once, checks size and digests, and returns the archive in
// it: in place where it is on disk and not compressed, else in a temporary file.
func (p *opening) fetch(l layer) (archive, error) {
	a, err := p.fetchUnnamed(l)
	if err != nil {
		return archive{}, fmt.Errorf("%s: %w", l.name, err)
	}
	return a, nil
}

func (p *opening) fetchUnnamed(l layer) (archive, error) {
	in, err := p.stored(l)
	if err != nil {
		return archive{}, err
	}
	defer in.Close()
	buffered := bufio.NewReaderSize(in, 64<<10)
	start, err := buffered.Peek(6)
	if err != nil && err != io.EOF {
		return archive{}, err
	}
	kind := detect(start)
	if kind == none && l.at != nil && l.digest == "" && l.diffID == "" {
		in.progress(l.size - in.n) // nothing to check, no need to read it twice
		return archive{l.at, l.size}, nil
	}
	a, diffID, err := p.unpack(l, kind, buffered)
	if in.err != nil {
		return archive{}, in.err // no fault of the data
	}
	if err != nil {
		return archive{}, err
	}
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return archive{}, err
	}
	if err := in.check(l); err != nil {
		return archive{}, err
	}
	if l.diffID != "" && diffID != l.diffID {
		return archive{}, mismatch("layer.diff-id", "unpacked, its SHA-256 is %s, not %s", diffID, l.diffID)
	}
	return a, nil
}

// fetchRaw reads a small file whole and checks size and digest.
func (p *opening) fetchRaw(l layer) ([]byte, error) {
	in, err := p.stored(l)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err == nil {
		err = in.check(l)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return data, nil
}

// stored opens a layer as it is stored.
func (p *opening) stored(l layer) (*counter, error) {
	in := &counter{p: p, hash: sha256.New()}
	if l.at != nil {
		in.r = io.NewSectionReader(l.at, 0, l.size)
		return in, nil
	}
	body, err := l.open(p.ctx)
	if err != nil {
		return nil, err
	}
	in.r, in.close = io.LimitReader(body, l.size+1), body.Close
	return in, nil
}

// check compares what was read with what the manifest promised.
func (c *counter) check(l layer) error {
	if c.n != l.size {
		return mismatch("layer.size", "it has %d bytes, its manifest says %d", c.n, l.size)
	}
	if digest := hexSum(c.hash); l.digest != "" && digest != l.digest {
		return mismatch("layer.digest", "its SHA-256 is %s, not %s", digest, l.digest)
	}
	return nil
}

// Close ends a download.
func (c *counter) Close() error {
	if c.close != nil {
		return c.close()
	}
	return nil
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// unpack returns the archive in a layer and its SHA-256.
func (p *opening) unpack(l layer, c compression, in io.Reader) (archive, string, error) {
	sum := sha256.New()
	switch c {
	case foreign:
		return archive{}, "", unsupported("compression", "it is compressed with bzip2 or xz; gzip, zstd and none are supported")
	case none:
		if l.at != nil {
			_, err := io.Copy(sum, in)
			return archive{l.at, l.size}, hexSum(sum), err
		}
	case gzipped:
		r, err := gzip.NewReader(in)
		if err != nil {
			return archive{}, "", malformed("compression", "the gzip data is damaged: %w", err)
		}
		in = damaged{r, "gzip"}
	case zstandard:
		r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return archive{}, "", malformed("compression", "the zstd data is damaged: %w", err)
		}
		defer r.Close()
		in = damaged{r, "zstd"}
	}
	a, err := p.spool(io.TeeReader(in, sum))
	return a, hexSum(sum), err
}

// damaged says that what a decompressor found is the data's fault.
type damaged struct {
	r    io.Reader
	what string
}

func (d damaged) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	if err != nil && err != io.EOF {
		err = malformed("compression", "the %s data is damaged: %w", d.what, err)
	}
	return n, err
}

// counter counts and hashes stored bytes, tells of progress and stops when the
// context ends.
type counter struct {
	p     *opening
	r     io.Reader
	close func() error
	hash  hash.Hash
	n     int64
	err   error // but for io.EOF
}

func (c *counter) Read(b []byte) (int, error) {
	if c.err = c.p.ctx.Err(); c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(b)
	if err != io.EOF {
		c.err = err
	}
	c.hash.Write(b[:n])
	c.n += int64(n)
	c.progress(int64(n))
	return n, err
}

func (c *counter) progress(n int64) {
	c.p.read += n
	if n > 0 && c.p.o.Progress != nil {
		c.p.o.Progress(c.p.read, c.p.total)
	}
}

func (p *opening) countUnpacked(n int64) error {
	if p.unpacked += n; p.unpacked > p.o.MaxUnpacked {
		return malformed("limit", "unpacked, there are more than %d bytes, the limit", p.o.MaxUnpacked)
	}
	return nil
}

// spool appends r to the temporary file, which Close removes, and returns what
// it appended.
func (p *opening) spool(r io.Reader) (archive, error) {
	if err := p.makeTemp(); err != nil {
		return archive{}, err
	}
	start := p.tempEnd
	size, err := io.CopyBuffer(bounded{p, io.NewOffsetWriter(p.temp, start)}, r, make([]byte, 64<<10))
	p.tempEnd += size
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w; another folder for temporary files may have the room", err)
	}
	return archive{io.NewSectionReader(p.temp, start, size), size}, err
}

func (p *opening) makeTemp() error {
	if p.temp != nil {
		return nil
	}
	f, err := os.CreateTemp(p.o.TempDir, "cretula-*") // with mode 0600
	if err != nil {
		return err
	}
	p.temp = f
	// Where an open file can be removed, nothing stays behind even when the
	// program is killed.
	removed := os.Remove(f.Name()) == nil
	p.onClose(func() error {
		err := f.Close()
		if !removed {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		return err
	})
	return nil
}

// bounded writes as long as the limit on unpacked bytes allows.
type bounded struct {
	p *opening
	w io.Writer
}

func (b bounded) Write(data []byte) (int, error) {
	if err := b.p.countUnpacked(int64(len(data))); err != nil {
		return 0, err
	}
	return b.w.Write(data)
}
