// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/kmsconfig"
	"github.com/cretula/cretula/internal/kmsserve"
	"github.com/cretula/cretula/internal/rootkeys"
)

func newKMSServe(env *cli.Env) *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the key service of a configuration file until interrupted",
		Long: `Runs the key service that FILE describes, on the store that "cretula kms init" has
made. It ends at SIGTERM or SIGINT, once the requests under way are answered. At
SIGHUP, and whenever the files change, it reads its certificate again.

Without [tls] in FILE it serves this machine only. The log goes to standard error;
systemd is told when the service is ready.`,
		Example: `  $ cretula kms serve --config /etc/cretula/kms.toml --check-config
  $ cretula kms serve --config /etc/cretula/kms.toml`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return cli.WithHint(cli.Usagef("--config is missing"), "see 'cretula kms serve --help'")
			}
			config, err := where{config: file}.load(env)
			if err != nil {
				return err
			}
			if check {
				return checkConfig(env, config)
			}
			return runKMSServe(cmd.Context(), env, config)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE`")
	cmd.Flags().BoolVar(&check, "check-config", false, "check FILE and the files that it names, and end")
	return cmd
}

// checkConfig looks at what the configuration names, but for the store.
func checkConfig(env *cli.Env, config *kmsconfig.Config) error {
	if err := kmsserve.Check(config); err != nil {
		return err
	}
	info, err := rootkeys.Info(config.RootKey)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "%s is good; root key %s\n", cli.Printable(config.File), info.Kind)
	return err
}

func runKMSServe(ctx context.Context, env *cli.Env, config *kmsconfig.Config) error {
	relaxCollector()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return kmsserve.Run(ctx, config, kmsserve.Options{Log: env.Stderr, Getenv: env.Getenv, Reload: reload})
}
