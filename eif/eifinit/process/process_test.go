// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

var full = Process{
	Args: []string{"/bin/server", "-v", "", "two\nlines", "a=b"},
	Env:  []string{"PATH=/bin", "EMPTY=", "TEXT=a\nb=c", "lower case="},
	Dir:  "/srv/data dir",
	UID:  1000, GID: 4294967294, Groups: []uint32{5, 0, 5},
}

const fullFile = "arg=/bin/server\x00arg=-v\x00arg=\x00arg=two\nlines\x00arg=a=b\x00" +
	"env=PATH=/bin\x00env=EMPTY=\x00env=TEXT=a\nb=c\x00env=lower case=\x00" +
	"dir=/srv/data dir\x00uid=1000\x00gid=4294967294\x00group=5\x00group=0\x00group=5\x00"

const least = "arg=x\x00dir=/\x00uid=0\x00gid=0\x00"

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		p    Process
		file string
	}{
		{full, fullFile},
		{Process{Args: []string{"x"}, Dir: "/"}, least},
	} {
		file, err := c.p.Encode()
		if err != nil || string(file) != c.file {
			t.Errorf("got %q, %v, want %q", file, err, c.file)
		}
		p, err := Parse([]byte(c.file))
		if err != nil || !reflect.DeepEqual(p, c.p) {
			t.Errorf("got %+v, %v, want %+v", p, err, c.p)
		}
	}
}

func TestEncodeRefusals(t *testing.T) {
	for name, change := range map[string]func(*Process){
		"no arguments":     func(p *Process) { p.Args = nil },
		"empty command":    func(p *Process) { p.Args[0] = "" },
		"NUL argument":     func(p *Process) { p.Args[1] = "a\x00b" },
		"long argument":    func(p *Process) { p.Args[1] = strings.Repeat("x", maxString+1) },
		"NUL variable":     func(p *Process) { p.Env[0] = "A=\x00" },
		"long variable":    func(p *Process) { p.Env[0] = "A=" + strings.Repeat("x", maxString) },
		"no equals sign":   func(p *Process) { p.Env[0] = "A" },
		"no name":          func(p *Process) { p.Env[0] = "=x" },
		"empty variable":   func(p *Process) { p.Env[0] = "" },
		"variable twice":   func(p *Process) { p.Env = []string{"A=1", "B=", "A=2"} },
		"no directory":     func(p *Process) { p.Dir = "" },
		"relative":         func(p *Process) { p.Dir = "srv" },
		"NUL in directory": func(p *Process) { p.Dir = "/a\x00" },
		"long directory":   func(p *Process) { p.Dir = "/" + strings.Repeat("x", maxPath) },
		"no user":          func(p *Process) { p.UID = noID },
		"no group":         func(p *Process) { p.GID = noID },
		"no other group":   func(p *Process) { p.Groups[1] = noID },
		"many groups":      func(p *Process) { p.Groups = make([]uint32, maxGroups+1) },
		"too long":         func(p *Process) { p.Args = append(p.Args, make([]string, MaxSize/5)...) },
	} {
		p := Process{
			Args: append([]string{}, full.Args...), Env: append([]string{}, full.Env...), Dir: full.Dir,
			Groups: append([]uint32{}, full.Groups...),
		}
		if _, err := p.Encode(); err != nil {
			t.Fatal(err)
		}
		change(&p)
		if file, err := p.Encode(); err == nil || file != nil || len(err.Error()) > 200 {
			t.Errorf("%s: %v", name, err)
		}
	}
	largest := Process{Args: []string{"x", strings.Repeat("a", maxString)}, Env: []string{"A=" + strings.Repeat("x", maxString-2)},
		Dir: "/" + strings.Repeat("d", maxPath-1), Groups: make([]uint32, maxGroups)}
	file, err := largest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Parse(file); err != nil || !reflect.DeepEqual(p, largest) {
		t.Errorf("the largest process does not come back: %v", err)
	}
}

