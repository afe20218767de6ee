// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/need"
)

// TestSharedRamdiskOfLayers: from an image with the tree of the first vector but
// without what docker adds when it exports one, the ramdisk is the one that AWS's
// builder made of docker's export.
func TestSharedRamdiskOfLayers(t *testing.T) {
	file := func(name string) string { return need.SharedData(t, "eif", filepath.FromSlash(name)) }
	export, err := os.ReadFile(file("ramdisks/app-1.tar"))
	if err != nil {
		t.Fatal(err)
	}
	added := map[string]bool{".dockerenv": true, "dev": true, "dev/console": true, "dev/pts": true, "dev/shm": true, "etc/hostname": true,
		"etc/hosts": true, "etc/mtab": true, "etc/resolv.conf": true, "proc": true, "sys": true}
	var data bytes.Buffer
	in, out := tar.NewReader(bytes.NewReader(export)), tar.NewWriter(&data)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err == nil && !added[strings.TrimSuffix(h.Name, "/")] {
			if err = out.WriteHeader(h); err == nil {
				_, err = io.Copy(out, in)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: "amd64", OS: "linux", Config: v1.Config{
		Entrypoint: []string{"/bin/ignored"}, Cmd: []string{"/bin/run", "--config", "/etc/app.conf", "two words"},
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "APP_MODE=prod", "EMPTY="}, WorkingDir: "/home/app", User: "app",
	}})
	if err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = l.AppendImage(image)
	}
	if err != nil {
		t.Fatal(err)
	}
	made, _ := built(t, Request{Source: dir, Output: filepath.Join(t.TempDir(), "app.eif"), Mode: eifbuild.NitroCLI,
		Kernel: file("inputs/kernel-x86_64"), Init: file("inputs/init"), NSMKo: file("inputs/nsm.ko")})
	want, err := os.ReadFile(file("ramdisks/app-1.cpio"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ramdisk(t, parsed(t, made), 1), want) {
		t.Error("the application ramdisk differs")
	}
}
