// SPDX-License-Identifier: Apache-2.0

// Package imagebuild builds enclave images out of container images and file
// trees: it fetches the tree, finds kernel and init, writes the image whole or
// not at all, and signs it. It is what `cretula eif build` and `cretula nitro-cli
// build-enclave` have in common.
package imagebuild

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/pcr"
)

// A Request says what to build. Source and Output are required.
type Request struct {
	// Source is a folder, a tarball of a root filesystem, an OCI layout, an
	// archive of "docker save", or an image in a registry, as package rootfs
	// tells them apart.
	Source string
	// Output is the file to write. It is replaced when the new image is
	// complete, and not touched before.
	Output string
	Mode   eifbuild.Mode
	// Arch is wanted: of an image for several architectures the one to take, of a
	// folder or tarball, which do not say, what it is for. HasArch false: that of
	// the source, and x86_64 where the source does not say.
	Arch    eif.Arch
	HasArch bool

	// Blobs is the folder with AWS's kernel, init, driver and command line; see
	// [FindBlobs]. The files named one by one come before those of the folder.
	Blobs                             string
	Kernel, KernelConfig, Init, NSMKo string
	// Cmdline is the kernel's command line itself.
	Cmdline string
	// StandInKernel allows an image that has no kernel and so does not boot, but
	// can be measured, and started by package launch.
	StandInKernel bool
	// IgnoreWorkingDir and IgnoreUser are those of [eifbuild.Config].
	IgnoreWorkingDir, IgnoreUser bool

	// Override replaces what the source's configuration says.
	Override Override

	// Name and Version go into the metadata; empty means what nitro-cli would
	// put there. Custom is any JSON of up to 4096 bytes.
	Name, Version string
	Custom        json.RawMessage
	// BuildTime goes into the metadata as it is; empty means 1970, so that equal
	// inputs give equal images.
	BuildTime string

	// Signer and CertificateFile (PEM) sign the image; nil: unsigned.
	Signer          crypto.Signer
	CertificateFile []byte

	// CheckReproducible builds a second time from the source and compares the
	// whole unsigned images.
	CheckReproducible bool
	// Progress, if not nil, is told how far a stage is. total is 0 where nobody
	// knows it.
	Progress func(stage string, done, total int64)
}

// An Override replaces parts of a container image's configuration, or gives a
// folder one. Nil slices and empty strings leave the source's. As with container
// runtimes, an Entrypoint without a Cmd drops the source's Cmd. Env is added, a
// name that is there already gets the new value.
type Override struct {
	Entrypoint, Cmd, Env []string
	WorkingDir, User     string
}

// A Result is what came of a build.
type Result struct {
	Measurements pcr.Measurements
	Metadata     eif.Metadata
	// Size is that of the file in bytes.
	Size int64
	// StandIns are the parts which the image lacks: it does not boot.
	StandIns []string
	// Warnings are sentences for whoever built the image.
	Warnings []string
	// Reproduced tells that the image was built a second time and came out the
	// same.
	Reproduced bool
}

// Build builds an image. An error leaves no file, and an older image as it was.
func Build(ctx context.Context, r Request) (*Result, error) {
	return nil, errors.New("imagebuild: nothing can be built")
}
