// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/imagebuild"
	"github.com/cretula/cretula/pcr"
)

// buildFlags are the flags of "eif build".
type buildFlags struct {
	request     imagebuild.Request
	mode, arch  string
	metadata    string
	key         keyFlags
	certificate certificateFlags
	json        bool
}

func newEIFBuildCommand(env *cli.Env) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build SOURCE",
		Short: "Build an image from a folder, a tarball, a container image or a registry",
		Long: `Build an enclave image, without Docker, on any system. SOURCE is a path to a folder,
a tarball of a root file system, an OCI layout, or what "docker save" writes; or,
with registry: before it, an image in a registry, read with the credentials that
docker and podman have.

Mode normalised (the default) leaves out what depends on when and where the source
was made: entries are sorted, times are one and the same, owners of a plain folder
are 0:0. The program starts as with a container runtime: ENTRYPOINT and CMD joined,
WORKDIR, USER and ENV honoured, by an init that is part of cretula. --init takes
AWS's init instead, which ignores WORKDIR and USER. Mode nitro-cli makes the
ramdisks that nitro-cli makes, byte for byte, for policies that name its registers.

The kernel is yours to bring: --blobs or NITRO_CLI_BLOBS names the folder with AWS's
bzImage (aarch64: Image), init, nsm.ko and cmdline, as nitro-cli is installed with.

Equal inputs give equal bytes: the build time is 1970 unless --build-time or
SOURCE_DATE_EPOCH says another. The file appears whole or not at all.`,
		Example: `  $ cretula eif build ./rootfs -o app.eif --cmd /app --cmd serve
  $ cretula eif build registry:ghcr.io/example/app@sha256:… -o app.eif --check-reproducible
  $ cretula eif build app.tar -o app.eif --mode nitro-cli --blobs /usr/share/nitro_enclaves/blobs
  $ cretula eif build app.tar -o app.eif --key key.pem --certificate cert.pem`,
		Args: exactArguments("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.request.Source = args[0]
			return f.run(cmd.Context(), env)
		},
	}
	f.register(cmd)
	return cmd
}

func (f *buildFlags) register(cmd *cobra.Command) {
	flags, r := cmd.Flags(), &f.request
	flags.StringVarP(&r.Output, "output", "o", "", "the image `FILE` to write")
	flags.StringVar(&f.mode, "mode", eifbuild.Normalised.String(), "how ramdisks are made: normalised or nitro-cli")
	flags.StringVar(&f.arch, "arch", eif.ArchX86_64.String(), "x86_64 or aarch64")

	flags.StringVar(&r.Blobs, "blobs", "", "`DIR` with kernel, init, nsm.ko and cmdline (default NITRO_CLI_BLOBS, else "+imagebuild.DefaultBlobs+")")
	flags.StringVar(&r.Kernel, "kernel", "", "kernel `FILE`")
	flags.StringVar(&r.KernelConfig, "kernel-config", "", "its configuration `FILE`, for the metadata")
	flags.StringVar(&r.Cmdline, "cmdline", "", "the kernel's command line (default that of the blobs, else AWS's)")
	flags.StringVar(&r.Init, "init", "", "init `FILE` that works like AWS's")
	flags.StringVar(&r.NSMKo, "nsm-ko", "", "NSM driver `FILE`")
	flags.BoolVar(&r.StandIns, "allow-stand-in-kernel", false, "without a kernel, make an image that cretula can measure and start, but that does not boot")

	o := &r.Override
	flags.StringArrayVar(&o.Entrypoint, "entrypoint", nil, "ENTRYPOINT, one `ARG` each time; drops the source's CMD")
	flags.StringArrayVar(&o.Cmd, "cmd", nil, "CMD, one `ARG` each time")
	flags.StringArrayVar(&o.Env, "env", nil, "add `NAME=VALUE` to ENV; the image holds it in the clear")
	flags.StringVar(&o.WorkingDir, "workdir", "", "WORKDIR")
	flags.StringVar(&o.User, "user", "", "`USER` or UID, or USER:GROUP")
	flags.BoolVar(&r.IgnoreWorkingDir, "allow-ignored-workdir", false, "with AWS's init, start in / whatever WORKDIR says")
	flags.BoolVar(&r.IgnoreUser, "allow-ignored-user", false, "with AWS's init, start as root whatever USER says")

	flags.StringVar(&r.Name, "name", "", "ImageName of the metadata")
	flags.StringVar(&r.Version, "version", "", "ImageVersion of the metadata")
	flags.StringVar(&f.metadata, "metadata", "", "JSON `FILE` with custom metadata, up to 4096 bytes")
	flags.StringVar(&r.BuildTime, "build-time", "", "BuildTime of the metadata, RFC 3339 (default SOURCE_DATE_EPOCH, else 1970)")

	flags.StringVar(&r.Sources.TempDir, "temp-dir", "", "`DIR` for layers unpacked, which can be large (default the system's)")
	flags.BoolVar(&r.Sources.PlainHTTP, "insecure-registry", false, "ask registries without TLS if they do not answer with it; a network in between can then read the image, and choose another for a tag")

	f.key.register(cmd)
	f.certificate.register(cmd)
	flags.BoolVar(&r.CheckReproducible, "check-reproducible", false, "build a second time from the source and compare the unsigned images")
	flags.BoolVar(&f.json, "json", false, "print the measurements as nitro-cli build-enclave does")
}

