// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms"
)

func newAccessKeyCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("key", "Add, list, deactivate and delete the access keys of a user or role",
		newAccessKeyCreate(env), newAccessKeyList(env), newAccessKeyActive(env, true), newAccessKeyActive(env, false), newAccessKeyDelete(env))
}

func newAccessKeyCreate(env *cli.Env) *cobra.Command {
	v := &verb{env: env}
	var output string
	cmd := v.command("create NAME", "Make another access key, to exchange the first for",
		`Makes another access key for a user or role and prints it, fit for the dot command of
a shell. The secret is shown this once. A principal has two access keys at most: give
the new one to whoever uses the old, deactivate the old one, and delete it when nobody
misses it.

`+whoIsNamed,
		`  $ cretula kms principal key create alice --output alice.env
  $ cretula kms principal key list alice
  $ cretula kms principal key deactivate AKIAEXAMPLE
  $ cretula kms principal key delete AKIAEXAMPLE`, func(ctx context.Context, admin kmsAdmin, args []string) error {
			return createAccessKey(ctx, v, admin, args[0], output)
		})
	cmd.Flags().StringVar(&output, "output", "", "write the access key to a new `FILE` (0600) instead of stdout")
	return cmd
}

func createAccessKey(ctx context.Context, v *verb, admin kmsAdmin, name, output string) error {
	var file *os.File
	if output != "" {
		// Before there is a key that nobody would get to see.
		var err error
		file, err = durable.OpenPrivate(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already", output)
		}
		if err != nil {
			return err
		}
		defer file.Close()
	}
	credentials, err := admin.CreateAccessKey(ctx, name, v.account)
	if err != nil {
		if file != nil {
			os.Remove(output)
		}
		return err
	}
	added := addedPrincipal{Schema: "cretula.kms.access-key.v1", AccessKeyID: credentials.AccessKeyID, SecretAccessKey: credentials.SecretAccessKey}
	if info, err := admin.FindPrincipal(ctx, credentials.AccessKeyID, ""); err == nil {
		added.Type, added.Name, added.Account, added.ARN, added.ID = info.Type, info.Name, info.Account, info.ARN, info.ID
	}
	if err := writeAdded(v.env, &principalFlags{json: v.json}, file, &added); err != nil {
		return cli.WithHint(fmt.Errorf("the access key was made, and could not be written: %w", err),
			"'cretula kms principal key delete %s' deletes it", credentials.AccessKeyID)
	}
	fmt.Fprintf(v.env.Stderr, "made %s for %s; its secret is not shown again\n", credentials.AccessKeyID, cli.Printable(cmp.Or(added.ARN, name)))
	return nil
}

func newAccessKeyList(env *cli.Env) *cobra.Command {
	v := &verb{env: env}
	return v.command("list NAME", "List the access keys of a user or role", "Lists access keys with the day of their last use.\n\n"+whoIsNamed,
		"  $ cretula kms principal key list alice", func(ctx context.Context, admin kmsAdmin, args []string) error {
			info, err := admin.FindPrincipal(ctx, args[0], v.account)
			if err != nil {
				return err
			}
			if v.json {
				return env.PrintJSON(struct {
					Schema     string              `json:"schema"`
					AccessKeys []kms.AccessKeyInfo `json:"access_keys"`
				}{"cretula.kms.access-keys.v1", info.AccessKeys})
			}
			w := tabwriter.NewWriter(env.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "ACCESS KEY\tSTATE\tCREATED\tLAST USED")
			for _, k := range info.AccessKeys {
				state := "active"
				if !k.Active {
					state = "inactive"
				}
				if k.Tampered != "" {
					state = "REFUSED: " + k.Tampered
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", cli.Printable(k.ID), cli.Printable(state), k.Created.UTC().Format(time.RFC3339), cmp.Or(k.LastUsed, "-"))
			}
			return w.Flush()
		})
}

func newAccessKeyActive(env *cli.Env, active bool) *cobra.Command {
	v := &verb{env: env}
	use, short, done := "activate ID", "Let an access key be used again", "activated an access key of"
	if !active {
		use, short, done = "deactivate ID", "Refuse an access key from now on", "deactivated an access key of"
	}
	return v.command(use, short, short+". Sessions that were made with it go on until they\nare revoked: see 'cretula kms principal revoke-sessions'.",
		"  $ cretula kms principal key "+use[:len(use)-2]+"AKIAEXAMPLE", func(ctx context.Context, admin kmsAdmin, args []string) error {
			info, err := admin.SetAccessKeyActive(ctx, args[0], active)
			if err != nil {
				return err
			}
			return v.said(&info, done)
		})
}

func newAccessKeyDelete(env *cli.Env) *cobra.Command {
	v := &verb{env: env}
	return v.command("delete ID", "Delete an access key; it is refused at once",
		"Deletes an access key. Sessions that were made with it go on until they are revoked:\nsee 'cretula kms principal revoke-sessions'.",
		"  $ cretula kms principal key delete AKIAEXAMPLE", func(ctx context.Context, admin kmsAdmin, args []string) error {
			info, err := admin.DeleteAccessKey(ctx, args[0])
			if err != nil {
				return err
			}
			return v.said(&info, "deleted an access key of")
		})
}

func newTokenKeyCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("token-key", "List and rotate the keys that seal session tokens", newTokenKeyList(env), newTokenKeyRotate(env))
}

func newTokenKeyList(env *cli.Env) *cobra.Command {
	var at where
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the token keys", Example: "  $ cretula kms token-key list", Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdmin(cmd.Context(), env, at, func(admin kmsAdmin) error {
				keys, err := admin.ListTokenKeys(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return env.PrintJSON(struct {
						Schema    string             `json:"schema"`
						TokenKeys []kms.TokenKeyInfo `json:"token_keys"`
					}{"cretula.kms.token-keys.v1", keys})
				}
				w := tabwriter.NewWriter(env.Stdout, 0, 0, 3, ' ', 0)
				fmt.Fprintln(w, "TOKEN KEY\tCREATED")
				for _, k := range keys {
					fmt.Fprintf(w, "%s\t%s\n", k.ID, k.Created.UTC().Format(time.RFC3339))
				}
				return w.Flush()
			})
		},
	}
	whereFlags(cmd, &at)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func newTokenKeyRotate(env *cli.Env) *cobra.Command {
	var at where
	var retire bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new token key",
		Long: `Makes a new key for the tokens of sessions. The service does so by itself every 24
hours, and keeps the old ones until their sessions have ended. With --retire all old
ones are deleted now, which ends every session that there is.`,
		Example: "  $ cretula kms token-key rotate --retire",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdmin(cmd.Context(), env, at, func(admin kmsAdmin) error {
				if err := admin.RotateTokenKey(cmd.Context(), retire); err != nil {
					return err
				}
				done := "made a new token key"
				if retire {
					done += " and deleted the others: every session has ended"
				}
				fmt.Fprintln(env.Stderr, done)
				return nil
			})
		},
	}
	whereFlags(cmd, &at)
	cmd.Flags().BoolVar(&retire, "retire", false, "delete all other token keys")
	return cmd
}
