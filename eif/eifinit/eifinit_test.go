// SPDX-License-Identifier: Apache-2.0

package eifinit

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/need"
)

var write = flag.Bool("write", false, "write the binaries instead of comparing them")

var architectures = []struct {
	arch    eif.Arch
	machine elf.Machine
	file    string
	env     []string
}{
	{eif.ArchX86_64, elf.EM_X86_64, "init-x86_64.gz", []string{"GOARCH=amd64", "GOAMD64=v1"}},
	{eif.ArchAArch64, elf.EM_AARCH64, "init-aarch64.gz", []string{"GOARCH=arm64", "GOARM64=v8.0"}},
}

// build compiles the init in the module folder dir, with nothing of the caller's
// environment but what Go cannot do without.
func build(t *testing.T, dir string, arch []string, extra ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, "./eif/eifinit/init")
	cmd.Dir = dir
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "SystemRoot", "LocalAppData", "USERPROFILE"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOOS=linux", "GOENV=off", "GOWORK=off", "GOTOOLCHAIN="+Toolchain)
	cmd.Env = append(append(cmd.Env, arch...), extra...)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, output)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// needToolchain ends the test unless the release of Go that made the binaries is
// there, or can be had.
func needToolchain(t *testing.T) {
	t.Helper()
	cmd := exec.Command("go", "env", "GOVERSION")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+Toolchain)
	out, err := cmd.CombinedOutput()
	if err == nil && strings.TrimSpace(string(out)) == Toolchain {
		return
	}
	// Where every component is asked for, this one is too, unless nobody has it.
	t.Logf("%s cannot be had: %s", Toolchain, out)
	t.Skipf("SKIPPED, missing component: %s; THE INIT OF IMAGES WAS NOT REBUILT AND COMPARED (running: %s)", Toolchain, runtime.Version())
}

// TestBinaries rebuilds the binaries from source. With -write it writes them.
func TestBinaries(t *testing.T) {
	needToolchain(t)
	for _, a := range architectures {
		built := build(t, "../..", a.env)
		if *write {
			if err := os.WriteFile(a.file, compress(t, built), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if pinned := Binary(a.arch); !bytes.Equal(built, pinned) {
			t.Errorf("%s is not what the source makes (SHA-256 %x, the source %x). If the change is meant, run 'go generate ./eif/eifinit' "+
				"and say in the commit that PCR1 of all normalised images changes", a.file, sha256.Sum256(pinned), sha256.Sum256(built))
		}
	}
}

// TestBinariesElsewhere: the bytes depend neither on where the checkout, the caches
// and the home folder are, nor on anything that is there.
func TestBinariesElsewhere(t *testing.T) {
	need.Long(t)
	needToolchain(t)
	if runtime.Version() != Toolchain {
		t.Skipf("%s would have to be downloaded again", Toolchain)
	}
	dir := t.TempDir()
	checkout := filepath.Join(dir, "some where", "else")
	for _, part := range []string{"eif/eifinit/init", "eif/eifinit/process"} {
		if err := os.CopyFS(filepath.Join(checkout, filepath.FromSlash(part)), os.DirFS(filepath.Join("..", "..", filepath.FromSlash(part)))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(checkout, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"HOME=" + dir, "GOPROXY=off", "GOFLAGS=-modcacherw"}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "TMPDIR"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+path)
	}
	for _, a := range architectures {
		if built := build(t, checkout, a.env, env...); !bytes.Equal(built, Binary(a.arch)) {
			t.Errorf("%s: built elsewhere, the bytes differ", a.file)
		}
	}
}

// compress is gzip -n -9.
func compress(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBinaryShape: static, stripped, for the right machine, small, of that release
// of Go and no module but this.
func TestBinaryShape(t *testing.T) {
	for _, a := range architectures {
		data := Binary(a.arch)
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", a.file, err)
		}
		if f.Machine != a.machine || f.Type != elf.ET_EXEC || f.Section(".symtab") != nil {
			t.Errorf("%s: machine %v, type %v, sections %v", a.file, f.Machine, f.Type, f.Sections)
		}
		info, err := buildinfo.Read(bytes.NewReader(data))
		if err != nil || info.GoVersion != Toolchain || len(info.Deps) > 0 || info.Main.Sum != "" {
			t.Errorf("%s: built by %+v, %v", a.file, info, err)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s is not static: it has %v", a.file, p.Type)
			}
		}
		if len(data) > 2<<20 {
			t.Errorf("%s: %d bytes", a.file, len(data))
		}
		if header := map[eif.Arch][]byte{eif.ArchX86_64: x86Compressed, eif.ArchAArch64: armCompressed}[a.arch][:10]; !bytes.Equal(header[3:8], make([]byte, 5)) {
			t.Errorf("%s: the gzip header % x has a name or a time", a.file, header)
		}
	}
}
