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
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/rootfs"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A Request says what to build. Source and Output are required.
type Request struct {
	// Source is a folder, a tarball of a root filesystem, an OCI layout, an
	// archive of "docker save", or an image in a registry, as [rootfs.Open]
	// tells them apart.
	Source string
	// Output is the file to write. It is replaced when the new image is
	// complete, and not touched before.
	Output string
	Mode   eifbuild.Mode
	// Arch is what the image is for. An image for several architectures has the
	// right one taken.
	Arch eif.Arch

	// Blobs is the folder with AWS's kernel, init, driver and command line, as
	// nitro-cli finds them in NITRO_CLI_BLOBS; or one with a folder for each
	// architecture, as AWS's repository has them. The files named one by one come
	// before those of the folder. Empty: only those.
	Blobs                             string
	Kernel, KernelConfig, Init, NSMKo string
	// Cmdline is the kernel's command line itself.
	Cmdline string
	// StandIns allows an image that has no kernel (and, in mode NitroCLI, no
	// init) and so does not boot, but can be measured, and started by package
	// launch.
	StandIns bool
	// IgnoreWorkingDir and IgnoreUser are those of [eifbuild.Config].
	IgnoreWorkingDir, IgnoreUser bool

	// Override replaces what the source's configuration says.
	Override Override

	// Name and Version go into the metadata; empty means the name of the image
	// in its registry and the image's id, as with nitro-cli. Custom is any JSON
	// of up to 4096 bytes.
	Name, Version string
	Custom        json.RawMessage
	// BuildTime goes into the metadata as it is; empty means [DefaultBuildTime].
	BuildTime string

	// Signer and CertificateFile (PEM) sign the image; nil: unsigned.
	Signer          crypto.Signer
	CertificateFile []byte

	// CheckReproducible builds a second time, from the source read again, and
	// compares the whole unsigned images: signatures by tokens and services are
	// never the same twice.
	CheckReproducible bool
	// Sources are further options for reading the source. Arch and Progress are
	// set by Build.
	Sources rootfs.Options
	// Progress, if not nil, is told how far a stage is, in bytes. total is 0
	// where nobody knows it.
	Progress func(stage string, done, total int64)
}

// The stages that [Request.Progress] is told of.
const (
	StageRead    = "reading the source"
	StageWrite   = "writing the image"
	StageCompare = "building again"
	StageSign    = "signing"
)

// An Override replaces parts of a container image's configuration, or gives a
// folder one. Nil slices and empty strings leave the source's. As with container
// runtimes, an Entrypoint without a Cmd drops the source's Cmd. Env is added; a
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

// A SourceError says that the source cannot be opened.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }

func (e *SourceError) Unwrap() error { return e.Err }

// Build builds an image. An error leaves no file, and an older image as it was.
// Refusals of the source are [*reason.Error] in a [*SourceError]; some errors have
// the hint of package cli.
func Build(ctx context.Context, r Request) (*Result, error) {
	if (r.Signer == nil) != (r.CertificateFile == nil) {
		return nil, errors.New("imagebuild: a signature needs a key and a certificate")
	}
	if r.Progress == nil {
		r.Progress = func(string, int64, int64) {}
	}
	if r.Signer != nil {
		certificate, err := pcr.SigningCertificate(r.CertificateFile)
		if err != nil {
			return nil, err
		}
		if err := eif.CheckSigner(certificate, r.Signer); err != nil {
			return nil, err
		}
	}
	parts, err := r.findParts()
	if err != nil {
		return nil, err
	}
	if err := r.checkOutput(); err != nil {
		return nil, err
	}
	folder, err := r.sourceFolder()
	if err != nil {
		return nil, err
	}
	b := &build{Request: r, parts: parts, folder: folder, result: &Result{StandIns: parts.standIns, Warnings: parts.warnings}}
	if err := b.run(ctx); err != nil {
		return nil, err
	}
	return b.result, nil
}

// A build is one call of [Build].
type build struct {
	Request
	parts  *parts
	folder bool
	result *Result
}

func (b *build) run(ctx context.Context) error {
	root, config, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	config.Note = b.warn
	for _, lost := range root.Lost {
		b.warn("not in the image: " + lost)
	}
	b.result.Metadata = config.Metadata
	return durable.Replace(b.Output, 0o644, func(f *os.File) error {
		if b.Signer == nil {
			return b.unsigned(ctx, f, config)
		}
		unsigned, err := os.CreateTemp(filepath.Dir(b.Output), "."+filepath.Base(b.Output)+".*.tmp")
		if err != nil {
			return err
		}
		defer os.Remove(unsigned.Name())
		defer unsigned.Close()
		if err := b.unsigned(ctx, unsigned, config); err != nil {
			return err
		}
		return b.sign(ctx, f, unsigned)
	})
}

