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
	layerBytes  int64 // of layers, unpacked or in place
	read, total int64
	// temp has what was unpacked, one layer or sparse file after the other.
	temp    *os.File
	tempEnd int64
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

// open opens a source, as [Open] says.
func (p *opening) open(source string) (*Root, error) {
	prefix, rest, ok := strings.Cut(source, ":")
	if open, known := openers[prefix]; ok && known {
		if strings.Trim(rest, "/") == "" && rest != "/" {
			return nil, unsupported("source", "nothing is named behind %q", prefix+":")
		}
		return open(p, rest)
	}
	info, err := os.Stat(source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; an image in a registry is named with registry: before it", err)
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if f := (folderFiles{p, source}); isLayout(f) {
			return p.openLayout(f, "")
		}
		return p.openFolder(source)
	}
	return p.openArchive(source)
}

// openers are the prefixes of sources.
var openers = map[string]func(p *opening, rest string) (*Root, error){
	"dir":            (*opening).openFolder,
	"tar":            (*opening).openTarball,
	"oci":            (*opening).openOCI,
	"docker-archive": (*opening).openDocker,
	"registry":       (*opening).openRegistry,
	"docker":         (*opening).openRegistry,
}

// isLayout says whether files are those of an OCI image layout.
func isLayout(f files) bool {
	_, err1 := f.open(layoutFile)
	_, err2 := f.open(indexFile)
	return err1 == nil && err2 == nil
}

// splitSource divides what stands behind "oci:" or "docker-archive:" into path
// and selector, which keeps its ":" or "@". A path that is there is never cut.
func splitSource(rest string) (path, selector string) {
	for i := len(rest); i > 0; i = strings.LastIndexAny(rest[:i], ":@") {
		if _, err := os.Stat(rest[:i]); err == nil {
			return rest[:i], rest[i:]
		}
	}
	return rest, ""
}

func (p *opening) openOCI(rest string) (*Root, error) {
	name, selector := splitSource(rest)
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return p.openLayout(folderFiles{p, name}, selector)
	}
	f, err := p.openTarFiles(name)
	if err != nil {
		return nil, err
	}
	return p.openLayout(f, selector)
}

func (p *opening) openDocker(rest string) (*Root, error) {
	name, selector := splitSource(rest)
	f, err := p.openTarFiles(name)
	if err != nil {
		return nil, err
	}
	return p.openSaved(f, strings.TrimPrefix(selector, ":"))
}

func (p *opening) openTarFiles(name string) (tarFiles, error) {
	a, err := p.openUnpacked(name)
	if err != nil {
		return tarFiles{}, err
	}
	return p.indexTar(a, name, nil)
}

// openArchive opens a tar archive, which it is inside tells how.
func (p *opening) openArchive(name string) (*Root, error) {
	a, err := p.openUnpacked(name)
	if err != nil {
		return nil, err
	}
	top, err := p.indexTar(a, name, func(name string) bool {
		return name == layoutFile || name == indexFile || name == dockerManifest
	})
	if err != nil {
		return nil, err
	}
	p.entries = 0
	saved, err := readSaved(top)
	if err != nil {
		return nil, err
	}
	if saved == nil && !isLayout(top) {
		return p.tarballRoot(a, name)
	}
	all, err := p.indexTar(a, name, nil)
	if err != nil {
		return nil, err
	}
	// What docker writes since version 25 is both; its index has the digests of
	// all layers.
	if isLayout(all) {
		return p.openLayout(all, "")
	}
	return p.openSaved(all, "")
}

// openFile opens a regular file until Close.
func (p *opening) openFile(name string) (archive, error) {
	f, err := os.OpenFile(name, openFlags, 0)
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
	return archive{diskFile{f, info}, info.Size()}, nil
}

// diskFile is a file that is read in place and must stay as it was: what is read
// later is to be what was checked.
type diskFile struct {
	f   *os.File
	was fs.FileInfo
}

func (d diskFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := d.f.ReadAt(b, at)
	if changed := sameAs(d.f, d.was); changed != nil {
		return 0, changed
	}
	return n, err
}

// sameAs compares what a file is with what it was.
func sameAs(f *os.File, was fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != was.Size() || !info.ModTime().Equal(was.ModTime()) {
		return mismatch("changed", "%s changed while the image was made of it", f.Name())
	}
	return nil
}

// openUnpacked opens a file, and unpacks it if it is compressed.
func (p *opening) openUnpacked(name string) (archive, error) {
	file, err := p.openFile(name)
	if err != nil {
		return archive{}, err
	}
	p.total = file.size
	return p.fetch(layer{name: name, size: file.size, at: file.r})
}

func (p *opening) openTarball(name string) (*Root, error) {
	a, err := p.openUnpacked(name)
	if err != nil {
		return nil, err
	}
	return p.tarballRoot(a, name)
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
