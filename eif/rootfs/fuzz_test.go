// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// checkTree insists on what [Root] promises of any tree.
func checkTree(t *testing.T, entries []eifbuild.Entry, walk bool) {
	t.Helper()
	seen := map[string]eifbuild.Type{}
	last := ""
	for _, e := range entries {
		name, isDir := strings.CutSuffix(e.Name, "/")
		if clean, err := cleanName(name); err != nil || clean != name || name == "" || isDir != (e.Type == eifbuild.Dir) {
			t.Fatalf("name %q of a %v: %v", e.Name, e.Type, err)
		}
		if _, there := seen[name]; there {
			t.Fatalf("%q is there twice", name)
		}
		if dir := filepath.ToSlash(filepath.Dir(name)); dir != "." && seen[dir] != eifbuild.Dir {
			t.Fatalf("%q is not behind its directory", name)
		}
		if kind, there := seen[e.Link]; e.Type == eifbuild.Hardlink && (!there || kind == eifbuild.Dir || kind == eifbuild.Hardlink) {
			t.Fatalf("%q is a hard link to %q, a %v", name, e.Link, kind)
		}
		if e.Type == eifbuild.Symlink && (e.Link == "" || len(e.Link) > maxPath) || e.Mode > 0o7777 {
			t.Fatalf("%+v", e)
		}
		if walk && strings.ReplaceAll(last, "/", "\x00") >= strings.ReplaceAll(name, "/", "\x00") {
			t.Fatalf("%q comes before %q", last, name)
		}
		last, seen[name] = name, e.Type
		if e.Content.Size < 1<<20 {
			content(t, e)
		}
	}
}

// checkRead reads an archive in both ways; each is a tree or a refusal with a
// reason. Read as a layer, what comes out must come out again when it is written.
func checkRead(t *testing.T, layers ...[]byte) {
	t.Helper()
	limits := Options{MaxUnpacked: 8 << 20, MaxEntries: 2000, TempDir: t.TempDir()}
	p := newOpening(t.Context(), limits)
	defer func() { (&Root{closers: p.closers}).Close() }()
	if len(layers) == 1 {
		a, err := p.fetch(layer{name: "tarball", size: int64(len(layers[0])), at: bytes.NewReader(layers[0])})
		if err == nil {
			var r *Root
			if r, err = p.tarballRoot(a, "tarball"); err == nil {
				checkTree(t, r.Entries, false)
			}
		}
		if _, ok := reason.Of(err); err != nil && !ok {
			t.Fatalf("refused without a reason: %v", err)
		}
	}
	var stored []layer
	for _, l := range layers {
		stored = append(stored, layer{name: "layer", size: int64(len(l)), at: bytes.NewReader(l)})
	}
	tree, err := p.flatten(stored)
	var entries []eifbuild.Entry
	if err == nil {
		entries, _, err = tree.list(walkOrder)
	}
	if err != nil {
		if _, ok := reason.Of(err); !ok {
			t.Fatalf("refused without a reason: %v", err)
		}
		return
	}
	checkTree(t, entries, true)
	r := &Root{ID: "x", Entries: entries}
	exported, err := r.DockerExport()
	if err != nil {
		if _, ok := reason.Of(err); !ok {
			t.Fatalf("not exported: %v", err)
		}
		return
	}
	checkTree(t, exported, true)
	again, err := (&Root{ID: "x", Entries: exported}).DockerExport()
	if err != nil || brief(t, again) != brief(t, exported) {
		t.Fatalf("exported twice, it differs: %v", err)
	}
}

func seeds(f testing.TB) [][]byte {
	out := [][]byte{
		tarOf(f, reg("a", "1"), dir("d"), reg("d/x", "2"), sym("s", "d"), lnk("l", "s/x"), entry(tar.TypeFifo, "p", 0o600)),
		tarOf(f, reg(".wh.a", ""), reg("d/"+opaque, ""), reg("s/y", "3"), reg("d", "file")),
		tarOf(f, sym("a", "b/../../c"), sym("b", "/"), reg("a/b/a/x", "1"), lnk("m", "a/b/a/x")),
		gz(f, tarOf(f, reg("z", "zipped"))), zst(f, tarOf(f, reg("z", "zipped"))),
	}
	shared, err := filepath.Glob("../../../shared/testdata/eif/ramdisks/*.tar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range shared {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, data)
	}
	if _, err := os.Stat("../../../shared/testdata/eif"); err == nil && len(shared) == 0 {
		f.Fatal("no shared archives")
	}
	return out
}

// FuzzTar reads one archive as a tarball and as a layer.
func FuzzTar(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkRead(t, data) })
}

// FuzzLayers makes archives out of a few bytes each: small inputs reach every
// meeting of names, links and whiteouts.
func FuzzLayers(f *testing.F) {
	f.Add([]byte("f0d1f7l8/s9w1o2h3"))
	f.Add([]byte{0, 1, 2, 9, 30, 7, 255, 3, 4, 66, 77, 255, 5, 200, 100, 6, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 600 {
			return
		}
		checkRead(t, stack(t, script(data))...)
	})
}

// script turns three bytes each into a member.
func script(data []byte) []tm {
	names := []string{"a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "b/a/b", "./a", "/b/", "a/../b", "a/b/a/b"}
	targets := []string{"a", "b", "..", "/", "../a", "/b/a", "a/a", "b/../../a", ".", "a/b/", "//b", "b/."}
	var out []tm
	r := bytes.NewReader(data)
	for len(out) < 200 {
		var b [3]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return out
		}
		name, target := names[int(b[1])%len(names)], targets[int(b[2])%len(targets)]
		base := strings.TrimSuffix(name, "/")
		cut := strings.LastIndexByte(base, '/') + 1
		switch b[0] % 9 {
		case 0, 1:
			out = append(out, reg(base, string(b[2:])))
		case 2:
			out = append(out, dir(base))
		case 3:
			out = append(out, sym(base, target))
		case 4:
			out = append(out, lnk(base, target))
		case 5:
			out = append(out, reg(base[:cut]+whiteout+base[cut:], ""))
		case 6:
			out = append(out, reg(base+"/"+opaque, ""))
		case 7:
			out = append(out, tm{})
		case 8:
			out = append(out, entry(tar.TypeFifo, base, 0o600))
		}
	}
	return out
}

// TestSeeds: the seeds are trees, and a script's as well; a fuzzer that begins
// with refusals finds little.
func TestSeeds(t *testing.T) {
	list := seeds(t)
	if len(list) < 5 {
		t.Fatalf("%d seeds", len(list))
	}
	for i, data := range list {
		if r := open(t, "tar:"+write(t, "x", data), Options{}); len(r.Entries) == 0 {
			t.Errorf("seed %d is empty", i)
		}
	}
	entries, err := flattenAll(t, Options{}, stack(t, script([]byte{0, 0, 1, 2, 1, 0, 3, 4, 1, 7, 0, 0, 5, 0, 0}))...)
	if got := brief(t, entries); err != nil || got != "b/ b/a->b" {
		t.Errorf("got %q, %v", got, err)
	}
}
