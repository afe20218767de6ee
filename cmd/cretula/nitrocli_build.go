// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/imagebuild"
	"github.com/cretula/cretula/internal/nitrocli"
)

// nitroBuildEnclave builds an image as nitro-cli does, out of a container image that
// needs no Docker to be read.
func nitroBuildEnclave(ctx context.Context, env *cli.Env, call *nitrocli.Call) error {
	signer, err := openNitroSigner(ctx, env, call)
	if err != nil {
		return err
	}
	if signer != nil {
		defer signer.Close()
	}
	fmt.Fprintln(env.Stderr, "Start building the Enclave Image...")
	if call.Given("docker-dir") {
		return nitrocli.Failf(nitrocli.DockerImageBuilding, "cretula builds no Dockerfile: that runs its commands, which takes a container runtime").
			WithHint("docker build -t NAME DIR && docker save -o image.tar NAME, or any other builder; then --docker-uri image.tar without --docker-dir")
	}
	request, err := nitroBuildRequest(env, call)
	if err != nil {
		return err
	}
	if signer != nil {
		request.Signer, request.CertificateFile = signer, signer.certificate
	}
	result, err := imagebuild.Build(ctx, *request)
	if err != nil {
		return nitroFail(nitroBuildCode(signer, err), err)
	}
	warnBuild(env, result)
	fmt.Fprintln(env.Stderr, "Enclave Image successfully created.")
	return nitroPrint(env, nitroMeasurements{result.Measurements})
}

// nitroBuildRequest is what nitro-cli would do with these arguments, in this
// environment, now.
func nitroBuildRequest(env *cli.Env, call *nitrocli.Call) (*imagebuild.Request, error) {
	uri, _ := call.Get("docker-uri")
	request := &imagebuild.Request{
		Source: nitroSource(uri),
		Mode:   eifbuild.NitroCLI,
		// nitro-cli ignores both without a word; a warning comes back.
		IgnoreWorkingDir: true, IgnoreUser: true,
		BuildTime: env.Now().UTC().Format("2006-01-02T15:04:05.000000000+00:00"),
	}
	request.Output, _ = call.Get("output-file")
	request.Name, _ = call.Get("name")
	request.Version, _ = call.Get("version")
	var err error
	if request.Blobs, request.Arch, err = nitroBlobsFolder(env); err != nil {
		return nil, err
	}
	if name, given := call.Get("metadata"); given {
		if request.Custom, err = env.ReadInput(name, imagebuild.MaxCustom); err != nil {
			return nil, nitroFail(nitrocli.ImageBuilding, err)
		}
	}
	if artifacts := env.Getenv("NITRO_CLI_ARTIFACTS"); artifacts != "" {
		if err := os.MkdirAll(artifacts, 0o755); err != nil {
			return nil, nitroFail(nitrocli.FileOperation, err)
		}
		request.Sources.TempDir = artifacts
	}
	return request, nil
}

// nitroBuildCode is the code of a build that failed.
func nitroBuildCode(signer *nitroSigner, err error) nitrocli.Code {
	if signer != nil && signer.failed {
		return nitrocli.ImageSigning
	}
	if _, ok := errors.AsType[*imagebuild.SourceError](err); ok {
		return nitrocli.DockerImagePulling
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nitrocli.FileOperation
	}
	return nitrocli.ImageBuilding
}

// nitroBlobsFolder returns the folder with kernel and init, and the architecture
// that they are for: the name of the kernel says it. A folder with both kernels is
// for this machine, as it always is there.
func nitroBlobsFolder(env *cli.Env) (folder string, arch eif.Arch, err error) {
	folder = env.Getenv("NITRO_CLI_BLOBS")
	if folder == "" {
		folder = imagebuild.DefaultBlobs
	}
	cmdline := filepath.Join(folder, "cmdline")
	if _, err := os.Stat(cmdline); err != nil {
		return "", 0, nitrocli.Failf(nitrocli.FileOperation, "%w", err).
			WithHint("kernel and init are AWS's, in the package aws-nitro-enclaves-cli-devel; NITRO_CLI_BLOBS names the folder where they are")
	}
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(folder, name))
		return err == nil
	}
	arch = eif.ArchX86_64
	if exists("Image") && (runtime.GOARCH == "arm64" || !exists("bzImage")) {
		arch = eif.ArchAArch64
	}
	return folder, arch, nil
}

// nitroSource makes a source of what --docker-uri names: an image in a registry, as
// there, or the path of a file or an OCI layout. Other folders have to look like a
// path, since many are called like the image that is made of them.
func nitroSource(uri string) string {
	for _, prefix := range []string{"dir:", "tar:", "oci:", "docker-archive:", "registry:", "docker://"} {
		if strings.HasPrefix(uri, prefix) {
			return uri
		}
	}
	if filepath.IsAbs(uri) || strings.HasPrefix(uri, ".") {
		return uri
	}
	info, err := os.Stat(uri)
	if err == nil && info.IsDir() {
		_, err = os.Stat(filepath.Join(uri, "oci-layout"))
	}
	if err == nil {
		return uri
	}
	return "registry:" + uri
}
