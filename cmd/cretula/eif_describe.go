// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
)

func newEIFDescribeCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe FILE",
		Short: "Print an image's measurements and metadata, as nitro-cli describe-eif does",
		Long: `Print what nitro-cli describe-eif prints, after a strict check of the whole file.

A file that is malformed or whose checksum is wrong has no measurements: nothing
is printed, and the exit status says why. The signature of a signed image is
verified, too: against the certificate in the file, the PCR0 of the file, and
today's date. If only that fails, the measurements are printed, and the exit
status says that the image must not be used.`,
		Example: "  $ cretula eif describe app.eif",
		Args:    exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return describeEIF(cmd.Context(), env, args[0])
		},
	}
	// The output is JSON in any case; the flag is there because every command
	// that prints data has it.
	cmd.Flags().Bool("json", true, "print JSON, which this command always does")
	return cmd
}

func describeEIF(ctx context.Context, env *cli.Env, name string) error {
	im, f, err := openImage(env, name)
	if err != nil {
		return err
	}
	defer f.Close()
	measurements, err := f.measure(ctx, im)
	if err != nil {
		return err
	}
	if err := env.PrintJSON(im.Describe(measurements)); err != nil {
		return err
	}
	return verifyImage(env, name, im, measurements)
}
