// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/pcr"
)

// ProgramPath is where the program is in an image of [BuildImage].
const ProgramPath = "/app/cretula"

// standIns says in an image's metadata what is not there.
const standIns = "the kernel is a stand-in: this image can be measured, attested and started by cretula, not booted"

// BuildImage writes a normalised enclave image around one program, which is
// started with the given arguments, and returns its measurements. The kernel is a
// stand-in; so says the metadata. The file appears whole or not at all. Equal
// programs give equal images.
func BuildImage(ctx context.Context, path string, program eifbuild.Content, args ...string) (measurements pcr.Measurements, err error) {
	note, err := json.Marshal(map[string]string{"Note": standIns})
	if err != nil {
		return pcr.Measurements{}, err
	}
	config := eifbuild.Config{
		Arch:       eif.ArchX86_64,
		Kernel:     eifbuild.StandIn("kernel"),
		Init:       eifbuild.Bytes(eifinit.Binary(eif.ArchX86_64)),
		Entries:    []eifbuild.Entry{{Name: ProgramPath[1:], Type: eifbuild.File, Mode: 0o755, Content: program}},
		Entrypoint: []string{ProgramPath},
		Cmd:        args,
		User:       "1000:1000", // the program needs no more
		Metadata: eif.Metadata{
			ImageName:    "cretula-demo",
			ImageVersion: "1",
			BuildMetadata: eif.BuildMetadata{
				BuildTime:        "1970-01-01T00:00:00+00:00",
				BuildTool:        "cretula",
				BuildToolVersion: "1",
				OperatingSystem:  "stand-in",
				KernelVersion:    "stand-in",
			},
			CustomMetadata: note,
		},
	}
	err = durable.Replace(path, durable.FileMode, func(f *os.File) (err error) {
		measurements, err = eifbuild.Build(ctx, f, config)
		return err
	})
	if err != nil {
		return pcr.Measurements{}, err
	}
	return measurements, nil
}

// MeasureImage reads and measures an image file that is to be started at a time.
func MeasureImage(ctx context.Context, path string, at time.Time) (pcr.Measurements, error) {
	f, err := os.Open(path)
	if err != nil {
		return pcr.Measurements{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return pcr.Measurements{}, err
	}
	image, err := eif.Parse(f, info.Size())
	if err != nil {
		return pcr.Measurements{}, err
	}
	return image.MeasureAt(ctx, at)
}
