// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/cli"
)

// lookImage writes an image with these entries in its second ramdisk.
func lookImage(t *testing.T, cmdline string, entries ...eifbuild.Entry) string {
	t.Helper()
	metadata, err := (&eif.Metadata{}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	var ramdisks []eif.Source
	for _, list := range [][]eifbuild.Entry{{{Name: "init", Mode: 0o755}}, entries} {
		r, err := eifbuild.Archive(list)
		if err != nil {
			t.Fatal(err)
		}
		ramdisks = append(ramdisks, r.Source())
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image.eif"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := eif.Write(t.Context(), f, eif.Spec{Kernel: eif.Bytes([]byte("k")), Cmdline: cmdline, Metadata: metadata, Ramdisks: ramdisks}); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func lookFile(name, content string) eifbuild.Entry {
	return eifbuild.Entry{Name: name, Mode: 0o644, Content: eifbuild.Bytes([]byte(content))}
}

// TestLookPrintable: nothing of an image reaches the terminal as something that it
// would obey, or as a line that is not ours.
func TestLookPrintable(t *testing.T) {
	const evil = "a\x1b]0;x\x07\nPCR0  same\u202eb\xff"
	one := lookImage(t, "quiet \x1b[2J", lookFile(evil, "1"), lookFile("cmd", evil),
		eifbuild.Entry{Name: "l", Type: eifbuild.Symlink, Link: evil, Mode: 0o777})
	two := lookImage(t, "quiet", lookFile(evil, "2"), lookFile("cmd", "/app"),
		eifbuild.Entry{Name: "l", Type: eifbuild.Symlink, Link: "x", Mode: 0o777})
	bad := func(s string) bool {
		return strings.ContainsAny(s, "\x1b\x07\u202e") || strings.Contains(s, "\xff") || strings.Count(s, "\nPCR0  same") > 0
	}
	for _, args := range [][]string{
		{"ls", one}, {"ls", "-l", one}, {"diff", one, two}, {"diff", two, one}, {"cat", one, "2:" + evil + "x"}, {"cat", one, evil},
	} {
		code, stdout, stderr := cretula(nil, append([]string{"eif"}, args...)...)
		if bad(stdout) || bad(stderr) || code == 0 && !strings.Contains(stdout, `\x1b`) {
			t.Errorf("%q: %d %q %q", args, code, stdout, stderr)
		}
	}
	code, stdout, _ := cretula(nil, "eif", "cat", one, "2:"+evil)
	if code != 0 || stdout != "1" {
		t.Errorf("cat: %d %q", code, stdout)
	}
	for _, args := range [][]string{{"ls", "--json", one}, {"diff", "--json", one, two}} {
		_, stdout, _ := cretula(nil, append([]string{"eif"}, args...)...)
		if !json.Valid([]byte(stdout)) || strings.ContainsAny(stdout, "\x1b\x07") {
			t.Errorf("%q: %q", args, stdout)
		}
	}
}

// TestDiffShowsAll: digests are left out of the text, and nothing that only looks
// like one.
func TestDiffShowsAll(t *testing.T) {
	digest := strings.Repeat("0123456789abcdef", 4)
	image := func(target string) string {
		return lookImage(t, "quiet", lookFile("f", target), eifbuild.Entry{Name: "l", Type: eifbuild.Symlink, Link: target, Mode: 0o777})
	}
	one, two := image("/app, SHA-256 "+digest), image("/app, 1000 bytes")
	_, stdout, _ := cretula(nil, "eif", "diff", one, two)
	for _, want := range []string{"link /app, SHA-256 " + digest + " → /app, 1000 bytes\n", "contents 78 bytes → 16 bytes\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	none := lookImage(t, "quiet")
	for _, c := range [][2]string{{one, "to /app, SHA-256 " + digest}, {two, "to /app, 1000 bytes"}} {
		for _, args := range [][]string{{c[0], none}, {none, c[0]}} {
			if _, stdout, _ := cretula(nil, append([]string{"eif", "diff"}, args...)...); !strings.Contains(stdout, c[1]+"\n") {
				t.Errorf("no %q in\n%s", c[1], stdout)
			}
		}
	}
}

// TestLookUnreadable: a ramdisk that cannot be read is listed as far as it can be,
// compared as bytes, and not unpacked.
func TestLookUnreadable(t *testing.T) {
	good := lookImage(t, "quiet", lookFile("a", "1"), lookFile("b", "2"))
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	im, f, err := openImage(cli.System(), good)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	spec := eif.Spec{Kernel: eif.Bytes([]byte("k")), Cmdline: "quiet"}
	for i, s := range im.Sections {
		content := data[s.DataOffset():][:s.Size]
		switch s.Type {
		case eif.MetadataSection:
			spec.Metadata = content
		case eif.Ramdisk:
			if i == len(im.Sections)-1 {
				content = content[:200] // in the second entry
			}
			spec.Ramdisks = append(spec.Ramdisks, eif.Bytes(content))
		}
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "bad.eif"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := eif.Write(t.Context(), out, spec); err != nil {
		t.Fatal(err)
	}
	bad, dir := out.Name(), filepath.Join(t.TempDir(), "new")
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"ls", bad}, 3, "2:a\n", "ramdisk 2: offset 200: the archive ends inside"},
		{[]string{"ls", "--json", bad}, 3, `"error": "ramdisk 2: offset 200:`, "cpio.truncated"},
		{[]string{"ls", "--ramdisk", "1", bad}, 0, "1:init\n", ""},
		{[]string{"cat", bad, "1:init"}, 0, "", ""},
		{[]string{"cat", bad, "2:a"}, 3, "", "cpio.truncated"},
		{[]string{"extract", bad, "-C", dir}, 3, "", "hint: the sections alone can be written: --only sections"},
		{[]string{"diff", good, bad}, 1, "the entries are not compared: in B, ramdisk 2: offset 200", ""},
		{[]string{"diff", bad, bad}, 0, "PCR0  same", ""},
		{[]string{"extract", bad, "-C", dir, "--only", "sections"}, 0, ": 5 sections\n", ""},
	} {
		code, stdout, stderr := cretula(nil, append([]string{"eif"}, c.args...)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("%q: %d %q %q", c.args, code, stdout, stderr)
		}
		if strings.HasPrefix(c.stdout, `"error"`) && !json.Valid([]byte(stdout)) {
			t.Errorf("no JSON: %s", stdout)
		}
	}
}

// TestDiffText: what a person sees of each kind of change.
func TestDiffText(t *testing.T) {
	entry := func(change func(*eifbuild.Entry)) eifbuild.Entry {
		e := lookFile("app", "content")
		e.MTime = 1_500_000_000
		change(&e)
		return e
	}
	one := lookImage(t, "quiet a", lookFile("same", ""), entry(func(*eifbuild.Entry) {}))
	for want, e := range map[string]eifbuild.Entry{
		"  M  app                               contents 7 bytes → 1,234 bytes\n":                                           entry(func(e *eifbuild.Entry) { e.Content = eifbuild.Bytes(make([]byte, 1234)) }),
		"  M  app                               contents (7 bytes in both)\n":                                               entry(func(e *eifbuild.Entry) { e.Content = eifbuild.Bytes([]byte("CONTENT")) }),
		"  P  app                               mode 0644 → 4755, owner 0:0 → 5:0\n":                                        entry(func(e *eifbuild.Entry) { e.Mode, e.UID = 0o4755, 5 }),
		"  T  app                               time 2017-07-14T02:40:00Z → 2017-07-14T02:40:01Z (contents equal: a reprod": entry(func(e *eifbuild.Entry) { e.MTime++ }),
		"  M  app                               type file → symlink, contents":                                              entry(func(e *eifbuild.Entry) { e.Type, e.Link, e.Content = eifbuild.Symlink, "x", eifbuild.Content{} }),
	} {
		code, stdout, stderr := cretula(nil, "eif", "diff", one, lookImage(t, "quiet a", lookFile("same", ""), e))
		if code != 1 || !strings.HasPrefix(stdout, "PCR0  differs    PCR1  same    PCR2  differs\nramdisk 2, application: 1 of 2 names (PCR0, PCR2)\n"+want) || stderr != "" {
			t.Errorf("%d %q %q", code, stdout, stderr)
		}
	}
	code, stdout, _ := cretula(nil, "eif", "diff", one, lookImage(t, "quiet b", lookFile("same", ""), entry(func(*eifbuild.Entry) {})))
	if code != 1 || stdout != "PCR0  differs    PCR1  differs    PCR2  same\ncommand line (PCR0, PCR1)\n  M  contents\n       - a\n       + b\n" {
		t.Errorf("%d %q", code, stdout)
	}
}

// TestExtractLinks: the command leaves nothing outside of its folder, nor in it.
func TestExtractLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege")
	}
	outside := t.TempDir()
	image := lookImage(t, "quiet", eifbuild.Entry{Name: "l", Type: eifbuild.Symlink, Link: outside, Mode: 0o777}, lookFile("l/x", "1"))
	dir := filepath.Join(t.TempDir(), "new")
	code, stdout, stderr := cretula(nil, "eif", "extract", image, "-C", dir)
	if code != 8 || stdout != "" || !strings.Contains(stderr, "contents.through-link") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("outside: %v", left)
	}
}

func TestTerminalText(t *testing.T) {
	for text, want := range map[string]bool{"": true, "a\tb\nü": true, "a\x1b[2J": false, "\x00": false, "\xff": false, "a\rb": false, "\u202e": false} {
		if got := isPlainText(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	var b bounded
	if _, err := b.Write(make([]byte, maxTerminal)); err != nil {
		t.Error(err)
	}
	if _, err := b.Write([]byte("x")); err == nil {
		t.Error("more than the limit")
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
