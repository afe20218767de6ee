// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/memfile"
)

// An item is an entry of an archive that the tests write themselves: also what our
// own writer refuses.
type item struct {
	name       string
	mode       uint32 // with the type's bits
	inode      uint32 // 0: a file with one name
	data       string
	uid, mtime uint32
}

func file644(name, data string) item { return item{name: name, mode: 0o100644, data: data} }
func folder(name string) item        { return item{name: name, mode: 0o040755} }
func link(name, to string) item      { return item{name: name, mode: 0o120777, data: to} }
func named(inode uint32, name, data string) item {
	return item{name: name, mode: 0o100644, inode: inode, data: data}
}

// cpio writes a newc archive.
func cpio(items ...item) []byte {
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	for _, i := range append(items, item{name: "TRAILER!!!"}) {
		links := 1
		if i.inode != 0 {
			links = 2
		}
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i.inode, i.mode, i.uid, 0, links, i.mtime, len(i.data), 0, 0, 0, 0, len(i.name)+1, 0)
		b.WriteString(i.name + "\x00")
		pad()
		b.WriteString(i.data)
		pad()
	}
	return b.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// image makes an image with these ramdisks.
func image(t testing.TB, ramdisks ...[]byte) *eif.Image {
	t.Helper()
	return imageWith(t, []byte("kernel"), "quiet", ramdisks...)
}

func imageWith(t testing.TB, kernel []byte, cmdline string, ramdisks ...[]byte) *eif.Image {
	t.Helper()
	m := eif.Metadata{ImageName: "test"}
	metadata, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	spec := eif.Spec{Kernel: eif.Bytes(kernel), Cmdline: cmdline, Metadata: metadata}
	for _, r := range ramdisks {
		spec.Ramdisks = append(spec.Ramdisks, eif.Bytes(r))
	}
	var file memfile.File
	if _, err := eif.Write(t.Context(), &file, spec); err != nil {
		t.Fatal(err)
	}
	im, err := eif.Parse(file.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// open parses a file.
func open(t testing.TB, name string) *eif.Image {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	im, err := eif.Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// files lists what is below a folder: "name content", "name/" and "name -> target".
func files(t testing.TB, dir string) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		name = filepath.ToSlash(name)
		switch {
		case d.IsDir():
			found = append(found, name+"/")
		case d.Type() == os.ModeSymlink:
			to, err := os.Readlink(path)
			found = append(found, name+" -> "+to)
			return err
		default:
			data, err := os.ReadFile(path)
			found = append(found, name+" "+string(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, ", ")
}
