// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit"
	"github.com/cretula/cretula/eif/rootfs"
)

// blob makes contents with the marks of their kind.
func kernelFor(arch eif.Arch) []byte {
	data := bytes.Repeat([]byte{1}, 0x300)
	if arch == eif.ArchAArch64 {
		copy(data[56:], "ARM\x64")
	} else {
		copy(data[0x202:], "HdrS")
	}
	return data
}

func elfFor(arch eif.Arch, text string) []byte {
	data := make([]byte, 64)
	copy(data, "\x7fELF\x02\x01\x01")
	machine := uint16(0x3e)
	if arch == eif.ArchAArch64 {
		machine = 0xb7
	}
	binary.LittleEndian.PutUint16(data[18:], machine)
	return append(data, text...)
}

// blobs makes a folder as AWS's package has it.
func blobs(t *testing.T, dir string, arch eif.Arch) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		kernelBlob(arch):             kernelFor(arch),
		kernelBlob(arch) + ".config": []byte("#\n# Automatically generated file; DO NOT EDIT.\n# Linux/" + arch.String() + " 4.14.256-209.484 Kernel Configuration\n#\n"),
		"cmdline":                    []byte(" reboot=k panic=30 quiet \n"),
		"init":                       elfFor(arch, "init"),
		"nsm.ko":                     elfFor(arch, "driver"),
	} {
		write(t, filepath.Join(dir, name), data)
	}
	return dir
}

func TestBlobs(t *testing.T) {
	both := t.TempDir()
	blobs(t, filepath.Join(both, "x86_64"), eif.ArchX86_64)
	blobs(t, filepath.Join(both, "aarch64"), eif.ArchAArch64)
	for _, arch := range []eif.Arch{eif.ArchX86_64, eif.ArchAArch64} {
		for _, folder := range []string{blobs(t, t.TempDir(), arch), both} {
			for _, mode := range []eifbuild.Mode{eifbuild.Normalised, eifbuild.NitroCLI} {
				r := sampleRequest(t, sampleFolder(t, t.TempDir()))
				r.StandIns, r.Blobs, r.Arch, r.Mode = false, folder, arch, mode
				data, result := built(t, r)
				im := parsed(t, data)
				if im.Header.Arch != arch || len(result.StandIns) != 0 {
					t.Errorf("%v, stand-ins %q", im.Header.Arch, result.StandIns)
				}
				b := result.Metadata.BuildMetadata
				if b.OperatingSystem != "Linux" || b.KernelVersion != "4.14.256" || b.BuildTime != DefaultBuildTime {
					t.Errorf("%+v", b)
				}
				kernel, _ := io.ReadAll(im.Section(0))
				cmdline, _ := io.ReadAll(im.Section(1))
				if !bytes.Equal(kernel, kernelFor(arch)) || string(cmdline) != "reboot=k panic=30 quiet" {
					t.Errorf("kernel %.8q…, command line %q", kernel, cmdline)
				}
				initial := elfFor(arch, "init")
				if mode == eifbuild.Normalised {
					initial = eifinit.Binary(arch)
				}
				first := ramdisk(t, im, 0)
				for name, want := range map[string][]byte{"init": initial, "nsm.ko": elfFor(arch, "driver")} {
					f, err := entry(t, first, name).Content.Open()
					if err != nil {
						t.Fatal(err)
					}
					if got, _ := io.ReadAll(f); !bytes.Equal(got, want) {
						t.Errorf("%v %v: %s has %d bytes, want %d", arch, mode, name, len(got), len(want))
					}
				}
			}
		}
	}
}

