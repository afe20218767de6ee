// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

func newEIFExtractCommand(env *cli.Env) *cobra.Command {
	var dir, only string
	cmd := &cobra.Command{
		Use:   "extract FILE -C DIR",
		Short: "Write an image's sections and the files of its ramdisks into a folder",
		Long: `Write what is in an image into a folder that is empty or does not exist:

  kernel, cmdline, metadata.json         the sections as they are
  signature.cbor, certificate.pem        of a signed image
  ramdisk-1.img                          each ramdisk as it is
  tree-1/                                each ramdisk's files
  list-1.jsonl                           each ramdisk's entries, one JSON object a line

Nothing is written outside of the folder, and no link is followed: a ramdisk with
names that lead out of it or through its own symbolic links is refused. Owners,
times, set-id and sticky bits are only in the lists, as are devices and pipes.

What is written is in DIR/.cretula-partial until all of it is complete. The file
must be well-formed and its checksum right. A signature need not be good; if it is
not, a line on standard error says so.`,
		Example: "  $ cretula eif extract app.eif -C app",
		Args:    exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			parts := contents.Parts{Sections: only != "trees", Trees: only != "sections"}
			switch {
			case dir == "":
				return cli.WithHint(cli.Usagef("-C DIR is missing"), "see '%s --help'", cmd.CommandPath())
			case only != "" && parts.Sections && parts.Trees:
				return cli.Usagef("--only is %q: want sections or trees", only)
			}
			return extractEIF(cmd.Context(), env, args[0], dir, parts)
		},
	}
	cmd.Flags().StringVarP(&dir, "directory", "C", "", "the `folder` to write into")
	cmd.Flags().StringVar(&only, "only", "", "write only the `kind`: sections or trees")
	return cmd
}

func extractEIF(ctx context.Context, env *cli.Env, name, dir string, parts contents.Parts) error {
	im, f, _, err := openMeasured(ctx, env, name)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := contents.Extract(ctx, im, dir, parts)
	if refusal, ok := errors.AsType[*reason.Error](err); ok && refusal != nil && parts.Trees && parts.Sections {
		err = cli.WithHint(err, "the sections alone can be written: --only sections")
	}
	if err != nil {
		return inFile(name, err)
	}
	if parts.Trees {
		for _, why := range slices.Sorted(maps.Keys(got.LeftOut)) {
			fmt.Fprintf(env.Stderr, "note: left out, but listed: %d (%s)\n", got.LeftOut[why], why)
		}
		if got.Owned > 0 || got.Stripped > 0 {
			fmt.Fprintf(env.Stderr, "note: only the lists have the owners of %d files that are not root's, and set-id or sticky bits of %d\n", got.Owned, got.Stripped)
		}
		_, err = fmt.Fprintf(env.Stdout, "%s: %d sections, %s entries in %d ramdisks\n", cli.Printable(dir), len(im.Sections), grouped(int64(got.Entries)), len(im.Ramdisks()))
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "%s: %d sections\n", cli.Printable(dir), len(im.Sections))
	return err
}
