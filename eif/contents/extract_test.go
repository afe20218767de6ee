// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

func TestExtract(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege")
	}
	im := image(t, cpio(file644("init", "1")), zipped(t, cpio(folder("rootfs"), item{name: "rootfs/app", mode: 0o104755, data: "app", uid: 5},
		item{name: "rootfs/null", mode: 0o020666}, link("rootfs/l", "/etc/passwd"), file644("rootfs/\xff", ""))))
	dir := filepath.Join(t.TempDir(), "new")
	got, err := Extract(t.Context(), im, dir, Parts{Trees: true})
	if err != nil || got.Entries != 6 || got.LeftOut["devices and pipes are not made"] != 1 || got.Stripped != 1 || got.Owned != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "list-2.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var items []Item
	for dec := json.NewDecoder(bytes.NewReader(list)); dec.More(); {
		var i Item
		if err := dec.Decode(&i); err != nil {
			t.Fatal(err)
		}
		items = append(items, i)
	}
	if len(items) != 5 || items[1].Mode != "4755" || items[1].UID != 5 || items[1].Size != 3 || items[1].Time != "1970-01-01T00:00:00Z" ||
		items[2].LeftOut == "" || *items[2].Major != 0 || items[3].Link != "/etc/passwd" || string(items[4].NameBytes) != "rootfs/\xff" {
		t.Errorf("%+v", items)
	}
	for _, name := range []string{"list-1.jsonl", "list-2.jsonl"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if got := files(t, dir); got != "tree-1/, tree-1/init 1, tree-2/, tree-2/rootfs/, tree-2/rootfs/app app, tree-2/rootfs/l -> /etc/passwd, tree-2/rootfs/\xff " {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "tree-2/rootfs/app")); err != nil || info.Mode()&fs.ModeSetuid != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestExtractSections: the sections of the shared images are what the images were
// made of, byte for byte.
func TestExtractSections(t *testing.T) {
	shared := need.SharedData(t, "eif")
	data, err := os.ReadFile(filepath.Join(shared, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Files []struct {
			File, Verdict string
			Build         *struct {
				Kernel, Cmdline, Metadata, Certificate string
				Ramdisks                               []string
			}
		}
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, f := range manifest.Files {
		if f.Build == nil || f.Verdict != "accept" {
			continue
		}
		dir := t.TempDir()
		if _, err := Extract(t.Context(), open(t, filepath.Join(shared, f.File)), dir, Parts{Sections: true}); err != nil {
			t.Fatalf("%s: %v", f.File, err)
		}
		want := map[string]string{"kernel": f.Build.Kernel, "cmdline": f.Build.Cmdline, "metadata.json": f.Build.Metadata}
		for i, r := range f.Build.Ramdisks {
			want[sectionFile(3, i+1)] = r
		}
		for name, input := range want {
			a, err := os.ReadFile(filepath.Join(dir, name))
			b, err2 := os.ReadFile(filepath.Join(shared, input))
			if err != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("%s: %s is not %s: %v, %v", f.File, name, input, err, err2)
			}
			compared++
		}
	}
	if compared < 40 {
		t.Errorf("only %d sections compared", compared)
	}
}

// TestExtractFailures: nothing half-written is left.
func TestExtractFailures(t *testing.T) {
	good := image(t, cpio(file644("a", "1")))
	parent := t.TempDir()
	full := filepath.Join(parent, "full")
	if err := os.Mkdir(full, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(full, "mine"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	all := Parts{Sections: true, Trees: true}
	if _, err := Extract(t.Context(), good, full, all); err == nil || files(t, full) != "mine x" {
		t.Errorf("a folder that is not empty: %v", err)
	}
	if _, err := Extract(t.Context(), good, filepath.Join(full, "mine"), all); err == nil {
		t.Error("a file as folder")
	}
	if _, err := Extract(t.Context(), good, filepath.Join(parent, "no", "such"), all); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below nothing: %v", err)
	}
	bad := image(t, cpio(file644("a", "1")), append(cpio(file644("b", "1"))[:60], "x"...))
	for name, extract := range map[string]func(dir string) error{
		"cancelled":  func(dir string) error { _, err := Extract(cancelled, good, dir, all); return err },
		"unreadable": func(dir string) error { _, err := Extract(t.Context(), bad, dir, all); return err },
	} {
		fresh, empty := filepath.Join(parent, "fresh"), t.TempDir()
		if err := extract(fresh); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Lstat(fresh); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the folder is there: %v", name, err)
		}
		if err := extract(empty); err == nil || files(t, empty) != "" {
			t.Errorf("%s: left %s", name, files(t, empty))
		}
	}
	interrupted := t.TempDir()
	if err := os.Mkdir(filepath.Join(interrupted, partialDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Extract(t.Context(), good, interrupted, all); err == nil || !strings.Contains(err.Error(), partialDir) {
		t.Errorf("where one was cut off: %v", err)
	}
}
