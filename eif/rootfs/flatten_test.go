// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// flattenAll puts layers together.
func flattenAll(t testing.TB, o Options, layers ...[]byte) ([]eifbuild.Entry, error) {
	t.Helper()
	o.TempDir = t.TempDir()
	r, err := Open(t.Context(), layoutOf(t, image(t, v1.ConfigFile{}, layers...)), o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { r.Close() })
	return r.Entries, nil
}

// TestLayers: what stacks of layers come out as. A "|" ends a layer.
func TestLayers(t *testing.T) {
	next := tm{}
	for _, c := range []struct {
		name   string
		stack  []tm
		expect string
	}{
		{"walk, not string order", []tm{reg("a-b", "1"), dir("a"), reg("a/x", "2"), reg("a.c", "3")}, "a/ a/x=2 a-b=1 a.c=3"},
		{"last of a name wins", []tm{reg("f", "1"), reg("f", "22")}, "f=22"},
		{"last directory's children stay", []tm{dir("d"), reg("d/x", "1"), dir("d")}, "d/ d/x=1"},
		{"missing parents", []tm{reg("a/b/c", "1")}, "a/ a/b/ a/b/c=1"},
		{"names", []tm{reg("./x", "1"), reg("/y", "2"), reg("a//./b", "3"), dir("."), reg(`c\d`, "4"), reg("\xff", "5")},
			"a/ a/b=3 c\\d=4 x=1 y=2 \xff=5"},
		{"whiteout", []tm{reg("a", "1"), reg("b", "2"), next, reg(".wh.a", "")}, "b=2"},
		{"whiteout of a directory", []tm{reg("d/x", "1"), reg("e", "2"), next, reg(".wh.d", "")}, "e=2"},
		{"whiteout below", []tm{reg("d/x", "1"), reg("d/y", "2"), next, reg("d/.wh.x", "")}, "d/ d/y=2"},
		{"whiteout of nothing", []tm{reg("a", "1"), next, reg(".wh.b", ""), reg("c/.wh.d", ""), reg("a/.wh.x", "")}, "a=1"},
		{"whiteout and file in one layer", []tm{reg("a", "1"), next, reg("a", "2"), reg(".wh.a", "")}, "a=2"},
		{"the other way around", []tm{reg("a", "1"), next, reg(".wh.a", ""), reg("a", "2")}, "a=2"},
		{"whiteout of a parent", []tm{dir("d"), reg("d/x", "1"), next, reg("d/y", "2"), reg(".wh.d", "")}, "d/ d/y=2"},
		{"whiteouts hide nothing in the first layer", []tm{reg("a", "1"), reg(".wh.a", "")}, "a=1"},
		{"whiteout and back", []tm{reg("d/x", "1"), next, reg(".wh.d", ""), next, dir("d")}, "d/"},
		{"opaque", []tm{reg("d/x", "1"), reg("d/e/y", "2"), next, dir("d"), reg("d/z", "3"), reg("d/.wh..wh..opq", "")}, "d/ d/z=3"},
		{"opaque first", []tm{reg("d/x", "1"), next, reg("d/.wh..wh..opq", ""), reg("d/z", "3")}, "d/ d/z=3"},
		{"opaque root", []tm{reg("x", "1"), next, reg(".wh..wh..opq", ""), reg("z", "3")}, "z=3"},
		{"opaque through a link", []tm{reg("d/x", "1"), sym("s", "d"), next, reg("s/.wh..wh..opq", "")}, "d/ s->d"},
		{"opaque directory for a link", []tm{reg("e/x", "1"), sym("d", "e"), next, dir("d"), reg("d/.wh..wh..opq", ""), reg("d/y", "2")}, "d/ d/y=2 e/ e/x=1"},
		{"the whiteout first", []tm{reg("e/x", "1"), sym("d", "e"), next, reg("d/.wh.x", ""), dir("d")}, "d/ e/ e/x=1"},
		{"opaque below a directory for a link", []tm{reg("e/b/x", "1"), sym("d", "e"), next, dir("d"), dir("d/b"), reg("d/b/.wh..wh..opq", "")}, "d/ d/b/ e/ e/b/ e/b/x=1"},
		{"bookkeeping of AUFS", []tm{reg("a", "1"), reg(".wh..wh.plnk/1.2", "x"), reg(".wh..wh.aufs", "")}, "a=1"},
		{"file for a directory", []tm{reg("d/x", "1"), next, reg("d", "2")}, "d=2"},
		{"directory for a file", []tm{reg("d", "1"), next, dir("d"), reg("d/x", "2")}, "d/ d/x=2"},
		{"directory for a link", []tm{reg("e/x", "1"), sym("d", "e"), next, dir("d"), reg("d/y", "2")}, "d/ d/y=2 e/ e/x=1"},
		{"link for a directory", []tm{reg("d/x", "1"), next, sym("d", "/e")}, "d->/e"},
		{"hard link", []tm{reg("b", "1"), lnk("c", "b"), lnk("a", "c")}, "a=1 b=>a c=>a"},
		{"hard link across layers", []tm{reg("a", "1"), next, lnk("b", "a")}, "a=1 b=>a"},
		{"hard link, target gone later", []tm{reg("a", "1"), lnk("b", "a"), next, reg(".wh.a", "")}, "b=1"},
		{"hard link, target replaced later", []tm{reg("a", "1"), lnk("b", "a"), next, reg("a", "2")}, "a=2 b=1"},
		{"hard link, target replaced in the layer", []tm{reg("a", "1"), next, lnk("b", "a"), reg("a", "2")}, "a=2 b=1"},
		{"hard link to a symbolic link", []tm{reg("a", "1"), sym("s", "a"), lnk("t", "s")}, "a=1 s->a t=>s"},
		{"hard link to a name with a slash", []tm{reg("d/a", "1"), lnk("b", "/d/./a")}, "b=1 d/ d/a=>b"},
		{"hard link through a link", []tm{reg("d/a", "1"), sym("s", "d"), lnk("b", "s/a")}, "b=1 d/ d/a=>b s->d"},
		{"parent is a link", []tm{dir("usr/lib"), sym("lib", "usr/lib"), next, reg("lib/x", "1")}, "lib->usr/lib usr/ usr/lib/ usr/lib/x=1"},
		{"parent is a link within the layer", []tm{sym("a", "/b/c"), reg("a/x", "1")}, "a->/b/c b/ b/c/ b/c/x=1"},
		{"parent leads out", []tm{sym("d/a", "../../../../b"), reg("d/a/x", "1")}, "b/ b/x=1 d/ d/a->../../../../b"},
		{"parents in a chain", []tm{sym("a", "b/."), sym("b", "./c"), dir("c"), reg("a/x", "1")}, "a->b/. b->./c c/ c/x=1"},
		{"whiteout through a link", []tm{reg("d/x", "1"), sym("s", "d"), next, reg("s/.wh.x", "")}, "d/ s->d"},
		{"links that lead nowhere", []tm{sym("s", "../../x/\xfe"), sym("r", "/"), sym("q", "q")}, "q->q r->/ s->../../x/\xfe"},
		{"other kinds", []tm{entry(tar.TypeFifo, "p", 0o600), entry(tar.TypeChar, "c", 0o600), entry(tar.TypeBlock, "b", 0o600),
			entry(tar.TypeCont, "f", 0o600)}, "b(block) c(char) f= p(fifo)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := flattenAll(t, Options{}, stack(t, c.stack)...)
			if err != nil {
				t.Fatal(err)
			}
			if got := brief(t, got); got != c.expect {
				t.Errorf("got  %s\nwant %s", got, c.expect)
			}
		})
	}
}

