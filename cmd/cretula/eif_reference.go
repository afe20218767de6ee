// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/pcr"
)

// referenceFlags are the flags of "eif reference".
type referenceFlags struct {
	name, addTo, end, at string
}

func newEIFReferenceCommand(env *cli.Env) *cobra.Command {
	var f referenceFlags
	cmd := &cobra.Command{
		Use:   "reference IMAGE...",
		Short: "Write the reference values by which a verifier knows these images",
		Long: `Print a file of reference values, as 'cretula attestation verify --reference' takes
it: each image is a release, with its PCR0, PCR1 and PCR2, and with PCR8 if it is
signed. A release is called as the image file is, without .eif. With --name all images
are one release of that name, such as those for two architectures.

--add-to adds the releases to a file, or makes it; whoever reads it sees the old or
the new content. A release that is in it as it would be written is not added again.
With --end a release of that file is accepted until now, or --at, and stays in it, so
that its old documents still have a name; there need be no IMAGE then. An end is never
moved to later.

An image that is malformed, or whose signature is no good now, is refused, and nothing
is written.`,
		Example: `  $ cretula eif reference app-1.4.2.eif >releases.json
  $ cretula eif reference --name "app 1.4.3" --add-to releases.json x86.eif arm.eif
  $ cretula eif reference --end app-1.4.2 --add-to releases.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && f.end == "" {
				return cli.WithHint(cli.Usagef("IMAGE is missing"), "see '%s --help'", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return referenceEIF(cmd.Context(), env, f, args)
		},
	}
	cmd.Flags().StringVar(&f.name, "name", "", "`NAME` of the one release that all images are of")
	cmd.Flags().StringVar(&f.addTo, "add-to", "", "`FILE` of reference values to add to")
	cmd.Flags().StringVar(&f.end, "end", "", "`NAME` of a release of that file that is to end")
	cmd.Flags().StringVar(&f.at, "at", "", "`TIME` (RFC 3339) of that end; default: now")
	return cmd
}

func referenceEIF(ctx context.Context, env *cli.Env, f referenceFlags, images []string) error {
	end, err := f.check(env, len(images))
	if err != nil {
		return err
	}
	releases, err := measureReleases(ctx, env, f.name, images)
	if err != nil {
		return err
	}
	if f.addTo != "" {
		return changeReleases(env, f, releases, end)
	}
	file, err := reference.Add(nil, releases...)
	if err != nil {
		return explainRelease(err)
	}
	_, err = env.Stdout.Write(file)
	return err
}

// check returns when the release that is to end does.
func (f referenceFlags) check(env *cli.Env, images int) (end time.Time, err error) {
	switch {
	case f.addTo == "-":
		return end, cli.Usagef("--add-to wants a file; without it the values are printed")
	case f.end != "" && f.addTo == "":
		return end, cli.Usagef("--end wants --add-to with the file that the release is in")
	case f.at != "" && f.end == "":
		return end, cli.Usagef("--at wants --end with the name of a release")
	case f.name != "" && images == 0:
		return end, cli.Usagef("--name wants an IMAGE that it is for")
	}
	return atTime(env, f.at)
}

// measureReleases measures the images. name is "" if each is a release of its own.
func measureReleases(ctx context.Context, env *cli.Env, name string, files []string) ([]reference.Image, error) {
	var releases []reference.Image
	var all []pcr.Set
	for _, file := range files {
		m, err := measureSound(ctx, env, file)
		if err != nil {
			return nil, err
		}
		all = append(all, m.Set)
		releases = append(releases, reference.Image{
			Name: strings.TrimSuffix(filepath.Base(file), ".eif"), Sets: []pcr.Set{m.Set},
		})
	}
	if name != "" {
		return []reference.Image{{Name: name, Sets: all}}, nil
	}
	return releases, nil
}

func measureSound(ctx context.Context, env *cli.Env, name string) (pcr.Measurements, error) {
	im, f, err := openImage(env, name)
	if err != nil {
		return pcr.Measurements{}, err
	}
	defer f.Close()
	var m pcr.Measurements
	err = f.throughout(func() error {
		m, err = im.MeasureAt(ctx, env.Now())
		return err
	})
	return m, err
}

// changeReleases ends a release of the file, if one is to, and adds the others.
func changeReleases(env *cli.Env, f referenceFlags, releases []reference.Image, end time.Time) error {
	file, err := readReleases(env, f.addTo, f.end != "")
	if err != nil {
		return err
	}
	if f.end != "" {
		if file, err = reference.End(file, f.end, end); err != nil {
			return inFile(f.addTo, explainRelease(err))
		}
	}
	if file, err = reference.Add(file, releases...); err != nil {
		return inFile(f.addTo, explainRelease(err))
	}
	return durable.Replace(f.addTo, 0o644, func(w *os.File) error {
		_, err := w.Write(file)
		return err
	})
}

// readReleases reads a file of reference values, nil if there is none and there need
// not be one.
func readReleases(env *cli.Env, name string, must bool) ([]byte, error) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && !must {
		return nil, nil
	}
	file, err := env.ReadInput(name, reference.MaxSize)
	if err == nil && len(bytes.TrimSpace(file)) == 0 {
		return nil, cli.WithHint(fmt.Errorf("%s is empty", cli.Printable(name)), "remove it, so that it is made anew")
	}
	return file, err
}

// explainRelease adds what to do about a name or a time.
func explainRelease(err error) error {
	switch {
	case errors.Is(err, reference.ErrExists):
		return cli.WithHint(err, "choose another --name, or remove that release first")
	case errors.Is(err, reference.ErrUnknown):
		return cli.WithHint(err, "names are as in the file, with upper and lower case")
	case errors.Is(err, reference.ErrEnded):
		return cli.WithHint(err, "an end is moved to earlier only: give the image another --name, if it is to be accepted again")
	}
	return err
}