var refused = map[string]string{
	"empty":             "",
	"no NUL":            strings.TrimSuffix(least, "\x00"),
	"only NUL":          "\x00",
	"empty record":      "\x00" + least,
	"empty last record": least + "\x00",
	"unknown key":       least + "gids=5\x00",
	"unknown first":     "argv=x\x00" + least,
	"upper case":        strings.Replace(least, "arg", "ARG", 1),
	"no equals sign":    "arg\x00" + least,
	"newlines for NUL":  strings.ReplaceAll(least, "\x00", "\n"),
	"no arg":            "dir=/\x00uid=0\x00gid=0\x00",
	"empty command":     "arg=\x00dir=/\x00uid=0\x00gid=0\x00",
	"no dir":            "arg=x\x00uid=0\x00gid=0\x00",
	"dir twice":         "arg=x\x00dir=/\x00dir=/\x00uid=0\x00gid=0\x00",
	"relative dir":      "arg=x\x00dir=.\x00uid=0\x00gid=0\x00",
	"no uid":            "arg=x\x00dir=/\x00gid=0\x00",
	"no gid":            "arg=x\x00dir=/\x00uid=0\x00",
	"uid twice":         "arg=x\x00dir=/\x00uid=0\x00uid=0\x00gid=0\x00",
	"gid before uid":    "arg=x\x00dir=/\x00gid=0\x00uid=0\x00",
	"env before arg":    "env=A=b\x00" + least,
	"env last":          least + "env=A=b\x00",
	"arg after env":     "arg=x\x00env=A=b\x00arg=y\x00dir=/\x00uid=0\x00gid=0\x00",
	"group before gid":  "arg=x\x00dir=/\x00uid=0\x00group=1\x00gid=0\x00",
	"env without name":  "arg=x\x00env==b\x00dir=/\x00uid=0\x00gid=0\x00",
	"env without value": "arg=x\x00env=A\x00dir=/\x00uid=0\x00gid=0\x00",
	"env twice":         "arg=x\x00env=A=1\x00env=A=1\x00dir=/\x00uid=0\x00gid=0\x00",
	"leading zero":      "arg=x\x00dir=/\x00uid=00\x00gid=0\x00",
	"sign":              "arg=x\x00dir=/\x00uid=+1\x00gid=0\x00",
	"negative":          "arg=x\x00dir=/\x00uid=-1\x00gid=0\x00",
	"space":             "arg=x\x00dir=/\x00uid= 1\x00gid=0\x00",
	"hexadecimal":       "arg=x\x00dir=/\x00uid=0x1\x00gid=0\x00",
	"underscore":        "arg=x\x00dir=/\x00uid=1_0\x00gid=0\x00",
	"no number":         "arg=x\x00dir=/\x00uid=\x00gid=0\x00",
	"a name":            "arg=x\x00dir=/\x00uid=root\x00gid=0\x00",
	"uid -1":            "arg=x\x00dir=/\x00uid=4294967295\x00gid=0\x00",
	"uid 2^32":          "arg=x\x00dir=/\x00uid=4294967296\x00gid=0\x00",
	"group -1":          least + "group=4294967295\x00",
	"group with zero":   least + "group=05\x00",
}

func TestParseRefusals(t *testing.T) {
	for name, file := range refused {
		if p, err := Parse([]byte(file)); err == nil || !reflect.DeepEqual(p, Process{}) {
			t.Errorf("%s: accepted as %+v", name, p)
		} else if message := err.Error(); len(message) > 200 || strings.ContainsAny(message, "\n\x00") {
			t.Errorf("%s: message %q", name, message)
		}
	}
	if _, err := Parse(bytes.Repeat([]byte{0}, MaxSize+1)); err == nil {
		t.Error("a file above the limit is accepted")
	}
}

// FuzzParse: what is accepted is the one encoding of what it says.
func FuzzParse(f *testing.F) {
	seeds := []string{fullFile, least}
	for _, s := range seeds {
		if _, err := Parse([]byte(s)); err != nil {
			f.Fatalf("seed %q: %v", s, err)
		}
		f.Add([]byte(s))
	}
	for _, s := range refused {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := Parse(file)
		if err != nil {
			return
		}
		again, err := p.Encode()
		if err != nil || !bytes.Equal(again, file) {
			t.Errorf("%q is accepted, encoded again it is %q, %v", file, again, err)
		}
	})
}

func TestFind(t *testing.T) {
	files := map[string]bool{"/bin/app": true, "/usr/bin/app": true, "/opt/app": true, "./here": true, "bin/app": true, "/root": true, "//x": true}
	for _, c := range []struct{ command, env, want string }{
		{"app", "PATH=/sbin:/opt:/bin", "/opt/app"},
		{"app", "PATH=/bin/:/opt", "/bin/app"},
		{"app", "PATH=bin", "bin/app"},
		{"app", "XPATH=/opt", "/usr/bin/app"},
		{"here", "PATH=/bin:", "./here"},
		{"here", "PATH=", "./here"},
		{"root", "PATH=/", "/root"},
		{"app", "PATH=/sbin", ""},
		{"none", "A=b", ""},
		{"/no/such", "PATH=/bin", "/no/such"},
		{"./run", "PATH=/bin", "./run"},
		{"bin/app", "PATH=/bin", "bin/app"},
		{"", "PATH=/bin", ""},
	} {
		p := Process{Args: []string{c.command}, Env: []string{"A=PATH=/x", c.env}}
		got, err := Find(&p, func(path string) bool { return files[path] })
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q, %s: %q, %v, want %q", c.command, c.env, got, err, c.want)
		}
	}
	if _, err := Find(&Process{}, func(string) bool { return true }); err == nil {
		t.Error("a process without a command is found")
	}
}
