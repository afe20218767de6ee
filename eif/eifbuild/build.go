// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/pcr"
)

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
	Arch   eif.Arch
	Kernel Content
	// Cmdline is the kernel's command line; empty means [DefaultCmdline].
	Cmdline string
	// Init and NSMKo make the bootstrap ramdisk; see [BootstrapRamdisk].
	Init, NSMKo Content
	// Entries is the program's file tree; Cmd and Env start it. See
	// [ApplicationRamdisk].
	Entries  []Entry
	Cmd, Env []string
	// Metadata goes into the image as it is, times and all.
	Metadata eif.Metadata
}

// Build writes an unsigned image of two ramdisks to w and returns its
// measurements. The same Config gives the same bytes, on any machine, any day.
// Contents are read once, as they are needed. After an error w holds half an
// image: write to a temporary file and rename it.
func Build(ctx context.Context, w io.WriteSeeker, c Config) (pcr.Measurements, error) {
	if c.Kernel.Size == 0 {
		return pcr.Measurements{}, errors.New("eifbuild: the image needs a kernel")
	}
	if c.Cmdline == "" {
		c.Cmdline = DefaultCmdline(c.Arch)
	}
	metadata, err := c.Metadata.Encode()
	if err != nil {
		return pcr.Measurements{}, err
	}
	bootstrap, err := BootstrapRamdisk(c.Init, c.NSMKo)
	if err != nil {
		return pcr.Measurements{}, err
	}
	application, err := ApplicationRamdisk(c.Entries, c.Cmd, c.Env)
	if err != nil {
		return pcr.Measurements{}, err
	}
	m, err := eif.Write(ctx, w, eif.Spec{
		Arch:     c.Arch,
		Kernel:   c.Kernel.source(),
		Cmdline:  c.Cmdline,
		Metadata: metadata,
		Ramdisks: []eif.Source{bootstrap.Source(), application.Source()},
	})
	if err != nil {
		return pcr.Measurements{}, fmt.Errorf("eifbuild: %w", err)
	}
	return m, nil
}
