// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit/process"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/internal/signkey"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// TestMain builds where the environment says so: in a process with another time
// zone, umask, locale and number of threads.
func TestMain(m *testing.M) {
	if source := os.Getenv("CRETULA_TEST_SOURCE"); source != "" {
		setUmask(0o077)
		_, err := Build(context.Background(), Request{
			Source: source, Output: os.Getenv("CRETULA_TEST_OUTPUT"), StandIns: true, Override: sampleProgram,
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSharedRamdisksOfTarballs: from the tarballs of the vectors, the ramdisks
// are those that AWS's builder made.
func TestSharedRamdisksOfTarballs(t *testing.T) {
	shared := need.SharedData(t, "eif")
	data, err := os.ReadFile(filepath.Join(shared, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Ramdisks []struct {
			Name, File, Kind, Tar string
			Cmd, Env              []string
		}
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(shared, filepath.FromSlash(name)) }
	vector := func(name string) []byte {
		data, err := os.ReadFile(file(name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	applications := 0
	for _, c := range manifest.Ramdisks {
		if c.Kind != "application" {
			continue
		}
		applications++
		image, result := built(t, Request{
			Source: file(c.Tar), Output: filepath.Join(t.TempDir(), "app.eif"), Mode: eifbuild.NitroCLI,
			Kernel: file("inputs/kernel-x86_64"), Init: file("inputs/init"), NSMKo: file("inputs/nsm.ko"),
			Override: Override{Cmd: c.Cmd, Env: c.Env},
		})
		im := parsed(t, image)
		if !bytes.Equal(ramdisk(t, im, 0), vector("ramdisks/bootstrap.cpio")) {
			t.Errorf("%s: the bootstrap ramdisk differs", c.Name)
		}
		if !bytes.Equal(ramdisk(t, im, 1), vector(c.File)) {
			t.Errorf("%s: the application ramdisk differs", c.Name)
		}
		if b := result.Metadata.BuildMetadata; b.BuildTool != "nitro-cli" || len(result.StandIns) != 0 {
			t.Errorf("%+v, stand-ins %q", b, result.StandIns)
		}
		if c.Name == "app-1" && !slices.ContainsFunc(result.Warnings, func(w string) bool { return strings.HasPrefix(w, "not in the image: ") }) {
			t.Errorf("the extended attributes are lost without a word: %q", result.Warnings)
		}
	}
	if applications != 2 {
		t.Errorf("%d application ramdisks", applications)
	}
}

// TestSourcesAgree: one tree as a folder, a tarball, an OCI layout and an archive
// of docker save, each of another time, gives one set of registers, and one init's
// process. (Owners are 0:0 in all of them.)
func TestSourcesAgree(t *testing.T) {
	if !keepsModes {
		t.Skip("folders of this system have no modes")
	}
	day := func(n int) time.Time { return time.Date(2020, 1, n, 1, 2, 3, 0, time.UTC) }
	tarFile := write(t, filepath.Join(t.TempDir(), "root.tar"), sampleTar(t, day(1)))
	var first pcr.Measurements
	for i, source := range []string{
		sampleFolder(t, t.TempDir()), tarFile, sampleLayout(t, day(2)), sampleArchive(t, day(3)), "docker-archive:" + sampleArchive(t, day(4)),
	} {
		r := sampleRequest(t, source)
		if i >= 2 {
			r.Override = Override{}
		}
		r.CheckReproducible = true
		data, result := built(t, r)
		if !result.Reproduced || len(result.Warnings) != 0 || !slices.Equal(result.StandIns, []string{"kernel"}) {
			t.Errorf("%s: %+v", source, result)
		}
		if i == 0 {
			first = result.Measurements
		} else if result.Measurements != first {
			t.Errorf("%s: %v, that of the folder is %v", source, result.Measurements, first)
		}
		content, err := entry(t, ramdisk(t, parsed(t, data), 1), process.FileName).Content.Open()
		if err != nil {
			t.Fatal(err)
		}
		file, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		p, err := process.Parse(file)
		want := process.Process{
			Args: []string{"./app", "serve", "two words"}, Dir: "/srv", UID: 1000, GID: 1000,
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "MODE=prod", "HOME=/srv"},
		}
		if err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%s: %+v, %v; want %+v", source, p, err, want)
		}
		meta := parsed(t, data).Metadata()
		if i >= 2 && (meta.DockerInfo == nil || len(meta.ImageVersion) != 64) || i < 2 && meta.ImageVersion != "1.0" {
			t.Errorf("%s: metadata %+v", source, meta)
		}
	}
}

// TestSameBytes: whoever builds, wherever, whenever.
func TestSameBytes(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := built(t, sampleRequest(t, sampleFolder(t, t.TempDir())))
	for i, env := range [][]string{
		{"TZ=Asia/Kathmandu", "LC_ALL=tr_TR.UTF-8", "GOMAXPROCS=1"},
		{"TZ=America/St_Johns", "LANG=C", "GOMAXPROCS=8", "TMPDIR=" + t.TempDir(), "SOURCE_DATE_EPOCH=5"},
	} {
		folder := sampleFolder(t, t.TempDir())
		old := time.Now().Add(-time.Duration(i) * 1000 * time.Hour)
		if err := os.Chtimes(filepath.Join(folder, "srv", "app"), old, old); err != nil {
			t.Fatal(err)
		}
		output := filepath.Join(t.TempDir(), "other name")
		cmd := exec.Command(executable)
		cmd.Env = append(os.Environ(), append(env, "CRETULA_TEST_SOURCE="+folder, "CRETULA_TEST_OUTPUT="+output)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("with %q, the image differs", env)
		}
	}
}

// TestSigned: by a key file, twice the same.
func TestSigned(t *testing.T) {
	keys := need.SharedData(t, "eif", "keys")
	certificate, err := os.ReadFile(filepath.Join(keys, "p384.crt.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r := sampleRequest(t, sampleFolder(t, t.TempDir()))
	unsigned, plain := built(t, r)
	signer, closer, err := signkey.Open(t.Context(), signkey.Spec{Key: filepath.Join(keys, "p384.key.pem")})
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	r.Signer, r.CertificateFile, r.CheckReproducible = signer, certificate, true
	data, result := built(t, r)
	again, _ := built(t, r)
	if !bytes.Equal(data, again) {
		t.Error("signed twice, two images")
	}
	if !bytes.Equal(data[eifHeader:len(unsigned)], unsigned[eifHeader:]) {
		t.Error("signing changed more than the header")
	}
	pcr0, _ := result.Measurements.Get(0)
	was, _ := plain.Measurements.Get(0)
	pcr8, _ := result.Measurements.Get(8)
	s := parsed(t, data).Signature()
	if pcr0 != was || s == nil || pcr8 != s.PCR8() {
		t.Fatalf("%v, signature %v", result.Measurements, s)
	}
	if err := s.Verify(pcr0, time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Error(err)
	}
	onlyFile(t, r.Output)

	other, closer, err := signkey.Open(t.Context(), signkey.Spec{Key: filepath.Join(keys, "p384-other.key.pem")})
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	r.Signer = other
	r.Progress = func(stage string, _, _ int64) { t.Errorf("the wrong key was not noticed before %s", stage) }
	r.Source = write(t, filepath.Join(t.TempDir(), "app.tar"), sampleTar(t, time.Unix(1, 0)))
	var refusal *reason.Error
	if _, err := Build(t.Context(), r); !errors.As(err, &refusal) || refusal.Rule() != "eif.sign.key" {
		t.Errorf("a key that is not the certificate's: %v", err)
	}
	if kept, err := os.ReadFile(r.Output); err != nil || !bytes.Equal(kept, data) {
		t.Errorf("after an error, the image there was is another: %v", err)
	}
	onlyFile(t, r.Output)
}

const eifHeader = 548

// onlyFile makes sure that a folder has nothing but one file, or nothing.
func onlyFile(t *testing.T, name string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(name) {
			t.Errorf("%s is left behind", e.Name())
		}
	}
}

// TestNotReproducible: a source that is another one when it is read again.
func TestNotReproducible(t *testing.T) {
	was := sampleTar(t, time.Unix(0, 0))
	padding := make([]byte, 4<<20)
	for name, now := range map[string][]byte{
		"other content": bytes.Replace(was, []byte("a program"), []byte("A program"), 1),
		"one file more": append(bytes.Clone(was[:len(was)-1024]), tarFile(t, "zz", nil)...),
		"one file less": was[:len(was)-1024-512], // the last one
		"longer":        append(sampleTar(t, time.Unix(0, 0))[:len(was)-1024], tarFile(t, "zz", padding)...),
	} {
		dir := t.TempDir()
		source := write(t, filepath.Join(dir, "root.tar"), was)
		r := sampleRequest(t, source)
		r.Override.WorkingDir, r.Override.Entrypoint = "/", []string{"/srv/app"}
		r.CheckReproducible = true
		r.Progress = func(stage string, _, _ int64) {
			if stage != StageWrite {
				return
			}
			next := write(t, filepath.Join(dir, "next.tar"), now)
			if err := os.Rename(next, source); err != nil {
				t.Skip("an open file cannot be replaced here")
			}
		}
		_, err := Build(t.Context(), r)
		if refusal, ok := errors.AsType[*reason.Error](err); !ok || refusal.Rule() != "imagebuild.reproducible" {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(r.Output); err == nil && !info.IsDir() {
			t.Errorf("%s: there is an image", name)
		}
		onlyFile(t, r.Output)
	}
}

// TestNothingLeft: a build that is cancelled, fails, or fills the disk leaves no
// file, and an older image as it was.
func TestNothingLeft(t *testing.T) {
	folder := sampleFolder(t, t.TempDir())
	write(t, filepath.Join(folder, "zz"), make([]byte, 8<<20))
	for name, fail := range map[string]func(t *testing.T, r *Request) context.Context{
		"cancelled before": func(t *testing.T, _ *Request) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		},
		"cancelled while writing": func(t *testing.T, r *Request) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			r.Progress = func(stage string, done, _ int64) {
				if stage == StageWrite && done > 3<<20 {
					cancel()
				}
			}
			return ctx
		},
		"cancelled while comparing": func(t *testing.T, r *Request) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			r.CheckReproducible = true
			r.Progress = func(stage string, done, _ int64) {
				if stage == StageCompare && done > 3<<20 {
					cancel()
				}
			}
			return ctx
		},
		"full disk": func(t *testing.T, _ *Request) context.Context {
			limitFiles(t, 4<<20)
			return t.Context()
		},
		"changed source": func(t *testing.T, r *Request) context.Context {
			r.Progress = func(stage string, done, _ int64) {
				if stage == StageWrite {
					if err := os.Truncate(filepath.Join(folder, "zz"), 1<<20); err != nil {
						t.Error(err)
					}
				}
			}
			return t.Context()
		},
	} {
		for _, older := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", older image ", older), func(t *testing.T) {
				write(t, filepath.Join(folder, "zz"), make([]byte, 8<<20))
				r := sampleRequest(t, folder)
				if older {
					write(t, r.Output, []byte("older"))
				}
				if _, err := Build(fail(t, &r), r); err == nil {
					t.Error("no error")
				}
				if data, err := os.ReadFile(r.Output); older && string(data) != "older" || !older && err == nil {
					t.Errorf("there is %.20q, %v", data, err)
				}
				onlyFile(t, r.Output)
			})
		}
	}
}

func TestOutputInSource(t *testing.T) {
	folder := sampleFolder(t, t.TempDir())
	for _, source := range []string{folder, "dir:" + folder, folder + "/", folder + "/srv/.."} {
		r := sampleRequest(t, source)
		outside := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(filepath.Join(folder, "srv"), outside); err != nil {
			t.Fatal(err)
		}
		for _, output := range []string{filepath.Join(folder, "app.eif"), filepath.Join(folder, "srv", "app.eif"), filepath.Join(outside, "app.eif")} {
			r.Output = output
			if _, err := Build(t.Context(), r); err == nil || !strings.Contains(err.Error(), "in the folder that it is made of") {
				t.Errorf("%s into %s: %v", source, output, err)
			}
		}
	}
}

// TestSetID: programs that get another owner do not get root's rights unseen.
func TestSetID(t *testing.T) {
	b := &build{result: &Result{}}
	for range 2 {
		entries := []eifbuild.Entry{{Name: "su", Mode: 0o4755}, {Name: "mine", Mode: 0o4755, UID: 1000}, {Name: "ours", Mode: 0o2755, GID: 7},
			{Name: "d", Type: eifbuild.Dir, Mode: 0o2755, GID: 7}, {Name: "plain", Mode: 0o755, UID: 1000}}
		b.ownByRoot(entries)
		for _, e := range entries {
			if e.UID != 0 || e.GID != 0 {
				t.Errorf("%+v", e)
			}
		}
	}
	if w := b.result.Warnings; len(w) != 2 || !strings.HasPrefix(w[0], "/mine has mode 4755") || !strings.HasPrefix(w[1], "/ours has mode 2755") {
		t.Errorf("%q", w)
	}
}

// TestOutputIsInput: an image does not replace what it is made of.
func TestOutputIsInput(t *testing.T) {
	dir := t.TempDir()
	tarball := write(t, filepath.Join(dir, "app.tar"), sampleTar(t, time.Unix(1, 0)))
	kernel := write(t, filepath.Join(dir, "kernel"), kernelFor(eif.ArchX86_64))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(tarball, link); err != nil {
		t.Fatal(err)
	}
	archive := sampleArchive(t, time.Unix(1, 0))
	for _, c := range []struct{ source, kernel, output string }{
		{tarball, "", tarball}, {"tar:" + tarball, "", tarball}, {link, "", tarball}, {tarball, "", link},
		{"docker-archive:" + archive + ":app:1", "", archive}, {tarball, kernel, kernel},
	} {
		was, err := os.ReadFile(c.output)
		if err != nil {
			t.Fatal(err)
		}
		r := sampleRequest(t, c.source)
		r.Kernel, r.Output = c.kernel, c.output
		if _, err := Build(t.Context(), r); err == nil || !strings.Contains(err.Error(), "would replace") {
			t.Errorf("%v: %v", c, err)
		}
		if is, err := os.ReadFile(c.output); err != nil || !bytes.Equal(is, was) {
			t.Errorf("%v: the input is gone", c)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Request)
		want   string
	}{
		"no source":        {func(r *Request) { r.Source = "/nowhere/at/all" }, "nowhere"},
		"no kernel":        {func(r *Request) { r.StandIns = false }, "no kernel"},
		"absent blobs":     {func(r *Request) { r.Blobs = "/nowhere/blobs" }, "nowhere"},
		"no command":       {func(r *Request) { r.Override = Override{} }, "no command"},
		"unknown user":     {func(r *Request) { r.Override.User = "nobody" }, "no such user"},
		"key alone":        {func(r *Request) { r.CertificateFile = []byte("x") }, "a key and a certificate"},
		"metadata":         {func(r *Request) { r.Custom = []byte("{") }, "JSON"},
		"two metadata":     {func(r *Request) { r.Custom = []byte("{}{}") }, "more than one"},
		"long metadata":    {func(r *Request) { r.Custom = []byte(`"` + strings.Repeat("x", MaxCustom) + `"`) }, "4098 bytes"},
		"command line":     {func(r *Request) { r.Cmdline = "a\nb" }, "newline"},
		"folder as kernel": {func(r *Request) { r.Kernel = t.TempDir() }, "no regular file"},
		"no such output":   {func(r *Request) { r.Output = filepath.Join(t.TempDir(), "absent", "app.eif") }, "absent"},
		"source before output": {func(r *Request) {
			r.Output = filepath.Join(t.TempDir(), "absent", "app.eif")
			r.Source = "/nowhere/at/all"
		}, "absent"},
		"a folder as output": {func(r *Request) { r.Output = t.TempDir(); r.Source = "/nowhere/at/all" }, "it is a folder"},
	} {
		r := sampleRequest(t, sampleFolder(t, t.TempDir()))
		c.change(&r)
		if _, err := Build(t.Context(), r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if info, err := os.Stat(r.Output); err == nil && !info.IsDir() {
			t.Errorf("%s: there is an image", name)
		}
	}
}

// TestOwners: those of an archive are kept, those of a folder are of whoever
// unpacked it.
func TestOwners(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Name: "app", Typeflag: tar.TypeReg, Mode: 0o755, Uid: 1000, Gid: 1001, Size: 1}
	if err := w.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write(t, filepath.Join(folder, "app"), []byte("x"))
	if err := os.Chmod(filepath.Join(folder, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Only root can give files away; of others they are not 0:0 anyhow.
	_ = os.Chown(filepath.Join(folder, "app"), 1000, 1001)
	for source, want := range map[string][2]uint32{
		write(t, filepath.Join(t.TempDir(), "root.tar"), b.Bytes()): {1000, 1001},
		folder: {0, 0},
	} {
		for _, mode := range []eifbuild.Mode{eifbuild.Normalised, eifbuild.NitroCLI} {
			r := sampleRequest(t, source)
			r.Mode, r.Override = mode, Override{Cmd: []string{"/app"}}
			data, _ := built(t, r)
			if e := entry(t, ramdisk(t, parsed(t, data), 1), "rootfs/app"); e.UID != want[0] || e.GID != want[1] {
				t.Errorf("%s, %v: owner %d:%d, want %v", source, mode, e.UID, e.GID, want)
			}
		}
	}
}