func TestParts(t *testing.T) {
	x86, arm := blobs(t, t.TempDir(), eif.ArchX86_64), blobs(t, t.TempDir(), eif.ArchAArch64)
	file := func(data string) string { return write(t, filepath.Join(t.TempDir(), "file"), []byte(data)) }
	for name, c := range map[string]struct {
		request Request
		refused string // "" if not
		warning string // "" if none
	}{
		"all there":             {Request{Blobs: x86}, "", ""},
		"nothing":               {Request{}, "no kernel", ""},
		"blobs of another":      {Request{Blobs: arm}, "are for aarch64", ""},
		"kernel of another":     {Request{Kernel: filepath.Join(arm, "Image")}, "kernel for aarch64", ""},
		"x86 kernel for arm":    {Request{Arch: eif.ArchAArch64, Kernel: filepath.Join(x86, "bzImage")}, "kernel for x86_64", ""},
		"driver of another":     {Request{Blobs: x86, NSMKo: filepath.Join(arm, "nsm.ko")}, "not for x86_64", ""},
		"init of another":       {Request{Blobs: x86, Init: filepath.Join(arm, "init")}, "not for x86_64", ""},
		"blobs are a file":      {Request{Blobs: file("x")}, "no folder", ""},
		"empty kernel":          {Request{Kernel: file("")}, "is empty", ""},
		"empty driver":          {Request{Blobs: x86, NSMKo: file("")}, "is empty", ""},
		"absent kernel":         {Request{Blobs: x86, Kernel: filepath.Join(x86, "absent")}, "absent", ""},
		"configuration":         {Request{Blobs: x86, KernelConfig: file("a\nb\nc d\n")}, "third line", ""},
		"short configuration":   {Request{Blobs: x86, KernelConfig: file("a")}, "third line", ""},
		"no kernel that I know": {Request{Blobs: x86, Kernel: file("hello")}, "", "no kernel that enclaves"},
		"no configuration":      {Request{Kernel: file("hello")}, "", "do not say which kernel"},
		"no driver":             {Request{Kernel: filepath.Join(x86, "bzImage")}, "", "no nsm.ko"},
		"another init":          {Request{Blobs: x86, Cmdline: "reboot=k panic=1 rdinit=/bin/sh"}, "", "rdinit="},
		"no panic":              {Request{Blobs: x86, Cmdline: "reboot=k"}, "", "hang"},
		"long command line":     {Request{Blobs: x86, Cmdline: "reboot=k panic=1 " + strings.Repeat("x", 2048)}, "", "cuts it"},
		"binary command line":   {Request{Blobs: x86, Cmdline: "reboot=k panic=1 \x1b[0m"}, "", "printable"},
		"no init":               {Request{Mode: eifbuild.NitroCLI, Kernel: filepath.Join(x86, "bzImage")}, "no init", ""},
	} {
		p, err := c.request.findParts()
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want %s", name, err, c.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if all := strings.Join(p.warnings, "\n"); !strings.Contains(all, c.warning) || c.warning == "" && all != "" {
			t.Errorf("%s: warnings %q, want %q", name, p.warnings, c.warning)
		}
	}
}

// TestWhichInit: an --init is taken for one like AWS's unless it is ours.
func TestWhichInit(t *testing.T) {
	x86 := blobs(t, t.TempDir(), eif.ArchX86_64)
	own := write(t, filepath.Join(t.TempDir(), "init"), eifinit.Binary(eif.ArchX86_64))
	for file, aws := range map[string]bool{"": false, own: false, filepath.Join(x86, "init"): true} {
		r := Request{Blobs: x86, Init: file}
		p, err := r.findParts()
		if err != nil || p.awsInit != aws {
			t.Errorf("%q: %v, %v", file, p.awsInit, err)
		}
	}
	r := sampleRequest(t, sampleFolder(t, t.TempDir()))
	r.Init = filepath.Join(x86, "init")
	for _, want := range []string{"WORKDIR", "USER", ""} {
		_, err := Build(t.Context(), r)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		r.IgnoreWorkingDir, r.IgnoreUser = true, want == "USER"
	}
}

