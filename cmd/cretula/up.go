// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/stack"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/pcr"
)

func newUpCommand(env *cli.Env) *cobra.Command {
	var config stack.Config
	cmd := &cobra.Command{
		Use:   "up --data-dir DIR",
		Short: "Run key service, software NSM and credentials until interrupted",
		Long: `Run the whole chain on this machine and keep it up: a key service that AWS SDKs
talk to, a software Nitro Security Module that attests an enclave image, and the
credentials of an administrator. Everything is EMULATED: the root of trust is one
made for DIR.

When it is ready DIR/env appears, to be read by a shell with the dot command; it is
removed at the end. Started again on the same DIR it has the same keys.`,
		Example: `  $ cretula up --data-dir run &
  $ . run/env
  $ aws kms create-key --endpoint-url "$AWS_ENDPOINT_URL_KMS"
  $ cretula nsm describe`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUp(config); err != nil {
				return err
			}
			return runUp(cmd.Context(), env, config)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Dir, "data-dir", "", "`DIR` with everything that is kept; made (0700) if absent")
	flags.StringVar(&config.Listen, "listen", "127.0.0.1:8420", "loopback `ADDRESS` of the key service; port 0 takes a free one")
	flags.StringVar(&config.Image, "eif", "", "enclave image `FILE` that the NSM attests (default: the image of the demo)")
	flags.StringVar(&config.RoleARN, "role-arn", "", "`ARN` of the parent instance's IAM role, for PCR3")
	flags.StringVar(&config.InstanceID, "instance-id", "", "`ID` of the parent instance, for PCR4 (default "+stack.DefaultInstanceID+")")
	flags.BoolVar(&config.Debug, "debug-mode", false, "attest as an enclave in debug mode: PCR0, PCR1 and PCR2 are zero")
	return cmd
}

// checkUp refuses wrong flags before anything is made.
func checkUp(config stack.Config) error {
	if config.Dir == "" {
		return cli.WithHint(cli.Usagef("--data-dir is missing"), "see 'cretula up --help'")
	}
	if _, _, err := net.SplitHostPort(config.Listen); err != nil {
		return cli.Usagef("--listen: %q is not HOST:PORT", config.Listen)
	}
	if config.InstanceID != "" {
		if _, err := pcr.Instance(config.InstanceID); err != nil {
			return cli.Usagef("--instance-id: %v", err)
		}
	}
	if config.RoleARN != "" {
		if _, err := pcr.Role(config.RoleARN); err != nil {
			return cli.Usagef("--role-arn: %v", err)
		}
	}
	return nil
}

func runUp(ctx context.Context, env *cli.Env, config stack.Config) error {
	relaxCollector()
	config.Logger = slog.New(slog.NewTextHandler(env.Stderr, nil))
	config.Now = env.Now
	if config.Image == "" {
		program, err := ownProgram()
		if err != nil {
			return err
		}
		config.Program, config.Args = program, demoArguments
	}
	s, err := stack.Start(ctx, config)
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted before it was ready
		}
		return explainStart(err, config)
	}
	announceUp(env, s, config)
	err = s.Wait(ctx)
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	return err
}

// explainStart adds to an error what to do about it, where that is known.
func explainStart(err error, config stack.Config) error {
	switch {
	case errors.Is(err, keystore.ErrInUse):
		return cli.WithHint(err, "a key service runs on %s; stop it first, or name another folder", config.Dir)
	case errors.Is(err, syscall.EADDRINUSE):
		return cli.WithHint(err, "--listen 127.0.0.1:0 takes a free port")
	}
	return err
}

func announceUp(env *cli.Env, s *stack.Stack, config stack.Config) {
	fmt.Fprintf(env.Stdout, "EMULATED: the root of trust is %s/%s, made for this folder\n", config.Dir, stack.RootFile)
	fmt.Fprintf(env.Stdout, "kms   %s   account %s, every region\n", s.Endpoint, stack.Account)
	fmt.Fprintf(env.Stdout, "nsm   %s/%s   %s\n", config.Dir, stack.NSMSocket, s.ModuleID)
	fmt.Fprintf(env.Stdout, "      attests %s", s.ImagePath)
	for i, d := range s.Measurements.All() {
		fmt.Fprintf(env.Stdout, "   %v %s", i, d.Short())
	}
	if config.Debug {
		fmt.Fprint(env.Stdout, "   as in debug mode: PCR0, PCR1, PCR2 zero")
	}
	fmt.Fprintf(env.Stdout, "\nready. In another shell:  . %s/%s\n", config.Dir, stack.EnvFile)
}

// ownProgram is the running executable, the program of the demo's image.
func ownProgram() (eifbuild.Content, error) {
	path, err := os.Executable()
	if err != nil {
		return eifbuild.Content{}, err
	}
	return eifbuild.FileContent(path)
}
