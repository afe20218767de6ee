// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/nitrocli"
)

// arguments returns those of the command line argv. A program that is called
// nitro-cli is the command of that name.
func arguments(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	if nitrocli.Called(argv[0]) {
		return append([]string{nitrocli.Name}, argv[1:]...)
	}
	return argv[1:]
}

func newNitroCLICommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nitro-cli COMMAND",
		Short: "Be AWS's nitro-cli: its commands, outputs, error codes and exit statuses",
		Long: `Take the commands and flags of AWS's nitro-cli, and answer as it does: JSON on
standard output, progress and errors on standard error, and the number of the error
code as exit status. A copy of this program that is called nitro-cli, or a link with
that name, does the same without the word.

build-enclave needs no Docker: --docker-uri is an image of a registry, or a path of
an archive, an OCI layout or a folder. Commands that start or find enclaves need a
Nitro host and are refused. docs/nitro-cli.md says what else differs.`,
		Example: `  $ ln -s "$(command -v cretula)" ~/bin/nitro-cli
  $ nitro-cli build-enclave --docker-uri app:1.4 --output-file app.eif
  $ nitro-cli describe-eif --eif-path app.eif`,
		// The arguments are taken as nitro-cli takes them, and refused as it refuses.
		DisableFlagParsing: true,
		Args:               cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runNitroCLI(cmd.Context(), env, args)
		},
	}
	for i := range nitrocli.Commands {
		command := &nitrocli.Commands[i]
		verb := &cobra.Command{
			Use:                   command.Usage(),
			Short:                 command.About,
			DisableFlagParsing:    true,
			DisableFlagsInUseLine: true,
			Args:                  cobra.ArbitraryArgs,
			RunE: func(cmd *cobra.Command, args []string) error {
				return runNitroCLI(cmd.Context(), env, append([]string{command.Name}, args...))
			},
		}
		verb.SetHelpFunc(func(*cobra.Command, []string) { fmt.Fprint(env.Stdout, command.Help()) })
		cmd.AddCommand(verb)
	}
	return cmd
}

// nitroCommands are the commands of nitro-cli. Their errors are those of package
// nitrocli; one that is none gets a code from the command.
var nitroCommands = map[string]func(context.Context, *cli.Env, *nitrocli.Call) error{
	"build-enclave":     nitroBuildEnclave,
	"describe-eif":      nitroDescribeEIF,
	"sign-eif":          nitroSignEIF,
	"pcr":               nitroPCR,
	"explain":           nitroExplain,
	"run-enclave":       nitroRunEnclave,
	"terminate-enclave": nitroTerminateEnclave,
	"describe-enclaves": nitroDescribeEnclaves,
	"console":           nitroConsole,
}

func runNitroCLI(ctx context.Context, env *cli.Env, args []string) error {
	call, err := nitrocli.Parse(args)
	if text, ok := errors.AsType[nitrocli.Text](err); ok {
		_, err := fmt.Fprint(env.Stdout, string(text))
		return err
	}
	if err == nil {
		err = nitroCommands[call.Command.Name](ctx, env, call)
	}
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return err
	}
	nitrocli.Print(env.Stderr, err)
	return &cli.ExitError{Code: nitrocli.Status(err)}
}

// nitroFail gives an error of another package a code. The hint goes along.
func nitroFail(code nitrocli.Code, err error) error {
	failure := nitrocli.Failf(code, "%w", err)
	failure.Hint = cli.Hint(err)
	return failure
}

// nitroPrint prints what a command found out, as nitro-cli does.
func nitroPrint(env *cli.Env, v any) error {
	err := env.PrintJSON(v)
	if _, ok := errors.AsType[*json.MarshalerError](err); ok {
		return nitroFail(nitrocli.Serialisation, err)
	}
	if err != nil {
		return nitroFail(nitrocli.FileOperation, err)
	}
	return nil
}
