// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// bzImage makes the beginning of one, with a pointer to a version string.
func bzImage(sectors byte, pointer uint16, at int, text string) []byte {
	data := make([]byte, 4096)
	data[setupSectors] = sectors
	binary.LittleEndian.PutUint16(data[bootFlag:], 0xaa55)
	copy(data[setupMagic:], "HdrS")
	binary.LittleEndian.PutUint16(data[setupVersion:], pointer)
	copy(data[at:], text)
	return data
}

func arm64(text string, at int) []byte {
	data := make([]byte, at+len(text)+10)
	copy(data[56:], "ARM\x64")
	copy(data[at:], text)
	return data
}

func TestKernel(t *testing.T) {
	const built = "4.14.256-209.484.amzn2.x86_64 (mockbuild@host) #1 SMP Tue Jan 1 00:00:00 UTC 2022"
	standIn, err := eifbuild.StandIn("kernel").Open()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(standIn)
	if err != nil {
		t.Fatal(err)
	}
	far := arm64("Linux version 6.6.79 (a@b)\n", 300<<10)
	for name, c := range map[string]struct {
		data           []byte
		format, banner string
	}{
		"bzImage":                     {bzImage(7, 0x400, 0x600, built+"\x00junk"), "bzImage", built},
		"bzImage, sectors 0":          {bzImage(0, 0x700, 0x900, ""), "bzImage", ""},
		"pointer 0":                   {bzImage(7, 0, 0x600, built), "bzImage", ""},
		"pointer behind the setup":    {bzImage(2, 0x400, 0x600, built), "bzImage", ""},
		"pointer behind the file":     {bzImage(255, 0xfff0, 0x600, built), "bzImage", ""},
		"no end":                      {bzImage(7, 0x400, 0x600, strings.Repeat("v", 600)), "bzImage", ""},
		"at the end of the file":      {bzImage(16, 4096-0x200-3, 4093, "abc"), "bzImage", ""},
		"Image":                       {arm64("Linux version 6.6.79 (a@b) #1 SMP\n", 5000), "Image", "6.6.79 (a@b) #1 SMP"},
		"Image, far in":               {far, "Image", "6.6.79 (a@b)"},
		"format strings are none":     {arm64("Linux version %s\x00Linux version \n\x00Linux version 5.10\n", 100), "Image", "5.10"},
		"Image, no end":               {arm64("Linux version 5.10", 100)[:118], "Image", ""},
		"Image without":               {arm64("", 70000), "Image", ""},
		"unknown with a banner":       {[]byte("xLinux version 5.4.0\x00"), "", "5.4.0"},
		"banner at the very start":    {[]byte("Linux version 5.4.0\n"), "", "5.4.0"},
		"compressed":                  {zipped(t, far), "gzip", "6.6.79 (a@b)"},
		"compressed, damaged":         {zipped(t, bytes.Repeat([]byte("abcdefgh"), 20000))[:200], "gzip", ""},
		"compressed, only the begin":  {[]byte("\x1f\x8bx"), "gzip", ""},
		"stand-in":                    {text, "stand-in", ""},
		"one byte":                    {[]byte("x"), "", ""},
		"cut header of a bzImage":     {bzImage(7, 0x400, 0x600, built)[:setupVersion+1], "", ""},
		"bzImage, cut after a header": {bzImage(7, 0x400, 0x600, built)[:setupVersion+2], "bzImage", ""},
	} {
		// What follows the kernel in the image is no part of it.
		kernel, err := ReadKernel(t.Context(), imageWith(t, c.data, "Linux version 9.9 ", cpio()))
		if err != nil || kernel.Format != c.format || kernel.Banner != c.banner {
			t.Errorf("%s: %+v, %v", name, kernel, err)
		}
	}
	if v := (Kernel{Banner: built}).Version(); v != "4.14.256-209.484.amzn2.x86_64" {
		t.Errorf("version %q", v)
	}
	// A banner at each place where the search could cut it.
	for at := window - 600; at < window+20; at++ {
		data := append(bytes.Repeat([]byte{0}, at), "Linux version 6.1.2 (x)\n"...)
		if k, err := readKernel(t.Context(), bytes.NewReader(data), int64(len(data))); err != nil || k.Banner != "6.1.2 (x)" {
			t.Fatalf("at %d: %+v, %v", at, k, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readKernel(ctx, bytes.NewReader(far), int64(len(far))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	packed := zipped(t, far)
	if _, err := readKernel(ctx, bytes.NewReader(packed), int64(len(packed))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzKernel(f *testing.F) {
	f.Add(bzImage(7, 0x400, 0x600, "5.10\x00"))
	f.Add(arm64("Linux version 6.6.79\n", 100))
	f.Add(zipped(f, arm64("Linux version 6.6.79\n", 100)))
	f.Add(zipped(f, nil)[:12])
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := readKernel(context.Background(), bytes.NewReader(data), int64(len(data)))
		if err != nil || len(k.Banner) > maxBanner || strings.ContainsRune(k.Banner, 0) {
			t.Fatalf("%+v, %v", k, err)
		}
	})
}

func TestWalk(t *testing.T) {
	im := image(t, cpio(file644("a", "1")), zipped(t, cpio(folder("d"), file644("d/b", "22"))))
	for number, want := range map[int]string{1: "a 1;", 2: "d ;d/b 22;"} {
		var got strings.Builder
		err := Walk(t.Context(), im, number, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
			content, err := io.ReadAll(r)
			fmt.Fprintf(&got, "%s %s;", e.Name, content)
			return err
		})
		if err != nil || got.String() != want {
			t.Errorf("%d: %q, %v", number, got.String(), err)
		}
	}
	for _, number := range []int{-1, 0, 3} {
		if err := Walk(t.Context(), im, number, nil); err == nil {
			t.Errorf("there is a ramdisk %d", number)
		}
	}
	stop := errors.New("stop")
	if err := Walk(t.Context(), im, 1, func(*eifbuild.Entry, *eifbuild.Reader) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Walk(ctx, im, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	err := Walk(t.Context(), image(t, nil, []byte("no archive")), 2, nil)
	if refusal, ok := errors.AsType[*reason.Error](err); !ok || refusal.Rule() != "cpio.magic" || !strings.HasPrefix(err.Error(), "ramdisk 2: ") {
		t.Errorf("got %v", err)
	}
}

func TestCopy(t *testing.T) {
	im := image(t, cpio(
		file644("f", "first"), file644("f", "second"), folder("d/"), file644("d/x", "x"), link("l", "f"),
		named(7, "a", ""), named(7, "b", ""), named(7, "c", "shared"), file644("empty", ""),
		named(8, "p", "old"), named(8, "q", ""), file644("q", "new"),
		named(9, "r", "r"), named(9, "s", ""), link("s", "x"), file644("s", "own"),
		item{name: "dev", mode: 0o020666, inode: 10}, item{name: "dev2", mode: 0o020666, inode: 10},
		file644("gone", "1"), link("gone", "f"),
	))
	for name, want := range map[string]string{
		"f": "second", "d/x": "x", "a": "shared", "b": "shared", "c": "shared", "empty": "", "p": "new", "q": "new", "r": "r", "s": "own",
	} {
		var got bytes.Buffer
		if err := Copy(t.Context(), im, 1, name, &got); err != nil || got.String() != want {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
	for _, name := range []string{"d", "l", "dev", "dev2", "gone"} {
		if err := Copy(t.Context(), im, 1, name, io.Discard); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"absent", "", "/f", "d/", "./f", "l/x"} {
		if err := Copy(t.Context(), im, 1, name, io.Discard); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("broken pipe")
	if err := Copy(t.Context(), im, 1, "f", writerFunc(func([]byte) (int, error) { return 0, broken })); err != broken {
		t.Errorf("got %v", err)
	}
	if err := Copy(t.Context(), im, 2, "f", io.Discard); err == nil {
		t.Error("there is a ramdisk 2")
	}
}

// TestCopyThroughLinks: while it unpacks, the kernel follows links on the way to a
// name. What such an entry makes is not passed off as another file's content.
func TestCopyThroughLinks(t *testing.T) {
	im := image(t, cpio(
		folder("d"), file644("d/f", "old"), file644("d/g", "g"), link("l", "d"), file644("l/f", "new"),
		folder("e"), file644("e/h", "old"), link("up", "e/../e"), link("m", "/up/."), named(7, "a", "a"), named(7, "m/h", "new"),
		folder("n"), file644("n/i", "i"), link("o", "n"), file644("o", "no link any more"), link("loop", "loop"), file644("loop/x", "x"),
	))
	for name, want := range map[string]string{"d/g": "g", "n/i": "i", "o": "no link any more"} {
		var got bytes.Buffer
		if err := Copy(t.Context(), im, 1, name, &got); err != nil || got.String() != want {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
	for _, name := range []string{"d/f", "l/f", "e/h", "m/h", "a", "loop/x"} {
		var got bytes.Buffer
		err := Copy(t.Context(), im, 1, name, &got)
		if refusal, ok := errors.AsType[*reason.Error](err); !ok || refusal.Rule() != "contents.through-link" || got.Len() > 0 {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
}

func TestLinksBounds(t *testing.T) {
	for name, l := range map[string]links{
		"contents.entries":      {size: maxNameBytes},
		"contents.through-link": {work: maxWork + 1},
	} {
		_, err := l.add(&eifbuild.Entry{Name: "l", Type: eifbuild.Symlink, Link: "x"})
		if refusal, ok := errors.AsType[*reason.Error](err); !ok || refusal.Rule() != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	var l links
	if _, err := l.add(&eifbuild.Entry{Name: "l", Type: eifbuild.Symlink, Link: strings.Repeat("l/", 2000)}); err != nil {
		t.Fatal(err)
	}
	if at, err := l.add(&eifbuild.Entry{Name: "l/x"}); err != nil || at != "" || l.work < 40*2000 {
		t.Errorf("%q, %v, %d", at, err, l.work)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestRelease(t *testing.T) {
	for text, want := range map[string]string{
		"0343b056cd8485ca7890ddd833476d78460aed2aa161548e4e26bedf321726696257d623e8805f3f605946b3d8b0c6aa": "kernel and init of nitro-cli v1.3.1 to v1.5.0 (x86_64)",
		"5d3938eb05288e20a981038b1861062ff4174884968a39aee5982b312894e60561883576cc7381d1a7d05b809936bd16": "kernel and init of nitro-cli before v1.3.1 (aarch64)",
		strings.Repeat("00", 48): "",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := Release(pcr.Digest(raw)); got != want {
			t.Errorf("%s: %q", text[:8], got)
		}
	}
	for _, r := range releases {
		if raw, err := hex.DecodeString(r.pcr1); err != nil || len(raw) != pcr.Size {
			t.Errorf("%s: %d bytes, %v", r.pcr1, len(raw), err)
		}
	}
}
