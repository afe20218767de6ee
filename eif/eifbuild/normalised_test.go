// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifinit/process"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/reason"
)

func text(name, content string) Entry {
	return Entry{Name: name, Mode: 0o644, Content: Bytes([]byte(content))}
}

func program(name string) Entry {
	return Entry{Name: name, Mode: 0o755, Content: Bytes([]byte("program"))}
}

func folder(name string) Entry { return Entry{Name: name, Type: Dir, Mode: 0o755} }

func symlink(name, target string) Entry {
	return Entry{Name: name, Type: Symlink, Mode: 0o777, Link: target}
}

func hardlink(name, target string) Entry { return Entry{Name: name, Type: Hardlink, Link: target} }

// normal builds a normalised image of a tree that has /app, and returns the
// application ramdisk's entries but for the process file, and the process.
func normal(c Config) (map[string]Entry, []string, process.Process, error) {
	if c.Note == nil {
		c.Note = func(string) {}
	}
	if c.Init.Size == 0 {
		c.Init = StandIn("init")
	}
	_, application, err := c.ramdisks()
	if err != nil {
		return nil, nil, process.Process{}, err
	}
	var data bytes.Buffer
	if _, err := data.ReadFrom(application.Source().Reader); err != nil {
		return nil, nil, process.Process{}, err
	}
	entries, err := readAll(data.Bytes())
	if err != nil {
		return nil, nil, process.Process{}, err
	}
	byName := make(map[string]Entry)
	var names []string
	var p process.Process
	if last := entries[len(entries)-1].Name; last != process.FileName && last != EnvFile {
		return nil, nil, p, fmt.Errorf("the last entry is %s: half a ramdisk would be started", last)
	}
	for _, e := range entries {
		if e.Name == process.FileName {
			file, err := contentOf(e)
			if err != nil {
				return nil, nil, p, err
			}
			if p, err = process.Parse(file); err != nil {
				return nil, nil, p, err
			}
			continue
		}
		name, below := strings.CutPrefix(e.Name, RootFS+"/")
		if below {
			byName[name] = e
			names = append(names, name)
		}
	}
	return byName, names, p, nil
}

func contentOf(e Entry) ([]byte, error) {
	var b bytes.Buffer
	_, err := b.ReadFrom(e.Content.source().Reader)
	return b.Bytes(), err
}

// TestNormalisedTree: what is in the ramdisk of a tree that has a bit of
// everything.
func TestNormalisedTree(t *testing.T) {
	device := Entry{Name: "srv/null", Type: CharDevice, Mode: 0o666, Major: 1, Minor: 3}
	owned := text("home/app/data", "x")
	owned.UID, owned.GID, owned.Mode, owned.MTime = 1000, 1001, 0o4750, 1700000000
	closed := folder("home/app/")
	closed.UID, closed.Mode = 1000, 0o1700
	var notes []string
	entries, names, _, err := normal(Config{Cmd: []string{"/app"}, Entries: []Entry{
		owned, program("app"), closed, device, text("app-data", "y"), text("twice", "first"), text("twice", "second"),
		{Name: "pipe", Type: FIFO, Mode: 0o600, MTime: -5},
		symlink("link", "../../etc/passwd"), hardlink("z/second", "home/app/data"),
		// What a container runtime leaves, and what is mounted over.
		text(".dockerenv", ""), text("etc/hostname", ""), text("etc/hosts", ""), text("etc/resolv.conf", ""),
		text("dev/console", ""), folder("dev/pts/"), {Name: "dev/null", Type: CharDevice, Major: 1, Minor: 3}, text("proc/x", "y"), folder("sys/"),
		text("tmp/x", "y"), folder("run/lock"), text("run/lock/z", ""), folder("tmp"),
	}, Note: func(s string) { notes = append(notes, s) }})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"app", "app-data", "dev", "etc", "etc/hosts", "etc/mtab", "home", "home/app", "home/app/data", "link", "pipe", "proc", "run", "srv", "srv/null", "sys", "tmp", "twice", "z", "z/second"}
	if !slices.Equal(names, want) {
		t.Fatalf("got  %q\nwant %q", names, want)
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "2 files below /run and /tmp") {
		t.Errorf("told %q", notes)
	}
	for name, e := range entries {
		if e.MTime != buildTime {
			t.Errorf("%s has the time %d", name, e.MTime)
		}
	}
	for name, want := range map[string]string{
		"app":           "file 755 0:0 0:0 7",
		"home":          "dir 755 0:0 0:0 0",
		"home/app":      "dir 1700 1000:0 0:0 0",
		"home/app/data": "file 4750 1000:1001 0:0 1",
		"z/second":      "hardlink 4750 1000:1001 0:0 0",
		"srv/null":      "char 666 0:0 1:3 0",
		"twice":         "file 644 0:0 0:0 6",
		"link":          "symlink 777 0:0 0:0 0",
		"tmp":           "dir 755 0:0 0:0 0",
		"etc/hosts":     "file 644 0:0 0:0 160",
	} {
		e := entries[name]
		if got := fmt.Sprintf("%v %o %d:%d %d:%d %d", e.Type, e.Mode, e.UID, e.GID, e.Major, e.Minor, e.Content.Size); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if second, err := contentOf(entries["twice"]); err != nil || string(second) != "second" {
		t.Errorf("of two entries with one name, %q counts: %v", second, err)
	}
}

