// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
)

func newEIFStripCommand(env *cli.Env) *cobra.Command {
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "strip FILE",
		Short: "Take the signature off an image",
		Long: `Take the signature off an image; everything else stays byte for byte. An enclave that
is started from it has no PCR8. The file is replaced whole or not at all.`,
		Example: "  $ cretula eif strip app.eif -o unsigned.eif",
		Args:    exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			im, f, err := openImage(env, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			done, err := rewriteImage(cmd.Context(), im, f, out, nil)
			if err != nil {
				return err
			}
			return done.print(env, nil, asJSON)
		},
	}
	registerOutput(cmd, &out)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}
