// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/pcr"
)

func newEIFRepairCommand(env *cli.Env) *cobra.Command {
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "repair FILE",
		Short: "Put the table of an image right that was signed twice by nitro-cli",
		Long: `Put right what 'nitro-cli sign-eif' leaves when it replaces a signature by one of
another length: the old size of the signature section in the header's table.

Nothing else is repaired. All other sizes and offsets and the checksum must be right,
so that PCR0, PCR1 and PCR2 are the same by the table, which the platform goes by, and
by the section headers, which nitro-cli goes by. Whether the signature is good is for
'cretula eif verify' to say. An image without this fault is left alone, and -o writes
nothing.`,
		Example: "  $ cretula eif repair app.eif",
		Args:    exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := openRegular(env, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			target, err := outputName(args[0], out)
			if err != nil {
				return err
			}
			var done *eif.Repaired
			err = durable.Replace(target, 0o644, func(w *os.File) (err error) {
				err = f.throughout(func() error {
					done, err = eif.Repair(cmd.Context(), w, f, f.size)
					return err
				})
				switch {
				case err != nil:
					return err
				case done == nil:
					return errSound
				}
				return f.Close()
			})
			if err != nil && !errors.Is(err, errSound) {
				return err
			}
			if done == nil {
				target = args[0] // nothing was written
			}
			return printRepaired(env, target, done, asJSON)
		},
	}
	registerOutput(cmd, &out)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

var errSound = errors.New("nothing to repair")

// printRepaired says what was done; nothing, if done is nil.
func printRepaired(env *cli.Env, name string, done *eif.Repaired, asJSON bool) error {
	type repair struct {
		Offset    int64  `json:"offset"`
		Section   int    `json:"section"`
		TableSize uint64 `json:"table_size"`
		Size      int64  `json:"size"`
	}
	if asJSON {
		view := struct {
			Schema       string            `json:"schema"`
			File         string            `json:"file"`
			Repaired     []repair          `json:"repaired"`
			Measurements *pcr.Measurements `json:"Measurements,omitempty"`
		}{Schema: "cretula.eif.repair.v1", File: name, Repaired: []repair{}}
		if done != nil {
			view.Repaired = append(view.Repaired, repair{done.Offset, done.Section, done.TableSize, done.Size})
			view.Measurements = &done.Measurements
		}
		return env.PrintJSON(view)
	}
	var b bytes.Buffer
	if done == nil {
		fmt.Fprintf(&b, "nothing to repair\n")
	} else {
		fmt.Fprintf(&b, "repaired  %s\n          offset %d: the table said that the signature (section %d) has %d bytes; it has %d\n",
			cli.Printable(name), done.Offset, done.Section, done.TableSize, done.Size)
		addRegisters(&b, done.Measurements)
	}
	_, err := env.Stdout.Write(b.Bytes())
	return err
}
