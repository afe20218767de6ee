// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/pcr"
)

// ProgramPath is where the program is in an image of [BuildImage].
const ProgramPath = "/app/cretula"

// standIns says in an image's metadata what is not there.
const standIns = "kernel, init and nsm.ko are stand-ins: this image can be measured, attested and started by cretula, not booted"

// BuildImage writes an enclave image around one program, which is started with
// the given arguments, and returns its measurements. Kernel, init and driver are
// stand-ins; so says the metadata. The file appears whole or not at all. Equal
// programs give equal images.
func BuildImage(ctx context.Context, path string, program eifbuild.Content, args ...string) (pcr.Measurements, error) {
	note, err := json.Marshal(map[string]string{"Note": standIns})
	if err != nil {
		return pcr.Measurements{}, err
	}
	config := eifbuild.Config{
		Mode:    eifbuild.NitroCLI,
		Arch:    eif.ArchX86_64,
		Kernel:  eifbuild.StandIn("kernel"),
		Init:    eifbuild.StandIn("init"),
		NSMKo:   eifbuild.StandIn("nsm.ko"),
		Entries: []eifbuild.Entry{{Name: ProgramPath[1:], Type: eifbuild.File, Mode: 0o755, Content: program}},
		Cmd:     append([]string{ProgramPath}, args...),
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
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return pcr.Measurements{}, err
	}
	measurements, err := eifbuild.Build(ctx, f, config)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(temporary)
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
