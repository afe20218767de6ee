// SPDX-License-Identifier: Apache-2.0

// Command cretula is the open workbench for AWS Nitro attestation: it builds
// and measures enclave images, makes and verifies attestation documents, runs a
// key service that releases keys to attested code only, and says why it did not.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
)

func main() { os.Exit(run(arguments(os.Args), cli.System())) }

// run is the whole program: it returns the exit status.
func run(args []string, env *cli.Env) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once, whatever the first one waits for.
	context.AfterFunc(ctx, stop)
	interruptible := *env
	interruptible.Interrupted = ctx.Done()
	env = &interruptible
	root := newRootCommand(env)
	root.SetArgs(args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 130
	}
	return env.Report(err)
}

func newRootCommand(env *cli.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "cretula",
		Short: "The open workbench for AWS Nitro attestation",
		Long: `cretula builds and measures enclave images, makes and verifies attestation
documents, runs a key service that releases keys to attested code only, and says
exactly why a key was not released.`,
		SilenceUsage:  true,
		SilenceErrors: true,

		SuggestionsMinimumDistance: 2,

		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return cli.WithHint(cli.Usagef("%v", err), "see '%s --help'", cmd.CommandPath())
	})
	root.AddCommand(newDemoCommand(env))
	root.AddCommand(newUpCommand(env))
	root.AddCommand(newPCRCommand(env))
	root.AddCommand(newInsideCommand())
	root.AddCommand(newKMSCommand(env))
	root.AddCommand(newAttestationCommand(env))
	root.AddCommand(newEIFCommand(env))
	root.AddCommand(newNitroCLICommand(env))
	root.AddCommand(newPolicyCommand(env))
	root.AddCommand(newNSMCommand(env))
	root.AddCommand(newBenchCommand(env))
	strictHelp(root)
	return root
}

// strictHelp has "help" refuse what is no command; cobra's prints the usage of the
// program and succeeds.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Run = nil
		help.RunE = func(_ *cobra.Command, args []string) error {
			named, rest, err := root.Find(args)
			if err != nil {
				return cli.WithHint(cli.Usagef("%v", err), "see '%s --help'", root.CommandPath())
			}
			if err := noArguments(named, rest); err != nil {
				return err
			}
			named.InitDefaultHelpFlag()
			return named.Help()
		}
	}
}

// newNounCommand makes the command that groups the verbs of one noun.
func newNounCommand(use, short string, verbs ...*cobra.Command) *cobra.Command {
	noun := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	noun.AddCommand(verbs...)
	return noun
}

// noArguments refuses arguments, which on a command with subcommands are
// misspelt ones.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := cli.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return cli.WithHint(err, "did you mean %s?", strings.Join(similar, " or "))
	}
	return cli.WithHint(err, "see '%s --help'", cmd.CommandPath())
}

// exactArguments wants the named arguments, no fewer and no more.
func exactArguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return cli.WithHint(cli.Usagef("%s is missing", names[len(args)]), "see '%s --help'", cmd.CommandPath())
		case len(args) > len(names):
			return cli.WithHint(cli.Usagef("too many arguments: %q", args[len(names)]), "see '%s --help'", cmd.CommandPath())
		}
		return nil
	}
}
