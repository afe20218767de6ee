// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// FuzzTree unpacks hostile ramdisks: nothing is made outside of the folder, errors
// have a reason, and what is unpacked is what Copy finds: where links are followed,
// as the kernel does, Copy refuses rather than to show anything else.
func FuzzTree(f *testing.F) {
	if runtime.GOOS == "windows" {
		f.Skip("symbolic links need a privilege")
	}
	seeds := [][]byte{
		cpio(folder("d"), file644("d/f", "1"), link("l", "../outside"), file644("l/x", "2")),
		cpio(link("l", "../outside"), folder("l"), named(7, "a", ""), named(7, "l", "x"), named(7, "b", "y")),
		cpio(file644("f", "1"), link("f", "d"), folder("f/g"), item{name: "c", mode: 0o020600}),
		cpio(file644("../x", "1")), nil,
	}
	seeds = append(seeds,
		cpio(folder("d"), file644("d/f", "old"), link("l", "d"), file644("l/f", "new"), file644("g", "1")),
		cpio(folder("d"), link("d/l", "../d"), named(7, "d/l/f", "a"), named(7, "b", "b"), link("m", "d/l"), file644("m/f", "c")))
	seeds = append(seeds, zipped(f, seeds[1]), append(bytes.Clone(seeds[0]), seeds[1]...))
	for _, s := range seeds {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, live bool) {
		above := t.TempDir()
		dir := filepath.Join(above, "inside")
		for _, d := range []string{dir, filepath.Join(above, "outside")} {
			if err := os.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		tree, whole := NewTree(root, live), true
		err = walk(t.Context(), bytes.NewReader(data), 1, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
			left, err := tree.Add(e, r)
			whole = whole && left != NoFolder
			return err
		})
		if _, refused := reason.Of(err); err != nil && !refused && !live && !systemError(err) {
			t.Fatalf("without a reason: %v", err)
		}
		if made := files(t, filepath.Join(above, "outside")); made != "" {
			t.Fatalf("outside: %q", made)
		}
		left, _ := os.ReadDir(above)
		if len(left) != 2 {
			t.Fatalf("above: %v", left)
		}
		if err == nil && whole {
			sameAsCopy(t, data, dir, live)
		}
	})
}

// systemError: a name can be too long for this system, say.
func systemError(err error) bool {
	return strings.Contains(err.Error(), "too long") || strings.Contains(err.Error(), "invalid argument")
}

// sameAsCopy compares the files of a tree with what Copy writes.
func sameAsCopy(t *testing.T, data []byte, dir string, live bool) {
	t.Helper()
	im := image(t, data)
	checked := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || checked > 5 {
			return err
		}
		checked++
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var got bytes.Buffer
		err = Copy(t.Context(), im, 1, name, &got)
		if refusal, ok := errors.AsType[*reason.Error](err); live && (errors.Is(err, fs.ErrNotExist) || ok && refusal.Rule() == "contents.through-link") {
			return nil
		}
		if err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%q: %q, %v, unpacked %q", name, got.Bytes(), err, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMemory: large files and many entries are streamed.
func TestMemory(t *testing.T) {
	const size = 64 << 20
	head := cpio(file644("big", ""))
	head = head[:len(head)-len(cpio())] // without the trailer
	copy(head[6+6*8:], "04000000")      // the size of the file
	ramdisk := func() io.Reader {
		return io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, size), bytes.NewReader(cpio(file644("x", "1"))))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	names := ""
	err := walk(t.Context(), ramdisk(), 1, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
		names += e.Name
		n, err := io.Copy(io.Discard, r)
		if e.Name == "big" && n != size {
			t.Errorf("%d bytes", n)
		}
		return err
	})
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; err != nil || names != "bigx" || grown > 1<<20 {
		t.Errorf("%q, %v, %d bytes allocated", names, err, grown)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
