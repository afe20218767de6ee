// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/reason"
)

// stacker makes random stacks of layers as builders write them: with an entry
// for each directory above a file, and without whiteouts of what the same layer
// has.
type stacker struct {
	*rand.Rand
	// plain leaves out what go-containerregistry does not know: hard links,
	// names below links, and names that change between file and directory.
	plain bool
	now   int64
	known []string // names that earlier layers have, or had
}

func (s *stacker) path() string {
	parts := []string{[]string{"a", "b", "c", "d"}[s.IntN(4)]}
	for s.IntN(3) > 0 && len(parts) < 4 {
		parts = append(parts, []string{"a", "b", "c.d", "e-f", "g"}[s.IntN(5)])
	}
	return strings.Join(parts, "/")
}

func (s *stacker) finish(m tm) tm {
	s.now++
	m.Mode, m.Uid, m.Gid, m.ModTime = int64(0o400|s.IntN(0o400)), s.IntN(3), s.IntN(3), time.Unix(testTime+s.now, 0)
	if m.Typeflag == tar.TypeSymlink {
		m.Mode = 0o777
	}
	if m.Typeflag == tar.TypeDir {
		m.Mode |= 0o700
	}
	return m
}

// layer makes a layer on top of the tree that t has.
func (s *stacker) layer(t *tree) []tm {
	var out []tm
	placed := map[string]byte{}
	hidden := map[string]bool{}
	under := func(name string) bool { // something hides it, or it hides something
		for h := range hidden {
			if h == name || strings.HasPrefix(name, h+"/") || strings.HasPrefix(h, name+"/") {
				return true
			}
		}
		return false
	}
	for range s.IntN(3) {
		if len(s.known) > 0 {
			name := s.known[s.IntN(len(s.known))]
			out = append(out, reg(path.Join(path.Dir(name), whiteout+path.Base(name)), ""))
			hidden[name] = true
		}
	}
	if f, _ := t.lookup("a"); f != nil && f.kind == eifbuild.Dir && !under("a") && s.IntN(3) == 0 {
		out = append(out, s.finish(dir("a")), reg("a/"+opaque, ""))
		placed["a"] = tar.TypeDir
	}
	for range 1 + s.IntN(8) {
		name := s.path()
		if under(name) || placed[name] != 0 {
			continue
		}
		kind := s.kind(name)
		ok := true
		var parents []string
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			f, _ := t.lookup(d)
			switch {
			case placed[d] == tar.TypeDir:
			case placed[d] != 0, s.plain && s.kind(d) != tar.TypeDir:
				ok = false
			case !s.plain && f != nil && f.kind == eifbuild.Symlink:
				if to, _ := t.resolve(d, false); to == nil || s.IntN(2) == 0 {
					ok = false
				}
			default:
				parents = append(parents, d)
			}
		}
		if !ok {
			continue
		}
		slices.Reverse(parents)
		for _, d := range parents {
			out = append(out, s.finish(dir(d)))
			placed[d] = tar.TypeDir
		}
		m, ok := s.member(t, kind, name, placed, under)
		if !ok {
			continue
		}
		out = append(out, m)
		placed[name] = m.Typeflag
		s.known = append(s.known, name)
	}
	return out
}

func (s *stacker) kind(name string) byte {
	if s.plain { // always the same for a name
		return []byte{tar.TypeDir, tar.TypeDir, tar.TypeReg, tar.TypeReg, tar.TypeSymlink}[s.hash(name)%5]
	}
	return []byte{tar.TypeDir, tar.TypeReg, tar.TypeReg, tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo}[s.IntN(7)]
}

func (s *stacker) hash(name string) (sum int) {
	for _, c := range name {
		sum += int(c) + 13
	}
	return sum
}

func (s *stacker) member(t *tree, kind byte, name string, placed map[string]byte, under func(string) bool) (tm, bool) {
	switch kind {
	case tar.TypeDir:
		return s.finish(dir(name)), true
	case tar.TypeReg:
		return s.finish(reg(name, fmt.Sprint("content ", s.IntN(1000)))), true
	case tar.TypeSymlink:
		targets := []string{"/a", "b", "/b/c.d", "nowhere", "../c"}
		if s.plain { // go-containerregistry leaves out links that lead out
			targets = targets[:4]
		}
		return s.finish(sym(name, targets[s.IntN(len(targets))])), true
	case tar.TypeFifo:
		return s.finish(entry(tar.TypeFifo, name, 0)), true
	}
	// A hard link to a file of this layer or one below; not in the place of a
	// directory, which umoci removes before it looks for the file.
	if f, _ := t.lookup(name); f != nil && f.kind == eifbuild.Dir {
		return tm{}, false
	}
	for target, k := range placed {
		if k == tar.TypeReg || k == tar.TypeSymlink {
			return lnk(name, target), true
		}
	}
	for _, target := range s.known {
		f, _ := t.lookup(target)
		parent, _ := t.lookup(path.Dir(target))
		if f == nil || f.kind == eifbuild.Dir || under(target) || target == name || strings.HasPrefix(target, name+"/") ||
			path.Dir(target) != "." && (parent == nil || parent.kind != eifbuild.Dir) || changed(placed, target) {
			continue
		}
		return lnk(name, target), true
	}
	return tm{}, false
}

