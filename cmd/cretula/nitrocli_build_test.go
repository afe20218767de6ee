// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/nitrocli"
)

// sharedContainer is the shared container as an image: the tree and configuration
// of which AWS's builder made the ramdisk app-1.cpio.
func sharedContainer(t *testing.T, dir string) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromFile(filepath.Join(dir, "ramdisks", "app-1.tar"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "ramdisks", "app-1.tree.json"))
	if err != nil {
		t.Fatal(err)
	}
	var tree struct{ Config v1.Config }
	if err := json.Unmarshal(data, &tree); err != nil || len(tree.Config.Cmd) != 4 {
		t.Fatalf("%+v, %v", tree, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", tree.Config
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	return image
}

// sharedBlobs arranges the shared inputs as AWS's packages do.
func sharedBlobs(t *testing.T, dir string) string {
	t.Helper()
	blobs := t.TempDir()
	for from, to := range map[string]string{"kernel-x86_64": "bzImage", "init": "init", "nsm.ko": "nsm.ko", "cmdline-x86_64": "cmdline"} {
		putFile(t, filepath.Join(dir, "inputs", from), filepath.Join(blobs, to))
	}
	config := "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86_64 4.14.256 Kernel Configuration\n#\n"
	if err := os.WriteFile(filepath.Join(blobs, "bzImage.config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return blobs
}

// TestNitroBuildEnclave builds the shared container wherever it lies: each time the
// ramdisks are, byte for byte, those of AWS's builder, and the registers those of
// the shared image of the same parts.
func TestNitroBuildEnclave(t *testing.T) {
	dir, images := sharedImages(t)
	container, blobs, work := sharedContainer(t, dir), sharedBlobs(t, dir), t.TempDir()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	reference, err := name.ParseReference(host + "/team/app:1.4")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, container); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(work, "layout")
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(container); err != nil {
		t.Fatal(err)
	}
	archived := filepath.Join(work, "layout.tar")
	tarFolder(t, folder, archived)
	saved := filepath.Join(work, "saved.tar")
	if err := tarball.WriteToFile(saved, reference, container); err != nil {
		t.Fatal(err)
	}
	var want sharedImage
	for _, image := range images {
		if image.File == "valid/v8-real-ramdisks.eif" {
			want = image
		}
	}
	keys := filepath.Join(dir, "keys")
	key := filepath.Join(work, "key.pem")
	putFile(t, filepath.Join(keys, "p384.key.pem"), key)
	for i, uri := range []string{folder, archived, saved, "oci:" + folder, host + "/team/app:1.4", "docker://" + host + "/team/app:1.4"} {
		output := filepath.Join(work, fmt.Sprintf("%d.eif", i))
		args := []string{"build-enclave", "--docker-uri", uri, "--output-file", output,
			"--signing-certificate", filepath.Join(keys, "p384.crt.pem"), "--private-key", key}
		code, stdout, stderr := nitro(validityClock, blobs, args...)
		if code != 0 || !strings.HasPrefix(stderr, "Start building the Enclave Image...\n") || !strings.HasSuffix(stderr, "\nEnclave Image successfully created.\n") {
			t.Errorf("%s: %d\n%s%s", uri, code, stdout, stderr)
			continue
		}
		form := fmt.Sprintf("{\n  \"Measurements\": {\n    \"HashAlgorithm\": \"Sha384 { ... }\",\n    \"PCR0\": %q,\n    \"PCR1\": %q,\n    \"PCR2\": %q,\n    \"PCR8\": %q\n  }\n}\n",
			want.PCRs["PCR0"], want.PCRs["PCR1"], want.PCRs["PCR2"], want.PCRs["PCR8"])
		if stdout != form {
			t.Errorf("%s:\n%s, want\n%s", uri, stdout, form)
		}
		checkBuilt(t, dir, output)
	}
}

// checkBuilt compares the ramdisks of an image with the shared ones, and looks at
// its metadata.
func checkBuilt(t *testing.T, dir, name string) {
	t.Helper()
	im, f, err := openImage(cli.System(), name)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for n, i := range im.Ramdisks() {
		want, err := os.ReadFile(filepath.Join(dir, "ramdisks", []string{"bootstrap.cpio", "app-1.cpio", "none"}[min(n, 2)]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(im.Section(i))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: ramdisk %d of %d bytes is not the shared one of %d bytes, %v", name, n, len(got), len(want), err)
		}
	}
	build := eif.BuildMetadata{BuildTime: "2026-11-20T00:00:00.000000000+00:00", BuildTool: "nitro-cli", OperatingSystem: "Linux", KernelVersion: "4.14.256"}
	if md := im.Metadata(); md == nil || md.BuildMetadata.BuildTime != build.BuildTime || md.BuildMetadata.BuildTool != build.BuildTool ||
		md.BuildMetadata.OperatingSystem != build.OperatingSystem || md.BuildMetadata.KernelVersion != build.KernelVersion ||
		len(md.ImageVersion) != 64 || string(md.CustomMetadata) != "null" {
		t.Errorf("%s: metadata %+v", name, md)
	}
}

// tarFolder packs a folder.
func tarFolder(t *testing.T, folder, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(relative), Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNitroSource: what is a path, and what an image in a registry.
func TestNitroSource(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, folder := range []string{"app", "layout"} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"image.tar", "layout/oci-layout", "app/Dockerfile"} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{
		"image.tar": "", "layout": "", "./app": "", "./absent": "", "../app": "", ".": "", here: "", "dir:app": "", "tar:x": "", "oci:x": "", "docker-archive:x": "",
		"registry:x": "", "docker://x": "",
		"app": "registry:app", "app:1.4": "registry:app:1.4", "absent.tar": "registry:absent.tar", "localhost:5000/a@sha256:00": "registry:localhost:5000/a@sha256:00",
	} {
		if want == "" {
			want = uri
		}
		if got := nitroSource(uri); got != want {
			t.Errorf("%s: %s", uri, got)
		}
	}
}

// TestNitroBuildWithArguments: name, version and custom metadata, and the folder for
// what is made on the way, which is empty afterwards.
func TestNitroBuildWithArguments(t *testing.T) {
	dir, _ := sharedImages(t)
	blobs, work := sharedBlobs(t, dir), t.TempDir()
	saved, output, custom := filepath.Join(work, "saved.tar"), filepath.Join(work, "a.eif"), filepath.Join(work, "custom.json")
	reference, err := name.ParseReference("example.com/team/app:1.4")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(saved, reference, sharedContainer(t, dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(custom, []byte(`{"b": 1, "BuildTime": "not the real one"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	artifacts := filepath.Join(work, "new", "artifacts")
	var out, errs bytes.Buffer
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: validityClock,
		Getenv: func(name string) string {
			return map[string]string{"NITRO_CLI_BLOBS": blobs, "NITRO_CLI_ARTIFACTS": artifacts}[name]
		}}
	code := run([]string{nitrocli.Name, "build-enclave", "--docker-uri=" + saved, "--output-file=" + output, "--name=orders", "--version=1.4", "--metadata=" + custom}, env)
	if code != 0 {
		t.Fatalf("%d %s", code, &errs)
	}
	if !strings.Contains(errs.String(), "USER") || !strings.Contains(errs.String(), "WORKDIR") {
		t.Errorf("not warned of what nitro-cli ignores: %s", &errs)
	}
	if left, err := os.ReadDir(artifacts); err != nil || len(left) > 0 {
		t.Errorf("left in the folder for artifacts: %v, %v", left, err)
	}
	if strings.Contains(out.String(), "PCR8") {
		t.Errorf("unsigned: %s", &out)
	}
	_, described, _ := nitro(validityClock, "", "describe-eif", "--eif-path", output)
	for _, line := range []string{`  "ImageName": "orders",`, `  "ImageVersion": "1.4",`, `    "b": 1`, `    "BuildTime": "2026-11-20T00:00:00.000000000+00:00",`, `  "IsSigned": false,`} {
		if !strings.Contains(described, line+"\n") {
			t.Errorf("no %s in\n%s", line, described)
		}
	}
	if strings.Contains(described, "not the real one") {
		t.Errorf("forged:\n%s", described)
	}
}

// TestNitroBuildRefused: the code of each cause, and no file.
func TestNitroBuildRefused(t *testing.T) {
	dir, _ := sharedImages(t)
	blobs, work := sharedBlobs(t, dir), t.TempDir()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	good, large, bad, key := filepath.Join(work, "good.tar"), filepath.Join(work, "large"), filepath.Join(work, "bad"), filepath.Join(work, "key.pem")
	reference, err := name.ParseReference("example.com/team/app:1.4")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(good, reference, sharedContainer(t, dir)); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{large: strings.Repeat(" ", 4097), bad: "{"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys := filepath.Join(dir, "keys")
	putFile(t, filepath.Join(keys, "p384.key.pem"), key)
	aarch64, incomplete := t.TempDir(), t.TempDir()
	for _, file := range []string{"init", "cmdline"} {
		putFile(t, filepath.Join(blobs, file), filepath.Join(aarch64, file))
	}
	putFile(t, filepath.Join(dir, "inputs", "kernel-aarch64"), filepath.Join(aarch64, "Image"))
	putFile(t, filepath.Join(blobs, "cmdline"), filepath.Join(incomplete, "cmdline"))
	output := filepath.Join(work, "out.eif")
	for what, c := range map[string]struct {
		code  int
		blobs string
		args  []string
	}{
		"nothing at a path":               {50, blobs, []string{"--docker-uri", filepath.Join(work, "absent")}},
		"no such image":                   {50, blobs, []string{"--docker-uri", host + "/team/absent:1"}},
		"no name of an image":             {50, blobs, []string{"--docker-uri", "UPPER case"}},
		"no archive":                      {50, blobs, []string{"--docker-uri", bad}},
		"an image for another processor":  {50, aarch64, []string{"--docker-uri", good}},
		"a tree without a command":        {48, blobs, []string{"--docker-uri", filepath.Join(dir, "ramdisks", "app-2.tar")}},
		"no kernel":                       {48, incomplete, []string{"--docker-uri", good}},
		"no blobs":                        {19, work, []string{"--docker-uri", good}},
		"metadata that are too large":     {48, blobs, []string{"--docker-uri", good, "--metadata", large}},
		"metadata that are no JSON":       {48, blobs, []string{"--docker-uri", good, "--metadata", bad}},
		"metadata that are not there":     {48, blobs, []string{"--docker-uri", good, "--metadata", filepath.Join(work, "absent")}},
		"a key that does not fit":         {60, blobs, []string{"--docker-uri", good, "--private-key", key, "--signing-certificate", filepath.Join(keys, "p256.crt.pem")}},
		"a certificate that is none":      {60, blobs, []string{"--docker-uri", good, "--private-key", key, "--signing-certificate", good}},
		"a key that is not there":         {60, blobs, []string{"--docker-uri", good, "--private-key", filepath.Join(work, "absent"), "--signing-certificate", filepath.Join(keys, "p384.crt.pem")}},
		"a Dockerfile":                    {49, blobs, []string{"--docker-uri", good, "--docker-dir", work}},
		"no folder for the output":        {19, blobs, []string{"--docker-uri", good, "--output-file", filepath.Join(work, "absent", "x.eif")}},
		"a folder in place of the output": {19, blobs, []string{"--docker-uri", good, "--output-file", dir}},
	} {
		args := append([]string{"build-enclave"}, c.args...)
		if !strings.Contains(strings.Join(args, " "), "--output-file") {
			args = append(args, "--output-file", output)
		}
		code, stdout, stderr := nitro(validityClock, c.blobs, args...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, fmt.Sprintf("[ E%d ] ", c.code)) || strings.Contains(stderr, "successfully") {
			t.Errorf("%s: exit status %d, want %d\n%s%s", what, code, c.code, stdout, stderr)
		}
		if _, err := os.Stat(output); err == nil {
			t.Fatalf("%s: there is a file", what)
		}
	}
	if left, err := filepath.Glob(filepath.Join(work, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
