// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A Mode is a way to make ramdisks out of a file tree. docs/formats/eif.md
// describes both.
type Mode uint8

const (
	// Normalised leaves out of the ramdisks what depends on when and where the
	// tree was made: order and times. The program is started as a container
	// runtime would start it.
	Normalised Mode = iota
	// NitroCLI makes the ramdisks that nitro-cli makes of the same tree, byte
	// for byte.
	NitroCLI
)

// String returns "normalised" or "nitro-cli".
func (m Mode) String() string {
	switch m {
	case Normalised:
		return "normalised"
	case NitroCLI:
		return "nitro-cli"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode reads what [Mode.String] writes.
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{Normalised, NitroCLI} {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("eifbuild: unknown mode %q: want %v or %v", s, Normalised, NitroCLI)
}

// ErrIgnoredWorkingDir and ErrIgnoredUser are matched by the error of [Build]
// when the image names a working directory or a user which its init would
// ignore, and [Config] does not say that this may be.
var (
	ErrIgnoredWorkingDir = errors.New("AWS's init starts every program in /")
	ErrIgnoredUser       = errors.New("AWS's init starts every program as root")
)

// ErrNoCommand is matched by the error of [Build] for an image with nothing to
// start.
var ErrNoCommand = errors.New("the image has no command to start")

func malformed(rule, format string, args ...any) error {
	return reason.New(reason.Malformed, "build."+rule, format, args...)
}

func unsupported(rule, format string, args ...any) error {
	return reason.New(reason.Unsupported, "build."+rule, format, args...)
}

// DefaultCmdline returns the kernel command line of AWS's images for an
// architecture.
func DefaultCmdline(arch eif.Arch) string {
	if arch == eif.ArchAArch64 {
		return "reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on root=/dev/ram0"
	}
	return "reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on"
}

// A Config says what an image is made of.
type Config struct {
	Mode   Mode
	Arch   eif.Arch
	Kernel Content
	// Cmdline is the kernel's command line; empty means [DefaultCmdline].
	Cmdline string
	// Init is what the kernel starts, NSMKo the driver that it loads; the zero
	// Content means a kernel that has the driver built in.
	Init, NSMKo Content
	// AWSInit tells that Init is AWS's, or one that reads the files cmd and env
	// as AWS's does, not that of package eifinit. The mode NitroCLI implies it.
	AWSInit bool
	// Entries is the program's file tree, and what follows is what a container
	// image's configuration says of the program. The mode NitroCLI ignores
	// WorkingDir and User, and Entrypoint where there is a Cmd, as nitro-cli
	// does.
	Entries              []Entry
	Entrypoint, Cmd, Env []string
	WorkingDir, User     string
	// IgnoreWorkingDir and IgnoreUser allow a normalised image with AWS's init,
	// which honours neither.
	IgnoreWorkingDir, IgnoreUser bool
	// Metadata goes into the image as it is, times and all.
	Metadata eif.Metadata
	// Note, if not nil, is told in a sentence each what the image does not do as
	// its configuration or tree says.
	Note func(text string)
}

// Build writes an unsigned image of two ramdisks to w and returns its
// measurements. The same Config gives the same bytes, on any machine, any day.
// Refusals of the tree and of how to start it are [*reason.Error] with a rule id
// that begins with "build.".
// Contents are read as they are needed, and never held whole. After an error w
// holds half an image: write to a temporary file and rename it.
func Build(ctx context.Context, w io.WriteSeeker, c Config) (pcr.Measurements, error) {
	if c.Kernel.Size == 0 {
		return pcr.Measurements{}, errors.New("eifbuild: the image needs a kernel")
	}
	if c.Cmdline == "" {
		c.Cmdline = DefaultCmdline(c.Arch)
	}
	if c.Note == nil {
		c.Note = func(string) {}
	}
	metadata, err := c.Metadata.Encode()
	if err != nil {
		return pcr.Measurements{}, err
	}
	bootstrap, application, err := c.ramdisks()
	if err != nil {
		return pcr.Measurements{}, err
	}
	spec := eif.Spec{
		Arch:     c.Arch,
		Kernel:   c.Kernel.source(),
		Cmdline:  c.Cmdline,
		Metadata: metadata,
		Ramdisks: []eif.Source{bootstrap.Source(), application.Source()},
	}
	for _, s := range append(spec.Ramdisks, spec.Kernel) {
		defer s.Reader.(io.Closer).Close()
	}
	m, err := eif.Write(ctx, w, spec)
	if err != nil {
		return pcr.Measurements{}, fmt.Errorf("eifbuild: %w", err)
	}
	return m, nil
}

func (c *Config) ramdisks() (bootstrap, application *Ramdisk, err error) {
	if c.Mode == Normalised {
		return c.normalisedRamdisks()
	}
	if c.Mode != NitroCLI {
		return nil, nil, fmt.Errorf("eifbuild: unknown %v", c.Mode)
	}
	if bootstrap, err = BootstrapRamdisk(c.Init, c.NSMKo); err != nil {
		return nil, nil, err
	}
	cmd := c.Cmd
	if cmd == nil {
		cmd = c.Entrypoint
	} else if len(c.Entrypoint) > 0 {
		c.Note("ENTRYPOINT is ignored: nitro-cli starts CMD alone where an image has both")
	}
	if c.WorkingDir != "" && c.WorkingDir != "/" {
		c.Note(fmt.Sprintf("WORKDIR %s is ignored: %v", c.WorkingDir, ErrIgnoredWorkingDir))
	}
	if c.User != "" && c.User != "root" && c.User != "0" {
		c.Note(fmt.Sprintf("USER %s is ignored: %v", c.User, ErrIgnoredUser))
	}
	application, err = ApplicationRamdisk(c.Entries, cmd, c.Env)
	return bootstrap, application, err
}
