// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
)

// Parts says what of an image is extracted.
type Parts struct {
	// Sections: each section as it is, in files called "kernel", "cmdline",
	// "metadata.json", "signature.cbor" and "ramdisk-1.img" (2, and so on), and the
	// certificate file of a signature, "certificate.pem".
	Sections bool
	// Trees: the files of each ramdisk, in folders "tree-1" and so on, with a list
	// of all entries beside it, "list-1.jsonl": an [Item] of JSON in each line.
	Trees bool
}

// Extracted says what an extraction made.
type Extracted struct {
	Entries int
	// LeftOut are how many entries were not made, by reason.
	LeftOut map[string]int
	// Stripped is how many files lost a set-id or sticky bit, and Owned how many
	// belong to another user or group than root in the image.
	Stripped, Owned int
}

// partialDir is where an extraction writes until all of it is there.
const partialDir = ".cretula-partial"

// Extract writes parts of an image into a folder, which must be empty or not exist.
// What it writes is in a folder ".cretula-partial" in there until all of it is
// complete; when it fails, that is removed, and the error tells if it cannot be.
func Extract(ctx context.Context, im *eif.Image, dir string, parts Parts) (*Extracted, error) {
	made, err := emptyDir(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	result, err := extract(ctx, im, root, parts)
	if err == nil {
		return result, nil
	}
	left := root.RemoveAll(partialDir)
	if left == nil && made {
		left = os.Remove(dir)
	}
	if left != nil {
		err = fmt.Errorf("%w; what was written by then is left behind: %v", err, left)
	}
	return nil, err
}

func extract(ctx context.Context, im *eif.Image, root *os.Root, parts Parts) (*Extracted, error) {
	if err := root.Mkdir(partialDir, 0o700); err != nil {
		return nil, err
	}
	partial, err := root.OpenRoot(partialDir)
	if err != nil {
		return nil, err
	}
	result := &Extracted{LeftOut: make(map[string]int)}
	err = result.write(ctx, im, partial, parts)
	if err = errors.Join(err, partial.Close()); err != nil {
		return nil, err
	}
	return result, publish(root)
}

// publish moves what is complete to its place.
func publish(root *os.Root) error {
	names, err := fs.ReadDir(root.FS(), partialDir)
	if err != nil {
		return err
	}
	for i, n := range names {
		if err := root.Rename(partialDir+"/"+n.Name(), n.Name()); err != nil {
			for _, done := range names[:i] {
				err = errors.Join(err, root.RemoveAll(done.Name()))
			}
			return err
		}
	}
	return root.Remove(partialDir)
}

// emptyDir makes sure that dir is an empty folder, and tells whether it made it.
func emptyDir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o777)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	switch names, err := f.Readdirnames(1); {
	case err == io.EOF:
		return false, nil
	case err != nil:
		return false, err
	case names[0] == partialDir:
		return false, fmt.Errorf("%s has what an extraction left that did not end: %s", dir, partialDir)
	default:
		return false, fmt.Errorf("%s is not empty", dir)
	}
}

func (x *Extracted) write(ctx context.Context, im *eif.Image, root *os.Root, parts Parts) error {
	if parts.Sections {
		if err := writeSections(ctx, im, root); err != nil {
			return err
		}
	}
	if !parts.Trees {
		return nil
	}
	for i := range im.Ramdisks() {
		if err := x.tree(ctx, im, i+1, root); err != nil {
			return err
		}
	}
	return nil
}

// sectionFile names the file of a section.
func sectionFile(t eif.SectionType, ramdisk int) string {
	switch t {
	case eif.Ramdisk:
		return fmt.Sprintf("ramdisk-%d.img", ramdisk)
	case eif.MetadataSection:
		return "metadata.json"
	case eif.SignatureSection:
		return "signature.cbor"
	}
	return t.String()
}

func writeSections(ctx context.Context, im *eif.Image, root *os.Root) error {
	ramdisk := 0
	for i, s := range im.Sections {
		if s.Type == eif.Ramdisk {
			ramdisk++
		}
		if err := writeFile(root, sectionFile(s.Type, ramdisk), &contextReader{ctx, im.Section(i)}); err != nil {
			return err
		}
	}
	if s := im.Signature(); s != nil {
		return root.WriteFile("certificate.pem", s.CertificateFile, 0o666)
	}
	return nil
}

func writeFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// tree unpacks a ramdisk and lists it.
func (x *Extracted) tree(ctx context.Context, im *eif.Image, number int, root *os.Root) error {
	name := fmt.Sprintf("tree-%d", number)
	if err := root.Mkdir(name, 0o777); err != nil {
		return err
	}
	below, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer below.Close()
	f, err := root.Create(fmt.Sprintf("list-%d.jsonl", number))
	if err != nil {
		return err
	}
	list := bufio.NewWriter(f)
	lines := json.NewEncoder(list)
	lines.SetEscapeHTML(false)
	tree := NewTree(below, false)
	err = Walk(ctx, im, number, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
		item := NewItem(e)
		var err error
		if item.LeftOut, err = tree.Add(e, r); err != nil {
			return fmt.Errorf("ramdisk %d: %w", number, err)
		}
		x.count(e, item.LeftOut)
		return lines.Encode(item)
	})
	return errors.Join(err, list.Flush(), f.Close())
}

func (x *Extracted) count(e *eifbuild.Entry, left string) {
	x.Entries++
	switch {
	case left != "":
		x.LeftOut[left]++
		return
	case e.Mode&0o7000 != 0:
		x.Stripped++
	}
	if e.UID != 0 || e.GID != 0 {
		x.Owned++
	}
}
