// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// Copy writes what a file of a ramdisk holds once all of the ramdisk is unpacked:
// of several entries of one name the last counts, and names of one file share its
// content. name is compared as it is; symbolic links are not followed. The error is
// an [fs.ErrNotExist] if there is no such name, and another one for what is no
// file; nothing is written then.
func Copy(ctx context.Context, im *eif.Image, number int, name string, w io.Writer) error {
	holder, err := find(ctx, im, number, name)
	if err != nil {
		return err
	}
	n := 0
	err = Walk(ctx, im, number, func(_ *eifbuild.Entry, r *eifbuild.Reader) error {
		if n++; n <= holder {
			return nil
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		return errDone
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

var errDone = errors.New("done")

// find returns the index of the entry that has the content of a file.
func find(ctx context.Context, im *eif.Image, number int, name string) (int, error) {
	names, err := aliases(ctx, im, number, name)
	if err != nil {
		return 0, err
	}
	files := make(map[string]*file)
	var last *eifbuild.Entry
	var links links
	n := 0
	err = Walk(ctx, im, number, func(e *eifbuild.Entry, _ *eifbuild.Reader) error {
		at, err := links.add(e)
		if err != nil {
			return err
		}
		own := plain(e.Name)
		if at != own && (names[at] || names[own]) {
			return reason.New(reason.Unsupported, "contents.through-link",
				"ramdisk %d: %.200q leads through a symbolic link, which is not followed: what %.200q holds depends on it", number, own, name)
		}
		if names[own] {
			if own == name {
				last = e
			}
			unpack(files, own, e, n)
		}
		n++
		return nil
	})
	switch f := files[name]; {
	case err != nil:
		return 0, err
	case last == nil:
		return 0, fmt.Errorf("ramdisk %d has no %.200q: %w", number, name, fs.ErrNotExist)
	case f != nil && f.kind == eifbuild.File:
		return f.holder, nil
	case last.Type == eifbuild.Symlink:
		return 0, fmt.Errorf("%.200q of ramdisk %d is a symbolic link to %.200q, which is not followed", name, number, last.Link)
	default:
		return 0, fmt.Errorf("%.200q of ramdisk %d is a %v and has no content", name, number, last.Type)
	}
}

func plain(name string) string { return strings.TrimSuffix(name, "/") }

// A file is what a name stands for; several names may stand for one.
type file struct {
	kind   eifbuild.Type
	holder int // index of the entry with the content
}

// unpack does to the names what the kernel does to files (init/initramfs.c): a
// regular file is written over, all else replaced.
func unpack(files map[string]*file, name string, e *eifbuild.Entry, n int) {
	old := files[name]
	switch {
	case e.Type == eifbuild.Hardlink:
		files[name] = files[e.Link]
		if f := files[name]; f != nil && e.Content.Size > 0 {
			f.holder = n
		}
	case e.Type == eifbuild.File && old != nil && old.kind == eifbuild.File:
		old.holder = n
	default:
		files[name] = &file{kind: e.Type, holder: n}
	}
}

// maxAliases bounds how often a ramdisk is read to find all names of one file.
const maxAliases = 10

// aliases returns the names that may stand for the file with this one.
func aliases(ctx context.Context, im *eif.Image, number int, name string) (map[string]bool, error) {
	names := map[string]bool{name: true}
	for range maxAliases {
		before := len(names)
		err := Walk(ctx, im, number, func(e *eifbuild.Entry, _ *eifbuild.Reader) error {
			if e.Type == eifbuild.Hardlink && (names[e.Name] || names[e.Link]) {
				names[e.Name], names[e.Link] = true, true
			}
			return nil
		})
		if err != nil || len(names) == before {
			return names, err
		}
		if len(names) > maxNames {
			break
		}
	}
	return nil, reason.New(reason.Unsupported, "contents.links", "%.200q of ramdisk %d has too many hard links", name, number)
}
