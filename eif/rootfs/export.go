// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/cretula/cretula/eif/eifbuild"
)

// initLayer is what docker puts over an image when it makes a container of it,
// in moby's daemon/initlayer: places to mount at, and the link that mtab is.
var initLayer = []eifbuild.Entry{
	{Name: ".dockerenv", Mode: 0o755},
	{Name: "dev/console", Mode: 0o755},
	{Name: "dev/pts", Type: eifbuild.Dir, Mode: 0o755},
	{Name: "dev/shm", Type: eifbuild.Dir, Mode: 0o755},
	{Name: "etc/hostname", Mode: 0o755},
	{Name: "etc/hosts", Mode: 0o755},
	{Name: "etc/mtab", Type: eifbuild.Symlink, Mode: 0o777, Link: "/proc/mounts"},
	{Name: "etc/resolv.conf", Mode: 0o755},
	{Name: "proc", Type: eifbuild.Dir, Mode: 0o755},
	{Name: "sys", Type: eifbuild.Dir, Mode: 0o755},
}

// DockerExport returns the entries in the form in which "docker export" of a
// container made of the image gives them, which is what nitro-cli's builder
// takes: with docker's mount points and the working directory. Those docker
// makes where the image has no directory of that name; files and links that are
// in the way, it removes first, so an image's own etc/hosts is not in an export.
// The time of what it adds is 0 here and that of the export there; in the
// ramdisk all but the working directory gets a fixed one. The entries of folders
// and tarballs are returned as they are.
func (r *Root) DockerExport() ([]eifbuild.Entry, error) {
	if r.ID == "" {
		return r.Entries, nil
	}
	t := newTree(newOpening(context.Background(), Options{MaxEntries: 2*len(r.Entries) + DefaultMaxEntries}))
	for _, e := range r.Entries {
		if err := t.add(e); err != nil {
			return nil, err
		}
	}
	for _, e := range initLayer {
		if err := t.clear(e.Name); err != nil {
			return nil, err
		}
	}
	for _, e := range initLayer {
		f, err := t.lookup(e.Name)
		if err != nil {
			return nil, err
		}
		if f != nil { // after clear, a directory
			continue
		}
		if err := t.add(e); err != nil {
			return nil, err
		}
	}
	if strings.ContainsRune(r.Config.WorkingDir, 0) || len(r.Config.WorkingDir) > maxPath {
		return nil, malformed("config", "%.60q is no working directory", r.Config.WorkingDir)
	}
	if _, err := t.resolve(path.Clean("/"+r.Config.WorkingDir), true); err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	entries, _, err := t.list(walkOrder)
	return entries, err
}

// add puts an entry of a list into the tree.
func (t *tree) add(e eifbuild.Entry) error {
	name := strings.TrimSuffix(e.Name, "/")
	if e.Type == eifbuild.Hardlink {
		f, err := hardlink(t, e.Link)
		if err != nil {
			return err
		}
		return t.place(name, f)
	}
	return t.place(name, &file{kind: e.Type, mode: e.Mode, uid: e.UID, gid: e.GID, mtime: e.MTime,
		content: e.Content, link: e.Link, major: e.Major, minor: e.Minor})
}

// clear removes what is no directory on the way to a plain path, and at its end.
func (t *tree) clear(name string) error {
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		f, err := t.lookup(name[:i])
		if err != nil {
			return err
		}
		if f != nil && f.kind != eifbuild.Dir {
			return t.remove(name[:i]) // nothing is below it
		}
	}
	return nil
}
