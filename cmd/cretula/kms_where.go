// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/kmsconfig"
)

const dataDirVariable = "CRETULA_DATA_DIR"

// A where says which key service a command is about: that of a configuration
// file, or the one that "cretula up" runs on a folder.
type where struct{ dir, config string }

// whereFlags adds --config and --data-dir.
func whereFlags(cmd *cobra.Command, w *where) {
	cmd.Flags().StringVar(&w.config, "config", "", "configuration `FILE` of the key service")
	cmd.Flags().StringVar(&w.dir, "data-dir", "", "data `DIR` of a key service of \"cretula up\" (default $"+dataDirVariable+")")
}

// load reads the configuration, or makes that of the folder.
func (w where) load(env *cli.Env) (*kmsconfig.Config, error) {
	if w.config != "" && w.dir != "" {
		return nil, cli.Usagef("--config and --data-dir are both there")
	}
	if w.config != "" {
		c, err := kmsconfig.Load(w.config)
		if _, wrong := errors.AsType[*kmsconfig.Error](err); wrong {
			return nil, cli.WithHint(err, "docs/kms-configuration.md has every member")
		}
		return c, err
	}
	dir := cmp.Or(w.dir, env.Getenv(dataDirVariable))
	if dir == "" {
		return nil, cli.WithHint(cli.Usagef("no key service is named"), "give --config or --data-dir, or set %s", dataDirVariable)
	}
	return kmsconfig.Folder(dir)
}

// folder is the data folder, with the admin socket in it.
func (w where) folder(env *cli.Env) (string, error) {
	if w.config == "" {
		// As it was given: what is printed of it is to be recognised.
		if dir := cmp.Or(w.dir, env.Getenv(dataDirVariable)); dir != "" {
			return dir, nil
		}
	}
	c, err := w.load(env)
	if err != nil {
		return "", err
	}
	return string(c.DataDir), nil
}
