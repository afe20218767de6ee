// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/cretula/cretula/eif/eifbuild"
)

// An archive is a tar archive without compression, on disk.
type archive struct {
	r    io.ReaderAt
	size int64
}

// section returns a Content of a part of the archive.
func (a archive) section(offset, size int64) eifbuild.Content {
	if size == 0 {
		return eifbuild.Content{}
	}
	return eifbuild.Content{Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(a.r, offset, size)), nil
	}}
}

// member is an entry of an archive.
type member struct {
	*tar.Header
	offset int64
	r      *tar.Reader
}

// members calls f for each entry of an archive, except for comments that only
// concern the archive. what names the archive in errors.
func (p *opening) members(a archive, what string, f func(member) error) error {
	in := io.NewSectionReader(a.r, 0, a.size)
	r := tar.NewReader(in)
	for {
		header, err := r.Next()
		if err == io.EOF {
			return nil
		}
		at, _ := in.Seek(0, io.SeekCurrent)
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return malformed("tar", "%s is no sound tar archive: %w, near byte %d", what, err, at)
		}
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			if err := p.countEntry(); err != nil {
				return err
			}
			continue
		}
		if err := f(member{header, at, r}); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// addTarball puts the members of a root file system's archive into a tree.
func (p *opening) addTarball(t *tree, a archive, what string) error {
	return p.members(a, what, func(m member) error {
		name, err := cleanName(m.Name)
		if err != nil {
			return err
		}
		return p.addMember(t, a, name, m)
	})
}

// addMember puts one member of an archive into a tree.
func (p *opening) addMember(t *tree, a archive, name string, m member) error {
	if name == "" {
		if m.Typeflag != tar.TypeDir {
			return malformed("name", "the root (%.60q) is not a directory", m.Name)
		}
		return p.countEntry() // the ramdisk has its own
	}
	f, err := p.fileOf(t, a, m)
	if err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	if err := t.place(name, f); err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	return nil
}

// kinds of members. Type '7' is a file that old systems laid out in one piece.
var kinds = map[byte]eifbuild.Type{
	tar.TypeReg: eifbuild.File, '\x00': eifbuild.File, tar.TypeCont: eifbuild.File, tar.TypeGNUSparse: eifbuild.File,
	tar.TypeDir: eifbuild.Dir, tar.TypeSymlink: eifbuild.Symlink, tar.TypeFifo: eifbuild.FIFO,
	tar.TypeChar: eifbuild.CharDevice, tar.TypeBlock: eifbuild.BlockDevice,
}

// fileOf returns the file of a member: a new one, or for a hard link the one it
// links to.
func (p *opening) fileOf(t *tree, a archive, m member) (*file, error) {
	if m.Typeflag == tar.TypeLink {
		return hardlink(t, m.Linkname)
	}
	kind, ok := kinds[m.Typeflag]
	if !ok {
		return nil, unsupported("type", "members of type %q are not known", m.Typeflag)
	}
	f := &file{kind: kind, mode: uint32(m.Mode & 0o7777), mtime: m.ModTime.Unix(), lost: lostOf(m.PAXRecords)}
	var err error
	if f.uid, err = number("owner", "user id", int64(m.Uid)); err != nil {
		return nil, err
	}
	if f.gid, err = number("owner", "group id", int64(m.Gid)); err != nil {
		return nil, err
	}
	switch kind {
	case eifbuild.File:
		f.content, err = p.contentOf(a, m)
	case eifbuild.Symlink:
		f.link = m.Linkname
		if f.link == "" || len(f.link) > maxPath || strings.ContainsRune(f.link, 0) {
			return nil, malformed("link", "%.60q is no target of a symbolic link", f.link)
		}
	case eifbuild.CharDevice, eifbuild.BlockDevice:
		if f.major, err = number("device", "device number", m.Devmajor); err == nil {
			f.minor, err = number("device", "device number", m.Devminor)
		}
	}
	return f, err
}

func number(rule, what string, n int64) (uint32, error) {
	if n < 0 || n > math.MaxUint32 {
		return 0, malformed(rule, "the %s %d does not fit 32 bits", what, n)
	}
	return uint32(n), nil
}

// hardlink returns the file that a hard link shares. It must be there already:
// earlier in the archive, or in a layer below.
func hardlink(t *tree, link string) (*file, error) {
	target, err := cleanName(link)
	if err != nil {
		return nil, err
	}
	f, err := t.lookup(target)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, malformed("hardlink", "it is a hard link to %.200q, which is not there", link)
	}
	if f.kind == eifbuild.Dir {
		return nil, malformed("hardlink", "it is a hard link to the directory %.200q", link)
	}
	return f, nil
}

// isSparse says whether holes of a file are left out of the archive.
func (m member) isSparse() bool {
	for key := range m.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return m.Typeflag == tar.TypeGNUSparse
}

// contentOf returns the content of a regular file. That of a sparse file is
// written out, as only the archive's reader can tell where its holes are.
func (p *opening) contentOf(a archive, m member) (eifbuild.Content, error) {
	if !m.isSparse() {
		if m.Size < 0 || m.Size > a.size-m.offset {
			return eifbuild.Content{}, malformed("tar", "the archive ends within the file")
		}
		return a.section(m.offset, m.Size), nil
	}
	if m.Size > math.MaxUint32 {
		return eifbuild.Content{}, tooLarge(m.Name, m.Size)
	}
	whole, err := p.spool(m.r)
	if err != nil {
		return eifbuild.Content{}, err
	}
	return whole.section(0, whole.size), nil
}

// Prefixes of PAX records that hold extended attributes, as GNU tar (and docker)
// and libarchive write them, and access control lists.
const (
	schilyXattr     = "SCHILY.xattr."
	libarchiveXattr = "LIBARCHIVE.xattr."
	schilyACL       = "SCHILY.acl."
)

// lostOf names what the records of a member hold that a ramdisk cannot.
func lostOf(records map[string]string) string {
	var names []string
	for key := range records {
		if name, ok := strings.CutPrefix(key, schilyXattr); ok {
			names = append(names, name)
		} else if name, ok := strings.CutPrefix(key, libarchiveXattr); ok {
			names = append(names, name)
		} else if name, ok := strings.CutPrefix(key, schilyACL); ok {
			names = append(names, "acl."+name)
		}
	}
	return lostText(names)
}

// lostText is the line of Root.Lost for the extended attributes of one file. A
// label of SELinux is of the machine the tree comes from and no loss.
func lostText(names []string) string {
	names = slices.DeleteFunc(names, func(name string) bool { return name == "security.selinux" })
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	names = slices.Compact(names)
	capability := slices.Contains(names, capabilityXattr)
	names = names[:min(len(names), 16)]
	for i, name := range names {
		names[i] = fmt.Sprintf("%.64s", strings.ToValidUTF8(name, "?"))
	}
	text := "extended attributes " + strings.Join(names, ", ")
	if capability {
		text = "file capabilities (the program starts without them), in " + text
	}
	return text
}

// capabilityXattr holds the capabilities of a program, see capabilities(7).
const capabilityXattr = "security.capability"
