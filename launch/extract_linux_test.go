// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

func extractImage(t *testing.T, name string) (*application, error) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := eif.Parse(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return extract(im, t.TempDir())
}

func TestExtract(t *testing.T) {
	content := func(s string) eifbuild.Content { return eifbuild.Bytes([]byte(s)) }
	image := buildImage(t, "", []eifbuild.Entry{
		{Name: "closed/", Type: eifbuild.Dir, Mode: 0o555},
		{Name: "closed/file", Mode: 0o444, Content: content("first")},
		{Name: "closed/file", Mode: 0o4711, Content: content("second")},
		{Name: "deep/", Type: eifbuild.Dir, Mode: 0o755},
		{Name: "deep/er/", Type: eifbuild.Dir, Mode: 0o755},
		{Name: "deep/er/file", Mode: 0o600, Content: content("x")},
		{Name: "lib", Type: eifbuild.Symlink, Mode: 0o777, Link: "closed"},
		{Name: "lib/through", Mode: 0o644, Content: content("y")},
		{Name: "null", Type: eifbuild.CharDevice, Mode: 0o666, Major: 1, Minor: 3},
		{Name: "queue", Type: eifbuild.FIFO, Mode: 0o666},
	}, []string{"/closed/file", "", "a b"}, []string{"A=b=c", "EMPTY="})
	app, err := extractImage(t, image)
	if err != nil {
		t.Fatal(err)
	}
	if p := app.process; !slices.Equal(p.Args, []string{"/closed/file", "", "a b"}) || !slices.Equal(p.Env, []string{"A=b=c", "EMPTY="}) || p.Dir != "/" || !app.aws {
		t.Errorf("process %+v", p)
	}
	for name, want := range map[string]string{"closed/file": "second", "deep/er/file": "x", "closed/through": "y"} {
		if got, err := os.ReadFile(filepath.Join(app.root, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]fs.FileMode{"closed": fs.ModeDir | 0o755, "closed/file": 0o711, "lib": fs.ModeSymlink | 0o777} {
		if info, err := os.Lstat(filepath.Join(app.root, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	for _, name := range []string{"null", "queue"} {
		if _, err := os.Lstat(filepath.Join(app.root, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	if program, err := app.program(); err != nil || program != "/closed/file" {
		t.Errorf("program %q, %v", program, err)
	}
}

func TestExtractRefusals(t *testing.T) {
	content := eifbuild.Bytes([]byte("x"))
	outside := t.TempDir()
	for name, entries := range map[string][]eifbuild.Entry{
		"through an absolute link": {{Name: "l", Type: eifbuild.Symlink, Mode: 0o777, Link: outside}, {Name: "l/f", Mode: 0o644, Content: content}},
		"through a relative link":  {{Name: "l", Type: eifbuild.Symlink, Mode: 0o777, Link: strings.Repeat("../", 20) + outside[1:]}, {Name: "l/f", Mode: 0o644, Content: content}},
		"a folder behind a link":   {{Name: "l", Type: eifbuild.Symlink, Mode: 0o777, Link: outside}, {Name: "l/d/", Type: eifbuild.Dir, Mode: 0o755}},
		"a file and a folder":      {{Name: "f", Mode: 0o644, Content: content}, {Name: "f/", Type: eifbuild.Dir, Mode: 0o755}},
		"a file below a file":      {{Name: "f", Mode: 0o644, Content: content}, {Name: "f/g", Mode: 0o644, Content: content}},
		"a file over a folder":     {{Name: "d/", Type: eifbuild.Dir, Mode: 0o755}, {Name: "d", Mode: 0o644, Content: content}},
	} {
		if app, err := extractImage(t, buildImage(t, "", entries, []string{"/f"}, nil)); err == nil || app != nil {
			t.Errorf("%s: extracted", name)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("outside of the tree: %v", left)
	}
}

// TestExtractWithoutFolders: what the kernel would not unpack is not there, and told.
func TestExtractWithoutFolders(t *testing.T) {
	program := eifbuild.Entry{Name: "opt/app", Mode: 0o755, Content: eifbuild.Bytes([]byte("x"))}
	entries := []eifbuild.Entry{{Name: "app", Mode: 0o755}, program, {Name: "opt/etc/", Type: eifbuild.Dir, Mode: 0o755}}
	app, err := extractImage(t, buildImage(t, "", entries, []string{"/app"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if why := app.missing(); len(why) != 1 || !strings.HasPrefix(why[0], `2 entries of the image are left out, the first "opt/app": no entry before it makes its folder`) {
		t.Errorf("missing: %q", why)
	}
	if _, err := os.Lstat(filepath.Join(app.root, "opt")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	app.process.Args[0] = "/opt/app"
	if _, err := app.program(); err == nil || !strings.Contains(err.Error(), `the first "opt/app"`) {
		t.Errorf("got %v", err)
	}
}

// TestExtractHardLinks: two names, one file; of a device there is none.
func TestExtractHardLinks(t *testing.T) {
	app, err := extractImage(t, rawImage(t, nil, []eifbuild.Entry{
		{Name: "cmd", Mode: 0o644, Content: eifbuild.Bytes([]byte("/b\n"))}, {Name: "env", Mode: 0o644},
		{Name: "outside", Mode: 0o644, Content: eifbuild.Bytes([]byte("x"))},
		{Name: "rootfs", Type: eifbuild.Dir, Mode: 0o755},
		{Name: "rootfs/a", Mode: 0o711, Content: eifbuild.Bytes([]byte("a program"))},
		{Name: "rootfs/b", Type: eifbuild.Hardlink, Link: "rootfs/a"},
		{Name: "rootfs/null", Type: eifbuild.CharDevice, Mode: 0o666, Major: 1, Minor: 3},
		{Name: "rootfs/null2", Type: eifbuild.Hardlink, Link: "rootfs/null"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	a, errA := os.Stat(filepath.Join(app.root, "a"))
	b, errB := os.Stat(filepath.Join(app.root, "b"))
	if errA != nil || errB != nil || !os.SameFile(a, b) || b.Mode() != 0o711 {
		t.Errorf("%v %v, %v %v", a, errA, b, errB)
	}
	if _, err := os.Lstat(filepath.Join(app.root, "null2")); err == nil {
		t.Error("null2 is there")
	}
	_, err = extractImage(t, rawImage(t, nil, []eifbuild.Entry{
		{Name: "outside", Mode: 0o644}, {Name: "rootfs/x", Type: eifbuild.Hardlink, Link: "outside"},
	}))
	if r, ok := errors.AsType[*reason.Error](err); !ok || r.Rule() != "contents.tree" {
		t.Errorf("a link out of the tree: %v", err)
	}
}

// rawImage makes an image with these ramdisks, whatever is in them.
func rawImage(t *testing.T, ramdisks ...[]eifbuild.Entry) string {
	t.Helper()
	metadata, err := testMetadata.Encode()
	if err != nil {
		t.Fatal(err)
	}
	spec := eif.Spec{Kernel: eif.Bytes([]byte("kernel")), Cmdline: "c", Metadata: metadata}
	for _, entries := range ramdisks {
		r, err := eifbuild.Archive(entries)
		if err != nil {
			t.Fatal(err)
		}
		spec.Ramdisks = append(spec.Ramdisks, r.Source())
	}
	name := filepath.Join(t.TempDir(), "raw.eif")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := eif.Write(t.Context(), f, spec); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestExtractRamdisks(t *testing.T) {
	file := func(name, text string) eifbuild.Entry {
		return eifbuild.Entry{Name: name, Mode: 0o755, Content: eifbuild.Bytes([]byte(text))}
	}
	cmd, env := file("cmd", "/app\n"), file("env", "")
	own := file("process", "arg=/app\x00dir=/\x00uid=0\x00gid=0\x00")
	inDir := func(dir string) eifbuild.Entry {
		return file("process", "arg=/app\x00dir="+dir+"\x00uid=0\x00gid=0\x00")
	}
	for name, ramdisks := range map[string][][]eifbuild.Entry{
		"launch.ramdisk":                  {{cmd, env}},
		"launch.command: no env":          {nil, {cmd}},
		"launch.command: no cmd":          {nil, {env}},
		"launch.command: empty cmd":       {nil, {file("cmd", ""), env}},
		"launch.command: empty line":      {nil, {file("cmd", "\n"), env}},
		"launch.command: in the first":    {{cmd, env}, nil},
		"launch.list: NUL":                {nil, {file("cmd", "a\x00b"), env}},
		"launch.list: more than a MiB":    {nil, {file("cmd", strings.Repeat("x", maxList+1)), env}},
		"launch.environment: empty line":  {nil, {cmd, file("env", "A=b\n\n")}},
		"launch.environment: no name":     {nil, {cmd, file("env", "=b\n")}},
		"launch.command: all three":       {nil, {cmd, env, own}},
		"launch.command: process and cmd": {nil, {cmd}, {own}},
		"launch.command: process and env": {nil, {own, env}},
		"launch.command: cmd twice":       {nil, {cmd, cmd}},
		"launch.command: process a link":  {nil, {{Name: "process", Type: eifbuild.Symlink, Mode: 0o777, Link: "cmd"}}},
		"launch.process: empty":           {nil, {file("process", "")}},
		"launch.process: list of lines":   {nil, {file("process", "/app\n")}},
		"launch.process: the last counts": {nil, {own, file("process", "arg=x\x00")}},
		"launch.list: long process":       {nil, {file("process", strings.Repeat("x", maxList+1))}},
		"launch.directory: a file":        {nil, {file("rootfs/app", "x"), inDir("/app")}},
		"launch.directory: below a file":  {nil, {file("rootfs/app", "x"), inDir("/app/x")}},
		"launch.directory: to nowhere":    {nil, {{Name: "rootfs/a", Type: eifbuild.Symlink, Mode: 0o777, Link: "b"}, inDir("/a")}},
		"launch.directory: circle":        {nil, {{Name: "rootfs/a", Type: eifbuild.Symlink, Mode: 0o777, Link: "a"}, inDir("/a/b")}},
		"launch.command: cmd is a folder": {nil, {{Name: "cmd", Type: eifbuild.Dir}, env}},
	} {
		rule, _, _ := strings.Cut(name, ":")
		app, err := extractImage(t, rawImage(t, ramdisks...))
		if app != nil || err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// The application may be spread over several ramdisks.
	app, err := extractImage(t, rawImage(t, nil, []eifbuild.Entry{cmd}, []eifbuild.Entry{env, file("rootfs/app", "x")}))
	if err != nil {
		t.Fatal(err)
	}
	if program, err := app.program(); err != nil || program != "/app" {
		t.Errorf("program %q, %v", program, err)
	}
}

func TestResolve(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "opt"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/bin/prog"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"bin": "usr/bin", "opt/abs": "/usr/bin/prog", "opt/rel": "../usr/bin/prog",
		"opt/up": "../../../../usr/bin/prog", "loop": "loop", "opt/chain": "abs",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/usr/bin/prog", "usr/bin/prog", "/bin/prog", "bin/../bin/prog", "/opt/abs", "/opt/rel", "/opt/up", "/opt/chain", "/../../usr/bin//./prog"} {
		if got, err := resolve(root, name); err != nil || got != "/usr/bin/prog" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"/loop", "/absent", "/usr/bin/prog/x", "/absent/../usr/bin/prog"} {
		if got, err := resolve(root, name); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}
