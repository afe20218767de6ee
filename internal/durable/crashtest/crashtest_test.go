// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crashtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// childVariable makes the test binary run the named program in the current
// folder.
const childVariable = "CRETULA_TEST_CRASH_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		programs[name]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// say writes a mark into the trace.
func say(text string) { os.Stdout.WriteString(text + "\n") }

var programs = map[string]func(){
	"file": func() {
		f, err := os.Create("f")
		must(err)
		must(durable.SyncDir("."))
		say("named")
		_, err = f.Write([]byte("one"))
		must(err)
		say("written")
		must(f.Sync())
		say("synced")
		_, err = f.WriteAt([]byte("TWO"), 0)
		must(err)
		_, err = f.WriteAt([]byte("tail"), 10000)
		must(err)
		say("written again")
		must(f.Sync())
		say("synced again")
		must(f.Truncate(1))
		say("cut")
		must(f.Sync())
		say("cut synced")
	},
	"names": func() {
		must(os.Mkdir("d", 0o700))
		f, err := os.Create("d/f")
		must(err)
		must(f.Sync())
		say("file synced")
		must(durable.SyncDir("d"))
		say("folder synced")
		must(durable.SyncDir("."))
		say("its folder synced")
		must(os.Rename("d/f", "d/g"))
		say("renamed")
		must(durable.SyncDir("d"))
		say("rename synced")
		must(os.Remove("d/g"))
		say("removed")
		must(durable.SyncDir("d"))
		say("removal synced")
	},
	"durable": func() {
		must(durable.MkdirAll("a/b"))
		say("folders")
		must(durable.CreateFile("a/b/f", []byte("created")))
		say("created")
		must(durable.WriteFile("a/b/f", []byte("replaced")))
		say("replaced")
	},
	"unmodelled": func() {
		must(os.Symlink("nowhere", "link"))
	},
}

func run(t *testing.T, program string, before map[string]string) *Trace {
	t.Helper()
	dir := t.TempDir()
	for name, content := range before {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+program)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	return Run(t, cmd, dir)
}

// after returns the cut right after the program had said text.
func after(t *testing.T, trace *Trace, text string) int {
	t.Helper()
	for cut := range trace.Len() + 1 {
		if strings.HasSuffix("\n"+string(trace.Output(cut)), "\n"+text+"\n") {
			return cut
		}
	}
	t.Fatalf("the program did not say %q but %q", text, trace.Output(trace.Len()))
	return 0
}

