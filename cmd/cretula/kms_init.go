// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/internal/kmsconfig"
	"github.com/cretula/cretula/internal/kmsserve"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
)

func newKMSInit(env *cli.Env) *cobra.Command {
	var file, output string
	cmd := &cobra.Command{
		Use:   "init --config FILE --admin FILE",
		Short: "Make the store of a new key service, its root key and its administrator",
		Long: `Makes what the configuration file describes and is not there: the root key, the
store with its account, and the first administrator, whose access key is written to
a new file (0600), fit for the dot command of a shell. A root key that is there is
used; a store that is there is refused.

The root key is all that opens the store: put a copy of its file away, and of what
opens the file, before there is anything in the store.`,
		Example: "  $ cretula kms init --config /etc/cretula/kms.toml --admin admin.env",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || output == "" {
				return cli.WithHint(cli.Usagef("--config and --admin are needed"), "see 'cretula kms init --help'")
			}
			config, err := where{config: file}.load(env)
			if err != nil {
				return err
			}
			return runKMSInit(cmd.Context(), env, config, output)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE`")
	cmd.Flags().StringVar(&output, "admin", "", "write the administrator's access key to a new `FILE` (0600)")
	return cmd
}

func runKMSInit(ctx context.Context, env *cli.Env, config *kmsconfig.Config, output string) error {
	if err := refuseOldStore(ctx, config); err != nil {
		return err
	}
	// Before there is a key that nobody would get to see.
	file, err := durable.OpenPrivate(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already", cli.Printable(output))
	}
	if err != nil {
		return err
	}
	err = initKMS(ctx, env, config, file)
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(output)
	}
	return err
}

// refuseOldStore refuses a configuration whose service was made before. Without a
// root key nothing can be opened, and so nothing was made.
func refuseOldStore(ctx context.Context, config *kmsconfig.Config) error {
	if _, err := rootkeys.Info(config.RootKey); errors.Is(err, rootkeys.ErrNoFile) {
		return nil
	}
	old, err := config.Parts(nil).Open(ctx)
	switch {
	case err == nil:
		parts := config.Parts(nil)
		return errors.Join(fmt.Errorf("there is a store already: %s", cli.Printable(parts.StoreName())), old.Close())
	case errors.Is(err, datadir.ErrNone):
		return nil
	}
	return err
}

// initKMS makes everything and writes the administrator's key to the file.
func initKMS(ctx context.Context, env *cli.Env, config *kmsconfig.Config, file *os.File) error {
	key, err := rootkeys.Create(ctx, config.RootKey)
	switch {
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintf(env.Stderr, "the root key is there: %s\n", cli.Printable(config.RootKey.File))
	case err != nil:
		return err
	default:
		fmt.Fprintf(env.Stderr, "made root key %s: %s\n", key.ID(), cli.Printable(config.RootKey.File))
	}
	roots, err := kmsserve.Roots(config)
	if err != nil {
		return err
	}
	data, err := config.Parts(nil).Create(ctx, config.Meta())
	if err != nil {
		return err
	}
	server, err := data.Server(roots, config.Attestation.AllowDebug)
	if err != nil {
		return errors.Join(err, data.Close())
	}
	defer server.Close()
	admin, err := server.EnsureAdmin(ctx)
	if err == nil {
		_, err = fmt.Fprintf(file, "export AWS_ACCESS_KEY_ID='%s'\nexport AWS_SECRET_ACCESS_KEY='%s'\n", admin.AccessKeyID, admin.SecretAccessKey)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, data.Close()); err != nil {
		return err
	}
	parts := config.Parts(nil)
	fmt.Fprintf(env.Stderr, "made store %s of account %s\n", cli.Printable(parts.StoreName()), config.Account)
	fmt.Fprintf(env.Stderr, "made administrator %s: %s\n", kms.AdminName, cli.Printable(file.Name()))
	return nil
}