func (b *build) warn(text string) { b.result.Warnings = append(b.result.Warnings, text) }

// open reads the source, and makes the configuration of the image out of it.
func (b *build) open(ctx context.Context) (*rootfs.Root, eifbuild.Config, error) {
	o := b.Sources
	o.Arch = b.Arch
	o.Progress = func(read, total int64) { b.Progress(StageRead, read, total) }
	root, err := rootfs.Open(ctx, b.Source, o)
	if err != nil {
		return nil, eifbuild.Config{}, &SourceError{err}
	}
	metadata, err := b.metadata(root)
	if err != nil {
		root.Close()
		return nil, eifbuild.Config{}, err
	}
	if b.folder && root.ID == "" {
		b.ownByRoot(root.Entries)
	}
	entries := root.Entries
	if b.Mode == eifbuild.NitroCLI {
		if entries, err = root.DockerExport(); err != nil {
			root.Close()
			return nil, eifbuild.Config{}, &SourceError{err}
		}
	}
	program := b.Override.apply(root.Config)
	return root, eifbuild.Config{
		Mode:             b.Mode,
		Arch:             b.Arch,
		Kernel:           b.parts.kernel,
		Cmdline:          b.parts.cmdline,
		Init:             b.parts.init,
		NSMKo:            b.parts.nsmKo,
		AWSInit:          b.parts.awsInit,
		Entries:          entries,
		Entrypoint:       program.Entrypoint,
		Cmd:              program.Cmd,
		Env:              program.Env,
		WorkingDir:       program.WorkingDir,
		User:             program.User,
		IgnoreWorkingDir: b.IgnoreWorkingDir,
		IgnoreUser:       b.IgnoreUser,
		Metadata:         metadata,
	}, nil
}

// ownByRoot gives all entries the owner 0:0. A set-id program of somebody else
// becomes one of root by that, which nobody asked for: a warning says so.
func (b *build) ownByRoot(entries []eifbuild.Entry) {
	const setID = 0o6000
	for i := range entries {
		e := &entries[i]
		if e.Type == eifbuild.File && e.Mode&setID != 0 && (e.UID != 0 || e.GID != 0) {
			text := fmt.Sprintf("/%s has mode %04o and gets the owner 0:0, as all of a folder: it will run with root's rights", e.Name, e.Mode)
			if !slices.Contains(b.result.Warnings, text) { // said when the source was read before
				b.warn(text)
			}
		}
		e.UID, e.GID = 0, 0
	}
}

// unsigned writes the unsigned image, and makes sure, if that is wanted, that it
// comes out the same once more.
func (b *build) unsigned(ctx context.Context, f *os.File, config eifbuild.Config) (err error) {
	b.result.Measurements, err = eifbuild.Build(ctx, b.follow(f, StageWrite, config), config)
	if err != nil {
		return b.explain(err)
	}
	if b.result.Size, err = f.Seek(0, 1); err != nil || !b.CheckReproducible {
		return err
	}
	again, config, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer again.Close()
	compare := &comparison{file: f}
	if _, err := eifbuild.Build(ctx, b.follow(compare, StageCompare, config), config); err != nil {
		return b.explain(err)
	}
	if err := compare.finish(b.result.Size); err != nil {
		return err
	}
	b.result.Reproduced = true
	return nil
}

// explain adds what can be done about an error.
func (b *build) explain(err error) error {
	switch {
	case errors.Is(err, eifbuild.ErrIgnoredWorkingDir):
		return cli.WithHint(err, "leave out --init: cretula's own init starts it there; or --allow-ignored-workdir")
	case errors.Is(err, eifbuild.ErrIgnoredUser):
		return cli.WithHint(err, "leave out --init: cretula's own init starts it so; or --allow-ignored-user")
	case errors.Is(err, eifbuild.ErrNoCommand):
		return cli.WithHint(err, "name it with --entrypoint or --cmd")
	}
	return err
}

// sign copies the unsigned image with its signature.
func (b *build) sign(ctx context.Context, f, unsigned *os.File) error {
	b.Progress(StageSign, 0, b.result.Size)
	pcr0, _ := b.result.Measurements.Get(0)
	section, err := eif.SignSection(ctx, b.CertificateFile, pcr0, b.Signer, nil)
	if err != nil {
		return err
	}
	im, err := eif.Parse(unsigned, b.result.Size)
	if err != nil {
		return err
	}
	m, err := im.WriteSigned(ctx, f, section)
	if err != nil {
		return err
	}
	if got, _ := m.Get(0); got != pcr0 {
		return reason.New(reason.Mismatch, "imagebuild.changed", "the image changed while it was signed")
	}
	b.result.Measurements = m
	b.result.Size, err = f.Seek(0, 1)
	return err
}
