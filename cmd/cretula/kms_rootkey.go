// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms/rootkey"
)

func newRootKeyCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("root-key", "Make a root key, look at it, and have another holder seal it",
		newRootKeyCreate(env), newRootKeyInfo(env), newRootKeyRewrap(env))
}

// rootKeyWhere finds the root key of a command: that of --root-key, or that of the
// service.
type rootKeyWhere struct {
	where
	spec string
}

func rootKeyFlags(cmd *cobra.Command, w *rootKeyWhere) {
	whereFlags(cmd, &w.where)
	cmd.Flags().StringVar(&w.spec, "root-key", "", "root key `SPEC` (default that of the configuration)")
}

func (w *rootKeyWhere) load(env *cli.Env) (rootkeys.Spec, error) {
	if w.spec != "" {
		return rootkeys.Parse(w.spec)
	}
	parts, err := w.parts(env)
	if err != nil || parts.RootKey.Kind != "" {
		return parts.RootKey, err
	}
	dir, err := filepath.Abs(parts.Dir)
	return rootkeys.Spec{Kind: rootkeys.KindFile, File: filepath.Join(dir, datadir.RootKeyFile)}, err
}

const specHelp = `

A SPEC has the members of [root_key] of a configuration, with commas between them:
  kind=file,file=/etc/cretula/root/root.key
  kind=passphrase,file=/etc/cretula/root/root.key,passphrase_file=/run/keys/cretula
  kind=systemd,file=/etc/cretula/root/root.key,credential=cretula
  kind=tpm,file=/etc/cretula/root/root.key,pcrs=0+7
  kind=pkcs11,file=/etc/cretula/root/root.key,module=/usr/lib/softhsm/libsofthsm2.so,token=cretula,label=root,pin_file=/etc/cretula/pin
  kind=awskms,file=/etc/cretula/root/root.key,key_arn=arn:aws:kms:...`

// rootKeyInfo is what the commands print.
type rootKeyInfo struct {
	Schema    string `json:"schema"`
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	File      string `json:"file"`
	EpochFile string `json:"epoch_file"`
	// Opened says that the holder has opened it.
	Opened bool `json:"opened"`
}

func printRootKey(env *cli.Env, spec rootkeys.Spec, info rootkey.Info, opened, asJSON bool) error {
	if asJSON {
		return env.PrintJSON(rootKeyInfo{"cretula.kms.root-key.v1", info.ID, info.Kind, spec.File, spec.EpochPath(), opened})
	}
	state := ""
	if opened {
		state = ", opened"
	}
	_, err := fmt.Fprintf(env.Stdout, "root key %s, sealed: %s, in %s%s\n", info.ID, info.Kind, cli.Printable(spec.File), state)
	return err
}

func newRootKeyCreate(env *cli.Env) *cobra.Command {
	var w rootKeyWhere
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a new root key in a new file",
		Long: `Makes a new random root key and keeps it in the file that the SPEC names (0600),
sealed by its holder. In an HSM it makes the key too that seals it, unless the token
has one of that label. A file that is there is never replaced.

Who loses the root key loses everything in the store: keep a copy of the file, and
of what opens it, apart from the backups of the store.` + specHelp,
		Example: `  $ cretula kms root-key create --config /etc/cretula/kms.toml
  $ cretula kms root-key create --root-key kind=tpm,file=/etc/cretula/root/root.key`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := w.load(env)
			if err != nil {
				return err
			}
			if _, err := rootkeys.Create(cmd.Context(), spec); err != nil {
				return err
			}
			info, err := rootkeys.Info(spec)
			if err != nil {
				return err
			}
			return printRootKey(env, spec, info, true, asJSON)
		},
	}
	rootKeyFlags(cmd, &w)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func newRootKeyInfo(env *cli.Env) *cobra.Command {
	var w rootKeyWhere
	var open, asJSON bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Say which root key a file has, and what sort of holder seals it",
		Long: `Prints the id of the root key and the sort of its holder. With --open the holder
must open it too.` + specHelp,
		Example: `  $ cretula kms root-key info --config /etc/cretula/kms.toml --open
  $ cretula kms root-key info --root-key kind=file,file=/etc/cretula/root/root.key --json`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := w.load(env)
			if err != nil {
				return err
			}
			if open {
				if _, err := rootkeys.Open(cmd.Context(), spec); err != nil {
					return err
				}
			}
			info, err := rootkeys.Info(spec)
			if err != nil {
				return err
			}
			return printRootKey(env, spec, info, open, asJSON)
		},
	}
	rootKeyFlags(cmd, &w)
	cmd.Flags().BoolVar(&open, "open", false, "have the holder open it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func newRootKeyRewrap(env *cli.Env) *cobra.Command {
	var w rootKeyWhere
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rewrap --to SPEC",
		Short: "Have another holder seal the root key, also while the service runs",
		Long: `Opens the root key and has the holder of --to seal it, in the same file. The root
key itself stays: no row of the store changes, and a service that runs goes on. Set
the new kind in the configuration before the service is started again.

The old file is replaced only after the new holder has opened what it sealed. Copies
of the old file, such as those in backups of the machine, can still be opened by the
old holder. --to may leave out file.` + specHelp,
		Example: `  $ cretula kms root-key rewrap --to kind=tpm,pcrs=7 --config /etc/cretula/kms.toml
  $ cretula kms root-key rewrap --to kind=passphrase,passphrase_file=/run/keys/cretula --data-dir run`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return cli.WithHint(cli.Usagef("--to is missing"), "see '%s --help'", cmd.CommandPath())
			}
			from, err := w.load(env)
			if err != nil {
				return err
			}
			next, err := rootkeys.Parse(to)
			if err != nil {
				return err
			}
			if err := rootkeys.Rewrap(cmd.Context(), from, next); err != nil {
				return err
			}
			info, err := rootkeys.Info(from)
			if err != nil {
				return err
			}
			return printRootKey(env, from, info, true, asJSON)
		},
	}
	rootKeyFlags(cmd, &w)
	cmd.Flags().StringVar(&to, "to", "", "`SPEC` of the holder that is to seal it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}