// changed says whether a layer has put something where a name, or a directory
// above it, was: that may have taken it away.
func changed(placed map[string]byte, name string) bool {
	for d := name; d != "."; d = path.Dir(d) {
		if placed[d] != 0 {
			return true
		}
	}
	return false
}

// stack makes two to five layers.
func (s *stacker) stack(t *testing.T) [][]byte {
	var layers [][]byte
	for range 2 + s.IntN(4) {
		p := newOpening(t.Context(), Options{TempDir: t.TempDir()})
		var stored []layer
		for i, l := range layers {
			stored = append(stored, layer{name: fmt.Sprint(i), size: int64(len(l)), at: strings.NewReader(string(l))})
		}
		so, err := p.flatten(stored)
		if ruleOf(err) == "rootfs.parent" { // a link that was good leads in circles now
			layers = layers[:len(layers)-1]
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, tarOf(t, s.layer(so)...))
	}
	return layers
}

// TestUmoci: random stacks of layers come out as umoci unpacks them, names,
// kinds, modes, owners, times, contents and hard links.
func TestUmoci(t *testing.T) {
	umoci := need.Program(t, "umoci")
	rounds, root := 10, os.Geteuid() == 0
	if os.Getenv("CRETULA_LONG") == "1" {
		rounds = 500
	}
	for seed := range uint64(rounds) {
		s := &stacker{Rand: rand.New(rand.NewPCG(seed, 1))}
		layers := s.stack(t)
		layout := layoutOf(t, image(t, v1.ConfigFile{}, layers...))
		bundle := filepath.Join(t.TempDir(), "bundle")
		args := []string{"unpack", "--image", layout + ":t0", bundle}
		if !root {
			args = slices.Insert(args, 1, "--rootless")
		}
		out, err := exec.Command(umoci, args...).CombinedOutput()
		if err != nil && strings.Contains(string(out), "too many levels of symbolic links") {
			refused(t, layout, Options{}, reason.Malformed, "rootfs.parent")
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, out)
		}
		want := open(t, "dir:"+filepath.Join(bundle, "rootfs"), Options{})
		got := open(t, layout, Options{})
		a, b := format(t, comparable(got.Entries, want.Entries, root)), format(t, comparable(want.Entries, want.Entries, root))
		if a != b {
			t.Fatalf("seed %d: got\n%swant\n%s", seed, a, b)
		}
		if err := os.RemoveAll(bundle); err != nil {
			t.Fatal(err)
		}
	}
}

// comparable leaves out owners, which only root can give to files, and the times
// of directories that were made because something had to lie in them: umoci gives
// those, and the directories above them, the time of day.
func comparable(entries, unpacked []eifbuild.Entry, owners bool) []eifbuild.Entry {
	out := slices.Clone(entries)
	for i := range out {
		if !owners {
			out[i].UID, out[i].GID = 0, 0
		}
		if i < len(unpacked) && unpacked[i].Type == eifbuild.Dir && unpacked[i].MTime > testTime+1e6 {
			out[i].MTime = 0
		}
	}
	return out
}

// TestExtract: random stacks come out as go-containerregistry flattens them.
func TestExtract(t *testing.T) {
	rounds, entries := 40, 0
	for seed := range uint64(rounds) {
		s := &stacker{Rand: rand.New(rand.NewPCG(seed, 2)), plain: true}
		im := image(t, v1.ConfigFile{}, s.stack(t)...)
		r := mutate.Extract(im)
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		want := describeTar(t, string(data))
		got := open(t, layoutOf(t, im), Options{})
		var lines []string
		for _, e := range got.Entries {
			lines = append(lines, fmt.Sprintf("%s %v %o %d:%d %d %q", strings.TrimSuffix(e.Name, "/"), e.Type, e.Mode, e.UID, e.GID, e.MTime,
				e.Link+content(t, e)))
		}
		slices.Sort(lines)
		entries += len(lines)
		if !slices.Equal(lines, want) {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	}
	if entries < 5*rounds {
		t.Errorf("only %d entries were compared", entries)
	}
}

func describeTar(t *testing.T, data string) []string {
	t.Helper()
	kinds := map[byte]eifbuild.Type{tar.TypeReg: eifbuild.File, tar.TypeDir: eifbuild.Dir, tar.TypeSymlink: eifbuild.Symlink}
	var lines []string
	r := tar.NewReader(strings.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			slices.Sort(lines)
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %v %o %d:%d %d %q", strings.TrimSuffix(h.Name, "/"), kinds[h.Typeflag], h.Mode, h.Uid, h.Gid,
			h.ModTime.Unix(), h.Linkname+string(body)))
	}
}