func (f *buildFlags) run(ctx context.Context, env *cli.Env) error {
	if err := f.complete(env); err != nil {
		return err
	}
	r := f.request
	if f.key.key != "" || f.certificate.file != "" {
		if f.key.key == "" {
			return cli.WithHint(cli.Usagef("--key is missing"), "it is the private key of --certificate")
		}
		certificate, _, err := f.certificate.read(env)
		if err != nil {
			return err
		}
		signer, closer, err := f.key.open(ctx, env)
		if err != nil {
			return err
		}
		defer closer.Close()
		r.Signer, r.CertificateFile = signer, certificate
	}
	progress := newProgressLine(env)
	r.Progress = progress.show
	result, err := imagebuild.Build(ctx, r)
	progress.clear()
	if err != nil {
		return f.hint(err)
	}
	warnBuild(env, result)
	if f.json {
		return env.PrintJSON(struct{ Measurements pcr.Measurements }{result.Measurements})
	}
	return printBuilt(env, &r, result)
}

// hint names the flag that helps against an error.
func (f *buildFlags) hint(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return cli.WithHint(err, "--temp-dir DIR names a folder with more room for what is unpacked; the image itself is made beside -o")
	}
	refusal, ok := reasonError(err)
	if !ok {
		return err
	}
	switch refusal.Rule() {
	case "rootfs.registry.plain-http":
		return cli.WithHint(err, "--insecure-registry asks it without TLS; name the image by its digest then")
	case "rootfs.arch":
		return cli.WithHint(err, "--arch says what the enclave's machine is: x86_64 or aarch64")
	}
	return hintKey(err)
}

// complete reads what is in files and in the environment.
func (f *buildFlags) complete(env *cli.Env) (err error) {
	r := &f.request
	switch r.Output {
	case "":
		return cli.WithHint(cli.Usagef("-o is missing"), "it names the image to write")
	case "-":
		return cli.WithHint(cli.Usagef("an image cannot be written to standard output"), "name a file: it appears there whole or not at all")
	}
	if r.Mode, err = eifbuild.ParseMode(f.mode); err != nil {
		return cli.Usagef("--mode: want normalised or nitro-cli, not %q", f.mode)
	}
	if r.Arch, err = eif.ParseArch(f.arch); err != nil {
		return cli.Usagef("--arch: want x86_64 or aarch64, not %q", f.arch)
	}
	if r.Blobs == "" {
		r.Blobs = env.Getenv("NITRO_CLI_BLOBS")
	}
	if r.Blobs == "" {
		if _, err := os.Stat(imagebuild.DefaultBlobs); !errors.Is(err, fs.ErrNotExist) {
			r.Blobs = imagebuild.DefaultBlobs
		}
	}
	if f.metadata != "" {
		if r.Custom, err = env.ReadInput(f.metadata, imagebuild.MaxCustom); err != nil {
			return err
		}
	}
	if r.BuildTime == "" {
		r.BuildTime, err = imagebuild.BuildTimeOf(env.Getenv("SOURCE_DATE_EPOCH"))
		return err
	}
	if _, err := time.Parse(time.RFC3339, r.BuildTime); err != nil {
		return cli.WithHint(cli.Usagef("--build-time %q is no time", r.BuildTime), "as in 2026-11-20T18:00:00Z")
	}
	return nil
}

// maxWarnings bounds what is printed; a source may have lost as many extended
// attributes as it has files.
const maxWarnings = 20

func warnBuild(env *cli.Env, result *imagebuild.Result) {
	for i, w := range result.Warnings {
		if i == maxWarnings {
			fmt.Fprintf(env.Stderr, "cretula: warning: and %d more\n", len(result.Warnings)-i)
			break
		}
		fmt.Fprintf(env.Stderr, "cretula: warning: %s\n", cli.Printable(w))
	}
	for _, part := range result.StandIns {
		fmt.Fprintf(env.Stderr, "cretula: warning: the image has no %s: it can be measured, and started by cretula, but DOES NOT BOOT in an enclave\n", part)
	}
}

func printBuilt(env *cli.Env, r *imagebuild.Request, result *imagebuild.Result) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "built     %s  %.1f MB, %v, %v\n", cli.Printable(r.Output), float64(result.Size)/1e6, r.Arch, r.Mode)
	m := result.Metadata.BuildMetadata
	if len(result.StandIns) == 0 {
		fmt.Fprintf(&b, "kernel    %s %s\n", cli.Printable(m.OperatingSystem), cli.Printable(m.KernelVersion))
	}
	if result.Reproduced {
		fmt.Fprintf(&b, "compared  built twice from the source: the same bytes%s\n", map[bool]string{true: " but for the signature"}[r.Signer != nil])
	}
	addRegisters(&b, result.Measurements)
	_, err := env.Stdout.Write(b.Bytes())
	return err
}
