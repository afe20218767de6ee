// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/internal/stack"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

// serveFlags are the flags of "nsm serve" as they were given.
type serveFlags struct {
	socket, root, measurements, roleARN, instanceID string
	debug                                           bool
}

func newNSMServe(env *cli.Env) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --socket PATH",
		Short: "Run a software module until interrupted",
		Long: `Run a Nitro Security Module in software and offer it on a Unix socket, mode 0600,
to this user and root. The socket's folder must be closed to others (0700); it is
made if absent.

The module is EMULATED: its documents verify under its own root only, whose
certificate is written beside the file of --root (or beside the socket, when the
root is made for this run only).`,
		Example: `  $ cretula nsm serve --socket run/nsm.sock --root run/root.pem --measurements app.json
  $ cretula nsm attest --socket run/nsm.sock --nonce 00 |
      cretula attestation verify - --root run/root.crt --measurements app.json`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runNSMServe(cmd.Context(), env, &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.socket, "socket", "", "`PATH` of the socket")
	flags.StringVar(&f.root, "root", "", "PEM `FILE` with the root's certificate and key, made (0600) if absent")
	flags.StringVar(&f.measurements, "measurements", "", "registers at boot, from the JSON `FILE` that 'eif describe' prints")
	flags.StringVar(&f.roleARN, "role-arn", "", "`ARN` of the parent instance's IAM role, for PCR3")
	flags.StringVar(&f.instanceID, "instance-id", "", "`ID` of the parent instance, for PCR4 and the module's name (default made up)")
	flags.BoolVar(&f.debug, "debug-mode", false, "be the module of an enclave in debug mode: PCR0, PCR1, PCR2 and PCR8 are zero")
	return cmd
}

func runNSMServe(ctx context.Context, env *cli.Env, f *serveFlags) error {
	if f.socket == "" {
		return cli.WithHint(cli.Usagef("--socket is missing"), "see 'cretula nsm serve --help'")
	}
	instance, registers, err := f.registers(env)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(f.socket)); err != nil {
		return cli.WithHint(fmt.Errorf("folder of the socket: %w", err), "want a folder of mode 0700 that belongs to you")
	}
	authority, certificate, err := f.authority(env)
	if err != nil {
		return err
	}
	module, err := softnsm.New(softnsm.Config{
		Authority:     authority,
		ModuleID:      issuer.NewModuleID(instance, env.Now(), nil),
		PCRs:          registers,
		Debug:         f.debug,
		IndefiniteMap: true,
		Now:           env.Now,
	})
	if err != nil {
		return err
	}
	defer module.Close()
	listener, err := nsm.Listen(f.socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	if f.root == "" {
		// The root ends with this run, and so does its certificate.
		defer os.Remove(certificate)
	}
	if err := durable.WriteFile(certificate, stack.RootPEM(authority)); err != nil {
		return err
	}
	f.announce(env, module, certificate)
	return listener.Serve(ctx, module)
}

func (f *serveFlags) announce(env *cli.Env, module *softnsm.Module, certificate string) {
	registers := module.PCRs()
	if registers.Debug() && !f.debug {
		fmt.Fprintln(env.Stderr, "PCR0, PCR1 or PCR2 is zero, as in debug mode: give --measurements")
	}
	fmt.Fprintf(env.Stderr, "EMULATED Nitro Security Module %s\n", module.ModuleID())
	fmt.Fprintf(env.Stderr, "  socket  %s\n  root    %s\n", f.socket, certificate)
	for i, d := range registers.All() {
		if !d.IsZero() {
			fmt.Fprintf(env.Stderr, "  %-6v  %s\n", i, d.Short())
		}
	}
}

// registers returns the parent instance's id and the registers at boot.
func (f *serveFlags) registers(env *cli.Env) (instance string, set pcr.Set, err error) {
	if f.measurements != "" {
		if set, err = readMeasurements(env, f.measurements); err != nil {
			return "", pcr.Set{}, err
		}
	}
	instance = f.instanceID
	if instance == "" {
		var b [9]byte
		rand.Read(b[:])
		instance = "i-" + hex.EncodeToString(b[:])[:17]
	} else if len(instance) != len("i-1234567890abcdef0") {
		return "", pcr.Set{}, cli.Usagef("--instance-id: %q is no instance id: want i- and 17 hex digits", instance)
	}
	if f.roleARN != "" {
		role, err := pcr.Role(f.roleARN)
		if err != nil {
			return "", pcr.Set{}, cli.Usagef("--role-arn: %v", err)
		}
		set.Put(3, role)
	}
	parent, err := pcr.Instance(instance)
	if err != nil {
		return "", pcr.Set{}, cli.Usagef("--instance-id: %v", err)
	}
	set.Put(4, parent)
	return instance, set, nil
}

// authority loads or makes the root, and says where its certificate goes.
func (f *serveFlags) authority(env *cli.Env) (a *issuer.Authority, certificate string, err error) {
	options := issuer.Options{Now: env.Now}
	if f.root == "" {
		a, err = issuer.New(options)
		return a, f.socket + ".root.crt", err
	}
	a, err = stack.LoadAuthority(f.root, options)
	return a, strings.TrimSuffix(f.root, ".pem") + ".crt", err
}