// TestNormalisedOrder: order, times and trailing slashes of the source do not
// change a byte.
func TestNormalisedOrder(t *testing.T) {
	c := testConfig()
	c.Mode, c.WorkingDir = Normalised, "/srv/data"
	c.Entries = []Entry{program("app"), folder("a"), text("a/b", "1"), text("a-b", "2"), folder("a/c"), symlink("a/c/d", "/app"), text("zoneinfo/UTC", "0")}
	want := buildFile(t, c)
	for range 20 {
		rand.Shuffle(len(c.Entries), func(i, j int) { c.Entries[i], c.Entries[j] = c.Entries[j], c.Entries[i] })
		for i := range c.Entries {
			c.Entries[i].MTime = rand.Int64()
			if e := &c.Entries[i]; e.Type == Dir {
				e.Name = strings.TrimSuffix(e.Name, "/") + []string{"", "/"}[rand.IntN(2)]
			}
		}
		if !bytes.Equal(buildFile(t, c), want) {
			t.Fatal("in another order and with other times, another image")
		}
	}
}

func TestNormalisedHardLinks(t *testing.T) {
	entries, _, _, err := normal(Config{Cmd: []string{"/app"}, Entries: []Entry{
		hardlink("early", "app"), program("app"), hardlink("bin/app", "app"), hardlink("chain", "bin/app"),
		text("f", "old"), hardlink("kept", "f"), text("f", "new"), hardlink("f", "f"),
		symlink("s", "app"), hardlink("s2", "s"), {Name: "pipe", Type: FIFO, Mode: 0o600}, hardlink("pipe2", "pipe"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"app": "file  program", "bin/app": "hardlink rootfs/app ", "chain": "hardlink rootfs/app ", "early": "hardlink rootfs/app ",
		"f": "file  new", "kept": "file  old", "s": "symlink app ", "s2": "symlink app ", "pipe": "fifo  ", "pipe2": "hardlink rootfs/pipe ",
	} {
		e := entries[name]
		content, err := contentOf(e)
		if got := fmt.Sprintf("%v %s %s", e.Type, e.Link, content); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if m := entries["chain"].Mode; m != 0o755 {
		t.Errorf("mode %o", m)
	}
	// The first name has the content, wherever the source had it.
	entries, _, _, err = normal(Config{Cmd: []string{"/app"}, Entries: []Entry{program("zz"), hardlink("app", "zz")}})
	if err != nil || entries["app"].Type != File || entries["zz"].Type != Hardlink {
		t.Errorf("%v, %v", entries["app"], err)
	}
}

// TestOtherMachine: a program that was built for the developer's machine does not
// start in an enclave on another.
func TestOtherMachine(t *testing.T) {
	elf := func(machine string) string { return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + machine }
	for _, c := range []struct {
		content string
		arch    eif.Arch
		noted   bool
	}{
		{elf("\x3e\x00"), eif.ArchX86_64, false}, {elf("\x3e\x00"), eif.ArchAArch64, true},
		{elf("\xb7\x00"), eif.ArchAArch64, false}, {elf("\xb7\x00"), eif.ArchX86_64, true}, {elf("\x3e\x01"), eif.ArchX86_64, true},
		{"#!/bin/sh\nexec a b c d", eif.ArchX86_64, false}, {"\x7fELF", eif.ArchX86_64, false}, {"", eif.ArchX86_64, false},
	} {
		var notes []string
		app := program("app")
		app.Content = Bytes([]byte(c.content))
		if _, _, _, err := normal(Config{Arch: c.arch, Cmd: []string{"/app"}, Entries: []Entry{app}, Note: func(s string) { notes = append(notes, s) }}); err != nil {
			t.Errorf("%q: %v", c.content, err)
		}
		if noted := len(notes) == 1 && strings.Contains(notes[0], "will not start"); noted != c.noted {
			t.Errorf("%q for %v: %q", c.content, c.arch, notes)
		}
	}
}

// TestLinksToLeftOut: what is left out of the image may have other names, which
// are not.
func TestLinksToLeftOut(t *testing.T) {
	var notes []string
	entries, _, _, err := normal(Config{Cmd: []string{"/usr/bin/app"}, Note: func(text string) { notes = append(notes, text) }, Entries: []Entry{
		program("tmp/app"), hardlink("usr/bin/app", "tmp/app"), hardlink("usr/bin/zz", "tmp/app"),
		text("etc/hosts", ""), hardlink("etc/empty", "etc/hosts"), hardlink("etc/hostname", "etc/hosts"),
		text("run/x", "1"), text("etc/resolv.conf", "old"), text("etc/resolv.conf", ""),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if e := entries["usr/bin/app"]; e.Type != File || e.Content.Size == 0 {
		t.Errorf("%+v", e)
	}
	if e := entries["usr/bin/zz"]; e.Type != Hardlink || e.Link != "rootfs/usr/bin/app" {
		t.Errorf("%+v", e)
	}
	if e, there := entries["etc/empty"]; !there || e.Type != File || e.Content.Size != 0 {
		t.Errorf("%+v", e)
	}
	for _, name := range []string{"tmp/app", "etc/hostname", "etc/resolv.conf"} {
		if _, there := entries[name]; there {
			t.Errorf("%s is in the image", name)
		}
	}
	if e := entries["etc/hosts"]; e.Content.Size != int64(len(hosts)) {
		t.Errorf("%+v", e)
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "2 files below /run and /tmp") {
		t.Errorf("%q", notes)
	}
}

func TestNormalisedRefusals(t *testing.T) {
	huge := program("huge")
	huge.Content.Size = 1 << 32
	for name, c := range map[string]struct {
		entries []Entry
		want    string
	}{
		"parent":                    {[]Entry{text("../x", "")}, `"../x"`},
		"absolute":                  {[]Entry{text("/x", "")}, `"/x"`},
		"dot":                       {[]Entry{folder("./")}, `"."`},
		"long name":                 {[]Entry{text(strings.Repeat("n", maxName+1), "")}, "nnn"},
		"long name below rootfs":    {[]Entry{text(strings.Repeat("n", maxName), "")}, "nnn"},
		"4 GiB":                     {[]Entry{huge}, `huge": 4294967296 bytes`},
		"link to nothing":           {[]Entry{hardlink("l", "absent")}, `"l": a hard link to "absent"`},
		"links in a circle":         {[]Entry{hardlink("a", "b"), hardlink("b", "a")}, "hard link"},
		"link to itself":            {[]Entry{hardlink("a", "a")}, "hard link"},
		"link to a folder":          {[]Entry{folder("d"), hardlink("l", "d")}, "hard link"},
		"link out of the tree":      {[]Entry{hardlink("l", "../etc/passwd")}, `"../etc/passwd"`},
		"below a symbolic link":     {[]Entry{symlink("s", "/"), text("s/f", "")}, `"s/f": is below "s"`},
		"far below a symbolic link": {[]Entry{symlink("s", "/"), text("s/a/b/c", "")}, `is below "s"`},
		"below a file":              {[]Entry{text("f", ""), text("f/g", "")}, `"f/g": is below "f"`},
		"proc is a file":            {[]Entry{text("proc", "")}, `"proc" is a file`},
		"dev is a link":             {[]Entry{symlink("dev", "/tmp")}, `"dev" is a symlink`},
		"empty link":                {[]Entry{symlink("s", "")}, "symbolic link"},
		"mode":                      {[]Entry{{Name: "f", Mode: 0o100644}}, "mode"},
		"type":                      {[]Entry{{Name: "f", Type: 99}}, "type(99)"},
	} {
		_, _, _, err := normal(Config{Cmd: []string{"/app"}, Entries: append(c.entries, program("app"))})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, _, _, err := normal(Config{Cmd: []string{"/app"}, Entries: []Entry{program("app"), folder("x/"), text("x", "")}}); err != nil {
		t.Errorf("a folder that became a file: %v", err)
	}
}

func TestStart(t *testing.T) {
	tree := []Entry{
		program("app"), program("usr/local/bin/tool"), symlink("bin", "usr/local/bin"), symlink("srv", "/usr/../usr/local/"),
		text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:,:/home/app:/bin/sh\n#odd:x\n\nother:x:1000:7::\n"),
		text("etc/group", "root:x:0:\napp:x:1001:\naudio:x:29:app,other\nusers:x:100:other,app,app\nagain:x:29:app\n"),
	}
	path := "PATH=" + DefaultPath
	for name, c := range map[string]struct {
		config Config
		want   process.Process
	}{
		"plain": {Config{Cmd: []string{"/app"}},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/root"}, Dir: "/"}},
		"ENTRYPOINT and CMD": {Config{Entrypoint: []string{"tool", "a"}, Cmd: []string{"b", "", "c\nd"}},
			process.Process{Args: []string{"tool", "a", "b", "", "c\nd"}, Env: []string{path, "HOME=/root"}, Dir: "/"}},
		"ENTRYPOINT alone": {Config{Entrypoint: []string{"/bin/tool"}},
			process.Process{Args: []string{"/bin/tool"}, Env: []string{path, "HOME=/root"}, Dir: "/"}},
		"ENV": {Config{Cmd: []string{"tool"}, Env: []string{"A=1", "PATH=/nowhere:/bin", "A=2", "HOME=", "B=x=\ny"}},
			process.Process{Args: []string{"tool"}, Env: []string{"PATH=/nowhere:/bin", "A=2", "HOME=", "B=x=\ny"}, Dir: "/"}},
		"WORKDIR": {Config{Cmd: []string{"bin/tool"}, WorkingDir: "/srv//./"},
			process.Process{Args: []string{"bin/tool"}, Env: []string{path, "HOME=/root"}, Dir: "/srv"}},
		"USER by name": {Config{Cmd: []string{"/app"}, User: "app"},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/home/app"}, Dir: "/", UID: 1000, GID: 1001, Groups: []uint32{29, 100}}},
		"USER by number": {Config{Cmd: []string{"/app"}, User: "1000"},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/home/app"}, Dir: "/", UID: 1000, GID: 1001, Groups: []uint32{29, 100}}},
		"the second of a number": {Config{Cmd: []string{"/app"}, User: "other"},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/"}, Dir: "/", UID: 1000, GID: 7, Groups: []uint32{29, 100}}},
		"unknown number": {Config{Cmd: []string{"/app"}, User: "65534"},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/"}, Dir: "/", UID: 65534}},
		"numbers": {Config{Cmd: []string{"/app"}, User: "5:6"},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/"}, Dir: "/", UID: 5, GID: 6}},
		"a group alone": {Config{Cmd: []string{"/app"}, User: "app:audio"},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/home/app"}, Dir: "/", UID: 1000, GID: 29}},
		"an unknown group": {Config{Cmd: []string{"/app"}, User: "app:4242"},
			process.Process{Args: []string{"/app"}, Env: []string{path, "HOME=/home/app"}, Dir: "/", UID: 1000, GID: 4242}},
	} {
		c.config.Entries = tree
		_, _, p, err := normal(c.config)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(p.Groups) == 0 {
			p.Groups = nil
		}
		if !reflect.DeepEqual(p, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, p, c.want)
		}
	}
}

// TestWorkingDirIsMade: as runtimes do, also behind a symbolic link.
func TestWorkingDirIsMade(t *testing.T) {
	entries, _, p, err := normal(Config{Cmd: []string{"/app"}, WorkingDir: "/srv/a/b", Entries: []Entry{
		program("app"), symlink("srv", "/var/srv"), folder("var/srv"),
	}})
	if err != nil || p.Dir != "/srv/a/b" {
		t.Fatalf("%q, %v", p.Dir, err)
	}
	if e := entries["var/srv/a/b"]; e.Type != Dir || e.Mode != 0o755 {
		t.Errorf("got %v", entries)
	}
}

func TestStartRefusals(t *testing.T) {
	tree := []Entry{
		program("app"), program("tmp/app"), text("data", "x"), folder("d"), symlink("loop", "loop"), symlink("gone", "nowhere"),
		text("etc/passwd", "bad:x:-1:0::\nworse:x:1:x::\n:x:77:0::\nshort:x\nbig:x:4294967295:0::\n"),
		text("etc/group", "bad:x:minus:\ncrowd:x::app\nb:x:9999999999:worse\n"),
	}
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"no command":              {Config{}, "no command"},
		"empty command":           {Config{Cmd: []string{""}}, "no command"},
		"absent":                  {Config{Cmd: []string{"/absent"}}, `"/absent" is not in the image`},
		"absent in PATH":          {Config{Cmd: []string{"absent"}}, "PATH"},
		"no PATH":                 {Config{Cmd: []string{"absent"}, Env: []string{"PATH="}}, "PATH"},
		"not executable":          {Config{Cmd: []string{"/data"}}, "mode 0644"},
		"a folder":                {Config{Cmd: []string{"/d"}}, "is no file"},
		"the root":                {Config{Cmd: []string{"/"}}, "is no file"},
		"in a circle":             {Config{Cmd: []string{"/loop"}}, "too many symbolic links"},
		"link to nothing":         {Config{Cmd: []string{"/gone"}}, "is not in the image"},
		"below a file":            {Config{Cmd: []string{"/data/x"}}, "not a folder"},
		"hidden":                  {Config{Cmd: []string{"/tmp/app"}}, "is not in the image"},
		"hidden WORKDIR":          {Config{Cmd: []string{"/app"}, WorkingDir: "/run/app"}, "empty when the program starts"},
		"relative to WORKDIR":     {Config{Cmd: []string{"./app"}, WorkingDir: "/d"}, "is not in the image"},
		"NUL in an argument":      {Config{Cmd: []string{"/app", "a\x00b"}}, "NUL"},
		"NUL in ENV":              {Config{Cmd: []string{"/app"}, Env: []string{"A=\x00"}}, "NUL"},
		"no value":                {Config{Cmd: []string{"/app"}, Env: []string{"A"}}, "NAME=value"},
		"no name":                 {Config{Cmd: []string{"/app"}, Env: []string{"=x"}}, "NAME=value"},
		"relative WORKDIR":        {Config{Cmd: []string{"/app"}, WorkingDir: "srv"}, "path from the root"},
		"NUL in WORKDIR":          {Config{Cmd: []string{"/app"}, WorkingDir: "/\x00"}, "path from the root"},
		"WORKDIR is a file":       {Config{Cmd: []string{"/app"}, WorkingDir: "/data"}, "is a file"},
		"WORKDIR below a file":    {Config{Cmd: []string{"/app"}, WorkingDir: "/data/x"}, "not a folder"},
		"WORKDIR leads nowhere":   {Config{Cmd: []string{"/app"}, WorkingDir: "/gone"}, "link to nowhere"},
		"WORKDIR in a circle":     {Config{Cmd: []string{"/app"}, WorkingDir: "/loop/x"}, "too many symbolic links"},
		"unknown user":            {Config{Cmd: []string{"/app"}, User: "nobody"}, "no such user"},
		"unknown group":           {Config{Cmd: []string{"/app"}, User: "2:staff"}, "no such group"},
		"negative user":           {Config{Cmd: []string{"/app"}, User: "-1"}, "no such user"},
		"huge user":               {Config{Cmd: []string{"/app"}, User: "4294967296"}, "no such user"},
		"unchanged user":          {Config{Cmd: []string{"/app"}, User: "4294967295"}, "no such user"},
		"signed user":             {Config{Cmd: []string{"/app"}, User: "+1"}, "no such user"},
		"huge group":              {Config{Cmd: []string{"/app"}, User: "2:2147483648"}, "no such group"},
		"bad number":              {Config{Cmd: []string{"/app"}, User: "bad"}, "/etc/passwd"},
		"bad number of its group": {Config{Cmd: []string{"/app"}, User: "worse"}, "/etc/passwd"},
		"no name in passwd":       {Config{Cmd: []string{"/app"}, User: "77"}, "/etc/passwd"},
		"bad number of a group":   {Config{Cmd: []string{"/app"}, User: "2:bad"}, "/etc/group"},
		"no number of a group":    {Config{Cmd: []string{"/app"}, User: "2:crowd"}, "/etc/group"},
		"short line":              {Config{Cmd: []string{"/app"}, User: "short"}, "no such user"},
		"highest user":            {Config{Cmd: []string{"/app"}, User: "big"}, "/etc/passwd"},
		"empty group":             {Config{Cmd: []string{"/app"}, User: "1:"}, "a colon"},
		"two colons":              {Config{Cmd: []string{"/app"}, User: "1:2:3"}, "a colon"},
		"newline in USER":         {Config{Cmd: []string{"/app"}, User: "1\n"}, "a colon"},
	} {
		c.config.Entries = tree
		_, _, _, err := normal(c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		} else if r, ok := reason.Of(err); !ok || r != reason.Malformed {
			t.Errorf("%s: %v has the reason %v", name, err, r)
		}
	}
	for name, passwd := range map[string]Entry{
		"/etc/passwd has":  {Name: "etc/passwd", Content: Content{Size: maxAccounts + 1}},
		"/etc/passwd is":   folder("etc/passwd"),
		"too many":         symlink("etc/passwd", "passwd"),
		"bytes short":      {Name: "etc/passwd", Content: Content{Size: 10, Open: Bytes(nil).Open}},
		"no such user":     symlink("etc/passwd", "../../../../etc/passwd-"),
		"no such user in ": symlink("etc/passwd", "/absent"),
	} {
		_, _, _, err := normal(Config{Cmd: []string{"/app"}, User: "app", Entries: []Entry{program("app"), passwd}})
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAWSInit: a normalised image for AWS's init has its files and refuses, or
// tells, what that init does not do.
func TestAWSInit(t *testing.T) {
	var notes []string
	c := Config{AWSInit: true, Entrypoint: []string{"/app"}, Cmd: []string{"x"}, Env: []string{"A=1"}, Init: StandIn("init"),
		Entries: []Entry{program("app")}, Note: func(s string) { notes = append(notes, s) }}
	bootstrap, application, err := c.ramdisks()
	if err != nil {
		t.Fatal(err)
	}
	aws, err := BootstrapRamdisk(c.Init, c.NSMKo)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readRamdisk(t, bootstrap), readRamdisk(t, aws)) {
		t.Error("the bootstrap ramdisk is not that of AWS")
	}
	entries, err := readAll(readRamdisk(t, application))
	if err != nil {
		t.Fatal(err)
	}
	last := entries[len(entries)-2:]
	cmd, _ := contentOf(last[0])
	env, _ := contentOf(last[1])
	if last[0].Name != CmdFile || last[1].Name != EnvFile || string(cmd) != "/app\nx\n" || string(env) != "PATH="+DefaultPath+"\nA=1\nHOME=/\n" {
		t.Errorf("%q and %q", cmd, env)
	}
	c.WorkingDir = "/srv"
	if _, _, err := c.ramdisks(); !errors.Is(err, ErrIgnoredWorkingDir) {
		t.Errorf("got %v", err)
	}
	c.IgnoreWorkingDir, c.User = true, "5"
	if _, _, err := c.ramdisks(); !errors.Is(err, ErrIgnoredUser) {
		t.Errorf("got %v", err)
	}
	c.IgnoreUser, notes = true, nil
	if _, _, err := c.ramdisks(); err != nil || len(notes) != 2 {
		t.Errorf("%v, told %q", err, notes)
	}
	c.Cmd = []string{"a\nb"}
	if _, _, err := c.ramdisks(); err == nil {
		t.Error("a newline, for which AWS's init has no escape, is accepted")
	}
}

// TestOtherReaders: GNU cpio and libarchive see the files that we wrote.
func TestOtherReaders(t *testing.T) {
	c := testConfig()
	c.Mode = Normalised
	c.Entries = append(c.Entries, folder("d"), text("d/ü b", "x"), symlink("l", "d"), hardlink("h", "app"),
		Entry{Name: "pipe", Type: FIFO, Mode: 0o600}, text("odd", "123"), text("empty", ""))
	c.Note = func(string) {}
	bootstrap, application, err := c.ramdisks()
	if err != nil {
		t.Fatal(err)
	}
	for _, reader := range [][]string{{"cpio", "-t", "--quiet"}, {"bsdtar", "-tf", "-"}} {
		t.Run(reader[0], func(t *testing.T) {
			name := need.Program(t, reader[0])
			for _, r := range []*Ramdisk{bootstrap, application} {
				data := readRamdisk(t, r)
				entries, err := readAll(data)
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				for _, e := range entries {
					want = append(want, e.Name)
				}
				cmd := exec.Command(name, reader[1:]...)
				cmd.Stdin = bytes.NewReader(data)
				cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				var got []string
				for line := range strings.Lines(string(out)) {
					got = append(got, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "/"))
				}
				if !slices.Equal(got, want) {
					t.Errorf("got  %q\nwant %q", got, want)
				}
			}
		})
	}
}

// TestNormalisedMemory: a folder with more than memory should hold goes through.
func TestNormalisedMemory(t *testing.T) {
	size := int64(96 << 20)
	if os.Getenv("CRETULA_LONG") == "1" {
		size = 6 << 30
	}
	const files = 8
	dir := t.TempDir()
	c := testConfig()
	c.Mode = Normalised
	for i := range files {
		name := filepath.Join(dir, fmt.Sprint("sparse", i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size/files); err != nil {
			t.Fatal(err)
		}
		content, err := FileContent(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Entries = append(c.Entries, Entry{Name: fmt.Sprint("big/", i), Mode: 0o644, Content: content})
	}
	if peak := peakHeap(t, func() {
		if _, err := Build(context.Background(), &discard{}, c); err != nil {
			t.Error(err)
		}
	}); peak > 32<<20 {
		t.Errorf("building with %d bytes took %d bytes of heap", size, peak)
	}
}

// TestManyFilesMemory: what an entry costs while its archive is made.
func TestManyFilesMemory(t *testing.T) {
	const files = 100_000
	c := testConfig()
	c.Mode = Normalised
	content := Bytes([]byte("x"))
	for i := range files {
		c.Entries = append(c.Entries, Entry{Name: fmt.Sprintf("usr/share/folder%d/file%d", i/100, i), Mode: 0o644, Content: content})
	}
	if peak := peakHeap(t, func() {
		if _, err := Build(context.Background(), &discard{}, c); err != nil {
			t.Error(err)
		}
	}); peak > files*1000 {
		t.Errorf("%d files took %d bytes of heap", files, peak)
	}
}

// FuzzStart: whatever the accounts of an image and its configuration say, the
// result is a process that the init accepts, or a refusal with a reason.
func FuzzStart(f *testing.F) {
	const passwd, group = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", "app:x:1001:\naudio:x:29:app,app\n"
	f.Add(passwd, group, "app", "/srv", "A=1")
	f.Add(passwd, group, "1000:audio", "/link/../x", "PATH=")
	f.Add("a:::", "b", ":", "/tmp", "HOME=x")
	f.Add("::4294967295:1", "x:x:-1:a", "4294967295", "//", "=")
	f.Fuzz(func(t *testing.T, passwd, group, user, dir, env string) {
		_, names, p, err := normal(Config{
			Cmd: []string{"/app"}, User: user, WorkingDir: dir, Env: []string{env},
			Entries: []Entry{program("app"), text("etc/passwd", passwd), text("etc/group", group), symlink("link", "link2/."), symlink("link2", "etc")},
		})
		if err != nil {
			if _, ok := reason.Of(err); !ok {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		if len(names) < 10 || p.UID == 1<<32-1 || p.GID == 1<<32-1 {
			t.Fatalf("%q, %+v", names, p)
		}
	})
}
