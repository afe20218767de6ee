// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
)

// sampleTree is a program's tree: modes, a symbolic and a hard link, and an
// account. All owners are 0:0.
var sampleTree = []tar.Header{
	{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
	{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n"},
	{Name: "srv/", Typeflag: tar.TypeDir, Mode: 0o700},
	{Name: "srv/app", Typeflag: tar.TypeReg, Mode: 0o755, Linkname: "a program"},
	{Name: "srv/app-2", Typeflag: tar.TypeLink, Mode: 0o755, Linkname: "srv/app"},
	{Name: "srv/empty", Typeflag: tar.TypeReg, Mode: 0o600},
	{Name: "srv/latest", Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "app"},
}

// sampleProgram starts it.
var sampleProgram = Override{
	Entrypoint: []string{"./app"}, Cmd: []string{"serve", "two words"}, Env: []string{"MODE=prod"}, WorkingDir: "/srv", User: "app",
}

// sampleTar is the tree as a tarball of a time.
func sampleTar(t testing.TB, at time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range sampleTree {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
		}
		h.Size, h.ModTime = int64(len(content)), at
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tarFile is a tarball with one file.
func tarFile(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sampleFolder unpacks the tree.
func sampleFolder(t testing.TB, dir string) string {
	t.Helper()
	for _, h := range sampleTree {
		file := filepath.Join(dir, h.Name)
		var err error
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(file, 0o700)
		case tar.TypeReg:
			err = os.WriteFile(file, []byte(h.Linkname), 0o600)
		case tar.TypeLink:
			err = os.Link(filepath.Join(dir, h.Linkname), file)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, file)
		}
		if err == nil && h.Typeflag != tar.TypeSymlink {
			err = os.Chmod(file, os.FileMode(h.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sampleImage is the tree as a container image of a time.
func sampleImage(t testing.TB, at time.Time) v1.Image {
	t.Helper()
	data := sampleTar(t, at)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux", Created: v1.Time{Time: at},
		RootFS: func() v1.RootFS {
			c, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			return c.RootFS
		}(),
		Config: v1.Config{
			Entrypoint: sampleProgram.Entrypoint, Cmd: sampleProgram.Cmd, Env: sampleProgram.Env,
			WorkingDir: sampleProgram.WorkingDir, User: sampleProgram.User,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// sampleLayout and sampleArchive write it as an OCI layout and as "docker save"
// does.
func sampleLayout(t testing.TB, at time.Time) string {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(sampleImage(t, at)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func sampleArchive(t testing.TB, at time.Time) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("example.com:5000/sample/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, sampleImage(t, at)); err != nil {
		t.Fatal(err)
	}
	return file
}

func write(t testing.TB, file string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sampleRequest builds a normalised image with a stand-in kernel.
func sampleRequest(t testing.TB, source string) Request {
	t.Helper()
	return Request{Source: source, Output: filepath.Join(t.TempDir(), "app.eif"), StandIns: true, Override: sampleProgram}
}

// built builds and returns the file and what was told.
func built(t testing.TB, r Request) ([]byte, *Result) {
	t.Helper()
	result, err := Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.Output)
	if err != nil {
		t.Fatal(err)
	}
	if result.Size != int64(len(data)) {
		t.Fatalf("%d bytes, told %d", len(data), result.Size)
	}
	im := parsed(t, data)
	if m, err := im.Measure(t.Context()); err != nil || m != result.Measurements {
		t.Fatalf("measured %v, %v; told %v", m, err, result.Measurements)
	}
	return data, result
}

func parsed(t testing.TB, data []byte) *eif.Image {
	t.Helper()
	im, err := eif.Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// ramdisk returns the content of the i-th ramdisk.
func ramdisk(t testing.TB, im *eif.Image, i int) []byte {
	t.Helper()
	data, err := io.ReadAll(im.Section(im.Ramdisks()[i]))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// entry returns one entry of a ramdisk.
func entry(t testing.TB, ramdisk []byte, name string) *eifbuild.Entry {
	t.Helper()
	r := eifbuild.NewReader(bytes.NewReader(ramdisk))
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e.Name == name {
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			e.Content = eifbuild.Bytes(content)
			return e
		}
	}
}