// tree returns "path=content" of each file and "path/" of each folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if e.IsDir() {
			all = append(all, name+"/")
			return nil
		}
		content, err := os.ReadFile(path)
		all = append(all, name+"="+string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func wantTree(t *testing.T, trace *Trace, mark, want string) {
	t.Helper()
	got := tree(t, trace.Restore(t, after(t, trace, mark), Strict))
	if got != want {
		t.Errorf("after %q: %q, want %q", mark, got, want)
	}
}

func TestFile(t *testing.T) {
	trace := run(t, "file", map[string]string{"before": "was there"})
	hole := "TWO" + string(make([]byte, 9997)) + "tail"
	for _, step := range [][2]string{
		{"named", "f="}, {"written", "f="}, {"synced", "f=one"}, {"written again", "f=one"},
		{"synced again", "f=" + hole}, {"cut", "f=" + hole}, {"cut synced", "f=T"},
	} {
		wantTree(t, trace, step[0], "before=was there "+step[1])
	}
	if got := tree(t, trace.Restore(t, 0, Strict)); got != "before=was there" {
		t.Errorf("at the beginning: %q", got)
	}
	// Of two pages written either may be left.
	seen := make(map[string]bool)
	for seed := range uint64(40) {
		content, err := os.ReadFile(filepath.Join(trace.Restore(t, after(t, trace, "written again"), seed+1), "f"))
		if err != nil {
			t.Fatal(err)
		}
		seen[string(content)] = true
	}
	for _, want := range []string{"one", "TWO", "one" + hole[3:], hole} {
		if !seen[want] {
			t.Errorf("no seed left %.20q, %d bytes", want, len(want))
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d different contents, want 4", len(seen))
	}
}

func TestNames(t *testing.T) {
	trace := run(t, "names", nil)
	wantTree(t, trace, "file synced", "")
	wantTree(t, trace, "folder synced", "")
	wantTree(t, trace, "its folder synced", "d/ d/f=")
	wantTree(t, trace, "renamed", "d/ d/f=")
	wantTree(t, trace, "rename synced", "d/ d/g=")
	wantTree(t, trace, "removed", "d/ d/g=")
	wantTree(t, trace, "removal synced", "d/")
}

func TestDurable(t *testing.T) {
	trace := run(t, "durable", nil)
	wantTree(t, trace, "folders", "a/ a/b/")
	wantTree(t, trace, "created", "a/ a/b/ a/b/f=created")
	wantTree(t, trace, "replaced", "a/ a/b/ a/b/f=replaced")
	// Whatever is lost, the file is whole.
	from := after(t, trace, "created")
	for cut := from; cut <= trace.Len(); cut++ {
		for seed := range uint64(8) {
			content, err := os.ReadFile(filepath.Join(trace.Restore(t, cut, seed), "a/b/f"))
			if err != nil || string(content) != "created" && string(content) != "replaced" {
				t.Errorf("cut %d, seed %d: %q, %v", cut, seed, content, err)
			}
		}
	}
}

func TestCutAt(t *testing.T) {
	began := time.Now()
	trace := run(t, "file", nil)
	if cut := trace.CutAt(began.Add(-time.Second)); cut != 0 {
		t.Errorf("CutAt before the beginning = %d", cut)
	}
	if cut := trace.CutAt(time.Now()); cut != trace.Len() {
		t.Errorf("CutAt now = %d, want %d", cut, trace.Len())
	}
}

func TestUnmodelled(t *testing.T) {
	lookStrace(t)
	dir := t.TempDir()
	log := bytes.NewBufferString("")
	cmd := exec.Command("strace", "-f", "-y", "-xx", "-ttt", "-T", "-q", "-e", "trace="+"?"+strings.ReplaceAll(calls, ",", ",?"), "-o", "/dev/stdout", "--", os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=unmodelled")
	cmd.Dir, cmd.Stdout = dir, log
	if err := cmd.Run(); err != nil {
		t.Fatalf("strace: %v", err)
	}
	events, err := parseLog(log.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	trace := &Trace{events: events, dir: dir, initial: newNode(true, 0o700)}
	if _, err := trace.replay(len(events)); err == nil || !strings.Contains(err.Error(), "not modelled") {
		t.Errorf("a call that is not modelled: %v", err)
	}
}

func TestParseLog(t *testing.T) {
	// Two threads: the write begins before the sync and returns within it.
	log := `7 100.000001 pwrite64(3<\x2f\x64\x2f\x66>, "\x61", 1, 0 <unfinished ...>
8 100.000002 fsync(3<\x2f\x64\x2f\x66> <unfinished ...>
7 100.000003 <... pwrite64 resumed>) = 1 <0.000002>
8 100.000004 <... fsync resumed>) = 0 <0.000002>
8 100.000005 write(1<pipe:[5]>, "\x6f\x6b", 2 <unfinished ...>
7 100.000006 openat(AT_FDCWD<\x2f\x64>, "\x67", O_RDONLY) = -1 ENOENT (No such file or directory) <0.000001>
8 100.000007 <... write resumed>) = 2 <0.000002>
8 100.000008 +++ killed by SIGKILL +++
7 100.0000`
	events, err := parseLog([]byte(log))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%s:%d:%s", e.name, e.begun, e.data))
	}
	want := []string{"pwrite64:0:a", "fsync:0:", "output:2:ok", "write:2:ok"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	n := newNode(false, 0o600)
	n.change(change{event: 0, data: []byte("a")})
	if n.sync(events[1].begun); len(n.durable) != 0 {
		t.Error("a sync that began before the write had returned made it durable")
	}
	for _, bad := range []string{"7\n", "7 x y\n", "7 1.000000 y\n", "7 1.000000 <... write resumed>) = 1 <0.1>\n",
		"7 1.000000 write(1, \"x\", 1) = 1 <0.000001>\n", "7 1.000000 close(1)\n"} {
		if _, err := parseLog([]byte(bad)); err == nil {
			t.Errorf("accepted: %q", bad)
		}
	}
}
