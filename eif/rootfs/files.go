// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"io"
	"io/fs"
	"path"
	"path/filepath"
)

// files is a folder of files, which may be a tar archive. Names are plain paths.
type files interface {
	// open returns a file, as an archive of its bytes; the error matches
	// fs.ErrNotExist if there is none.
	open(name string) (archive, error)
}

// folderFiles are those of a folder on disk. Links are followed wherever they
// lead, as some tools lay out images as links to a store: contents are only
// taken if their digests are right.
type folderFiles struct {
	p   *opening
	dir string
}

func (f folderFiles) open(name string) (archive, error) {
	return f.p.openFile(filepath.Join(f.dir, filepath.FromSlash(name)))
}

// tarFiles are the regular files in a tar archive, and the links in it, which
// older versions of docker write for layers that images share.
type tarFiles struct {
	a     archive
	index map[string]tarFile
}

type tarFile struct {
	offset, size int64
	link         string
}

// indexTar notes where files of an archive are: those that want says, or all if
// it is nil. Of two of one name, the last counts.
func (p *opening) indexTar(a archive, what string, want func(string) bool) (tarFiles, error) {
	f := tarFiles{a, map[string]tarFile{}}
	var text int
	err := p.members(a, what, func(m member) error {
		name, err := cleanName(m.Name)
		if err != nil {
			return err
		}
		if err := p.countEntry(); err != nil {
			return err
		}
		if want != nil && !want(name) {
			return nil
		}
		delete(f.index, name)
		switch {
		case m.isSparse():
			return unsupported("type", "%.200q is a sparse file", name)
		case m.Typeflag == tar.TypeReg:
			f.index[name] = tarFile{offset: m.offset, size: m.Size}
		case m.Typeflag == tar.TypeSymlink:
			f.index[name] = tarFile{link: path.Join(path.Dir(name), m.Linkname)}
		case m.Typeflag == tar.TypeLink:
			f.index[name] = tarFile{link: path.Clean(m.Linkname)}
		}
		if text += len(m.Name) + len(m.Linkname); text > maxText {
			return malformed("limit", "names and link targets have more than %d bytes", maxText)
		}
		return nil
	})
	return f, err
}

func (f tarFiles) open(name string) (archive, error) {
	for range maxHops {
		file, ok := f.index[name]
		if !ok {
			return archive{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if file.link == "" {
			if file.size > f.a.size-file.offset {
				return archive{}, malformed("tar", "the archive ends within %.200q", name)
			}
			return archive{io.NewSectionReader(f.a.r, file.offset, file.size), file.size}, nil
		}
		name = file.link
	}
	return archive{}, malformed("link", "%.200q leads through more than %d links", name, maxHops)
}
