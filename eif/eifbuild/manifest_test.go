// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

const sharedDir = "../../../shared/testdata/eif"

type ramdiskCase struct {
	Name, File, Kind, Init, Tree string
	NSMKo                        string `json:"nsm_ko"`
	Cmd, Env                     []string
}

func ramdiskCases(t testing.TB) []ramdiskCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sharedDir, "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("shared test data not present")
	}
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Ramdisks []ramdiskCase }
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Ramdisks) == 0 {
		t.Fatal("the manifest lists no ramdisk")
	}
	return m.Ramdisks
}

func sharedContent(t testing.TB, name string) Content {
	t.Helper()
	c, err := FileContent(filepath.Join(sharedDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sharedTree(t testing.TB, name string) []Entry {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sharedDir, name))
	if err != nil {
		t.Fatal(err)
	}
	var tree struct {
		Entries []struct {
			Name, Type, Mode, Link string
			UID, GID, Major, Minor uint32
			MTime                  int64
			Base64                 []byte
		}
	}
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	types := map[string]Type{"file": File, "dir": Dir, "symlink": Symlink, "hardlink": Hardlink, "fifo": FIFO, "char": CharDevice}
	var entries []Entry
	for _, e := range tree.Entries {
		mode, err := strconv.ParseUint(e.Mode, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		kind, ok := types[e.Type]
		if !ok {
			t.Fatalf("unknown type %q", e.Type)
		}
		entries = append(entries, Entry{
			Name: e.Name, Type: kind, Mode: uint32(mode), UID: e.UID, GID: e.GID, MTime: e.MTime,
			Content: Bytes(e.Base64), Link: e.Link, Major: e.Major, Minor: e.Minor,
		})
	}
	return entries
}

func readRamdisk(t testing.TB, r *Ramdisk) []byte {
	t.Helper()
	data, err := io.ReadAll(r.Source().Reader)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != r.Size() {
		t.Fatalf("%d bytes, announced %d", len(data), r.Size())
	}
	return data
}

// TestSharedRamdisks makes what AWS's builder made, byte for byte.
func TestSharedRamdisks(t *testing.T) {
	for _, c := range ramdiskCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			var r *Ramdisk
			var err error
			switch c.Kind {
			case "bootstrap":
				r, err = BootstrapRamdisk(sharedContent(t, c.Init), sharedContent(t, c.NSMKo))
			case "application":
				r, err = ApplicationRamdisk(sharedTree(t, c.Tree), c.Cmd, c.Env)
			default:
				t.Fatalf("unknown kind %q", c.Kind)
			}
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(sharedDir, c.File))
			if err != nil {
				t.Fatal(err)
			}
			if got := readRamdisk(t, r); !bytes.Equal(got, want) {
				t.Fatalf("differs: %d bytes, want %d", len(got), len(want))
			}
			checkRewrite(t, want)
		})
	}
}

// readAll reads an archive whole.
func readAll(data []byte) ([]Entry, error) {
	r := NewReader(bytes.NewReader(data))
	var entries []Entry
	for {
		e, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		e.Content = Bytes(content)
		if e.Type == Symlink {
			e.Content = Content{}
		}
		entries = append(entries, *e)
	}
}

// checkRewrite reads an archive of ours and writes it again.
func checkRewrite(t *testing.T, data []byte) {
	t.Helper()
	entries, err := readAll(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Archive(entries)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readRamdisk(t, again), data) {
		t.Error("read and written again, the archive differs")
	}
}