func TestImageName(t *testing.T) {
	for source, want := range map[string]string{
		"registry:hello:v1":                            "hello",
		"registry:localhost:5000/team/app:1.2":         "localhost:5000/team/app",
		"registry:localhost:5000/team/app":             "localhost:5000/team/app",
		"docker://ghcr.io/a/b@sha256:00":               "ghcr.io/a/b",
		"registry://ghcr.io/a/b:1":                     "ghcr.io/a/b",
		"docker:ghcr.io/a/b:1":                         "ghcr.io/a/b",
		"registry:example.com:443/a/b:tag@sha256:00ff": "example.com:443/a/b",
		"./rootfs":                   "image",
		"/tmp/dir-1234/app":          "image",
		"oci:layout:v1":              "image",
		"docker-archive:a.tar:app:1": "image",
	} {
		if got := imageName(source); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}

func TestBuildTimeOf(t *testing.T) {
	for in, want := range map[string]string{"": "", "0": DefaultBuildTime, "1700000000": "2023-11-14T22:13:20+00:00", "253402300799": "9999-12-31T23:59:59+00:00"} {
		if got, err := BuildTimeOf(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"-1", "now", "1.5", "0x10", "253402300800", " 1", "99999999999999999999"} {
		if got, err := BuildTimeOf(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestCustomMetadata(t *testing.T) {
	for in, want := range map[string]string{
		`{"b": 1, "a": {"d": "<&>", "c": 12345678901234567890}}`: `{"a":{"c":12345678901234567890,"d":"<&>"},"b":1}`,
		` null `: `null`,
		`[1,2]`:  `[1,2]`,
	} {
		r := sampleRequest(t, sampleFolder(t, t.TempDir()))
		r.Custom, r.Name, r.Version, r.BuildTime = []byte(in), "name", "2", "2026-01-02T03:04:05Z"
		r.CheckReproducible = true
		data, result := built(t, r)
		m := parsed(t, data).Metadata()
		if string(m.CustomMetadata) != want || m.ImageName != "name" || m.ImageVersion != "2" || m.BuildMetadata.BuildTime != r.BuildTime {
			t.Errorf("%s: %+v", in, m)
		}
		if wants := !strings.HasPrefix(in, "{"); (len(result.Warnings) == 1) != wants {
			t.Errorf("%s: warnings %q", in, result.Warnings)
		}
	}
}

func TestOverride(t *testing.T) {
	base := rootfs.Config{Entrypoint: []string{"e"}, Cmd: []string{"c"}, Env: []string{"A=1", "AB=2"}, WorkingDir: "/w", User: "u"}
	for name, c := range map[string]struct {
		o    Override
		want rootfs.Config
	}{
		"nothing":    {Override{}, base},
		"cmd":        {Override{Cmd: []string{"d"}}, rootfs.Config{Entrypoint: []string{"e"}, Cmd: []string{"d"}, Env: base.Env, WorkingDir: "/w", User: "u"}},
		"entrypoint": {Override{Entrypoint: []string{"f"}}, rootfs.Config{Entrypoint: []string{"f"}, Env: base.Env, WorkingDir: "/w", User: "u"}},
		"all": {Override{Entrypoint: []string{"f"}, Cmd: []string{"d"}, Env: []string{"AB=3", "C=4"}, WorkingDir: "/x", User: "v"},
			rootfs.Config{Entrypoint: []string{"f"}, Cmd: []string{"d"}, Env: []string{"A=1", "AB=3", "C=4"}, WorkingDir: "/x", User: "v"}},
	} {
		if got := c.o.apply(base); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	twice := rootfs.Config{Env: []string{"A=1", "B=2", "A=3", "C=4"}}
	if got := (&Override{Env: []string{"A=5"}}).apply(twice); !slices.Equal(got.Env, []string{"A=5", "B=2", "C=4"}) {
		t.Errorf("a variable that is there twice: %q", got.Env)
	}
	if base.Env[1] != "AB=2" {
		t.Error("the source's configuration was changed")
	}
}

// TestComparison: one byte anywhere is found, and a header that is written twice
// is compared once it is whole.
func TestComparison(t *testing.T) {
	image := bytes.Repeat([]byte("0123456789"), 200)
	compare := func(data []byte) error {
		c := &comparison{file: bytes.NewReader(image)}
		zero := make([]byte, eifHeader)
		for _, part := range [][]byte{zero[:100], zero[100:], data[eifHeader:1000], data[1000:]} {
			if _, err := c.Write(part); err != nil {
				return err
			}
		}
		if _, err := c.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := c.Write(data[:eifHeader]); err != nil {
			return err
		}
		if _, err := c.Seek(0, io.SeekEnd); err != nil {
			return err
		}
		return c.finish(int64(len(image)))
	}
	if err := compare(image); err != nil {
		t.Error(err)
	}
	for _, at := range []int{0, 100, eifHeader - 1, eifHeader, 999, 1000, len(image) - 1} {
		other := bytes.Clone(image)
		other[at] ^= 1
		if err := compare(other); err == nil {
			t.Errorf("byte %d differs, and nothing is said", at)
		}
	}
	for _, other := range [][]byte{image[:len(image)-1], append(bytes.Clone(image), 0)} {
		if err := compare(other); err == nil {
			t.Errorf("%d bytes are taken for %d", len(other), len(image))
		}
	}
	if _, err := new(comparison).Seek(-1, io.SeekStart); err == nil {
		t.Error("a place before the beginning")
	}
}
