// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cretula/cretula/reason"
)

// opening is the state of one Open: what it may still use, what it must close.
type opening struct {
	ctx     context.Context
	o       Options
	closers []func() error
	// unpacked counts the bytes of layers and entries their members.
	unpacked    int64
	entries     int
	read, total int64
}

func newOpening(ctx context.Context, o Options) *opening {
	if o.MaxUnpacked <= 0 {
		o.MaxUnpacked = DefaultMaxUnpacked
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = DefaultMaxEntries
	}
	return &opening{ctx: ctx, o: o}
}

func (p *opening) onClose(f func() error) { p.closers = append(p.closers, f) }

func malformed(rule, format string, args ...any) error {
	return reason.New(reason.Malformed, "rootfs."+rule, format, args...)
}

func unsupported(rule, format string, args ...any) error {
	return reason.New(reason.Unsupported, "rootfs."+rule, format, args...)
}

func mismatch(rule, format string, args ...any) error {
	return reason.New(reason.Mismatch, "rootfs."+rule, format, args...)
}

// prefixes of sources, and who opens them.
var prefixes = []struct {
	prefix string
	open   func(p *opening, rest string) (*Root, error)
}{
	{"dir:", (*opening).openFolder},
	{"tar:", (*opening).openTarball},
}

func (p *opening) open(source string) (*Root, error) {
	for _, known := range prefixes {
		if rest, ok := strings.CutPrefix(source, known.prefix); ok {
			if rest == "" {
				return nil, unsupported("source", "nothing is named behind %q", known.prefix)
			}
			return known.open(p, rest)
		}
	}
	info, err := os.Stat(source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; an image in a registry is named with registry: before it", err)
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return p.openFolder(source)
	}
	return p.openTarball(source)
}

// openFile opens a regular file until Close and returns its size.
func (p *opening) openFile(name string) (archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return archive{}, err
	}
	p.onClose(f.Close)
	info, err := f.Stat()
	if err != nil {
		return archive{}, err
	}
	if !info.Mode().IsRegular() {
		return archive{}, unsupported("source", "%s is no regular file", name)
	}
	return archive{f, info.Size()}, nil
}

func (p *opening) openTarball(name string) (*Root, error) {
	file, err := p.openFile(name)
	if err != nil {
		return nil, err
	}
	p.total = file.size
	unpacked, err := p.fetch(layer{name: name, size: file.size, at: file.r})
	if err != nil {
		return nil, err
	}
	return p.tarballRoot(unpacked, name)
}

func (p *opening) tarballRoot(a archive, name string) (*Root, error) {
	t := newTree(p)
	if err := p.addTarball(t, a, name); err != nil {
		return nil, err
	}
	if len(t.root.children) == 0 {
		return nil, malformed("source", "%s holds no file", name)
	}
	entries, lost, err := t.list(archiveOrder)
	if err != nil {
		return nil, err
	}
	return &Root{Entries: entries, Lost: lost}, nil
}