// stack makes layers of members; one without a name ends a layer.
func stack(t testing.TB, members []tm) [][]byte {
	t.Helper()
	var layers [][]byte
	var layer []tm
	for _, m := range members {
		if m.Name == "" {
			layers = append(layers, tarOf(t, layer...))
			layer = nil
			continue
		}
		layer = append(layer, m)
	}
	return append(layers, tarOf(t, layer...))
}

// TestLayerMetadata: modes, owners and times of what replaces what.
func TestLayerMetadata(t *testing.T) {
	odd := dir("d")
	odd.Mode, odd.Uid, odd.Gid = 0o2750, 7, 1<<32-1
	setuid := reg("d/f", "x")
	setuid.Mode = 0o4755
	linked := lnk("d/g", "d/f")
	linked.Mode, linked.Uid = 0o600, 9 // not looked at: it is the same file
	got, err := flattenAll(t, Options{}, stack(t, []tm{dir("d"), reg("d/f", "old"), reg("n/x", ""), {}, odd, setuid, linked})...)
	if err != nil {
		t.Fatal(err)
	}
	want := `dir "d/" 2750 7:4294967295 1700000000
file "d/f" 4755 0:0 1700000000 "x"
hardlink "d/g" 4755 0:0 1700000000 -> "d/f"
dir "n/" 0755 0:0 0
file "n/x" 0644 0:0 1700000000 ""
`
	if got := format(t, got); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestLayersRefused: each rule of a layer's members.
func TestLayersRefused(t *testing.T) {
	next := tm{}
	long := strings.Repeat("x", 256)
	deep := strings.Repeat("d/", 2048)
	owner := reg("f", "")
	owner.Uid = 1 << 32
	group := reg("f", "")
	group.Gid = -1
	device := entry(tar.TypeChar, "c", 0)
	device.Devmajor = 1 << 32
	device.Format = tar.FormatGNU
	var loop []tm
	for i := range 50 {
		loop = append(loop, sym(fmt.Sprint("s", i), fmt.Sprint("s", (i+1)%50)))
	}
	for _, c := range []struct {
		name  string
		rule  string
		stack []tm
	}{
		{"dot dot", "name", []tm{reg("../f", "")}},
		{"dot dot inside", "name", []tm{reg("a/../f", "")}},
		{"dot dot in a hard link", "name", []tm{reg("f", ""), lnk("g", "../f")}},
		{"dot dot in a whiteout", "name", []tm{reg("f", ""), next, reg("../.wh.f", "")}},
		{"long part", "name", []tm{reg(long, "")}},
		{"long path", "name", []tm{reg(deep+"f", "")}},
		{"long path through a link", "name", []tm{dir(deep[:3000]), sym("s", deep[:3000]), reg("s/"+deep[:3000]+"f", "")}},
		{"long part in a target", "name", []tm{sym("s", long), reg("s/f", "")}},
		{"root is a file", "name", []tm{reg("./.", "")}},
		{"root is a link", "name", []tm{sym("/", "x")}},
		{"owner", "owner", []tm{owner}},
		{"group", "owner", []tm{group}},
		{"device", "device", []tm{device}},
		{"empty link", "link", []tm{sym("s", "")}},
		{"hard link to nothing", "hardlink", []tm{lnk("g", "f")}},
		{"hard link to what comes later", "hardlink", []tm{lnk("g", "f"), reg("f", "")}},
		{"hard link to itself", "hardlink", []tm{lnk("g", "g")}},
		{"hard link to a directory", "hardlink", []tm{dir("d"), lnk("g", "d")}},
		{"hard link to the root", "hardlink", []tm{dir("d"), lnk("g", "/")}},
		{"hard link to what is whited out", "hardlink", []tm{reg("f", ""), next, reg(".wh.f", ""), lnk("g", "f")}},
		{"below a file", "parent", []tm{reg("f", ""), reg("f/g", "")}},
		{"below a device", "parent", []tm{entry(tar.TypeFifo, "f", 0), reg("f/g/h", "")}},
		{"loop of links", "parent", append(loop, reg("s0/f", ""))},
		{"whiteout of nothing", "whiteout", []tm{reg("f", ""), next, reg("d/.wh.", "")}},
		{"whiteout of dot dot", "whiteout", []tm{reg("f", ""), next, reg("d/.wh...", "")}},
		{"directory with a whiteout's name", "whiteout", []tm{reg("d/.wh.x/f", "")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := flattenAll(t, Options{}, stack(t, c.stack)...)
			if err == nil {
				t.Fatal("taken")
			}
			checkRefusal(t, err, reason.Malformed, "rootfs."+c.rule)
		})
	}
}
