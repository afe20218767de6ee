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

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/pcr"
)

func newEIFReferenceCommand(env *cli.Env) *cobra.Command {
	var name, addTo string
	cmd := &cobra.Command{
		Use:   "reference IMAGE...",
		Short: "Write the reference values by which a verifier knows these images",
		Long: `Print a file of reference values, as 'cretula attestation verify --reference' takes
it: each image is a release, with its PCR0, PCR1 and PCR2, and with PCR8 if it is
signed. A release is called as the image file is, without .eif. With --name all images
are one release of that name, such as those for two architectures.

--add-to adds the releases to a file, or makes it; whoever reads it sees the old or
the new content. A release that is in it as it would be written is not added again.

An image that is malformed, or whose signature is no good now, is refused, and nothing
is written.`,
		Example: `  $ cretula eif reference app-1.4.2.eif >releases.json
  $ cretula eif reference --name "app 1.4.3" --add-to releases.json x86.eif arm.eif`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.WithHint(cli.Usagef("IMAGE is missing"), "see '%s --help'", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if addTo == "-" {
				return cli.Usagef("--add-to wants a file; without it the values are printed")
			}
			releases, err := measureReleases(cmd.Context(), env, name, args)
			if err != nil {
				return err
			}
			if addTo != "" {
				return addReleases(env, addTo, releases)
			}
			file, err := reference.Add(nil, releases...)
			if err != nil {
				return explainRelease(err)
			}
			_, err = env.Stdout.Write(file)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`NAME` of the one release that all images are of")
	cmd.Flags().StringVar(&addTo, "add-to", "", "`FILE` of reference values to add to")
	return cmd
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

func addReleases(env *cli.Env, name string, releases []reference.Image) error {
	var old []byte
	switch _, err := os.Stat(name); {
	case err == nil:
		if old, err = env.ReadInput(name, reference.MaxSize); err != nil {
			return err
		}
		if len(bytes.TrimSpace(old)) == 0 {
			return cli.WithHint(fmt.Errorf("%s is empty", cli.Printable(name)), "remove it, so that it is made anew")
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	file, err := reference.Add(old, releases...)
	if err != nil {
		return inFile(name, explainRelease(err))
	}
	return durable.Replace(name, 0o644, func(f *os.File) error {
		_, err := f.Write(file)
		return err
	})
}

// explainRelease adds what to do about a name.
func explainRelease(err error) error {
	if errors.Is(err, reference.ErrExists) {
		return cli.WithHint(err, "choose another --name, or remove that release first")
	}
	return err
}
